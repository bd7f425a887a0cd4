"""What quickstart puts into the database: once, and never over what an operator has made of it."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import User

from billing.keys import find_identities, hash_key, revoke_key
from billing.models import Account, ApiKey, LedgerEntry
from crazyrouter.quickstart import demo
from models_registry.seed import seed_models
from providers.models import Capacity, Channel, Credential, Offer, UpstreamAccount
from providers.routing import load_routes

SIMULATOR = "http://127.0.0.1:8001"
ELSEWHERE = "http://127.0.0.1:9001"
DASHSCOPE = "https://dashscope.aliyuncs.com/api/v1"


@pytest.fixture
def models(db: None) -> None:
    seed_models()


def list_routes() -> dict[str, list[tuple[str, str, int, int]]]:
    """What would be called for each model, in order: kind, base URL, priority, images a call."""
    return {
        name: [(route.kind, route.base_url, route.priority, route.max_n) for route in listing.routes]
        for name, listing in load_routes().items()
        if listing.routes
    }


def test_the_credit_is_booked_once(db: None) -> None:
    demo.open_account()
    account = Account.objects.get(pk=demo.open_account().pk)
    assert (account.name, account.balance_micros) == ("demo", 100_000_000)
    assert list(LedgerEntry.objects.values_list("kind", "reference", "amount_micros")) == [
        ("top_up", "quickstart", 100_000_000)
    ]


def test_a_key_that_works_is_kept(db: None) -> None:
    account = demo.open_account()
    secret = demo.keep_key(account, "")
    assert demo.keep_key(account, secret) == secret
    assert ApiKey.objects.count() == 1
    assert find_identities([hash_key(secret)])[hash_key(secret)].account_id == account.pk


@pytest.mark.parametrize("fate", ["revoked", "unknown"])
def test_a_key_that_does_not_work_is_replaced(db: None, fate: str) -> None:
    account = demo.open_account()
    secret = demo.keep_key(account, "")
    if fate == "revoked":
        revoke_key(ApiKey.objects.get())
    else:
        secret = "sk-cr-00000000-of-another-pepper"
    fresh = demo.keep_key(account, secret)
    assert fresh != secret
    assert demo.keep_key(account, fresh) == fresh


def test_the_admin_gets_the_password_once(db: None) -> None:
    assert demo.keep_admin("first-password", reset=False)
    assert demo.keep_admin("first-password", reset=False)
    user = User.objects.get()
    assert (user.username, user.is_superuser, user.is_staff) == ("admin", True, True)


def test_a_password_that_an_operator_changed_is_not_claimed_to_be_ours(db: None) -> None:
    demo.keep_admin("first-password", reset=False)
    user = User.objects.get()
    user.set_password("changed-by-hand")
    user.save()
    assert not demo.keep_admin("first-password", reset=False)
    assert User.objects.get().check_password("changed-by-hand")


def test_a_lost_environment_file_resets_the_password(db: None) -> None:
    demo.keep_admin("first-password", reset=False)
    assert demo.keep_admin("second-password", reset=True)
    assert User.objects.get().check_password("second-password")


def test_every_model_has_the_maker_first_and_a_reseller_behind(models: None) -> None:
    demo.keep_simulated(SIMULATOR)
    reseller = ("openai_images", SIMULATOR, 20)
    native = f"{SIMULATOR}/api/v1"
    assert list_routes() == {
        "qwen-image-plus": [("dashscope_async", native, 10, 1), (*reseller, 1)],
        "qwen-image-max": [("dashscope_sync", native, 10, 1), (*reseller, 1)],
        "qwen-image-2.0": [("dashscope_sync", native, 10, 6), (*reseller, 6)],
        "qwen-image-2.0-pro": [("dashscope_sync", native, 10, 6), (*reseller, 6)],
    }
    assert Channel.objects.filter(simulated=False).count() == 0
    assert {credential.reveal()[:7] for credential in Credential.objects.all()} == {"sk-sim-"}


def test_a_second_start_changes_only_the_address(models: None) -> None:
    demo.keep_simulated(SIMULATOR)
    offer = Offer.objects.get(channel__kind="dashscope_async")
    Offer.objects.filter(pk=offer.pk).update(enabled=False, priority=77)
    Channel.objects.filter(kind="openai_images").update(name="renamed")
    Offer.objects.filter(channel__name="renamed", model__name="qwen-image-max").delete()
    demo.keep_simulated(ELSEWHERE)
    assert set(Channel.objects.values_list("base_url", flat=True)) == {f"{ELSEWHERE}/api/v1", ELSEWHERE}
    assert (Channel.objects.count(), Credential.objects.count(), Offer.objects.count()) == (3, 3, 7)
    offer.refresh_from_db()
    assert (offer.enabled, offer.priority) == (False, 77)


def test_a_simulator_elsewhere_is_left_alone(models: None) -> None:
    demo.keep_simulated(SIMULATOR)
    Channel.objects.filter(kind="openai_images").update(base_url="http://simulator.internal:9000")
    demo.keep_simulated(ELSEWHERE)
    assert Channel.objects.get(kind="openai_images").base_url == "http://simulator.internal:9000"


def test_credentials_of_lost_keys_are_made_anew(models: None, settings: Any) -> None:
    demo.keep_simulated(SIMULATOR)
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    demo.keep_simulated(SIMULATOR)
    assert Credential.objects.count() == 6
    for channel in Channel.objects.all():
        newest = channel.credentials.first()
        assert newest is not None
        assert newest.reveal().startswith("sk-sim-")


def test_a_real_account_keeps_to_its_documented_limits(models: None) -> None:
    demo.keep_real("sk-real-one", DASHSCOPE)
    demo.keep_real("sk-real-two", DASHSCOPE)
    limits = Capacity.objects.values_list(
        "account__channels__kind", "upstream_model", "submit_interval_ms", "submit_burst", "max_running"
    )
    assert sorted(limits) == [
        ("dashscope_async", "qwen-image-plus", 500, 2, 2),
        ("dashscope_sync", "qwen-image-2.0", 500, 2, None),
        ("dashscope_sync", "qwen-image-2.0-pro", 30_000, 2, None),
        ("dashscope_sync", "qwen-image-max", 30_000, 2, None),
        ("dashscope_sync", "qwen-image-plus", 500, 2, None),
    ]
    assert set(UpstreamAccount.objects.values_list("polls_per_s", flat=True)) == {20}
    assert {route.capacity_id is None for listing in load_routes().values() for route in listing.routes} == {False}


def test_a_real_key_takes_the_simulated_offers_off_sale(models: None) -> None:
    demo.keep_simulated(SIMULATOR)
    names = ["qwen-image-2.0", "qwen-image-2.0-pro", "qwen-image-max", "qwen-image-plus"]
    assert demo.keep_real("sk-real-one", DASHSCOPE) == names
    sync, six = ("dashscope_sync", DASHSCOPE, 1, 1), ("dashscope_sync", DASHSCOPE, 1, 6)
    assert list_routes() == {
        "qwen-image-plus": [("dashscope_async", DASHSCOPE, 0, 1), sync],
        "qwen-image-max": [sync],
        "qwen-image-2.0": [six],
        "qwen-image-2.0-pro": [six],
    }
    assert not Offer.objects.filter(channel__simulated=True, enabled=True).exists()
    # The offers stand behind it as history, for the admin shows who changed what.
    assert set(Offer.history.filter(channel__simulated=True, enabled=False).values_list("model__name", flat=True)) == (
        set(names)
    )


def test_a_real_key_is_appended_only_when_it_is_another(models: None) -> None:
    for key in ("sk-real-one", "sk-real-one", "sk-real-two"):
        demo.keep_real(key, DASHSCOPE)
    for channel in Channel.objects.all():
        assert [credential.reveal() for credential in channel.credentials.all()] == ["sk-real-two", "sk-real-one"]


def test_a_model_that_the_real_channel_does_not_serve_stays_simulated(models: None) -> None:
    demo.keep_simulated(SIMULATOR)
    demo.keep_real("sk-real-one", DASHSCOPE)
    Offer.objects.filter(model__name="qwen-image-max").update(enabled=False)
    Offer.objects.filter(model__name="qwen-image-max", channel__simulated=True).update(enabled=True)
    assert "qwen-image-max" not in demo.keep_real("sk-real-one", DASHSCOPE)
    assert Offer.objects.filter(model__name="qwen-image-max", channel__simulated=True, enabled=True).count() == 2


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"DASHSCOPE_API_KEY": "  "}, None),
        ({"DASHSCOPE_API_KEY": "sk-1"}, ("sk-1", DASHSCOPE)),
        (
            {"DASHSCOPE_API_KEY": "sk-1", "DASHSCOPE_BASE_URL": "https://x.test/api/v1/"},
            ("sk-1", "https://x.test/api/v1"),
        ),
    ],
)
def test_the_real_account_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: tuple[str, str] | None
) -> None:
    for name in ("DASHSCOPE_API_KEY", "DASHSCOPE_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert demo.read_real() == expected
