"""Take a delivered picture apart to its last byte: whatever is not pixels, their colours or our label is found."""

from __future__ import annotations

import re
import struct
import zlib

from tests.files.samples import split

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
#: The chunks that may stand before the pixels, and how long each may be at most.
LENGTHS = {b"IHDR": 13, b"cHRM": 32, b"gAMA": 4, b"sRGB": 1, b"sBIT": 4, b"PLTE": 768, b"tRNS": 256}
WORDS = re.compile(rb"[A-Za-z]{4,}[ ,:-]+[A-Za-z]{4,}")
LABEL_HEAD = b"XML:com.adobe.xmp\0\0\0\0\0"


def dissect(data: bytes) -> tuple[bytes, list[str]]:
    """The label's packet, and what is wrong; everything compressed is opened, and every byte accounted for."""
    try:
        chunks = split(data)
    except (AssertionError, struct.error):
        return b"", ["it is not a PNG to its end"]
    kinds = [kind for kind, _ in chunks]
    faults = [f"{kind!r} has no place here" for kind in kinds if kind not in {*LENGTHS, b"iTXt", b"IDAT", b"IEND"}]
    faults += [f"{kind!r} is there twice" for kind in {*LENGTHS, b"iTXt", b"IEND"} if kinds.count(kind) > 1]
    faults += [f"{kind!r} is too long" for kind, body in chunks if kind in LENGTHS and len(body) > LENGTHS[kind]]
    faults += [f"{kind!r} holds words" for kind, body in chunks if kind in LENGTHS and WORDS.search(body)]
    if chunks[-1] != (b"IEND", b"") or kinds[kinds.index(b"IDAT") : -1] != [b"IDAT"] * kinds.count(b"IDAT"):
        faults.append("something stands behind the pixels")
    faults += check_pixels(chunks[0][1], b"".join(body for kind, body in chunks if kind == b"IDAT"))
    texts = [body for kind, body in chunks if kind == b"iTXt"]
    if len(texts) != 1 or not texts[0].startswith(LABEL_HEAD):
        return b"", [*faults, "there is not one label"]
    return texts[0].removeprefix(LABEL_HEAD), faults


def check_pixels(header: bytes, compressed: bytes) -> list[str]:
    """Whether the compressed bytes are the pixels, and nothing but them."""
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", header)
    inflate = zlib.decompressobj()
    raw = inflate.decompress(compressed)
    faults = ["bytes behind the compressed pixels"] if inflate.unused_data else []
    faults += [] if inflate.eof else ["the compressed pixels have no end"]
    expected = sum(
        rows * (1 + -(-columns * depth * CHANNELS[colour] // 8))
        for columns, rows in (count_passes(width, height) if interlace else [(width, height)])
        if columns
    )
    return faults + ([] if len(raw) == expected else [f"{len(raw) - expected} bytes more than pixels"])


def count_passes(width: int, height: int) -> list[tuple[int, int]]:
    """Columns and rows of each pass of an interlaced picture (PNG specification, 8.2)."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    return [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
