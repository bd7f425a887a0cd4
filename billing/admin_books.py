"""The books in the admin: holds and ledger entries are read, never written."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.admin import ChoicesFieldListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display

from billing.admin_requests import EntryBookings
from billing.models import Account, ApiKey, Hold, LedgerEntry
from billing.periods import cut_month, find_zone, parse_month
from models_registry.amounts import format_money
from models_registry.backoffice import TrafficAdmin
from models_registry.long_lists import NEWEST, AccountFilter, AmongNewest, NewestChoicesFilter, keep_newest

MONTHS_OFFERED = 24
STATE_COLOURS = {"open": "info", "settled": "success"}
KIND_COLOURS = {"Top-up": "success", "Refund": "info", "Adjustment": "warning"}


ACCOUNT = "account__id__exact"


class StateOfHolds(NewestChoicesFilter):
    answered = ("open",)


class AccountOfHolds(AmongNewest, AutocompleteSelectFilter):
    """Only the open holds of an account have an index: the others are found with their generation."""

    def is_answered(self, request: HttpRequest) -> bool:
        return request.GET.get("state__exact") == "open"


class AccountOfEntries(AccountFilter):
    few = tuple(f"kind__exact={kind}" for kind in LedgerEntry.Kind.values if kind != LedgerEntry.Kind.CHARGE)


class KindOfEntries(ChoicesFieldListFilter):
    """Spelled for the index of the few that are no charge, and past any index for the many that are."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[LedgerEntry]) -> QuerySet[LedgerEntry] | None:
        found = super().queryset(request, queryset)
        if not self.used_parameters or found is None:
            return found
        if request.GET.get("kind__exact") == LedgerEntry.Kind.CHARGE:
            return queryset.exclude(kind__in=[kind for kind in LedgerEntry.Kind.values if kind != "charge"])
        return found.exclude(kind=LedgerEntry.Kind.CHARGE)


class MonthOfEntries(admin.SimpleListFilter):
    """A month of the account that is chosen: with it, and only with it, an index knows when what was booked."""

    title = "month (of an account)"
    parameter_name = "month"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        if not request.GET.get(ACCOUNT, "").isdecimal():
            return []
        today = timezone.localdate()
        months = [divmod(today.year * 12 + today.month - 1 - back, 12) for back in range(MONTHS_OFFERED)]
        return [(name, name) for name in (f"{year}-{month + 1:02}" for year, month in months)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[LedgerEntry]) -> QuerySet[LedgerEntry]:
        if self.value() not in dict(self.lookup_choices):
            return queryset
        account = Account.objects.filter(pk=int(request.GET[ACCOUNT])).first()
        zone = find_zone(account.time_zone if account else settings.TIME_ZONE)
        period = cut_month(parse_month(str(self.value())), zone)
        return queryset.filter(booked_at__gte=period.starts_at, booked_at__lt=period.ends_at)


@admin.register(Hold)
class HoldAdmin(TrafficAdmin):
    list_display = ("reference", "account", "api_key", "amount", "captured", "state_badge", "created_at", "closed_at")
    list_filter = (("state", StateOfHolds), ("account", AccountOfHolds))
    list_filter_submit = True
    list_select_related = ("account", "api_key")
    ordering = ("-id",)
    search_fields = ("reference__exact",)
    search_help_text = "A generation's id"
    fields = ("reference", "account", "api_key", "amount", "captured", "state", "created_at", "closed_at")

    @admin.display(description="Amount")
    def amount(self, hold: Hold) -> str:
        return format_money(hold.amount_micros)

    @admin.display(description="Captured")
    def captured(self, hold: Hold) -> str:
        return format_money(hold.captured_micros)

    @display(description="State", label=STATE_COLOURS)
    def state_badge(self, hold: Hold) -> str:
        return hold.state


@admin.register(LedgerEntry)
class LedgerEntryAdmin(EntryBookings, TrafficAdmin):
    list_display = (
        "sequence",
        "account",
        "kind_badge",
        "amount",
        "balance_after",
        "reference",
        "line",
        "model",
        "size",
        "booked_at",
    )
    list_filter = (("account", AccountOfEntries), ("kind", KindOfEntries), MonthOfEntries)
    list_filter_submit = True
    list_select_related = ("account",)
    search_fields = ("reference__exact",)
    search_help_text = (
        f"A reference (a generation's id), or a whole key prefix (newest {NEWEST:,} entries of its account)"
    )
    fieldsets = (
        (None, {"fields": (("account", "sequence"), "kind", ("amount", "balance_after"), "booked_at")}),
        ("What for", {"fields": (("reference", "line"), ("model", "size"), ("unit_price", "price_version"))}),
        ("By whom", {"fields": (("key_prefix", "actor"), "memo", ("booking_of", "refunded_part"))}),
    )

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """The books' own order; of one account its own numbers, of a month its moments: each has its index."""
        if not request.GET.get(ACCOUNT):
            return ("-id",)
        return ("-booked_at", "-id") if request.GET.get("month") else ("-sequence",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LedgerEntry], search_term: str
    ) -> tuple[QuerySet[LedgerEntry], bool]:
        key = ApiKey.objects.filter(prefix=search_term.strip()).first()
        if key is not None:
            newest = keep_newest(queryset.filter(account=key.account_id), "-sequence")
            return newest.filter(key_prefix=key.prefix).order_by("-sequence"), False
        if search_term:
            # The index of references begins with the kind.
            queryset = queryset.filter(kind__in=LedgerEntry.Kind.values)
        return super().get_search_results(request, queryset, search_term)

    @display(description="Kind", label=KIND_COLOURS)
    def kind_badge(self, entry: LedgerEntry) -> str:
        return entry.get_kind_display()

    @admin.display(description="Amount")
    def amount(self, entry: LedgerEntry) -> str:
        return format_money(entry.amount_micros, entry.currency)

    @admin.display(description="Balance after")
    def balance_after(self, entry: LedgerEntry) -> str:
        return format_money(entry.balance_after_micros, entry.currency)

    @admin.display(description="Unit price")
    def unit_price(self, entry: LedgerEntry) -> str:
        return format_money(entry.unit_price_micros, entry.currency)
