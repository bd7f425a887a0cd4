"""What people asked to be booked, in the admin: what waits comes first, and a second person decides it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import BooleanField, Case, ExpressionWrapper, Q, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action, display

from billing.admin_requests import log_entry, page_of_booking, tell_effect
from billing.booking_forms import ReasonForm
from billing.bookings import AlreadyDecided, approve, describe, is_own, reject
from billing.ledger import LedgerError
from billing.models import Booking
from models_registry.amounts import format_money
from models_registry.backoffice import ReadOnlyAdmin, find_object, go_to, show_operation

STATE_COLOURS = {"waiting": "warning", "booked": "success", "rejected": "danger"}
KIND_COLOURS = {"Top-up": "success", "Refund": "info", "Adjustment": "warning"}
UNBROKEN = '<span class="whitespace-nowrap">{}</span>'


@admin.register(Booking)
class BookingAdmin(ReadOnlyAdmin):
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
        return booking.get_kind_display()

    @admin.display(description="Amount", ordering="amount_micros")
    def amount(self, booking: Booking) -> SafeString:
        return format_html(UNBROKEN, format_money(booking.amount_micros))

    @admin.display(description="Decide")
    def decision(self, booking: Any) -> str | SafeString:
        if not booking.decidable:
            return "a second person" if booking.state == Booking.State.WAITING else "–"
        links = [(page_of_booking(booking, verb), verb.capitalize()) for verb in self.actions_detail]
        return format_html(
            UNBROKEN, format_html_join(" · ", '<a href="{}" class="font-semibold underline">{}</a>', links)
        )

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
            f"{tell_effect(booking.account, booking.amount_micros)}",
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
