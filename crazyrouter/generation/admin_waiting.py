"""Calls that no upstream has room for yet: whose they are, for which model, since when, and what they wait for."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import admin
from django.db.models import Count, Min
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.views import ChangeList

from crazyrouter.generation.models import WaitingCall
from models_registry.backoffice import TrafficAdmin
from models_registry.long_lists import FixedOrderChangeList
from providers.models import Capacity

#: Lines of the table above the list: of each model the accounts with most calls first.
SHOWN = 50


class QueueList(FixedOrderChangeList):
    """The rows of the page with the names of what they wait for, asked once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        wanted = {row.pk: read_ids(row.wants) for row in self.result_list}
        ids = {one for several in wanted.values() for one in several}
        known = Capacity.objects.select_related("account").in_bulk(ids) if ids else {}
        for row in self.result_list:
            row.wanted = [str(known.get(one, f"capacity {one}")) for one in wanted[row.pk]]


def read_ids(wants: str) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]+", wants)]


@admin.register(WaitingCall)
class WaitingCallAdmin(TrafficAdmin):
    list_display = ("since", "waiting", "model", "account", "generation_link", "waits_for")
    list_filter = ("model",)
    list_select_related = ("model", "account")
    list_before_template = "admin/generation/waitingcall/counts.html"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return QueueList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().changelist_view(request, (extra_context or {}) | {"queue": count_waiting()})

    @admin.display(description="Generation")
    def generation_link(self, row: WaitingCall) -> SafeString:
        page = reverse("admin:generation_generation_change", args=[row.generation_id])
        return format_html('<span><a href="{}">{}</a> #{}</span>', page, row.generation_id, row.number)

    @admin.display(description="Waiting")
    def waiting(self, row: WaitingCall) -> str:
        return f"{(timezone.now() - row.since).total_seconds():.1f} s"

    @admin.display(description="Waits for room at")
    def waits_for(self, row: Any) -> str:
        return " or ".join(row.wanted) or "an upstream that cools down"


def count_waiting() -> dict[str, Any]:
    """The table above the list: how many calls of which account wait for which model, and how long the oldest has."""
    now = timezone.now()
    groups = (
        WaitingCall.objects.order_by()
        .values("model__name", "account__name")
        .annotate(calls=Count("pk"), oldest=Min("since"))
        .order_by("model__name", "-calls", "account__name")
    )
    rows = [
        [
            group["model__name"],
            group["account__name"],
            f"{group['calls']:,}",
            f"{(now - group['oldest']).total_seconds():.1f} s",
        ]
        for group in groups
    ]
    return {
        "table": {"headers": ["Model", "Account", "Calls", "Longest wait"], "rows": rows[:SHOWN]},
        "more": max(0, len(rows) - SHOWN),
    }
