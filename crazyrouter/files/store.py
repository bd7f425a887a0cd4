"""Turn what an upstream sent into a stored picture, and give a stored picture back as base64."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from dataclasses import dataclass

from django.conf import settings

from crazyrouter.files.errors import PictureRefused, Refusal
from crazyrouter.files.executors import get_executor
from crazyrouter.files.names import new_name
from crazyrouter.files.pictures import MAX_BYTES, Label, measure, prepare
from crazyrouter.files.storage import get_storage

_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]{1,32};base64,", re.IGNORECASE)
_MAX_TEXT = (MAX_BYTES + 2) // 3 * 4 + 64


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """What a `StoredImage` row says of a picture whose bytes are durable. Sides in pixels, `bytes` a count."""

    name: str
    slot: int
    width: int
    height: int
    bytes: int
    sha256: str


async def store_picture(
    raw: bytes | str, *, asked: tuple[int, int], target: tuple[int, int], generation_id: str, slot: int
) -> StoredPicture:
    """Check, resample, label and write one picture, in one visit to the executor.

    `raw` is the file, or its base64 text (with or without `data:image/…;base64,`). `asked` is what the
    upstream was asked to render, `target` what the customer asked for. When this returns, the bytes
    survive a power cut; without a row they are swept after an hour, unless touched. Raises PictureRefused
    and StorageUnavailable.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(get_executor(), lambda: _store(raw, asked, target, generation_id, slot))


async def measure_picture(raw: bytes | str) -> tuple[int, int]:
    """The size of a picture that is not kept: the file, or its base64 text. Raises PictureRefused."""
    return await asyncio.get_running_loop().run_in_executor(get_executor(), _measure, raw)


async def touch_pictures(names: list[str]) -> None:
    """Keep pictures whose rows are still to be written from the sweep for another hour.

    Raises NotStored if one is gone: it must not be charged.
    """
    await asyncio.get_running_loop().run_in_executor(get_executor(), _touch, names)


async def read_b64(name: str) -> bytes:
    """The base64 text of a stored picture, as ASCII bytes. Raises NotStored and StorageUnavailable."""
    return await asyncio.get_running_loop().run_in_executor(get_executor(), _read_b64, name)


def _store(
    raw: bytes | str, asked: tuple[int, int], target: tuple[int, int], generation_id: str, slot: int
) -> StoredPicture:
    data = _decode_text(raw) if isinstance(raw, str) else raw
    label = Label(producer=settings.CONTENT_PRODUCER, produce_id=f"{generation_id}-{slot}")
    picture = prepare(data, asked=asked, target=target, label=label)
    name = new_name()
    get_storage().write(name, picture.data)
    return StoredPicture(
        name=name,
        slot=slot,
        width=picture.width,
        height=picture.height,
        bytes=len(picture.data),
        sha256=picture.sha256,
    )


def _decode_text(text: str) -> bytes:
    if len(text) > _MAX_TEXT:
        raise PictureRefused(Refusal.TOO_LARGE, f"{len(text)} characters of base64")
    prefix = _DATA_URI.match(text)
    try:
        return base64.b64decode(text[prefix.end() :] if prefix else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureRefused(Refusal.NOT_BASE64, str(error)) from error


def _measure(raw: bytes | str) -> tuple[int, int]:
    return measure(_decode_text(raw) if isinstance(raw, str) else raw)


def _touch(names: list[str]) -> None:
    storage = get_storage()
    for name in names:
        storage.touch(name)


def _read_b64(name: str) -> bytes:
    return base64.b64encode(get_storage().read(name))
