"""The books in the admin: holds and ledger entries are read, never written."""

from __future__ import annotations

from django.contrib import admin
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display

from billing.admin_requests import EntryBookings
from billing.models import Hold, LedgerEntry
from models_registry.amounts import format_money
from models_registry.backoffice import ReadOnlyAdmin

STATE_COLOURS = {"open": "info", "settled": "success"}
KIND_COLOURS = {"top_up": "success", "refund": "info", "adjustment": "warning"}


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    list_display = ("reference", "account", "api_key", "amount", "captured", "state_badge", "created_at", "closed_at")
    list_filter = ("state", ("account", AutocompleteSelectFilter))
    list_filter_submit = True
    list_select_related = ("account", "api_key")
    search_fields = ("reference__exact",)
    search_help_text = "A generation's id"
    fields = ("reference", "account", "api_key", "amount", "captured", "state", "created_at", "closed_at")

    @admin.display(description="Amount", ordering="amount_micros")
    def amount(self, hold: Hold) -> str:
        return format_money(hold.amount_micros)

    @admin.display(description="Captured", ordering="captured_micros")
    def captured(self, hold: Hold) -> str:
        return format_money(hold.captured_micros)

    @display(description="State", ordering="state", label=STATE_COLOURS)
    def state_badge(self, hold: Hold) -> str:
        return hold.state


@admin.register(LedgerEntry)
class LedgerEntryAdmin(EntryBookings, ReadOnlyAdmin):
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
    list_filter = ("kind", ("account", AutocompleteSelectFilter))
    list_filter_submit = True
    list_select_related = ("account",)
    search_fields = ("reference__exact", "key_prefix__exact")
    search_help_text = "A reference (a generation's id) or a whole key prefix"
    date_hierarchy = "booked_at"
    fieldsets = (
        (None, {"fields": (("account", "sequence"), "kind", ("amount", "balance_after"), "booked_at")}),
        ("What for", {"fields": (("reference", "line"), ("model", "size"), ("unit_price", "price_version"))}),
        ("By whom", {"fields": (("key_prefix", "actor"), "memo", ("booking_of", "refunded_part"))}),
    )

    @display(description="Kind", ordering="kind", label=KIND_COLOURS)
    def kind_badge(self, entry: LedgerEntry) -> str:
        return entry.kind

    @admin.display(description="Amount", ordering="amount_micros")
    def amount(self, entry: LedgerEntry) -> str:
        return format_money(entry.amount_micros, entry.currency)

    @admin.display(description="Balance after")
    def balance_after(self, entry: LedgerEntry) -> str:
        return format_money(entry.balance_after_micros, entry.currency)

    @admin.display(description="Unit price")
    def unit_price(self, entry: LedgerEntry) -> str:
        return format_money(entry.unit_price_micros, entry.currency)
