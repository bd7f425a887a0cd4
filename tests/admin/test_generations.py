"""A generation as support staff read it: what was tried, what came out, what it cost."""

from __future__ import annotations

import re

from django.contrib.admin.utils import quote
from django.test import Client
from django.urls import reverse

from billing.models import Hold, LedgerEntry
from crazyrouter.files.models import StoredImage
from crazyrouter.generation.models import Generation
from tests.admin.world import PROMPT, World, add_generation

GENERATIONS = reverse("admin:generation_generation_changelist")


def read_page(client: Client, generation: Generation) -> str:
    address = reverse("admin:generation_generation_change", args=[quote(generation.pk)])
    return client.get(address).content.decode()


def read_words(html: str, *, section: str) -> str:
    """The text of one section of the page, its white space folded."""
    part = html.partition(f'id="{section}"')[2].partition("</fieldset>")[0]
    return " ".join(re.sub(r"<[^>]+>", " ", part).split())


def test_the_timeline_tells_every_attempt(olga: Client, world: World) -> None:
    html = read_page(olga, world.generation)
    words = read_words(html, section="timeline")
    first, second = words.partition("#2")[0], words.partition("#2")[2]
    assert "#1 Rejected official qwen-image-max · sync · slots 0, 1 · 0 stored" in first
    assert "sent +0.25 s rejected +1.50 s" in first
    assert "rate_limited (not charged by the carrier)" in first
    assert "Candidates: official → b" in first
    assert f"Credential …9f3a at {world.first.base_url}" in first
    assert "Succeeded official" in second
    assert "sent +1.75 s succeeded +11.50 s" in second
    assert "Upstream request req-77" in second


def test_what_a_carrier_says_is_text_not_markup(olga: Client, world: World) -> None:
    html = read_page(olga, world.generation)
    assert "<script>alert(1)</script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; slow down" in html
    assert "people &lt;b&gt;" in html


def test_pictures_are_shown_where_customers_get_them(olga: Client, world: World) -> None:
    html = read_page(olga, world.generation)
    for image in StoredImage.objects.all():
        assert f'<img src="/files/{image.name}"' in html
        assert f'<a href="/files/{image.name}"' in html
    assert "slot 1 · 1328x1328 · 1.2" in read_words(html, section="pictures")


def test_expired_pictures_are_said_to_be_expired(olga: Client, world: World) -> None:
    html = read_page(olga, add_generation(world.account, world.key, world.offer, expired=True))
    assert "<img src" not in html.partition('id="pictures"')[2]
    assert read_words(html, section="pictures").count("expired slot") == 2


def test_the_money_of_a_generation_stands_on_its_page(olga: Client, world: World) -> None:
    html = read_page(olga, world.generation)
    words = read_words(html, section="money")
    assert "Hold of ¥1.00 , settled" in words
    assert "Entry 2 : charge of -¥0.50 for slot 0, 1328x1328 Entry 3 : charge of -¥0.50 for slot 1" in words
    for row, page in [(Hold.objects.get(), "hold"), (LedgerEntry.objects.first(), "ledgerentry")]:
        assert row is not None
        assert reverse(f"admin:billing_{page}_change", args=[row.pk]) in html


def test_all_facts_are_on_the_page_and_the_prompt_only_there(olga: Client, world: World) -> None:
    html = read_page(olga, world.generation)
    for fact in (PROMPT, "negative_prompt", "a lighthouse, oil on canvas", "12.0 s", "Acme", world.key.prefix, "web-1"):
        assert fact in html
    assert PROMPT not in olga.get(GENERATIONS).content.decode()


def test_a_generation_that_runs_has_no_end_yet(olga: Client, world: World) -> None:
    Generation.objects.update(state="running", delivered=0, finished_at=None, answered_at=None)
    StoredImage.objects.all().delete()
    world.generation.attempts.all().delete()
    html = read_page(olga, world.generation)
    assert "No attempt: no upstream heard of it." in html
    assert "No picture was stored." in html
    assert olga.get(GENERATIONS).status_code == 200


def test_generations_are_found_by_id_and_key(olga: Client, world: World) -> None:
    for wanted, found in ((world.generation.pk, 1), (world.key.prefix, 1), ("gen_nothing", 0), (PROMPT, 0)):
        assert len(olga.get(GENERATIONS, {"q": wanted}).context["cl"].result_list) == found


def test_nobody_writes_a_generation_or_a_picture(olga: Client, world: World) -> None:
    image = StoredImage.objects.first()
    assert image is not None
    for page, key in (("generation_generation", quote(world.generation.pk)), ("files_storedimage", image.pk)):
        answers = [
            olga.post(reverse(f"admin:{page}_add"), {}),
            olga.post(reverse(f"admin:{page}_change", args=[key]), {"state": "failed"}),
            olga.post(reverse(f"admin:{page}_delete", args=[key]), {"post": "yes"}),
        ]
        assert [answer.status_code for answer in answers] == [403] * 3
    assert (Generation.objects.get().state, StoredImage.objects.count()) == ("succeeded", 2)


def test_a_stored_image_leads_to_its_generation(olga: Client, world: World) -> None:
    image = StoredImage.objects.first()
    assert image is not None
    html = olga.get(reverse("admin:files_storedimage_change", args=[image.pk])).content.decode()
    assert reverse("admin:generation_generation_change", args=[quote(world.generation.pk)]) in html
    assert f'src="/files/{image.name}"' in html
