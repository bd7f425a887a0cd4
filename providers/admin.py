"""Channels, their credentials and their offers. A change is in force in every process within two seconds."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.db import models, transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters
from unfold.admin import TabularInline
from unfold.decorators import action, display

from models_registry.amounts import format_money
from models_registry.backoffice import (
    SHORT_TEXTS,
    ReadOnlyInline,
    RecordedAdmin,
    change_each,
    find_object,
    go_to,
    show_operation,
)
from providers.forms import ChannelForm, OfferForm, SwapForm
from providers.models import Channel, Credential, Offer, add_credential
from providers.swap import SwapRefused, swap_offers

SERVICE_COLOURS = {
    "serving": "success",
    "in use": "success",
    "no credential": "danger",
    "channel disabled": "warning",
    "not genuine": "warning",
    "weight 0": "warning",
    "simulated": "info",
}


class CredentialInline(ReadOnlyInline):
    model = Credential
    fields = ("key", "created_at")
    verbose_name_plural = "credentials (the newest is used)"

    @admin.display(description="Key")
    def key(self, credential: Credential) -> str:
        return str(credential)


class OfferInline(TabularInline):
    model = Offer
    form = OfferForm
    extra = 0
    show_change_link = True
    fields = ("model", "upstream_model", "shape", "priority", "weight", "max_n", "cost_micros", "enabled")

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Without links to add and change models: the row is wide enough."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget
        return field


@admin.register(Channel)
class ChannelAdmin(RecordedAdmin):
    form = ChannelForm
    inlines = (OfferInline, CredentialInline)
    formfield_overrides = {**SHORT_TEXTS, models.URLField: {"assume_scheme": "https"}}
    list_display = ("name", "kind", "state", "offer_count", "credential", "simulated", "disabled_reason")
    list_filter = ("enabled", "kind", "simulated")
    search_fields = ("name", "base_url")
    actions = ("enable_channels", "disable_channels")
    fieldsets = (
        (None, {"fields": (("name", "kind"), "base_url", "secret", ("enabled", "simulated"), "disabled_reason")}),
        ("Behaviour", {"fields": ("options", "retry_billed", "note")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Channel]:
        newest = Credential.objects.filter(channel=OuterRef("pk")).order_by("-id").values("last4")
        return (
            super()
            .get_queryset(request)
            .annotate(
                offers_enabled=Count("offers", filter=Q(offers__enabled=True)),
                offers_known=Count("offers"),
                last4=Subquery(newest[:1]),
            )
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Channel | None = None) -> tuple[str, ...]:
        # Attempts that run are polled by the adapter of the channel's kind.
        return ("kind",) if obj else ()

    @display(description="State", ordering="enabled", label=SERVICE_COLOURS)
    def state(self, channel: Any) -> str:
        if not channel.enabled:
            return "disabled"
        return "in use" if channel.last4 else "no credential"

    @admin.display(description="Offers in use", ordering="offers_enabled")
    def offer_count(self, channel: Any) -> str:
        return f"{channel.offers_enabled} of {channel.offers_known}"

    @admin.display(description="Credential")
    def credential(self, channel: Any) -> str:
        return f"…{channel.last4}" if channel.last4 else "none"

    @method_decorator(sensitive_post_parameters("secret"))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return super().changeform_view(request, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Channel, form: Any, change: bool) -> None:
        if obj.enabled:
            obj.disabled_reason = ""
        elif not obj.disabled_reason:
            obj.disabled_reason = name_disabler(request)
        super().save_model(request, obj, form, change)
        if form.cleaned_data.get("secret"):
            credential = add_credential(obj, form.cleaned_data["secret"])
            self.log_change(request, obj, f"Credential {credential} appended")

    @admin.action(description="Enable", permissions=["change"])
    @transaction.atomic
    def enable_channels(self, request: HttpRequest, channels: QuerySet[Channel]) -> None:
        changed = change_each(self, request, channels, "Enabled", enabled=True, disabled_reason="")
        self.message_user(request, f"{changed} enabled.", messages.SUCCESS)

    @admin.action(description="Disable", permissions=["change"])
    @transaction.atomic
    def disable_channels(self, request: HttpRequest, channels: QuerySet[Channel]) -> None:
        reason = name_disabler(request)
        changed = change_each(
            self, request, channels.filter(enabled=True), "Disabled", enabled=False, disabled_reason=reason
        )
        self.message_user(request, f"{changed} disabled. What they were sent already still ends there.")


def name_disabler(request: HttpRequest) -> str:
    return f"disabled by {request.user.get_username()}"


@admin.register(Offer)
class OfferAdmin(RecordedAdmin):
    form = OfferForm
    list_display = (
        "offer",
        "upstream_model",
        "shape",
        "priority",
        "weight",
        "enabled",
        "service",
        "cost",
    )
    list_editable = ("priority", "weight", "enabled")
    list_filter = ("model", "channel", "enabled", "shape")
    list_select_related = ("model", "channel")
    search_fields = ("model__name", "channel__name", "upstream_model")
    actions = ("enable_offers", "disable_offers")
    actions_detail = ("swap",)
    actions_row = ("swap",)
    fieldsets = (
        (None, {"fields": (("channel", "model"), ("upstream_model", "shape"), ("enabled", "genuine"))}),
        ("Routing", {"fields": (("priority", "weight"), "max_n")}),
        ("Cost", {"fields": (("cost_micros", "cost_currency"),)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Offer]:
        held = Credential.objects.filter(channel=OuterRef("channel"))
        return super().get_queryset(request).annotate(has_credential=Exists(held))

    def get_readonly_fields(self, request: HttpRequest, obj: Offer | None = None) -> tuple[str, ...]:
        # Attempts name their offer: it stays what it was when they were made.
        return ("channel", "model") if obj else ()

    @admin.display(description="Offer", ordering="model__name")
    def offer(self, offer: Offer) -> str:
        return str(offer)

    @display(description="Service", label=SERVICE_COLOURS)
    def service(self, offer: Any) -> str:
        """Why routing takes it, or why not."""
        if not offer.enabled:
            return "disabled"
        if not offer.channel.enabled:
            return "channel disabled"
        if not offer.has_credential:
            return "no credential"
        if not offer.genuine:
            return "not genuine"
        return "serving" if offer.weight else "weight 0"

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

    @action(description="Swap for another channel", url_path="swap", icon="swap_horiz", permissions=["change"])
    def swap(self, request: HttpRequest, object_id: str) -> HttpResponse:
        offer = find_object(self, request, object_id)
        form = SwapForm(request.POST or None, offer=offer)
        if request.method == "POST" and form.is_valid():
            to_channel = form.cleaned_data["to_channel"]
            try:
                with transaction.atomic():
                    disabled, successor = swap_offers(offer.model, from_channel=offer.channel, to_channel=to_channel)
                    message = f"Swapped: {offer.model} moved from {offer.channel} to {to_channel}"
                    for each in (*disabled, successor):
                        self.log_change(request, each, message)
            except SwapRefused as refused:
                form.add_error(None, str(refused))
            else:
                self.message_user(request, f"{message}. It is in force everywhere within 2 s.", messages.SUCCESS)
                return go_to(self, successor)
        return show_operation(
            self,
            request,
            obj=offer,
            form=form,
            title=f"Swap: {offer}",
            intro=f"Another channel takes over {offer.model} with the priority and the weight that {offer.channel} has "
            f"for it, and {offer.channel} stops serving it. Generations that are running end where they began.",
            submit="Swap",
        )
