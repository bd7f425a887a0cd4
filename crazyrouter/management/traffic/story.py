"""Generation after generation, as rows: most deliver what was asked, some less, some nothing."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from billing.models import Account, ApiKey, Booking, Hold, LedgerEntry, RefundedCharge, UsageDay
from crazyrouter.files.models import StoredImage
from crazyrouter.generation.ids import PAIRS
from crazyrouter.generation.models import Attempt, Generation
from crazyrouter.management.traffic.books import Books, render_time
from crazyrouter.management.traffic.bulk import insert_rows, open_batch
from crazyrouter.management.traffic.cast import Buyer, Cast, Product
from crazyrouter.management.traffic.plan import Plan

GENERATION = (
    *("id", "account_id", "api_key_id", "model_id", "price_id", "unit_price_micros", "prompt", "options"),
    *("width", "height", "render_width", "render_height", "n", "response_format", "request_hash", "retries_joined"),
    *("state", "failure", "delivered", "lease_owner", "lease_expires_at", "takeovers", "deadline_at"),
    *("created_at", "finished_at", "answered_at"),
)
ATTEMPT = (
    *("generation_id", "number", "slots", "purpose", "offer_id", "channel_id", "credential_id", "base_url"),
    *("upstream_model", "shape", "cost_micros", "cost_currency", "state", "task_id", "upstream_id", "code", "billed"),
    *("detail", "images", "routing", "created_at", "ended_at"),
)
IMAGE = (
    *("name", "generation_id", "slot", "width", "height", "bytes", "sha256"),
    *("created_at", "expires_at", "deleted_at"),
)
#: Every table that grows with the traffic.
TABLES = tuple(
    model._meta.db_table
    for model in (
        *(Generation, Attempt, StoredImage, Hold, LedgerEntry, UsageDay, Account, ApiKey, Booking, RefundedCharge),
    )
)
#: Of a hundred: how many images are asked for at once.
COUNTS = (1,) * 80 + (2,) * 14 + (4,) * 6
FAILURES = ("upstream_failed", "moderation_blocked", "generation_timeout")
REFUNDS_ONE_IN = 2500
ANSWER_LOST_ONE_IN = 100
FAILOVER_ONE_IN = 20


def write_traffic(plan: Plan, cast: Cast) -> Iterator[int]:
    """Write batch after batch, each with its books; yields how many generations are written."""
    story = Story(plan, cast)
    for first in range(0, plan.generations, plan.batch):
        last = min(first + plan.batch, plan.generations)
        for number in range(first, last):
            story.tell(number)
        with open_batch():
            story.write()
        yield last


class Story:
    def __init__(self, plan: Plan, cast: Cast) -> None:
        self.plan, self.cast = plan, cast
        self.books = Books(cast.buyers)
        # With the names: traffic that is added with the same seed must not repeat the ids of the first.
        self.random = random.Random(f"{plan.seed}/{cast.buyers[0].name}")  # noqa: S311 - no secret is made of it
        self.since, self.span = plan.since.timestamp(), plan.days * 86_400
        self.prompts_from = (timezone.now() - timedelta(days=settings.PROMPT_TTL_DAYS)).timestamp()
        self.clear()

    def clear(self) -> None:
        self.generations: list[tuple[Any, ...]] = []
        self.attempts: list[tuple[Any, ...]] = []
        self.images: list[tuple[Any, ...]] = []

    def write(self) -> None:
        insert_rows(Generation, GENERATION, self.generations)
        insert_rows(Attempt, ATTEMPT, self.attempts)
        insert_rows(StoredImage, IMAGE, self.images)
        self.books.write()
        self.clear()

    def tell(self, number: int) -> None:
        """One generation. They end in the order of their numbers: that is the order of the books."""
        chance = self.random.random
        ended = self.since + self.span * (number + chance()) / self.plan.generations
        begun = ended - 2 - 28 * chance()
        buyer, product = self.choose_buyer(), self.choose(self.cast.products)
        key = self.choose(buyer.keys)
        n = min(self.choose(COUNTS), product.max_n)
        delivered = self.deliver(n)
        generation_id = self.make_id(begun)
        price = product.find_price(begun)
        times = (render_time(begun), render_time(ended))
        self.add_generation(generation_id, buyer, key[0], product, price, n, delivered, times, begun)
        self.add_attempts(generation_id, product, n, delivered, times)
        self.add_images(generation_id, product, delivered, ended, times[1])
        self.add_money(generation_id, buyer, key, product, price, n, delivered, (begun, ended), times)

    def choose(self, options: Any) -> Any:
        return options[int(self.random.random() * len(options))]

    def choose_buyer(self) -> Buyer:
        buyers = self.cast.buyers
        if len(buyers) == 1 or self.random.random() < self.plan.share:
            return buyers[0]
        return buyers[1 + int(self.random.random() * (len(buyers) - 1))]

    def deliver(self, n: int) -> int:
        chance = self.random.random()
        if chance < 0.93:
            return n
        return n - 1 if chance < 0.95 else 0

    def make_id(self, moment: float) -> str:
        value = int(moment * 1000) << 80 | self.random.getrandbits(80)
        return "gen_" + "".join([PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)])

    def add_generation(
        self,
        generation_id: str,
        buyer: Buyer,
        key_id: int,
        product: Product,
        price: tuple[int, int],
        n: int,
        delivered: int,
        times: tuple[str, str],
        begun: float,
    ) -> None:
        width, height = product.size
        prompt = f"a lighthouse in the fog, number {generation_id}" if begun > self.prompts_from else ""
        state, failure = ("succeeded", "") if delivered else ("failed", self.choose(FAILURES))
        answered = None if self.random.random() * ANSWER_LOST_ONE_IN < 1 else times[1]
        asked = (prompt, "{}", width, height, width, height, n, "url", f"{self.random.getrandbits(256):064x}", 0)
        lease = ("web-made-up", times[1], 0, render_time(begun + settings.GENERATION_DEADLINE_S))
        head = (generation_id, buyer.account_id, key_id, product.model_id, *price)
        self.generations.append((*head, *asked, state, failure, delivered, *lease, *times, answered))

    def add_attempts(
        self, generation_id: str, product: Product, n: int, delivered: int, times: tuple[str, str]
    ) -> None:
        cast = self.cast
        common = (
            *(json.dumps(list(range(n))), "customer", product.offer_id, cast.channel_id, cast.credential_id),
            *(cast.base_url, product.name, product.shape, 100_000, "CNY"),
        )
        number = 1
        if self.random.random() * FAILOVER_ONE_IN < 1:
            end = ("rejected", "", "", "rate_limited", "no", "too many", 0, "{}", times[0], times[0])
            self.attempts.append((generation_id, number, *common, *end))
            number += 1
        state, code, billed = ("succeeded", "", "") if delivered else ("failed", "bad_response", "no")
        end = (state, "", f"req-{generation_id[-12:]}", code, billed, "", delivered, "{}", *times)
        self.attempts.append((generation_id, number, *common, *end))

    def add_images(self, generation_id: str, product: Product, delivered: int, ended: float, stored_at: str) -> None:
        """Their bytes never were; the rows say that they have expired."""
        expired_at = render_time(ended + settings.FILE_TTL_HOURS * 3600)
        for slot in range(delivered):
            name = base64.b32encode(self.random.randbytes(20)).decode().lower()
            digest = f"{self.random.getrandbits(256):064x}"
            facts = (f"qwen_image_{name}.png", generation_id, slot, *product.size, 1_500_000, digest)
            self.images.append((*facts, stored_at, expired_at, expired_at))

    def add_money(
        self,
        generation_id: str,
        buyer: Buyer,
        key: tuple[int, str],
        product: Product,
        price: tuple[int, int],
        n: int,
        delivered: int,
        moments: tuple[float, float],
        times: tuple[str, str],
    ) -> None:
        version, amount = price
        size = f"{product.size[0]}x{product.size[1]}"
        self.books.cover(buyer, n * amount, moments[0])
        self.books.hold(buyer, key[0], generation_id, n * amount, delivered * amount, times)
        for slot in range(delivered):
            facts = (generation_id, slot, product.name, size, amount, version)
            charge = self.books.charge(buyer, key, amount, facts, moments[1])
            if self.random.random() * REFUNDS_ONE_IN < 1:
                given_back = amount if self.random.random() < 0.5 else amount // 2
                self.books.refund(buyer, key, charge, given_back, facts, moments[1])
