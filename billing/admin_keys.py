"""API keys in the admin, and how much of their limits is used: columns that accounts show, too."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import action, display

from billing.forms import LIMITS, ApiKeyForm
from billing.keys import create_key, revoke_key
from billing.models import Account, ApiKey
from models_registry.amounts import format_money
from models_registry.backoffice import (
    FormColumnsAdmin,
    ReadOnlyInline,
    change_each,
    find_object,
    go_to,
    link_to,
    show_operation,
)

STATE_COLOURS = {
    "active": "success",
    "suspended": "danger",
    "revoked": "danger",
    "expired": "warning",
    "disabled": "warning",
}
LIMIT_ROWS = (
    ("spend_limit_micros", "monthly_spend_limit_micros"),
    ("requests_per_minute", "max_in_flight"),
    ("allowed_models", "allowed_networks"),
)


def tell_state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if not key.enabled:
        return "disabled"
    return "active" if key.is_usable() else "expired"


def tell_use(used: str | int, limit: str | int | None) -> str:
    """`¥1.20 of ¥5.00`, or `¥1.20` where there is no limit."""
    return str(used) if limit is None else f"{used} of {limit}"


def tell_spent(micros: int, limit_micros: int | None) -> str:
    return tell_use(format_money(micros), None if limit_micros is None else format_money(limit_micros))


def count_month(row: Account | ApiKey, time_zone: str) -> int:
    """What the row counts in the current month: nothing yet where its latest charge is older."""
    month = f"{timezone.now().astimezone(ZoneInfo(time_zone)):%Y-%m}"
    return row.month_spent_micros if row.month >= month else 0


class UseOfLimits:
    """Columns of a row with limits."""

    @admin.display(description="Spent", ordering="spent_micros")
    def spent(self, row: Account | ApiKey) -> str:
        return tell_spent(row.spent_micros, row.spend_limit_micros)

    @admin.display(description="This month")
    def this_month(self, row: Account | ApiKey) -> str:
        zone = row.time_zone if isinstance(row, Account) else row.account.time_zone
        return tell_spent(count_month(row, zone), row.monthly_spend_limit_micros)

    @admin.display(description="In flight", ordering="in_flight")
    def flights(self, row: Account | ApiKey) -> str:
        return tell_use(row.in_flight, row.max_in_flight)


class ApiKeyInline(UseOfLimits, ReadOnlyInline):
    model = ApiKey
    fields = ("name", "state", "expires_at", "spent", "this_month", "flights", "created_at")
    hide_title = False
    show_change_link = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        return super().get_queryset(request).select_related("account")

    @admin.display(description="State")
    def state(self, key: ApiKey) -> str:
        return tell_state(key)


@admin.register(ApiKey)
class ApiKeyAdmin(UseOfLimits, FormColumnsAdmin):
    form = ApiKeyForm
    list_display = (
        "prefix",
        "account",
        "name",
        "state",
        "spent",
        "this_month",
        "flights",
        "requests_per_minute",
        "expires_at",
        "created_at",
    )
    list_filter = (("account", AutocompleteSelectFilter), "enabled", "expires_at", "revoked_at")
    list_filter_submit = True
    list_select_related = ("account",)
    search_fields = ("prefix__startswith", "name", "account__name")
    autocomplete_fields = ("account",)
    actions = ("disable_selected", "enable_selected", "revoke_selected")
    actions_detail = ("revoke",)
    add_fieldsets = ((None, {"fields": ("account", "name", "expires_at")}), ("Limits", {"fields": LIMIT_ROWS}))
    fieldsets = (
        (None, {"fields": (("prefix", "account"), ("name", "enabled"), "expires_at")}),
        ("Limits", {"fields": LIMIT_ROWS}),
        ("Use", {"fields": (("spent", "this_month", "flights"), ("state_text", "created_at", "revoked_at"))}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        # What was ordered with a key belongs to its account for good.
        shown = ("prefix", "state_text", "spent", "this_month", "flights", "created_at", "revoked_at")
        return (*shown, "account") if obj else shown

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Keys stay in the books: they are revoked."""
        return False

    @display(description="State", label=STATE_COLOURS)
    def state(self, key: ApiKey) -> str:
        return tell_state(key)

    @admin.display(description="State")
    def state_text(self, key: ApiKey) -> str:
        return tell_state(key)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        limits = {name: getattr(obj, name) for name in LIMITS}
        key, secret = create_key(obj.account, name=obj.name, expires_at=obj.expires_at, limits=limits)
        obj.__dict__.update(key.__dict__)
        # For the answer to this very request; no column, session or cookie ever holds it.
        request.new_secret = secret  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """The one page that shows the secret. It is answered directly: a message would wait in a cookie."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": obj,
            "title": f"New API key for {obj.account}",
            "secret": request.new_secret,  # type: ignore[attr-defined]
            "back": link_to(self, obj),
        }
        headers = {"Cache-Control": "no-store"}
        return TemplateResponse(request, "admin/billing/apikey/created.html", context, headers=headers)

    @action(description="Revoke", url_path="revoke", icon="block", permissions=["change"])
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = find_object(self, request, object_id)
        if request.method == "POST":
            self.revoke_each(request, [key])
            return go_to(self, key)
        return show_operation(
            self,
            request,
            obj=key,
            form=forms.Form(),
            title=f"Revoke {key.prefix}",
            intro=f"Requests with this key of {key.account} are refused within 2 s. A revoked key stays revoked.",
            submit="Revoke this key",
        )

    @admin.action(description="Disable", permissions=["change"])
    def disable_selected(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        changed = change_each(self, request, keys, "Disabled", enabled=False)
        self.message_user(request, f"{changed} disabled: refused within 2 s, until enabled again.", messages.SUCCESS)

    @admin.action(description="Enable", permissions=["change"])
    def enable_selected(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        changed = change_each(self, request, keys, "Enabled", enabled=True)
        self.message_user(request, f"{changed} enabled. A revoked key stays revoked.", messages.SUCCESS)

    @admin.action(description="Revoke (for good)", permissions=["change"])
    def revoke_selected(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        self.revoke_each(request, keys)

    def revoke_each(self, request: HttpRequest, keys: Any) -> None:
        revoked = [key for key in keys if revoke_key(key)]
        for key in revoked:
            self.log_change(request, key, "Revoked")
        self.message_user(request, f"{len(revoked)} revoked.", messages.SUCCESS)
