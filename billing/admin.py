"""Accounts and API keys in the admin. Money moves through `billing.ledger` alone."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import action, display

from billing import admin_bookings, admin_books, admin_closing
from billing.admin_exports import AccountPapers
from billing.admin_requests import AccountBookings
from billing.forms import AccountForm, ApiKeyForm
from billing.keys import create_key, revoke_key
from billing.models import Account, ApiKey
from models_registry.amounts import format_money
from models_registry.backoffice import (
    FormColumnsAdmin,
    ReadOnlyInline,
    find_object,
    go_to,
    link_to,
    show_operation,
)

__all__ = ["AccountAdmin", "ApiKeyAdmin", "admin_bookings", "admin_books", "admin_closing"]

STATE_COLOURS = {"active": "success", "suspended": "danger", "revoked": "danger", "expired": "warning"}


def tell_state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "active" if key.is_usable() else "expired"


class ApiKeyInline(ReadOnlyInline):
    model = ApiKey
    fields = ("name", "state", "expires_at", "spent", "created_at")
    hide_title = False
    show_change_link = True

    @admin.display(description="State")
    def state(self, key: ApiKey) -> str:
        return tell_state(key)

    @admin.display(description="Spent")
    def spent(self, key: ApiKey) -> str:
        return format_money(key.spent_micros)


@admin.register(Account)
class AccountAdmin(AccountBookings, AccountPapers, FormColumnsAdmin):
    form = AccountForm
    inlines = (ApiKeyInline,)
    list_display = ("name", "state_badge", "balance", "held", "credit_limit", "available", "key_count", "created_at")
    list_filter = ("state",)
    search_fields = ("name",)
    actions_detail = ("top_up", "adjust", "create_key")
    actions_row = ("top_up",)
    readonly_fields = ("balance", "held", "available", "sequence", "closed_until", "created_at")
    fieldsets = (
        (None, {"fields": (("name", "state"), ("credit_limit_micros", "time_zone"), "note")}),
        ("Money", {"fields": (("balance", "held", "available"), ("sequence", "closed_until", "created_at"))}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Account]:
        usable = Q(keys__revoked_at=None) & (Q(keys__expires_at=None) | Q(keys__expires_at__gt=timezone.now()))
        return super().get_queryset(request).annotate(usable_keys=Count("keys", filter=Q(keys__isnull=False) & usable))

    def has_delete_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        """Accounts stay in the books: they are suspended."""
        return False

    @display(description="State", ordering="state", label=STATE_COLOURS)
    def state_badge(self, account: Account) -> str:
        return account.state

    @admin.display(description="Balance", ordering="balance_micros")
    def balance(self, account: Account) -> str:
        return format_money(account.balance_micros)

    @admin.display(description="Held", ordering="held_micros")
    def held(self, account: Account) -> str:
        return format_money(account.held_micros)

    @admin.display(description="Credit limit", ordering="credit_limit_micros")
    def credit_limit(self, account: Account) -> str:
        return format_money(account.credit_limit_micros)

    @admin.display(description="Available")
    def available(self, account: Account) -> str:
        return format_money(account.available_micros)

    @admin.display(description="Usable keys", ordering="usable_keys")
    def key_count(self, account: Any) -> int:
        return account.usable_keys

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """Accounts keep no history of versions, so the log says what a credit limit was and is."""
        said = super().construct_change_message(request, form, formsets, add)
        if add or "credit_limit_micros" not in form.changed_data:
            return said
        before, after = form.initial["credit_limit_micros"], form.cleaned_data["credit_limit_micros"]
        return [*said, {"changed": {"fields": [f"credit limit {format_money(before)} -> {format_money(after)}"]}}]

    def has_issue_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("billing.add_apikey")

    @action(description="Create a key", url_path="create-key", icon="key", permissions=["issue"])
    def create_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """To the form of a new key, with the account filled in."""
        account = find_object(self, request, object_id)
        return HttpResponseRedirect(f"{reverse('admin:billing_apikey_add')}?account={account.pk}")


@admin.register(ApiKey)
class ApiKeyAdmin(FormColumnsAdmin):
    form = ApiKeyForm
    list_display = ("prefix", "account", "name", "state", "expires_at", "revoked_at", "spent", "created_at")
    list_filter = (("account", AutocompleteSelectFilter), "expires_at", "revoked_at")
    list_filter_submit = True
    list_select_related = ("account",)
    search_fields = ("prefix__startswith", "name", "account__name")
    autocomplete_fields = ("account",)
    actions = ("revoke_selected",)
    actions_detail = ("revoke",)
    add_fieldsets = ((None, {"fields": ("account", "name", "expires_at")}),)
    fieldsets = (
        (None, {"fields": (("prefix", "account"), "name", "expires_at")}),
        ("Use", {"fields": (("state_text", "spent"), ("created_at", "revoked_at"))}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        # What was ordered with a key belongs to its account for good.
        shown = ("prefix", "state_text", "spent", "created_at", "revoked_at")
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

    @admin.display(description="Spent", ordering="spent_micros")
    def spent(self, key: ApiKey) -> str:
        return format_money(key.spent_micros)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        key, secret = create_key(obj.account, name=obj.name, expires_at=obj.expires_at)
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

    @admin.action(description="Revoke (for good)", permissions=["change"])
    def revoke_selected(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        self.revoke_each(request, keys)

    def revoke_each(self, request: HttpRequest, keys: Any) -> None:
        revoked = [key for key in keys if revoke_key(key)]
        for key in revoked:
            self.log_change(request, key, "Revoked")
        self.message_user(request, f"{len(revoked)} revoked.", messages.SUCCESS)
