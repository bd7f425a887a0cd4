"""The admin under its own policy: it works, and its theme asks for nothing that the policy forbids."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

PASSWORD = "a long enough password"
LISTS = ("models_registry/imagemodel", "models_registry/modelfamily", "providers/channel", "generation/generation")


def test_an_operator_gets_around(page: Page, settings: Any) -> None:
    # As the server checks it.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    User.objects.create_superuser("olga", password=PASSWORD)
    page.goto("/admin/")
    page.get_by_label("Username").fill("olga")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Model families")).to_be_visible()
    for path in LISTS:
        page.goto(f"/admin/{path}/")
        expect(page.locator("#content, #main").first).to_be_visible()
    page.goto("/admin/models_registry/modelfamily/")
    page.get_by_role("link", name="qwen", exact=True).click()
    page.get_by_label("Summary").fill("Pictures <b>and</b> letters.")
    page.get_by_role("button", name="Save", exact=True).click()
    page.goto("/docs/images/qwen")
    expect(page.locator("article")).to_contain_text("Pictures <b>and</b> letters.")
