"""Money moved by people in the admin: asked for on an account or a charge, much of it decided by a second person."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import BooleanField, Case, ExpressionWrapper, Q, QuerySet, Value, When
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action, display

from billing import ledger
from billing.booking_forms import AdjustForm, ReasonForm, RefundForm, TopUpForm
from billing.bookings import (
    AlreadyDecided,
    Answer,
    approve,
    describe,
    is_own,
    make_token,
    reject,
    request_booking,
    request_refund,
)
from billing.ledger import LedgerError
from billing.models import Account, Booking, LedgerEntry
from models_registry.amounts import format_money
from models_registry.backoffice import ReadOnlyAdmin, find_object, go_to, show_operation

STATE_COLOURS = {"waiting": "warning", "booked": "success", "rejected": "danger"}
KIND_COLOURS = {"top_up": "success", "refund": "info", "adjustment": "warning"}


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
    said = f"The balance goes from {format_money(account.balance_micros)} to {format_money(after)}."
    if after + account.credit_limit_micros - account.held_micros < 0:
        return f"{said} The account is then overdrawn: new requests are refused."
    return said


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
            intro=f"Book a payment that {account.name} has made; an entry in the ledger is final. "
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
            intro=f"Correct the balance of {account.name}; an entry in the ledger is final. {effect}",
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
            f"of which {format_money(ledger.read_left(charge))} is not refunded yet. An entry in the ledger is final.",
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


@admin.register(Booking)
class BookingAdmin(ReadOnlyAdmin):
    """What waits comes first; whoever asked does not decide."""

    list_display = (
        "state_badge",
        "kind_badge",
        "account",
        "amount",
        "memo",
        "requested_by",
        "requested_at",
        "decided_by",
        "decision",
    )
    list_filter = ("state", "kind", ("account", AutocompleteSelectFilter))
    list_filter_submit = True
    list_select_related = ("account",)
    ordering = (Case(When(state=Booking.State.WAITING, then=0), default=1), "-id")
    search_fields = ("reference__exact", "requested_by__exact", "memo__icontains")
    search_help_text = "A reference, who asked for it, or words of the memo"
    actions_detail = ("approve", "reject")
    fieldsets = (
        (None, {"fields": (("account", "state"), ("kind", "amount"), "memo", ("reference", "book_at"))}),
        ("By whom", {"fields": (("requested_by", "requested_at"), ("decided_by", "decided_at"), "reason")}),
        ("In the ledger", {"fields": (("charge", "entry"),)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Booking]:
        """Each row knows whether this person may decide it."""
        name = request.user.get_username().removeprefix("shell:")
        open_to_me = Q(state=Booking.State.WAITING) & ~Q(requested_by__in=[name, f"shell:{name}"])
        mine = ExpressionWrapper(open_to_me, output_field=BooleanField())
        return (
            super()
            .get_queryset(request)
            .annotate(decidable=mine if self.has_decide_permission(request) else Value(False))
        )

    def has_decide_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("billing.approve_booking")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[UnfoldAction]:
        booking: Any = self.get_object(request, str(object_id))
        return super().get_actions_detail(request, object_id) if booking and booking.decidable else []

    @display(description="State", ordering="state", label=STATE_COLOURS)
    def state_badge(self, booking: Booking) -> str:
        return booking.state

    @display(description="Kind", ordering="kind", label=KIND_COLOURS)
    def kind_badge(self, booking: Booking) -> str:
        return booking.kind

    @admin.display(description="Amount", ordering="amount_micros")
    def amount(self, booking: Booking) -> str:
        return format_money(booking.amount_micros)

    @admin.display(description="Decide")
    def decision(self, booking: Any) -> str | SafeString:
        if not booking.decidable:
            return "a second person" if booking.state == Booking.State.WAITING else "–"
        links = [(page_of_booking(booking, verb), verb.capitalize()) for verb in self.actions_detail]
        return format_html_join(" · ", '<a href="{}" class="font-semibold underline">{}</a>', links)

    @action(description="Approve", url_path="approve", icon="check", permissions=["decide"])
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        booking = find_object(self, request, object_id)
        form = forms.Form(request.POST or None)
        if self.is_open(request, booking) and (request.method != "POST" or not self.settle(request, booking)):
            return self.show_decision(request, booking, form=form, verb="Approve", submit="Approve and book")
        return go_to(self, booking)

    @action(description="Reject", url_path="reject", icon="block", permissions=["decide"])
    def reject(self, request: HttpRequest, object_id: str) -> HttpResponse:
        booking = find_object(self, request, object_id)
        form = ReasonForm(request.POST or None)
        sent = request.method == "POST" and form.is_valid()
        if self.is_open(request, booking) and not (sent and self.turn_down(request, booking, form)):
            return self.show_decision(request, booking, form=form, verb="Reject", submit="Reject")
        return go_to(self, booking)

    def is_open(self, request: HttpRequest, booking: Booking) -> bool:
        """Whether this person may decide it; says why not."""
        if booking.state != Booking.State.WAITING:
            said = f"Booking {booking.pk} does not wait any more: {describe(booking)}."
        elif is_own(booking, request.user.get_username()):
            said = "You asked for this booking: somebody else decides."
        else:
            return True
        self.message_user(request, said, messages.ERROR)
        return False

    def show_decision(
        self, request: HttpRequest, booking: Booking, *, form: forms.Form, verb: str, submit: str
    ) -> HttpResponse:
        what = f"{booking.get_kind_display().lower()} of {format_money(booking.amount_micros)}"
        return show_operation(
            self,
            request,
            obj=booking,
            form=form,
            title=f"{verb} the {what} for {booking.account}",
            intro=f"{booking.requested_by} asked for it: “{booking.memo}”. "
            f"If it is booked: {tell_effect(booking.account, booking.amount_micros)}",
            submit=submit,
        )

    def settle(self, request: HttpRequest, booking: Booking) -> bool:
        """Book what waits, and say what came of it; what the ledger refuses by now stays open."""
        try:
            booked = approve(booking, actor=request.user.get_username())
        except AlreadyDecided as late:
            self.message_user(request, f"{late}.", messages.ERROR)
            return True
        except LedgerError as refused:
            self.message_user(request, f"Not booked, it still waits: {refused}.", messages.ERROR)
            return False
        self.log_change(request, booked, "Approved")
        if booked.entry is not None:
            log_entry(self, request, booked, booked.entry)
        self.message_user(request, f"{format_money(booked.amount_micros)} {describe(booked)}.", messages.SUCCESS)
        return True

    def turn_down(self, request: HttpRequest, booking: Booking, form: ReasonForm) -> bool:
        try:
            rejected = reject(booking, actor=request.user.get_username(), reason=form.cleaned_data["reason"])
        except LedgerError as refused:
            form.add_error(None, str(refused))
            return False
        self.log_change(request, rejected, f"Rejected: {rejected.reason}")
        self.message_user(request, "Rejected: nothing was booked.", messages.SUCCESS)
        return True
