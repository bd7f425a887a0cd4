"""The harness that runs the documented examples finds what is wrong with them."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import tools
from tests.pages import programs
from tests.pages.answers import read_output
from tests.pages.examples import Example, PageRun, read_examples
from tests.pages.programs import Workshop
from tests.pages.shapes import compare, compare_headers, compare_text

PICTURE = BytesIO()
Image.new("RGB", (4, 4)).save(PICTURE, "PNG")

GENERATION = {"id": "gen_1abc", "object": "image.generation", "n": 2, "created": 1_700_000_000, "error": None}
REFUSAL = {"error": {"message": "No.", "type": "invalid_request_error", "param": "size", "code": "invalid_value"}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/picture":
            self.reply(200, PICTURE.getvalue())
        elif self.path == "/bad":
            self.reply(400, json.dumps(REFUSAL).encode())
        else:
            self.reply(200, json.dumps(GENERATION).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        seen = {"key": self.headers["Authorization"], "body": json.loads(body)}
        self.reply(200, json.dumps(seen).encode())

    def reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("x-request-id", "req_77")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


RunBlocks = Callable[..., PageRun]


@pytest.fixture
def run(base_url: str, tmp_path: Path) -> RunBlocks:
    """Runs the blocks of a page: (language, text, attributes)."""
    folders = [tmp_path / "files", tmp_path / "programs"]
    for folder in folders:
        folder.mkdir()

    def run_blocks(*blocks: tuple[str, str] | tuple[str, str, str]) -> PageRun:
        html = "".join(write_block(*block) for block in blocks).replace("BASE", base_url)
        page = PageRun(Workshop(folders[0], folders[1], base_url, "sk-cr-secret"))
        page.run(read_examples(html))
        return page

    return run_blocks


def write_block(language: str, text: str, attributes: str = "") -> str:
    return f'<pre tabindex="0"><code class="language-{language}"{attributes}>{escape(text)}</code></pre>\n'


# --- what is taken from a page ---


def test_blocks_are_read_as_they_are_shown() -> None:
    html = (
        '<main>\n<p><code>inline</code></p><pre class="x"><code data-runs="litellm" class="a language-python">\n'
        'print(<span>&quot;1 &lt; 2&quot;</span>)\n</code></pre><pre><code class="language-sh" data-fails="x">a\n\nb'
        "</code></pre>\n<pre></pre><pre>bare</pre></main>"
    )
    assert read_examples(html) == [
        Example("python", 'print("1 < 2")', 2, runs="litellm"),
        Example("sh", "a\n\nb", 4, fails="x"),
        Example("", "bare", 7),
    ]


# --- what is run ---


def test_right_examples_have_no_fault(run: RunBlocks) -> None:
    page = run(
        ("sh", 'echo "asking"\ncurl -sS -i BASE/ -H "Authorization: Bearer $CRAZYROUTER_API_KEY"'),
        ("json", json.dumps(GENERATION | {"id": "gen_other", "created": 1_764_000_000})),
        ("text", "HTTP/1.1 200 OK\nx-request-id: req_01", ' data-shows="headers"'),
        ("sh", "curl -sS -o one.png BASE/picture"),
        ("python", 'import os, pathlib\nprint(pathlib.Path("one.png").exists(), os.environ["CRAZYROUTER_API_KEY"])'),
        ("sh", "curl -sS BASE/bad", ' data-fails="invalid_value"'),
        ("json", json.dumps(REFUSAL)),
        ("python", 'print("it said invalid_value")', ' data-fails="invalid_value"'),
    )
    assert page.faults == []
    assert page.ran == ["sh", "sh", "python", "sh", "python"]


def test_a_raw_request_is_sent_as_it_stands(run: RunBlocks, base_url: str) -> None:
    host = base_url.removeprefix("http://")
    head = f"POST / HTTP/1.1\nHost: {host}\nAuthorization: Bearer $CRAZYROUTER_API_KEY\nContent-Length: "
    page = run(
        ("http", head + '17\n\n{"a":\n  "猫猫"}'),
        ("json", '{"key": "Bearer sk-cr-other", "body": {"a": "猫猫"}}'),
        ("text", "x-request-id: req_1", ' data-shows="headers"'),
    )
    assert page.faults == []
    assert page.ran == ["http"]
    wrong = run(
        ("http", f"{head}3\n\n{{}}"),
        ("http", head.replace(host, "elsewhere") + "2\n\n{}"),
        ("http", f"GET /bad HTTP/1.1\nHost: {host}"),
    )
    assert [fault.partition(": ")[2].partition(": HTTP")[0] for fault in wrong.faults] == [
        "exit code -1: Content-Length is 3, but the body has 2 bytes",
        f"exit code -1: Host is elsewhere, not {host}",
        "answered 400",
    ]


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        (("sh", "false\necho fine"), "exit code 1: "),
        (("sh", "echo $UNHEARD_OF"), "exit code 1: bash: line 1: UNHEARD_OF: unbound variable\n"),
        (("sh", "curl -sS BASE/bad"), "ended in the error invalid_value, and is not marked so"),
        (("sh", "curl -sSi -o /dev/null -D - BASE/bad"), "answered 400: HTTP/1.1 400 Bad Request"),
        (("sh", "curl -sS BASE/", ' data-fails="invalid_value"'), "should end in the error invalid_value, but: {"),
        (("sh", "echo invalid_value", ' data-fails="invalid_value"'), "should end in the error invalid_value, but: "),
        (("python", "import nothing_like_it"), "exit code 1: Traceback"),
        (("python", "print('other')", ' data-fails="teapot"'), "should end in the error teapot, but: other"),
        (("python", "print()", ' data-runs="cobol"'), "nothing runs python with data-runs='cobol'"),
        (("ruby", "puts 1"), "nobody knows how to check this: 'puts 1'"),
        (("text", "words"), "nobody knows how to check this: 'words'"),
        (("text", "x-other: 1", ' data-shows="headers"'), "no example before it showed the headers of its answer"),
        (("json", "{}"), "no example before it printed a JSON answer"),
    ],
)
def test_a_wrong_example_is_a_fault(run: RunBlocks, block: tuple[str, str], fault: str) -> None:
    faults = run(block).faults
    assert len(faults) == 1
    assert faults[0].startswith(f"example 1 ({block[0]}, line 1): {fault}")


def test_a_wrong_answer_is_a_fault(run: RunBlocks) -> None:
    page = run(("sh", "curl -sS BASE/"), ("json", json.dumps(GENERATION | {"object": "image"})))
    assert page.faults == ["example 2 (json, line 2): answer.object is 'image.generation', shown as 'image'"]


def test_a_file_that_is_no_picture_is_a_fault(run: RunBlocks) -> None:
    assert run(("sh", "curl -sS -o cat.png BASE/; mkdir deep; head -c 60 /dev/zero > deep/dog.png")).faults == [
        "cat.png is not a PNG",
        "dog.png is not a PNG",
    ]


def test_node_runs_a_module(run: RunBlocks) -> None:
    tools.find_node()
    page = run(
        ("js", "const answer = await fetch('BASE/');\nconsole.log(JSON.stringify(await answer.json()));"),
        ("json", json.dumps(GENERATION)),
        ("js", "throw new Error('no')"),
    )
    assert [fault.partition(":")[0] for fault in page.faults] == ["example 3 (js, line 4)"]
    assert page.ran == ["js", "js"]


def test_a_library_runs_in_its_own_environment(run: RunBlocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find_clients", lambda: sys.executable)
    assert run(("python", "print(1)", ' data-runs="langchain"')).ran == ["python"]


def test_a_shell_has_the_same_python(run: RunBlocks) -> None:
    assert run(("sh", "export SHOWN=1\npython -c \"import openai, os; assert os.environ['SHOWN']\"")).faults == []


def test_nothing_is_installed(run: RunBlocks) -> None:
    assert run(("sh", "pip install --upgrade openai\npip install litellm langchain-community")).faults == []
    wrong = run(("sh", "pip install openai opneai"), ("sh", "pip uninstall openai"))
    assert wrong.faults == [
        "example 1 (sh, line 1): exit code 1: the examples are not run with opneai\n",
        "example 2 (sh, line 2): exit code 1: only pip install is known here, not pip uninstall\n",
    ]


def test_what_may_be_missing_is_left_out_alone(run: RunBlocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find_node", lambda: pytest.skip("no node"))
    page = run(("js", "nonsense("), ("sh", "echo 1"))
    assert (page.faults, page.ran) == ([], ["sh"])


def test_a_program_that_hangs_is_ended(run: RunBlocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "LONGEST_S", 0.2)
    assert run(("sh", "sleep 20")).faults == ["example 1 (sh, line 1): exit code -1: it did not end within 0.2 s"]


# --- what is read in an output ---


def test_documents_and_heads_are_found_among_words() -> None:
    answer = read_output(
        'Asking [twice]\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nRetry-After: 1\r\n\r\n{"a": 1}\n'
        '[\'no\', \'json\']\n[1]{\n  "error": {"code": "x"}}\nEnd'
    )
    assert (answer.status, answer.headers) == (202, {"retry-after": "1"})
    assert answer.documents == [{"a": 1}, [1], {"error": {"code": "x"}}]
    assert answer.read_codes() == ["x"]


# --- what is compared ---


@pytest.mark.parametrize(
    ("shown", "real"),
    [
        ("gen_0a", "gen_9z"),
        ("http://here/files/a.png", "http://here/files/b.png"),
        ("Ask for gen_1 until 2026-01-02T03:04:05Z.", "Ask for gen_2 until 2027-01-02T03:04:05.5+08:00."),
        ("99.50", "0.10"),
        ("iVBORw0KGgo…", "iVBORw0KGgoAAAANS"),
        (1_700_000_000, 1_800_000_000),
        ([1, 3], [1, 2, 3]),
        ([{"a": "x", "b": 1}], [{"a": "y"}, {"a": "x", "b": 1}]),
        ({"images": 1}, {"images": 3}),
        (None, None),
    ],
)
def test_alike(shown: object, real: object) -> None:
    assert compare(shown, real, "it") == []


@pytest.mark.parametrize(
    ("shown", "real", "faults"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, ["it.b is shown, and is not there", "it.c is there, and not shown"]),
        ({"a": {"b": [1]}}, {"a": {"b": ["1"]}}, ["it.a.b[0] is a string, shown as an integer"]),
        (None, 1, ["it is an integer, shown as null"]),
        ("x", None, ["it is null, shown as a string"]),
        (1, True, ["it is a boolean, shown as an integer"]),
        (True, False, ["it is False, shown as True"]),
        (1, 1.5, ["it is a number, shown as an integer"]),
        (4, 6, ["it is 6, shown as 4"]),
        (5, 1_700_000_000, ["it is 1700000000, shown as 5"]),
        ("CNY", "USD", ["it is 'USD', shown as 'CNY'"]),
        ("gen_1", "req_1", ["it is 'req_1', shown as 'gen_1'"]),
        ("http://here/files/a", "http://here/docs/a", ["it is 'http://here/docs/a', shown as 'http://here/files/a'"]),
        ("0.50", "half", ["it is 'half', shown as '0.50'"]),
        ("iVBOR…", "/9j/", ["it is '/9j/', shown as 'iVBOR…'"]),
        ([], [1], ["it has 1 items, 0 are shown"]),
        ([1], [], ["it has 0 items, 1 are shown"]),
        ([1, 2, 3], [1, 2], ["it has 2 items, 3 are shown"]),
        (["a"], ["b", "c"], ["it[0] is 'b', shown as 'a'"]),
        ({}, [], ["it is an array, shown as an object"]),
    ],
)
def test_not_alike(shown: object, real: object, faults: list[str]) -> None:
    assert compare(shown, real, "it") == faults


def test_what_is_shown_must_be_json() -> None:
    assert compare_text("{…}", {})[0].startswith("it is not JSON: ")


def test_headers_that_are_shown_must_be_there() -> None:
    answer = read_output("HTTP/1.1 429 Too Many Requests\nRetry-After: 10\nx-should-retry: false\n\n")
    assert compare_headers("Retry-After: 3\nX-Should-Retry: false", answer) == []
    assert compare_headers("HTTP/1.1 200 OK\nRetry-After: soon\nx-request-id: req_1", answer) == [
        "the status is 429, not 200",
        "retry-after is '10', shown as 'soon'",
        "there is no header x-request-id",
    ]
