"""What is on the pictures, and what clings to them."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import pytest
from PIL import Image

from providers.simulator import png
from providers.simulator.lettering import Lettering
from providers.simulator.pictures import Drawing, paint, render_other, render_png


def draw(prompt: str = "a cat", *, width: int = 320, height: int = 200, **more) -> Drawing:
    return Drawing("qwen-image-2.0", prompt, width, height, "task-1", **more)


@pytest.mark.parametrize(("width", "height"), [(1664, 928), (512, 512), (1, 1), (16, 4000)])
def test_the_size_is_exact(width: int, height: int) -> None:
    picture = Image.open(io.BytesIO(render_png(draw(width=width, height=height))))
    picture.load()
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (width, height))


def test_the_same_order_gives_the_same_bytes() -> None:
    assert render_png(draw()) == render_png(draw())


@pytest.mark.parametrize("other", [draw("a dog"), draw(seed=7), draw(index=1), draw(watermark=True)])
def test_another_order_gives_another_picture(other: Drawing) -> None:
    assert paint(other).tobytes() != paint(draw()).tobytes()


def test_the_carrier_signs_everywhere() -> None:
    picture = Image.open(io.BytesIO(render_png(draw("猫"))))
    assert picture.info["Software"] == "DashScope wanx"
    assert picture.info["Source"] == "dashscope-result qwen-image-2.0 task-1"
    assert picture.info["parameters"] == "猫"
    assert 'xmp:CreatorTool="DashScope wanx"' in picture.info["XML:com.adobe.xmp"]
    assert "&quot;ContentProducer&quot;:&quot;Alibaba Cloud" in picture.info["XML:com.adobe.xmp"]
    assert picture.getexif()[0x0131] == "DashScope wanx"


@pytest.mark.parametrize("prompt", ["一只猫" * 300, "🐈 naïve", "line\nbreak\ttab\0nul", "x" * 1300, "", "\u202eright"])
def test_any_prompt_can_be_drawn(prompt: str) -> None:
    assert paint(draw(prompt)).size == (320, 200)


def test_chinese_without_a_font_is_boxes() -> None:
    lettering = Lettering(20, cjk_font=None)
    assert lettering.measure("猫") == 21.0
    assert lettering.wrap("猫" * 10, width=63, lines=10) == ["猫猫猫", "猫猫猫", "猫猫猫", "猫"]


def test_a_font_of_the_system_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from providers.simulator import lettering

    (tmp_path / "wqy-microhei.ttc").write_bytes(b"")
    monkeypatch.setattr(lettering, "_FOLDERS", (str(tmp_path),))
    lettering.find_cjk_font.cache_clear()
    assert lettering.find_cjk_font() == tmp_path / "wqy-microhei.ttc"
    lettering.find_cjk_font.cache_clear()


def test_words_break_at_spaces_and_long_ones_anywhere() -> None:
    lettering = Lettering(20, cjk_font=None)
    words = lettering.wrap("one two three four", width=100, lines=10)
    assert " ".join(words) == "one two three four"
    assert all(sum(map(lettering.measure, line)) <= 100 for line in words)
    long = lettering.wrap("x" * 50, width=100, lines=10)
    assert "".join(long) == "x" * 50
    assert lettering.wrap("x" * 500, width=100, lines=2)[1].endswith("...")


def chunks(picture: bytes) -> list[tuple[bytes, bool]]:
    """Name of each chunk, and whether its CRC is right."""
    found, at = [], len(png.SIGNATURE)
    while at < len(picture):
        length = int.from_bytes(picture[at : at + 4])
        body = picture[at + 4 : at + 8 + length]
        found.append((body[:4], zlib.crc32(body) == int.from_bytes(picture[at + 8 + length : at + 12 + length])))
        at += 12 + length
    return found


def test_the_chunks() -> None:
    names = [b"IHDR", b"tEXt", b"tEXt", b"eXIf", b"iTXt", b"iTXt", b"IDAT", b"IEND"]
    assert chunks(render_png(draw())) == [(name, True) for name in names]


def test_one_broken_checksum() -> None:
    broken = chunks(png.break_checksum(render_png(draw())))
    assert [name for name, right in broken if not right] == [b"IDAT"]


def test_a_picture_of_any_weight() -> None:
    heavy = b"".join(png.inflate(render_png(draw()), to_bytes=1_000_000))
    assert len(heavy) == 1_000_000
    assert chunks(heavy)[-2:] == [(b"fiLl", True), (b"IEND", True)]


def test_an_empty_picture_of_any_size() -> None:
    bomb = render_png(draw(width=30_000, height=30_000))
    assert len(bomb) < 1_000_000
    assert chunks(bomb) == [(b"IHDR", True), (b"IDAT", True), (b"IEND", True)]
    assert int.from_bytes(bomb[16:20]) == 30_000


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "GIF"])
def test_other_formats(file_format: str) -> None:
    picture = Image.open(io.BytesIO(render_other(draw(), file_format=file_format)))
    assert (picture.format, picture.size) == (file_format, (320, 200))
