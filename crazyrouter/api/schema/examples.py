"""Requests and answers to show. tests/api/test_schema.py holds each against its schema."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from crazyrouter.api.schema.faults import API_ERRORS, SAMPLE_ID
from crazyrouter.api.schema.words import PLACEHOLDER_URL
from crazyrouter.files.labels import Label, render_chunk

CREATED = 1_764_450_000
FILE = "qwen_image_abcdefghijklmnopqrstuvwxyz234567.png"
URL = f"{PLACEHOLDER_URL}/files/{FILE}"
PROMPT = "A lighthouse at dusk, watercolour"
CNY = {"currency": "CNY"}


def draw_example() -> str:
    """One white pixel as it would be delivered, label and all, as base64; the same with every zlib."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    chunks = [
        render_plain(b"IHDR", header),
        render_chunk(Label("crazyrouter", f"{SAMPLE_ID}-0")),
        render_plain(b"IDAT", zlib.compress(b"\0\xff", level=0)),
        render_plain(b"IEND", b""),
    ]
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


def render_plain(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


GENERATION = {
    "id": SAMPLE_ID,
    "object": "image.generation",
    "status": "succeeded",
    "model": "qwen-image-max",
    "created": CREATED,
    "n": 1,
    "data": [{"url": URL, "expires_at": CREATED + 72 * 3600}],
    "charged": {"images": 1, "amount": "0.50", **CNY},
    "error": None,
}
UNPAID = {"data": [], "charged": {"images": 0, "amount": "0.00", **CNY}}
RUNNING = GENERATION | UNPAID | {"status": "running"}
FAILED = GENERATION | UNPAID | {"status": "failed", "error": API_ERRORS["upstream_failed"].envelope["error"]}
MODEL = {
    "id": "qwen-image-2.0",
    "object": "model",
    "created": CREATED,
    "owned_by": "crazyrouter",
    "capability": "text-to-image",
    "verification": "verified",
    "pricing": {"unit": "image", "amount": "0.20", **CNY},
    "sizes": ["2048x2048", "2688x1536", "1024x1024"],
    "default_size": "2048x2048",
    "size_range": {"min_pixels": 262_144, "max_pixels": 4_194_304, "multiple": 16},
    "max_n": 6,
}
PRICE = {
    "model": "qwen-image-2.0",
    "unit": "image",
    "amount": "0.20",
    **CNY,
    "effective_from": "2025-11-01T00:00:00Z",
    "verification": "verified",
}
USAGE = {
    "object": "list",
    "from": "2025-11-01",
    "to": "2025-11-30",
    "time_zone": "Asia/Shanghai",
    **CNY,
    "data": [
        {"date": "2025-11-29", "model": "qwen-image-max", "key": "sk-cr-1a2b3c4d", "images": 3, "amount": "1.50"},
    ],
    "total": {"images": 3, "amount": "1.50"},
    "has_more": False,
    "next_cursor": None,
}

#: Of request bodies, by operation.
REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "createImage": {
        "simple": {"model": "qwen-image-max", "prompt": PROMPT},
        "several": {
            "model": "qwen-image-2.0",
            "prompt": PROMPT,
            "n": 2,
            "size": "1024x1024",
            "response_format": "b64_json",
            "negative_prompt": "people",
            "seed": 7,
        },
    },
}
#: Of answers, by operation and status.
ANSWERS: Mapping[tuple[str, int], Mapping[str, Any]] = {
    ("createImage", 200): {
        "url": {"created": CREATED, "data": [{"url": URL}]},
        "b64_json": {
            "created": CREATED,
            "data": [{"b64_json": draw_example(), "revised_prompt": f"{PROMPT}, soft light"}],
        },
        "respond_async_ended": GENERATION,
    },
    ("createImage", 202): {"running": RUNNING},
    ("listGenerations", 200): {
        "page": {
            "object": "list",
            "data": [GENERATION],
            "first_id": SAMPLE_ID,
            "last_id": SAMPLE_ID,
            "has_more": False,
        },
    },
    ("getGeneration", 200): {"succeeded": GENERATION, "running": RUNNING, "failed": FAILED},
    ("listModels", 200): {"models": {"object": "list", "data": [MODEL]}},
    ("getModel", 200): {"model": MODEL},
    ("getBalance", 200): {
        "balance": {"balance": "100.00", "held": "0.50", "credit_limit": "0.00", "available": "99.50", **CNY}
    },
    ("getUsage", 200): {"page": USAGE},
    ("downloadUsage", 200): {
        "file": "date,model,key,images,amount,currency\r\n2025-11-29,qwen-image-max,sk-cr-1a2b3c4d,3,1.500000,CNY\r\n"
    },
    ("getPricing", 200): {"prices": {"object": "list", **CNY, "data": [PRICE]}},
    ("getHealth", 200): {"ok": "ok\n"},
    ("getReadiness", 200): {"ok": "ok\n"},
    ("getReadiness", 503): {"not_ok": "not ok\n"},
}
