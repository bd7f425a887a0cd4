from __future__ import annotations

import asyncio
import base64
import re
import threading
from hashlib import sha256
from typing import Any

import pytest

from crazyrouter.files import store
from crazyrouter.files.errors import NotStored, PictureRefused, Refusal, StorageUnavailable
from crazyrouter.files.executors import close_executors, get_executor, get_reader
from crazyrouter.files.names import new_name
from crazyrouter.files.store import StoredPicture, read_b64, store_picture, touch_pictures
from tests.files.samples import decode, make_png
from tests.files.test_labels import read_label

SIZE = (64, 48)


async def keep(raw: bytes | str, *, asked: tuple[int, int] = SIZE, slot: int = 2) -> StoredPicture:
    return await store_picture(raw, asked=asked, target=SIZE, generation_id="gen_9", slot=slot)


async def test_bytes_become_a_stored_picture(storage, settings):
    settings.CONTENT_PRODUCER = "the producer"

    picture = await keep(make_png())

    data = storage.read(picture.name)
    assert re.fullmatch(r"qwen_image_[a-z2-7]{32}\.png", picture.name)
    assert (picture.slot, picture.width, picture.height) == (2, 64, 48)
    assert (picture.bytes, picture.sha256) == (len(data), sha256(data).hexdigest())
    assert read_label(data)["ProduceID"] == read_label(data)["PropagateID"] == "gen_9-2"
    assert read_label(data)["ContentProducer"] == "the producer"


async def test_a_render_size_is_resampled(storage):
    picture = await keep(make_png((96, 72)), asked=(96, 72))

    assert (picture.width, picture.height) == SIZE
    assert decode(storage.read(picture.name)).size == SIZE


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "DATA:image/svg+xml;BASE64,"])
async def test_base64_text(storage, prefix):
    picture = await keep(prefix + base64.b64encode(make_png()).decode())

    assert decode(storage.read(picture.name)).size == SIZE


@pytest.mark.parametrize(
    "text",
    [
        "not base64!",
        "AAA",
        "iVBORw0KGgo=\n",
        " iVBORw0KGgo=",
        "iVBORw0KGgo=iVBO",
        "图",
        "data:text/html;base64,iVBORw0KGgo=",
        "data:image/png,iVBORw0KGgo=",
    ],
)
async def test_base64_is_strict(storage, text):
    with pytest.raises(PictureRefused) as caught:
        await keep(text)

    assert caught.value.reason is Refusal.NOT_BASE64
    assert list(storage.iterate()) == []


async def test_base64_is_limited_before_it_is_decoded(storage, monkeypatch):
    monkeypatch.setattr(store, "_MAX_TEXT", 100)

    with pytest.raises(PictureRefused) as caught:
        await keep("A" * 101)

    assert caught.value.reason is Refusal.TOO_LARGE


async def test_what_is_refused_is_not_stored(storage):
    with pytest.raises(PictureRefused):
        await keep(make_png((20, 20)))

    assert list(storage.iterate()) == []


async def test_a_broken_disk_surfaces(storage):
    storage.root.write_text("in the way")

    with pytest.raises(StorageUnavailable):
        await keep(make_png())


async def test_one_visit_to_the_executor(storage, monkeypatch):
    executor = get_executor()
    visits = []
    submit = executor.submit

    def count(*task: Any) -> Any:
        visits.append(task)
        return submit(*task)

    monkeypatch.setattr(executor, "submit", count)

    await keep(base64.b64encode(make_png()).decode())

    assert len(visits) == 1


async def test_many_at_once_stay_within_the_executor(storage):
    pictures = await asyncio.gather(*(keep(make_png(), slot=slot) for slot in range(40)))

    assert [picture.slot for picture in pictures] == list(range(40))
    assert len({picture.name for picture in pictures}) == 40
    assert sum(thread.name.startswith("files-bytes") for thread in threading.enumerate()) <= 4


async def test_stored_bytes_as_base64(storage):
    picture = await keep(make_png())

    text = await read_b64(picture.name)

    assert base64.b64decode(text, validate=True) == storage.read(picture.name)


async def test_missing_bytes_have_no_base64(storage):
    with pytest.raises(NotStored):
        await read_b64(new_name())


async def test_touching_says_what_is_gone(storage):
    picture = await keep(make_png())

    await touch_pictures([picture.name])
    storage.delete(picture.name)

    with pytest.raises(NotStored):
        await touch_pictures([picture.name])


def test_executors_start_afresh():
    first, reader = get_executor(), get_reader()
    assert (get_executor(), get_reader()) == (first, reader)
    assert first.submit(lambda: 3).result() == 3

    close_executors()

    assert get_executor() is not first
    assert get_executor().submit(lambda: 4).result() == 4
