"""The description against a real server: orders that bring images, and hundreds of requests that nobody would write.

Schemathesis makes requests that fit the description and requests that do not. Whatever comes back must be described,
with its status, its code, its headers and its every field; nothing may be a fault of ours.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as how
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.contract import OPERATIONS, STRICT, find_operation, list_breaches
from tests.books import count_rows, read_violations
from tests.server import RunningServer
from tests.shop import Customer

pytestmark = pytest.mark.live

MODELS = ["qwen-image-plus", "qwen-image-max", "qwen-image-2.0"]
URL = "/v1/images/generations"
CONFORMANCE = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
#: Whose parameters or body can be wrong; of others every request is right.
CAN_BE_WRONG = ("createImage", "listGenerations", "getUsage", "downloadUsage")
EXAMPLES = {"createImage": 40, "listGenerations": 25, "getUsage": 25, "downloadUsage": 25}
FEW = 10


@pytest.fixture
def server(customer: Customer) -> Iterator[RunningServer]:
    with RunningServer() as running:
        yield running


@pytest.fixture
def client(server: RunningServer, customer: Customer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.base_url, headers=customer.headers, timeout=30, trust_env=False) as http:
        http.event_hooks["response"].append(hold_against_description)
        yield http


def hold_against_description(response: httpx.Response) -> None:
    operation = find_operation(response.request.method, response.request.url.path)
    assert operation is not None
    breaches = list_breaches(operation, response.status_code, response.headers, response.read())
    assert breaches == [], (operation["operationId"], response.status_code, breaches)


# --- what an order brings, step by step ---


def test_what_an_order_brings_is_as_described(client: httpx.Client) -> None:
    order = {"model": "qwen-image-max", "prompt": "a cat", "size": "1024x1024"}
    keyed = {"Idempotency-Key": "a-key-of-mine"}
    first = client.post(URL, json=order, headers=keyed)
    again = client.post(URL, json=order, headers=keyed)
    assert (first.status_code, again.status_code) == (200, 200)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    assert client.post(URL, json=order | {"n": 2}, headers=keyed).json()["error"]["code"] == "idempotency_key_reused"

    inline = client.post(URL, json=order | {"model": "qwen-image-2.0", "n": 2, "response_format": "b64_json"})
    assert [set(item) for item in inline.json()["data"]] == [{"b64_json"}] * 2
    later = client.post(URL, json=order | {"model": "qwen-image-plus"}, headers={"Prefer": "respond-async"})
    assert later.status_code == 202
    assert later.headers["preference-applied"] == "respond-async"
    ended = client.post(URL, json=order, headers=keyed | {"Prefer": "respond-async"})
    assert (ended.status_code, ended.json()["object"]) == (200, "image.generation")

    read = [client.get(later.headers["location"]), client.get(f"{URL}/{inline.headers['x-request-id']}")]
    assert [answer.status_code for answer in read] == [200, 200]
    assert "b64_json" in read[1].json()["data"][0]
    listed = client.get(URL, params={"limit": 2}).json()
    assert listed["has_more"] is True
    assert len(client.get(URL, params={"after": listed["last_id"]}).json()["data"]) == 1


def test_what_stands_beside_an_order_is_as_described(client: httpx.Client) -> None:
    order = {"model": "qwen-image-max", "prompt": "a cat", "size": "1024x1024"}
    path = httpx.URL(client.post(URL, json=order).json()["data"][0]["url"]).path
    whole = client.get(path)
    asked = [{"Range": "bytes=0-7"}, {"Range": "bytes=99999999-"}, {"If-None-Match": whole.headers["etag"]}]
    assert [client.get(path, headers=headers).status_code for headers in asked] == [206, 416, 304]
    assert client.get("/files/qwen_image_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.png").status_code == 404
    assert client.get("/v1/usage").json()["total"] == {"images": 1, "amount": "0.50"}
    assert client.get("/v1/usage.csv").text.count("\r\n") == 2
    for path in ("/v1/models", "/v1/models/qwen-image-max", "/v1/balance", "/api/pricing", "/openapi.json"):
        assert client.get(path).status_code == 200
    assert [client.get(path).text for path in ("/healthz", "/readyz")] == ["ok\n"] * 2


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("moderation_input", 400, "moderation_blocked"),
        ("error status=400 code=InvalidParameter message='no'", 400, "invalid_value"),
        ("error status=401 code=InvalidApiKey message='no'", 503, "no_channel_available"),
        ("error status=500 code=InternalError message='no'", 502, "upstream_failed"),
    ],
)
def test_an_order_that_fails_is_as_described(client: httpx.Client, fault: str, status: int, code: str) -> None:
    order = {"model": "qwen-image-max", "prompt": f"a cat [[sim: {fault}]]"}
    for headers in ({}, {"Idempotency-Key": "k"}, {"Idempotency-Key": "k"}):
        answer = client.post(URL, json=order, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_an_order_that_takes_too_long_is_as_described(customer: Customer) -> None:
    with (
        RunningServer(GENERATION_DEADLINE_S="0.5") as server,
        httpx.Client(base_url=server.base_url, headers=customer.headers, timeout=30, trust_env=False) as client,
    ):
        client.event_hooks["response"].append(hold_against_description)
        answer = client.post(URL, json={"model": "qwen-image-max", "prompt": "a cat [[sim: latency seconds=2]]"})
    assert answer.status_code == 504
    assert answer.json()["error"]["generation_id"] == answer.headers["x-request-id"]


# --- requests that nobody would write ---


def aim(client: httpx.Client) -> dict[str, Any]:
    """The description with this server's own ids in it, so that requests find something."""
    document: dict[str, Any] = json.loads(json.dumps(STRICT))
    order = client.post(URL, json={"model": "qwen-image-max", "prompt": "a cat", "size": "1024x1024"})
    ids = {"generation_id": [order.headers["x-request-id"], "gen_" + "0" * 26], "name": [*MODELS, "nope"]}
    files = [httpx.URL(order.json()["data"][0]["url"]).path.removeprefix("/files/"), "nope.png"]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            # Or most of what is wrong with a request would be its key.
            operation.pop("security", None)
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    known = files if path.startswith("/files/") else ids[parameter["name"]]
                    parameter["schema"] = {"type": "string", "enum": known}
    return document


def narrow(document: dict[str, Any]) -> dict[str, Any]:
    """With facts of the registry, so that orders bring images; the description itself would not refuse others."""
    narrowed: dict[str, Any] = json.loads(json.dumps(document))
    fields = narrowed["components"]["schemas"]["GenerationRequest"]["properties"]
    fields["model"] |= {"enum": MODELS}
    fields["size"] |= {"enum": ["1024x1024", "1024*1024", "auto", None]}
    fields["n"] |= {"maximum": 2}
    return narrowed


@dataclass
class Fuzzer:
    """Asks one server, and counts its answers by operation, kind of request and status."""

    base_url: str
    headers: dict[str, str]
    session: requests.Session = field(default_factory=requests.Session)
    seen: Counter[tuple[str, GenerationMode, int]] = field(default_factory=Counter)

    def fuzz(self, operation: Any, mode: GenerationMode, *, checks: list[Any]) -> None:
        name = name_operation(operation)

        @given(case=operation.as_strategy(generation_mode=mode))
        @how(
            max_examples=EXAMPLES.get(name, FEW),
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: Any) -> None:
            response = case.call_and_validate(self.base_url, self.session, self.headers, checks=checks)
            headers = httpx.Headers([(name, value) for name, values in response.headers.items() for value in values])
            breaches = list_breaches(OPERATIONS[name], response.status_code, headers, response.content)
            assert breaches == [], (name, response.status_code, breaches)
            self.seen[name, mode, response.status_code] += 1

        ask()

    def count(self, name: str, mode: GenerationMode, *, below: int = 600) -> int:
        return sum(n for (of, how, status), n in self.seen.items() if (of, how) == (name, mode) and status < below)


def list_operations(document: dict[str, Any]) -> list[Any]:
    results: Any = schemathesis.openapi.from_dict(document).get_all_operations()
    return [result.ok() for result in results]


def name_operation(operation: Any) -> str:
    return str(operation.definition.raw["operationId"])


def test_whatever_is_asked_the_answer_is_described(
    server: RunningServer, client: httpx.Client, customer: Customer
) -> None:
    fuzzer = Fuzzer(server.base_url, customer.headers)
    fuzzer.session.trust_env = False
    document = aim(client)
    for operation in list_operations(narrow(document)):
        # With a healthy upstream no order ends in a 5xx, so that any of them is a fault.
        fuzzer.fuzz(operation, GenerationMode.POSITIVE, checks=CONFORMANCE)
    for operation in list_operations(document):
        if name_operation(operation) in CAN_BE_WRONG:
            fuzzer.fuzz(operation, GenerationMode.NEGATIVE, checks=[*CONFORMANCE, negative_data_rejection])
    good = {name: fuzzer.count(name, GenerationMode.POSITIVE, below=300) for name in OPERATIONS}
    assert min(good.values()) > 0, good
    wrong = {name: fuzzer.count(name, GenerationMode.NEGATIVE) for name in CAN_BE_WRONG}
    assert min(wrong.values()) >= 10, wrong
    assert count_rows()["generations"] > good["createImage"] / 2
    assert read_violations() == []
