"""Real pictures, and PNG files taken apart and put together by hand."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image

from crazyrouter.files.png import SIGNATURE

Chunks = list[tuple[bytes, bytes]]


def paint(size: tuple[int, int], *, mode: str = "RGB") -> Image.Image:
    """A picture with some detail: a slope across, of the mode's first two bands."""
    slope = Image.linear_gradient("L").resize(size)
    if mode in ("L", "1", "P", "I;16"):
        return slope.convert("I").point(lambda v: v * 256).convert("I;16") if mode == "I;16" else slope.convert(mode)
    bands = [slope, slope.rotate(180), Image.new("L", size, 60)]
    if mode == "RGBA":
        bands.append(slope.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    return Image.merge("RGB" if mode == "CMYK" else mode, bands).convert(mode)


def encode(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def make_png(size: tuple[int, int] = (64, 48), *, mode: str = "RGB", **options: Any) -> bytes:
    return encode(paint(size, mode=mode), **options)


def decode(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def split(data: bytes) -> Chunks:
    """Kinds and bodies, checksums proven; nothing may follow IEND."""
    assert data.startswith(SIGNATURE)
    offset, chunks = len(SIGNATURE), []
    while offset < len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        body = data[offset + 8 : offset + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack_from(">I", data, offset + 8 + length)[0]
        chunks.append((kind, body))
        offset += 12 + length
    assert chunks[-1] == (b"IEND", b"")
    return chunks


def kinds(data: bytes) -> list[bytes]:
    return [kind for kind, _ in split(data)]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def join(chunks: Chunks) -> bytes:
    return SIGNATURE + b"".join(chunk(kind, body) for kind, body in chunks)


def insert(data: bytes, *added: tuple[bytes, bytes], before: bytes = b"IDAT") -> bytes:
    """`data` with chunks added before the first of kind `before`."""
    chunks = split(data)
    position = [kind for kind, _ in chunks].index(before)
    return join([*chunks[:position], *added, *chunks[position:]])


def make_header(
    width: int, height: int, *, depth: int = 8, colour: int = 2, tail: bytes = b"\0\0\0"
) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBB", width, height, depth, colour) + tail


def mend(data: bytes) -> bytes:
    """`data` with right checksums, as far as its chunks can be followed."""
    fixed, offset = bytearray(data), len(SIGNATURE)
    while offset + 12 <= len(fixed):
        end = offset + 12 + struct.unpack_from(">I", fixed, offset)[0]
        if end > len(fixed):
            break
        struct.pack_into(">I", fixed, end - 4, zlib.crc32(fixed[offset + 4 : end - 4]))
        offset = end
    return bytes(fixed)
