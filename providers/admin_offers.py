"""Offers: what each serves, in which order, and how it has fared lately."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from models_registry.amounts import format_money
from models_registry.backoffice import RecordedAdmin, change_each
from providers.admin_rows import Button, ButtonsAdmin, Line, Panel, PanelAdmin, render_dots
from providers.admin_swaps import SwapAction
from providers.forms import OfferForm, OfferListForm
from providers.health import reset_health, restart_canary
from providers.models import Credential, Offer, OfferHealth
from providers.words import (
    Circuit,
    describe_change,
    describe_cooling,
    describe_role,
    is_cooling,
    name_circuit,
    read_record,
)

SERVICE_COLOURS = {
    "serving": "success",
    "canary": "info",
    "shadow": "info",
    "circuit half-open": "warning",
    "cooling down": "warning",
    "circuit open": "danger",
    "canary fell back": "danger",
    "no credential": "danger",
    "channel disabled": "warning",
    "channel draining": "warning",
    "not genuine": "warning",
    "weight 0": "warning",
}
#: The latest; the page of the offer shows all that are remembered.
DOTS_IN_LIST = 12
CIRCUIT_COLOURS = {Circuit.CLOSED: "success", Circuit.HALF_OPEN: "warning", Circuit.OPEN: "danger"}


def find_health(offer: Offer) -> OfferHealth | None:
    """None where nothing is known yet."""
    return getattr(offer, "health", None)


def name_service(offer: Any) -> str:
    """Why routing takes it, or why not, in two words."""
    health = find_health(offer)
    circuit = health.circuit if health else Circuit.CLOSED
    reasons = (
        (not offer.enabled, "disabled"),
        (not offer.channel.enabled, "channel disabled"),
        (offer.channel.draining_since is not None, "channel draining"),
        (not offer.has_credential, "no credential"),
        (not offer.genuine, "not genuine"),
        (not offer.weight, "weight 0"),
        (offer.canary_fallen_at is not None, "canary fell back"),
        (circuit == Circuit.OPEN, "circuit open"),
        (circuit == Circuit.HALF_OPEN, "circuit half-open"),
        (is_cooling(health), "cooling down"),
        (offer.shadow_percent is not None, "shadow"),
        (offer.canary_percent is not None, "canary"),
    )
    return next((word for holds, word in reasons if holds), "serving")


@admin.register(Offer)
class OfferAdmin(SwapAction, PanelAdmin, ButtonsAdmin, RecordedAdmin):
    form = OfferForm
    list_display = (
        "offer",
        "upstream",
        "priority",
        "weight",
        "enabled",
        "service",
        "recent",
        "cost",
    )
    list_editable = ("priority", "weight", "enabled")
    list_filter = ("model", "channel", "enabled", "shape", "health__circuit")
    list_select_related = ("model", "channel", "health")
    search_fields = ("model__name", "channel__name", "upstream_model")
    actions = ("enable_offers", "disable_offers")
    actions_detail = ("swap",)
    actions_row = ("swap",)
    buttons = ("reset_circuit", "restart_canary")
    fieldsets = (
        (None, {"fields": (("channel", "model"), ("upstream_model", "shape"), ("enabled", "genuine"))}),
        ("Routing", {"fields": (("priority", "weight"), ("max_n", "sizes"))}),
        ("Cost", {"fields": (("cost_micros", "cost_currency"),)}),
        (
            "Canary: a share of the customers' requests, and a way back by itself",
            {"fields": (("canary_percent", "canary_min_success", "canary_max_latency_s"),)},
        ),
        (
            "Shadow: copies that no customer sees",
            {"fields": (("shadow_percent", "shadow_per_day"),)},
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Offer]:
        held = Credential.objects.filter(channel=OuterRef("channel"))
        return super().get_queryset(request).annotate(has_credential=Exists(held))

    def get_readonly_fields(self, request: HttpRequest, obj: Offer | None = None) -> tuple[str, ...]:
        # Attempts name their offer: it stays what it was when they were made.
        return ("channel", "model") if obj else ()

    def get_changelist_form(self, request: HttpRequest, **kwargs: Any) -> Any:
        return super().get_changelist_form(request, **{"form": OfferListForm, **kwargs})

    @admin.display(description="Offer", ordering="model__name")
    def offer(self, offer: Offer) -> str:
        return str(offer)

    @admin.display(description="Upstream", ordering="upstream_model")
    def upstream(self, offer: Offer) -> str:
        return f"{offer.upstream_model}, {offer.shape}"

    @display(description="Service", label=SERVICE_COLOURS)
    def service(self, offer: Any) -> str:
        return name_service(offer)

    @admin.display(description="Recent calls")
    def recent(self, offer: Offer) -> SafeString | str:
        record = read_record(find_health(offer))
        if not record.dots:
            return "–"
        return format_html("<div>{}<br>{}</div>", render_dots(record.dots[-DOTS_IN_LIST:]), record.brief)

    @admin.display(description="Cost per image", ordering="cost_micros")
    def cost(self, offer: Offer) -> str:
        return format_money(offer.cost_micros, offer.cost_currency)

    @admin.action(description="Enable", permissions=["change"])
    @transaction.atomic
    def enable_offers(self, request: HttpRequest, offers: QuerySet[Offer]) -> None:
        changed = change_each(self, request, offers, "Enabled", enabled=True)
        self.message_user(request, f"{changed} enabled.", messages.SUCCESS)

    @admin.action(description="Disable", permissions=["change"])
    @transaction.atomic
    def disable_offers(self, request: HttpRequest, offers: QuerySet[Offer]) -> None:
        changed = change_each(self, request, offers, "Disabled", enabled=False)
        self.message_user(request, f"{changed} disabled.", messages.SUCCESS)

    def save_model(self, request: HttpRequest, obj: Offer, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change and "canary_percent" in form.changed_data:
            # Another share is another trial, and none at all has not fallen back.
            restart_canary(obj, actor=request.user.get_username())

    # --- health and trials ---

    def make_panel(self, request: HttpRequest, obj: Offer) -> Panel:
        health = find_health(obj)
        circuit = Circuit(health.circuit) if health else Circuit.CLOSED
        record = read_record(health)
        panel = Panel(
            "Health", [Line("Circuit", describe_change(health), CIRCUIT_COLOURS[circuit], name_circuit(health))]
        )
        if cooling := describe_cooling(health):
            panel.lines.append(Line("Cooling", cooling))
        panel.lines.append(Line("Recent calls", record.summary, dots=record.dots))
        if role := describe_role(obj):
            panel.lines.append(Line("Trial", role))
        if self.may_press(request):
            if circuit != Circuit.CLOSED or cooling:
                panel.buttons.append(Button(self.link_button(obj, "reset_circuit"), "Reset circuit"))
            if obj.canary_fallen_at:
                panel.buttons.append(Button(self.link_button(obj, "restart_canary"), "Restart canary"))
        return panel

    def reset_circuit(self, request: HttpRequest, offer: Offer) -> None:
        reset_health(offer, actor=request.user.get_username())
        self.log_change(request, offer, "Circuit reset")
        self.message_user(request, f"{offer} starts anew: nothing is held against it.", messages.SUCCESS)

    def restart_canary(self, request: HttpRequest, offer: Offer) -> None:
        if not restart_canary(offer, actor=request.user.get_username()):
            self.message_user(request, f"{offer} has not fallen back.", messages.WARNING)
            return
        self.log_change(request, offer, "Canary restarted")
        said = f"{offer} gets its {offer.canary_percent} % again, with a clean record."
        self.message_user(request, said, messages.SUCCESS)
