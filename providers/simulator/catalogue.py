"""What each simulated model takes, as the vendor documents it: shapes, sizes, n, prompt length, price."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from providers.simulator.errors import MODEL_UNKNOWN, Refusal

FIXED_SIZES = ("1664*928", "1472*1104", "1328*1328", "1104*1472", "928*1664")
MIN_PIXELS = 512 * 512
MAX_PIXELS = 2048 * 2048
MAX_SEED = 2**31 - 1
NEGATIVE_PROMPT_LIMIT = 500

_SIZE = re.compile(r"([1-9]\d{0,4})\*([1-9]\d{0,4})")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model. `sizes` empty means the pixel range; the price is the Beijing list price in fen.

    `prompt_limit` counts code points: where the vendor counts tokens this is an approximation.
    """

    name: str
    has_tasks: bool
    sizes: tuple[str, ...]
    default_size: str
    max_n: int
    prompt_limit: int
    price_fen: int


_PLUS = ModelFacts("qwen-image-plus", True, FIXED_SIZES, "1664*928", 1, 800, 20)
_MAX = ModelFacts("qwen-image-max", False, FIXED_SIZES, "1664*928", 1, 800, 50)
_TWO = ModelFacts("qwen-image-2.0", False, (), "2048*2048", 6, 1300, 20)
_TWO_PRO = ModelFacts("qwen-image-2.0-pro", False, (), "2048*2048", 6, 1300, 50)

MODELS: dict[str, ModelFacts] = {facts.name: facts for facts in (_PLUS, _MAX, _TWO, _TWO_PRO)}
#: Names that the vendor serves beside the mainline ones; a snapshot shares its mainline's limits.
SNAPSHOTS: dict[str, ModelFacts] = {
    "qwen-image": replace(_PLUS, name="qwen-image", price_fen=25),
    "qwen-image-plus-2026-01-09": replace(_PLUS, has_tasks=False),
    "qwen-image-max-2025-12-30": _MAX,
    "qwen-image-2.0-2026-03-03": _TWO,
    "qwen-image-2.0-pro-2026-04-22": _TWO_PRO,
    "qwen-image-2.0-pro-2026-06-22": _TWO_PRO,
}


@dataclass(frozen=True, slots=True)
class Parameters:
    """The `parameters` of a call, checked and with defaults applied."""

    width: int
    height: int
    n: int = 1
    seed: int | None = None
    prompt_extend: bool = True
    watermark: bool = False


def find_model(name: Any) -> ModelFacts:
    """Raises Refusal: an unknown model is refused at once, on every endpoint."""
    if not isinstance(name, str) or not name:
        raise Refusal("InvalidParameter", 'Required field "model" missing from request body.')
    facts = MODELS.get(name) or SNAPSHOTS.get(name)
    if facts is None:
        raise Refusal("InvalidParameter", MODEL_UNKNOWN)
    return facts


def read_parameters(facts: ModelFacts, raw: Mapping[str, Any]) -> Parameters:
    """Check what the model documents; unknown parameters are tolerated, as the vendor does. Raises Refusal."""
    width, height = read_size(facts, raw.get("size"))
    return Parameters(
        width=width,
        height=height,
        n=_read_n(facts, raw.get("n")),
        seed=_read_seed(raw.get("seed")),
        prompt_extend=_read_flag(raw, "prompt_extend", default=True),
        watermark=_read_flag(raw, "watermark", default=False),
    )


def read_size(facts: ModelFacts, raw: Any) -> tuple[int, int]:
    """`W*H`, with an asterisk. Raises Refusal."""
    size = facts.default_size if raw is None else raw
    matched = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if matched is None:
        raise Refusal("InvalidParameter", f"size must match the format 'width*height', got {size!r}")
    width, height = int(matched[1]), int(matched[2])
    if facts.sizes and size not in facts.sizes:
        raise Refusal("InvalidParameter", f"size must be one of {', '.join(facts.sizes)}")
    if not facts.sizes and not MIN_PIXELS <= width * height <= MAX_PIXELS:
        raise Refusal("InvalidParameter", "total pixels of size must be between 512*512 and 2048*2048")
    return width, height


def _read_n(facts: ModelFacts, raw: Any) -> int:
    if raw is None:
        return 1
    if type(raw) is not int or not 1 <= raw <= facts.max_n:
        allowed = "must be 1" if facts.max_n == 1 else f"must be between 1 and {facts.max_n}"
        raise Refusal("InvalidParameter", f"num_images_per_prompt {allowed}")
    return raw


def _read_seed(raw: Any) -> int | None:
    if raw is None:
        return None
    if type(raw) is not int or not 0 <= raw <= MAX_SEED:
        raise Refusal("InvalidParameter", f"seed must be an integer between 0 and {MAX_SEED}")
    return raw


def _read_flag(raw: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = raw.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise Refusal("InvalidParameter", f"{name} must be a boolean")
    return value
