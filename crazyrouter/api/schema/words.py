"""What is told in prose: the introduction, and what no field or view says itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crazyrouter.api.preferences import LONGEST_KEY
from crazyrouter.generation.journal.answers import JOIN_WINDOW_S
from crazyrouter.generation.journal.keys import KEY_LIFE_S

#: Stands for the address of the service until the document is served; see `views`.
PLACEHOLDER_URL = "https://crazyrouter.example"

INTRODUCTION = f"""\
Images by API, the way OpenAI's Images API makes them: an OpenAI SDK works with its `base_url` set to \
`{PLACEHOLDER_URL}/v1` and a key of ours.

**Keys.** Send `Authorization: Bearer YOUR_API_KEY` with everything under `/v1`. Prices, files, health and this \
document need no key.

**Money.** You pay per delivered image, and for nothing else. Amounts are decimals written as text, in CNY.

**Models.** Names, sizes, limits and prices change without a new version of this document. `GET /v1/models` is the \
truth, and `GET /api/pricing` the public price list; how long a prompt may be stands on the model's page.

**Errors.** Every error has the envelope of the schema `Error`; decide by `code`. A path that does not exist answers \
404 `unknown_url`; a method that a path does not have answers 405 `method_not_allowed`, and `Allow` names the others. \
New codes, and new fields of answers, may be added: ignore what you do not know.

**Requests.** Unknown fields of a body are refused by name, so that a misspelt one is not ignored, and so are unknown \
parameters of lists, usage and generations that are read back. `null` counts as absent. A query parameter is sent at \
most once. Numbers are JSON integers: `1.0` is none. Bodies are limited to 64 KiB unless the operator says otherwise.

**Answers** under `/v1` carry `x-request-id` and are not cached.
"""

TAGS = [
    {"name": "Images", "description": "Order images, and read back what was ordered."},
    {"name": "Models", "description": "What is on offer, and what it costs."},
    {"name": "Account", "description": "The money of the account that the key belongs to."},
    {"name": "Files", "description": "Delivered images, until they expire."},
    {"name": "Service", "description": "Health, and this document."},
]

CREATE_IMAGE = f"""\
Orders `n` images and waits for them. At least one image delivered is a success, and you pay for those delivered; \
with none you pay nothing.

**Idempotency.** With an `Idempotency-Key` the same request can be sent again without ordering twice, for \
{KEY_LIFE_S // 3600} hours: the answer is the first one's, with `Idempotent-Replayed: true`. Another body with the \
same key is refused. An automatic retry of OpenAI's SDKs without a key joins its first try within \
{JOIN_WINDOW_S // 60} minutes.

**Later.** With `Prefer: respond-async` the answer is 202 and the generation object as soon as the order is safely \
written; read it back at `Location`. An order that takes longer than the deadline answers 504 `generation_timeout` and \
goes on: collect it under its `generation_id`.
"""

ORDER_BODY = (
    "What to draw, and how. `GET /v1/models` tells which sizes and what `n` a model allows; its page tells how long "
    "texts may be."
)
NEUTRAL = "Of OpenAI's API. Accepted with values that ask for nothing special, so that nobody is silently given less."

IDEMPOTENCY_KEY = (
    f"A name of your own for this order, at most {LONGEST_KEY} printable ASCII characters, best a random UUID. "
    "Send the same one when you repeat the request."
)

SECURITY: Mapping[str, Any] = {
    "bearerAuth": {"type": "http", "scheme": "bearer", "description": "An API key: `sk-cr-…`."},
}
