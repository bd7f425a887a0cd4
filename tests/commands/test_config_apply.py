"""`config apply`: what is written, what is left alone, and what the history says of it."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import time_machine
from cryptography.fernet import Fernet
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import IntegrityError, OperationalError
from django.utils import timezone

import crazyrouter.management.configuration
from crazyrouter.management.configuration import applying
from crazyrouter.management.configuration.accounts import ACCOUNT, CAPACITY
from crazyrouter.management.configuration.catalog import MODEL
from crazyrouter.management.configuration.channels import CHANNEL
from crazyrouter.management.configuration.edits import Author
from crazyrouter.management.configuration.families import FAMILY
from crazyrouter.management.configuration.offers import OFFER
from models_registry.models import ImageModel, ImageSize, ModelFamily, Price
from models_registry.seed import seed_models
from providers.models import Capacity, Channel, Credential, Offer, OfferHealth, UpstreamAccount
from tests.server import ROOT, build_environment
from tests.shop import open_channel

EXAMPLE = Path(crazyrouter.management.configuration.__file__).parent / "example.yaml"
SECRET = "sk-real-6f1e0c9a7b"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHSCOPE_API_KEY", SECRET)


def run(text: str, *arguments: str, folder: Path) -> str:
    """What `config apply` prints of a file of this text."""
    file = folder / "shop.yaml"
    file.write_text(text)
    out = StringIO()
    call_command("config", "apply", str(file), *arguments, stdout=out)
    return out.getvalue().replace(str(file), "shop.yaml")


@pytest.fixture
def apply(database: None, tmp_path: Path) -> Any:
    return lambda text, *arguments: run(text, *arguments, folder=tmp_path)


def read_everything() -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the registry and of the providers, histories included."""
    labels = ("models_registry", "providers")
    models = [model for label in labels for model in apps.get_app_config(label).get_models()]
    return {model.__name__: list(model._default_manager.order_by("pk").values_list()) for model in models}


# --- the example ---


def test_the_example_makes_a_shop_of_an_empty_database(apply: Any) -> None:
    out = apply(EXAMPLE.read_text())
    assert out.splitlines()[-1] == "19 made, 0 changed, 0 as they were"
    assert list(
        Capacity.objects.values_list("upstream_model", "submit_interval_ms", "submit_burst", "max_running")
    ) == [
        ("qwen-image-2.0", 500, 2, None),
        ("qwen-image-2.0-pro", 30_000, 2, None),
        ("qwen-image-max", 30_000, 2, None),
        ("qwen-image-plus", 500, 2, 2),
    ]
    assert list(UpstreamAccount.objects.values_list("name", "polls_per_s")) == [("dashscope", 20)]
    assert list(
        Channel.objects.values_list("name", "kind", "account__name", "enabled", "disabled_reason", "options")
    ) == [
        ("A reseller", "openai_images", None, False, "no contract yet", {"extra_fields": True}),
        ("DashScope, async", "dashscope_async", "dashscope", True, "", {"poll_interval_s": 5}),
        ("DashScope, sync", "dashscope_sync", "dashscope", True, "", {}),
    ]
    rows = Offer.objects.order_by("channel__name", "model__name")
    assert list(rows.values_list("model__name", "shape", "priority", "max_n", "cost_micros", "canary_percent")) == [
        ("qwen-image-2.0", "sync", 10, 1, 180_000, 5),
        ("qwen-image-max", "sync", 10, 1, 450_000, None),
        ("qwen-image-plus", "async", 0, 1, 200_000, None),
        ("qwen-image-2.0", "sync", 0, 6, 200_000, None),
        ("qwen-image-2.0-pro", "sync", 0, 6, 500_000, None),
        ("qwen-image-max", "sync", 0, 1, 500_000, None),
    ]
    assert [credential.reveal() for credential in Credential.objects.all()] == [SECRET, SECRET]
    assert list(ImageModel.objects.values_list("verification", "family__slug")) == [("beta", "qwen")] * 4


def test_the_example_explains_every_field() -> None:
    words = set(re.findall(r"\b([a-z_0-9]+):", EXAMPLE.read_text()))
    assert [
        key for shape in (FAMILY, MODEL, ACCOUNT, CAPACITY, CHANNEL, OFFER) for key in shape.keys if key not in words
    ] == []


def test_the_example_says_what_the_first_models_are(apply: Any) -> None:
    seed_models()
    out = apply(EXAMPLE.read_text(), "--dry-run")
    assert [line for line in out.splitlines() if "models." in line or "families." in line] == []


def test_again_changes_nothing(apply: Any) -> None:
    apply(EXAMPLE.read_text())
    before = read_everything()
    assert apply(EXAMPLE.read_text()) == "0 made, 0 changed, 19 as they were\n"
    assert read_everything() == before


def test_a_dry_run_says_the_same_and_changes_nothing(apply: Any) -> None:
    before = read_everything()
    dry = apply(EXAMPLE.read_text(), "--dry-run").splitlines()
    assert read_everything() == before
    assert dry.pop() == "19 to be made, 0 to be changed, 0 as they are: nothing was changed"
    assert apply(EXAMPLE.read_text()).splitlines()[:-1] == dry


def test_no_secret_is_printed_or_kept_in_a_history(apply: Any) -> None:
    out = apply(EXAMPLE.read_text())
    assert "credential: one, from ${DASHSCOPE_API_KEY}" in out
    assert SECRET not in out
    assert SECRET not in repr(read_everything())


# --- what is in the file, and what is not ---


def test_a_difference_is_told_field_by_field(apply: Any) -> None:
    apply(EXAMPLE.read_text())
    out = apply("""
schema: 1
models:
  qwen-image-max: {title: "Max", price: 0.55, size_range: null, description: "two\\nlines"}
accounts:
  dashscope:
    polls_per_s: null
    capacities: {qwen-image-max: {submits: 3 per minute}}
    other_models: {max_running: 1}
channels:
  DashScope, sync: {base_url: "https://dashscope-intl.aliyuncs.com/api/v1", options: {workspace: ws-1}}
  A reseller: {enabled: true}
""")
    assert (
        out
        == """\
~ models.qwen-image-max
    title: Qwen Image Max -> Max
    description: "" -> "two\\nlines"
    price: 0.50 -> 0.55
~ accounts.dashscope
    polls_per_s: 20 -> none
~ accounts.dashscope.capacities.qwen-image-max
    submits: 2 per 60s -> 3 per 60s
+ accounts.dashscope.other_models
    max_running: 1
~ channels.DashScope, sync
    base_url: https://dashscope.aliyuncs.com/api/v1 -> https://dashscope-intl.aliyuncs.com/api/v1
    options: {} -> {"workspace": "ws-1"}
~ channels.A reseller
    enabled: false -> true
    disabled_reason: no contract yet -> ""
note: shop.yaml:12: channels.A reseller: has no credential: nothing is sent to it until it has one
1 made, 5 changed, 0 as they were
"""
    )


def test_what_the_file_does_not_name_stays(apply: Any) -> None:
    apply(EXAMPLE.read_text())
    before = read_everything()
    apply("schema: 1\nmodels:\n  qwen-image-max:\n    max_n: 3\nchannels:\n  DashScope, sync:\n    note: ours\n")
    after = read_everything()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"ImageModel", "HistoricalImageModel", "Channel", "HistoricalChannel"}
    assert list(ImageModel.objects.filter(name="qwen-image-max").values_list("max_n", "title", "prompt_limit")) == [
        (3, "Qwen Image Max", 800)
    ]
    assert len(after["HistoricalImageModel"]) == len(before["HistoricalImageModel"]) + 1


def test_a_list_of_offers_is_whole_and_nothing_is_deleted(apply: Any) -> None:
    apply(EXAMPLE.read_text())
    text = """
schema: 1
channels:
  DashScope, sync:
    offers:
      - {model: qwen-image-2.0, weight: 3}
      - {model: qwen-image-max, upstream_model: qwen-image-max-2025-12-30}
"""
    assert (
        apply(text)
        == """\
~ channels.DashScope, sync.offers[qwen-image-2.0]
    weight: 1 -> 3
+ channels.DashScope, sync.offers[qwen-image-max as qwen-image-max-2025-12-30]
    upstream_model: qwen-image-max-2025-12-30
~ channels.DashScope, sync.offers[qwen-image-max]
    enabled: true -> false (it is not in the list)
~ channels.DashScope, sync.offers[qwen-image-2.0-pro]
    enabled: true -> false (it is not in the list)
1 made, 3 changed, 1 as they were
"""
    )
    rows = Offer.objects.filter(channel__name="DashScope, sync").order_by("upstream_model")
    assert list(rows.values_list("upstream_model", "enabled", "weight")) == [
        ("qwen-image-2.0", True, 3),
        ("qwen-image-2.0-pro", False, 1),
        ("qwen-image-max", False, 1),
        ("qwen-image-max-2025-12-30", True, 1),
    ]
    assert apply(text) == "0 made, 0 changed, 5 as they were\n"


def test_what_is_back_in_the_list_and_still_disabled_is_told(apply: Any) -> None:
    apply(EXAMPLE.read_text())
    text = "schema: 1\nchannels:\n  A reseller:\n    note: x\n    offers:\n"
    apply(text + "      - {model: qwen-image-max}\n")
    said = "is disabled; `enabled: true` would bring it back"
    out = apply(text + "      - {model: qwen-image-max}\n      - {model: qwen-image-2.0}\n")
    assert out.splitlines() == [
        "note: shop.yaml:3: channels.A reseller: is disabled (no contract yet); `enabled: true` would bring it back",
        f"note: shop.yaml:7: channels.A reseller.offers[qwen-image-2.0]: {said}",
        "0 made, 0 changed, 3 as they were",
    ]
    out = apply(text + "      - {model: qwen-image-max}\n      - {model: qwen-image-2.0, enabled: true}\n")
    assert out.splitlines()[:2] == ["~ channels.A reseller.offers[qwen-image-2.0]", "    enabled: false -> true"]


def test_sizes_are_one_list_in_its_order(apply: Any) -> None:
    seed_models()
    text = "schema: 1\nmodels:\n  qwen-image-max:\n    sizes: [{}]\n"
    out = apply(text.format("928x1664, 1664x928, {size: 512x512, render: 1024x1024}, 1024x1024"))
    assert out.splitlines()[1] == (
        "    sizes: -1472x1104, -1328x1328, -1104x1472, -1024x1024 (from 1328x1328), "
        "+512x512 (from 1024x1024), +1024x1024"
    )
    rows = ImageSize.objects.filter(model__name="qwen-image-max")
    assert [(str(size), size.render_width, size.position) for size in rows] == [
        ("928x1664", None, 0),
        ("1664x928", None, 1),
        ("512x512", 1024, 2),
        ("1024x1024", None, 3),
    ]
    reason = ImageModel.history.filter(name="qwen-image-max").first().history_change_reason
    assert reason.startswith("config: shop.yaml, by shell")
    out = apply(text.format("1664x928, 928x1664, {size: 512x512, render: 1024x1024}, 1024x1024"))
    assert out.splitlines()[1] == "    sizes: in the order 1664x928, 928x1664, 512x512 (from 1024x1024), 1024x1024"


def test_an_offer_may_name_sizes_that_its_model_gets_in_the_same_file(apply: Any) -> None:
    seed_models()
    open_channel("https://carrier.example/v1", "openai_images", {"qwen-image-max": 1}, name="carrier")
    apply("""
schema: 1
models:
  qwen-image-max: {sizes: [1664x928, 800x800]}
  other: {title: Other, execution_shape: sync, default_size: 640x640, sizes: [640x640], price: "1"}
channels:
  carrier:
    offers:
      - {model: qwen-image-max, sizes: [800x800]}
      - {model: other, sizes: [640x640]}
""")
    assert list(Offer.objects.order_by("id").values_list("model__name", "sizes")) == [
        ("qwen-image-max", ["800x800"]),
        ("other", ["640x640"]),
    ]


def test_a_change_is_recorded_with_its_file_and_who_applied_it(apply: Any) -> None:
    apply(EXAMPLE.read_text())
    apply("schema: 1\nchannels:\n  A reseller:\n    retry_billed: 2\n")
    versions = Channel.history.filter(name="A reseller").order_by("history_id")
    assert [(each.history_type, each.retry_billed) for each in versions] == [("+", 0), ("~", 2)]
    reasons = {each.history_change_reason for each in versions}
    assert len(reasons) == 1
    assert reasons.pop().startswith("config: shop.yaml, by shell")
    for model in (ModelFamily, ImageModel, UpstreamAccount, Capacity, Offer):
        assert {each.history_change_reason.partition(",")[0] for each in model.history.all()} == {"config: shop.yaml"}
    assert {(price.reason.partition(",")[0], price.actor[:5]) for price in Price.objects.all()} == {
        ("config: shop.yaml", "shell")
    }


def test_a_long_name_of_a_file_fits_the_history(database: None) -> None:
    assert len(Author("x" * 300, "shell:root").reason) == 100


# --- switching ---


def test_a_channel_that_is_switched_gets_its_reason_and_stops_draining(apply: Any) -> None:
    apply(EXAMPLE.read_text())
    Channel.objects.filter(name="DashScope, sync").update(draining_since=timezone.now())
    out = apply("schema: 1\nchannels:\n  DashScope, sync: {note: x}\n")
    assert "note: shop.yaml:3: channels.DashScope, sync: is draining: nothing new is sent to it" in out
    assert Channel.objects.get(name="DashScope, sync").draining_since is not None
    apply("schema: 1\nchannels:\n  DashScope, sync: {enabled: false}\n")
    off = Channel.objects.get(name="DashScope, sync")
    assert (off.enabled, off.disabled_reason, off.draining_since) == (False, "disabled by config", None)
    Channel.objects.update(disabled_reason="AUTH: our key is refused")
    apply("schema: 1\nchannels:\n  DashScope, sync: {enabled: false}\n")
    assert Channel.objects.get(name="DashScope, sync").disabled_reason == "AUTH: our key is refused"
    apply("schema: 1\nchannels:\n  DashScope, sync: {enabled: true}\n")
    on = Channel.objects.get(name="DashScope, sync")
    assert (on.enabled, on.disabled_reason) == (True, "")


def test_a_canary_that_fell_back_is_told_and_stays_so(apply: Any) -> None:
    apply(EXAMPLE.read_text())
    Offer.objects.filter(canary_percent=5).update(canary_fallen_at=timezone.now(), canary_fallen_reason="slow")
    out = apply(EXAMPLE.read_text())
    assert "offers[qwen-image-2.0]: its canary fell back, and it serves nobody until it is restarted" in out
    assert Offer.objects.get(canary_percent=5).canary_fallen_reason == "slow"


def test_another_share_is_another_trial(apply: Any) -> None:
    apply(EXAMPLE.read_text())
    fallen = Offer.objects.filter(canary_percent=5)
    fallen.update(canary_fallen_at=timezone.now(), canary_fallen_reason="slow")
    OfferHealth.objects.create(offer=fallen.get(), recent=[[1, 0, 9000, "timeout"]], latency_ms=9000)
    out = apply(EXAMPLE.read_text().replace("canary_percent: 5 ", "canary_percent: 9 "))
    assert out.splitlines()[:3] == [
        "~ channels.A reseller.offers[qwen-image-2.0]",
        "    canary_percent: 5 -> 9",
        "    canary: fell back, starts anew (it was: slow)",
    ]
    offer = Offer.objects.get(canary_percent=9)
    assert (offer.canary_fallen_at, offer.canary_fallen_reason) == (None, "")
    assert (offer.health.recent, offer.health.latency_ms) == ([], 0)


def test_what_fits_and_does_nothing_is_told(apply: Any) -> None:
    text = EXAMPLE.read_text().replace("canary_percent: 5 ", "canary_percent: null ")
    text = text.replace("{model: qwen-image-max, priority: 10,", "{model: qwen-image-max, shadow_percent: 5,")
    shadow, canary = (f"channels.A reseller.offers[qwen-image-{name}]" for name in ("max", "2.0"))
    belongs = "this belongs to a canary: give it a share, or leave this empty"
    assert [line for line in apply(text).splitlines() if line.startswith("note: ")] == [
        f"note: shop.yaml:{find_line(text, 'shadow_percent: 5')}: {shadow}.shadow_per_day: "
        "say how many copies a day we pay for: 0 would send none",
        f"note: shop.yaml:{find_line(text, 'canary_min_success')}: {canary}.canary_min_success: {belongs}",
        f"note: shop.yaml:{find_line(text, 'canary_max_latency_s')}: {canary}.canary_max_latency_s: {belongs}",
    ]


def find_line(text: str, words: str) -> int:
    """The first that holds them."""
    return text[: text.index(words)].count("\n") + 1


# --- prices ---


def list_prices() -> list[tuple[int, str]]:
    return [(price.amount_micros, price.reason.partition(",")[0]) for price in Price.objects.order_by("id")]


def test_a_price_is_appended_when_it_differs_from_the_one_in_force(apply: Any) -> None:
    seed_models()
    text = "schema: 1\nmodels:\n  qwen-image-max: {price: %s}\n"
    first = [(200_000, "first price"), (500_000, "first price"), (200_000, "first price"), (500_000, "first price")]
    for price in ("0.5", '"0.50"', "0.500000", "00.50"):
        assert apply(text % price) == "0 made, 0 changed, 1 as they were\n"
    assert list_prices() == first
    apply(text % '"0.000001"')
    apply(text % '"0.50"')
    assert list_prices() == [*first, (1, "config: shop.yaml"), (500_000, "config: shop.yaml")]


def test_changes_to_come_are_versions_and_the_file_stays_right_when_they_have_begun(apply: Any) -> None:
    seed_models()
    text = """
schema: 1
models:
  qwen-image-max:
    price: "0.50"
    price_changes:
      - {from: 2037-02-01, price: 0.25}
      - {from: 2037-03-01T12:00:00+00:00, price: "0.75"}
"""
    assert apply(text).splitlines()[:3] == [
        "~ models.qwen-image-max",
        "    price from 2037-02-01T00:00:00+08:00: 0.25",
        "    price from 2037-03-01T20:00:00+08:00: 0.75",
    ]
    versions = Price.objects.filter(model__name="qwen-image-max").count()
    assert versions == 3
    for day in ("2037-01-31T23:00:00+08:00", "2037-02-01T00:00:00+08:00", "2037-02-20", "2037-04-01"):
        with time_machine.travel(day, tick=False):
            assert apply(text) == "0 made, 0 changed, 1 as they were\n"
    later = apply(text.replace("0.25", "0.30")).splitlines()
    assert later[1] == "    price from 2037-02-01T00:00:00+08:00: 0.25 -> 0.30"
    assert Price.objects.count() == 7


def test_a_price_to_come_that_the_file_does_not_know_is_told(apply: Any) -> None:
    seed_models()
    model = ImageModel.objects.get(name="qwen-image-max")
    moment = timezone.now() + timedelta(days=9)
    Price.objects.create(model=model, amount_micros=900_000, effective_from=moment)
    said = f"another price begins {timezone.localtime(moment).isoformat()}: the file does not name it"
    assert said in apply('schema: 1\nmodels:\n  qwen-image-max: {price: "0.50"}\n')
    assert said not in apply("schema: 1\nmodels:\n  qwen-image-max: {max_n: 4}\n")


def test_a_model_without_a_price_is_told(apply: Any) -> None:
    out = apply("schema: 1\nmodels:\n  m: {title: M, execution_shape: sync, default_size: 64x64, sizes: [64x64]}\n")
    said = "models.m: has no price: every request for it is refused until it has one"
    assert f"note: shop.yaml:3: {said}" in out.splitlines()


# --- credentials ---


def list_secrets() -> list[str]:
    return [each.last4 for each in Credential.objects.filter(channel__name="DashScope, sync").order_by("id")]


def test_a_credential_is_appended_only_when_it_differs(
    apply: Any, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    text = "schema: 1\nchannels:\n  DashScope, sync:\n    credential: ${DASHSCOPE_API_KEY}\n"
    apply(EXAMPLE.read_text())
    apply(text)
    assert list_secrets() == [SECRET[-4:]]
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-rotated-0001")
    assert apply(text).splitlines()[:2] == [
        "~ channels.DashScope, sync",
        "    credential: a new one, from ${DASHSCOPE_API_KEY}",
    ]
    apply(text)
    assert list_secrets() == [SECRET[-4:], "0001"]
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    apply(text)
    apply(text)
    assert list_secrets() == [SECRET[-4:], "0001", "0001"]


# --- nothing half ---


def test_the_last_fault_of_a_file_stops_all_of_it(apply: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text = EXAMPLE.read_text().replace("# shadow_percent", "shadow_per_cent")
    before = read_everything()
    with pytest.raises(SystemExit) as ended:
        apply(text)
    assert ended.value.code == 1
    assert read_everything() == before
    fault, counted = capsys.readouterr().err.splitlines()
    assert fault.endswith(
        f"/shop.yaml:{find_line(text, 'shadow_per_cent')}: channels.A reseller.offers[qwen-image-2.0].shadow_per_cent: "
        "no field of this offer; did you mean shadow_percent?"
    )
    assert counted == "1 fault(s): nothing was changed"


def test_a_failure_while_writing_undoes_everything(apply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise IntegrityError("somebody was quicker")

    before = read_everything()
    monkeypatch.setattr("crazyrouter.management.configuration.channels.add_credential", refuse)
    with pytest.raises(CommandError) as caught:
        apply(EXAMPLE.read_text())
    assert str(caught.value) == "the database is changing meanwhile: somebody was quicker; nothing was changed"
    assert read_everything() == before


def test_a_row_that_goes_meanwhile_makes_the_plan_anew(apply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(EXAMPLE.read_text())
    carry_out, tries = applying.carry_out, []

    def lose_and_carry_out(plan: Any, author: Author) -> None:
        tries.append(plan)
        if len(tries) == 1:
            Capacity.objects.filter(upstream_model="qwen-image-max").delete()
        carry_out(plan, author)

    monkeypatch.setattr(applying, "carry_out", lose_and_carry_out)
    text = "schema: 1\naccounts: {dashscope: {capacities: {qwen-image-max: {max_running: 5}}}}\n"
    assert apply(text).endswith("0 made, 1 changed, 1 as they were\n")
    assert len(tries) == 2
    assert Capacity.objects.get(upstream_model="qwen-image-max").max_running == 5


class Deadlock(Exception):
    sqlstate = "40P01"


@pytest.mark.parametrize(("cause", "again"), [(Deadlock(), True), (ValueError(), False)])
def test_a_deadlock_is_tried_again_and_nothing_else_is(
    apply: Any, monkeypatch: pytest.MonkeyPatch, cause: Exception, again: bool
) -> None:
    carry_out, tries = applying.carry_out, []

    def break_once(plan: Any, author: Author) -> None:
        tries.append(plan)
        if len(tries) == 1:
            raise OperationalError("it broke") from cause
        carry_out(plan, author)

    monkeypatch.setattr(applying, "carry_out", break_once)
    if again:
        assert apply(EXAMPLE.read_text()).endswith("19 made, 0 changed, 0 as they were\n")
        assert Price.objects.count() == 4
        return
    with pytest.raises(CommandError) as caught:
        apply(EXAMPLE.read_text())
    assert str(caught.value) == "the database refused: it broke; nothing was changed"
    assert Price.objects.count() == 0


def test_rows_that_traffic_waits_for_are_written_last(apply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(EXAMPLE.read_text())
    carry_out = applying.carry_out
    order: list[tuple[str, int]] = []

    def watch(plan: Any, author: Author) -> None:
        order.extend((type(write.row).__name__, write.row.pk) for write in plan.list_writes())
        carry_out(plan, author)

    monkeypatch.setattr(applying, "carry_out", watch)
    text = EXAMPLE.read_text().replace("polls_per_s: 20 ", "polls_per_s: 30 ").replace("2 per 60s", "3 per 60s")
    apply(text.replace("no contract yet", "no key yet").replace("priority: 10", "priority: 9"))
    names = [name for name, _ in order]
    assert names == ["Channel", "Offer", "Offer", "UpstreamAccount", "Capacity", "Capacity"]
    assert order[-2][1] < order[-1][1]


def test_a_process_says_what_is_wrong_on_standard_error_and_ends_with_1(database: None, tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text("schema: 1\nmodles:\n")
    command = [sys.executable, "manage.py", "config", "apply", str(file)]
    ended = subprocess.run(command, cwd=ROOT, env=build_environment(), capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout.decode(), ended.stderr.decode()) == (
        1,
        "",
        f"{file}:2: modles: not a section; did you mean models?\n1 fault(s): nothing was changed\n",
    )


def test_a_file_that_cannot_be_read(apply: Any, tmp_path: Path) -> None:
    with pytest.raises(CommandError) as caught:
        call_command("config", "apply", str(tmp_path / "none.yaml"))
    assert str(caught.value) == f"cannot read {tmp_path / 'none.yaml'}: No such file or directory"
