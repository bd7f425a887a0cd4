"""Alerts: what needs a person, the open ones first, and a badge on every page while there are any."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import F
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.decorators import display

from models_registry.backoffice import ReadOnlyAdmin
from providers.admin_rows import Button, ButtonsAdmin, Line, Panel, PanelAdmin
from providers.alerts import resolve_alert
from providers.models import Alert
from providers.words import count, tell_time


@admin.register(Alert)
class AlertAdmin(PanelAdmin, ButtonsAdmin, ReadOnlyAdmin):
    list_display = ("state", "text", "channel", "kind", "times", "created_at", "last_at", "resolved_by", "button")
    list_filter = ("kind",)
    list_select_related = ("channel",)
    search_fields = ("text", "subject", "channel__name")
    ordering = (F("resolved_at").desc(nulls_first=True), "-last_at", "-id")
    sortable_by = ()
    buttons = ("resolve",)
    fields = ("text", ("kind", "subject"), "channel", ("times", "created_at", "last_at"))

    def may_press(self, request: HttpRequest) -> bool:
        return request.user.has_perm("providers.change_alert")

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
