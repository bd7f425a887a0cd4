"""One process's part in the health of offers: reports collected and written, probes made, nobody kept waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection

from crazyrouter.generation import lane as lane_module
from crazyrouter.generation import snapshot as snapshot_module
from crazyrouter.generation import wellbeing as module
from crazyrouter.generation.lane import Lane
from crazyrouter.generation.snapshot import Reader, Snapshot, View
from crazyrouter.generation.wellbeing import Wellbeing
from crazyrouter.sql import read_clock
from providers.adapters.dashscope_sync import DashScopeSync
from providers.health import Report, Trial, claim_trials, record_reports
from providers.models import Alert, Channel, Credential, Offer, OfferHealth
from providers.transport import Transport
from tests.providers.clinic import MODEL, make_health, open_offer, read_health, read_versions, report, write
from tests.providers.upstream import Received, Upstream, say_json
from tests.simulator.running import RunningSimulator

FREE = {"output": {"task_status": "UNKNOWN"}, "request_id": "r"}


class Process:
    """What a process of the gateway has for it, with a count of the lane's writes."""

    def __init__(self, *allowed: str, owner: str = "one") -> None:
        self.lane, self.reader, self.transport = Lane(), Reader(), Transport(allow=list(allowed))
        self.writes: list[str] = []
        write, self.lane.write = self.lane.write, self._count  # type: ignore[method-assign]
        self._write = write
        self.snapshot = Snapshot(self.reader)
        self.wellbeing = Wellbeing(
            lane=self.lane, reader=self.reader, snapshot=self.snapshot, transport=self.transport, owner=owner
        )

    def _count(self, operation: Any, item: Any) -> asyncio.Future[Any]:
        self.writes.append(operation.__name__)
        return self._write(operation, item)

    async def close(self) -> None:
        await self.wellbeing.close()
        await self.lane.close()
        await self.transport.aclose()
        await self.reader.close()


@pytest.fixture
async def offer(database: None) -> Offer:
    return await sync_to_async(open_offer)()


@pytest.fixture
async def process(offer: Offer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Process]:
    """Its own looks at the circuits are far apart: the tests say when."""
    monkeypatch.setattr(module, "LOOK_EVERY_S", 3600.0)
    process = Process()
    yield process
    await process.close()


make_report = sync_to_async(report)
look = sync_to_async(read_health)


async def wait_for(condition: Callable[[], Any]) -> Any:
    """What a read of the database gives, once it is true."""
    until = time.monotonic() + 20
    while not (found := await sync_to_async(condition)()):
        assert time.monotonic() < until
        await asyncio.sleep(0.02)
    return found


def find_calls(offer: Offer, count: int) -> Callable[[], bool]:
    return lambda: any(len(row.recent) == count for row in OfferHealth.objects.filter(offer=offer))


def open_circuits(*offers: Offer, **columns: Any) -> None:
    """Circuits whose pauses are over."""
    moment = read_clock(connection) - timedelta(seconds=1)
    for offer in offers:
        make_health(offer, "open", **{"pause_s": 30, "retry_at": moment, "changed_at": moment, **columns})


# --- reports -------------------------------------------------------------------------------------------------------


async def test_successes_are_written_together(process: Process, offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_EVERY_S", 0.3)
    other = await sync_to_async(open_offer)(name="other")
    for one in (offer, other):
        well = await make_report(one, ms=1000)
        for _ in range(30):
            process.wellbeing.note(well)
    await wait_for(find_calls(offer, 30))
    await wait_for(find_calls(other, 30))
    # One where the first was noted just before a look, and the rest after it.
    assert len(process.writes) <= 2
    assert set(process.writes) == {"record_batches"}


async def test_failures_are_written_at_once(process: Process, offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_EVERY_S", 3600.0)
    well, failed = await make_report(offer), await make_report(offer, "overloaded")
    process.wellbeing.note(well)
    await asyncio.sleep(0.1)
    assert process.writes == []
    for _ in range(5):
        process.wellbeing.note(failed)
    health = await wait_for(lambda: OfferHealth.objects.filter(circuit="open").first())
    assert [ok for _, ok, _, _ in health.recent].count(1) == 1


async def test_what_failures_changed_is_seen_without_a_request(
    process: Process, offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view that is older than a second is read anew behind them."""
    monkeypatch.setattr(snapshot_module, "REFRESH_AFTER_S", 0.0)
    monkeypatch.setattr(snapshot_module, "TOO_OLD_AFTER_S", 0.0)
    views: list[View] = []
    get = process.snapshot.get

    async def watch() -> View:
        views.append(await get())
        return views[-1]

    monkeypatch.setattr(process.snapshot, "get", watch)
    failed = await make_report(offer, "overloaded")
    for _ in range(5):
        process.wellbeing.note(failed)
    until = time.monotonic() + 20
    while not any(view.routes[MODEL].excluded for view in views):
        assert time.monotonic() < until
        await asyncio.sleep(0.02)
    assert [one.why for one in views[-1].routes[MODEL].excluded] == [
        "its circuit is open: 5 calls in a row failed: overloaded"
    ]


async def test_a_customers_fault_is_not_written(process: Process, offer: Offer) -> None:
    process.wellbeing.note(await make_report(offer, "content_policy", scope="request"))
    await process.wellbeing.close()
    assert process.writes == []
    assert not await sync_to_async(OfferHealth.objects.exists)()


async def test_a_trial_is_told_at_once_whatever_its_end(
    process: Process, offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WRITE_EVERY_S", 3600.0)
    await sync_to_async(make_health)(offer, "half_open", pause_s=30, probe_owner="gen_1#1")
    process.wellbeing.note(
        await make_report(offer, "content_policy", scope="request", trial=True, generation_id="gen_1")
    )
    await wait_for(lambda: read_health(offer).probe_owner == "")
    process.wellbeing.note(await make_report(offer, trial=True, generation_id="gen_2"))
    await wait_for(lambda: read_health(offer).circuit == "closed")


async def test_a_cool_down_is_known_here_at_once(process: Process, offer: Offer) -> None:
    cooling = process.wellbeing.cooling
    assert dict(cooling) == {}
    now = time.time()
    process.wellbeing.note(await make_report(offer, "rate_limited", retry_after_s=40.0))
    assert cooling[offer.pk] == pytest.approx(now + 40, abs=5)
    process.wellbeing.note(await make_report(offer, "rate_limited"))
    assert cooling[offer.pk] == pytest.approx(now + 40, abs=5)
    health = await wait_for(lambda: OfferHealth.objects.exclude(cooling_until=None).first())
    assert health.cooling_until.timestamp() == pytest.approx(cooling[offer.pk], abs=10)


async def test_a_cool_down_is_left_to_its_row(process: Process, offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    """There it may be reset; a later one begins anew here."""
    monkeypatch.setattr(module, "BRIDGE_S", 0.3)
    process.wellbeing.note(await make_report(offer, "rate_limited", retry_after_s=40.0))
    await asyncio.sleep(0.2)
    process.wellbeing.note(await make_report(offer, "rate_limited", retry_after_s=60.0))
    await asyncio.sleep(0.2)
    assert list(process.wellbeing.cooling) == [offer.pk]
    await asyncio.sleep(0.3)
    assert dict(process.wellbeing.cooling) == {}
    health = await wait_for(lambda: OfferHealth.objects.exclude(cooling_until=None).first())
    assert health.cooling_until.timestamp() > time.time() + 30


async def test_what_another_process_is_writing_is_reported_again(
    process: Process, offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def be_busy(connection: Any, reports: Sequence[Report]) -> list[bool]:
        tries.append(len(reports))
        return [False] * len(reports) if len(tries) < 3 else record_reports(connection, reports)

    monkeypatch.setattr(module, "record_reports", be_busy)
    failed = await make_report(offer, "timeout")
    process.wellbeing.note(failed)
    process.wellbeing.note(failed)
    await wait_for(find_calls(offer, 2))
    assert tries == [2, 2, 2]


async def test_a_database_that_was_away_is_told_later(
    process: Process, offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "RETRY_PAUSES", ())
    monkeypatch.setattr(module, "AWAY_PAUSE_S", 0.05)
    errors = [OperationalError("gone")] * 4

    def be_away(connection: Any, reports: Sequence[Report]) -> list[bool]:
        if errors:
            raise errors.pop()
        return record_reports(connection, reports)

    monkeypatch.setattr(module, "record_reports", be_away)
    for code in ("", "timeout"):
        process.wellbeing.note(await make_report(offer, code))
    await wait_for(find_calls(offer, 2))
    assert errors == []


async def test_a_storm_is_kept_within_bounds(process: Process, offer: Offer) -> None:
    """Successes do not crowd out the failures among them."""
    well, failed = await make_report(offer), await make_report(offer, "unreachable")
    for number in range(5000):
        process.wellbeing.note(failed if number < 3 else well)
    await process.wellbeing.close()
    assert process.writes == ["record_batches"]
    health = await look(offer)
    assert (len(health.recent), health.circuit) == (50, "open")


async def test_closing_writes_what_is_left(process: Process, offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_EVERY_S", 3600.0)
    process.wellbeing.note(await make_report(offer))
    await process.wellbeing.close()
    assert len((await look(offer)).recent) == 1


async def test_a_lane_that_is_closed_holds_nothing_up(process: Process, offer: Offer) -> None:
    await process.lane.close()
    process.wellbeing.note(await make_report(offer, "timeout"))
    await process.wellbeing.close()


async def test_a_refused_key_disables_its_channel_through_the_lane(process: Process, offer: Offer) -> None:
    """Everything about it is one transaction of the lane, which pipelines its statements on PostgreSQL."""
    process.wellbeing.note(await make_report(offer, "auth", scope="channel", detail="401"))
    await wait_for(Alert.objects.exists)
    assert await sync_to_async(lambda: read_versions(Channel.objects.get()))() == [(True, None), (False, "auth: 401")]


# --- probes --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def probing(
    database: None, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Process, Offer]]:
    """A process, and an offer at the simulator whose circuit may be probed."""
    monkeypatch.setattr(module, "LOOK_EVERY_S", 3600.0)
    offer = await sync_to_async(open_offer)(f"{simulator.base_url}/api/v1")
    await sync_to_async(open_circuits)(offer)
    process = Process(f"127.0.0.1:{simulator.port}")
    yield process, offer
    await process.close()


async def test_an_offer_comes_back_by_a_free_call_and_a_real_one(
    probing: tuple[Process, Offer], simulator: RunningSimulator
) -> None:
    process, offer = probing
    simulator.add_rule("error", status=503, code="ServiceUnavailable", match={"endpoint": "tasks"}, times=1)
    assert await process.wellbeing.probe_due() == 1
    health = await look(offer)
    assert (health.circuit, health.pause_s, health.probe_owner) == ("open", 60, "")
    assert health.reason.startswith("the probe failed: overloaded: 503")
    assert await process.wellbeing.probe_due() == 0
    await sync_to_async(OfferHealth.objects.update)(retry_at=health.changed_at)
    assert await process.wellbeing.probe_due() == 1
    health = await look(offer)
    assert (health.circuit, health.probe_owner, health.probe_until) == ("half_open", "", None)
    # The free calls have ordered nothing.
    assert simulator.totals()["submissions"] == 0
    claimed = await process.lane.write(claim_trials, Trial(offer.pk, "gen_1#1"))
    assert (claimed, await process.wellbeing.probe_due()) == (True, 0)
    process.wellbeing.note(await make_report(offer, ms=900, trial=True, generation_id="gen_1"))
    await wait_for(lambda: read_health(offer).circuit == "closed")


async def test_a_free_call_that_is_refused_our_key_disables_the_channel(
    probing: tuple[Process, Offer], simulator: RunningSimulator
) -> None:
    process, offer = probing
    simulator.add_rule("error", status=401, code="InvalidApiKey", match={"endpoint": "tasks"})
    await process.wellbeing.probe_due()
    alert = await wait_for(Alert.objects.first)
    assert (alert.kind, alert.subject) == ("channel_disabled", f"channel {offer.channel_id}")
    assert (await look(offer)).circuit == "open"
    # Nobody asks for a channel that is out of service.
    await sync_to_async(OfferHealth.objects.update)(retry_at=None)
    assert await process.wellbeing.probe_due() == 0


@pytest.mark.parametrize(("status", "code"), [(404, "ModelNotFound"), (429, "Throttling.RateQuota")])
async def test_a_free_call_that_is_answered_lets_a_real_one_decide(
    probing: tuple[Process, Offer], simulator: RunningSimulator, status: int, code: str
) -> None:
    process, offer = probing
    simulator.add_rule("error", status=status, code=code, match={"endpoint": "tasks"})
    await process.wellbeing.probe_due()
    health = await look(offer)
    assert (health.circuit, health.probe_owner) == ("half_open", "")
    assert not await sync_to_async(Alert.objects.exists)()


async def test_where_there_is_no_free_call_a_real_one_decides(
    probing: tuple[Process, Offer], simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, offer = probing
    monkeypatch.setattr(DashScopeSync, "free_probe", "")
    simulator.add_rule("error", status=503, match={"endpoint": "tasks"})
    await process.wellbeing.probe_due()
    assert (await look(offer)).circuit == "half_open"


async def test_a_credential_that_does_not_open_keeps_the_circuit_open(probing: tuple[Process, Offer]) -> None:
    """A process with the wrong keys must not disable what works for the others."""
    process, offer = probing
    await sync_to_async(Credential.objects.update)(ciphertext="gAAAAABnotatoken")
    await process.wellbeing.probe_due()
    health = await look(offer)
    assert (health.circuit, health.pause_s) == ("open", 60)
    assert health.reason.startswith("the probe failed: bad_response: the channel cannot be used as it is configured")
    assert (await sync_to_async(Channel.objects.get)()).enabled


async def test_a_broken_adapter_keeps_the_circuit_open(
    probing: tuple[Process, Offer], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_down(self: DashScopeSync) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(DashScopeSync, "probe", break_down)
    process, offer = probing
    await process.wellbeing.probe_due()
    health = await look(offer)
    assert (health.circuit, health.reason) == ("open", "the probe failed: bad_response: internal: ZeroDivisionError")


async def test_a_free_call_without_an_answer_fails(
    probing: tuple[Process, Offer], simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_TIMEOUT_S", 0.2)
    simulator.add_rule("hang", match={"endpoint": "tasks"})
    process, offer = probing
    await process.wellbeing.probe_due()
    health = await look(offer)
    assert (health.circuit, health.reason) == ("open", "the probe failed: timeout: no answer")


async def test_one_of_two_processes_probes_a_channel_once(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One free call for both offers of the channel, whoever claims them; each circuit is let go by its claimer."""
    monkeypatch.setattr(module, "LOOK_EVERY_S", 3600.0)
    async with Upstream(say_json(FREE)) as upstream:
        offer = await sync_to_async(open_offer)(f"{upstream.url}/api/v1")
        other = await sync_to_async(Offer.objects.create)(
            channel_id=offer.channel_id, model_id=offer.model_id, upstream_model="other", shape="sync"
        )
        await sync_to_async(open_circuits)(offer, other)
        processes = [Process(upstream.pair, owner=name) for name in ("one", "two")]
        claimed = await asyncio.gather(*[process.wellbeing.probe_due() for process in processes])
        for process in processes:
            await process.close()
    assert sorted(claimed) == [0, 2]
    assert [(one.method, one.target.startswith("/api/v1/tasks/")) for one in upstream.received] == [("GET", True)]
    states = await sync_to_async(lambda: list(OfferHealth.objects.values_list("circuit", "probe_owner")))()
    assert states == [("half_open", "")] * 2


async def test_circuits_are_looked_at_by_themselves(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.05)
    asked = asyncio.Event()

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await say_json(FREE)(request, writer)

    async with Upstream(answer) as upstream:
        offer = await sync_to_async(open_offer)(f"{upstream.url}/api/v1")
        process = Process(upstream.pair)
        await asyncio.sleep(0.2)
        # Nothing is written while every circuit is closed.
        assert process.writes == []
        await sync_to_async(open_circuits)(offer)
        async with asyncio.timeout(20):
            await asked.wait()
        await wait_for(lambda: read_health(offer).probe_owner == "")
        await process.close()
    assert await sync_to_async(write)(claim_trials, [Trial(offer.pk, "gen_1#1")]) == [True]
