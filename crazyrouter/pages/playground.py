"""What the playground needs to know of the models before anybody has entered a key."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings
from django.utils.safestring import SafeString, mark_safe

from crazyrouter.pages.facts import ModelFacts, Shop, spell_size

SCRIPTS = ("account", "api", "dom", "facts", "form", "memory", "money", "run", "sizes", "snippets")
#: The first is what the API answers with where nothing is asked for.
RESPONSE_FORMATS = {"url": "Link", "b64_json": "Base64"}
#: JSON writes these so as well; double quotes as they are make the page a good deal lighter.
QUOTED = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&'"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One model to choose.

    `data` is JSON for the script, quoted for an attribute in single quotes: what `GET /v1/models` says, limits of
    texts, usual time.
    """

    facts: ModelFacts
    data: SafeString
    is_chosen: bool


def build_playground(shop: Shop, chosen: str) -> dict[str, Any]:
    """`chosen` is a model's public id; any other text chooses the first."""
    models = [facts for facts in shop.models if facts.price]
    named = next((facts for facts in models if facts.model.name == chosen), None)
    first = named or next(iter(models), None)
    return {
        "choices": [Choice(facts, describe_choice(facts), facts is first) for facts in models],
        "chosen": first,
        "formats": RESPONSE_FORMATS.items(),
        "scripts": [f"crazyrouter/playground/{name}.js" for name in SCRIPTS],
        "base_url": settings.PUBLIC_BASE_URL,
    }


def describe_choice(facts: ModelFacts) -> SafeString:
    """Amounts as text: what a script takes for a number is a float."""
    model, price = facts.model, facts.model.price
    data = json.dumps(
        {
            "id": model.name,
            "micros": str(price.amount_micros) if price else None,
            "verification": model.verification,
            "capability": model.capability,
            "sizes": [*map(spell_size, model.sizes)],
            "default_size": facts.default_size,
            "size_range": asdict(model.size_range) if model.size_range else None,
            "max_n": model.max_n,
            "prompt_limit": model.prompt_limit,
            "negative_prompt_limit": model.negative_prompt_limit,
            "typical": facts.figures.typical,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )
    return mark_safe(data.translate(QUOTED))  # noqa: S308 - what means something in the attribute is quoted
