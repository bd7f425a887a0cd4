"""Closed months in the admin: read, downloaded as they were frozen, and closed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import action

from billing.admin_exports import may_read, name_download, name_list, read_accounts, show_form
from billing.closing import Closing, ClosingError, close_everywhere, close_month
from billing.csvtext import CONTENT_TYPE
from billing.export_forms import CloseForm
from billing.exports import Order, name_file
from billing.models import ClosedMonth, Export
from billing.periods import find_last_day, find_zone, parse_month
from models_registry.amounts import format_money
from models_registry.backoffice import ReadOnlyAdmin, find_object

#: Refusals that are named on the page.
MOST_SAID = 10


def show_moment(moment: datetime, row: ClosedMonth) -> str:
    """In the zone that the month was cut in."""
    return moment.astimezone(find_zone(row.time_zone)).isoformat(sep=" ", timespec="seconds")


@admin.register(ClosedMonth)
class ClosedMonthAdmin(ReadOnlyAdmin):
    list_display = ("month", "account", "opening", "closing", "entries", "time_zone", "closed_by", "closed_at")
    list_filter = (("account", AutocompleteSelectFilter),)
    list_filter_submit = True
    list_select_related = ("account",)
    search_fields = ("month__exact", "account__name")
    search_help_text = "A month like 2026-11, or a part of an account's name"
    actions_list = ("close",)
    actions_detail = ("download",)
    actions_row = ("download",)
    fieldsets = (
        (None, {"fields": (("account", "month"), ("starts", "ends"), "time_zone")}),
        ("Books", {"fields": (("opening", "closing"), "entries", "hash")}),
        ("Closed", {"fields": (("closed_by", "closed_at"),)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ClosedMonth]:
        return super().get_queryset(request).defer("csv")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_read(request)

    def has_close_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("billing.add_closedmonth")

    @admin.display(description="Opening balance")
    def opening(self, row: ClosedMonth) -> str:
        return format_money(row.opening_balance_micros)

    @admin.display(description="Closing balance")
    def closing(self, row: ClosedMonth) -> str:
        return format_money(row.closing_balance_micros)

    @admin.display(description="From")
    def starts(self, row: ClosedMonth) -> str:
        return show_moment(row.starts_at, row)

    @admin.display(description="Until before")
    def ends(self, row: ClosedMonth) -> str:
        return show_moment(row.ends_at, row)

    @admin.display(description="SHA-256 of its CSV")
    def hash(self, row: ClosedMonth) -> str:
        return row.sha256

    @action(description="Close a month", url_path="close", icon="lock", permissions=["close"])
    def close(self, request: HttpRequest) -> HttpResponse:
        form = CloseForm(request.POST or None, initial=read_accounts(request))
        if request.method == "POST" and form.is_valid() and self.close_each(request, form):
            return HttpResponseRedirect(reverse(name_list(self)))
        return show_form(
            self,
            request,
            form=form,
            title="Close a month",
            intro="The statement is frozen, and nothing is booked into the month any more: what comes later belongs to "
            "the next one. Closing is for good. The first month that is closed closes all before it.",
            submit="Close this month",
        )

    def close_each(self, request: HttpRequest, form: CloseForm) -> bool:
        """Whether something was closed and no account refused. Each refusal is said, of many the first."""
        asked = refused = 0
        for outcome in close_months(form, closed_by=request.user.get_username()):
            asked += 1
            if isinstance(outcome, ClosingError):
                refused += 1
                if refused <= MOST_SAID:
                    self.message_user(request, str(outcome), messages.ERROR)
            elif not outcome.known:
                self.log_addition(request, outcome.row, f"Closed with SHA-256 {outcome.row.sha256}")
                self.message_user(request, f"{outcome.row.account}: {outcome.row.month} is closed.", messages.SUCCESS)
            else:
                self.message_user(request, f"{outcome.row.account}: {outcome.row.month} was closed before.")
        if refused > MOST_SAID:
            self.message_user(request, f"{refused} accounts were refused in all.", messages.ERROR)
        if not asked:
            month = f"{form.cleaned_data['month']:%Y-%m}"
            self.message_user(request, f"Nobody had an account in {month}: nothing was closed.", messages.WARNING)
        return asked > 0 and not refused

    @action(description="Download", url_path="download", icon="download", permissions=["view"])
    def download(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The statement as it was frozen, byte for byte."""
        row: ClosedMonth = find_object(self, request, object_id)
        data = row.csv.encode()
        response = HttpResponse(data, content_type=CONTENT_TYPE)
        first = parse_month(row.month)
        order = Order(Export.Kind.STATEMENT, first, find_last_day(first), row.account_id)
        name_download(response, name_file(order), len(data), row.sha256)
        return response


def close_months(form: CloseForm, *, closed_by: str) -> Iterator[Closing | ClosingError]:
    month, accounts = form.cleaned_data["month"], form.cleaned_data["accounts"]
    try:
        if not accounts:
            yield from close_everywhere(month, closed_by=closed_by)
    except ClosingError as error:
        yield error
    for account in accounts:
        try:
            yield close_month(account.pk, month, closed_by=closed_by)
        except ClosingError as error:
            yield error
