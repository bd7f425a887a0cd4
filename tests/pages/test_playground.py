"""What the playground's page knows before anybody has entered a key."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest

from crazyrouter.api.serializers import FIELDS
from crazyrouter.api.views import describe_model
from crazyrouter.pages.facts import load_shop
from crazyrouter.pages.playground import RESPONSE_FORMATS, build_playground
from models_registry.catalog import load_catalog
from models_registry.models import ImageModel
from models_registry.seed import seed_models


@pytest.fixture
def shop(database: None) -> None:
    seed_models()


def read_choices(chosen: str = "") -> dict[str, dict[str, Any]]:
    return {
        choice.facts.model.name: json.loads(choice.data) for choice in build_playground(load_shop(), chosen)["choices"]
    }


def test_it_knows_what_the_api_says_of_each_model_and_what_texts_may_be(shop: None) -> None:
    known = read_choices()
    assert known["qwen-image-2.0"] == {
        "id": "qwen-image-2.0",
        "micros": "200000",
        "verification": "verified",
        "capability": "text-to-image",
        "sizes": ["2048x2048", "2688x1536", "1536x2688", "2368x1728", "1728x2368", "1024x1024"],
        "default_size": "2048x2048",
        "size_range": {"min_pixels": 262144, "max_pixels": 4194304, "multiple": 16, "min_side": 256, "max_side": 4096},
        "max_n": 6,
        "prompt_limit": 1300,
        "negative_prompt_limit": 500,
        "typical": "",
    }
    identity: Any = type("Anybody", (), {"prices": {}})
    shared = ("id", "verification", "capability", "sizes", "default_size", "max_n")
    for name, model in load_catalog().items():
        said = describe_model(model, identity)
        assert {key: known[name][key] for key in shared} == {key: said[key] for key in shared}


def test_a_link_chooses_a_model_and_anything_else_the_first(shop: None) -> None:
    def choose(name: str) -> list[str]:
        choices = build_playground(load_shop(), name)["choices"]
        return [choice.facts.model.name for choice in choices if choice.is_chosen]

    assert choose("qwen-image-max") == ["qwen-image-max"]
    assert choose("") == choose("<script>") == [next(iter(read_choices()))]


def test_words_of_the_registry_stay_in_their_attribute(shop: None, client: Any) -> None:
    evil = """'>"<b>&amp;&#39;\\"""
    ImageModel.objects.filter(name="qwen-image-max").update(capability=evil)
    html = client.get("/playground").content.decode()
    found = Tags(html).found
    options = [attributes for tag, attributes in found if tag == "option" and "data-facts" in attributes]
    facts = {one["value"]: json.loads(one["data-facts"] or "") for one in options}
    assert facts["qwen-image-max"]["capability"] == evil
    assert facts == read_choices()
    assert "b" not in {tag for tag, _ in found}


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_what_has_no_price_cannot_be_chosen(shop: None, client: Any) -> None:
    ImageModel.objects.create(name="a-free-lunch", title="Lunch", execution_shape="sync", default_size="64x64")
    assert "a-free-lunch" not in read_choices("a-free-lunch")
    response = client.get("/playground?model=a-free-lunch")
    assert response.status_code == 200
    assert b"a-free-lunch" not in response.content


def test_images_can_come_in_every_way_the_api_knows_its_default_first() -> None:
    assert tuple(RESPONSE_FORMATS) == FIELDS["response_format"].words  # type: ignore[attr-defined]
