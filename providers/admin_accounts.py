"""Upstream accounts and what they can take. The limits are people's, the use of them is routing's."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from unfold.admin import TabularInline

from models_registry.backoffice import RecordedAdmin
from providers.admin_rows import FormColumnsInlines
from providers.forms import CapacityForm, UpstreamAccountForm
from providers.models import Capacity, UpstreamAccount
from providers.words import describe_limits, describe_starts, describe_use


class CapacityInline(TabularInline):
    model = Capacity
    form = CapacityForm
    extra = 0
    fields = ("upstream_model", "submit_interval_ms", "submit_burst", "max_running", "limits", "use", "latest")
    readonly_fields = ("limits", "use", "latest")

    @admin.display(description="Limits")
    def limits(self, capacity: Capacity) -> str:
        return describe_limits(capacity) if capacity.pk else "–"

    @admin.display(description="Now")
    def use(self, capacity: Capacity) -> str:
        return describe_use(capacity) if capacity.pk else "–"

    @admin.display(description="Latest submits")
    def latest(self, capacity: Capacity) -> str:
        return describe_starts(capacity)


@admin.register(UpstreamAccount)
class UpstreamAccountAdmin(FormColumnsInlines, RecordedAdmin):
    form = UpstreamAccountForm
    inlines = (CapacityInline,)
    list_display = ("name", "channel_count", "limits", "use", "polls")
    search_fields = ("name",)
    readonly_fields = ("channels_on_it",)
    fieldsets = ((None, {"fields": (("name", "polls_per_s"), "channels_on_it", "note")}),)

    def get_queryset(self, request: HttpRequest) -> QuerySet[UpstreamAccount]:
        rows = super().get_queryset(request)
        return rows.prefetch_related("capacities").annotate(channel_number=Count("channels"))

    @admin.display(description="Channels", ordering="channel_number")
    def channel_count(self, account: Any) -> int:
        return account.channel_number

    @admin.display(description="Limits")
    def limits(self, account: UpstreamAccount) -> str:
        return join(f"{name_model(row)}: {describe_limits(row)}" for row in account.capacities.all())

    @admin.display(description="Now")
    def use(self, account: UpstreamAccount) -> str:
        return join(f"{name_model(row)}: {describe_use(row)}" for row in account.capacities.all())

    @admin.display(description="Task queries", ordering="polls_per_s")
    def polls(self, account: UpstreamAccount) -> str:
        return "no limit" if account.polls_per_s is None else f"{account.polls_per_s} a second"

    @admin.display(description="Channels on it")
    def channels_on_it(self, account: UpstreamAccount) -> str:
        return ", ".join(account.channels.values_list("name", flat=True)) if account.pk else "–"


def join(lines: Any) -> str:
    return "; ".join(lines) or "none known"


def name_model(capacity: Capacity) -> str:
    return capacity.upstream_model or "all others"
