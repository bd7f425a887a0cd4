"""Which words a customer never reads: carriers' names in any spelling, and none that only look like them."""

from __future__ import annotations

from typing import Any

import pytest

from crazyrouter.generation.anonymity import find_carrier, keep_revised_prompt, list_brands, list_hosts
from providers.adapters import ADAPTERS, kinds
from providers.routing import Route

PUBLIC = {
    "channel_name": "Reseller EU-2",
    "upstream_model": "q-img-max-latest",
    "base_url": "https://api.sellers.example/v1",
}


def make_route(**values: Any) -> Route:
    facts = {"offer_id": 1, "channel_id": 1, "kind": "openai_images", "options": "{}", "credential_id": 1}
    limits = {"ciphertext": "", "shape": "sync", "max_n": 1, "priority": 0, "weight": 1, "retry_billed": 0}
    return Route(**(facts | limits | {"cost_micros": None, "cost_currency": "CNY"} | PUBLIC | values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("made by DashScope", "dashscope"),
        ("https://dashscope-result-bj.oss-cn-beijing.aliyuncs.com/a.png", "dashscope"),
        ("Dash Scope", "dash scope"),
        ("dash_scope", "dash_scope"),
        ("ＤａｓｈＳｃｏｐｅ", "dashscope"),
        ("dash\u200bscope", "dashscope"),
        ("Alibaba Cloud", "alibaba"),
        ("aliyuncs.com", "aliyun"),
        ("AliCloud", "alicloud"),
        ("阿里云", "阿里"),
        ("通义万相", "通义"),
        ("百炼", "百炼"),
        ("Tongyi", "tongyi"),
        ("wanx2.1-t2i", "wanx"),
        ("Model Studio", "model studio"),
        ("modelscope.cn", "modelscope"),
        ("魔搭社区", "魔搭"),
        ("fal.ai", "fal"),
        ("fal-ai/qwen-image", "fal"),
        ("v3.fal.media", "fal"),
        ("by fal", "fal"),
        ("siliconflow", "siliconflow"),
        ("Silicon-Flow", "silicon-flow"),
        ("硅基流动", "硅基流动"),
        ("WaveSpeedAI", "wavespeed"),
        ("replicate.delivery", "replicate"),
        ("APIMart", "apimart"),
        ("new-api", "new-api"),
        ("new_api_error", "new_api"),
        ("one_api_error", "one_api"),
        ("OneAPI", "oneapi"),
        ("bucket.oss-cn-beijing", "oss-"),
        ("Qwen", ""),
        ("qwen-image-2.0-pro", ""),
        ("千问", ""),
        ("a false dawn falls over Falmouth", ""),
        ("a new apiary", "new api"),
        ("a phone API on a lone apron", ""),
        ("a swanx and a boss-like cross-country boat", ""),
        ("a model of the city in a wide scope", ""),
        ("", ""),
    ],
)
def test_who_is_named(text: str, found: str) -> None:
    """Rather a harmless word too many than a carrier's name: all it costs is the rewrite of a prompt."""
    assert find_carrier(text) == found


def test_every_kind_names_its_carrier() -> None:
    """A new kind is in the list by being registered; resellers, who share two, have names of their own."""
    unnamed = [kind for kind in kinds() if not find_carrier(kind)]
    assert unnamed == ["openai_images", "openai_images_tasks"]


def test_a_new_kind_is_forbidden_by_its_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTERS, "novelcarrier_queue", "providers.adapters.novelcarrier.Novel")
    assert "novelcarrier" in list_brands()
    assert not {"openai", "images", "queue", "sync", "async", "tasks"} & set(list_brands())


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("https://dashscope.aliyuncs.com/api/v1", ["dashscope.aliyuncs.com", "dashscope", "aliyuncs"]),
        ("https://api.apimart.ai/v1", ["api.apimart.ai", "apimart"]),
        ("http://127.0.0.1:9100/v1", ["127.0.0.1"]),
        ("https://[fd00::9]/v1", ["fd00::9"]),
        ("https://www.cloud.com", ["www.cloud.com"]),
        ("", []),
    ],
)
def test_what_a_base_url_names(url: str, hosts: list[str]) -> None:
    assert list_hosts(url) == hosts


@pytest.mark.parametrize(
    "text",
    [
        "a cat, in the style of DashScope",
        "a cat, drawn by reseller EU-2",
        "a cat, drawn by Reseller EU 2",
        "a cat (q-img-max-latest)",
        "a cat (Q Img Max Latest)",
        "see https://pictures.example/a.png",
        "see www.pictures.example",
        "a cat from api.sellers.example",
        "a cat by Sellers",
        "task 0f8fad5b-d9cb-469f-a165-70867728950e: a cat",
        "0123456789abcdef0123456789abcdef a cat",
        "a cat " * 667,
        "",
        None,
    ],
)
def test_a_rewrite_that_shows_who_made_it_is_dropped(text: str | None) -> None:
    assert keep_revised_prompt(text, make_route()) is None


@pytest.mark.parametrize(
    "text",
    [
        "a cat wearing a red hat, soft light",
        "一只戴帽子的猫，柔和的光线，Qwen",
        "qwen-image-max at 1328*1328, f/1.4, 2026-11-30",
        "a bestsellers shelf, 16 cats, #ffeedd, 1234567890123 stars",
        "a" * 4000,
    ],
)
def test_a_rewrite_that_shows_nothing_is_kept(text: str) -> None:
    assert keep_revised_prompt(text, make_route()) == text


def test_names_too_short_to_mean_anything_are_no_names() -> None:
    route = make_route(channel_name="eu", upstream_model="q1", base_url="https://a.b")
    assert keep_revised_prompt("a cat in the eu, q1", route) == "a cat in the eu, q1"
    assert keep_revised_prompt("a cat", make_route(channel_name="----", upstream_model="....")) == "a cat"
