"""What people ask to be booked: top-ups, refunds and adjustments, each once, much of it only after a second person.

LedgerError
  AlreadyDecided   the booking does not wait any more
  OwnRequest       who asked for a booking does not decide it
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from billing import ledger
from billing.ledger import Duplicate, LedgerError
from billing.models import Account, Booking, LedgerEntry
from billing.money import InvalidAmount, parse

#: What no text in the books may contain: databases and spreadsheets trip over it, and so does who reads it.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
#: Two that send the same token must agree on these.
FACTS = ("kind", "account_id", "charge_id", "amount_micros", "reference", "memo", "book_at")


class AlreadyDecided(LedgerError):
    """Somebody approved or rejected it before."""


class OwnRequest(LedgerError):
    """A second person decides."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request. `again` says that this form or command was sent before: nothing was booked now."""

    booking: Booking
    again: bool


def read_threshold() -> int:
    """APPROVAL_THRESHOLD in micro-units: what is above it waits for a second person."""
    try:
        micros = parse(settings.APPROVAL_THRESHOLD)
    except InvalidAmount as error:
        raise ImproperlyConfigured(f"APPROVAL_THRESHOLD: {error}") from None
    if micros < 0:
        raise ImproperlyConfigured(f"APPROVAL_THRESHOLD={settings.APPROVAL_THRESHOLD!r} is below zero")
    return micros


def make_token(kind: str, reference: str) -> str:
    """The token of what is booked once under a reference of its own; at most 64 characters, as the reference."""
    if len(kind) + 1 + len(reference) <= 64:
        return f"{kind}:{reference}"
    return f"{kind}:{hashlib.sha256(reference.encode(errors='surrogatepass')).hexdigest()[:48]}"


def request_booking(
    account: Account,
    *,
    kind: str,
    amount_micros: int,
    memo: str,
    actor: str,
    token: str,
    reference: str,
    charge: LedgerEntry | None = None,
    book_at: datetime | None = None,
) -> Answer:
    """Book this now, or let it wait for a second person if it is above the threshold.

    The same token sent again is answered with the first booking; with other facts it is refused (Duplicate). What the
    ledger would refuse now is refused, not left waiting. Amounts are signed as they will stand in the ledger.
    """
    asked = Booking(
        kind=kind,
        account=account,
        amount_micros=amount_micros,
        memo=memo.strip(),
        token=token,
        reference=reference,
        charge=charge,
        book_at=book_at,
        requested_by=actor[:150],
    )
    check_texts(asked)
    try:
        with transaction.atomic():
            ledger.take_account(account.pk)
            return find_answer(asked) or open_booking(asked)
    except IntegrityError:
        # The same token for another account: its row does not keep the two apart, the token's index does.
        answer = find_answer(asked)
        if answer is None:
            raise
        return answer


def request_refunds(
    charges: Sequence[LedgerEntry], *, amount_micros: int | None, memo: str, actor: str, token: str
) -> list[Answer]:
    """Refund some charges of one account by this much each, all or none; without an amount, what is left of each.

    A charge of which nothing is left is passed over, unless this very request took it.
    """
    check_text("reference", token, 64)
    with transaction.atomic():
        ledger.take_account(charges[0].account_id)
        answers = []
        for charge in charges:
            own = make_token(Booking.Kind.REFUND, f"{token}/{charge.pk}")
            amount = amount_micros
            if amount is None:
                amount = find_amount(own) or ledger.read_left(charge)
            if amount or amount_micros is not None:
                answers.append(request_refund(charge, amount_micros=amount, memo=memo, actor=actor, token=own))
        if not answers:
            raise ledger.ExceedsCharge("nothing is left to refund")
        return answers


def request_refund(charge: LedgerEntry, *, amount_micros: int, memo: str, actor: str, token: str) -> Answer:
    return request_booking(
        charge.account,
        kind=Booking.Kind.REFUND,
        amount_micros=amount_micros,
        memo=memo,
        actor=actor,
        token=token,
        reference=str(charge.pk),
        charge=charge,
    )


def approve(booking: Booking, *, actor: str) -> Booking:
    """Book what waits. If the ledger refuses it by now, it stays waiting."""
    with transaction.atomic():
        ledger.take_account(booking.account_id)
        waiting = find_waiting(booking, actor)
        decide(waiting, Booking.State.BOOKED, actor, entry=book(waiting))
        return Booking.objects.get(pk=booking.pk)


def reject(booking: Booking, *, actor: str, reason: str) -> Booking:
    """Nothing is booked, for this reason."""
    check_text("reason", reason, 200)
    with transaction.atomic():
        decide(find_waiting(booking, actor), Booking.State.REJECTED, actor, reason=reason.strip())
        return Booking.objects.get(pk=booking.pk)


def is_own(booking: Booking, actor: str) -> bool:
    """Whether this is who asked: also from the shell, where people have the names of their logins."""
    return booking.requested_by.removeprefix("shell:") == actor.removeprefix("shell:")


# --- the steps ---------------------------------------------------------------------------------------------------


def check_texts(asked: Booking) -> None:
    for name, longest in (("memo", 200), ("reference", 64), ("token", 64)):
        check_text(name, getattr(asked, name), longest)


def check_text(name: str, text: str, longest: int) -> None:
    if not text.strip():
        raise LedgerError(f"a {name} is required")
    if len(text) > longest or UNPRINTABLE.search(text):
        raise LedgerError(f"a {name} is one line of at most {longest} characters")


def find_answer(asked: Booking) -> Answer | None:
    """The booking that this token has made already."""
    first = Booking.objects.filter(token=asked.token).first()
    if first is None:
        return None
    if any(getattr(first, name) != getattr(asked, name) for name in FACTS):
        done = "booked" if first.state == Booking.State.BOOKED else "asked for"
        what = "this refund" if asked.charge_id else f"the reference {asked.reference!r}"
        raise Duplicate(f"{what} is {done} already, with another amount or account, memo or date")
    return Answer(first, again=True)


def find_amount(token: str) -> int | None:
    return Booking.objects.filter(token=token).values_list("amount_micros", flat=True).first()


def open_booking(asked: Booking) -> Answer:
    if needs_approval(asked):
        try_booking(asked)
    else:
        asked.entry = book(asked)
        asked.state = Booking.State.BOOKED
    asked.save(force_insert=True)
    return Answer(asked, again=False)


def needs_approval(asked: Booking) -> bool:
    return abs(asked.amount_micros) > read_threshold()


def try_booking(asked: Booking) -> None:
    """Let the ledger say now what it would refuse later; nothing of this stays."""
    with transaction.atomic():
        book(asked)
        transaction.set_rollback(True)


def book(booking: Booking) -> LedgerEntry:
    """The entry of a booking, which no other booking has."""
    entry = move_money(booking)
    if Booking.objects.filter(entry=entry).exclude(pk=booking.pk).exists():
        raise Duplicate(f"the reference {booking.reference!r} is booked already, by another form or command")
    return entry


def move_money(booking: Booking) -> LedgerEntry:
    amount, memo, actor = booking.amount_micros, booking.memo, booking.requested_by
    if booking.charge is not None:
        return ledger.refund(booking.charge, amount_micros=amount, memo=memo, actor=actor)
    verb = ledger.top_up if booking.kind == Booking.Kind.TOP_UP else ledger.adjust
    return verb(
        booking.account,
        amount_micros=amount,
        reference=booking.reference,
        memo=memo,
        actor=actor,
        book_at=booking.book_at,
    )


def find_waiting(booking: Booking, actor: str) -> Booking:
    """The booking as it stands, if it waits and this person may decide it."""
    fresh = Booking.objects.select_related("account", "charge").get(pk=booking.pk)
    if fresh.state != Booking.State.WAITING:
        raise AlreadyDecided(f"booking {fresh.pk} does not wait any more: {describe(fresh)}")
    if is_own(fresh, actor):
        raise OwnRequest("you asked for this booking: somebody else decides")
    return fresh


def decide(booking: Booking, state: Booking.State, actor: str, **values: Any) -> None:
    """Move the state, if it may still be moved: of two who decide at once, one does."""
    sources = [source for source, targets in Booking.TRANSITIONS.items() if state in targets]
    moved = Booking.objects.filter(pk=booking.pk, state__in=sources).update(
        state=state, decided_by=actor[:150], decided_at=Now(), **values
    )
    if not moved:
        raise AlreadyDecided(f"booking {booking.pk} does not wait any more: somebody else has just decided")


def describe(booking: Booking) -> str:
    """What became of a booking, in a few words."""
    by = f" by {booking.decided_by}" if booking.decided_by else ""
    if booking.state == Booking.State.REJECTED:
        return f"rejected{by}: {booking.reason}"
    if booking.state == Booking.State.BOOKED:
        return f"booked{by} as entry {booking.entry.sequence}" if booking.entry else f"booked{by}"
    return "waits for a second person"
