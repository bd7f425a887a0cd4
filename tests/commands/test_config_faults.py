"""`config apply` on a wrong file: every fault at once, with its line, and nothing changed."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from models_registry.seed import seed_models
from providers.adapters import kinds
from providers.models import Channel, UpstreamAccount
from tests.commands.test_config_apply import read_everything
from tests.shop import open_channel


@pytest.fixture
def blame(database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is said of a file of these lines, on a database with the four models, an account and a channel."""
    monkeypatch.setenv("CARRIER_KEY", "sk-carrier-key")
    monkeypatch.delenv("MISSING_KEY", raising=False)
    seed_models()
    UpstreamAccount.objects.create(name="dash")
    open_channel("https://carrier.example/v1", "dashscope_sync", {"qwen-image-max": 1}, name="dash")
    file = tmp_path / "shop.yaml"

    def apply(text: str) -> list[str]:
        before = read_everything()
        file.write_text("schema: 1\n" + text)
        said = []
        for dry_run in ([], ["--dry-run"]):
            out, err = StringIO(), StringIO()
            with pytest.raises(SystemExit) as ended:
                call_command("config", "apply", str(file), *dry_run, stdout=out, stderr=err)
            assert (ended.value.code, out.getvalue()) == (1, "")
            said.append(err.getvalue().replace(str(file), "f").splitlines())
        assert said[0] == said[1]
        assert read_everything() == before
        assert said[0].pop() == f"{len(said[0])} fault(s): nothing was changed"
        return said[0]

    return apply


def test_everything_that_is_wrong_is_named_at_once(blame: Any) -> None:
    said = blame("""\
modles: {}
models:
  qwen-image-plus:
    titel: X
    verification: verified
    max_n: 11
    price: 0.2000001
    sizes: [1664x928, 1664*928, {size: 1024x1024, render: 1000x1000}, {size: 512x512, rendr: 1x1}]
    default_size: 1664×928
    size_range: {min_pixels: 1, max_pixels: 2}
  new-one:
    max_n: 4
  other: 5
accounts:
  dash:
    polls_per_s: 0
    polls_reserved_until_ms: 5
    capacities:
      qwen-image-plus: {submits: 2 per fortnight, running: 5, max_running: yes}
      b: {submits: 2 per 60s, submit_burst: 3}
      "": {}
channels:
  dash:
    kind: openai_images
    credential: sk-plain-text-secret
    account: dahs
    enabled: true
    disabled_reason: because
    draining_since: null
    options: {workspase: 5}
    base_url: https://user:pw@host/x
    offers:
      - {model: qwen-image-max, shape: async, priority: 1.5, cost: 0.15}
      - {model: qwen-image-max}
      - {model: qwen-image-2.0, canary_percent: 5, shadow_percent: 5, sizes: [1x1, two]}
      - {model: qwen-image-2}
      - nothing
      - {}
  fal:
    kind: fal_queu
    credential: ${MISSING_KEY}
    base_url: not a url
    offers: {}
""")
    assert said == [
        "f:2: modles: not a section; did you mean models?",
        "f:5: models.qwen-image-plus.titel: no field of this model; did you mean title?",
        "f:6: models.qwen-image-plus.verification: "
        "is decided by evidence, in the admin and with a reason: no file can set it",
        "f:7: models.qwen-image-plus.max_n: write a whole number from 1 to 10, not '11'",
        "f:8: models.qwen-image-plus.price: "
        "'0.2000001' is not an amount: use a plain number with at most six decimals, like 12.50",
        "f:9: models.qwen-image-plus.sizes: 1664x928 stands there twice",
        "f:9: models.qwen-image-plus.sizes[3]: "
        "1024x1024 cannot be made of 1000x1000: pictures are only ever made smaller",
        "f:9: models.qwen-image-plus.sizes[4].rendr: no field of a size; did you mean render?",
        "f:10: models.qwen-image-plus.default_size: write a size like 1664x928, not '1664×928'",
        "f:11: models.qwen-image-plus.size_range: is whole or absent: it lacks multiple, min_side, max_side",
        "f:12: models.new-one: a new model needs title and execution_shape and default_size",
        "f:14: models.other: the model is a mapping, not '5'",
        "f:17: accounts.dash.polls_per_s: write a whole number from 1 to 32767 (or null), not '0'",
        "f:18: accounts.dash.polls_reserved_until_ms: is moved by traffic: no file can set it",
        "f:20: accounts.dash.capacities.qwen-image-plus.max_running: "
        "write a whole number from 1 to 2147483647 (or null), not 'yes'",
        "f:20: accounts.dash.capacities.qwen-image-plus.running: is moved by traffic: no file can set it",
        "f:20: accounts.dash.capacities.qwen-image-plus.submits: write a rate like 2 per 60s, not '2 per fortnight'",
        "f:21: accounts.dash.capacities.b.submit_burst: contradicts the other way to write submit_burst in this entry",
        "f:22: accounts.dash.capacities: a model has a name; all others are `other_models`",
        "f:25: channels.dash.kind: dash is dashscope_sync and stays it, for its calls that run: make a new channel",
        "f:26: channels.dash.credential: "
        "write ${NAME}, the name of an environment variable: a secret itself never stands in a file",
        "f:27: channels.dash.account: "
        "there is no upstream account 'dahs', neither in the file nor in the database; did you mean dash?",
        "f:29: channels.dash.disabled_reason: only a channel that is disabled has a reason for it",
        "f:30: channels.dash.draining_since: is moved by traffic: no file can set it",
        "f:31: channels.dash.options: workspase: not an option of dashscope_sync",
        "f:32: channels.dash.base_url: has only scheme, host, port and path: a key is written `credential: ${NAME}`",
        "f:34: channels.dash.offers[qwen-image-max].cost: write an amount with its currency like 0.15 CNY, not '0.15'",
        "f:34: channels.dash.offers[qwen-image-max].priority: "
        "write a whole number from -2147483648 to 2147483647, not '1.5'",
        "f:34: channels.dash.offers[qwen-image-max].shape: dashscope_sync is sync",
        "f:35: channels.dash.offers[qwen-image-max].model: "
        "qwen-image-max as qwen-image-max is offered by this channel in line 34 already",
        "f:36: channels.dash.offers[qwen-image-2.0].shadow_percent: "
        "contradiction: an offer is a canary or a shadow, not both",
        "f:36: channels.dash.offers[qwen-image-2.0].sizes[2]: write a size like 1664x928, not 'two'",
        "f:37: channels.dash.offers[qwen-image-2].model: "
        "there is no model 'qwen-image-2', neither in the file nor in the database; did you mean qwen-image-2.0?",
        "f:38: channels.dash.offers[5]: the offer is a mapping, not 'nothing'",
        "f:39: channels.dash.offers[6]: a new offer needs model",
        f"f:41: channels.fal.kind: 'fal_queu' is no kind of channel: {', '.join(kinds())}; did you mean fal_queue?",
        "f:42: channels.fal.credential: MISSING_KEY is not set in the environment",
        "f:43: channels.fal.base_url: begins with https:// (or http:// for a carrier on this machine)",
        "f:44: channels.fal.offers: a list of offers ([] for none), not a mapping",
    ]
    assert "sk-plain-text-secret" not in "".join(said)


def test_everything_that_is_wrong_with_families_is_named_at_once(blame: Any) -> None:
    said = blame("""\
families:
  qwen:
    title: ""
    position: -1
    nots: x
    slug: qwen-2
    summary: [a, b]
    notes: null
  new: {summary: x}
  two words: {title: T}
  other: []
models:
  qwen-image-plus: {family: qwn}
  qwen-image-max: {family: [qwen]}
  qwen-image-2.0: {family: new}
  qwen-image-2.0-pro: {family: ""}
""")
    text = 'write a text ("" for an empty one), not '
    assert said == [
        "f:4: families.qwen.title: This field cannot be blank",
        "f:5: families.qwen.position: write a whole number from 0 to 32767, not '-1'",
        "f:6: families.qwen.nots: no field of this model family; did you mean notes?",
        "f:7: families.qwen.slug: no field of this model family",
        f"f:8: families.qwen.summary: {text}a list",
        f"f:9: families.qwen.notes: {text}nothing",
        "f:10: families.new: a new model family needs title",
        "f:11: families.two words: slug: Enter a valid “slug” consisting of letters, numbers, underscores or hyphens",
        "f:12: families.other: the model family is a mapping, not a list",
        "f:14: models.qwen-image-plus.family: "
        "there is no model family 'qwn', neither in the file nor in the database; did you mean qwen?",
        f"f:15: models.qwen-image-max.family: {text}a list",
        "f:17: models.qwen-image-2.0-pro.family: there is no model family '', neither in the file nor in the database",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models:\n  m: {title: '', execution_shape: sync, default_size: 64x64, sizes: [64x64]}",
         "f:3: models.m.title: This field cannot be blank"),
        ("models:\n  qwen-image-max:\n    sizes: [1024x1024]",
         "f:4: models.qwen-image-max.sizes: the default size 1664x928 is not among the sizes"),
        ("models:\n  qwen-image-2.0:\n    size_range: null\n    default_size: 512x512",
         "f:5: models.qwen-image-2.0.default_size: the default size 512x512 is not among the sizes"),
        ("models:\n  qwen-image-2.0:\n"
         "    size_range: {min_pixels: 9, max_pixels: 8, multiple: 1, min_side: 1, max_side: 2}",
         "f:4: models.qwen-image-2.0.size_range: its least is above its most"),
        ("models:\n  qwen-image-2.0:\n    size_range:\n      min_pixels: 0\n      max_pixels: 8\n      multiple: 1\n"
         "      min_side: 1\n      max_side: 2",
         "f:5: models.qwen-image-2.0.size_range.min_pixels: write a whole number from 1 to 2147483647, not '0'"),
        ("models:\n  qwen-image-max:\n    sizes:\n      - 1664x928\n      - {size: 1024x1024, render: 1664x1100}",
         "f:6: models.qwen-image-max.sizes[2]: "
         "the render size must have the same aspect as the public size (within 2 %)"),
        ("models:\n  qwen-image-max:\n    sizes:\n      - 1664x928\n      - 5000x5000",
         "f:6: models.qwen-image-max.sizes[2]: both sides of 5000x5000 and of what is rendered are from 64 to 4096"),
        ("models:\n  qwen-image-max:\n    status: hiden",
         "f:4: models.qwen-image-max.status: 'hiden' is no status: active, hidden, retired; did you mean hidden?"),
        ("models:\n  qwen-image-max:\n    price: 0",
         "f:4: models.qwen-image-max.price: '0' is not above zero"),
        ("models:\n  qwen-image-max:\n    price: null",
         "f:4: models.qwen-image-max.price: write an amount in CNY like \"0.20\", not nothing"),
        ("models:\n  qwen-image-max:\n    price_changes:\n      - {from: 2037-01-01, price: 1}\n"
         "      - {from: 2037-01-01T00:00:00+08:00, price: 2}",
         "f:6: models.qwen-image-max.price_changes[2]: a second price from 2037-01-01T00:00:00+08:00 on"),
        ("models:\n  qwen-image-max:\n    price_changes:\n      - {from: soon, price: 1}",
         "f:5: models.qwen-image-max.price_changes[1].from: "
         "write a date like 2027-01-31 or 2027-01-31T12:00:00+08:00, not 'soon'"),
        ("models:\n  qwen-image-max:\n    price_changes:\n      - {form: 2037-01-01, price: 1}",
         "f:5: models.qwen-image-max.price_changes[1]: write {from: 2027-01-31, price: \"0.25\"}, not a mapping"),
        (f"models:\n  {'m' * 65}: {{title: M, execution_shape: sync, default_size: 64x64, sizes: [64x64]}}",
         f"f:3: models.{'m' * 65}: name: Ensure this value has at most 64 characters (it has 65)"),
        ("models:\n  qwen/max: {title: M, execution_shape: sync, default_size: 64x64, sizes: [64x64]}",
         "f:3: models.qwen/max: name: "
         "letters, digits and . _ : - only, the first one a letter or digit, no .md at the end"),
        ("families: qwen",
         "f:2: families: a mapping from the name of each model family to what it is, not 'qwen'"),
        (f"families:\n  {'f' * 41}: {{title: F}}",
         f"f:3: families.{'f' * 41}: slug: Ensure this value has at most 40 characters (it has 41)"),
        ("familes:\n  qwen: {title: Q}", "f:2: familes: not a section; did you mean families?"),
        ("models:\n  qwen-image-max:\n    max_n: 3\n    family: flux",
         "f:5: models.qwen-image-max.family: "
         "there is no model family 'flux', neither in the file nor in the database"),
        ("models: [a]", "f:2: models: a mapping from the name of each model to what it is, not a list"),
        ("accounts:\n  dash:\n    other_models: {submits: 200 per 1s}",
         "f:4: accounts.dash.other_models.submits: "
         "at most 100 submits at once can be counted: write 100 per 500ms"),
        ("channels:\n  new: {kind: dashscope_sync}", "f:3: channels.new: a new channel needs base_url"),
        ("channels:\n  dash:\n    base_url: https://x.example/?key=abc",
         "f:4: channels.dash.base_url: has only scheme, host, port and path: a key is written `credential: ${NAME}`"),
        ("channels:\n  dash:\n    base_url: https://no spaces/",
         "f:4: channels.dash.base_url: Enter a valid URL"),
        ("channels:\n  dash:\n    options: {read_timeout_s: 0}",
         "f:4: channels.dash.options: "
         "read_timeout_s: the longest wait for the pictures, in seconds, above 0 and at most 3600"),
        ("channels:\n  dash:\n    enabled: 'true'", "f:4: channels.dash.enabled: write true or false, not 'true'"),
        ("channels:\n  dash:\n    account: nobody",
         "f:4: channels.dash.account: there is no upstream account 'nobody', neither in the file nor in the database"),
        ("channels:\n  dash:\n    credential: null",
         "f:4: channels.dash.credential: "
         "write ${NAME}, the name of an environment variable: a secret itself never stands in a file"),
        ("channels:\n  dash:\n    offers:\n      - {model: qwen-image-max, sizes: [640x640]}",
         "f:5: channels.dash.offers[qwen-image-max].sizes: 640x640 is never rendered for qwen-image-max: "
         "1664x928, 1472x1104, 1328x1328, 1104x1472, 928x1664 are"),
        ("models:\n  m: {title: M, execution_shape: sync, default_size: 64x64, sizes: [64x64]}\n"
         "channels:\n  dash:\n    offers:\n      - {model: m, sizes: [65x65]}",
         "f:7: channels.dash.offers[m].sizes: 65x65 is never rendered for m: 64x64 are"),
        ("channels:\n  dash:\n    offers:\n      - {model: qwen-image-max, cost: 0.15 cny}",
         "f:5: channels.dash.offers[qwen-image-max].cost: "
         "write an amount with its currency like 0.15 CNY, not '0.15 cny'"),
    ],
)  # fmt: skip
def test_one_fault_is_one_line(blame: Any, text: str, said: str) -> None:
    assert blame(text) == [said]


def test_a_canary_of_the_database_contradicts_a_shadow_of_the_file(blame: Any) -> None:
    Channel.objects.get().offers.update(canary_percent=5)
    said = "f:5: channels.dash.offers[qwen-image-max].shadow_percent: "
    assert blame("channels:\n  dash:\n    offers:\n      - {model: qwen-image-max, shadow_percent: 5}") == [
        said + "contradiction: an offer is a canary or a shadow, not both"
    ]


def test_models_with_open_weights_are_not_genuine(blame: Any) -> None:
    text = """\
channels:
  flow:
    kind: siliconflow
    base_url: https://api.siliconflow.cn/v1
    offers:
      - {model: qwen-image-max, upstream_model: Qwen/Qwen-Image, genuine: true}
"""
    assert blame(text) == [
        "f:7: channels.flow.offers[qwen-image-max as Qwen/Qwen-Image].genuine: "
        "Qwen/Qwen-Image has open weights at siliconflow: it is another model"
    ]


def test_another_version_of_the_format_is_refused(blame: Any, tmp_path: Path) -> None:
    for text, said in (
        ("models: {}\n", "1: schema: is missing: write `schema: 1`"),
        ("schema: 2\n", "1: schema: this version of the product reads schema 1 and no other"),
        ("a: 1\nschema: '1'\n", "2: schema: this version of the product reads schema 1 and no other"),
    ):
        file = tmp_path / "other.yaml"
        file.write_text(text)
        err = StringIO()
        with pytest.raises(SystemExit):
            call_command("config", "apply", str(file), stdout=StringIO(), stderr=err)
        assert f"{file}:{said}" in err.getvalue().splitlines()
