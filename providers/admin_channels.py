"""Channels with their credentials and offers. A change is in force in every process within two seconds."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.db import models, transaction
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters
from unfold.admin import TabularInline
from unfold.decorators import display

from models_registry.backoffice import SHORT_TEXTS, ReadOnlyInline, RecordedAdmin, change_each
from providers.admin_rows import Button, ButtonsAdmin, FormColumnsInlines, Line, Panel, PanelAdmin
from providers.drain import start_drain, stop_drain
from providers.egress import find_refusal
from providers.forms import ChannelForm, OfferRowForm
from providers.models import Channel, Credential, Offer, add_credential
from providers.words import count, tell_time

STATE_COLOURS = {"in use": "success", "draining": "warning", "no credential": "danger"}


class CredentialInline(ReadOnlyInline):
    model = Credential
    fields = ("key", "created_at")
    verbose_name_plural = "credentials (the newest is used)"

    @admin.display(description="Key")
    def key(self, credential: Credential) -> str:
        return str(credential)


class OfferInline(TabularInline):
    model = Offer
    form = OfferRowForm
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
class ChannelAdmin(FormColumnsInlines, PanelAdmin, ButtonsAdmin, RecordedAdmin):
    form = ChannelForm
    inlines = (OfferInline, CredentialInline)
    formfield_overrides = {**SHORT_TEXTS, models.URLField: {"assume_scheme": "https"}}
    list_display = ("name", "kind", "account", "state", "offer_count", "credential", "simulated", "why")
    list_filter = ("enabled", "kind", "account", "simulated")
    list_select_related = ("account",)
    search_fields = ("name", "base_url")
    actions = ("enable_channels", "disable_channels", "drain_channels", "stop_draining_channels")
    buttons = ("drain", "stop_draining")
    fieldsets = (
        (None, {"fields": (("name", "kind"), "base_url", "secret", ("enabled", "simulated"), "disabled_reason")}),
        ("Behaviour", {"fields": (("account", "retry_billed"), "options", "note")}),
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

    def count_calls(self, channels: list[Channel]) -> dict[int, int]:
        """Calls that run at these channels, by id; whoever makes the calls knows."""
        return {}

    @display(description="State", ordering="enabled", label=STATE_COLOURS)
    def state(self, channel: Any) -> tuple[str, str]:
        if not channel.enabled:
            return "disabled", "disabled"
        if channel.draining_since:
            running = getattr(channel, "running_calls", None)
            return "draining", "draining" if running is None else f"draining, {count(running, 'call')} running"
        word = "in use" if channel.last4 else "no credential"
        return word, word

    @admin.display(description="Offers", ordering="offers_enabled")
    def offer_count(self, channel: Any) -> str:
        return f"{channel.offers_enabled} of {channel.offers_known}"

    @admin.display(description="Credential")
    def credential(self, channel: Any) -> str:
        return f"…{channel.last4}" if channel.last4 else "none"

    @admin.display(description="Why disabled")
    def why(self, channel: Channel) -> str:
        return channel.disabled_reason

    @method_decorator(sensitive_post_parameters("secret"))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return super().changeform_view(request, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Channel, form: Any, change: bool) -> None:
        if obj.enabled:
            obj.disabled_reason = ""
        elif not obj.disabled_reason:
            obj.disabled_reason = name_disabler(request)
        if change and "enabled" in form.changed_data:
            # Whoever switches it by hand has ended its drain; not a column of the form.
            Channel.objects.filter(pk=obj.pk).update(draining_since=None)
            obj.draining_since = None
        super().save_model(request, obj, form, change)
        if form.cleaned_data.get("secret"):
            credential = add_credential(obj, form.cleaned_data["secret"])
            self.log_change(request, obj, f"Credential {credential} appended")
        if refusal := find_refusal(obj.base_url, settings.EGRESS_ALLOW):
            said = f"Nothing will reach it: {refusal}. EGRESS_ALLOW opens more."
            self.message_user(request, said, messages.WARNING)

    @admin.action(description="Enable", permissions=["change"])
    @transaction.atomic
    def enable_channels(self, request: HttpRequest, channels: QuerySet[Channel]) -> None:
        changed = change_each(self, request, channels, "Enabled", enabled=True, disabled_reason="", draining_since=None)
        self.message_user(request, f"{changed} enabled.", messages.SUCCESS)

    @admin.action(description="Disable", permissions=["change"])
    @transaction.atomic
    def disable_channels(self, request: HttpRequest, channels: QuerySet[Channel]) -> None:
        changed = change_each(
            self,
            request,
            channels.filter(enabled=True),
            "Disabled",
            enabled=False,
            disabled_reason=name_disabler(request),
            draining_since=None,
        )
        self.message_user(request, f"{changed} disabled. What they were sent already still ends there.")

    # --- draining ---

    @admin.action(description="Drain: nothing new, disabled when its calls have ended", permissions=["change"])
    def drain_channels(self, request: HttpRequest, channels: QuerySet[Channel]) -> None:
        for channel in channels:
            self.drain(request, channel)

    @admin.action(description="Stop draining", permissions=["change"])
    def stop_draining_channels(self, request: HttpRequest, channels: QuerySet[Channel]) -> None:
        for channel in channels:
            self.stop_draining(request, channel)

    def drain(self, request: HttpRequest, channel: Channel) -> None:
        if start_drain(channel):
            self.log_change(request, channel, "Drain begun")
            said = f"{channel} takes nothing new from now on, and is disabled when its calls have ended."
            self.message_user(request, said, messages.SUCCESS)
        else:
            self.message_user(request, f"{channel} is disabled or draining already.", messages.WARNING)

    def stop_draining(self, request: HttpRequest, channel: Channel) -> None:
        if stop_drain(channel):
            self.log_change(request, channel, "Drain stopped")
            self.message_user(request, f"{channel} is in service again.", messages.SUCCESS)
        else:
            self.message_user(request, f"{channel} does not drain.", messages.WARNING)

    def make_panel(self, request: HttpRequest, obj: Channel) -> Panel:
        calls = self.count_calls([obj]).get(obj.pk, 0)
        panel = Panel("Service", [Line("Calls running", f"{calls:,}")])
        if not obj.enabled:
            panel.lines.insert(0, Line("State", f"disabled: {obj.disabled_reason or 'no reason given'}"))
            return panel
        if obj.draining_since:
            said = f"draining since {tell_time(obj.draining_since)}, {count(calls, 'call')} running"
            panel.lines = [Line("State", said)]
        button = ("stop_draining", "Stop draining") if obj.draining_since else ("drain", "Drain")
        if self.may_press(request):
            panel.buttons.append(Button(self.link_button(obj, button[0]), button[1]))
        return panel


def name_disabler(request: HttpRequest) -> str:
    return f"disabled by {request.user.get_username()}"
