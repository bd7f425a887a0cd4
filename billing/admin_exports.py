"""Exports in the admin. Whoever may read the ledger may take it away as CSV."""

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
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action, display

from billing.csvtext import CONTENT_TYPE
from billing.export_forms import MOST_ACCOUNTS, ExportForm
from billing.exports import ExportError, Order, name_file
from billing.exports.jobs import UNFINISHED, order_export, read_export, read_order
from billing.models import Account, Export
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
    list_display = ("created_at", "kind_name", "days", "whose", "state_badge", "progress", "size", "requested_by")
    list_filter = ("kind", "state", ("account", AutocompleteSelectFilter))
    list_filter_submit = True
    list_select_related = ("account",)
    actions_detail = ("download",)
    actions_row = ("download",)
    fieldsets = (
        (None, {"fields": (("kind", "state"), ("first_day", "last_day"), ("whose", "with_bom"))}),
        ("File", {"fields": (("progress", "size"), "hash", "error")}),
        ("When", {"fields": (("requested_by", "created_at"), ("finished_at", "expires_at"))}),
    )

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_read(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_read(request)

    @admin.display(description="Kind", ordering="kind")
    def kind_name(self, export: Export) -> str:
        return export.kind.capitalize()

    @admin.display(description="Account")
    def whose(self, export: Export) -> str:
        return "all" if export.account is None else str(export.account)

    @admin.display(description="Days", ordering="first_day")
    def days(self, export: Export) -> SafeString:
        return format_html('<span class="whitespace-nowrap">{} to {}</span>', export.first_day, export.last_day)

    @display(description="State", ordering="state", label=STATE_COLOURS)
    def state_badge(self, export: Export) -> str:
        return "expired" if export.state == Export.State.DONE and has_expired(export) else export.state

    @admin.display(description="Rows")
    def progress(self, export: Export) -> str:
        if export.state not in UNFINISHED:
            return f"{export.rows:,}"
        return f"{export.rows:,} of {export.rows_expected:,}"

    @admin.display(description="Size", ordering="size_bytes")
    def size(self, export: Export) -> str:
        return filesizeformat(export.size_bytes) if export.size_bytes else "–"

    @admin.display(description="SHA-256")
    def hash(self, export: Export) -> str:
        return export.sha256 or "–"

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[UnfoldAction]:
        """A download where there is something to download."""
        export = self.get_object(request, str(object_id))
        actions: list[UnfoldAction] = super().get_actions_detail(request, object_id)
        return actions if export is not None and is_ready(export) else []

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
        if is_ready(export):
            return send_export(request, export)
        said = "has expired" if export.state == Export.State.DONE else f"is {export.get_state_display().lower()}"
        self.message_user(request, f"This export {said}.", messages.WARNING)
        return go_to(self, export)


def measure(export: Export) -> int:
    """Percent of what is expected, which for statements is an estimate."""
    return min(99, 100 * export.rows // max(1, export.rows_expected))


def has_expired(export: Export) -> bool:
    return export.expires_at is None or export.expires_at <= timezone.now()


def is_ready(export: Export) -> bool:
    """Whether its file is whole and still here."""
    return export.state == Export.State.DONE and not has_expired(export) and export.parts.exists()


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
