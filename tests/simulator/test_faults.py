"""Everything that can be made to go wrong, seen from the wire."""

from __future__ import annotations

import io
import time
import zlib
from collections.abc import Callable

import httpx
import orjson
import pytest
from PIL import Image

from providers.simulator.errors import KNOWN
from tests.simulator.conftest import Submit
from tests.simulator.running import RunningSimulator


@pytest.fixture(params=["submit", "generate", "resell"])
def order(request: pytest.FixtureRequest) -> Submit:
    """An order by each of the three protocols."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def poll(submit: Submit, client: httpx.Client) -> Callable[..., httpx.Response]:
    """Submit a prompt and ask once for its task."""

    def call(prompt: str, headers: dict | None = None, **parameters) -> httpx.Response:
        task_id = submit(prompt, headers=headers, **parameters).json()["output"]["task_id"]
        return client.get(f"/api/v1/tasks/{task_id}")

    return call


@pytest.fixture
def fetch(generate: Submit, bare: httpx.Client) -> Callable[[str], httpx.Response]:
    """Have a picture made from a prompt, and download it."""

    def call(prompt: str) -> httpx.Response:
        return bare.get(generate(prompt).json()["output"]["choices"][0]["message"]["content"][0]["image"])

    return call


def read_code(answer: httpx.Response) -> str:
    body = answer.json()
    return body["error"]["code"] if "error" in body else body["code"]


@pytest.mark.parametrize(("code", "status"), [(code, row[0]) for code, row in KNOWN.items()])
def test_every_row_of_the_error_table(simulator: RunningSimulator, generate: Submit, code: str, status: int) -> None:
    answer = generate(f"a cat [[sim: error code={code}]]")
    assert (answer.status_code, read_code(answer), answer.json()["message"]) == (status, code, KNOWN[code][1])
    assert simulator.totals()["images"] == 0


@pytest.mark.parametrize("code", ["DataInspectionFailed", "InternalError.Timeout", "Throttling", "Arrearage"])
def test_every_code_can_end_a_task(poll: Callable, code: str) -> None:
    answer = poll(f"a cat [[sim: failed code={code}]]")
    assert answer.status_code == 200
    output = answer.json()["output"]
    assert (output["task_status"], output["code"], output["message"]) == ("FAILED", code, KNOWN[code][1])


def test_refused_before_acceptance(simulator: RunningSimulator, order: Submit) -> None:
    answer = order("a cat [[sim: error status=503 code=ServiceUnavailable retry_after=7]]")
    assert (answer.status_code, read_code(answer)) == (503, "ServiceUnavailable")
    assert answer.headers["retry-after"] == "7"
    assert (simulator.totals()["refused"], simulator.totals()["images"]) == (1, 0)


def test_throttled(order: Submit) -> None:
    answer = order("a cat [[sim: throttle code=Throttling.BurstRate]]")
    assert (answer.status_code, read_code(answer)) == (429, "Throttling.BurstRate")


def test_the_prompt_is_refused(simulator: RunningSimulator, order: Submit) -> None:
    answer = order("a cat [[sim: moderation_input]]")
    assert (answer.status_code, read_code(answer)) == (400, "DataInspectionFailed")
    assert "Input data may contain inappropriate content." in answer.text
    assert simulator.totals()["images"] == 0


@pytest.mark.parametrize("directive", ["moderation_input late=true", "moderation_output", "partial ok=0"])
def test_a_task_ends_in_moderation(simulator: RunningSimulator, poll: Callable, directive: str) -> None:
    output = poll(f"a cat [[sim: {directive}]]").json()["output"]
    assert (output["task_status"], output["code"]) == ("FAILED", "DataInspectionFailed")
    assert output["message"].startswith("Input" if "input" in directive else "Output")
    assert simulator.totals()["images"] == 0


@pytest.mark.parametrize("directive", ["moderation_output", "partial ok=0", "failed code=DataInspectionFailed"])
def test_every_picture_is_refused(simulator: RunningSimulator, generate: Submit, directive: str) -> None:
    answer = generate(f"a cat [[sim: {directive}]]", n=3)
    assert (answer.status_code, read_code(answer)) == (400, "DataInspectionFailed")
    assert (simulator.totals()["refused"], simulator.totals()["images"]) == (1, 0)


def test_k_of_n(simulator: RunningSimulator, generate: Submit) -> None:
    body = generate("a cat [[sim: partial ok=2]]", n=5).json()
    assert len(body["output"]["choices"][0]["message"]["content"]) == 2
    assert body["usage"]["image_count"] == 2
    assert simulator.totals()["images"] == 2


def test_a_page_instead_of_json(order: Submit) -> None:
    answer = order("a cat [[sim: html]]")
    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html")
    assert answer.text.startswith("<html>")


@pytest.mark.parametrize("status", [200, 504])
def test_an_empty_body(order: Submit, status: int) -> None:
    answer = order(f"a cat [[sim: empty status={status}]]")
    assert (answer.status_code, answer.content) == (status, b"")


def test_half_of_the_json(simulator: RunningSimulator, order: Submit) -> None:
    answer = order("a cat [[sim: truncated]]")
    assert answer.status_code == 200
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(answer.content)
    assert simulator.totals()["images"] == 1


def test_a_connection_that_closes_half_way(simulator: RunningSimulator, order: Submit) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        order("a cat [[sim: truncated how=body]]")
    assert simulator.totals()["images"] == 1


def test_200_with_a_code(order: Submit) -> None:
    answer = order("a cat [[sim: code200 code=InternalError]]")
    assert (answer.status_code, read_code(answer)) == (200, "InternalError")


@pytest.mark.parametrize(("billed", "images"), [("", 0), ("billed=true", 1)])
@pytest.mark.parametrize("kind", ["reset", "hang"])
def test_no_answer(
    simulator: RunningSimulator, order: Submit, monkeypatch: pytest.MonkeyPatch, kind: str, billed: str, images: int
) -> None:
    with pytest.raises(httpx.ReadTimeout if kind == "hang" else httpx.ReadError):
        order(f"a cat [[sim: {kind} {billed}]]", timeout=0.2)
    assert simulator.totals()["images"] == images
    (entry, *_) = simulator.bill()["entries"]
    assert (entry["accepted"], entry["status"], entry["code"]) == ((True, 200, None) if billed else (False, None, kind))


def test_a_slow_answer(order: Submit) -> None:
    began = time.monotonic()
    assert order("a cat [[sim: drip seconds=0.2]]").status_code == 200
    assert time.monotonic() - began >= 0.2


def test_latency_of_one_call(generate: Submit) -> None:
    began = time.monotonic()
    assert generate("a cat [[sim: latency seconds=0.2]]").status_code == 200
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_a_task_without_end(simulator: RunningSimulator, submit: Submit, client: httpx.Client, status: str) -> None:
    task_id = submit(f"a cat [[sim: never_ends status={status}]]").json()["output"]["task_id"]
    simulator.advance(3 * 3600 - 10)
    assert client.get(f"/api/v1/tasks/{task_id}").json()["output"]["task_status"] == status
    simulator.advance(20)
    output = client.get(f"/api/v1/tasks/{task_id}").json()["output"]
    assert (output["task_status"], output["code"]) == ("FAILED", "InternalError.Timeout")


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_polls_that_fail(submit: Submit, client: httpx.Client, status: int) -> None:
    prompt = f"a cat [[sim: error at=poll status={status} times=2]]"
    path = f"/api/v1/tasks/{submit(prompt).json()['output']['task_id']}"
    assert [client.get(path).status_code for _ in range(3)] == [status, status, 200]


@pytest.mark.parametrize(
    ("directive", "status", "body"),
    [("poll_throttle", 429, b"{"), ("html at=poll", 502, b"<"), ("empty at=poll", 200, b"")],
)
def test_other_polls_that_fail(poll: Callable, directive: str, status: int, body: bytes) -> None:
    answer = poll(f"a cat [[sim: {directive}]]")
    assert (answer.status_code, answer.content[:1]) == (status, body)


def test_a_poll_by_its_own_header(submit: Submit, client: httpx.Client) -> None:
    path = f"/api/v1/tasks/{submit().json()['output']['task_id']}"
    answer = client.get(path, headers={"X-Sim-Fault": '{"name": "error", "code": "SystemError"}'})
    assert (answer.status_code, read_code(answer)) == (500, "SystemError")


@pytest.mark.parametrize("value", ["SUSPENDED", "UNKNOWN"])
def test_a_status_of_any_name(poll: Callable, value: str) -> None:
    assert poll(f"a cat [[sim: status value={value}]]").json()["output"]["task_status"] == value


def test_succeeded_with_nothing(simulator: RunningSimulator, poll: Callable) -> None:
    body = poll("a cat [[sim: no_results]]").json()
    assert (body["output"]["task_status"], body["output"]["results"]) == ("SUCCEEDED", [])
    assert simulator.totals()["images"] == 0
    assert "results" not in poll("a cat [[sim: no_data]]").json()["output"]


def test_sync_success_with_nothing(generate: Submit) -> None:
    empty = generate("a cat [[sim: no_results]]").json()
    assert empty["output"]["choices"][0]["message"]["content"] == []
    assert generate("a cat [[sim: no_data]]").json()["output"] == {}


def test_a_count_that_lies(simulator: RunningSimulator, generate: Submit, poll: Callable) -> None:
    body = generate("a cat [[sim: image_count count=1]]", n=3).json()
    assert len(body["output"]["choices"][0]["message"]["content"]) == 3
    assert body["usage"]["image_count"] == 1
    assert poll("a cat [[sim: image_count count=5]]").json()["usage"] == {"image_count": 5}
    assert simulator.totals()["images"] == 4


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (404, "NoSuchKey"), (500, "InternalError")])
def test_a_link_that_fails(fetch: Callable, status: int, code: str) -> None:
    answer = fetch(f"a cat [[sim: image_error status={status}]]")
    assert answer.status_code == status
    assert f"<Code>{code}</Code>" in answer.text


def test_a_link_that_fails_once(generate: Submit, bare: httpx.Client) -> None:
    body = generate("a cat [[sim: image_error status=503 times=1]]").json()
    link = body["output"]["choices"][0]["message"]["content"][0]["image"]
    assert [bare.get(link).status_code for _ in range(2)] == [503, 200]


def test_links_elsewhere(generate: Submit, fetch: Callable) -> None:
    body = generate("a cat [[sim: image_url url=http://169.254.169.254/latest]]").json()
    assert body["output"]["choices"][0]["message"]["content"] == [{"image": "http://169.254.169.254/latest"}]
    answer = fetch("a cat [[sim: image_redirect location=http://127.0.0.1:1/secret]]")
    assert (answer.status_code, answer.headers["location"]) == (302, "http://127.0.0.1:1/secret")


def test_a_slow_picture(fetch: Callable) -> None:
    began = time.monotonic()
    assert fetch("a cat [[sim: image_slow seconds=0.2]]").status_code == 200
    assert time.monotonic() - began >= 0.2


def test_a_picture_that_ends_too_early(fetch: Callable) -> None:
    answer = fetch("a cat [[sim: image_broken how=truncated]]")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(answer.content)).load()


def test_a_picture_with_a_wrong_checksum(fetch: Callable) -> None:
    picture = fetch("a cat [[sim: image_broken how=crc]]").content
    kind_and_pixels = picture[picture.index(b"IDAT") : -16]
    assert zlib.crc32(kind_and_pixels) == int.from_bytes(picture[-16:-12]) ^ 0xFFFFFFFF


@pytest.mark.parametrize(("how", "start", "kind"), [("html", b"<html>", "text/html"), ("empty", b"", "image/png")])
def test_something_else_than_a_picture(fetch: Callable, how: str, start: bytes, kind: str) -> None:
    answer = fetch(f"a cat [[sim: image_broken how={how}]]")
    assert (answer.content[:6], answer.headers["content-type"]) == (start, kind)


def test_too_many_bytes(fetch: Callable) -> None:
    announced = fetch("a cat [[sim: image_oversized bytes=3000000]]")
    assert (len(announced.content), announced.headers["content-length"]) == (3_000_000, "3000000")
    chunked = fetch("a cat [[sim: image_oversized bytes=3000000 chunked=true]]")
    assert (len(chunked.content), "content-length" in chunked.headers) == (3_000_000, False)


def test_another_size(fetch: Callable) -> None:
    answer = fetch("a cat [[sim: image_size width=520]]")
    assert Image.open(io.BytesIO(answer.content)).size == (520, 512)


@pytest.mark.parametrize("kind", ["jpeg", "webp", "gif"])
def test_another_format(fetch: Callable, kind: str) -> None:
    answer = fetch(f"a cat [[sim: image_format format={kind}]]")
    assert answer.headers["content-type"] == f"image/{kind}"
    assert Image.open(io.BytesIO(answer.content)).format == kind.upper()


def test_a_picture_whose_connection_breaks(fetch: Callable) -> None:
    with pytest.raises(httpx.ReadError):
        fetch("a cat [[sim: reset at=image]]")
    with pytest.raises(httpx.RemoteProtocolError):
        fetch("a cat [[sim: truncated at=image how=body]]")


@pytest.mark.parametrize(
    "header", ['{"name": "throttle"}', '[{"name": "latency", "seconds": 0}, {"name": "throttle"}]']
)
def test_a_header_is_a_directive(order: Submit, header: str) -> None:
    assert order(headers={"X-Sim-Fault": header}).status_code == 429


@pytest.mark.parametrize(
    ("prompt", "header"),
    [
        ("[[sim: erorr]]", ""),
        ("[[sim: error staus=500]]", ""),
        ("[[sim: error status=many]]", ""),
        ("[[sim: error at=noon]]", ""),
        ("[[sim: drip slowly]]", ""),
        ("[[sim: image_broken how=badly]]", ""),
        ("[[sim: error message='open]]", ""),
        ("[[sim:]]", ""),
        ("a cat", "{"),
        ("a cat", "5"),
    ],
)
def test_a_misspelt_directive_is_told(order: Submit, prompt: str, header: str) -> None:
    answer = order(prompt, headers={"X-Sim-Fault": header} if header else None)
    assert answer.status_code == 400
    assert "simulator directive: " in answer.text
