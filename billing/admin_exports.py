"""Exports and closed months in the admin. Whoever may read the ledger may take it away as CSV."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import action, display

from billing.closing import Closing, ClosingError, close_everywhere, close_month
from billing.csvtext import CONTENT_TYPE
from billing.export_forms import MOST_ACCOUNTS, CloseForm, ExportForm
from billing.exports import ExportError, Order, name_file
from billing.exports.jobs import UNFINISHED, order_export, read_export, read_order
from billing.models import Account, ClosedMonth, Export
from billing.periods import find_last_day, parse_month
from models_registry.amounts import format_money
from models_registry.backoffice import ReadOnlyAdmin, find_object, go_to

STATE_COLOURS = {"queued": "warning", "running": "info", "done": "success", "failed": "danger"}
REFRESH_S = 3


def may_read(request: HttpRequest) -> bool:
    return request.user.has_perm("billing.view_ledgerentry")


def name_list(page: ModelAdmin) -> str:
    return f"admin:{page.opts.app_label}_{page.opts.model_name}_changelist"


def show_form(
    page: ModelAdmin, request: HttpRequest, *, form: forms.Form, title: str, intro: str, submit: str
) -> HttpResponse:
    """A page that asks what an operation on no object in particular needs to know."""
    context = {
        **page.admin_site.each_context(request),
        "opts": page.opts,
        "title": title,
        "form": form,
        "intro": intro,
        "submit_text": submit,
        "back": reverse(name_list(page)),
        "media": page.media + form.media,
    }
    return TemplateResponse(request, "admin/operation.html", context)


def read_accounts(request: HttpRequest) -> dict[str, Any]:
    """The accounts that the address names, `?accounts=1,2`, as a form's initial value."""
    ids = [int(text) for text in request.GET.get("accounts", "").split(",") if text.isdecimal()]
    return {"accounts": ids} if ids else {}


def take_along(page: ModelAdmin, request: HttpRequest, accounts: Iterable[Any], name: str) -> HttpResponse | None:
    """To a form, with these accounts filled in."""
    ids = [str(account.pk) for account in accounts]
    if len(ids) > MOST_ACCOUNTS:
        page.message_user(request, f"Choose at most {MOST_ACCOUNTS} accounts.", messages.ERROR)
        return None
    return HttpResponseRedirect(f"{reverse(name)}?accounts={','.join(ids)}")


class AccountPapers:
    """Actions of the list of accounts: their books as CSV, and the end of their months."""

    actions = ("export_books", "close_month")

    def has_read_permission(self, request: HttpRequest) -> bool:
        return may_read(request)

    def has_close_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("billing.add_closedmonth")

    @admin.action(description="Export as CSV…", permissions=["read"])
    def export_books(self, request: HttpRequest, accounts: QuerySet[Account]) -> HttpResponse | None:
        return take_along(self, request, accounts, "admin:billing_export_add")

    @admin.action(description="Close a month…", permissions=["close"])
    def close_month(self, request: HttpRequest, accounts: QuerySet[Account]) -> HttpResponse | None:
        return take_along(self, request, accounts, "admin:billing_closedmonth_close")


@admin.register(Export)
class ExportAdmin(ReadOnlyAdmin):
    change_form_before_template = "admin/billing/export/progress.html"
    list_display = ("created_at", "kind", "days", "account", "state_badge", "progress", "size", "requested_by")
    list_filter = ("kind", "state", ("account", AutocompleteSelectFilter))
    list_filter_submit = True
    list_select_related = ("account",)
    actions_detail = ("download",)
    actions_row = ("download",)
    fieldsets = (
        (None, {"fields": (("kind", "state"), ("first_day", "last_day"), ("account", "with_bom"))}),
        ("File", {"fields": (("rows", "rows_expected"), "size_bytes", "sha256", "error")}),
        ("When", {"fields": (("requested_by", "created_at"), ("finished_at", "expires_at"))}),
    )

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_read(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_read(request)

    @admin.display(description="Days", ordering="first_day")
    def days(self, export: Export) -> str:
        return f"{export.first_day} to {export.last_day}"

    @display(description="State", ordering="state", label=STATE_COLOURS)
    def state_badge(self, export: Export) -> str:
        return export.state

    @admin.display(description="Rows")
    def progress(self, export: Export) -> str:
        if export.state not in UNFINISHED:
            return f"{export.rows:,}"
        return f"{export.rows:,} of {export.rows_expected:,}"

    @admin.display(description="Size", ordering="size_bytes")
    def size(self, export: Export) -> str:
        return filesizeformat(export.size_bytes) if export.size_bytes else "–"

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Not Django's own, which keeps a transaction open: the rows of an export commit as they come."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = ExportForm(request.POST or None, initial=read_accounts(request))
        if request.method == "POST" and form.is_valid() and (exports := self.order(request, form)):
            return self.answer(request, exports)
        return show_form(
            self,
            request,
            form=form,
            title="New export",
            intro="A small file is downloaded at once; a large one is made in the background and kept for seven days.",
            submit="Export",
        )

    def order(self, request: HttpRequest, form: ExportForm) -> list[Export]:
        """An export for each account that was named, or one of all; none, with an error, if one cannot be made."""
        data = form.cleaned_data
        accounts = [account.pk for account in data["accounts"]] or [None]
        try:
            orders = [Order(data["kind"], data["first_day"], data["last_day"], account) for account in accounts]
            return [
                order_export(order, with_bom=data["with_bom"], requested_by=request.user.get_username())
                for order in orders
            ]
        except ExportError as error:
            form.add_error(None, str(error))
            return []

    def answer(self, request: HttpRequest, exports: list[Export]) -> HttpResponse:
        for export in exports:
            self.log_addition(request, export, f"Export of {export}: {export.rows_expected} rows expected")
        if len(exports) > 1:
            self.message_user(request, f"{len(exports)} exports.", messages.SUCCESS)
            return HttpResponseRedirect(reverse(name_list(self)))
        (export,) = exports
        if export.state == Export.State.DONE:
            return HttpResponseRedirect(reverse("admin:billing_export_download", args=[export.pk]))
        return go_to(self, export)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page loads itself again until the export has ended."""
        export = self.get_object(request, object_id)
        running = export is not None and export.state in UNFINISHED
        response = super().change_view(
            request, object_id, form_url, {**(extra_context or {}), "percent": measure(export) if running else 0}
        )
        if running:
            response["Refresh"] = str(REFRESH_S)
        return response

    @action(description="Download", url_path="download", icon="download", permissions=["view"])
    def download(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        export: Export = find_object(self, request, object_id)
        if export.state != Export.State.DONE:
            self.message_user(request, f"This export is {export.get_state_display().lower()}.", messages.WARNING)
            return go_to(self, export)
        if export.expires_at is None or export.expires_at <= timezone.now() or not export.parts.exists():
            self.message_user(request, "This export has expired: make a new one.", messages.WARNING)
            return go_to(self, export)
        return send_export(request, export)


def measure(export: Export) -> int:
    """Percent of what is expected, which for statements is an estimate."""
    return min(99, 100 * export.rows // max(1, export.rows_expected))


def send_export(request: HttpRequest, export: Export) -> StreamingHttpResponse:
    pieces = read_export(export)
    body: Any = iterate_async(pieces) if isinstance(request, ASGIRequest) else pieces
    response = StreamingHttpResponse(body, content_type=CONTENT_TYPE)
    name_download(response, name_file(read_order(export)), export.size_bytes, export.sha256)
    return response


async def iterate_async(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Django would take a plain iterator whole, into memory, before it sends the first byte."""
    pull = sync_to_async(lambda: next(pieces, None))
    while (piece := await pull()) is not None:
        yield piece


def name_download(response: HttpResponseBase, name: str, size: int, sha256: str) -> None:
    """A file to keep, with its length and what proves it (RFC 9530)."""
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Content-Length"] = str(size)
    response["Repr-Digest"] = f"sha-256=:{b64encode(bytes.fromhex(sha256)).decode()}:"
    response["Cache-Control"] = "no-store"


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
        (None, {"fields": (("account", "month"), ("starts_at", "ends_at"), "time_zone")}),
        ("Books", {"fields": (("opening", "closing"), "entries", "sha256")}),
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
        """Whether no account was refused; each refusal is an error of the form."""
        refused = 0
        for outcome in close_months(form, closed_by=request.user.get_username()):
            if isinstance(outcome, ClosingError):
                refused += 1
                form.add_error(None, str(outcome))
            elif not outcome.known:
                self.log_addition(request, outcome.row, f"Closed with SHA-256 {outcome.row.sha256}")
                self.message_user(request, f"{outcome.row.account}: {outcome.row.month} is closed.", messages.SUCCESS)
            else:
                self.message_user(request, f"{outcome.row.account}: {outcome.row.month} was closed before.")
        return not refused

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
