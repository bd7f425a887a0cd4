"""What can go wrong with the files of delivered pictures.

FilesError
├── PictureRefused          the bytes are no picture that may be delivered; `reason` says why
└── StorageError
    ├── InvalidName         not a name that we hand out; the disk was not touched
    ├── NotStored           nothing is stored under this name
    └── StorageUnavailable  the disk refused: full, read-only, broken
"""

from __future__ import annotations

from enum import StrEnum


class Refusal(StrEnum):
    """Why bytes from upstream are not delivered; a closed set, safe to show an operator."""

    NOT_A_PICTURE = "not_a_picture"  # empty, HTML, a format outside the allow list
    NOT_BASE64 = "not_base64"  # an inline picture whose text does not decode
    TOO_LARGE = "too_large"  # more bytes than a picture may have
    TOO_MANY_PIXELS = "too_many_pixels"
    DAMAGED = "damaged"  # truncated, wrong checksum, or it does not decode
    WRONG_ASPECT = "wrong_aspect"  # more than 2 % off the aspect that was asked for
    TOO_SMALL = "too_small"  # 32 pixels or more short on a side


class FilesError(Exception):
    """Anything of this app."""


class PictureRefused(FilesError):
    """`detail` speaks of sizes and structure only, never of content."""

    def __init__(self, reason: Refusal, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail


class StorageError(FilesError):
    """A stored file could not be written, read or found."""


class InvalidName(StorageError):
    """The name is not of the form that `names.new_name` makes."""


class NotStored(StorageError):
    """There are no bytes under this name."""


class StorageUnavailable(StorageError):
    """The medium failed; what was asked may work later."""
