"""PNG by hand: quick to write for smooth pictures, and easy to break on purpose."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TRUECOLOUR = 2
_GREYSCALE = 0


def build_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def build_text(keyword: str, text: str) -> bytes:
    """A tEXt chunk; Latin-1."""
    return build_chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + text.encode("latin-1", "replace"))


def build_itxt(keyword: str, text: str) -> bytes:
    """An uncompressed iTXt chunk without language; UTF-8."""
    return build_chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode())


def encode(image: Image.Image, *, chunks: Iterable[bytes] = ()) -> bytes:
    """An RGB picture as PNG with the given chunks before the pixels.

    Rows go unfiltered: on gradients and lettering zlib's fastest level alone takes a third of the
    time that Pillow needs to choose filters.
    """
    width, height = image.size
    pixels, stride = image.tobytes(), width * 3
    rows = b"".join(b"\0" + pixels[start : start + stride] for start in range(0, len(pixels), stride))
    return b"".join(
        [
            SIGNATURE,
            build_header(width, height, colour=_TRUECOLOUR, depth=8),
            *chunks,
            build_chunk(b"IDAT", zlib.compress(rows, 1)),
            build_chunk(b"IEND", b""),
        ]
    )


def build_header(width: int, height: int, *, colour: int, depth: int) -> bytes:
    return build_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def build_blank(width: int, height: int) -> bytes:
    """A valid black picture of any size in little memory: what is known as a decompression bomb."""
    packer = zlib.compressobj(1)
    row = bytes(1 + (width + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = build_header(width, height, colour=_GREYSCALE, depth=1)
    return SIGNATURE + header + build_chunk(b"IDAT", pixels) + build_chunk(b"IEND", b"")


def inflate(picture: bytes, *, to_bytes: int) -> Iterator[bytes]:
    """A valid picture grown to exactly that many bytes by one private chunk, piece by piece."""
    end = picture[-12:]
    filler = max(0, to_bytes - len(picture) - 12)
    yield picture[:-12]
    yield struct.pack(">I", filler) + b"fiLl"
    checksum, piece = zlib.crc32(b"fiLl"), bytes(64 * 1024)
    for start in range(0, filler, len(piece)):
        part = piece[: filler - start]
        checksum = zlib.crc32(part, checksum)
        yield part
    yield struct.pack(">I", checksum) + end


def break_checksum(picture: bytes) -> bytes:
    """The same picture with one wrong CRC, that of its pixels."""
    at = len(picture) - 12 - 4
    return picture[:at] + bytes(byte ^ 0xFF for byte in picture[at : at + 4]) + picture[at + 4 :]
