"""Headers: what they mean, and which operation sends which with which status."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

Schema = dict[str, Any]

#: What cannot be said of a whole operation: statuses whose errors may follow a look at the key's limits, and those
#: that end a generation, which an Idempotency-Key or an SDK's own retry gives again.
WINDOWED = (200, 202, 400, 401, 403, 429, 502, 503, 504)
REPLAYED = (200, 202, 400, 429, 502, 503, 504)
WINDOW = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
REQUEST_ID = "x-request-id"
CORS = "Access-Control-Allow-Origin"

HEADERS: Mapping[str, Schema] = {
    REQUEST_ID: {
        "description": "Names this answer when you ask for help. Of an order it is the generation's id.",
        "required": True,
        "schema": {"type": "string", "pattern": "^(req|gen)_[0-9a-z]{26}$"},
    },
    "Retry-After": {
        "description": "Seconds until it is worth asking again.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "x-should-retry": {
        "description": "`false` where the same request would end the same way, or could buy again: OpenAI's SDKs "
        "then do not repeat it by themselves.",
        "schema": {"type": "string", "enum": ["false"]},
    },
    WINDOW[0]: {
        "description": "Requests a minute that the account or the key may make, whichever has less left. "
        "Absent where neither has such a limit.",
        "schema": {"type": "integer", "minimum": 0},
    },
    WINDOW[1]: {"description": "How many of them are left.", "schema": {"type": "integer", "minimum": 0}},
    WINDOW[2]: {"description": "When they begin anew.", "schema": {"type": "string", "pattern": "^[0-9]+s$"}},
    "Idempotent-Replayed": {
        "description": "`true` where the answer belongs to an earlier request with the same Idempotency-Key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Location": {
        "description": "Where the generation can be read back. Only with `Prefer: respond-async`.",
        "schema": {"type": "string", "pattern": "^/v1/images/generations/gen_[0-9a-z]{26}$"},
    },
    "Preference-Applied": {
        "description": "The preference that was honoured.",
        "schema": {"type": "string", "enum": ["respond-async"]},
    },
    "Allow": {"description": "The methods of this path.", "schema": {"type": "string"}},
    CORS: {
        "description": "A page of any site may read it.",
        "schema": {"type": "string", "enum": ["*"]},
    },
    "ETag": {"description": "Changes when the content does.", "schema": {"type": "string"}},
    "Cache-Control": {"description": "How long a copy may be kept.", "schema": {"type": "string"}},
    "Content-Disposition": {"description": "The name of the file.", "schema": {"type": "string"}},
    "Accept-Ranges": {"description": "Parts can be asked for.", "schema": {"type": "string", "enum": ["bytes"]}},
    "Content-Range": {"description": "Which bytes these are, and of how many.", "schema": {"type": "string"}},
}

FILE = ("ETag", "Cache-Control", "Accept-Ranges")
#: By operation and status; 0 stands for all of an operation's answers.
SENT: Mapping[tuple[str, int], Collection[str]] = {
    **{("createImage", status): WINDOW for status in WINDOWED},
    **{("createImage", status): (*WINDOW, "Idempotent-Replayed") for status in REPLAYED},
    ("createImage", 200): (*WINDOW, "Idempotent-Replayed", "Location", "Preference-Applied"),
    ("createImage", 202): (*WINDOW, "Idempotent-Replayed", "Location", "Preference-Applied", "Retry-After"),
    ("getGeneration", 200): ("Retry-After",),
    ("downloadUsage", 200): ("Content-Disposition",),
    ("getPricing", 0): (CORS,),
    ("getOpenapi", 0): (CORS,),
    ("getOpenapi", 200): ("ETag", "Cache-Control"),
    ("getOpenapi", 304): ("ETag", "Cache-Control"),
    ("getFile", 200): (*FILE, "Content-Disposition"),
    ("getFile", 206): (*FILE, "Content-Disposition", "Content-Range"),
    ("getFile", 304): FILE,
    ("getFile", 416): ("Content-Range",),
}
#: What files and health answer themselves has no id; the refusals around them have one.
WITHOUT_ID = {
    "getFile": {200, 206, 304, 404, 416, 503},
    "getHealth": {200},
    "getReadiness": {200, 503},
}


def name_headers(operation: str, status: int) -> tuple[str, ...]:
    """The headers of an operation's answers with this status, beside those that come with an error's code."""
    own = () if status in WITHOUT_ID.get(operation, ()) else (REQUEST_ID,)
    return (*own, *SENT.get((operation, 0), ()), *SENT.get((operation, status), ()))


def refer(section: str, name: str) -> Schema:
    return {"$ref": f"#/components/{section}/{name}"}
