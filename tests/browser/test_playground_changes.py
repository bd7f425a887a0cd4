"""The registry changes while somebody has the playground open: they are told before anything is sent."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from billing.models import LedgerEntry
from crazyrouter.generation.models import Generation
from crazyrouter.generation.snapshot import TOO_OLD_AFTER_S
from models_registry.models import ImageModel, ImageSize, Price
from models_registry.verification import move_verification
from tests.browser.playground import Playground
from tests.shop import Customer

AGAIN = "Nothing was sent; press Generate again to order"


@pytest.fixture
def playground(page: Page, customer: Customer) -> Playground:
    """With an order that only has to be sent."""
    opened = Playground(page)
    opened.open(customer.secret)
    opened.choose(prompt="a cat")
    return opened


def change(name: str, **values: Any) -> None:
    ImageModel.objects.filter(name=name).update(**values)
    wait_until_known()


def wait_until_known() -> None:
    """No process goes by a registry older than that."""
    time.sleep(TOO_OLD_AFTER_S)


@pytest.mark.parametrize("listed", [0, 1])
def test_a_default_that_is_not_listed_can_be_ordered(page: Page, customer: Customer, listed: int) -> None:
    """A range of sizes allows it; how many are listed beside it does not matter."""
    model = ImageModel.objects.get(name="qwen-image-2.0")
    ImageSize.objects.filter(model=model).exclude(pk__in=model.sizes.filter(width=1024)[:listed]).delete()
    wait_until_known()
    playground = Playground(page)
    playground.open(customer.secret, model="qwen-image-2.0")
    expect(page.locator('input[name="size"]:checked')).to_have_value("2048x2048")
    expect(page.locator('input[name="size"]')).to_have_count(listed + 2)
    playground.choose(prompt="a cat")
    assert order_now(playground).size == "2048x2048"


def expect_notice(playground: Playground, words: str) -> None:
    """It is said at once where the button is, and by the picture's place that nothing went out."""
    expect(playground.page.locator("#notice")).to_have_text(words)
    expect(playground.run.locator(".status")).to_have_text("Nothing was sent.")
    assert playground.posts == []
    assert not Generation.objects.exists()


def order_now(playground: Playground, count: int = 1) -> Generation:
    """What was said is read, and Generate pressed again."""
    playground.generate()
    playground.wait_for_images(count)
    expect(playground.page.locator("#notice")).to_be_empty()
    return Generation.objects.get()


def test_a_price_that_came_into_force(playground: Playground) -> None:
    model = ImageModel.objects.get(name="qwen-image-plus")
    soon = timezone.now() + timedelta(seconds=1)
    Price.objects.create(model=model, amount_micros=300_000, effective_from=soon, reason="paper", actor="test")
    time.sleep(1)
    wait_until_known()
    playground.generate()
    said = "The price of qwen-image-plus is now ¥0.30 (it was ¥0.20)."
    expect_notice(playground, f"{said} {AGAIN} at the new price.")
    expect(playground.page.locator("#price")).to_have_text("¥0.30")
    assert order_now(playground).unit_price_micros == 300_000
    expect(playground.charge).to_have_text("¥0.30 charged")
    assert LedgerEntry.objects.get(kind="charge").amount_micros == -300_000


def test_a_size_that_is_gone(playground: Playground) -> None:
    playground.choose(size="1024x1024")
    ImageSize.objects.filter(model__name="qwen-image-plus", width=1024).delete()
    wait_until_known()
    playground.generate()
    said = "qwen-image-plus is no longer sold in 1024x1024; its default, 1664x928, is chosen instead."
    expect_notice(playground, f"{said} {AGAIN} like this.")
    expect(playground.page.locator('input[name="size"]:checked')).to_have_value("1664x928")
    assert playground.page.locator('input[name="size"][value="1024x1024"]').count() == 0
    assert order_now(playground).width == 1664


def test_a_size_that_is_listed_no_more_but_could_be_typed(playground: Playground) -> None:
    playground.choose(model="qwen-image-2.0", size="1024x1024")
    ImageSize.objects.filter(model__name="qwen-image-2.0", width=1024).delete()
    wait_until_known()
    playground.generate()
    said = "qwen-image-2.0 no longer lists 1024x1024; its default, 2048x2048, is chosen instead."
    expect_notice(playground, f"{said} {AGAIN} like this.")
    assert order_now(playground).width == 2048


def test_a_size_that_nobody_had_chosen(playground: Playground) -> None:
    ImageSize.objects.filter(model__name="qwen-image-plus", width=1024).delete()
    wait_until_known()
    playground.generate()
    expect_notice(playground, f"The sizes of qwen-image-plus have changed. {AGAIN} like this.")


def test_a_model_that_is_hidden(playground: Playground) -> None:
    change("qwen-image-plus", status=ImageModel.Status.HIDDEN)
    playground.generate()
    gone = "The model 'qwen-image-plus' does not exist."
    expect_notice(playground, f"{gone} Nothing was sent; another model is chosen.")
    playground.expect_fault("model", gone)
    left = ["qwen-image-2.0", "qwen-image-2.0-pro", "qwen-image-max"]
    options = playground.page.locator("#model option").evaluate_all("options => options.map(one => one.value)")
    assert sorted(options) == left
    expect(playground.page.locator("#model")).to_have_value(options[0])
    assert order_now(playground).model.name == options[0]


def test_the_last_model_that_is_hidden(playground: Playground) -> None:
    ImageModel.objects.exclude(name="qwen-image-plus").update(status=ImageModel.Status.RETIRED)
    wait_until_known()
    playground.page.press("#key", "Enter")
    expect(playground.page.locator("#model option")).to_have_count(1)
    change("qwen-image-plus", status=ImageModel.Status.RETIRED)
    playground.generate()
    expect(playground.page.get_by_text("Nothing is on sale right now.")).to_be_visible()
    assert playground.posts == []


def test_beta_that_was_verified(playground: Playground) -> None:
    playground.choose(model="qwen-image-2.0-pro")
    expect(playground.page.locator("#model-badge")).to_have_text("Beta")
    model = ImageModel.objects.get(name="qwen-image-2.0-pro")
    move_verification(model, to_state="verified", reason="good figures", actor=None)
    wait_until_known()
    playground.generate()
    expect_notice(playground, f"qwen-image-2.0-pro is now verified (it was Beta). {AGAIN} like this.")
    expect(playground.page.locator("#model-badge")).to_have_text("verified")
    assert order_now(playground).model.name == "qwen-image-2.0-pro"


def test_fewer_images_a_request(playground: Playground) -> None:
    playground.choose(n=4)
    change("qwen-image-plus", max_n=2)
    playground.generate()
    said = "qwen-image-plus now makes at most 2 a request, and 2 are chosen."
    expect_notice(playground, f"{said} {AGAIN} like this.")
    expect(playground.page.locator("#sum")).to_have_text("¥0.20 × 2, your price")
    assert order_now(playground, count=2).n == 2


def test_a_free_size_that_no_longer_fits(playground: Playground) -> None:
    playground.choose(model="qwen-image-2.0")
    playground.page.fill("#free-size", "2048x1024")
    change("qwen-image-2.0", max_pixels=1024 * 1024)
    playground.generate()
    expect_notice(playground, f"The sizes of qwen-image-2.0 have changed. {AGAIN} like this.")
    expect(playground.page.locator("#free-rule")).to_contain_text("262,144 to 1,048,576 pixels in all")
    playground.generate()
    expect(playground.page.locator("#error-size")).to_contain_text("Invalid size '2048x1024' for qwen-image-2.0.")
    assert not Generation.objects.exists()


def test_words_of_the_registry_are_text(page: Page, customer: Customer) -> None:
    ImageModel.objects.filter(name="qwen-image-plus").update(
        name='"><script>alert(1)</script>', capability="<b>bold</b>", description="<script>alert(2)</script>"
    )
    playground = Playground(page)
    playground.open(customer.secret, model="%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    expect(page.locator("#model-words")).to_have_text("<b>bold</b>")
    expect(page.locator("#model option:checked")).to_have_text('"><script>alert(1)</script> (¥0.20)')
    playground.choose(prompt="<img src=x onerror=alert(3)>")
    playground.choose(model="qwen-image-max")
    playground.generate()
    playground.wait_for_images(1)
    expect(playground.run.locator("h3")).to_have_text("<img src=x onerror=alert(3)>")
    assert page.locator("#playground script, #playground b, #playground .run h3 *").count() == 0
