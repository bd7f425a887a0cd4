"""Whether some bytes are a whole PNG of the size that was asked for; not with the product's own reader."""

from __future__ import annotations

import io
import zlib

from PIL import Image, UnidentifiedImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"IEND"


def find_fault(data: bytes, size: tuple[int, int]) -> str:
    """What is wrong with it, from its chunks alone: cheap. Empty if nothing is."""
    if not data.startswith(SIGNATURE):
        return f"no PNG: it begins with {data[:12]!r}"
    at, last = len(SIGNATURE), b""
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            return f"it ends within {kind!r}"
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            return f"the checksum of {kind!r} is wrong"
        at, last = end, kind
    if last != END or at != len(data):
        return f"it ends with {last!r} and {len(data) - at} bytes more"
    found = (int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))
    return "" if found == size else "it is {}x{}, asked were {}x{}".format(*found, *size)


def find_deep_fault(data: bytes, size: tuple[int, int]) -> str:
    """The same, and whether every pixel can be read."""
    fault = find_fault(data, size)
    if fault:
        return fault
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        return f"it cannot be decoded: {error}"
    return ""
