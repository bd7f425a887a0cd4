"""Money that people move in the admin: asked for on an account or on a charge."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action

from billing import ledger
from billing.booking_forms import AdjustForm, RefundForm, TopUpForm
from billing.bookings import Answer, describe, make_token, read_threshold, request_booking, request_refund
from billing.ledger import LedgerError
from billing.models import Account, Booking, LedgerEntry
from models_registry.amounts import format_money
from models_registry.backoffice import find_object, go_to, show_operation


def may_book(request: HttpRequest) -> bool:
    """Booking money takes the right to add ledger entries, beside the right to change accounts."""
    return request.user.has_perms(("billing.change_account", "billing.add_ledgerentry"))


def link_booking(request: HttpRequest, booking: Booking) -> str | SafeString:
    words = f"booking {booking.pk}"
    if not request.user.has_perm("billing.view_booking"):
        return words
    return format_html('<a href="{}" class="underline">{}</a>', page_of_booking(booking), words)


def page_of_booking(booking: Booking, page: str = "change") -> str:
    return reverse(f"admin:billing_booking_{page}", args=[booking.pk])


def tell_effect(account: Account, amount_micros: int) -> str:
    """What a booking does to the balance, before it is booked."""
    after = account.balance_micros + amount_micros
    said = f"With it the balance goes from {format_money(account.balance_micros)} to {format_money(after)}."
    if after + account.credit_limit_micros - account.held_micros < 0:
        return f"{said} The account is then overdrawn: new requests are refused."
    return said


def tell_rule() -> str:
    return f"Above {format_money(read_threshold())} a second person approves it; an entry in the ledger is final."


def tell_answer(page: ModelAdmin, request: HttpRequest, answer: Answer) -> None:
    """Say what became of a request; what is new stands in the audit log, too."""
    booking, amount = answer.booking, format_money(answer.booking.amount_micros)
    what = f"{booking.get_kind_display()} of {amount}"
    if answer.again:
        tell_again(page, request, booking)
    elif booking.entry is None:
        page.log_change(request, booking.account, f"{what} asked for: booking {booking.pk} waits for a second person")
        said = format_html("{} waits for a second person: {}.", what, link_booking(request, booking))
        page.message_user(request, said, messages.WARNING)
    else:
        log_entry(page, request, booking, booking.entry)
        balance = format_money(booking.entry.balance_after_micros)
        page.message_user(request, f"{amount} booked. The balance is {balance}.", messages.SUCCESS)


def tell_again(page: ModelAdmin, request: HttpRequest, booking: Booking) -> None:
    what = f"This {booking.get_kind_display().lower()} of {format_money(booking.amount_micros)}"
    if booking.entry is not None:
        page.message_user(request, f"{what} was booked before, as entry {booking.entry.sequence}.")
        return
    said = format_html("{} was sent before: {} {}.", what, link_booking(request, booking), describe(booking))
    page.message_user(request, said, messages.WARNING)


def log_entry(page: ModelAdmin, request: HttpRequest, booking: Booking, entry: LedgerEntry) -> None:
    what = f"{booking.get_kind_display()} of {format_money(booking.amount_micros)}: entry {entry.sequence}"
    charge = booking.charge
    reference = booking.reference if charge is None else f"{charge.reference}/{charge.line}"
    page.log_change(request, booking.account, f"{what}, {reference}")


class AccountBookings(ModelAdmin):
    """The operations on an account that move its money."""

    def has_book_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_book(request)

    @action(description="Top up", url_path="top-up", icon="add_card", permissions=["change", "book"])
    def top_up(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = find_object(self, request, object_id)
        form = TopUpForm(request.POST or None)
        if request.method == "POST" and form.is_valid() and self.ask(request, account, Booking.Kind.TOP_UP, form):
            return go_to(self, account)
        return show_operation(
            self,
            request,
            obj=account,
            form=form,
            title=f"Top up {account.name}",
            intro=f"Book a payment that {account.name} has made. {tell_rule()} "
            f"The balance is {format_money(account.balance_micros)}.",
            submit="Book top-up",
        )

    @action(description="Adjust", url_path="adjust", icon="tune", permissions=["change", "book"])
    def adjust(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """In two steps: the effect on the balance is read before it is booked."""
        account = find_object(self, request, object_id)
        form = AdjustForm(request.POST or None)
        effect, submit = f"The balance is {format_money(account.balance_micros)}.", "Show the effect"
        if request.method == "POST" and form.is_valid():
            if form.is_seen() and self.ask(request, account, Booking.Kind.ADJUSTMENT, form):
                return go_to(self, account)
            effect, submit = tell_effect(account, form.cleaned_data["amount"]), "Book adjustment"
            form = form if form.errors else form.show_effect()
        return show_operation(
            self,
            request,
            obj=account,
            form=form,
            title=f"Adjust {account.name}",
            intro=f"Correct the balance of {account.name}. {tell_rule()} {effect}",
            submit=submit,
        )

    def ask(self, request: HttpRequest, account: Account, kind: Booking.Kind, form: TopUpForm | AdjustForm) -> bool:
        try:
            answer = request_booking(
                account,
                kind=kind,
                amount_micros=form.cleaned_data["amount"],
                memo=form.cleaned_data["memo"],
                actor=request.user.get_username(),
                token=make_token(kind, form.booking_reference),
                reference=form.booking_reference,
                book_at=form.find_moment(account),
            )
        except LedgerError as refused:
            form.add_error(None, str(refused))
            return False
        tell_answer(self, request, answer)
        return True


class EntryBookings(ModelAdmin):
    """What people may do with an entry of the ledger: give a charge back."""

    actions_detail = ("refund",)

    def has_book_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_book(request)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[UnfoldAction]:
        offered = super().get_actions_detail(request, object_id)
        if LedgerEntry.objects.filter(pk=object_id, kind=LedgerEntry.Kind.CHARGE).exists():
            return offered
        return [one for one in offered if one.path != "refund"]

    @admin.display(description="Refunded")
    def refunded_part(self, entry: LedgerEntry) -> str:
        if entry.kind != LedgerEntry.Kind.CHARGE:
            return "–"
        charged = -entry.amount_micros
        return f"{format_money(charged - ledger.read_left(entry))} of {format_money(charged)}"

    @admin.display(description="Booking")
    def booking_of(self, entry: LedgerEntry) -> str | SafeString:
        booking = Booking.objects.filter(entry=entry).first()
        if booking is None:
            return "–"
        approved = f", approved by {booking.decided_by}" if booking.decided_by else ""
        return format_html('<a href="{}" class="underline">{}</a>{}', page_of_booking(booking), booking.pk, approved)

    @action(description="Refund", url_path="refund", icon="undo", permissions=["book"])
    def refund(self, request: HttpRequest, object_id: str) -> HttpResponse:
        charge = find_object(self, request, object_id)
        if charge.kind != LedgerEntry.Kind.CHARGE:
            raise Http404("only a charge can be refunded")
        form = RefundForm(request.POST or None, left_micros=ledger.read_left(charge))
        if request.method == "POST" and form.is_valid() and self.ask_refund(request, charge, form):
            return go_to(self, charge)
        return show_operation(
            self,
            request,
            obj=charge,
            form=form,
            title=f"Refund {charge.reference}/{charge.line}",
            intro=f"{charge.account} was charged {format_money(-charge.amount_micros)} for an image of {charge.model}, "
            f"of which {format_money(ledger.read_left(charge))} is not refunded yet. {tell_rule()}",
            submit="Book refund",
        )

    def ask_refund(self, request: HttpRequest, charge: LedgerEntry, form: RefundForm) -> bool:
        try:
            answer = request_refund(
                charge,
                amount_micros=form.cleaned_data["amount"],
                memo=form.cleaned_data["memo"],
                actor=request.user.get_username(),
                token=make_token(Booking.Kind.REFUND, form.booking_reference),
            )
        except LedgerError as refused:
            form.add_error(None, str(refused))
            return False
        tell_answer(self, request, answer)
        return True
