"""Keys change while tasks run, while orders flow, and while processes die; nothing is lost, and nothing is shown."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from billing.models import Account
from crazyrouter.generation import rotation
from crazyrouter.generation.models import Attempt, Generation
from crazyrouter.generation.rotation import delete_unused_credentials
from providers.models import Channel, Credential, UpstreamAccount, add_credential
from tests.anonymity.production import LoggedServer, find_secrets, find_stored_secrets
from tests.books import read_violations
from tests.live.scenes import LONG, PLUS, QUICK, URL, fetch
from tests.ops.processes import wait_until
from tests.shop import Customer
from tests.simulator.running import RunningSimulator

pytestmark = pytest.mark.live

OLD, NEW, SIBLING = "sk-sim-acme.key-of-old-0001", "sk-sim-acme.key-of-new-0002", "sk-sim-acme.sibling-key-0003"
MANY = 1000
LATER = {"Prefer": "respond-async"}


@dataclass
class Shop:
    """A channel with a sibling on the same upstream account, which serves nothing."""

    customer: Customer
    channel: Channel
    sibling: Channel
    simulator: RunningSimulator
    folder: Path

    def start(self) -> LoggedServer:
        return LoggedServer(self.folder, **QUICK)

    def order(self, server: LoggedServer, prompt: str) -> str:
        """The id of a generation whose task the upstream has accepted."""
        body = {"model": PLUS, "prompt": prompt}
        status, _, answer = fetch(server.base_url + URL, self.customer.headers | LATER, body)
        assert status == 202
        made: str = json.loads(answer)["id"]
        wait_until(lambda: Attempt.objects.filter(generation=made, state="accepted").exists())
        return made

    def delete_old(self) -> bool:
        """Whether the channel has no secret but the newest."""
        delete_unused_credentials([self.channel])
        return self.channel.credentials.exclude(ciphertext="").count() == 1

    def refuse(self, key: str, *, times: int = MANY, endpoint: str = "tasks") -> None:
        """The upstream does not know this key, or not now."""
        match = {"endpoint": endpoint, "key": key}
        self.simulator.add_rule("error", status=401, code="InvalidApiKey", match=match, times=times)

    def count_refusals(self, key: str) -> int:
        """How often the upstream refused it, of many times."""
        rules = self.simulator.call("GET", "/rules")["rules"]
        return sum(MANY - rule["times"] for rule in rules if rule["match"]["key"] == key)

    def close(self) -> None:
        """The channel is switched off, and points to where nobody listens."""
        Channel.objects.filter(pk=self.channel.pk).update(enabled=False, base_url="http://127.0.0.1:1/api/v1")

    def age_credentials(self) -> None:
        """As if all that was done to them had been done two minutes earlier."""
        for credential in Credential.objects.all():
            earlier = credential.created_at - timedelta(minutes=2)
            Credential.objects.filter(pk=credential.pk).update(created_at=earlier)


@pytest.fixture
def shop(customer: Customer, simulator: RunningSimulator, tmp_path: Path) -> Shop:
    account = UpstreamAccount.objects.create(name="acme")
    channel = Channel.objects.get(kind="dashscope_async")
    sibling = Channel.objects.create(name="sibling", kind="dashscope_sync", base_url=channel.base_url, account=account)
    Channel.objects.filter(pk=channel.pk).update(account=account)
    Channel.objects.exclude(pk__in=[channel.pk, sibling.pk]).delete()
    add_credential(channel, OLD)
    return Shop(customer, channel, sibling, simulator, tmp_path)


def finish(shop: Shop, generation_id: str) -> None:
    """Its task ends, and what it brought is stored and charged, once."""
    shop.simulator.advance(600)
    wait_until(lambda: not Generation.objects.filter(pk=generation_id, state="running").exists())
    row = Generation.objects.get(pk=generation_id)
    assert (row.state, row.delivered) == ("succeeded", 1)
    assert list(row.attempts.values_list("state", "credential__last4")) == [("succeeded", "0001")]
    assert shop.simulator.totals()["submissions"] == 1
    assert read_violations() == []
    assert Account.objects.get().held_micros == 0


def check_silence(server: LoggedServer) -> None:
    """Neither what the process said nor what anybody wrote down holds a key."""
    said = server.log.read_text()
    assert said
    assert find_secrets(said, [OLD, NEW, SIBLING]) == []
    assert find_stored_secrets([OLD, NEW, SIBLING]) == []


@pytest.mark.parametrize(
    ("where", "refused", "taken_over"),
    [("channel", False, False), ("channel", False, True), ("channel", True, True), ("sibling", True, False)],
    ids=["old key valid", "old key valid, taken over", "old key refused, taken over", "key of another channel"],
)
def test_a_task_ends_whatever_is_done_to_its_channel(shop: Shop, where: str, refused: bool, taken_over: bool) -> None:
    """Rotated, switched off, moved: it is polled where it was sent, with its own key or the newest of the account."""
    server = shop.start()
    with server:
        made = shop.order(server, f"a cat {LONG}")
        if taken_over:
            server.kill()
        add_credential(*((shop.channel, NEW) if where == "channel" else (shop.sibling, SIBLING)))
        shop.close()
        if refused:
            shop.refuse(OLD)
        if taken_over:
            server = shop.start()
            server.start()
            server.wait_until_ready()
            wait_until(lambda: Generation.objects.get(pk=made).takeovers == 1)
        if refused:
            wait_until(lambda: shop.count_refusals(OLD) > 0)
        finish(shop, made)
        server.__exit__(None, None, None)
    assert shop.count_refusals(OLD) == (1 if refused else 0)
    check_silence(server)


def test_a_newest_key_that_is_wrong_strands_nothing(shop: Shop) -> None:
    """The task's own key is refused once, in passing; the newest of the account belongs to another region."""
    with shop.start() as server:
        made = shop.order(server, f"a cat {LONG}")
        add_credential(shop.sibling, SIBLING)
        shop.refuse(SIBLING)
        shop.refuse(OLD, times=1)
        wait_until(lambda: shop.count_refusals(SIBLING) > 0)
        finish(shop, made)
    assert shop.count_refusals(SIBLING) == 1


def test_an_old_key_goes_when_its_last_task_has_ended(shop: Shop) -> None:
    with shop.start() as server:
        made = shop.order(server, f"a cat {LONG}")
        add_credential(shop.channel, NEW)
        # So old may what a process knows be; the rest of the minute is not waited for.
        time.sleep(2)
        shop.age_credentials()
        _, kept = delete_unused_credentials([shop.channel])
        assert [(old.credential.last4, old.needed) for old in kept] == [
            ("0001", "attempts that were sent with it and have not ended: 1")
        ]
        finish(shop, made)
        deleted, kept = delete_unused_credentials([shop.channel])
        assert ([row.last4 for row in deleted], kept) == (["0001"], [])
        assert Attempt.objects.get().credential.ciphertext == ""
        # The books still say what it was sent with, and the next order goes out with the new key.
        assert Attempt.objects.get().credential.last4 == "0001"
        status, _, _ = fetch(server.base_url + URL, shop.customer.headers, {"model": PLUS, "prompt": "a cat"})
        assert status == 200
    entries = [entry["key_last4"] for entry in shop.simulator.bill()["entries"] if entry["kind"] == "submission"]
    assert entries == ["0001", "0002"]
    check_silence(server)


def test_a_task_whose_key_is_gone_is_polled_with_the_newest(shop: Shop) -> None:
    """It cannot be, but for a process that slept for a minute between its look at the keys and its order."""
    server = shop.start()
    with server:
        made = shop.order(server, f"a cat {LONG}")
        server.kill()
    add_credential(shop.channel, NEW)
    Credential.objects.filter(last4="0001").update(ciphertext="")
    with shop.start() as server:
        wait_until(lambda: Generation.objects.get(pk=made).takeovers == 1)
        finish(shop, made)


def test_orders_flow_while_keys_change_and_old_ones_go(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is deleted as soon as nothing needs it, and then the upstream stops knowing it, too: nobody notices."""
    monkeypatch.setattr(rotation, "SETTLING", timedelta(seconds=6))
    statuses: list[int] = []
    over = threading.Event()

    def order(server: LoggedServer, number: int) -> None:
        for count in range(200):
            if over.is_set():
                return
            body = {"model": PLUS, "prompt": f"a cat {number} {count} [[sim: latency seconds=0.5]]"}
            statuses.append(fetch(server.base_url + URL, shop.customer.headers, body)[0])

    with shop.start() as server:
        threads = [threading.Thread(target=order, args=(server, number)) for number in range(6)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(statuses) > 6)
        add_credential(shop.channel, NEW)
        wait_until(shop.delete_old)
        shop.refuse(OLD)
        shop.refuse(OLD, endpoint="async")
        before = len(statuses)
        wait_until(lambda: len(statuses) > before + 12)
        over.set()
        for thread in threads:
            thread.join(60)
    assert shop.count_refusals(OLD) == 0
    assert set(statuses) == {200}
    used = [entry["key_last4"] for entry in shop.simulator.bill()["entries"] if entry["kind"] == "submission"]
    assert set(used) == {"0001", "0002"}
    assert set(Attempt.objects.values_list("state", flat=True)) == {"succeeded"}
    assert read_violations() == []
