"""The examples of a public page: taken from its HTML, run in order, and compared with what the page says of them.

A code block is `<pre><code class="language-X">`. X says what becomes of it:

- `sh` is run by bash with `-euo pipefail`; `python` by this Python, or with `data-runs="litellm"` or `"langchain"` by
  that of the clients' environment; `js` by Node as an ES module; `http` is sent over a socket as it stands.
- `json` is an answer: what the nearest example before it printed or got has its shape (`tests.pages.shapes`).
- `text` with `data-shows="headers"` is the head of an answer: the nearest one before it that was seen has these.

`data-fails="CODE"` marks an example that ends in that error; every other must succeed. Anything else on a page is a
fault of the page: nothing that is shown goes unchecked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

from tests.pages.answers import Answer
from tests.pages.programs import RUNNERS, Workshop
from tests.pages.shapes import compare_headers, compare_text

RUN_BY = {"", "litellm", "langchain"}


@dataclass(frozen=True, slots=True)
class Example:
    language: str
    text: str
    line: int
    #: The library whose environment it runs in, for Python.
    runs: str = ""
    #: The code of the error that it is to end in.
    fails: str = ""
    shows: str = ""


class _Blocks(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.examples: list[Example] = []
        self._pre_at: int | None = None
        self._attributes: dict[str, str] = {}
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "pre":
            self._pre_at, self._attributes, self._text = self.getpos()[0], {}, []
        elif tag == "code" and self._pre_at is not None:
            self._attributes = {name: value or "" for name, value in attrs}

    def handle_data(self, data: str) -> None:
        self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre" and self._pre_at is not None:
            self.examples.append(make_example("".join(self._text), self._pre_at, self._attributes))
            self._pre_at = None


def make_example(text: str, line: int, attributes: dict[str, str]) -> Example:
    names = [name for name in attributes.get("class", "").split() if name.startswith("language-")]
    return Example(
        language=names[0].removeprefix("language-") if names else "",
        text=text.strip("\n"),
        line=line,
        runs=attributes.get("data-runs", ""),
        fails=attributes.get("data-fails", ""),
        shows=attributes.get("data-shows", ""),
    )


def read_examples(html: str) -> list[Example]:
    """Every code block that shows something; an empty one is filled by a script and tested in a browser."""
    blocks = _Blocks()
    blocks.feed(html)
    blocks.close()
    return [example for example in blocks.examples if example.text.strip()]


@dataclass
class PageRun:
    """One page's examples in one folder. `faults` says what does not hold, `ran` the languages that were run."""

    workshop: Workshop
    faults: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    #: The nearest example's, of those that had any.
    document: object = None
    head: Answer | None = None

    def run(self, examples: list[Example]) -> None:
        for number, example in enumerate(examples, start=1):
            name = f"example {number} ({example.language or 'no language'}, line {example.line})"
            self.faults += [f"{name}: {fault}" for fault in self.check(example)]
        self.faults += find_false_pictures(self.workshop.folder)

    def check(self, example: Example) -> list[str]:
        if example.runs not in RUN_BY or (example.runs and example.language != "python"):
            return [f"nothing runs {example.language} with data-runs={example.runs!r}"]
        if example.language in RUNNERS:
            return self.execute(example)
        if example.language == "json":
            return compare_text(example.text, self.document)
        if (example.language, example.shows) == ("text", "headers"):
            return compare_headers(example.text, self.head)
        return [f"nobody knows how to check this: {example.text[:60]!r}"]

    def execute(self, example: Example) -> list[str]:
        answer = RUNNERS[example.language](self.workshop, example.text, example.runs)
        if answer is None:  # its program is missing here, and need not be there
            return []
        self.ran.append(example.language)
        if answer.documents:
            self.document = answer.documents[-1]
        if answer.headers:
            self.head = answer
        return judge_failure(answer, example.fails) if example.fails else judge_success(answer)


def judge_success(answer: Answer) -> list[str]:
    if answer.exit_code != 0:
        return [f"exit code {answer.exit_code}: {answer.output[-300:]}{answer.errors[-1500:]}"]
    if answer.status >= 400:
        return [f"answered {answer.status}: {answer.output[-300:]}"]
    return [f"ended in the error {code}, and is not marked so" for code in answer.read_codes()]


def judge_failure(answer: Answer, code: str) -> list[str]:
    """What prints the error itself need not print it as JSON."""
    if code in answer.read_codes() or (answer.exit_code == 0 and answer.told and code in answer.output):
        return []
    return [f"should end in the error {code}, but: {answer.output[-300:]}{answer.errors[-1500:]}"]


def find_false_pictures(folder: Path) -> list[str]:
    return [f"{path.name} is not a PNG" for path in sorted(folder.glob("**/*.png")) if not is_png(path)]


def is_png(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture.format == "PNG"
    except OSError:
        return False
