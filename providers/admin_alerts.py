"""Alerts: what needs a person, the open ones first, and a badge on every page while there are any."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import CharField, F, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Cast, Concat
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from models_registry.backoffice import ReadOnlyAdmin
from providers.admin_rows import Button, ButtonsAdmin, Line, Panel, PanelAdmin
from providers.alerts import resolve_alert
from providers.models import Alert, Offer
from providers.words import count, tell_time

LINK = '<a href="{}" class="text-link">{}</a>'


@admin.register(Alert)
class AlertAdmin(PanelAdmin, ButtonsAdmin, ReadOnlyAdmin):
    list_display = ("state", "text", "about", "times", "created_at", "last_at", "resolved_by", "button")
    list_filter = ("kind",)
    list_select_related = ("channel",)
    search_fields = ("text", "subject", "channel__name")
    ordering = (F("resolved_at").desc(nulls_first=True), "-last_at", "-id")
    sortable_by = ()
    buttons = ("resolve",)
    readonly_fields = ("about",)
    fields = ("text", ("about", "kind"), ("times", "created_at", "last_at"))

    def may_press(self, request: HttpRequest) -> bool:
        return request.user.has_perm("providers.change_alert")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Alert]:
        """With the offer that it is about, if it is about one that is there."""
        named = Offer.objects.annotate(subject=Concat(Value("offer "), Cast("pk", CharField())))
        offer = named.filter(subject=OuterRef("subject")).order_by()
        rows = super().get_queryset(request).select_related("channel")
        return rows.annotate(offer=Subquery(offer.values("pk")), offered=Subquery(offer.values("model__name")))

    @admin.display(description="About")
    def about(self, alert: Any) -> SafeString | str:
        if alert.offer:
            url = reverse("admin:providers_offer_change", args=[alert.offer])
            return format_html(LINK, url, f"{alert.offered} via {alert.channel}")
        if alert.channel:
            return format_html(LINK, reverse("admin:providers_channel_change", args=[alert.channel_id]), alert.channel)
        return alert.subject

    @display(description="State", label={"open": "danger", "resolved": "success"})
    def state(self, alert: Alert) -> str:
        return "resolved" if alert.resolved_at else "open"

    @admin.display(description="")
    def button(self, alert: Alert) -> SafeString | str:
        return "" if alert.resolved_at else self.render_button(alert, "resolve", "Resolve")

    def make_panel(self, request: HttpRequest, obj: Alert) -> Panel:
        if obj.resolved_at is not None:
            return Panel("Resolved", [Line("By", obj.resolved_by or "–"), Line("At", tell_time(obj.resolved_at))])
        panel = Panel("Open", [Line("Met", f"{count(obj.times, 'time')}; the same trouble again raises this number")])
        if self.may_press(request):
            panel.buttons.append(Button(self.link_button(obj, "resolve"), "Resolve"))
        return panel

    def resolve(self, request: HttpRequest, alert: Alert) -> None:
        if resolve_alert(alert, actor=request.user.get_username()):
            self.log_change(request, alert, "Resolved")
            self.message_user(request, "Resolved. The same trouble would open a new alert.", messages.SUCCESS)
        else:
            self.message_user(request, "It was resolved already.", messages.WARNING)


def count_open_alerts() -> int:
    return Alert.objects.filter(resolved_at=None).count()


def warn_of_alerts(request: HttpRequest) -> str:
    """What every page of the admin says while alerts are open; empty otherwise."""
    if not request.user.has_perm("providers.view_alert"):
        return ""
    number = count_open_alerts()
    return count(number, "alert") if number else ""
