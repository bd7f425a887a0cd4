"""What customers wrote is erased in time; everything else of a generation stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.forms.models import model_to_dict
from django.utils import timezone

from billing.models import ApiKey
from crazyrouter.generation.ids import new_id
from crazyrouter.generation.models import Generation
from crazyrouter.generation.retention import erase_prompts
from crazyrouter.generation.tasks import erase_prompts as erase_prompts_task
from models_registry.models import ImageModel
from models_registry.seed import seed_models
from tests.shop import open_customer

OPTIONS = {"negative_prompt": "people", "user": "u-1", "seed": 7, "watermark": False}


@pytest.fixture
def key(db: None) -> ApiKey:
    seed_models()
    return ApiKey.objects.get(pk=open_customer().key_id)


def add(key: ApiKey, *, days_ago: float | None, **changes: Any) -> Generation:
    model = ImageModel.objects.get(name="qwen-image-2.0")
    now = timezone.now()
    facts: dict[str, Any] = {
        "prompt": "a lighthouse",
        "options": OPTIONS,
        "revised_prompts": {"0": "a lighthouse, oil on canvas"},
        "state": "running" if days_ago is None else "failed",
        "finished_at": None if days_ago is None else now - timedelta(days=days_ago),
    }
    return Generation.objects.create(
        id=new_id("gen"),
        account=key.account,
        api_key=key,
        model=model,
        price=model.prices.get(),
        unit_price_micros=200_000,
        width=1024,
        height=1024,
        render_width=1024,
        render_height=1024,
        n=1,
        response_format="url",
        lease_expires_at=now,
        deadline_at=now,
        **{**facts, **changes},
    )


def read(generation: Generation) -> tuple[str, dict[str, Any], Any]:
    row = Generation.objects.get(pk=generation.pk)
    return row.prompt, row.options, row.revised_prompts


def test_old_words_go_and_nothing_else(key: ApiKey, settings: Any) -> None:
    settings.PROMPT_TTL_DAYS = 30
    old = add(key, days_ago=31)
    before = model_to_dict(Generation.objects.get(pk=old.pk))
    assert erase_prompts() == 1
    assert read(old) == ("", {"seed": 7, "watermark": False}, None)
    after = model_to_dict(Generation.objects.get(pk=old.pk))
    assert {name for name in after if after[name] != before[name]} == {"prompt", "options", "revised_prompts"}


def test_young_and_running_generations_keep_their_words(key: ApiKey) -> None:
    young, running = add(key, days_ago=29), add(key, days_ago=None)
    assert erase_prompts() == 0
    for generation in (young, running):
        assert read(generation) == ("a lighthouse", OPTIONS, {"0": "a lighthouse, oil on canvas"})


def test_the_moment_decides(key: ApiKey) -> None:
    young = add(key, days_ago=0)
    assert erase_prompts(timezone.now() + timedelta(days=29)) == 0
    assert erase_prompts(timezone.now() + timedelta(days=31)) == 1
    assert read(young)[0] == ""


def test_a_second_run_finds_nothing(key: ApiKey) -> None:
    add(key, days_ago=40)
    add(key, days_ago=40, options={"seed": 7}, revised_prompts=None)
    assert erase_prompts() == 2
    assert erase_prompts() == 0


@pytest.mark.parametrize(
    "left",
    [
        {"prompt": "", "options": {}, "revised_prompts": {"0": "x"}},
        {"prompt": "", "options": {"user": "u-1"}, "revised_prompts": None},
        {"prompt": "x", "options": {}, "revised_prompts": None},
    ],
)
def test_each_kind_of_word_is_found_alone(key: ApiKey, left: dict[str, Any]) -> None:
    generation = add(key, days_ago=40, **left)
    assert erase_prompts() == 1
    assert read(generation) == ("", {}, None)


def test_batches_cover_everything(key: ApiKey) -> None:
    generations = [add(key, days_ago=40, options=OPTIONS if number % 2 else {}) for number in range(7)]
    assert erase_prompts(batch=2) == 7
    assert {read(generation)[0] for generation in generations} == {""}


def test_the_task_is_the_same(key: ApiKey) -> None:
    add(key, days_ago=40)
    assert erase_prompts_task() == 1
