"""What a swap is told beforehand, line by line; the free call goes to a simulator."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from models_registry.models import ImageModel
from providers import preflight
from providers.adapters.openai_images import OpenAIImages
from providers.findings import Finding, Level
from providers.models import Capacity, Channel, Offer, OfferHealth, UpstreamAccount, add_credential
from providers.preflight import inspect_swap, is_blocked
from tests.admin.world import World, add_channel, add_offer, build_world
from tests.simulator.running import RunningSimulator

OK, NOTICE, REFUSAL = Level.OK, Level.NOTICE, Level.REFUSAL
FREE = "(the free call asks for a task that does not exist)"


@pytest.fixture
def world(db: None, simulator: RunningSimulator, settings: Any) -> World:
    settings.EGRESS_ALLOW = [f"127.0.0.1:{simulator.port}"]
    world = build_world()
    Channel.objects.update(base_url=f"{simulator.base_url}/api/v1")
    add_credential(world.second, "sk-sim-77b1")
    for channel in (world.first, world.second):
        channel.refresh_from_db()
    return world


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what the carrier does not matter to."""
    monkeypatch.setattr(preflight, "run_probe", lambda channel, secret: None)


def inspect(world: World) -> list[Finding]:
    return inspect_swap(
        world.max,
        from_channel=Channel.objects.get(pk=world.first.pk),
        to_channel=Channel.objects.get(pk=world.second.pk),
    )


def find(world: World, subject: str) -> list[tuple[Level, str]]:
    return [(finding.level, finding.text) for finding in inspect(world) if finding.subject == subject]


def change(row: Offer | Channel, **values: Any) -> None:
    type(row)._default_manager.filter(pk=row.pk).update(**values)


def test_a_channel_that_is_as_good(world: World) -> None:
    assert [(finding.level, finding.subject, finding.text) for finding in inspect(world)] == [
        (OK, "Credential", f"…77b1: it works {FREE}."),
        (OK, "Sizes", "It renders every size of qwen-image-max."),
        (NOTICE, "n", "It makes 1 image a call: a request for 4 is fanned out into 4 calls."),
        (OK, "Fields", "It passes on everything that customers may send."),
        (OK, "Shape", "It is sync, as qwen-image-max is published."),
        (
            OK,
            "Genuine",
            "qwen-image-max is declared to be genuinely qwen-image-max, and has no open weights there.",
        ),
        (OK, "Capacity", "reseller: no limit is known; official: no limit is known."),
        (OK, "Cost", "An image costs ¥0.30, and ¥0.20 of its price is left."),
        (OK, "Cost against now", "As much as at official."),
        (OK, "Circuit", "Its circuit is closed."),
        (OK, "Recent calls", "No recent call."),
    ]


def test_refusals_stand_first(world: World, silent: None) -> None:
    change(world.spare, shape="async", genuine=False)
    subjects = [(finding.level, finding.subject) for finding in inspect(world)]
    assert subjects[:3] == [(REFUSAL, "Shape"), (REFUSAL, "Genuine"), (OK, "Credential")]


def test_notices_do_not_block(world: World, silent: None) -> None:
    findings = inspect(world)
    assert {finding.level for finding in findings} == {OK, NOTICE}
    assert not is_blocked(findings)


# --- the credential ---


def test_a_key_that_is_refused(world: World) -> None:
    add_credential(world.second, "not-a-key-77b1")
    ((level, text),) = find(world, "Credential")
    assert (level, text.startswith("…77b1: it does not work now: auth, ")) == (REFUSAL, True)
    assert is_blocked(inspect(world))


def test_a_carrier_that_is_busy_has_not_refused_the_key(world: World, simulator: RunningSimulator) -> None:
    simulator.add_rule("error", match={"endpoint": "tasks"}, status=429, code="Throttling.RateQuota")
    ((level, text),) = find(world, "Credential")
    assert (level, text.startswith("…77b1: it is not refused, but the carrier is busy: rate_limited")) == (NOTICE, True)


def test_a_carrier_that_is_not_there(world: World) -> None:
    change(world.second, base_url="http://127.0.0.1:9/api/v1")
    ((level, text),) = find(world, "Credential")
    assert (level, text.startswith("…77b1: it does not work now: unreachable")) == (REFUSAL, True)


def test_a_carrier_that_does_not_answer_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(channel: Channel, secret: str) -> None:
        async with asyncio.timeout(preflight.PROBE_LIMIT_S):
            await asyncio.sleep(60)

    monkeypatch.setattr(preflight, "PROBE_LIMIT_S", 0.2)
    monkeypatch.setattr(preflight, "probe_channel", hang)
    started = time.monotonic()
    assert find(world, "Credential") == [(REFUSAL, f"…77b1: the carrier did not answer within 0.2 s {FREE}.")]
    assert time.monotonic() - started < 30


def test_a_secret_that_cannot_be_read(world: World) -> None:
    world.second.credentials.update(ciphertext="nonsense")
    ((level, text),) = find(world, "Credential")
    assert (level, text.startswith("…77b1: the channel cannot be used as it is configured")) == (REFUSAL, True)


def test_options_that_are_wrong(world: World) -> None:
    change(world.second, options={"workspace": 7})
    ((level, text),) = find(world, "Credential")
    assert (level, "workspace: the id of a workspace, a text" in text) == (REFUSAL, True)


def test_no_free_call_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.adapters.dashscope.DashScope.free_probe", "")
    said = "dashscope_sync has no free call: whether the credential works shows with the first order."
    assert find(world, "Credential") == [(NOTICE, said)]


# --- what it can do ---


@pytest.mark.usefixtures("silent")
class TestAbilities:
    def test_a_size_that_is_sold_and_not_rendered(self, world: World) -> None:
        change(world.spare, sizes=["1664x928", "1328x1328", "1104x1472"])
        said = "It does not render 1472x1104, 928x1664, which qwen-image-max is sold in."
        assert find(world, "Sizes") == [(REFUSAL, said)]

    def test_sizes_are_compared_with_what_is_rendered(self, world: World) -> None:
        """1024x1024 is sold, and rendered at 1328x1328."""
        change(world.spare, sizes=["1664x928", "1472x1104", "1328x1328", "1104x1472", "928x1664"])
        assert find(world, "Sizes") == [(OK, "It renders every size that is sold.")]

    def test_a_default_size_counts(self, world: World) -> None:
        world.max.sizes.exclude(width=1024).delete()
        change(world.spare, sizes=["1328x1328"])
        assert find(world, "Sizes") == [(REFUSAL, "It does not render 1664x928, which qwen-image-max is sold in.")]

    def test_a_few_sizes_of_a_range(self, world: World) -> None:
        ranged = ImageModel.objects.get(name="qwen-image-2.0")
        sizes = ["2048x2048", "2688x1536", "1536x2688", "2368x1728", "1728x2368", "1024x1024"]
        add_offer(world.first, ranged)
        add_offer(world.second, ranged, sizes=sizes, max_n=6)
        found = inspect_swap(ranged, from_channel=world.first, to_channel=world.second)
        (text,) = [finding.text for finding in found if finding.subject == "Sizes" and finding.level is NOTICE]
        assert text == f"Of the range that qwen-image-2.0 is sold in it renders only {', '.join(sizes)}."
        assert [finding.text for finding in found if finding.subject == "n"] == ["A request for 6 images is one call."]

    def test_fields_that_it_cannot_pass_on(self, world: World) -> None:
        shop = add_channel("shop")
        change(shop, kind="openai_images")
        add_offer(shop, world.max)
        found = inspect_swap(world.max, from_channel=world.first, to_channel=Channel.objects.get(pk=shop.pk))
        (fields,) = [finding for finding in found if finding.subject == "Fields"]
        missing = "It cannot pass on negative_prompt, prompt_extend, seed, watermark: requests with one of these will"
        assert (fields.level, fields.text) == (NOTICE, f"{missing} find no channel.")
        change(world.spare, enabled=True)
        found = inspect_swap(world.max, from_channel=world.first, to_channel=Channel.objects.get(pk=shop.pk))
        assert f"{missing} go to reseller." in [finding.text for finding in found]

    def test_another_shape_is_a_notice(self, world: World) -> None:
        change(world.second, kind="dashscope_async")
        change(world.spare, shape="async")
        said = "It is async, and qwen-image-max is published as sync: customers see no difference but the time."
        assert find(world, "Shape") == [(NOTICE, said)]

    def test_a_shape_that_the_adapter_does_not_speak(self, world: World) -> None:
        change(world.spare, shape="async")
        assert find(world, "Shape") == [(REFUSAL, "The offer says async, but dashscope_sync is sync.")]

    def test_an_imitation(self, world: World) -> None:
        change(world.spare, genuine=False, upstream_model="lookalike")
        assert find(world, "Genuine") == [(REFUSAL, "lookalike is marked as not genuinely qwen-image-max.")]

    def test_open_weights(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(OpenAIImages, "open_weights", frozenset({"qwen/qwen-image"}))
        change(world.second, kind="openai_images")
        change(world.spare, upstream_model="Qwen/Qwen-Image")
        said = "Qwen/Qwen-Image has open weights at openai_images: it is not qwen-image-max."
        assert find(world, "Genuine") == [(REFUSAL, said)]

    def test_a_simulator_does_not_take_over_from_a_carrier(self, world: World) -> None:
        change(world.second, simulated=True)
        assert is_blocked(inspect(world))
        change(world.first, simulated=True)
        assert not is_blocked(inspect(world))


# --- how much, at what cost ---


def give_account(channel: Channel, **limits: Any) -> Capacity:
    account = UpstreamAccount.objects.create(name=f"of {channel}")
    change(channel, account=account)
    return Capacity.objects.create(account=account, **limits)


@pytest.mark.usefixtures("silent")
class TestCapacityAndCost:
    def test_limits_where_there_were_none(self, world: World) -> None:
        give_account(world.second, submit_interval_ms=30_000, submit_burst=2, max_running=2, running=1, call_ms=21_300)
        said = (
            "Less than now. reseller: 2 submits per 60 s, 2 at a time (1 of 2 running, a call takes 21.3 s); "
            "official: no limit is known."
        )
        assert find(world, "Capacity") == [(NOTICE, said)]

    def test_the_row_of_the_model_goes_before_that_of_all_others(self, world: World) -> None:
        give_account(world.first, max_running=5)
        capacity = give_account(world.second, max_running=2)
        Capacity.objects.create(account=capacity.account, upstream_model="qwen-image-max", max_running=9)
        said = "reseller: 9 at a time (0 of 9 running); official: 5 at a time."
        assert find(world, "Capacity") == [(OK, said)]

    def test_fewer_at_a_time_is_a_notice_however_fast(self, world: World) -> None:
        give_account(world.first, max_running=5, submit_interval_ms=60_000)
        give_account(world.second, max_running=4, submit_interval_ms=1)
        assert find(world, "Capacity")[0][0] is NOTICE

    @pytest.mark.parametrize(
        ("columns", "found"),
        [
            ({"cost_micros": None}, [("Cost", NOTICE, "What an image costs there is not written down.")]),
            (
                {"cost_micros": 620_000},
                [
                    ("Cost", NOTICE, "An image costs ¥0.62, ¥0.12 more than it is sold at."),
                    ("Cost against now", NOTICE, "¥0.32 more than at official, where it costs ¥0.30."),
                ],
            ),
            (
                {"cost_micros": 40_000, "cost_currency": "USD"},
                [
                    (
                        "Cost",
                        NOTICE,
                        "An image costs USD 0.04 and is sold at ¥0.50: different currencies, not converted.",
                    ),
                    ("Cost against now", NOTICE, "At official it costs ¥0.30: different currencies, not converted."),
                ],
            ),
            (
                {"cost_micros": 250_000},
                [
                    ("Cost", OK, "An image costs ¥0.25, and ¥0.25 of its price is left."),
                    ("Cost against now", OK, "¥0.05 less than at official (¥0.30)."),
                ],
            ),
        ],
    )
    def test_costs(self, world: World, columns: dict[str, Any], found: list[tuple[str, Level, str]]) -> None:
        change(world.spare, **columns)
        lines = [(one.subject, one.level, one.text) for one in inspect(world) if one.subject.startswith("Cost")]
        assert lines == found

    def test_a_model_without_a_price(self, world: World) -> None:
        model = ImageModel.objects.create(
            name="unpriced", title="New", execution_shape="sync", default_size="1328x1328"
        )
        add_offer(world.first, model)
        add_offer(world.second, model)
        found = inspect_swap(model, from_channel=world.first, to_channel=world.second)
        notices = [(one.subject, one.text) for one in found if one.level is NOTICE]
        assert notices == [("Price", "unpriced has no price in force: it is not sold now.")]
        assert [one.text for one in found if one.subject == "Cost against now"] == ["As much as at official."]


# --- how it fares ---


@pytest.mark.usefixtures("silent")
class TestHealth:
    def test_an_open_circuit_is_a_refusal(self, world: World) -> None:
        OfferHealth.objects.create(
            offer=world.spare, circuit="open", reason="5 calls in a row failed: timeout", changed_at=timezone.now()
        )
        ((level, text),) = find(world, "Circuit")
        assert (level, text.startswith("Its circuit is open since ")) == (REFUSAL, True)
        assert text.endswith(": 5 calls in a row failed: timeout; reset it if the trouble is over.")

    def test_half_open_and_cooling_are_notices(self, world: World) -> None:
        later = timezone.now() + timedelta(minutes=1)
        OfferHealth.objects.create(
            offer=world.spare,
            circuit="half_open",
            changed_at=timezone.now(),
            cooling_until=later,
            cooling_reason="throttled: rate_limited",
            recent=[[1_795_000_000.0, 1, 8000, ""], [1_795_000_009.0, 0, 100, "timeout"]],
        )
        assert [level for level, _ in find(world, "Circuit")] == [NOTICE]
        ((level, text),) = find(world, "Cooling")
        assert (level, text.endswith(": throttled: rate_limited.")) == (NOTICE, True)
        assert find(world, "Recent calls") == [(OK, "50 % of 2 calls succeeded, 8.0 s on average.")]

    def test_a_trial_ends_with_the_swap(self, world: World) -> None:
        change(world.spare, canary_percent=5)
        assert find(world, "Trial") == [(NOTICE, "It is a canary 5 %: that ends with the swap.")]

    def test_a_canary_that_fell_back_does_not_take_over(self, world: World) -> None:
        change(world.spare, canary_percent=5, canary_fallen_at=timezone.now(), canary_fallen_reason="slow")
        ((level, text),) = find(world, "Trial")
        assert (level, text.endswith(": slow. Restart it first, if the trouble is over.")) == (REFUSAL, True)


# --- what cannot even be looked at ---


@pytest.mark.usefixtures("silent")
class TestNothingToLookAt:
    def test_nobody_serves_it(self, world: World) -> None:
        change(world.offer, enabled=False)
        assert [(one.level, one.subject, one.text) for one in inspect(world)] == [
            (REFUSAL, "Offer", "official does not serve qwen-image-max now.")
        ]

    def test_two_that_could_be_meant(self, world: World) -> None:
        add_offer(world.second, world.max, upstream_model="alias")
        said = "reseller has 2 offers for qwen-image-max: enable the one that is meant by hand."
        assert find(world, "Offer") == [(REFUSAL, said)]

    def test_a_channel_that_is_out_of_service(self, world: World) -> None:
        change(world.second, enabled=False)
        assert find(world, "Channel") == [(REFUSAL, "reseller is disabled.")]
        change(world.second, enabled=True, draining_since=timezone.now())
        assert find(world, "Channel") == [(REFUSAL, "reseller is draining: stop that first.")]

    def test_what_routing_alone_knows_blocks_too(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(preflight, "find_exclusion", lambda offer, credential: "it is Sunday")
        assert find(world, "Routing") == [(REFUSAL, "Routing would leave it out: it is Sunday.")]
