"""Asking a process of our own whether it answers."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit


def answers(url: str, *, key: str = "", timeout_s: float = 2.0) -> bool:
    """Whether it says 200. Straight to the address: no proxy of the environment comes between."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout_s)
    try:
        connection.request("GET", parts.path, headers={"Authorization": f"Bearer {key}"} if key else {})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
