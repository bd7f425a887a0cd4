"""Models, prices and verification as operators change them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from models_registry.catalog import load_catalog
from models_registry.models import ImageModel, Price, Verification
from tests.admin.forms import fill_in, read_errors, read_log
from tests.admin.world import World

VERIFY, MOVE_BACK = "admin:models_registry_imagemodel_verify", "admin:models_registry_imagemodel_move_back"
MODELS = reverse("admin:models_registry_imagemodel_add")
PRICES = reverse("admin:models_registry_price_add")


def page_of(model: ImageModel) -> str:
    return reverse("admin:models_registry_imagemodel_change", args=[model.pk])


@pytest.fixture
def pro(world: World) -> ImageModel:
    return ImageModel.objects.get(name="qwen-image-2.0-pro")


# --- verification ---


def test_a_model_is_verified_with_a_reason_and_back_again(olga: Client, world: World, pro: ImageModel) -> None:
    olga.post(reverse(VERIFY, args=[pro.pk]), {"reason": "1,000 images, none refused"})
    pro.refresh_from_db()
    assert pro.verification == "verified"
    olga.post(reverse(MOVE_BACK, args=[pro.pk]), {"reason": "wrong colours since Monday"})
    pro.refresh_from_db()
    assert pro.verification == "beta"
    moves = Verification.objects.filter(model=pro).order_by("id")
    assert [(move.from_state, move.to_state, move.reason, move.actor) for move in moves] == [
        ("beta", "verified", "1,000 images, none refused", world.operator),
        ("verified", "beta", "wrong colours since Monday", world.operator),
    ]
    assert timezone.now() - moves[0].at < timedelta(minutes=1)
    assert read_log(pro) == [
        ("olga", "Moved to verified: 1,000 images, none refused"),
        ("olga", "Moved to Beta: wrong colours since Monday"),
    ]


@pytest.mark.parametrize("reason", ["", "   "])
def test_a_move_without_a_reason_is_refused(olga: Client, pro: ImageModel, reason: str) -> None:
    response = olga.post(reverse(VERIFY, args=[pro.pk]), {"reason": reason})
    assert "required" in read_errors(response)
    pro.refresh_from_db()
    assert (pro.verification, Verification.objects.count()) == ("beta", 0)


def test_looking_at_the_question_moves_nothing(olga: Client, pro: ImageModel) -> None:
    assert olga.get(reverse(VERIFY, args=[pro.pk])).status_code == 200
    pro.refresh_from_db()
    assert pro.verification == "beta"


def test_a_second_move_to_the_same_state_is_refused(olga: Client, world: World) -> None:
    response = olga.post(reverse(VERIFY, args=[world.max.pk]), {"reason": "again"})
    assert "qwen-image-max is already verified" in read_errors(response)
    assert Verification.objects.count() == 0


def test_a_model_that_does_not_exist_is_not_found(olga: Client) -> None:
    assert olga.post(reverse(VERIFY, args=[999]), {"reason": "x"}).status_code == 404


def test_the_page_offers_only_the_move_there_is(olga: Client, world: World, pro: ImageModel) -> None:
    beta, verified = olga.get(page_of(pro)).content.decode(), olga.get(page_of(world.max)).content.decode()
    assert (reverse(VERIFY, args=[pro.pk]) in beta, reverse(MOVE_BACK, args=[pro.pk]) in beta) == (True, False)
    assert reverse(MOVE_BACK, args=[world.max.pk]) in verified
    assert reverse(VERIFY, args=[world.max.pk]) not in verified


def test_the_list_leads_one_selected_model_to_the_question(olga: Client, pro: ImageModel) -> None:
    changelist = reverse("admin:models_registry_imagemodel_changelist")
    one = olga.post(changelist, {"action": "verify_selected", "_selected_action": [pro.pk]})
    assert one.headers["Location"] == reverse(VERIFY, args=[pro.pk])
    everyone = list(ImageModel.objects.values_list("pk", flat=True))
    many = olga.post(changelist, {"action": "verify_selected", "_selected_action": everyone}, follow=True)
    assert "Select one model" in many.content.decode()
    assert Verification.objects.count() == 0


# --- models ---


def test_a_name_is_given_once(olga: Client, world: World) -> None:
    sent = fill_in(olga, page_of(world.max), name="renamed", title="Max!")
    assert olga.post(page_of(world.max), sent).status_code == 302
    world.max.refresh_from_db()
    assert (world.max.name, world.max.title) == ("qwen-image-max", "Max!")
    assert world.max.history.first().history_user == world.operator


def test_saving_the_page_does_not_undo_a_move_made_meanwhile(olga: Client, world: World) -> None:
    sent = fill_in(olga, page_of(world.max), verification="beta")
    olga.post(reverse(MOVE_BACK, args=[world.max.pk]), {"reason": "meanwhile"})
    ImageModel.objects.filter(pk=world.max.pk).update(verification="beta")
    olga.post(page_of(world.max), sent | {"verification": "verified"})
    world.max.refresh_from_db()
    assert world.max.verification == "beta"


def test_a_name_that_no_address_or_example_could_hold_is_refused(olga: Client, world: World) -> None:
    new = fill_in(olga, MODELS, title="New", execution_shape="sync", default_size="64x64")
    for name in ("a/b", "..", "a b", "a%20b", "it's", "画", "max.md", ".max"):
        response = olga.post(MODELS, new | {"name": name})
        assert "letters, digits and . _ : - only" in read_errors(response), name
    allowed = olga.post(MODELS, new | {"name": "a_B-1.5:x"})
    assert "the default size 64x64 is not among these sizes" in read_errors(allowed)
    assert "letters" not in read_errors(allowed)


@pytest.mark.parametrize("size", ["1664*928", "big", "0x0", "1664x928 "[:-1] + "x1"])
def test_a_default_size_that_cannot_be_read_is_refused(olga: Client, world: World, size: str) -> None:
    response = olga.post(page_of(world.max), fill_in(olga, page_of(world.max), default_size=size))
    assert "write WIDTHxHEIGHT" in read_errors(response)
    assert load_catalog()["qwen-image-max"].default_size == (1664, 928)


def test_the_default_size_must_be_sold(olga: Client, world: World, pro: ImageModel) -> None:
    response = olga.post(page_of(world.max), fill_in(olga, page_of(world.max), default_size="1000x1000"))
    assert "the default size 1000x1000 is not among these sizes" in read_errors(response)
    in_range = olga.post(page_of(pro), fill_in(olga, page_of(pro), default_size="1280x1280"))
    assert in_range.status_code == 302


def test_half_a_size_range_is_refused(olga: Client, world: World) -> None:
    response = olga.post(page_of(world.max), fill_in(olga, page_of(world.max), min_pixels="100"))
    assert "a size range is whole or absent" in read_errors(response)


def test_a_size_without_numbers_is_an_error_on_the_page(olga: Client, world: World) -> None:
    size = {"sizes-0-width": "", "sizes-0-render_width": "100", "sizes-0-render_height": "100"}
    response = olga.post(page_of(world.max), fill_in(olga, page_of(world.max), **size))
    assert "This field is required" in read_errors(response)


def test_a_sold_model_is_never_deleted(olga: Client, world: World) -> None:
    address = reverse("admin:models_registry_imagemodel_delete", args=[world.max.pk])
    assert olga.post(address, {"post": "yes"}).status_code == 403
    assert ImageModel.objects.count() == 4


def test_an_older_version_comes_back_but_not_its_verification(olga: Client, world: World) -> None:
    olga.post(page_of(world.max), fill_in(olga, page_of(world.max), title="Second"))
    version = world.max.history.last()
    assert version.title == "Qwen Image Max"
    address = reverse("admin:models_registry_imagemodel_simple_history", args=[world.max.pk, version.pk])
    ImageModel.objects.filter(pk=world.max.pk).update(verification="beta")
    sent = {**fill_in(olga, page_of(world.max)), "title": "Qwen Image Max"}
    assert olga.post(address, sent).status_code == 302
    world.max.refresh_from_db()
    assert (world.max.title, world.max.verification) == ("Qwen Image Max", "beta")


# --- prices ---


def test_a_price_is_appended_from_now_on(olga: Client, world: World) -> None:
    sent = {"model": world.max.pk, "amount": "0.35", "effective_from_0": "", "effective_from_1": "", "reason": "sale"}
    assert olga.post(PRICES, sent).status_code == 302
    price = Price.objects.latest("id")
    assert (price.model, price.amount_micros, price.reason, price.actor) == (world.max, 350_000, "sale", "olga")
    assert timezone.now() - price.effective_from < timedelta(minutes=1)
    in_force = load_catalog()["qwen-image-max"].price
    assert in_force is not None
    assert (in_force.version, in_force.amount_micros) == (price.pk, 350_000)


def test_a_price_may_wait_for_its_day(olga: Client, world: World) -> None:
    sent = {"model": world.max.pk, "amount": "0.9", "effective_from_0": "2099-01-01", "effective_from_1": "00:00:00"}
    assert olga.post(PRICES, sent | {"reason": ""}).status_code == 302
    in_force = load_catalog()["qwen-image-max"].price
    assert in_force is not None
    assert in_force.amount_micros == 500_000
    listed = olga.get(reverse("admin:models_registry_price_changelist")).content.decode()
    assert "to come" in listed
    assert "¥0.90" in listed


def test_no_price_begins_in_the_past(olga: Client, world: World) -> None:
    sent = {"model": world.max.pk, "amount": "0.01", "effective_from_0": "2026-01-01", "effective_from_1": "00:00:00"}
    response = olga.post(PRICES, sent)
    assert "this is in the past" in read_errors(response)
    assert Price.objects.count() == 4


@pytest.mark.parametrize("amount", ["0", "-0.20", "0.1234567", "NaN", "1,5", "", "1e20"])
def test_what_is_no_price_is_refused(olga: Client, world: World, amount: str) -> None:
    assert olga.post(PRICES, {"model": world.max.pk, "amount": amount}).status_code == 200
    assert Price.objects.count() == 4


def test_a_price_is_appended_on_the_page_of_its_model(olga: Client, world: World) -> None:
    row = {
        "prices-TOTAL_FORMS": "2",
        "prices-1-id": "",
        "prices-1-model": world.max.pk,
        "prices-1-amount": "0.45",
        "prices-1-effective_from_0": "",
        "prices-1-effective_from_1": "",
        "prices-1-reason": "autumn",
    }
    assert olga.post(page_of(world.max), fill_in(olga, page_of(world.max), **row)).status_code == 302
    assert [(price.amount_micros, price.actor) for price in world.max.prices.all()] == [
        (450_000, "olga"),
        (500_000, "seed"),
    ]


def test_a_price_is_neither_edited_nor_deleted(olga: Client, world: World) -> None:
    price = world.max.prices.get()
    change = reverse("admin:models_registry_price_change", args=[price.pk])
    delete = reverse("admin:models_registry_price_delete", args=[price.pk])
    assert olga.post(change, {"amount": "0.01", "model": world.max.pk}).status_code == 403
    assert olga.post(delete, {"post": "yes"}).status_code == 403
    crafted = {"prices-0-amount": "0.01", "prices-0-reason": "x", "prices-0-DELETE": "on"}
    olga.post(page_of(world.max), fill_in(olga, page_of(world.max), **crafted))
    selected = {"action": "delete_selected", "_selected_action": [price.pk], "post": "yes"}
    olga.post(reverse("admin:models_registry_price_changelist"), selected)
    kept = world.max.prices.get()
    assert (kept.pk, kept.amount_micros, kept.reason) == (price.pk, 500_000, "first price")


def test_a_recorded_move_is_neither_edited_nor_deleted(olga: Client, pro: ImageModel) -> None:
    olga.post(reverse(VERIFY, args=[pro.pk]), {"reason": "first"})
    move = Verification.objects.get()
    for operation in ("change", "delete"):
        address = reverse(f"admin:models_registry_verification_{operation}", args=[move.pk])
        assert olga.post(address, {"reason": "other", "post": "yes"}).status_code == 403
    assert Verification.objects.get().reason == "first"


# --- those who may only look ---


def test_a_viewer_changes_nothing(victor: Client, world: World, pro: ImageModel) -> None:
    assert victor.get(page_of(pro)).status_code == 200
    version = world.max.history.first() or world.max.history.create(
        **{field.attname: getattr(world.max, field.attname) for field in ImageModel._meta.concrete_fields},
        history_date=timezone.now(),
        history_type="~",
    )
    refused = [
        (reverse(VERIFY, args=[pro.pk]), {"reason": "x"}),
        (reverse(MOVE_BACK, args=[world.max.pk]), {"reason": "x"}),
        (page_of(pro), {"title": "x"}),
        (PRICES, {"model": pro.pk, "amount": "0.01"}),
        (reverse("admin:models_registry_imagemodel_simple_history", args=[world.max.pk, version.pk]), {}),
    ]
    assert [victor.post(address, sent).status_code for address, sent in refused] == [403] * 5
    assert victor.get(reverse(VERIFY, args=[pro.pk])).status_code == 403
    assert (Verification.objects.count(), Price.objects.count()) == (0, 4)
