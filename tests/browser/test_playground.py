"""Orders from the playground: what is sent, what is shown, what is paid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from billing.models import LedgerEntry
from billing.prices import append_account_price
from crazyrouter.files.models import StoredImage
from crazyrouter.files.storage import get_storage
from crazyrouter.generation.models import Generation
from models_registry.models import ImageModel
from tests.books import read_violations
from tests.browser.playground import Playground
from tests.pages.programs import Workshop, run_node, run_python, run_shell
from tests.server import RunningServer
from tests.shop import Customer, open_customer

PROMPT = "A lantern over a canal, 水彩"


def read_charges() -> list[int]:
    return list(LedgerEntry.objects.filter(kind="charge").values_list("amount_micros", flat=True))


def test_two_pictures_are_ordered_paid_and_taken_home(page: Page, customer: Customer) -> None:
    playground = Playground(page)
    playground.open(customer.secret)
    playground.choose(prompt=PROMPT, n=2)
    expect(page.locator("#price")).to_have_text("¥0.40")
    expect(page.locator("#sum")).to_have_text("¥0.20 × 2, your price")
    playground.generate()
    playground.wait_for_images(2)
    assert playground.read_sizes() == [[1664, 928], [1664, 928]]
    assert playground.run.locator(".real").all_inner_texts() == ["1664 × 928", "1664 × 928"]
    assert [one.get_attribute("alt") for one in playground.images.all()] == [f"1 of 2: {PROMPT}", f"2 of 2: {PROMPT}"]
    expect(playground.charge).to_have_text("¥0.40 charged")
    expect(page.locator("#account")).to_have_text("¥99.60 available · your prices")
    expect(page.locator("#live")).to_have_text("2 images are ready. ¥0.40 charged.")
    generation = Generation.objects.get()
    assert [one.get_attribute("download") for one in playground.run.get_by_text("Download").all()] == [
        f"qwen-image-plus-{generation.id}-{number}.png" for number in (1, 2)
    ]
    expect(playground.run).to_contain_text(f"Request {generation.id}")
    assert read_charges() == [-200_000, -200_000]
    # The server's name for a file goes before the page's.
    stored = [(image.name, get_storage().read(image.name)) for image in StoredImage.objects.order_by("slot")]
    assert [playground.download(at) for at in (0, 1)] == stored
    assert read_violations() == []


def test_base64_becomes_a_file_of_its_own(page: Page, customer: Customer) -> None:
    playground = Playground(page)
    playground.open(customer.secret, model="qwen-image-2.0")
    playground.choose(prompt=PROMPT, response_format="b64_json")
    page.fill("#free-size", "512x768")
    playground.generate()
    playground.wait_for_images(1)
    assert playground.read_sizes() == [[512, 768]]
    expect(playground.charge).to_have_text("¥0.20 charged")
    assert str(playground.images.get_attribute("src")).startswith("blob:")
    image = StoredImage.objects.get()
    name = f"qwen-image-2.0-{image.generation_id}-1.png"
    assert playground.download(0) == (name, get_storage().read(image.name))


def test_only_what_was_changed_is_sent(page: Page, customer: Customer) -> None:
    playground = Playground(page)
    playground.open(customer.secret)
    playground.choose(prompt="a cat")
    playground.generate()
    playground.wait_for_images(1)
    page.locator("#more summary").click()
    playground.choose(negative_prompt="dogs", seed="7", prompt_extend="false", watermark="true")
    playground.choose(model="qwen-image-2.0-pro", n=3, size="1024x1024")
    expect(page.locator("#model-badge")).to_have_text("Beta")
    playground.generate()
    playground.wait_for_images(3)
    options = {"negative_prompt": "dogs", "seed": 7, "prompt_extend": False, "watermark": True}
    assert [json.loads(post.post_data or "") for post in playground.posts] == [
        {"model": "qwen-image-plus", "prompt": "a cat"},
        {"model": "qwen-image-2.0-pro", "prompt": "a cat", "size": "1024x1024", "n": 3, **options},
    ]
    ordered = Generation.objects.order_by("id").last()
    assert ordered is not None
    assert (ordered.options, ordered.width, ordered.height, ordered.n) == (options, 1024, 1024, 3)


def test_the_key_is_in_this_tab_and_in_no_request_but_as_the_bearer(page: Page, customer: Customer) -> None:
    playground = Playground(page)
    playground.open(customer.secret)
    playground.choose(prompt="a cat")
    playground.generate()
    playground.wait_for_images(1)
    for request in playground.requests:
        bearer = request.headers.get("authorization")
        assert bearer == (f"Bearer {customer.secret}" if "/v1/" in request.url else None)
        rest = {name: value for name, value in request.headers.items() if name != "authorization"}
        assert customer.secret not in f"{request.url} {request.post_data} {rest}"
    assert page.evaluate("({...sessionStorage})") == {"crazyrouter.key": customer.secret}
    assert page.evaluate("localStorage.length") == 0
    assert page.context.cookies() == []
    assert customer.secret not in page.content()
    page.reload()
    expect(page.locator("#account")).to_have_text("¥99.80 available · your prices")
    page.click("#key-forget")
    assert page.evaluate("sessionStorage.length") == 0
    assert page.input_value("#key") == ""
    expect(page.locator("#sum")).to_have_text("¥0.20 × 1, list price")


def test_the_price_is_what_this_account_pays(page: Page, customer: Customer) -> None:
    model = ImageModel.objects.get(name="qwen-image-plus")
    append_account_price(customer.account, model, kind="fixed", amount_micros=123_456, reason="a friend", actor="test")
    playground = Playground(page)
    playground.open()
    expect(page.locator("#price")).to_have_text("¥0.20")
    playground.open(customer.secret)
    playground.choose(prompt="a cat", n=2)
    expect(page.locator("#price")).to_have_text("¥0.246912")
    expect(page.locator("#model option:checked")).to_have_text("qwen-image-plus (¥0.123456)")
    playground.generate()
    playground.wait_for_images(2)
    expect(playground.charge).to_have_text("¥0.246912 charged")
    assert read_charges() == [-123_456, -123_456]


def test_pressing_twice_orders_once(page: Page, customer: Customer) -> None:
    playground = Playground(page)
    playground.open(customer.secret)
    playground.choose(prompt="a cat")
    page.evaluate("() => [1, 2].forEach(() => document.getElementById('order-form').requestSubmit())")
    page.locator("#generate").dblclick(force=True)
    playground.wait_for_images(1)
    assert len(playground.posts) == 1
    assert read_charges() == [-200_000]


@pytest.mark.parametrize("response_format", ["url", "b64_json"])
def test_the_exact_request_is_the_same_order_in_every_language(
    page: Page, site: RunningServer, customer: Customer, tmp_path: Path, response_format: str
) -> None:
    playground = Playground(page)
    playground.open(customer.secret)
    page.locator("#more summary").click()
    playground.choose(prompt='It\'s a "cat" \\ $HOME `id`\n猫 😀 </script>', negative_prompt="it's", seed="7", n=2)
    playground.choose(watermark="false", size="1024x1024", response_format=response_format)
    texts = {name: playground.read_request(name) for name in ("curl", "Python", "Node")}
    assert not any(customer.secret in text for text in texts.values())
    folders = [tmp_path / "files", tmp_path / "programs"]
    for folder in folders:
        folder.mkdir()
    workshop = Workshop(folders[0], folders[1], site.base_url, customer.secret)
    for run, name in ((run_shell, "curl"), (run_python, "Python"), (run_node, "Node")):
        answer = run(workshop, texts[name], "")
        assert answer is None or answer.exit_code == 0, answer.errors
    # All had the same Idempotency-Key: an order of any other body would have been refused.
    playground.generate()
    playground.wait_for_images(2)
    expect(playground.run).to_contain_text("it was not bought twice")
    assert Generation.objects.get().response_format == response_format
    assert read_charges() == [-200_000, -200_000]


def test_two_customers_take_turns_in_one_tab(page: Page, customer: Customer) -> None:
    other = open_customer("bob", micros=5_000_000)
    playground = Playground(page)
    playground.open(customer.secret)
    page.fill("#key", other.secret)
    page.press("#key", "Enter")
    expect(page.locator("#account")).to_have_text("¥5.00 available · your prices")
    playground.choose(prompt="a cat")
    playground.generate()
    playground.wait_for_images(1)
    assert Generation.objects.get().account_id == other.account.pk
