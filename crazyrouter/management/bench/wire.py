"""As much HTTP/1.1 as the load and the fake upstream need: whole messages with a Content-Length on kept connections."""

from __future__ import annotations

_LENGTH = b"\r\ncontent-length:"


def take_message(buffer: bytearray) -> tuple[bytes, bytes] | None:
    """Cut the first whole message off the buffer: its head and its body. None while it is not complete."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(buffer[:end])
    total = end + 4 + read_length(head)
    if len(buffer) < total:
        return None
    body = bytes(buffer[end + 4 : total])
    del buffer[:total]
    return head, body


def read_length(head: bytes) -> int:
    """Raises ValueError for a length that is no number. Without one there is no body."""
    head = head.lower()
    at = head.find(_LENGTH)
    if at < 0:
        return 0
    start = at + len(_LENGTH)
    end = head.find(b"\r\n", start)
    return int(head[start : end if end >= 0 else len(head)])


def build_request(
    method: str, path: str, *, port: int, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()
) -> bytes:
    own = (("Host", f"127.0.0.1:{port}"), ("Content-Length", str(len(body))), *headers)
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in own)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def build_response(status: str, body: bytes, *, kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
