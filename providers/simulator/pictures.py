"""The pictures: what was ordered as text on a colourful ground, in exactly the size that was asked for."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass

import orjson
from PIL import Image, ImageDraw

from providers.simulator import png
from providers.simulator.lettering import get_lettering

#: Names of the carrier, as real ones leave them in their files: whoever resells must take them out.
SOFTWARE = "DashScope wanx"
PRODUCER = "Alibaba Cloud Model Studio (DashScope)"
_XMP_KEYWORD = "XML:com.adobe.xmp"
_EXIF_SOFTWARE = 0x0131
_EXIF_ARTIST = 0x013B
#: Up to here a picture is painted; beyond, an empty one of that size must do.
MAX_PAINTED_PIXELS = 4096 * 4096


@dataclass(frozen=True, slots=True)
class Drawing:
    """All that decides a picture's bytes."""

    model: str
    prompt: str
    width: int
    height: int
    name: str
    index: int = 0
    seed: int | None = None
    watermark: bool = False


def render_png(drawing: Drawing) -> bytes:
    """A PNG with the carrier's metadata. About 25 ms for 1664x928."""
    if drawing.width * drawing.height > MAX_PAINTED_PIXELS:
        return png.build_blank(drawing.width, drawing.height)
    return png.encode(paint(drawing), chunks=_describe(drawing))


def render_other(drawing: Drawing, *, file_format: str) -> bytes:
    """The same picture in another file format, as Pillow names it."""
    buffer = io.BytesIO()
    paint(drawing).save(buffer, file_format)
    return buffer.getvalue()


def paint(drawing: Drawing) -> Image.Image:
    image = _paint_ground(drawing)
    canvas = ImageDraw.Draw(image)
    _paint_discs(canvas, drawing)
    _write(canvas, drawing)
    return image


def _paint_ground(drawing: Drawing) -> Image.Image:
    """A gradient from top to bottom: equal pixels along a row cost nothing to compress."""
    colours = _choose_colours(drawing)
    column = Image.new("RGB", (1, 3))
    for row, colour in zip(range(3), colours, strict=False):
        column.putpixel((0, row), colour)
    tall = column.resize((1, drawing.height), Image.Resampling.BILINEAR)
    return tall.resize((drawing.width, drawing.height), Image.Resampling.NEAREST)


def _paint_discs(canvas: ImageDraw.ImageDraw, drawing: Drawing) -> None:
    digest = _digest(drawing)
    unit = min(drawing.width, drawing.height)
    for place, colour in enumerate(list(_choose_colours(drawing))[3:]):
        x = digest[20 + place] / 255 * drawing.width
        y = digest[24 + place] / 255 * drawing.height
        radius = unit * (0.05 + digest[28 + place] / 255 * 0.12)
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _write(canvas: ImageDraw.ImageDraw, drawing: Drawing) -> None:
    size = max(8, min(drawing.width, drawing.height) // 22)
    lettering, margin = get_lettering(size), size
    facts = f"{drawing.model}  {drawing.width}x{drawing.height}  #{drawing.index + 1}"
    seed = "" if drawing.seed is None else f"  seed {drawing.seed}"
    room = max(1, (drawing.height - 3 * margin) // lettering.line_height - 2)
    text = lettering.wrap(drawing.prompt, width=drawing.width - 2 * margin, lines=room)
    for row, line in enumerate([facts + seed, "", *text]):
        lettering.draw(canvas, line, x=margin, y=margin + row * lettering.line_height)
    if drawing.watermark:
        width = sum(map(lettering.measure, "Qwen-Image"))
        lettering.draw(
            canvas, "Qwen-Image", x=drawing.width - margin - width, y=drawing.height - margin - lettering.line_height
        )


def _choose_colours(drawing: Drawing) -> Iterator[tuple[int, int, int]]:
    """Dark enough that white text is read on them."""
    digest = _digest(drawing)
    for start in range(0, 18, 3):
        red, green, blue = (20 + byte * 150 // 255 for byte in digest[start : start + 3])
        yield red, green, blue


def _digest(drawing: Drawing) -> bytes:
    return hashlib.sha256(f"{drawing.model}|{drawing.prompt}|{drawing.seed}|{drawing.index}".encode()).digest()


def _describe(drawing: Drawing) -> list[bytes]:
    exif = Image.Exif()
    exif[_EXIF_SOFTWARE] = SOFTWARE
    exif[_EXIF_ARTIST] = PRODUCER
    return [
        png.build_text("Software", SOFTWARE),
        png.build_text("Source", f"dashscope-result {drawing.model} {drawing.name}"),
        png.build_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")),
        png.build_itxt(_XMP_KEYWORD, _build_xmp(drawing)),
        png.build_itxt("parameters", drawing.prompt),
    ]


def _build_xmp(drawing: Drawing) -> str:
    """The carrier's own AI-content label (GB 45438-2025), which names the carrier."""
    label = {"Label": "1", "ContentProducer": PRODUCER, "ProduceID": drawing.name, "ContentPropagator": PRODUCER}
    quoted = orjson.dumps(label).decode().replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/" '
        f'xmp:CreatorTool="{SOFTWARE}" TC260:AIGC="{quoted}"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )
