"""Checks of the books in the admin: what each found, and one more whenever somebody asks for it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from billing.admin_exports import name_list, show_form
from crazyrouter.generation.audit import find_last_check, ring_worker
from crazyrouter.generation.models import BooksCheck
from models_registry.backoffice import ReadOnlyAdmin

COLOURS = {"right": "success", "wrong": "danger"}
BADGE = '<span class="font-semibold whitespace-nowrap {}">{}</span>'


@admin.register(BooksCheck)
class BooksCheckAdmin(ReadOnlyAdmin):
    change_form_after_template = "admin/generation/bookscheck/findings.html"
    list_display = ("started_at", "verdict", "notices", "entry_count", "duration")
    fields = (("started_at", "duration"), ("said", "notices", "entry_count"))
    sortable_by = ()

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """To add one is to have the books checked: whoever may read what was found may ask again."""
        return self.has_view_permission(request)

    @display(description="Verdict", label=COLOURS)
    def verdict(self, check: BooksCheck) -> tuple[str, str]:
        return tell_verdict(check)

    @admin.display(description="Verdict")
    def said(self, check: BooksCheck) -> str:
        return tell_verdict(check)[1]

    @admin.display(description="Ledger entries")
    def entry_count(self, check: BooksCheck) -> str:
        return f"{check.entries:,}"

    @admin.display(description="Took")
    def duration(self, check: BooksCheck) -> str:
        return f"{(check.finished_at - check.started_at).total_seconds():.1f} s"

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The worker checks, never a web request: a million entries take it ten seconds and more."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self.ask_worker(request)
        return show_form(
            self,
            request,
            form=forms.Form(),
            title="Check the books now",
            intro="The worker checks every balance, charge, hold and picture against all the others, as it does each "
            "night. No customer waits for it; the result stands in the list when it is done.",
            submit="Check now",
        )

    def ask_worker(self, request: HttpRequest) -> HttpResponse:
        if ring_worker():
            self.message_user(request, "The worker checks the books; the result will stand here.", messages.SUCCESS)
        else:
            self.message_user(request, "The worker cannot be reached: nothing is being checked.", messages.ERROR)
        return HttpResponseRedirect(reverse(name_list(self)))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        check = self.get_object(request, object_id)
        context = extra_context or {}
        return super().change_view(request, object_id, form_url, context | (list_findings(check) if check else {}))


def tell_verdict(check: BooksCheck) -> tuple[str, str]:
    if not check.violations:
        return "right", "right"
    return "wrong", f"{check.violations:,} violation{'' if check.violations == 1 else 's'}"


def list_findings(check: BooksCheck) -> dict[str, Any]:
    """The rows of the page's table, and how many findings are not among them."""
    return {
        "findings": {
            "headers": ["", "Rule", "Subject", "What does not agree"],
            "rows": [[render_kind(notice), rule, subject, detail] for rule, subject, detail, notice in check.findings],
        },
        "missing": check.violations + check.notices - len(check.findings),
    }


def render_kind(notice: bool) -> SafeString:
    if notice:
        return format_html(BADGE, "text-orange-700 dark:text-orange-400", "notice")
    return format_html(BADGE, "text-red-700 dark:text-red-400", "VIOLATION")


def warn_of_violations(request: HttpRequest) -> tuple[str, str] | None:
    """The label that every page of the admin shows while the last check says that the books are wrong."""
    if not request.user.has_perm("generation.view_bookscheck"):
        return None
    check = find_last_check()
    return (f"Books: {tell_verdict(check)[1]}", "danger") if check is not None and check.violations else None
