"""What goes wrong: errors as the API words them, and a lost answer that buys nothing twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from billing.keys import create_key
from billing.models import LedgerEntry
from crazyrouter.generation.models import Generation
from models_registry.models import ImageModel, Price
from tests.books import read_violations
from tests.browser.conftest import open_page, start_site
from tests.browser.playground import Playground
from tests.browser.test_playground_changes import wait_until_known
from tests.ops.processes import wait_until
from tests.shop import Customer
from tests.simulator.running import RunningSimulator

ORDERS = "**/v1/images/generations"
CERTAIN = "It is not certain whether the order was taken."


@pytest.fixture
def playground(page: Page, customer: Customer) -> Playground:
    opened = Playground(page)
    opened.open(customer.secret)
    opened.choose(prompt="a cat")
    return opened


@pytest.fixture
def hasty(browser: Browser, customer: Customer) -> Iterator[Playground]:
    """At a server that answers 504 after a second."""
    with start_site(GENERATION_DEADLINE_S=1) as site, open_page(browser, site) as page:
        opened = Playground(page)
        opened.open(customer.secret, model="qwen-image-max")
        yield opened


def count_bought() -> tuple[int, int]:
    """Generations and charges."""
    return Generation.objects.count(), LedgerEntry.objects.filter(kind="charge").count()


def test_a_wrong_key(page: Page, customer: Customer) -> None:
    playground = Playground(page)
    playground.open()
    playground.choose(prompt="a cat")
    playground.generate()
    playground.expect_fault("key", "Enter your API key: an order is made under it.")
    page.fill("#key", "sk-cr-wrong")
    words = "Incorrect API key provided. Send it as 'Authorization: Bearer YOUR_API_KEY'."
    playground.generate()
    playground.expect_fault("key", words)
    expect(playground.run.locator(".message")).to_have_text(words)
    expect(playground.run.locator(".note a")).to_have_attribute("href", "/docs/errors#error-invalid_api_key")
    expect(playground.run.locator(".note")).to_contain_text("HTTP 401 · req_")
    page.fill("#key", "密钥")
    playground.generate()
    playground.expect_fault("key", "Enter your API key: an order is made under it.")
    assert playground.posts == []
    page.fill("#key", customer.secret)
    page.press("#key", "Enter")
    expect(page.locator("#error-key")).to_be_hidden()


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"prompt": " "}, "prompt", "Invalid 'prompt': must not be empty."),
        ({"prompt": "猫" * 801}, "prompt", "Invalid prompt: at most 800 characters, got 801."),
        ({"seed": "lucky"}, "seed", "Invalid type for 'seed': expected an integer, got a string."),
        ({"seed": "2147483648"}, "seed", "Invalid 'seed': expected at most 2147483647."),
        (
            {"negative_prompt": "x" * 501},
            "negative_prompt",
            "Invalid negative_prompt: at most 500 characters, got 501.",
        ),
    ],
)
def test_a_field_that_is_wrong(playground: Playground, fields: dict[str, str], param: str, words: str) -> None:
    playground.page.locator("#more summary").click()
    playground.choose(**fields)
    playground.page.locator("#more summary").click()
    playground.generate()
    playground.expect_fault(param, words)
    expect(playground.run.locator(".message")).to_have_text(words)
    expect(playground.run.locator(".status")).to_have_text("No image came, and nothing was charged.")
    assert count_bought() == (0, 0)


def test_letters_are_counted_as_the_api_counts(playground: Playground) -> None:
    counter = playground.page.locator("#prompt-count")
    playground.choose(prompt="👩‍🎨é\n" * 160)
    expect(counter).to_have_text("800 / 800")
    assert "over" not in str(counter.get_attribute("class"))
    playground.page.locator("#prompt").press_sequentially("x")
    expect(counter).to_have_text("801 / 800")
    assert "over" in str(counter.get_attribute("class"))


def test_moderation(playground: Playground) -> None:
    playground.choose(prompt="a cat [[sim: moderation_input]]")
    playground.generate()
    refused = "The request was refused by content moderation. Nothing was charged. Please change the prompt."
    expect(playground.run.locator(".message")).to_have_text(refused)
    expect(playground.run.locator(".note")).to_contain_text(f"HTTP 400 · {Generation.objects.get().id}")
    link = playground.run.locator(".note a")
    expect(link).to_have_text("moderation_blocked")
    expect(link).to_have_attribute("href", "/docs/errors#error-moderation_blocked")
    assert count_bought() == (1, 0)
    expect(playground.page.locator("#generate")).to_have_text("Generate")


def test_too_many_requests_say_when(page: Page, customer: Customer) -> None:
    _, secret = create_key(customer.account, limits={"requests_per_minute": 1})
    playground = Playground(page)
    playground.open(secret)
    playground.choose(prompt="a cat")
    playground.generate()
    playground.wait_for_images(1)
    playground.generate()
    expect(playground.run.locator(".note")).to_contain_text("HTTP 429")
    said = playground.run.locator(".retry").inner_text()
    assert said.startswith("You can try again in ")
    assert 0 < int(said.split()[-2]) <= 60
    assert count_bought() == (1, 1)


@pytest.mark.parametrize("arrives", [True, False])
def test_a_lost_answer_is_asked_for_again_and_bought_once(playground: Playground, arrives: bool) -> None:
    def lose(route: Route) -> None:
        if arrives:
            route.fetch()
        route.abort()

    playground.page.route(ORDERS, lose, times=1)
    playground.choose(n=2)
    playground.generate()
    expect(playground.run.locator(".status")).to_have_text(CERTAIN)
    expect(playground.run.locator(".message")).to_have_text("The connection was lost.")
    # Whatever is changed meanwhile is another order's.
    playground.choose(prompt="a dog", n=1)
    playground.run.get_by_role("button", name="Ask again").click()
    playground.wait_for_images(2)
    first, second = playground.posts
    assert first.post_data == second.post_data
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert count_bought() == (1, 2)
    assert ("it was not bought twice" in playground.run.inner_text()) is arrives
    assert read_violations() == []


def test_asking_again_at_another_price_says_so_first(playground: Playground) -> None:
    playground.page.route(ORDERS, lambda route: route.abort(), times=1)
    playground.generate()
    expect(playground.run.locator(".status")).to_have_text(CERTAIN)
    model = ImageModel.objects.get(name="qwen-image-plus")
    Price.objects.create(model=model, amount_micros=300_000, reason="paper", actor="test")
    wait_until_known()
    playground.run.get_by_role("button", name="Ask again").click()
    said = "The price of qwen-image-plus is now ¥0.30 (it was ¥0.20). If your order was not taken the first time"
    expect(playground.run.locator(".message")).to_contain_text(said)
    assert count_bought() == (0, 0)
    playground.run.get_by_role("button", name="Ask again").click()
    playground.wait_for_images(1)
    assert LedgerEntry.objects.get(kind="charge").amount_micros == -300_000


def test_an_open_order_stays_when_another_is_made(playground: Playground) -> None:
    playground.page.route(ORDERS, lambda route: route.abort(), times=1)
    playground.generate()
    expect(playground.run.locator(".status")).to_have_text(CERTAIN)
    playground.choose(prompt="a dog")
    playground.generate()
    playground.wait_for_images(1)
    playground.page.locator("#runs").get_by_role("button", name="Ask again").click()
    expect(playground.page.locator("#runs img")).to_have_count(1)
    assert sorted(Generation.objects.values_list("prompt", flat=True)) == ["a cat", "a dog"]


def test_what_takes_too_long_is_collected(hasty: Playground) -> None:
    hasty.choose(prompt="a cat [[sim: latency seconds=3]]")
    hasty.generate()
    expect(hasty.run.locator(".status")).to_contain_text("Asking for it until it has ended.")
    hasty.wait_for_images(1)
    expect(hasty.charge).to_have_text("¥0.50 charged")
    expect(hasty.run).to_contain_text(f"Request {Generation.objects.get().id}")
    assert len(hasty.posts) == 1
    assert count_bought() == (1, 1)


def test_what_takes_too_long_and_fails(hasty: Playground) -> None:
    hasty.choose(prompt="a cat [[sim: latency seconds=2]] [[sim: moderation_output]]")
    hasty.generate()
    expect(hasty.run.locator(".note")).to_contain_text("moderation_blocked")
    expect(hasty.run.locator(".note")).to_contain_text(Generation.objects.get().id)
    assert count_bought() == (1, 0)


def test_who_stops_waiting_can_collect(playground: Playground, simulator: RunningSimulator) -> None:
    playground.choose(prompt="a cat [[sim: latency seconds=2]]", model="qwen-image-max")
    playground.generate()
    wait_until(Generation.objects.exists)
    playground.run.get_by_role("button", name="Stop waiting").click()
    expect(playground.run.locator(".message")).to_contain_text("The order goes on without you, and is charged")
    expect(playground.page.locator(":focus")).to_have_text("Collect it")
    playground.page.keyboard.press("Enter")
    expect(playground.run.get_by_role("heading")).to_be_focused()
    playground.wait_for_images(1)
    assert count_bought() == (1, 1)


def test_one_order_is_waited_for_at_a_time(playground: Playground, simulator: RunningSimulator) -> None:
    playground.choose(prompt="the first cat [[sim: latency seconds=3]]", model="qwen-image-max")
    playground.generate()
    wait_until(Generation.objects.exists)
    playground.run.get_by_role("button", name="Stop waiting").click()
    playground.choose(prompt="the second cat [[sim: latency seconds=3]]")
    playground.generate()
    wait_until(lambda: Generation.objects.count() == 2)
    earlier = playground.page.locator("#runs .run")
    earlier.get_by_role("button", name="Collect it").click()
    notice = playground.page.locator("#notice")
    expect(notice).to_have_text("One order is waited for at a time. Ask for this one when the other has ended.")
    playground.wait_for_images(1)
    earlier.get_by_role("button", name="Collect it").click()
    expect(earlier.locator("img")).to_have_count(1)
    assert count_bought() == (2, 2)


def test_less_than_was_ordered(playground: Playground, simulator: RunningSimulator) -> None:
    simulator.add_rule("failed", times=1)
    playground.choose(n=2)
    playground.generate()
    playground.wait_for_images(1)
    expect(playground.run.locator(".status")).to_contain_text("1 of 2 images are ready")
    expect(playground.run.locator(".missing figcaption")).to_have_text("Could not be made; not charged.")
    expect(playground.charge).to_have_text("¥0.20 charged")
    assert count_bought() == (1, 1)


def test_a_server_that_is_gone(playground: Playground) -> None:
    playground.page.route("**/v1/models/*", lambda route: route.abort())
    playground.generate()
    expect(playground.page.locator("#notice")).to_have_text("The connection was lost. Nothing was sent.")
    assert playground.posts == []
    expect(playground.page.locator("#generate")).to_have_text("Generate")


def test_a_browser_that_stores_nothing_still_gets_pictures(page: Page, customer: Customer) -> None:
    refuse = (
        "Object.defineProperty(window, 'sessionStorage', {get() { throw new DOMException('no', 'SecurityError'); }})"
    )
    page.add_init_script(refuse)
    playground = Playground(page)
    playground.open(customer.secret)
    playground.choose(prompt="a cat")
    playground.generate()
    playground.wait_for_images(1)
    page.reload()
    expect(page.locator("#key")).to_have_value("")
    expect(page.locator("#account")).to_have_text("No key yet: list prices are shown.")


def test_a_page_that_is_left_meanwhile_loses_no_order(playground: Playground) -> None:
    page = playground.page
    playground.choose(prompt="a cat [[sim: latency seconds=2]]", n=2, model="qwen-image-max")
    playground.generate()
    wait_until(Generation.objects.exists)
    page.reload()
    expect(playground.run.locator(".status")).to_have_text(CERTAIN)
    expect(playground.run.locator(".message")).to_have_text("This page was left before the answer came.")
    assert len(playground.posts) == 1
    playground.run.get_by_role("button", name="Ask again").click()
    playground.wait_for_images(2)
    assert playground.posts[0].headers["idempotency-key"] == playground.posts[1].headers["idempotency-key"]
    assert count_bought() == (1, 2)
    page.reload()
    expect(page.locator("#account")).to_contain_text("available")
    expect(playground.run).to_have_count(0)


def test_who_forgets_the_key_forgets_what_was_ordered_under_it(playground: Playground) -> None:
    playground.choose(prompt="a cat [[sim: latency seconds=2]]")
    playground.generate()
    wait_until(Generation.objects.exists)
    playground.page.click("#key-forget")
    playground.run.get_by_role("button", name="Stop waiting").click()
    expect(playground.run.locator(".message")).to_contain_text("The order goes on without you")
    assert playground.page.evaluate("sessionStorage.length") == 0
    playground.page.reload()
    expect(playground.page.locator("#account")).to_have_text("No key yet: list prices are shown.")
    expect(playground.run).to_have_count(0)
