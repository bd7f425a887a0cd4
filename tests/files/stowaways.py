"""Pictures that carry more than a picture: a carrier's name in every place where a file can hold one."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from PIL import Image, ImageCms

from tests.files.samples import chunk, encode, insert, join, make_header, paint, split

NAME = b"DashScope, Alibaba Cloud: task 0f8fad5b-d9cb-469f-a165-70867728950e"
SIZE = (96, 64)


def make_profile(padding: int = 0) -> bytes:
    """An ICC profile with a name in it, and as many bytes behind it."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + NAME + bytes(padding)


def make_exif() -> bytes:
    exif = Image.Exif()
    for tag in (0x010E, 0x010F, 0x0131, 0x013B, 0x8298):  # description, maker, software, artist, copyright
        exif[tag] = NAME.decode()
    return exif.tobytes()


def make_xmp() -> bytes:
    return b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><x>" + NAME + b"</x></x:xmpmeta>"


# --- PNG ---

#: What only describes a picture, each with the name in it.
DESCRIPTIONS: dict[str, tuple[bytes, bytes]] = {
    "text": (b"tEXt", b"Software\0" + NAME),
    "text under a name of its own": (b"tEXt", NAME[:40] + b"\0a"),
    "compressed text": (b"zTXt", b"Comment\0\0" + zlib.compress(NAME)),
    "international text": (b"iTXt", b"Author\0\0\0zh\0\0" + NAME),
    "compressed international text": (b"iTXt", b"Author\0\1\0zh\0\0" + zlib.compress(NAME)),
    "XMP": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + make_xmp()),
    "EXIF": (b"eXIf", make_exif()),
    "a profile": (b"iCCP", NAME[:40] + b"\0\0" + zlib.compress(make_profile())),
    "a huge profile": (b"iCCP", b"icc\0\0" + zlib.compress(make_profile(20_000_000), 0)),
    "a bomb of a profile": (b"iCCP", b"icc\0\0" + zlib.compress(make_profile(200_000_000), 9)),
    "a suggested palette": (b"sPLT", NAME[:40] + b"\0\x08" + bytes(6)),
    "a time": (b"tIME", struct.pack(">HBBBBB", 2026, 11, 30, 12, 0, 0)),
    "a resolution": (b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
    "content credentials": (b"caBX", b"\0\0\0\x40jumb" + NAME),
    "a private chunk": (b"dsCp", NAME),
    "a gamma that is none": (b"gAMA", NAME),
    "a chromaticity that is none": (b"cHRM", NAME[:32]),
    "a rendering intent that is none": (b"sRGB", NAME),
    "significant bits that are none": (b"sBIT", NAME),
    "transparency of another kind": (b"tRNS", NAME[:64]),
    "a palette that suggests": (b"PLTE", NAME[:66]),
    "a histogram": (b"hIST", NAME[:66]),
    "an animation": (b"acTL", struct.pack(">II", 1, 0)),
}


def make_still() -> bytes:
    return encode(paint(SIZE))


def make_frames() -> bytes:
    """An animation whose second frame holds the name in its pixels, uncompressed."""
    frame = Image.frombytes("RGB", SIZE, (NAME * 300)[: SIZE[0] * SIZE[1] * 3])
    return encode(paint(SIZE), save_all=True, append_images=[frame, paint(SIZE)], compress_level=0)


def make_described() -> bytes:
    """Everything at once, before the pixels and behind them."""
    small = [value for name, value in DESCRIPTIONS.items() if "huge" not in name and "bomb" not in name]
    return insert(insert(make_still(), *small), *small, before=b"IEND")


def make_tail(kind: str) -> bytes:
    """Bytes between the end of the compressed pixels and the end of their chunk, or in one more chunk."""
    *chunks, pixels, end = split(make_still())
    if kind == "chunk":
        return join([*chunks, pixels, (b"IDAT", NAME), end])
    return join([*chunks, (b"IDAT", pixels[1] + NAME), end])


def make_extra_rows() -> bytes:
    """More compressed bytes than the picture has pixels."""
    raw = b"".join(b"\0" + bytes(SIZE[0] * 3) for _ in range(SIZE[1]))
    return join([make_header(*SIZE), (b"IDAT", zlib.compress(raw + NAME, 0)), (b"IEND", b"")])


def make_palette() -> bytes:
    """Colours that no pixel has."""
    rows = b"".join(b"\0" + bytes(SIZE[0]) for _ in range(SIZE[1]))
    header = make_header(*SIZE, colour=3)
    return join([header, (b"PLTE", bytes(6) + NAME[:66]), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])


def make_alpha_of_palette() -> bytes:
    rows = b"".join(b"\0" + bytes(SIZE[0]) for _ in range(SIZE[1]))
    header = make_header(*SIZE, colour=3)
    alpha = (b"tRNS", b"\xff" + NAME[:67])
    return join([header, (b"PLTE", bytes(256 * 3)), alpha, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])


PNGS: dict[str, Callable[[], bytes]] = {
    **{f"PNG with {name}": lambda value=value: insert(make_still(), value) for name, value in DESCRIPTIONS.items()},  # type: ignore[misc]
    "PNG with everything": make_described,
    "PNG with text behind its pixels": lambda: insert(make_still(), (b"tEXt", b"a\0" + NAME), before=b"IEND"),
    "PNG with a lot behind its end": lambda: make_still() + NAME * 1000,
    "PNG with another behind it": lambda: make_still() + insert(make_still(), (b"tEXt", b"a\0" + NAME)),
    "PNG with a chunk behind its end": lambda: make_still() + chunk(b"tEXt", b"a\0" + NAME),
    "PNG with frames": make_frames,
    "PNG with a tail in its pixels": lambda: make_tail("bytes"),
    "PNG with a chunk of pixels too many": lambda: make_tail("chunk"),
    "PNG with rows too many": make_extra_rows,
    "PNG with a name for a palette": make_palette,
    "PNG with a name for an alpha": make_alpha_of_palette,
}

# --- JPEG and WebP ---


def mark(kind: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes((0xFF, kind)) + struct.pack(">H", len(body) + 2) + body


def make_jpeg(*segments: bytes) -> bytes:
    still = encode(paint(SIZE), "JPEG")
    return still[:2] + b"".join(segments) + still[2:]


def make_split_profile() -> bytes:
    """A profile in as many pieces as it may have."""
    profile = make_profile(255 * 60_000)
    pieces = [profile[at : at + 60_000] for at in range(0, 255 * 60_000, 60_000)]
    heads = (b"ICC_PROFILE\0" + bytes((number, 255)) for number in range(1, 256))
    return make_jpeg(*(mark(0xE2, head + piece) for head, piece in zip(heads, pieces, strict=True)))


JPEGS: dict[str, Callable[[], bytes]] = {
    "JPEG with a comment": lambda: make_jpeg(mark(0xFE, NAME)),
    "JPEG with EXIF": lambda: make_jpeg(mark(0xE1, b"Exif\0\0" + make_exif().removeprefix(b"Exif\0\0"))),
    "JPEG with XMP": lambda: make_jpeg(mark(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + make_xmp())),
    "JPEG with a profile": lambda: encode(paint(SIZE), "JPEG", icc_profile=make_profile()),
    "JPEG with a huge profile": make_split_profile,
    "JPEG with IPTC": lambda: make_jpeg(
        mark(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\x48\x1c\x02\x78\0\x43" + NAME)
    ),
    "JPEG with content credentials": lambda: make_jpeg(mark(0xEB, b"JP\0\1\0\0\0\1" + NAME)),
    "JPEG with an unknown segment": lambda: make_jpeg(mark(0xEF, NAME)),
    "JPEG with a tail": lambda: make_jpeg() + NAME * 100,
    "JPEG with another behind it": lambda: make_jpeg() + make_jpeg(mark(0xFE, NAME)),
}


def make_webp(*chunks: tuple[bytes, bytes], exif: bytes = b"", xmp: bytes = b"", profile: bytes = b"") -> bytes:
    still = encode(paint(SIZE), "WEBP", exif=exif, xmp=xmp, icc_profile=profile)
    added = b"".join(kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2) for kind, body in chunks)
    return still[:4] + struct.pack("<I", len(still) + len(added) - 8) + still[8:] + added


WEBPS: dict[str, Callable[[], bytes]] = {
    "WebP with EXIF": lambda: make_webp(exif=make_exif()),
    "WebP with XMP": lambda: make_webp(xmp=make_xmp()),
    "WebP with a profile": lambda: make_webp(profile=make_profile()),
    "WebP with an unknown chunk": lambda: make_webp((b"DSCP", NAME)),
    "WebP with a tail": lambda: make_webp() + NAME,
    "WebP with frames": lambda: encode(
        paint(SIZE),
        "WEBP",
        save_all=True,
        append_images=[Image.frombytes("RGB", SIZE, (NAME * 300)[: SIZE[0] * SIZE[1] * 3])],
        lossless=True,
        xmp=make_xmp(),
    ),
}

ALL: dict[str, Callable[[], bytes]] = PNGS | JPEGS | WEBPS
