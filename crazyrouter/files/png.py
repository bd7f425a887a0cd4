"""PNG files chunk by chunk: check one without decoding it, and write it again with nothing but the picture.

After the PNG specification, third edition (W3C 2025), sections 5 and 11.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from crazyrouter.files.errors import PictureRefused, Refusal

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"\0\0\0\0IEND\xaeB`\x82"
#: A 32 MB file in libpng's 8 KB pieces has 4,096.
MAX_CHUNKS = 20_000

_CHUNK = struct.Struct(">I4s")
_HEADER = struct.Struct(">IIBBBBB")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CRITICAL = (b"PLTE", b"IEND")
#: Where words stand that are hidden behind the compressed pixels. So long a run of letters is one in 100,000 pictures.
_TAIL_BYTES = 4096
_WORDS = re.compile(rb"[ -~]{20,}")
#: Deflate stores at most 258 bytes in two bits.
_DEFLATE_RATIO = 1032
_MAX_GAMMA = 1_000_000
_MAX_CHROMATICITY = 100_000


@dataclass(frozen=True, slots=True)
class Header:
    width: int
    height: int
    depth: int
    colour: int

    @property
    def least_raw_bytes(self) -> int:
        """The size of the inflated picture without its filter bytes."""
        return self.width * self.height * self.depth * _CHANNELS[self.colour] // 8


@dataclass(frozen=True, slots=True)
class Png:
    """A checked file: whole chunks, ready to be written again. `pixels` is the unbroken run of IDATs."""

    header: Header
    head: memoryview
    kept: tuple[memoryview, ...]
    pixels: memoryview

    @property
    def size(self) -> tuple[int, int]:
        return self.header.width, self.header.height


def refuse(detail: str) -> PictureRefused:
    return PictureRefused(Refusal.DAMAGED, detail)


def read(data: bytes, *, max_pixels: int) -> Png:
    """Check `data` and find what to keep: signature, header, every checksum, pixels, the end.

    Nothing is inflated. Chunks that only describe are not even looked into, and what follows the
    end is ignored. Raises PictureRefused.
    """
    view = memoryview(data)
    chunks = _walk(view)
    kind, start, end = next(chunks)
    if kind != b"IHDR" or end - start != _HEADER.size + 12:
        raise refuse("it does not begin with a header")
    header = _read_header(view[start + 8 : end - 4], max_pixels=max_pixels)
    body, pixels = _collect(view, chunks)
    _check_pixels(header, pixels)
    return Png(header=header, head=view[start:end], kept=_choose(header, body), pixels=pixels)


def write(png: Png, *extra: bytes) -> bytes:
    """The file again, with whole `extra` chunks before its pixels."""
    return b"".join((SIGNATURE, png.head, *png.kept, *extra, png.pixels, END))


def holds_words(png: Png) -> bool:
    """Whether something can be read where only numbers should be: in a palette, or where the compressed pixels end.

    To know where they end is to inflate them, which costs a hundred times as much as all other checks; words that
    are themselves compressed are not found here. Whoever decodes and encodes the picture leaves all of it behind.
    """
    places = (*png.kept, png.pixels[-_TAIL_BYTES:])
    return any(not _is_slope(found.group()) for place in places for found in _WORDS.finditer(place))


def _is_slope(run: bytes) -> bool:
    """The palette of a grey picture has all letters in it, in order."""
    return list(run) in (sorted(run), sorted(run, reverse=True))


def _walk(view: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk up to IEND, its checksum proven."""
    size = len(view)
    if size < len(SIGNATURE) or view[: len(SIGNATURE)] != SIGNATURE:
        raise refuse("it has no PNG signature")
    offset = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if offset + 12 > size:
            raise refuse("it ends before its end chunk")
        length, kind = _CHUNK.unpack_from(view, offset)
        end = offset + 12 + length
        if end > size:
            raise refuse("it ends within a chunk")
        if zlib.crc32(view[offset + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise refuse("a checksum is wrong")
        yield kind, offset, end
        if kind == b"IEND":
            return
        offset = end
    raise refuse("it has too many chunks")


def _read_header(data: memoryview, *, max_pixels: int) -> Header:
    width, height, depth, colour, compression, filtering, interlace = _HEADER.unpack(data)
    if not (0 < width < 2**31 and 0 < height < 2**31):
        raise refuse("its sides are impossible")
    if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise refuse("its header is impossible")
    if width * height > max_pixels:
        raise PictureRefused(Refusal.TOO_MANY_PIXELS, f"{width}x{height}")
    return Header(width=width, height=height, depth=depth, colour=colour)


def _collect(view: memoryview, chunks: Iterator[tuple[bytes, int, int]]) -> tuple[dict[bytes, memoryview], memoryview]:
    """The first chunk of each kind before the pixels, and the run of the pixels' chunks."""
    body: dict[bytes, memoryview] = {}
    first = last = 0
    for kind, start, end in chunks:
        if kind == b"IDAT":
            if first and start != last:
                raise refuse("its pixels are not in one piece")
            first, last = first or start, end
        elif not kind[0] & 0x20 and kind not in _CRITICAL:
            raise refuse("it has a critical chunk that no reader knows")
        elif not first:
            body.setdefault(kind, view[start:end])
    if not first:
        raise refuse("it has no pixels")
    return body, view[first:last]


def _check_pixels(header: Header, pixels: memoryview) -> None:
    """What can be said about the compressed pixels without inflating them."""
    if len(pixels) * _DEFLATE_RATIO < header.least_raw_bytes:
        raise refuse("it has fewer pixels than its header says")
    length, _ = _CHUNK.unpack_from(pixels)
    if length >= 2:
        method, flags = pixels[8], pixels[9]
        if method & 0x0F != 8 or (method << 8 | flags) % 31 or flags & 0x20:
            raise refuse("its pixels are not compressed as PNG asks")


def _choose(header: Header, body: dict[bytes, memoryview]) -> tuple[memoryview, ...]:
    """What a reader needs to show the pixels as they are meant, in the order the standard asks for.

    Each is held to its exact form, so that none can carry anything else; one that fails is dropped.
    """
    palette = body.get(b"PLTE")
    entries = (len(palette) - 12) // 3 if palette is not None and header.colour == 3 else 0
    if header.colour == 3 and not _is_palette(header, palette):
        raise refuse("its palette is missing or broken")
    kept = [body[kind] for kind, valid in _COLOUR_CHUNKS.items() if kind in body and valid(header, body[kind][8:-4])]
    if entries and palette is not None:
        kept.append(palette)
    transparency = body.get(b"tRNS")
    if transparency is not None and _is_transparency(header, transparency[8:-4], entries=entries):
        kept.append(transparency)
    return tuple(kept)


def _is_palette(header: Header, chunk: memoryview | None) -> bool:
    if chunk is None:
        return False
    length = len(chunk) - 12
    return length % 3 == 0 and 3 <= length <= 3 << header.depth


def _is_transparency(header: Header, data: memoryview, *, entries: int) -> bool:
    if header.colour == 3:
        return 1 <= len(data) <= entries
    return len(data) == {0: 2, 2: 6}.get(header.colour, -1)


def _is_gamma(_: Header, data: memoryview) -> bool:
    return len(data) == 4 and 0 < int.from_bytes(data, "big") <= _MAX_GAMMA


def _is_chromaticity(_: Header, data: memoryview) -> bool:
    return len(data) == 32 and max(struct.unpack(">8I", data)) <= _MAX_CHROMATICITY


def _is_rendering_intent(_: Header, data: memoryview) -> bool:
    return len(data) == 1 and data[0] <= 3


def _is_significant_bits(header: Header, data: memoryview) -> bool:
    channels = 3 if header.colour == 3 else _CHANNELS[header.colour]
    depth = 8 if header.colour == 3 else header.depth
    return len(data) == channels and all(1 <= bits <= depth for bits in data)


_COLOUR_CHUNKS: dict[bytes, Callable[[Header, memoryview], bool]] = {
    b"cHRM": _is_chromaticity,
    b"gAMA": _is_gamma,
    b"sRGB": _is_rendering_intent,
    b"sBIT": _is_significant_bits,
}
