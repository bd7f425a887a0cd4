"""`config export`: the same bytes from every database that was made of them, and no secret."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crazyrouter.management.configuration.applying import apply, preview
from crazyrouter.management.configuration.document import read_document, to_plain
from crazyrouter.management.configuration.edits import Author
from crazyrouter.management.configuration.faults import Faults
from crazyrouter.management.configuration.schema import build_schema
from models_registry.models import ImageModel, ImageSize, ModelFamily, Price
from models_registry.seed import seed_models
from providers.adapters import get_adapter_class
from providers.models import Capacity, Channel, Credential, Offer, UpstreamAccount, add_credential
from tests.commands.test_config_apply import EXAMPLE, SECRET
from tests.reset import reset_database
from tests.shop import open_shop

AUTHOR = Author("export.yaml", "test")
LATER = datetime(2041, 5, 6, 7, 8, 9, 10, tzinfo=UTC)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHSCOPE_API_KEY", SECRET)


def export(*arguments: str) -> str:
    out = StringIO()
    call_command("config", "export", *arguments, stdout=out)
    return out.getvalue()


def check_round_trip(monkeypatch: pytest.MonkeyPatch) -> str:
    """Nothing changes where it came from, and an empty database becomes one that exports the same."""
    text = export()
    for name in re.findall(r"\$\{(\w+)\}", text):
        monkeypatch.setenv(name, SECRET)
    own = preview(text.encode())
    assert own.faults == []
    assert [edit.render() for edit in own.edits if edit.writes] == []
    reset_database()
    made = apply(text.encode(), author=AUTHOR)
    assert (made.faults, made.count()[1:]) == ([], (0, 0))
    assert export() == text
    return text


def test_an_export_is_one_readable_document(database: None) -> None:
    account = UpstreamAccount.objects.create(name="dash", polls_per_s=20, note="two\nlines")
    Capacity.objects.create(account=account, upstream_model="max", submit_interval_ms=30_000, submit_burst=2)
    Capacity.objects.create(account=account, max_running=3, running=2, starts=[1, 2], call_ms=9)
    ModelFamily.objects.create(slug="z-last", title="Z", position=1)
    family = ModelFamily.objects.create(slug="m", title="M", summary="Draws.", notes="one\ntwo: 2", position=2)
    model = ImageModel.objects.create(
        name="m-1.0",
        title="M: one",
        family=family,
        execution_shape="sync",
        default_size="64x64",
        created_at=LATER,
        verification="verified",
    )
    ImageSize.objects.create(model=model, width=64, height=64, render_width=128, render_height=128, position=7)
    ImageSize.objects.create(model=model, width=96, height=64, position=3)
    Price.objects.create(model=model, amount_micros=250_000)
    Price.objects.create(model=model, amount_micros=200_001, effective_from=LATER)
    channel = Channel.objects.create(
        name="Dash, sync",
        kind="dashscope_sync",
        base_url="https://a.example/v1",
        account=account,
        options={"b": 1, "a": "x"},
    )
    add_credential(channel, SECRET)
    Channel.objects.create(name="off", kind="openai_images", base_url="https://b.example", enabled=False)
    Offer.objects.create(
        channel=channel, model=model, upstream_model="max", shape="sync", cost_micros=0, sizes=["128x128"]
    )
    assert (
        export()
        == """\
# Written by `manage.py config export`; `manage.py config apply FILE` reads it.
# Credentials are not in it: set these variables to the carriers' keys before it is applied.
schema: 1

families:
  m:
    title: M
    summary: Draws.
    notes: |-
      one
      two: 2
    position: 2
  z-last:
    title: Z
    summary: ''
    notes: ''
    position: 1

models:
  m-1.0:
    title: 'M: one'
    description: ''
    family: m
    status: active
    execution_shape: sync
    capability: text-to-image
    created_at: '2041-05-06T15:08:09.000010+08:00'
    price: '0.25'
    price_changes:
      - {from: '2041-05-06T15:08:09.000010+08:00', price: '0.200001'}
    default_size: 64x64
    sizes:
      - 96x64
      - {size: 64x64, render: 128x128}
    size_range: null
    max_n: 1
    prompt_limit: 800
    negative_prompt_limit: 500

accounts:
  dash:
    polls_per_s: 20
    note: |-
      two
      lines
    capacities:
      max: {submits: 2 per 60s, max_running: null}
    other_models: {submits: null, max_running: 3}

channels:
  Dash, sync:
    kind: dashscope_sync
    base_url: https://a.example/v1
    account: dash
    credential: ${DASH_SYNC_KEY}
    enabled: true
    simulated: false
    retry_billed: 0
    options: {a: x, b: 1}
    note: ''
    offers:
      - model: m-1.0
        upstream_model: max
        shape: sync
        enabled: true
        priority: 0
        weight: 1
        max_n: 1
        cost: 0.00 CNY
        genuine: true
        sizes: [128x128]
        canary_percent: null
        canary_min_success: null
        canary_max_latency_s: null
        shadow_percent: null
        shadow_per_day: 0
  'off':
    kind: openai_images
    base_url: https://b.example
    account: null
    enabled: false
    disabled_reason: ''
    simulated: false
    retry_billed: 0
    options: {}
    note: ''
    offers: []
"""
    )


def test_the_example_comes_back_from_an_empty_database(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert apply(EXAMPLE.read_bytes(), author=AUTHOR).count() == (19, 0, 0)
    text = check_round_trip(monkeypatch)
    assert re.findall(r"credential: (.*)", text) == ["${DASHSCOPE_ASYNC_KEY}", "${DASHSCOPE_SYNC_KEY}"]


def test_a_shop_of_the_simulator_comes_back(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.shop.add_credential", lambda channel, _: add_credential(channel, SECRET))
    open_shop("http://127.0.0.1:9000")
    check_round_trip(monkeypatch)


def test_an_empty_database_is_a_document_too(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    text = check_round_trip(monkeypatch)
    assert text.partition("schema: 1\n")[2] == "\nfamilies: {}\n\nmodels: {}\n\naccounts: {}\n\nchannels: {}\n"


# --- whatever is in the database ---

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
NAMES = TEXTS.filter(bool)
#: Some of which YAML would take for a number, a flag or nothing.
SLUGS = st.from_regex(r"[-a-zA-Z0-9_]{1,40}", fullmatch=True) | st.sampled_from(
    ["null", "no", "1e3", "0x1F", "2026", "-"]
)
MODEL_NAMES = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9._:-]{0,40}(?<!\.md)", fullmatch=True) | st.sampled_from(
    ["null", "no", "1e3", "0x1F", "2026", "12:30:45"]
)
LIMITS = st.none() | st.integers(1, 30_000)
PERCENTS = st.none() | st.integers(1, 100)
MONEY = st.none() | st.integers(0, 10**12)


@st.composite
def draw_offer(draw: Any) -> dict[str, Any]:
    canary = draw(PERCENTS)
    return {
        "upstream_model": draw(NAMES),
        "priority": draw(st.integers(-(2**31), 2**31 - 1)),
        "weight": draw(st.integers(0, 2**31 - 1)),
        "max_n": draw(st.integers(1, 32_767)),
        "cost_micros": draw(MONEY),
        "cost_currency": draw(st.sampled_from(["CNY", "USD"])),
        "genuine": draw(st.booleans()),
        "enabled": draw(st.booleans()),
        "canary_percent": canary,
        "canary_min_success": draw(PERCENTS),
        "canary_max_latency_s": draw(LIMITS),
        "shadow_percent": None if canary else draw(PERCENTS),
        "shadow_per_day": draw(st.integers(0, 9)),
    }


SHOPS = st.fixed_dictionaries(
    {
        "families": st.dictionaries(SLUGS, st.tuples(NAMES, TEXTS, TEXTS, st.integers(0, 32_767)), max_size=3),
        "models": st.dictionaries(
            MODEL_NAMES,
            st.tuples(TEXTS.filter(bool), TEXTS, st.none() | st.integers(1, 10**9), st.none() | st.integers(0, 2)),
            max_size=3,
        ),
        "accounts": st.dictionaries(
            NAMES,
            st.tuples(
                LIMITS, TEXTS, st.dictionaries(TEXTS, st.tuples(LIMITS, st.integers(1, 100), LIMITS), max_size=3)
            ),
            max_size=2,
        ),
        "channels": st.dictionaries(
            NAMES,
            st.tuples(
                st.sampled_from(["dashscope_async", "openai_images"]), st.booleans(), TEXTS, st.lists(draw_offer())
            ),
            max_size=3,
        ),
    }
)


def build(shop: dict[str, Any]) -> None:
    for slug, (title, summary, notes, position) in shop["families"].items():
        ModelFamily.objects.create(slug=slug, title=title, summary=summary, notes=notes, position=position)
    families = dict(enumerate(ModelFamily.objects.order_by("id")))
    for name, (title, description, price, family) in shop["models"].items():
        model = ImageModel.objects.create(
            name=name,
            title=title,
            description=description,
            family=families.get(family),
            execution_shape="sync",
            default_size="64x64",
        )
        ImageSize.objects.create(model=model, width=64, height=64)
        if price:
            Price.objects.create(model=model, amount_micros=price)
    for name, (polls, note, limits) in shop["accounts"].items():
        account = UpstreamAccount.objects.create(name=name, polls_per_s=polls, note=note)
        for upstream, (interval, burst, running) in limits.items():
            Capacity.objects.create(
                account=account,
                upstream_model=upstream,
                submit_interval_ms=interval,
                submit_burst=burst,
                max_running=running,
            )
    for name, (kind, enabled, note, offers) in shop["channels"].items():
        channel = Channel.objects.create(
            name=name, kind=kind, base_url="https://a.example/v1", enabled=enabled, note=note, disabled_reason=note
        )
        add_credential(channel, SECRET)
        models = list(ImageModel.objects.order_by("id"))
        for model, offer in zip(models, offers, strict=False):
            Offer.objects.create(channel=channel, model=model, shape=str(get_adapter_class(kind).shape), **offer)


@settings(max_examples=40, deadline=None, suppress_health_check=[*HealthCheck])
@given(shop=SHOPS)
def test_whatever_is_in_the_database_comes_back(database: None, shop: dict[str, Any]) -> None:
    reset_database()
    build(shop)
    with pytest.MonkeyPatch.context() as monkeypatch:
        check_round_trip(monkeypatch)


# --- where it goes ---


def test_an_export_goes_to_a_file_as_a_whole(database: None, tmp_path: Path) -> None:
    seed_models()
    file = tmp_path / "shop.yaml"
    assert export("--output", str(file)) == ""
    assert file.read_text() == export()
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(CommandError) as caught:
        export("--output", "/nowhere/at/all.yaml")
    assert str(caught.value) == "cannot write /nowhere/at/all.yaml: No such file or directory"


@pytest.mark.parametrize("column", ["note", "options", "disabled_reason"])
def test_a_secret_in_a_free_text_is_not_exported(database: None, column: str) -> None:
    channel = Channel.objects.create(name="dash", kind="dashscope_sync", base_url="https://a.example", enabled=False)
    add_credential(channel, SECRET)
    add_credential(channel, "sk-another-one")
    assert SECRET not in export()
    Channel.objects.update(**{column: {"x": [f'"{SECRET}"']} if column == "options" else f"the key was\n{SECRET}!"})
    with pytest.raises(CommandError) as caught:
        export()
    assert str(caught.value) == ("a note, an option or an address holds a credential of 'dash': take it out first")


def test_a_credential_that_nobody_can_open_is_exported_as_its_name(database: None) -> None:
    channel = Channel.objects.create(name="dash", kind="dashscope_sync", base_url="https://a.example")
    Credential.objects.create(channel=channel, ciphertext="of another installation", last4="abcd")
    assert "    credential: ${DASH_KEY}\n" in export()


# --- the format for editors ---


def find_schema_faults(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """As much of JSON Schema as ours uses."""
    if "anyOf" in schema:
        tried = [find_schema_faults(value, each, path) for each in schema["anyOf"]]
        return [] if [] in tried else tried[0]
    if "const" in schema:
        return [] if value == schema["const"] else [f"{path}: not {schema['const']}"]
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{path}: none of {schema['enum']}"]
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    known: dict[str, Any] = {"string": str, "integer": int, "number": (int, float), "boolean": bool}
    known |= {"array": list, "object": dict, "null": type(None)}
    if not any(isinstance(value, known[kind]) and (kind == "boolean" or not isinstance(value, bool)) for kind in kinds):
        return [f"{path}: not {kinds}"]
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        return [f"{path}: not like {schema['pattern']}"]
    if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return [f"{path}: out of range"]
    if isinstance(value, list):
        each = [find_schema_faults(item, schema["items"], f"{path}[{n}]") for n, item in enumerate(value)]
        return [fault for faults in each for fault in faults]
    return find_object_faults(value, schema, path) if isinstance(value, dict) else []


def find_object_faults(value: dict[str, Any], schema: dict[str, Any], path: str) -> list[str]:
    faults = [f"{path}: lacks {key}" for key in schema.get("required", []) if key not in value]
    other = schema.get("additionalProperties", True)
    for key, item in value.items():
        below = schema.get("properties", {}).get(key, other)
        if below is False:
            faults.append(f"{path}.{key}: not known")
        elif below is not True:
            faults += find_schema_faults(item, below, f"{path}.{key}")
    return faults


def read(text: str) -> Any:
    node = read_document(text.encode(), Faults())
    assert node is not None
    return to_plain(node)


def print_schema() -> Any:
    out = StringIO()
    call_command("config", "schema", stdout=out)
    return json.loads(out.getvalue())


def test_the_schema_takes_the_example_and_every_export(database: None) -> None:
    schema = print_schema()
    assert schema == build_schema()
    assert find_schema_faults(read(EXAMPLE.read_text()), schema) == []
    apply(EXAMPLE.read_bytes(), author=AUTHOR)
    assert find_schema_faults(read(export()), schema) == []


def test_the_schema_refuses_what_apply_refuses() -> None:
    wrong = {
        "families": {"f": {"title": None, "position": -1, "slug": "g"}},
        "models": {"m": {"titel": "M", "max_n": 11, "sizes": ["big"], "status": "gone", "family": ["f"]}},
        "accounts": {"a": {"capacities": {"m": {"running": 1}}}},
        "channels": {"c": {"credential": "sk-plain", "offers": [{"cost": "0.15"}]}},
    }
    assert find_schema_faults(wrong, print_schema()) == [
        ": lacks schema",
        ".families.f.title: not ['string', 'number', 'boolean']",
        ".families.f.position: out of range",
        ".families.f.slug: not known",
        ".models.m.titel: not known",
        ".models.m.max_n: out of range",
        ".models.m.sizes[0]: not like ^[1-9][0-9]{0,4}[x*][1-9][0-9]{0,4}$",
        ".models.m.status: none of ['active', 'hidden', 'retired']",
        ".models.m.family: not ['string', 'number', 'null']",
        ".accounts.a.capacities.m.running: not known",
        ".channels.c.credential: not like ^\\$\\{([A-Za-z_][A-Za-z0-9_]*)\\}$",
        ".channels.c.offers[0]: lacks model",
        ".channels.c.offers[0].cost: not like ^[0-9]+(\\.[0-9]{1,6})? [A-Z]{3}$",
    ]
