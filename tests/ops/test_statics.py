"""Static files are collected again only when something changed, and served whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.test import AsyncClient

from crazyrouter.ops.statics import DIGEST, collect_static


@pytest.fixture
def root(tmp_path: Path, settings: Any) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "one.css").write_text("a {}")
    settings.STATICFILES_DIRS = [source]
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.STATIC_ROOT = tmp_path / "collected"
    return tmp_path


def test_only_a_change_is_collected(root: Path) -> None:
    assert collect_static()
    assert (root / "collected" / "one.css").read_text() == "a {}"
    assert not collect_static()
    (root / "source" / "one.css").write_text("a { color: red }")
    (root / "source" / "two.css").write_text("b {}")
    assert collect_static()
    assert (root / "collected" / "one.css").read_text() == "a { color: red }"
    assert (root / "collected" / "two.css").read_text() == "b {}"
    assert not collect_static()


def test_a_collection_that_broke_off_is_done_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*args: Any, **options: Any) -> None:
        raise OSError("disk full")

    assert collect_static()
    (root / "source" / "one.css").write_text("a { color: red }")
    with monkeypatch.context() as patch:
        patch.setattr("crazyrouter.ops.statics.call_command", break_off)
        with pytest.raises(OSError, match="disk full"):
            collect_static()
    assert not (root / "collected" / DIGEST).exists()
    assert collect_static()


def read_source(path: str) -> bytes:
    return Path(str(finders.find(path))).read_bytes()


async def test_files_are_served_whole_and_without_a_warning(database: None, settings: Any) -> None:
    settings.WHITENOISE_USE_FINDERS = True
    whole = read_source("crazyrouter/pages.css")
    # Warnings are errors here; the synchronous client never meets this one.
    response = await AsyncClient().get("/static/crazyrouter/pages.css")
    assert (response.status_code, response.streaming, response.content) == (200, False, whole)
    assert response["Content-Type"] == 'text/css; charset="utf-8"'
    assert "default-src 'none'" in response["Content-Security-Policy"]
    part = await AsyncClient().get("/static/crazyrouter/pages.css", headers={"Range": "bytes=3-9"})
    assert (part.status_code, part.content) == (206, whole[3:10])
    head = await AsyncClient().head("/static/crazyrouter/pages.css")
    assert (head.status_code, head.content, head["Content-Length"]) == (200, b"", str(len(whole)))
    again = await AsyncClient().get(
        "/static/crazyrouter/pages.css", headers={"If-Modified-Since": response["Last-Modified"]}
    )
    assert (again.status_code, again.content) == (304, b"")
