"""What reports write: windows, circuits, cool-downs, what is disabled, and what is left alone."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

import pytest
from django.db import connection, transaction

from crazyrouter.sql import is_postgresql
from providers.alerts import resolve_alert
from providers.health import Report, record_reports, reset_health, restart_canary
from providers.health.circuits import MOST_CALLS
from providers.models import Alert, Channel, Offer, OfferHealth, add_credential
from tests.providers.clinic import (
    count_seconds,
    make_health,
    open_offer,
    read_health,
    read_versions,
    record,
    report,
)
from tests.race import race


@pytest.fixture
def offer(database: None) -> Offer:
    return open_offer()


def read_alerts() -> list[tuple[str, str, int]]:
    return list(Alert.objects.order_by("id").values_list("kind", "subject", "times"))


# --- windows and circuits ------------------------------------------------------------------------------------------


def test_a_first_call_makes_the_row(offer: Offer) -> None:
    assert record(report(offer, ms=1500)) == [True]
    health = read_health(offer)
    ((at, ok, ms, code),) = health.recent
    assert (ok, ms, code, health.latency_ms, health.circuit) == (1, 1500, "", 1500, "closed")
    assert abs(count_seconds(offer, "changed_at") if health.changed_at else 0) == 0
    assert at == round(at, 3)


@pytest.mark.parametrize(
    ("code", "scope"), [("content_policy", "request"), ("bad_request", "request"), ("storage_unavailable", "channel")]
)
def test_what_is_not_the_upstreams_fault_leaves_no_row(offer: Offer, code: str, scope: str) -> None:
    assert record(report(offer, code, scope=scope)) == [True]
    assert not OfferHealth.objects.exists()
    record(report(offer))
    before = OfferHealth.objects.values().get()
    record(report(offer, code, scope=scope, trial=True, generation_id="gen_1"))
    assert OfferHealth.objects.values().get() == before


def test_faults_open_the_circuit_for_all(offer: Offer, caplog: pytest.LogCaptureFixture) -> None:
    other = open_offer(name="other")
    record(*[report(offer, "overloaded", detail="try later") for _ in range(4)], report(other))
    assert read_health(offer).circuit == "closed"
    with caplog.at_level(logging.WARNING, logger="providers.health"):
        record(report(offer, "timeout", billed="unknown", detail="no answer"))
    health = read_health(offer)
    assert (health.circuit, health.reason, health.pause_s) == (
        "open",
        "5 calls in a row failed: timeout: no answer",
        30,
    )
    assert [f"the circuit of offer {offer.pk} is open: {health.reason}"] == [one.getMessage() for one in caplog.records]
    assert 29 < count_seconds(offer, "retry_at") <= 30
    assert -1 < count_seconds(offer, "changed_at") <= 0
    assert read_health(other).circuit == "closed"
    # What comes in while it is open is remembered and moves nothing.
    retry_at = health.retry_at
    record(report(offer, "overloaded"), report(offer))
    health = read_health(offer)
    assert (health.circuit, health.retry_at, len(health.recent)) == ("open", retry_at, 7)


def test_a_call_on_trial_closes_it_and_gives_up_the_claim(offer: Offer) -> None:
    make_health(offer, "half_open", pause_s=60, probe_owner="gen_1#1")
    record(report(offer, trial=True, generation_id="gen_1"))
    health = read_health(offer)
    assert (health.circuit, health.pause_s, health.retry_at, health.probe_owner) == ("closed", 0, None, "")


def test_a_call_on_trial_that_fails_opens_it_for_twice_as_long(offer: Offer) -> None:
    make_health(offer, "half_open", pause_s=60, probe_owner="gen_1#1")
    record(report(offer, "overloaded", trial=True, generation_id="gen_1"))
    health = read_health(offer)
    assert (health.circuit, health.pause_s, health.probe_owner, health.probe_until) == ("open", 120, "", None)
    assert 119 < count_seconds(offer, "retry_at") <= 120


@pytest.mark.parametrize("code", ["content_policy", "rate_limited"])
def test_a_trial_without_a_verdict_is_free_again(offer: Offer, code: str) -> None:
    make_health(offer, "half_open", pause_s=60, probe_owner="gen_1#1")
    record(report(offer, code, trial=True, generation_id="gen_2"))
    assert read_health(offer).probe_owner == "gen_1#1"
    record(report(offer, code, trial=True, generation_id="gen_1"))
    health = read_health(offer)
    assert (health.circuit, health.pause_s, health.probe_owner, health.changed_at) == ("half_open", 60, "", None)


def test_a_report_counts_from_when_its_call_ended(offer: Offer) -> None:
    """A database that was away for two minutes does not turn old failures into an outage of this minute."""
    record(*[report(offer) for _ in range(3)], *[report(offer, "overloaded", age_s=120.0) for _ in range(4)])
    health = read_health(offer)
    assert [ok for _, ok, _, _ in health.recent] == [0, 0, 0, 0, 1, 1, 1]
    assert health.recent[4][0] - health.recent[3][0] == pytest.approx(120, abs=0.01)
    record(report(offer, "overloaded"))
    assert read_health(offer).circuit == "closed"


def test_reports_of_an_offer_that_is_gone_are_dropped(offer: Offer) -> None:
    gone = replace(report(offer), offer_id=offer.pk + 1)
    assert record(gone, report(offer), replace(report(offer, "auth"), offer_id=0)) == [True, True, True]
    assert [row.offer_id for row in OfferHealth.objects.all()] == [offer.pk]


# --- cool-downs ----------------------------------------------------------------------------------------------------


def test_a_throttled_offer_cools_down_and_stays_in_service(offer: Offer) -> None:
    record(report(offer, "rate_limited", detail="Requests rate limit exceeded"))
    health = read_health(offer)
    assert 9 < count_seconds(offer, "cooling_until") <= 10
    assert health.cooling_reason == "throttled: rate_limited: Requests rate limit exceeded"
    assert (health.circuit, Offer.objects.get().enabled, Alert.objects.count()) == ("closed", True, 0)
    record(report(offer, "rate_limited", retry_after_s=45.0))
    assert 44 < count_seconds(offer, "cooling_until") <= 45
    record(report(offer))
    assert 44 < count_seconds(offer, "cooling_until") <= 45


# --- what is disabled ----------------------------------------------------------------------------------------------


def test_a_refused_key_disables_its_channel_with_a_reason(offer: Offer, caplog: pytest.LogCaptureFixture) -> None:
    refused = report(offer, "auth", scope="channel", detail="401 InvalidApiKey", generation_id="gen_1")
    assert record(refused, refused, refused) == [True, True, True]
    channel = Channel.objects.get()
    assert (channel.enabled, channel.disabled_reason) == (False, "auth: 401 InvalidApiKey (gen_1)")
    assert read_versions(channel) == [(True, None), (False, "auth: 401 InvalidApiKey (gen_1)")]
    assert (Offer.objects.get().enabled, OfferHealth.objects.count()) == (True, 0)
    alert = Alert.objects.get()
    assert (alert.kind, alert.subject, alert.channel_id, alert.times) == (
        "channel_disabled",
        f"channel {channel.pk}",
        channel.pk,
        3,
    )
    assert alert.text == "Disabled: auth: 401 InvalidApiKey (gen_1)"
    errors = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert errors == [f"channel {channel.pk} (channel_disabled): Disabled: auth: 401 InvalidApiKey (gen_1)"]


def test_the_same_again_is_counted_and_not_told_again(offer: Offer, caplog: pytest.LogCaptureFixture) -> None:
    refused = report(offer, "arrears", scope="channel")
    record(refused)
    caplog.clear()
    record(refused, refused)
    assert read_alerts() == [("channel_disabled", f"channel {offer.channel_id}", 3)]
    assert len(read_versions(Channel.objects.get())) == 2
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


def test_a_model_that_is_not_there_disables_its_offer_alone(offer: Offer) -> None:
    other = Offer.objects.create(
        channel=offer.channel, model=offer.model, upstream_model="another", shape="sync", priority=3
    )
    record(report(offer, "not_available", detail="404 ModelNotFound"))
    offer.refresh_from_db()
    other.refresh_from_db()
    assert (offer.enabled, other.enabled, Channel.objects.get().enabled) == (False, True, True)
    assert read_versions(offer) == [(True, None), (False, "not_available: 404 ModelNotFound")]
    assert read_versions(other) == [(True, None)]
    assert read_alerts() == [("offer_disabled", f"offer {offer.pk}", 1)]


@pytest.mark.parametrize(("code", "scope"), [("auth", "channel"), ("not_available", "offer")])
def test_a_key_that_was_rotated_meanwhile_disables_nothing(offer: Offer, code: str, scope: str) -> None:
    late = report(offer, code, scope=scope)
    add_credential(offer.channel, "sk-new")
    assert record(late) == [True]
    assert (Channel.objects.get().enabled, Offer.objects.get().enabled) == (True, True)
    assert (Alert.objects.count(), OfferHealth.objects.count()) == (0, 0)
    assert read_versions(Channel.objects.get()) == [(True, None)]
    # The word of the new key counts, in the same batch as that of the old one.
    record(late, report(offer, code, scope=scope), late)
    assert [alert[2] for alert in read_alerts()] == [1]
    assert Channel.objects.get().enabled is (scope == "offer")


def test_what_a_person_has_disabled_raises_no_alert(offer: Offer) -> None:
    Channel.objects.update(enabled=False, disabled_reason="maintenance")
    record(report(offer, "auth", scope="channel"))
    assert (Channel.objects.get().disabled_reason, Alert.objects.count()) == ("maintenance", 0)


def test_a_resolved_alert_stays_and_the_same_trouble_opens_a_new_one(offer: Offer) -> None:
    refused = report(offer, "auth", scope="channel")
    record(refused)
    alert = Alert.objects.get()
    assert resolve_alert(alert, actor="anna") is True
    assert resolve_alert(alert, actor="ben") is False
    Channel.objects.update(enabled=True)
    record(refused, refused)
    assert read_alerts() == [(alert.kind, alert.subject, 1), (alert.kind, alert.subject, 2)]
    alert.refresh_from_db()
    assert (alert.resolved_by, alert.resolved_at is not None) == ("anna", True)


# --- canaries ------------------------------------------------------------------------------------------------------


def test_a_canary_falls_back_once_with_an_alert(offer: Offer) -> None:
    Offer.objects.update(canary_percent=5, canary_min_success=90)
    record(*[report(offer) for _ in range(7)], report(offer, "timeout"), report(offer, "timeout"))
    assert Offer.objects.get().canary_fallen_at is None
    record(report(offer))
    fallen = Offer.objects.get()
    assert fallen.canary_fallen_reason == "8 of its latest 10 calls succeeded: fewer than 90 %"
    assert fallen.enabled
    record(report(offer, "timeout"))
    assert Offer.objects.get().canary_fallen_at == fallen.canary_fallen_at
    assert read_alerts() == [("canary_fallen", f"offer {offer.pk}", 1)]


def test_an_offer_that_is_no_canary_has_no_bounds(offer: Offer) -> None:
    Offer.objects.update(canary_min_success=90)
    record(*[report(offer, ms=1000) for _ in range(20)], report(offer, "timeout"), report(offer, "timeout"))
    Offer.objects.update(canary_percent=5, canary_min_success=None)
    record(report(offer))
    assert (Offer.objects.get().canary_fallen_at, Alert.objects.count()) == (None, 0)


def test_a_slow_canary_falls_back_and_may_start_anew(offer: Offer) -> None:
    Offer.objects.update(canary_percent=5, canary_max_latency_s=10)
    record(*[report(offer, ms=12_000) for _ in range(10)])
    assert Offer.objects.get().canary_fallen_reason == "its latest 10 good calls took 12.0 s: more than 10"
    assert restart_canary(offer, actor="anna") is True
    assert restart_canary(offer, actor="anna") is False
    record(report(offer, ms=12_000))
    assert Offer.objects.get().canary_fallen_at is None


# --- by hand -------------------------------------------------------------------------------------------------------


def test_a_person_resets_what_is_known(offer: Offer) -> None:
    assert reset_health(offer, actor="anna") is False
    record(*[report(offer, "overloaded") for _ in range(5)], report(offer, "rate_limited"))
    assert read_health(offer).circuit == "open"
    assert reset_health(offer, actor="anna") is True
    health = read_health(offer)
    assert (health.circuit, health.reason, health.pause_s, health.recent) == ("closed", "reset by anna", 0, [])
    assert (health.retry_at, health.cooling_until, health.probe_until) == (None, None, None)
    # Calls that began before it was reset are told of, and open nothing.
    record(*[report(offer, "overloaded", ms=5000) for _ in range(5)])
    assert read_health(offer).circuit == "closed"


# --- at the same time ----------------------------------------------------------------------------------------------


def record_until_written(*reports: Report) -> None:
    left = list(reports)
    for _ in range(2000):
        left = [one for one, written in zip(left, record(*left), strict=True) if not written]
        if not left:
            return
    raise AssertionError("the row is never free")


def test_reports_of_many_processes_lose_nothing(offer: Offer) -> None:
    """Two of them make the row, all of them write it."""
    other = open_offer(name="other")
    calls = [
        [report(one, ms=1000 * work + number) for one in (offer, other)] for work in range(4) for number in range(10)
    ]

    def work(number: int) -> None:
        for pair in calls[number * 10 : number * 10 + 10]:
            record_until_written(*(pair if number % 2 else pair[::-1]))

    assert race(4, work) == [None] * 4
    for one in (offer, other):
        seen = [call[2] for call in read_health(one).recent]
        assert sorted(seen) == sorted(1000 * work + number for work in range(4) for number in range(10))
    assert MOST_CALLS >= 40


def test_one_of_many_opens_the_circuit_and_disables_the_channel(offer: Offer) -> None:
    faults = [report(offer, "overloaded") for _ in range(5)]
    refused = report(offer, "auth", scope="channel")
    assert race(4, lambda _: record_until_written(*faults, refused)) == [None] * 4
    health = read_health(offer)
    assert (health.circuit, health.pause_s, len(health.recent)) == ("open", 30, 20)
    assert len(read_versions(Channel.objects.get())) == 2
    assert read_alerts() == [("channel_disabled", f"channel {offer.channel_id}", 4)]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
def test_a_row_that_is_being_written_is_not_waited_for(offer: Offer) -> None:
    other = open_offer(name="other")
    record(report(offer), report(other))
    written, done = threading.Event(), threading.Event()

    def work(number: int) -> object:
        if number == 0:
            with transaction.atomic():
                record_reports(connection, [report(offer)])
                written.set()
                assert done.wait(20)
            return None
        assert written.wait(20)
        try:
            return record(report(offer), report(other), report(offer, "auth", credential_id=0))
        finally:
            done.set()

    assert is_postgresql(connection)
    assert race(2, work) == [None, [False, True, True]]
    assert [len(read_health(one).recent) for one in (offer, other)] == [2, 2]
