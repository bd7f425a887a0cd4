"""What a model allows: pure functions over the catalog's facts.

Refused     a value the model does not take: which parameter, which rule, and words for the customer
"""

from __future__ import annotations

import re

from models_registry.catalog import PublicModel, SizeRange

SIZE = re.compile(r"([1-9][0-9]{0,4})[x*]([1-9][0-9]{0,4})", re.ASCII)


class Refused(Exception):
    """`code` is the public error code, `param` the field, the message is written for the customer."""

    def __init__(self, param: str, code: str, message: str) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


def choose_size(model: PublicModel, asked: str | None) -> tuple[int, int]:
    """The public (width, height) for what was asked; absent and `auto` mean the model's default."""
    if asked is None or asked == "auto":
        return model.default_size
    match = SIZE.fullmatch(asked)
    if match:
        size = int(match[1]), int(match[2])
        if size in model.sizes or (model.size_range and fits_range(size, model.size_range)):
            return size
    raise Refused("size", "invalid_value", f"Invalid size {asked[:40]!r} for {model.name}. {describe_sizes(model)}")


def fits_range(size: tuple[int, int], allowed: SizeRange) -> bool:
    return (
        all(allowed.min_side <= side <= allowed.max_side and side % allowed.multiple == 0 for side in size)
        and allowed.min_pixels <= size[0] * size[1] <= allowed.max_pixels
    )


def describe_sizes(model: PublicModel) -> str:
    listed = ", ".join(f"{width}x{height}" for width, height in model.sizes)
    if not model.size_range:
        return f"Supported sizes: {listed}."
    allowed = model.size_range
    return (
        f"Supported: {listed}, or any WIDTHxHEIGHT with sides that are multiples of {allowed.multiple} from "
        f"{allowed.min_side} to {allowed.max_side} and {allowed.min_pixels} to {allowed.max_pixels} pixels in total."
    )


def choose_render_size(model: PublicModel, size: tuple[int, int]) -> tuple[int, int]:
    """What an upstream is asked to draw for a public size."""
    return model.sizes.get(size, size)


def check_n(model: PublicModel, n: int) -> int:
    if n < 1:
        raise Refused("n", "integer_below_min_value", f"Invalid n: expected at least 1, got {n}.")
    if n > model.max_n:
        raise Refused("n", "integer_above_max_value", f"Invalid n: {model.name} takes at most {model.max_n}, got {n}.")
    return n


def check_length(param: str, text: str, limit: int) -> str:
    """Counted in code points as sent. A longer text is refused: the upstream would cut it without a word."""
    if len(text) > limit:
        message = f"Invalid {param}: at most {limit} characters, got {len(text)}."
        raise Refused(param, "string_above_max_length", message)
    return text
