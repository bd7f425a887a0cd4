"""What a customer was charged for images, given back."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.bookings import request_refunds
from billing.models import LedgerEntry
from crazyrouter.generation.models import Generation
from crazyrouter.management.accounts import (
    add_booking_arguments,
    make_reference,
    name_actor,
    parse_amount,
    refusals_told,
    tell_answer,
)


class Command(BaseCommand):
    help = "Refund charges of a generation. Above APPROVAL_THRESHOLD a refund waits for a second person in the admin."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("generation", help="its id")
        images = parser.add_mutually_exclusive_group()
        images.add_argument("--slot", type=int, help="which image, from 0; not needed where only one was charged")
        images.add_argument("--all", action="store_true", help="every image, all or none")
        parser.add_argument("--amount", help="in CNY, of each image; by default all that is left of it")
        add_booking_arguments(parser)

    def handle(self, *args: Any, generation: str, memo: str, reference: str, **options: Any) -> None:
        charges = choose_charges(find_charges(generation), options["slot"], every=options["all"])
        amount = options["amount"]
        with refusals_told():
            answers = request_refunds(
                charges,
                amount_micros=None if amount is None else parse_amount(amount, "a refund"),
                memo=memo,
                actor=name_actor(),
                token=make_reference(reference),
            )
        slots = {charge.pk: charge.line for charge in charges}
        for answer in answers:
            subject = f"{generation}/{slots[answer.booking.charge_id or 0]}"
            self.stdout.write(tell_answer(answer, subject=subject, reference=" refunded"))


def find_charges(generation: str) -> list[LedgerEntry]:
    """The charges of a generation in the order of its images."""
    charges = LedgerEntry.objects.filter(kind=LedgerEntry.Kind.CHARGE, reference=generation)
    found = list(charges.select_related("account").order_by("line"))
    if not found and Generation.objects.filter(pk=generation).exists():
        raise CommandError(f"{generation} was charged for no image")
    if not found:
        raise CommandError(f"there is no generation {generation!r}")
    return found


def choose_charges(charges: list[LedgerEntry], slot: int | None, *, every: bool) -> list[LedgerEntry]:
    slots = ", ".join(str(charge.line) for charge in charges)
    chosen = [charge for charge in charges if slot is None or charge.line == slot]
    if not chosen:
        raise CommandError(f"slot {slot} was not charged; these were: {slots}")
    if len(chosen) > 1 and not every:
        raise CommandError(f"say which image by --slot, or --all of them; these were charged: {slots}")
    return chosen
