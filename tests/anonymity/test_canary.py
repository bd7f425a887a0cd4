"""Every recorded answer of every carrier goes through the public edge of a real server: nothing of it is to be seen."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.db import transaction

from models_registry.models import ImageModel, ImageSize, Price
from providers.adapters import get_adapter_class, kinds
from providers.models import Channel, Offer, add_credential
from tests.anonymity.production import LoggedServer, find_secrets, find_stored_secrets
from tests.anonymity.recordings import GALLERY, Recording, list_recordings
from tests.anonymity.stage import Stage, make_credential
from tests.anonymity.words import Leak, find_leaks
from tests.books import read_violations_async
from tests.files.stowaways import ALL as PICTURES
from tests.files.stowaways import SIZE, make_still
from tests.providers.upstream import Answer, say
from tests.shop import Customer, open_customer

pytestmark = pytest.mark.live

URL = "/v1/images/generations"
AT_ONCE = 40
PAGES = (
    *(f"{URL}?limit=100", f"{URL}/gen_nope", "/v1", "/v1/nope", "/v1/balance", "/v1/usage", "/v1/usage.csv"),
    *(
        "/v1/models",
        "/v1/models/qwen-image-0000",
        "/v1/models/nope",
        "/files/nope",
        f"/files/qwen_image_{'a' * 32}.png",
    ),
    *("/", "/docs/errors", "/docs/nope", "/healthz", "/readyz", "/metrics", "/nope", "/static/nope", "/favicon.ico"),
    *("/openapi.json", "/llms.txt", "/api/pricing", "/robots.txt"),
)
#: What the answer to an order may be, whatever its carrier said.
STATUSES = {200, 400, 429, 502, 503}


@dataclass
class Findings:
    """Leaks by the recording that they came of, and the status that each order was answered with."""

    leaks: list[tuple[str, Leak]] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    def look(self, response: httpx.Response, name: str, telltales: Sequence[str]) -> None:
        self.leaks += [(name, leak) for leak in find_leaks(response, telltales)]


def open_channels(stage: Stage) -> Customer:
    """A channel, a model and an offer for every recording, so that none of them stands in the way of another."""
    with transaction.atomic():
        for number, recording in enumerate(stage.recordings):
            model = ImageModel.objects.create(
                name=name_model(number), execution_shape="sync", default_size=f"{SIZE[0]}x{SIZE[1]}", prompt_limit=800
            )
            ImageSize.objects.create(model=model, width=SIZE[0], height=SIZE[1])
            Price.objects.create(model=model, amount_micros=1000)
            channel = Channel.objects.create(
                name=name_channel(number),
                kind=recording.kind,
                base_url=stage.url + recording.base_path,
                options=recording.options,
            )
            add_credential(channel, make_credential(number))
            Offer.objects.create(
                channel=channel,
                model=model,
                upstream_model=f"Hidden/alias-{number:04}",
                shape=get_adapter_class(recording.kind).shape,
            )
    return open_customer(micros=1_000_000_000)


def name_model(number: int) -> str:
    return f"qwen-image-{number:04}"


def name_channel(number: int) -> str:
    return f"Reseller {number:04} Hangzhou"


def list_telltales(recording: Recording, number: int, stage: Stage) -> list[str]:
    """Words of the answers, and of the channel that they came by."""
    own = [f"Hidden/alias-{number:04}", name_channel(number), stage.pair, make_credential(number), "/gallery/"]
    return [*recording.telltales, *own]


@asynccontextmanager
async def open_stage(
    recordings: list[Recording],
    folder: Path,
    settings: Any,
    *,
    application: str = "crazyrouter.asgi:application",
    gallery: list[Answer] | None = None,
) -> AsyncIterator[tuple[Stage, httpx.AsyncClient, LoggedServer]]:
    """The carriers, and a client of a server that buys from them."""
    async with Stage(recordings, gallery) as stage:
        customer = await sync_to_async(open_channels)(stage)
        settings.EGRESS_ALLOW = [stage.pair]
        server = LoggedServer(folder, application)
        await sync_to_async(server.__enter__)()
        try:
            async with httpx.AsyncClient(base_url=server.base_url, headers=customer.headers, timeout=60) as client:
                yield stage, client, server
        finally:
            await sync_to_async(server.__exit__)(None, None, None)


async def order_all(stage: Stage, client: httpx.AsyncClient) -> Findings:
    findings, gate = Findings(), asyncio.Semaphore(AT_ONCE)

    async def run(number: int, recording: Recording) -> None:
        async with gate:
            await order(client, findings, number, recording.name, list_telltales(recording, number, stage))

    await asyncio.gather(*[run(number, recording) for number, recording in enumerate(stage.recordings)])
    return findings


async def order(client: httpx.AsyncClient, findings: Findings, number: int, name: str, telltales: list[str]) -> None:
    """One order, its pictures, its record by id, and its answer once more."""
    form = "b64_json" if number % 2 else "url"
    body = {"model": name_model(number), "prompt": f"a cat {number}", "response_format": form}
    headers = {"Idempotency-Key": f"order-{number}"}
    answer = await client.post(URL, json=body, headers=headers)
    findings.statuses[number] = answer.status_code
    findings.look(answer, name, telltales)
    findings.look(await client.get(f"{URL}/{answer.headers['x-request-id']}"), name, telltales)
    if answer.status_code != 200:
        return
    findings.look(await client.post(URL, json=body, headers=headers), f"{name} | again", telltales)
    for item in answer.json()["data"]:
        if "url" in item:
            findings.look(await client.get(item["url"]), f"{name} | picture", telltales)
            findings.look(await client.head(item["url"]), f"{name} | head", telltales)


async def visit_pages(client: httpx.AsyncClient, findings: Findings, telltales: list[str]) -> int:
    """Everything else that a customer, or anybody, may ask for; how many answers that were."""
    model, wrong = name_model(0), {"headers": {"Authorization": "Bearer sk-wrong"}}
    visits: list[tuple[str, str, dict[str, Any]]] = [(method, URL, {}) for method in ("PUT", "DELETE", "OPTIONS")]
    bodies = [{"model": "nope", "prompt": "a"}, {"model": model, "prompt": "a", "dashes": 1}, {"model": model}, []]
    visits += [("POST", URL, {"json": body}) for body in bodies]
    visits += [("POST", URL, {"content": content}) for content in (b"{", b"x" * 99_999)]
    visits += [("GET", URL, wrong), ("POST", "/files/nope", {}), ("GET", "/nope", {"headers": {"Host": "x.example"}})]
    visits += [("GET", path, {}) for path in PAGES]
    for method, path, options in visits:
        answer = await client.request(method, path, **options)
        findings.look(answer, f"{method} {path}", telltales)
    return len(visits)


@pytest.mark.parametrize("kind", kinds())
async def test_no_customer_learns_who_made_a_picture(kind: str, database: None, settings: Any, tmp_path: Path) -> None:
    recordings = list_recordings(kind)
    async with open_stage(recordings, tmp_path, settings) as (stage, client, server):
        findings = await order_all(stage, client)
        everything = sorted(
            {word for n, recording in enumerate(recordings) for word in list_telltales(recording, n, stage)}
        )
        assert await visit_pages(client, findings, everything) == 37
        played = {number: min(count, 1) for number, count in stage.calls.items()}
    assert findings.leaks == []
    # The carrier was really asked, and what it delivered was really sold.
    assert played == dict.fromkeys(range(len(recordings)), 1)
    delivered = {recordings[number].name for number, status in findings.statuses.items() if status == 200}
    assert delivered == {recording.name for recording in recordings if recording.delivers}
    assert set(findings.statuses.values()) <= STATUSES
    assert await read_violations_async() == []
    secrets = [make_credential(number) for number in range(len(recordings))]
    assert find_secrets(server.log.read_text(), secrets) == []
    assert await sync_to_async(find_stored_secrets)(secrets) == []


def find_one_that_delivers() -> Recording:
    """An order that is answered at once by a link to a picture."""
    return next(one for one in list_recordings("dashscope_sync") if one.delivers)


async def test_no_picture_brings_a_name_along(database: None, settings: Any, tmp_path: Path) -> None:
    """Each file that carries one, out of a link."""
    recordings = [replace(find_one_that_delivers(), name=name) for name in PICTURES]
    async with open_stage(recordings, tmp_path, settings) as (stage, client, _):
        findings = await order_all(stage, client)
    assert findings.leaks == []
    assert set(findings.statuses.values()) == {200}


XML = b"""<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Request has expired.</Message>
<RequestId>65D1F0A2C8E9</RequestId><HostId>dashscope-result-bj.oss-cn-beijing.aliyuncs.com</HostId></Error>"""
CLOSED: dict[str, Answer] = {
    "a refusal": say(XML, status=403, headers={"Server": "AliyunOSS"}),
    "a page": say(b"<html><title>fal.media</title>Rendered by WaveSpeedAI</html>"),
    "an error for a picture": say(b'{"error": "replicate.delivery: expired"}'),
    "another place": say(status=302, headers={"Location": "https://127.0.0.1/aliyuncs.com"}),
    "a link without end": say(status=302, headers={"Location": f"{GALLERY}/3/modelscope.cn"}),
    "half a picture": say(make_still()[:-20] + b"DashScope"),
    "an empty file": say(b"", headers={"x-oss-request-id": "65D1F0A2C8E9"}),
}


async def test_no_picture_that_fails_says_where_it_was(database: None, settings: Any, tmp_path: Path) -> None:
    recordings = [replace(find_one_that_delivers(), name=name) for name in CLOSED]
    async with open_stage(recordings, tmp_path, settings, gallery=list(CLOSED.values())) as (stage, client, _):
        findings = await order_all(stage, client)
    assert findings.leaks == []
    assert set(findings.statuses.values()) == {502}
    assert len(findings.statuses) == len(CLOSED)


def test_every_recording_is_played() -> None:
    """Whatever is recorded is either played, or has no answer, or is no order."""
    from tests.providers.exchanges import list_errors, list_exchanges, list_replies

    for kind in kinds():
        all_of_them = [param.values[1] for param in (*list_exchanges(kind), *list_errors(kind))]
        silent = [one for one in all_of_them if one["call"] == "probe" or list_replies(one)[0].get("fault") == "refuse"]
        recordings = list_recordings(kind)
        assert len(recordings) == len(all_of_them) - len(silent)
        assert Counter(recording.delivers for recording in recordings)[True] >= 3
        assert sum(len(recording.telltales) for recording in recordings) >= 20
