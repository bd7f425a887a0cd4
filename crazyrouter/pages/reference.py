"""The API reference: the checked-in OpenAPI description as the page shows it."""

from __future__ import annotations

from typing import Any


def read_reference() -> Any:
    return None
