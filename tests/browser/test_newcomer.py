"""A newcomer walks from the home page to a picture, at a desk and on a phone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from billing.models import Account
from tests.books import count_rows, read_violations
from tests.browser.newcomer import walk
from tests.shop import Customer


@pytest.mark.parametrize("screen", ["page", "phone"])
def test_a_newcomer_gets_a_picture_and_sees_what_it_costs(
    request: pytest.FixtureRequest, screen: str, customer: Customer
) -> None:
    opened: Page = request.getfixturevalue(screen)
    seen: list[str] = []
    walk(opened, customer.secret, look=seen.append)
    assert seen == ["home", "docs", "model", "playground", "pricing"]
    assert count_rows() == {"generations": 1, "attempts": 1, "images": 2, "charges": 2, "held": 0}
    assert Account.objects.get(pk=customer.account.pk).balance_micros == 100_000_000 - 2 * 200_000
    assert opened.context.cookies() == []
    assert read_violations() == []
