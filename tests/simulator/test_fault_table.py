"""Every fault by its name, in each of the ways it can be asked for: what the caller gets, and what the bill says."""

from __future__ import annotations

import io
import shlex
import time
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest
from PIL import Image

from providers.simulator.errors import ALIASES, KNOWN
from providers.simulator.faults import NAMES
from tests.simulator.conftest import FAL_HEADERS, Submit
from tests.simulator.running import RunningSimulator


@dataclass(frozen=True)
class Row:
    """`via` is how it shows: in a sync answer, a task, a picture, a reseller's answer, or fal's result.

    `sees` is what came, `images` and `accepted` are what the bill counts, `least_s` how long it took at least.
    """

    fault: str
    sees: str
    images: int
    accepted: int
    via: str = "sync"
    n: int = 1
    least_s: float = 0.0

    @property
    def directive(self) -> dict[str, Any]:
        name, *options = shlex.split(self.fault)
        return {"name": name, **dict(option.split("=", 1) for option in options)}

    @property
    def endpoint(self) -> str:
        """By which endpoint the order goes in."""
        return {"task": "async", "reseller": "reseller", "fal": "fal"}.get(self.via, "sync")


FINE, PICTURE = "200 1 picture(s)", "200 PNG 512x512"
TABLE = [
    Row("error status=503", "503 ServiceUnavailable", 0, 0),
    Row("error code=Arrearage", "400 Arrearage", 0, 0),
    Row("error status=502 billed=true", "502 InternalError", 1, 1),
    Row("throttle", "429 Throttling.RateQuota", 0, 0),
    Row("throttle code=Throttling.BurstRate", "429 Throttling.BurstRate", 0, 0),
    Row("moderation_input", "400 DataInspectionFailed", 0, 0),
    Row("moderation_input late=true", "FAILED DataInspectionFailed", 0, 1, via="task"),
    Row("moderation_output", "400 DataInspectionFailed", 0, 0),
    Row("moderation_output", "FAILED DataInspectionFailed", 0, 1, via="task"),
    Row("html", "502 <html>", 0, 0),
    Row("html status=504 billed=true", "504 <html>", 1, 1),
    Row("empty", "200 nothing", 0, 0),
    Row("empty status=503", "503 nothing", 0, 0),
    Row("code200", "200 InternalError", 0, 0),
    Row("hang", "ReadTimeout", 0, 0),
    Row("hang billed=true", "ReadTimeout", 1, 1),
    Row("reset", "ReadError", 0, 0),
    Row("reset billed=true", "ReadError", 1, 1),
    Row("truncated", "200 no JSON", 1, 1),
    Row("truncated how=body", "RemoteProtocolError", 1, 1),
    Row("drip seconds=0.1", FINE, 1, 1, least_s=0.1),
    Row("latency seconds=0.1", FINE, 1, 1, least_s=0.1),
    Row("failed code=InternalError.Upload", "500 InternalError.Upload", 0, 0),
    Row("failed", "FAILED InternalError.Algo", 0, 1, via="task"),
    Row("partial ok=2", "200 2 picture(s)", 2, 1, n=5),
    Row("partial ok=3 of=4", "SUCCEEDED 3 picture(s) DataInspectionFailed", 3, 1, via="task"),
    Row("never_ends", "RUNNING", 0, 1, via="task"),
    Row("never_ends status=PENDING", "PENDING", 0, 1, via="task"),
    Row("no_results", "200 0 picture(s)", 0, 1),
    Row("no_results billed=true", "SUCCEEDED 0 picture(s)", 1, 1, via="task"),
    Row("no_data", "SUCCEEDED without results", 0, 1, via="task"),
    Row("no_data billed=true", "200 without choices", 1, 1),
    Row("image_count count=5", "200 1 picture(s) said to be 5", 1, 1),
    Row("image_count count=0", "SUCCEEDED 1 picture(s) said to be 0", 1, 1, via="task"),
    Row("image_url url=http://127.0.0.1:1/x.png", "ConnectError", 1, 1, via="picture"),
    Row("image_expires seconds=0", "403 AccessDenied", 1, 1, via="picture"),
    Row("image_flagged", "200 1 picture(s) flagged", 1, 1, via="fal"),
    Row("task_object", "200 a task that brings 1", 1, 1, via="reseller"),
    Row("status value=SUSPENDED", "SUSPENDED", 1, 1, via="task"),
    Row("image_broken", "200 image/png that is none", 1, 1, via="picture"),
    Row("image_broken how=crc", "200 image/png that is none", 1, 1, via="picture"),
    Row("image_broken how=html", "200 text/html that is none", 1, 1, via="picture"),
    Row("image_broken how=empty", "200 image/png that is none", 1, 1, via="picture"),
    Row("image_oversized bytes=2000000", f"{PICTURE} in 2000000 bytes", 1, 1, via="picture"),
    Row("image_oversized bytes=2000000 chunked=true", f"{PICTURE} in 2000000 bytes", 1, 1, via="picture"),
    Row("image_size width=520", "200 PNG 520x512", 1, 1, via="picture"),
    Row("image_format format=webp", "200 WEBP 512x512", 1, 1, via="picture"),
    Row("image_redirect location=/elsewhere", "302 /elsewhere", 1, 1, via="picture"),
    Row("image_error status=404", "404 NoSuchKey", 1, 1, via="picture"),
    Row("reset at=image", "ReadError", 1, 1, via="picture"),
    Row("image_slow seconds=0.1", PICTURE, 1, 1, via="picture", least_s=0.1),
    Row("poll_throttle", "429 Throttling.RateQuota", 1, 1, via="task"),
    Row("poll_error status=429", "429 Throttling.RateQuota", 1, 1, via="task"),
    Row("poll_error", "500 InternalError", 1, 1, via="task"),
    Row("poll_error status=503", "503 ServiceUnavailable", 1, 1, via="task"),
    Row("poll_error status=504", "504 GatewayTimeout", 1, 1, via="task"),
    Row("reset at=poll", "ReadError", 1, 1, via="task"),
    Row("truncated at=poll", "200 no JSON", 1, 1, via="task"),
    Row("error at=result status=503", "503 runner_scheduling_failure", 1, 1, via="fal"),
]


class Caller:
    """Places an order and says in a few words what came of it."""

    def __init__(self, client: httpx.Client, bare: httpx.Client, orders: dict[str, Submit]) -> None:
        self._client = client
        self._bare = bare
        self._orders = orders

    def see(self, row: Row, prompt: str, headers: dict[str, str]) -> str:
        try:
            return getattr(self, f"_see_{row.via}")(prompt, headers, row)
        except httpx.HTTPError as error:
            return type(error).__name__

    def _order(self, prompt: str, headers: dict[str, str], row: Row) -> httpx.Response:
        given: Any = {"n": row.n} if row.n > 1 else {}
        return self._orders[row.endpoint](prompt, headers=headers, timeout=0.3 if "hang" in row.fault else 5, **given)

    def _see_sync(self, prompt: str, headers: dict[str, str], row: Row) -> str:
        answer = self._order(prompt, headers, row)
        body, words = read(answer)
        if body is None or "output" not in body:
            return words
        if "choices" not in body["output"]:
            return "200 without choices"
        content = body["output"]["choices"][0]["message"]["content"]
        return f"200 {count(content, 'image', body['usage'])}"

    def _see_task(self, prompt: str, headers: dict[str, str], row: Row) -> str:
        task_id = self._order(prompt, headers, row).json()["output"]["task_id"]
        body, words = read(self._client.get(f"/api/v1/tasks/{task_id}"))
        if body is None or "output" not in body:
            return words
        output = body["output"]
        status = output["task_status"]
        if status != "SUCCEEDED":
            return f"{status} {output['code']}" if "code" in output else status
        if "results" not in output:
            return "SUCCEEDED without results"
        failed = [item["code"] for item in output["results"] if "code" in item]
        return " ".join([status, count(output["results"], "url", body["usage"]), *failed])

    def _see_picture(self, prompt: str, headers: dict[str, str], row: Row) -> str:
        (item,) = self._order(prompt, headers, row).json()["output"]["choices"][0]["message"]["content"]
        answer = self._bare.get(item["image"])
        if answer.is_redirect:
            return f"{answer.status_code} {answer.headers['location']}"
        if answer.is_error:
            return f"{answer.status_code} {answer.text.partition('<Code>')[2].partition('</Code>')[0]}"
        size = f" in {len(answer.content)} bytes" if len(answer.content) > 1_000_000 else ""
        try:
            Image.open(io.BytesIO(answer.content)).verify()  # the checksums, which loading does not look at
            picture = Image.open(io.BytesIO(answer.content))
            picture.load()
        except (OSError, SyntaxError):
            return f"200 {answer.headers['content-type']} that is none"
        return f"200 {picture.format} {picture.width}x{picture.height}{size}"

    def _see_reseller(self, prompt: str, headers: dict[str, str], row: Row) -> str:
        task_id = self._order(prompt, headers, row).json()["id"]
        return f"200 a task that brings {len(self._client.get(f'/v1/tasks/{task_id}').json()['data'])}"

    def _see_fal(self, prompt: str, headers: dict[str, str], row: Row) -> str:
        url = self._order(prompt, headers, row).json()["response_url"]
        answer = self._client.get(url, headers=FAL_HEADERS)
        body = answer.json()
        if "images" not in body:
            return f"{answer.status_code} {body['error_type']}"
        flagged = " flagged" if all(body["has_nsfw_concepts"]) else ""
        return f"200 {len(body['images'])} picture(s){flagged}"


def read(answer: httpx.Response) -> tuple[dict[str, Any] | None, str]:
    """The JSON object of an answer, and what else there is to say of it."""
    status = answer.status_code
    if not answer.content:
        return None, f"{status} nothing"
    if answer.text.startswith("<html>"):
        return None, f"{status} <html>"
    try:
        body = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return None, f"{status} no JSON"
    return body, f"{status} {body.get('code')}"


def count(items: list[dict[str, Any]], name: str, usage: dict[str, Any]) -> str:
    pictures = sum(name in item for item in items)
    said = usage["image_count"]
    return f"{pictures} picture(s)" + ("" if said == pictures else f" said to be {said}")


@pytest.fixture
def caller(
    client: httpx.Client, bare: httpx.Client, submit: Submit, generate: Submit, resell: Submit, enqueue: Submit
) -> Caller:
    return Caller(client, bare, {"async": submit, "sync": generate, "reseller": resell, "fal": enqueue})


def ask_for(simulator: RunningSimulator, row: Row, by: str) -> tuple[str, dict[str, str]]:
    """Arrange for the fault; the prompt and the headers to order with."""
    rule = {"match": {"account": "acme", "endpoint": row.endpoint}, "fault": row.directive}
    if by == "prompt":
        return f"a cat [[sim: {row.fault}]]", {}
    if by == "header":
        return "a cat", {"X-Sim-Fault": orjson.dumps(row.directive).decode()}
    if by == "control":
        simulator.call("POST", "/rules", rule)
    else:
        simulator.set_scenario(rules=[{"match": {"account": "nobody"}, "fault": {"name": "html"}}, rule])
    return "a cat", {}


@pytest.mark.parametrize("by", ["prompt", "header", "control", "scenario"])
@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.fault} ({row.via})")
def test_a_fault(simulator: RunningSimulator, caller: Caller, row: Row, by: str) -> None:
    prompt, headers = ask_for(simulator, row, by)
    began = time.monotonic()
    seen = caller.see(row, prompt, headers)
    took = time.monotonic() - began
    totals = simulator.totals()
    assert (seen, totals["images"], totals["accepted"]) == (row.sees, row.images, row.accepted)
    assert (totals["submissions"], totals["refused"]) == (1, 1 - row.accepted)
    assert took >= row.least_s


def test_every_fault_has_its_row() -> None:
    assert {row.directive["name"] for row in TABLE} == NAMES


@pytest.mark.parametrize("code", KNOWN)
def test_every_code_can_refuse_a_task_fail_it_and_disturb_its_poll(
    simulator: RunningSimulator, submit: Submit, client: httpx.Client, code: str
) -> None:
    status, words = KNOWN[code]
    refused = submit(f"a cat [[sim: error code={code}]]")
    assert (refused.status_code, refused.json()["code"], refused.json()["message"]) == (status, code, words)
    assert (simulator.totals()["refused"], simulator.totals()["accepted"]) == (1, 0)
    task_id = submit(f"a cat [[sim: failed code={code}]] [[sim: poll_error code={code} times=1]]").json()
    path = f"/api/v1/tasks/{task_id['output']['task_id']}"
    assert client.get(path).status_code == status
    output = client.get(path).json()["output"]
    assert (output["task_status"], output["code"], output["message"]) == ("FAILED", code, words)
    assert (simulator.totals()["accepted"], simulator.totals()["images"]) == (1, 0)


@pytest.mark.parametrize("alias", ALIASES)
def test_other_spellings_of_a_code(simulator: RunningSimulator, generate: Submit, alias: str) -> None:
    answer = generate(f"a cat [[sim: error code={alias}]]")
    assert (answer.status_code, answer.json()["code"]) == (KNOWN[ALIASES[alias]][0], alias)
    assert simulator.totals()["images"] == 0


@pytest.mark.parametrize(
    ("directive", "status", "code", "words"),
    [
        ("error code=InvalidParameter message='Model not exist.'", 400, "InvalidParameter", "Model not exist."),
        (
            "error code=InvalidParameter message='url error, please check url！'",
            400,
            "InvalidParameter",
            "url error, please check url！",
        ),
        ("error status=408 code=RequestTimeOut", 408, "RequestTimeOut", KNOWN["RequestTimeOut"][1]),
        (
            "error code=AccessDenied message='current user api does not support synchronous calls.'",
            403,
            "AccessDenied",
            "current user api does not support synchronous calls.",
        ),
    ],
)
def test_rows_that_share_a_code(generate: Submit, directive: str, status: int, code: str, words: str) -> None:
    answer = generate(f"a cat [[sim: {directive}]]")
    assert (answer.status_code, answer.json()["code"], answer.json()["message"]) == (status, code, words)
