"""Accounts in the admin. Money moves through `billing.ledger` alone."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display

from billing import admin_bookings, admin_books, admin_closing
from billing.admin_exports import AccountPapers
from billing.admin_keys import LIMIT_ROWS, STATE_COLOURS, ApiKeyAdmin, ApiKeyInline, UseOfLimits
from billing.admin_prices import AccountAgreements, AccountPriceInline
from billing.admin_requests import AccountBookings
from billing.forms import AccountForm
from billing.ledger import LedgerError, move_time_zone
from billing.models import Account, ApiKey
from models_registry.amounts import format_money
from models_registry.backoffice import FormColumnsAdmin, find_object

__all__ = ["AccountAdmin", "ApiKeyAdmin", "admin_bookings", "admin_books", "admin_closing"]


@admin.register(Account)
class AccountAdmin(AccountBookings, AccountPapers, AccountAgreements, UseOfLimits, FormColumnsAdmin):
    form = AccountForm
    inlines = (ApiKeyInline, AccountPriceInline)
    list_display = (
        "name",
        "state_badge",
        "balance",
        "held",
        "credit_limit",
        "available",
        "this_month",
        "flights",
        "key_count",
        "created_at",
    )
    list_filter = ("state",)
    search_fields = ("name",)
    actions_detail = ("top_up", "adjust", "create_key", "agree_price")
    actions_row = ("top_up",)
    readonly_fields = (
        *("balance", "held", "available", "sequence", "closed_until", "created_at"),
        *("spent", "this_month", "flights"),
    )
    fieldsets = (
        (None, {"fields": (("name", "state"), ("credit_limit_micros", "time_zone"), "shadow_allowed", "note")}),
        ("Money", {"fields": (("balance", "held", "available"), ("sequence", "closed_until", "created_at"))}),
        ("Limits", {"fields": (*LIMIT_ROWS, ("spent", "this_month", "flights"))}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Account]:
        """Keys are counted for the accounts of the page, not joined to all of them."""
        lasting = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
        usable = ApiKey.objects.filter(lasting, account=OuterRef("pk"), revoked_at=None, enabled=True).order_by()
        counted = Subquery(usable.values("account").annotate(n=Count("pk")).values("n"))
        return super().get_queryset(request).annotate(usable_keys=Coalesce(counted, 0))

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

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        """The time zone moves through the ledger, since what it counts by day and month moves along."""
        if not change or "time_zone" not in form.changed_data:
            super().save_model(request, obj, form, change)
            return
        obj.save(update_fields=[name for name in form.fields if name != "time_zone"])
        try:
            move_time_zone(obj.pk, obj.time_zone)
        except LedgerError as refused:
            self.message_user(request, f"The time zone was not changed: {refused}.", messages.ERROR)

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
