"""Every fact of the published page of the Qwen Image models stands on the rendered one, in this product's words."""

from __future__ import annotations

import pytest

from models_registry.models import ImageModel, Price
from models_registry.verification import move_verification
from tests.pages.reading import Page, read_page

PAGE = "/docs/images/qwen"
FACTS = {
    "qwen-image-plus": ("async generation", "verified", "¥0.20 / image"),
    "qwen-image-max": ("sync generation", "verified", "¥0.50 / image"),
    "qwen-image-2.0": ("sync generation", "verified", "¥0.20 / image"),
    "qwen-image-2.0-pro": ("sync generation", "Beta", "¥0.50 / image"),
}


@pytest.fixture
def page(shop: None) -> Page:
    return read_page(PAGE)


def test_it_is_the_page_of_the_endpoint(page: Page) -> None:
    assert page.headings[0] == "Qwen Image"
    assert "POST /v1/images/generations" in page.text
    assert "OpenAI's Images contract" in page.text
    assert "Clients keep calling /v1/images/generations" in page.text
    assert "the model maker's official service and third-party channels" in page.text
    assert "is internal" in page.text


def test_public_models(page: Page) -> None:
    header, *rows = page.tables[0]
    assert header == ["Model", "Upstream execution shape", "What you get", "Verification"]
    assert rows == [[name, shape, "text-to-image", verification] for name, (shape, verification, _) in FACTS.items()]


def test_why_the_pro_model_is_beta(page: Page) -> None:
    told = "qwen-image-2.0-pro is aligned with the others in protocol and in code. The evidence from production"
    assert told in page.text
    assert "it stays Beta for now" in page.text
    assert "qwen-image-max is aligned" not in page.text


def test_request_parameters(page: Page) -> None:
    assert page.tables[1][0] == ["Parameter", "Type", "Required", "Description"]
    rows = {row[0]: row[1:] for row in page.tables[1][1:]}
    assert {
        name: row[:2] for name, row in rows.items() if name in ("model", "prompt", "size", "n", "response_format")
    } == {
        "model": ["string", "yes"],
        "prompt": ["string", "yes"],
        "size": ["string", "no"],
        "n": ["integer", "no"],
        "response_format": ["string", "no"],
    }
    assert all(name in rows["model"][2] for name in FACTS)
    assert "model page and the playground show those on sale now" in rows["size"][2]
    assert "1 unless said otherwise" in rows["n"][2]
    assert "url or b64_json" in rows["response_format"][2]


def test_request_and_response_examples(page: Page) -> None:
    for said in (
        "curl http://127.0.0.1:8000/v1/images/generations",
        '"model": "qwen-image-max"',
        '"size": "1024x1024"',
        '"n": 1',
        '"response_format": "url"',
        '"created": 1709123456',
        "/files/qwen_image_abc123.png",
    ):
        assert said in page.text


def test_billing_truth(page: Page) -> None:
    assert "Billing is per successfully generated image. There are no input or output tokens in it" in page.text
    (table,) = [table for table in page.tables if table[0] == ["Model", "Billing", "Official price", "State"]]
    assert table[1:] == [[name, "per image", price, verification] for name, (_, verification, price) in FACTS.items()]


def test_scope_notes(page: Page) -> None:
    scope = page.text.partition(" Scope ")[2]
    assert "This first batch sells text-to-image alone" in scope
    assert "has no public interface yet" in scope
    assert "Channels may work sync or async behind the scenes" in scope
    assert "stays OpenAI's Images request and response" in scope
    assert "the edit model qwen-image-edit-2509 is not part of this batch" in scope
    assert "Editing is a capability of its own" in scope


def test_a_change_of_the_registry_shows_at_once(page: Page, admin_user: object) -> None:
    pro = ImageModel.objects.get(name="qwen-image-2.0-pro")
    move_verification(pro, to_state="verified", reason="evidence", actor=admin_user)
    Price.objects.create(model=pro, amount_micros=450_000)
    ImageModel.objects.filter(name="qwen-image-plus").update(status="hidden")
    now = read_page(PAGE)
    assert [row[0] for row in now.tables[0][1:]] == ["qwen-image-max", "qwen-image-2.0", "qwen-image-2.0-pro"]
    assert "Beta for now" not in now.text
    assert "qwen-image-plus" not in now.html
    prices = next(table for table in now.tables if table[0][1:2] == ["Billing"])
    assert prices[-1] == ["qwen-image-2.0-pro", "per image", "¥0.45 / image", "verified"]


def test_a_model_that_was_verified_once_is_not_called_new(page: Page, admin_user: object) -> None:
    pro = ImageModel.objects.get(name="qwen-image-2.0-pro")
    for state in ("verified", "beta"):
        move_verification(pro, to_state=state, reason="evidence", actor=admin_user)
    now = read_page(PAGE)
    assert (
        "qwen-image-2.0-pro is aligned with the others in protocol and in code. It was moved back to Beta on"
        in now.text
    )
    assert "still being gathered" not in now.text


def test_a_beta_without_siblings_is_aligned_with_what_there_is(page: Page) -> None:
    ImageModel.objects.exclude(name="qwen-image-2.0-pro").update(status="hidden")
    now = read_page(PAGE)
    assert "qwen-image-2.0-pro is aligned with every other model here in protocol and in code." in now.text
    assert "the others" not in now.text
