"""What an example printed or got: text in which heads of HTTP answers and JSON documents are found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Answer:
    """`headers` (lower case) and `status` of the last head that was seen; status 0 where there was none."""

    output: str
    errors: str = ""
    exit_code: int = 0
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    #: JSON objects and arrays, in order.
    documents: list[Any] = field(default_factory=list)
    #: A program said in its own words what came, rather than showing the answer as it was.
    told: bool = False

    def read_codes(self) -> list[str]:
        """The codes of OpenAI's error envelopes among the documents."""
        errors = [document.get("error") for document in self.documents if isinstance(document, dict)]
        return [str(error.get("code")) for error in errors if isinstance(error, dict)]


def read_output(output: str, *, errors: str = "", exit_code: int = 0, told: bool = False) -> Answer:
    """`curl -i` puts heads before documents; other lines are words."""
    status, headers, documents = 0, dict[str, str](), []
    position = 0
    while position < len(output):
        if output.startswith("HTTP/", position):
            head, position = cut_head(output, position)
            status, headers = read_head(head)
        elif output[position] in "{[":
            document, position = cut_document(output, position)
            documents += document
        else:
            position = end_line(output, position) if not output[position].isspace() else position + 1
    return Answer(output, errors, exit_code, status, headers, documents, told)


def cut_head(output: str, start: int) -> tuple[str, int]:
    text = output[start:].replace("\r\n", "\n")
    head = text.partition("\n\n")[0]
    # Counted in the original: a line may have ended in CRLF.
    position = start
    for _ in range(head.count("\n") + 2):
        position = end_line(output, position)
    return head, position


def read_head(head: str) -> tuple[int, dict[str, str]]:
    first, *rest = head.splitlines()
    pairs = (line.partition(":") for line in rest)
    return int(first.split()[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}


def cut_document(output: str, start: int) -> tuple[list[Any], int]:
    """At most one document; what is none is words up to the end of the line."""
    try:
        document, end = DECODER.raw_decode(output, start)
    except ValueError:
        return [], end_line(output, start)
    return [document], end


def end_line(output: str, start: int) -> int:
    end = output.find("\n", start)
    return len(output) if end < 0 else end + 1
