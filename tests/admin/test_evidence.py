"""The figures where an operator decides: on a page of the model, before the move, and in its record for ever."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from crazyrouter.generation.admin_evidence import tell_comparison, tell_evidence, tell_figures, tell_rate
from crazyrouter.generation.evidence import Comparison, Evidence, Figures, Window
from crazyrouter.generation.models import Attempt
from models_registry.models import ImageModel, Verification
from tests.admin.forms import read_log
from tests.admin.world import World, add_channel, add_offer

MOVE_BACK = "admin:models_registry_imagemodel_move_back"
SEEN = "official (qwen-image-max), customer: 2 calls, 50.0 % succeeded, 2 of 4 images, mean 9.8 s"


def page_of(model: ImageModel) -> str:
    return reverse("admin:models_registry_imagemodel_evidence", args=[model.pk])


def add_copy(world: World) -> None:
    """Of the world's generation, by a channel on trial."""
    trial = add_offer(add_channel("trial"), world.max, shadow_percent=10, shadow_per_day=5)
    moment = timezone.now()
    Attempt.objects.create(
        generation=world.generation,
        number=1001,
        purpose="shadow",
        slots=[0, 1],
        offer=trial,
        channel=trial.channel,
        credential=trial.channel.credentials.get(),
        base_url=trial.channel.base_url,
        upstream_model=trial.upstream_model,
        shape="sync",
        state="succeeded",
        images=2,
        comparison={
            "latency_ms": 4_200,
            "sizes": [[1328, 1328], [1024, 1024]],
            "asked": [1328, 1328],
            "images": 2,
            "wanted": 2,
            "failure": "",
            "customer": {"latency_ms": 12_000, "images": 2, "failure": ""},
        },
        created_at=moment - timedelta(seconds=5),
        ended_at=moment - timedelta(seconds=1),
    )


def read_rows(client: Client, address: str) -> dict[str, list[list[str]]]:
    context = client.get(address).context
    return {name: [[str(cell) for cell in row] for row in context[name]["rows"]] for name in ("calls", "copies")}


def test_the_page_shows_offers_roles_and_comparisons(olga: Client, world: World) -> None:
    add_copy(world)
    rows = read_rows(olga, page_of(world.max))
    assert [row[1:] for row in rows["calls"]] == [
        ["customer", "2", "50.0 %", "2 of 4", "9.8 s", "9.8 s", "0", "rate_limited 1"],
        ["shadow", "1", "100.0 %", "2 of 2", "4.0 s", "4.0 s", "0", "–"],
    ]
    assert reverse("admin:providers_offer_change", args=[world.offer.pk]) in rows["calls"][0][0]
    assert [row[1:] for row in rows["copies"]] == [["1", "1", "0", "0", "0", "1 of 2 as asked", "12.0 s", "4.2 s"]]
    shown = olga.get(page_of(world.max)).content.decode()
    assert "Shadows beside what customers got of the same requests" in shown


def test_a_model_that_nobody_ordered_has_an_empty_page(olga: Client, world: World) -> None:
    unsold = ImageModel.objects.get(name="qwen-image-plus")
    assert "No upstream was called for it." in olga.get(page_of(unsold)).content.decode()


def test_the_models_page_leads_there(olga: Client, world: World) -> None:
    page = reverse("admin:models_registry_imagemodel_change", args=[world.max.pk])
    assert page_of(world.max) in olga.get(page).content.decode()


@pytest.mark.parametrize(("asked", "days"), [("", 30), ("1", 1), ("90", 90), ("31", 30), ("x", 30), ("-1", 30)])
def test_the_days_may_be_chosen(olga: Client, world: World, asked: str, days: int) -> None:
    context = olga.get(page_of(world.max), {"days": asked}).context
    assert context["evidence"].window.days == days
    assert [span for span, chosen in context["spans"] if chosen] == [days]
    assert [span for span, _ in context["spans"]] == [1, 7, 30, 90]


def test_who_may_not_see_traffic_sees_no_figures(victor: Client, world: World) -> None:
    assert victor.get(page_of(world.max)).status_code == 200
    viewer = User.objects.get(username="victor")
    viewer.user_permissions.set(Permission.objects.filter(codename="view_imagemodel"))
    assert victor.get(page_of(world.max)).status_code == 403
    page = reverse("admin:models_registry_imagemodel_change", args=[world.max.pk])
    assert page_of(world.max) not in victor.get(page).content.decode()
    assert victor.get(page_of(ImageModel(pk=999))).status_code == 403


def test_a_model_that_does_not_exist_is_not_found(olga: Client, world: World) -> None:
    assert olga.get(page_of(ImageModel(pk=999))).status_code == 404


def test_a_move_keeps_the_figures_of_its_moment(olga: Client, world: World) -> None:
    add_copy(world)
    asked = olga.get(reverse(MOVE_BACK, args=[world.max.pk])).content.decode()
    assert SEEN in asked
    olga.post(reverse(MOVE_BACK, args=[world.max.pk]), {"reason": "wrong colours since Monday"})
    Attempt.objects.all().delete()
    move = Verification.objects.get()
    reason, head, customers, shadows, beside = move.reason.splitlines()
    assert reason == "wrong colours since Monday"
    assert head.startswith("Evidence of the last 30 days, as of 20")
    assert customers.startswith(SEEN)
    assert shadows.startswith("trial (qwen-image-max), shadow: 1 call, 100.0 % succeeded, 2 of 2 images")
    assert beside.startswith("trial (qwen-image-max), of 1 copied request: 1 served by both")
    assert read_log(world.max) == [("olga", "Moved to Beta: wrong colours since Monday")]
    listed = olga.get(reverse("admin:models_registry_verification_changelist")).content.decode()
    assert "wrong colours since Monday" in listed
    assert "Evidence of the last" not in listed
    for page in ("models_registry_verification_change", "models_registry_imagemodel_change"):
        row = move if "verification" in page else world.max
        assert "served by both" in olga.get(reverse(f"admin:{page}", args=[row.pk])).content.decode()


def test_nothing_a_carrier_says_is_markup(olga: Client, world: World) -> None:
    world.first.name = "<b>official</b>"
    world.first.save()
    for address in (page_of(world.max), reverse(MOVE_BACK, args=[world.max.pk])):
        shown = olga.get(address).content.decode()
        assert "&lt;b&gt;official&lt;/b&gt;" in shown
        assert "<b>official" not in shown


# --- words ---


FIGURES = Figures(
    offer_id=1,
    channel="official",
    upstream_model="m",
    role="canary",
    calls=3_002,
    running=2,
    refused=0,
    succeeded=2_999,
    wanted=3_000,
    images=2_999,
    wrong_size=1,
    mean_ms=8_140,
    p95_ms=14_000,
    failures={"timeout": 1},
)


def change(one: Any, **values: Any) -> Any:
    return type(one)(**({name: getattr(one, name) for name in one.__slots__} | values))


def test_figures_in_a_line() -> None:
    assert tell_figures(FIGURES) == (
        "official (m), canary: 3,002 calls, 99.9 % succeeded, 2,999 of 3,000 images, mean 8.1 s, 95 % within 14.0 s, "
        "1 of a wrong size; failures: timeout 1"
    )
    nothing = change(FIGURES, calls=1, running=1, succeeded=0, wanted=0, images=0, wrong_size=0, mean_ms=None)
    nothing = change(nothing, p95_ms=None, failures={})
    assert tell_figures(nothing) == "official (m), canary: 1 call, 0 of 0 images, 0 of a wrong size"


@pytest.mark.parametrize(
    ("succeeded", "calls", "said"), [(3, 3, "100.0 %"), (99_999, 100_000, "99.9 %"), (0, 3, "0.0 %"), (0, 0, "–")]
)
def test_a_hundred_percent_means_that_none_failed(succeeded: int, calls: int, said: str) -> None:
    assert tell_rate(change(FIGURES, calls=calls, running=0, succeeded=succeeded)) == said


def test_a_comparison_in_a_line() -> None:
    beside = Comparison(1, "trial", "m", copies=4, both=2, customer_only=1, neither=1, pictures=3, as_asked=3)
    beside.customer_total_ms, beside.copy_total_ms = 15_000, 6_000
    assert tell_comparison(beside) == (
        "trial (m), of 4 copied requests: 2 served by both, 1 by the customer's channel only, 0 by the copy only, "
        "1 by neither, 3 of 3 pictures in the size asked for, customers waited 7.5 s, copies took 3.0 s"
    )
    assert tell_comparison(Comparison(1, "trial", "m", copies=1, neither=1)).endswith(
        "0 of 0 pictures in the size asked for"
    )


def test_what_was_left_out_is_said() -> None:
    at = timezone.now()
    whole = Evidence(Window(7, at, "gen_"), at, (FIGURES,), ())
    [head, _] = tell_evidence(whole)
    assert head.startswith("Evidence of the last 7 days, as of ")
    [head, _] = tell_evidence(change(whole, window=Window(7, at, "gen_", whole=False)))
    assert head.startswith("Evidence of the last 7 days, among the newest 50,000 generations, as of ")
    assert list(tell_evidence(change(whole, figures=()))) == []
