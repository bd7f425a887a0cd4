"""Prices agreed with one account: appended with a reason and a date, never edited; and what an image then costs.

PriceRefused        an agreement that cannot be appended
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from billing.models import Account, AccountPrice
from billing.money import discount
from models_registry.models import ImageModel

Kind = AccountPrice.Kind

# By whole ten-thousandths and the rest of them: the product of both would not fit into 64 bits.
_DISCOUNTED = """
    p.amount_micros / 10000 * (10000 - a.discount_basis_points)
    + ((p.amount_micros - p.amount_micros / 10000 * 10000) * (10000 - a.discount_basis_points) + 5000) / 10000
"""
#: The unit price in micro-units, from a list price `p` and a LEFT JOINed agreement `a`: `quote_unit` in SQL. Integer
#: division truncates on both databases, and nothing here is negative.
UNIT_PRICE_SQL = f"""
    CASE a.kind
        WHEN 'fixed' THEN a.amount_micros
        WHEN 'discount' THEN CASE WHEN {_DISCOUNTED} < 1 THEN 1 ELSE {_DISCOUNTED} END
        ELSE p.amount_micros END
"""


class PriceRefused(ValueError):
    """The agreement was not appended."""


@dataclass(frozen=True, slots=True)
class AgreedPrice:
    """A version in force. `version` is its id; it has an amount per image or a discount off the list price."""

    version: int
    kind: str
    amount_micros: int | None
    discount_basis_points: int | None


def quote_unit(list_micros: int, agreed: AgreedPrice | None) -> int:
    """What one image costs an account, in micro-units: the list price, or what was agreed."""
    if agreed is None or agreed.kind == Kind.LIST:
        return list_micros
    if agreed.amount_micros is not None:
        return agreed.amount_micros
    return discount(list_micros, basis_points=agreed.discount_basis_points or 0)


def find_account_prices(account_ids: Collection[int], now: datetime) -> dict[int, dict[int, AgreedPrice]]:
    """The agreements in force at this time, by account and model id: one query. One that ended is none."""
    versions = AccountPrice.objects.filter(account_id__in=account_ids, effective_from__lte=now)
    columns = ("account_id", "model_id", "id", "kind", "amount_micros", "discount_basis_points")
    latest = {
        (account_id, model_id): AgreedPrice(*version)
        for account_id, model_id, *version in versions.order_by("effective_from", "id").values_list(*columns)
    }
    found: dict[int, dict[int, AgreedPrice]] = {}
    for (account_id, model_id), agreed in latest.items():
        if agreed.kind != Kind.LIST:
            found.setdefault(account_id, {})[model_id] = agreed
    return found


def append_account_price(
    account: Account,
    model: ImageModel,
    *,
    kind: str,
    reason: str,
    actor: str,
    amount_micros: int | None = None,
    discount_basis_points: int | None = None,
    effective_from: datetime | None = None,
) -> AccountPrice:
    """A new version, from now on or from a later moment. What was sold keeps the price that it was sold at."""
    now = timezone.now()
    if effective_from is not None and effective_from < now:
        raise PriceRefused("this is in the past: what was sold keeps its price")
    if not reason.strip() or len(reason) > 200:
        raise PriceRefused("a reason is required: it says why, for years, in at most 200 characters")
    check_terms(kind, amount_micros, discount_basis_points)
    return AccountPrice.objects.create(
        account=account,
        model=model,
        kind=kind,
        amount_micros=amount_micros,
        discount_basis_points=discount_basis_points,
        effective_from=effective_from or now,
        reason=reason.strip(),
        actor=actor[:150],
    )


def check_terms(kind: str, amount_micros: int | None, discount_basis_points: int | None) -> None:
    """Each kind has what it needs and nothing else."""
    wanted: Mapping[str, tuple[bool, bool]] = {
        Kind.FIXED: (True, False),
        Kind.DISCOUNT: (False, True),
        Kind.LIST: (False, False),
    }
    if kind not in wanted:
        raise PriceRefused(f"{kind!r} is no kind of agreement: {', '.join(wanted)} are")
    if (amount_micros is not None, discount_basis_points is not None) != wanted[kind]:
        raise PriceRefused("a fixed price has an amount, a discount its per cent, the list price neither")
    if amount_micros is not None and amount_micros <= 0:
        raise PriceRefused("a price is above zero")
    if discount_basis_points is not None and not 0 < discount_basis_points < 10_000:
        raise PriceRefused("a discount is between 0.01 % and 99.99 %")
