"""When an old secret may go: never while a call can still need it, and always without a trace in the books."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from billing.models import ApiKey
from crazyrouter.generation.ids import new_id
from crazyrouter.generation.models import Attempt, Generation
from crazyrouter.generation.recovery import load_newest_credential
from crazyrouter.generation.rotation import delete_unused_credentials
from crazyrouter.sql import read_clock
from models_registry.models import Price
from providers import credentials
from providers.credentials import CredentialUnreadable
from providers.models import Channel, Credential, UpstreamAccount, add_credential
from tests.race import race
from tests.shop import Customer, open_channel, open_customer

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def channel(database: None) -> Channel:
    return open_channel("http://127.0.0.1:9", "dashscope_async", {"qwen-image-plus": 1}, name="first")


@pytest.fixture
def customer(database: None) -> Customer:
    return open_customer()


def rotate(channel: Channel, secret: str, *, seconds_ago: float = 61) -> Credential:
    """A new secret, appended so long ago by the database's clock; whatever is older was appended an hour before."""
    moment = read_clock(connection) - timedelta(seconds=seconds_ago)
    channel.credentials.filter(created_at__gt=moment - timedelta(hours=1)).update(
        created_at=moment - timedelta(hours=1)
    )
    credential = add_credential(channel, secret)
    Credential.objects.filter(pk=credential.pk).update(created_at=moment)
    return credential


def add_generation(customer: Customer, *, seconds_ago: float, state: str = "running") -> Generation:
    price = Price.objects.get(model__name="qwen-image-plus")
    now = timezone.now()
    return Generation.objects.create(
        id=new_id("gen"),
        account=customer.account,
        api_key=ApiKey.objects.get(pk=customer.key_id),
        model=price.model,
        price=price,
        unit_price_micros=price.amount_micros,
        prompt="a cat",
        width=1664,
        height=928,
        render_width=1664,
        render_height=928,
        n=1,
        response_format="url",
        state=state,
        lease_expires_at=now,
        deadline_at=now,
        created_at=now - timedelta(seconds=seconds_ago),
    )


def add_attempt(generation: Generation, credential: Credential, state: str, **values: Any) -> Attempt:
    return Attempt.objects.create(
        generation=generation,
        number=generation.attempts.count() + 1,
        slots=[0],
        channel=credential.channel,
        credential=credential,
        base_url="http://127.0.0.1:9",
        upstream_model="qwen-image-plus",
        shape="async",
        state=state,
        **values,
    )


def delete(*channels: Channel) -> tuple[list[str], list[tuple[str, str]]]:
    """The last four of what is gone; those of what stays, and why."""
    deleted, kept = delete_unused_credentials(channels)
    return [row.last4 for row in deleted], [(old.credential.last4, old.needed) for old in kept]


def list_secrets(channel: Channel) -> list[str]:
    """The last four of the secrets that are there, oldest first."""
    rows = Credential.objects.filter(channel=channel).exclude(ciphertext="").order_by("pk")
    return [row.reveal()[-4:] for row in rows]


def test_the_newest_is_always_needed(channel: Channel) -> None:
    assert delete(channel) == ([], [])
    Channel.objects.filter(pk=channel.pk).update(enabled=False)
    assert delete(channel) == ([], [])
    assert list_secrets(channel) == ["tial"]


def test_what_nothing_needs_goes_and_its_row_stays(channel: Channel, customer: Customer) -> None:
    old = rotate(channel, "sk-of-last-year-0002")
    rotate(channel, "sk-of-this-year-0003")
    attempt = add_attempt(add_generation(customer, seconds_ago=7200, state="succeeded"), old, "succeeded")
    assert delete(channel) == (["tial", "0002"], [])
    assert list_secrets(channel) == ["0003"]
    assert delete(channel) == ([], [])
    attempt.refresh_from_db()
    assert (attempt.credential.last4, str(attempt.credential)) == ("0002", "…0002")
    with pytest.raises(CredentialUnreadable):
        attempt.credential.reveal()


@pytest.mark.parametrize("state", ["created", "accepted"])
def test_an_attempt_that_has_not_ended_keeps_its_secret(channel: Channel, customer: Customer, state: str) -> None:
    used = channel.credentials.get()
    rotate(channel, "sk-of-this-year-0003", seconds_ago=600)
    # Opened after the change, as if its process had slept in between.
    generation = add_generation(customer, seconds_ago=60)
    attempt = add_attempt(generation, used, state)
    words = "attempts that were sent with it and have not ended: 1"
    assert delete(channel) == ([], [("tial", words)])
    assert list_secrets(channel) == ["tial", "0003"]
    Attempt.objects.filter(pk=attempt.pk).update(state="unknown")
    assert delete(channel) == (["tial"], [])


def test_a_generation_that_was_opened_before_may_still_order_with_it(channel: Channel, customer: Customer) -> None:
    """It has no attempt on this channel yet: it failed over to it a moment later."""
    rotate(channel, "sk-of-this-year-0003", seconds_ago=600)
    old = add_generation(customer, seconds_ago=541)
    add_generation(customer, seconds_ago=539)
    assert delete(channel) == ([], [("tial", "generations that run and may still order with it: 1")])
    Generation.objects.filter(pk=old.pk).update(state="failed")
    assert delete(channel) == (["tial"], [])


def test_what_was_replaced_a_moment_ago_stays(channel: Channel) -> None:
    rotate(channel, "sk-of-this-year-0003", seconds_ago=55)
    assert delete(channel) == ([], [("tial", "it was replaced less than 60 s ago")])
    Credential.objects.filter(last4="0003").update(created_at=read_clock(connection) - timedelta(seconds=61))
    assert delete(channel) == (["tial"], [])


def test_a_shadow_outlives_its_generation(channel: Channel, customer: Customer) -> None:
    used = channel.credentials.get()
    rotate(channel, "sk-of-this-year-0003")
    ended = add_generation(customer, seconds_ago=7200, state="succeeded")
    shadow = add_attempt(ended, used, "accepted", purpose=Attempt.Purpose.SHADOW)
    assert delete(channel) == ([], [("tial", "attempts that were sent with it and have not ended: 1")])
    Attempt.objects.filter(pk=shadow.pk).update(state="succeeded")
    assert delete(channel) == (["tial"], [])


def test_of_an_ended_generation_nobody_asks(channel: Channel, customer: Customer) -> None:
    used = channel.credentials.get()
    rotate(channel, "sk-of-this-year-0003")
    add_attempt(add_generation(customer, seconds_ago=7200, state="failed"), used, "accepted")
    assert delete(channel) == (["tial"], [])


def test_other_channels_keep_theirs(channel: Channel) -> None:
    other = open_channel("http://127.0.0.1:9", "dashscope_sync", {"qwen-image-max": 1}, name="second")
    rotate(channel, "sk-of-this-year-0003")
    rotate(other, "sk-of-this-year-0004")
    assert delete(channel) == (["tial"], [])
    assert (list_secrets(channel), list_secrets(other)) == (["0003"], ["tial", "0004"])
    assert delete(channel, other) == (["tial"], [])


def test_of_many_who_delete_at_once_one_does(channel: Channel) -> None:
    rotate(channel, "sk-of-this-year-0003")
    found = race(8, lambda _: delete(channel))
    assert sorted(map(str, found)) == ["(['tial'], [])"] + ["([], [])"] * 7


def test_whoever_orders_while_others_delete_keeps_its_secret(channel: Channel, customer: Customer) -> None:
    """One generation, opened before the change, fails over to the channel again and again; then it ends."""
    used = channel.credentials.get()
    rotate(channel, "sk-of-this-year-0003", seconds_ago=600)
    generation = add_generation(customer, seconds_ago=700)
    lost: list[int] = []

    def order() -> None:
        for _ in range(20):
            attempt = add_attempt(generation, used, "accepted")
            if not Credential.objects.get(pk=used.pk).ciphertext:
                lost.append(attempt.number)
            Attempt.objects.filter(pk=attempt.pk).update(state="failed")

    def work(number: int) -> None:
        if number == 0:
            order()
        else:
            assert [delete(channel)[0] for _ in range(10)] == [[]] * 10

    found = race(4, work)
    assert not [error for error in found if isinstance(error, Exception)]
    assert (lost, list_secrets(channel)) == ([], ["tial", "0003"])
    Generation.objects.filter(pk=generation.pk).update(state="failed")
    assert delete(channel) == (["tial"], [])


# --- the newest of an account ---


def read_newest(channel: Channel) -> str | None:
    ciphertext = load_newest_credential(channel.pk)
    return ciphertext and credentials.decrypt(ciphertext)


def test_channels_on_one_account_share_their_keys() -> None:
    acme, other = UpstreamAccount.objects.create(name="acme"), UpstreamAccount.objects.create(name="other")
    first, second, stranger, alone = (
        Channel.objects.create(name=name, kind="dashscope_sync", base_url="http://a", account=account)
        for name, account in (("first", acme), ("second", acme), ("stranger", other), ("alone", None))
    )
    assert read_newest(first) is None
    for channel, secret in ((first, "sk-1"), (second, "sk-2"), (stranger, "sk-3"), (alone, "sk-4")):
        add_credential(channel, secret)
    assert [read_newest(each) for each in (first, second, stranger, alone)] == ["sk-2", "sk-2", "sk-3", "sk-4"]
    # A disabled channel's key is the account's all the same.
    Channel.objects.filter(pk=first.pk).update(enabled=False)
    newest = add_credential(first, "sk-5")
    assert read_newest(second) == "sk-5"
    Credential.objects.filter(pk=newest.pk).update(ciphertext="")
    assert read_newest(second) == "sk-2"


def test_channels_without_an_account_share_nothing() -> None:
    one, two = (Channel.objects.create(name=name, kind="dashscope_sync", base_url="http://a") for name in "ab")
    add_credential(one, "sk-1")
    add_credential(two, "sk-2")
    assert (read_newest(one), read_newest(two)) == ("sk-1", "sk-2")
