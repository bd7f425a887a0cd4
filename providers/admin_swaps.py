"""Swaps: from the offer's page, with everything that is known beforehand; and a list from which each is undone."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from models_registry.backoffice import ReadOnlyAdmin, find_object, go_to, link_to
from providers.admin_rows import Button, ButtonsAdmin, Line, Panel, PanelAdmin
from providers.findings import Level
from providers.forms import SwapForm
from providers.models import Offer, Swap
from providers.preflight import inspect_swap, is_blocked
from providers.swap import COLUMNS, SwapRefused, check_untouched, swap_back, swap_offers
from providers.words import tell_time

LEVELS = {Level.OK: "success", Level.NOTICE: "warning", Level.REFUSAL: "danger"}
STATES = {"made": "success", "swapped back": "info"}


class SwapAction(ModelAdmin):
    """The offer's page from which another channel takes over."""

    @action(description="Swap for another channel", url_path="swap", icon="swap_horiz", permissions=["change"])
    def swap(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Which channel; then what is known of it; then the swap, if nothing forbids it: looked at once more."""
        offer = find_object(self, request, object_id)
        chosen = request.POST if request.method == "POST" else request.GET if "to_channel" in request.GET else None
        form = SwapForm(chosen, offer=offer)
        findings = []
        if chosen is not None and form.is_valid():
            to_channel = form.cleaned_data["to_channel"]
            findings = inspect_swap(offer.model, from_channel=offer.channel, to_channel=to_channel)
            if request.method == "POST" and not is_blocked(findings):
                try:
                    return go_to(self, self.make_swap(request, offer, to_channel))
                except SwapRefused as refused:
                    form.add_error(None, str(refused))
            elif request.method == "POST":
                form.add_error(None, "Nothing was changed: " + name_refusals(findings))
        return self.show_swap(request, offer=offer, form=form, findings=findings)

    def make_swap(self, request: HttpRequest, offer: Offer, to_channel: Any) -> Offer:
        """The offer that serves now. Raises SwapRefused."""
        with transaction.atomic():
            disabled, successor = swap_offers(
                offer.model, from_channel=offer.channel, to_channel=to_channel, actor=request.user.get_username()
            )
            said = f"Swapped: {offer.model} moved from {offer.channel} to {to_channel}"
            for each in (*disabled, successor):
                self.log_change(request, each, said)
        swaps = reverse("admin:providers_swap_changelist")
        text = '{}. It is in force everywhere within 2 s. <a href="{}" class="font-semibold underline">Swap back</a>'
        self.message_user(request, format_html(text, said, swaps), messages.SUCCESS)
        return successor

    def show_swap(self, request: HttpRequest, *, offer: Offer, form: SwapForm, findings: list[Any]) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": offer,
            "title": f"Swap: {offer}",
            "form": form,
            "offer": offer,
            "to_channel": form.cleaned_data.get("to_channel") if form.is_bound else None,
            "findings": [(finding, LEVELS[finding.level]) for finding in findings],
            "blocked": is_blocked(findings),
            "back": link_to(self, offer),
            "media": self.media + form.media,
        }
        return TemplateResponse(request, "admin/providers/swap.html", context)


def name_refusals(findings: list[Any]) -> str:
    return " ".join(finding.text for finding in findings if finding.level is Level.REFUSAL)


@admin.register(Swap)
class SwapAdmin(PanelAdmin, ButtonsAdmin, ReadOnlyAdmin):
    list_display = ("at", "model", "from_channel", "to_channel", "actor", "state", "undone_by", "button")
    list_filter = ("model",)
    list_select_related = ("model", "from_channel", "to_channel")
    sortable_by = ()
    buttons = ("back",)
    fields = (("model", "at"), ("from_channel", "to_channel"), "actor", "offers_before", "offers_after")

    def may_press(self, request: HttpRequest) -> bool:
        return request.user.has_perm("providers.change_offer")

    @display(description="State", label=STATES)
    def state(self, swap: Swap) -> tuple[str, str]:
        if swap.undone_at is None:
            return "made", "made"
        return "swapped back", f"swapped back {tell_time(swap.undone_at)}"

    @admin.display(description="")
    def button(self, swap: Swap) -> SafeString | str:
        return "" if swap.undone_at else self.render_button(swap, "back", "Swap back")

    @admin.display(description="Before")
    def offers_before(self, swap: Swap) -> str:
        return describe_rows(swap.before)

    @admin.display(description="After")
    def offers_after(self, swap: Swap) -> str:
        return describe_rows(swap.after)

    def make_panel(self, request: HttpRequest, obj: Swap) -> Panel:
        if obj.undone_at is not None:
            return Panel("Swapped back", [Line("By", obj.undone_by or "–"), Line("At", tell_time(obj.undone_at))])
        panel = Panel("Way back", [Line("State", "Offers are as the swap left them.")])
        try:
            check_untouched(obj.after, {offer.pk: offer for offer in Offer.objects.filter(model=obj.model_id)})
        except SwapRefused as refused:
            panel.lines = [Line("State", f"It cannot be swapped back: {refused}.")]
        else:
            if self.may_press(request):
                panel.buttons.append(Button(self.link_button(obj, "back"), "Swap back"))
        return panel

    def back(self, request: HttpRequest, swap: Swap) -> None:
        said = f"Swapped back: {swap.model} moved from {swap.to_channel} to {swap.from_channel}"
        try:
            with transaction.atomic():
                restored = swap_back(swap, actor=request.user.get_username())
                for each in (swap, *restored):
                    self.log_change(request, each, said)
        except SwapRefused as refused:
            self.message_user(request, f"Nothing was changed: {refused}.", messages.ERROR)
        else:
            self.message_user(request, f"{said}. It is in force everywhere within 2 s.", messages.SUCCESS)


def describe_rows(rows: list[dict[str, Any]]) -> str:
    """`qwen-image-max via official: enabled, priority 3, weight 7; …`."""
    offers = Offer.objects.select_related("model", "channel").in_bulk([row["offer"] for row in rows])
    return "; ".join(f"{offers.get(row['offer'], 'deleted')}: {describe_columns(row)}" for row in rows)


def describe_columns(row: dict[str, Any]) -> str:
    numbers = [f"{name.replace('_', ' ')} {row[name]}" for name in COLUMNS[1:] if row[name] is not None]
    return ", ".join(["enabled" if row["enabled"] else "disabled", *numbers])
