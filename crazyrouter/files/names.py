"""Names of stored pictures: whoever knows one may fetch the picture, so none can be guessed."""

from __future__ import annotations

import base64
import re
import secrets

from crazyrouter.files.errors import InvalidName

#: What `new_name` makes, and all that ever reaches the disk: no separator, no dot but the last.
NAME = re.compile(r"qwen_image_([a-z2-7]{26,64})\.png")
#: 20 bytes are 32 base32 characters without padding: 160 bits.
RANDOM_BYTES = 20
SHARD_LENGTH = 2


def new_name() -> str:
    """A fresh name like `qwen_image_<32 characters>.png`."""
    return f"qwen_image_{base64.b32encode(secrets.token_bytes(RANDOM_BYTES)).decode('ascii').lower()}.png"


def is_name(name: str) -> bool:
    return NAME.fullmatch(name) is not None


def shard_of(name: str) -> str:
    """The sub-folder of a name, from its random part. Raises InvalidName."""
    match = NAME.fullmatch(name)
    if match is None:
        raise InvalidName("not the name of a stored picture")
    return match[1][:SHARD_LENGTH]
