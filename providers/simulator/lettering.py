"""Text on pictures: wrapped, in any script. Where no font has a character, a box with its code point stands for it."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from pathlib import Path

from PIL import ImageDraw, ImageFont

_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "/Library/Fonts", "C:/Windows/Fonts")
_CJK_FILES = ("NotoSansCJK*", "NotoSansSC*", "SourceHanSans*", "wqy-*", "DroidSansFallback*", "PingFang*", "msyh*")
#: The last code point that Pillow's own font surely has.
_LATIN_END = 0x17F

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=1)
def find_cjk_font() -> Path | None:
    """A font file of the system that knows Chinese."""
    for folder in (Path(name) for name in _FOLDERS):
        if folder.is_dir():
            for pattern in _CJK_FILES:
                for file in sorted(folder.rglob(pattern)):
                    if file.suffix.lower() in {".ttf", ".ttc", ".otf"}:
                        return file
    return None


class Lettering:
    """One text size, in pixels."""

    def __init__(self, size: int, *, cjk_font: Path | None) -> None:
        self.size = size
        self.line_height = round(size * 1.35)
        self._latin: Font = ImageFont.load_default(size)
        self._tiny: Font = ImageFont.load_default(max(6, size // 3))
        self._cjk: Font | None = ImageFont.truetype(str(cjk_font), size) if cjk_font else None
        self._widths: dict[str, float] = {}

    def measure(self, char: str) -> float:
        width = self._widths.get(char)
        if width is None:
            font = self._font_of(char)
            width = self._widths[char] = float(font.getlength(char)) if font else self.size * 1.05
        return width

    def wrap(self, text: str, *, width: int, lines: int) -> list[str]:
        """Break at spaces where there are any and anywhere else; at most that many lines, the last one cut."""
        wrapped: list[str] = []
        line, used, last_space = "", 0.0, -1
        for char in " ".join(text.split()):
            advance = self.measure(char)
            if line and used + advance > width:
                keep = last_space + 1 if last_space > 0 else len(line)
                wrapped.append(line[:keep].rstrip())
                line = line[keep:]
                used, last_space = sum(map(self.measure, line)), -1
            if char == " ":
                last_space = len(line)
            line, used = line + char, used + advance
        wrapped.append(line)
        return wrapped if len(wrapped) <= lines else [*wrapped[: lines - 1], wrapped[lines - 1][:-1] + "..."]

    def draw(self, canvas: ImageDraw.ImageDraw, line: str, *, x: float, y: float) -> None:
        for font, run in groupby(line, self._font_of):
            chars = "".join(run)
            if font is not None:
                canvas.text((x, y), chars, font=font, fill="white")
                x += sum(map(self.measure, chars))
                continue
            for char in chars:
                self._draw_box(canvas, char, x=x, y=y)
                x += self.measure(char)

    def _font_of(self, char: str) -> Font | None:
        return self._latin if ord(char) <= _LATIN_END else self._cjk

    def _draw_box(self, canvas: ImageDraw.ImageDraw, char: str, *, x: float, y: float) -> None:
        side = self.size - 2
        canvas.rectangle((x, y + 2, x + side, y + 2 + side), outline="white")
        code = f"{ord(char):04X}"
        half = (len(code) + 1) // 2
        canvas.text((x + 3, y + 3), code[:half], font=self._tiny, fill="white")
        canvas.text((x + 3, y + 3 + side // 2), code[half:], font=self._tiny, fill="white")


@lru_cache(maxsize=64)
def get_lettering(size: int) -> Lettering:
    return Lettering(size, cjk_font=find_cjk_font())
