"""From the bytes of an upstream to the bytes of a customer: check, resample where needed, label. No Django.

Whatever comes in, what goes out is a PNG of exactly the size the customer asked for that holds the
pixels, how to read their colours, and our AI-content label. Nothing else survives.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import TypeGuard

from PIL import Image

from crazyrouter.files import labels, png
from crazyrouter.files.errors import PictureRefused, Refusal
from crazyrouter.files.labels import Label

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "Label",
    "Picture",
    "PictureRefused",
    "Refusal",
    "check_size",
    "measure",
    "prepare",
]

MAX_BYTES = 32 * 1024 * 1024
MAX_PIXELS = 4096 * 4096
#: A side this much short of what was asked is a smaller picture, not a rounding.
MISSING_PIXELS = 32
#: The aspect may be off by one part in fifty.
ASPECT_PARTS = 50
#: A progressive JPEG has about ten; thousands of them take minutes to decode.
MAX_JPEG_SCANS = 100

# Pillow's own guard, for what it measures before it hands a picture to us. Process-wide and set once:
# `catch_warnings` is not safe in the threads that run this.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG ready to be stored. `sha256` is the hexadecimal digest of `data`."""

    data: bytes
    width: int
    height: int
    sha256: str
    resampled: bool


def prepare(data: bytes, *, asked: tuple[int, int], target: tuple[int, int], label: Label) -> Picture:
    """Make the picture of `target` size out of what came back for `asked`; sizes are (width, height).

    A PNG that already has the target size is copied chunk by chunk and not decoded, unless there are words where its
    pixels should be. Raises PictureRefused. Costs tens of microseconds for a small PNG and some 200 ms for a
    resampled 1328x1328: run it in an executor.
    """
    if len(data) > MAX_BYTES:
        raise PictureRefused(Refusal.TOO_LARGE, f"{len(data)} bytes")
    source = _read(data)
    if source.size == target:
        resampled, result = False, source if _may_be_copied(source) else _encode(_decode(source))
    else:
        check_size(source.size, asked=asked)
        resampled, result = True, _encode(_decode(source).resize(target, Image.Resampling.LANCZOS))
    final = png.write(result, labels.render_chunk(label))
    width, height = result.size
    return Picture(
        data=final, width=width, height=height, sha256=hashlib.sha256(final).hexdigest(), resampled=resampled
    )


def measure(data: bytes) -> tuple[int, int]:
    """The size of a picture that goes nowhere; checked as `prepare` checks one that it delivers, whatever its size.

    Raises PictureRefused. To be run in an executor: what is no plain PNG is decoded.
    """
    if len(data) > MAX_BYTES:
        raise PictureRefused(Refusal.TOO_LARGE, f"{len(data)} bytes")
    source = _read(data)
    return source.size if _may_be_copied(source) else _decode(source).size


def _read(data: bytes) -> png.Png | Image.Image:
    """Recognise the format by its first bytes and measure the picture; no pixel is decoded."""
    if data.startswith(png.SIGNATURE):
        return png.read(data, max_pixels=MAX_PIXELS)
    if data.startswith(b"\xff\xd8\xff"):
        if data.count(b"\xff\xda") > MAX_JPEG_SCANS:
            raise PictureRefused(Refusal.DAMAGED, "it has too many scans")
        return _open(data, format_="JPEG")
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _open(data, format_="WEBP")
    raise PictureRefused(Refusal.NOT_A_PICTURE, f"{len(data)} bytes of another format")


def _may_be_copied(source: png.Png | Image.Image) -> TypeGuard[png.Png]:
    return isinstance(source, png.Png) and not png.holds_words(source)


def _reopen(source: png.Png) -> Image.Image:
    """Pillow gets the cleaned copy: it never sees the compressed texts and profiles of a stranger."""
    return _open(png.write(source), format_="PNG")


def _open(data: bytes, *, format_: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=(format_,))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureRefused(Refusal.TOO_MANY_PIXELS, format_) from error
    except Exception as error:  # a hostile file can raise anything; whatever it is, it is no picture
        raise PictureRefused(Refusal.DAMAGED, f"{format_}: {type(error).__name__}") from error
    if image.width * image.height > MAX_PIXELS:
        raise PictureRefused(Refusal.TOO_MANY_PIXELS, f"{image.width}x{image.height}")
    return image


def _decode(source: png.Png | Image.Image) -> Image.Image:
    """All pixels as RGB, or RGBA where anything can be seen through."""
    image = _reopen(source) if isinstance(source, png.Png) else source
    try:
        image.load()
        if image.mode.startswith("I;16"):
            image = image.point(lambda value: value * (1 / 256), "L")  # `convert` would clip, not scale
        mode = "RGBA" if image.has_transparency_data else "RGB"
        return image if image.mode == mode else image.convert(mode)
    except Exception as error:  # as above: the decoder's verdict on a stranger's bytes
        raise PictureRefused(Refusal.DAMAGED, type(error).__name__) from error


def check_size(size: tuple[int, int], *, asked: tuple[int, int]) -> None:
    """Whether a picture of another size may be resampled to the target. Raises PictureRefused."""
    (width, height), (asked_width, asked_height) = size, asked
    detail = f"{width}x{height} for {asked_width}x{asked_height}"
    expected = height * asked_width
    if abs(width * asked_height - expected) * ASPECT_PARTS > expected:
        raise PictureRefused(Refusal.WRONG_ASPECT, detail)
    if max(asked_width - width, asked_height - height) >= MISSING_PIXELS:
        raise PictureRefused(Refusal.TOO_SMALL, detail)


def _encode(image: Image.Image) -> png.Png:
    """Compression level 1: encoding is the dearest step of all, and higher levels save little on photographs."""
    image.info = {}  # a profile or a comment in there would be written again
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return png.read(buffer.getvalue(), max_pixels=MAX_PIXELS)
