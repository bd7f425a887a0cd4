"""Generations: what was asked, what was tried, what came out, and what it cost the customer. Read-only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.decorators import display

from billing.models import ApiKey, Hold, LedgerEntry
from crazyrouter.files.models import StoredImage
from crazyrouter.generation import admin_channels, admin_checks, admin_evidence, admin_waiting
from crazyrouter.generation.models import Generation
from crazyrouter.generation.timeline import describe_attempts, describe_options, format_duration
from models_registry.amounts import format_money
from models_registry.backoffice import TrafficAdmin
from models_registry.long_lists import NEWEST, AccountFilter, NewestChoicesFilter, NewestRelatedFilter, keep_newest

__all__ = ["GenerationAdmin", "admin_channels", "admin_checks", "admin_evidence", "admin_waiting"]

STATE_COLOURS = {"running": "info", "succeeded": "success", "failed": "danger"}


class AccountOfGenerations(AccountFilter):
    few = (f"state__exact={Generation.State.RUNNING}",)


class StateOfGenerations(NewestChoicesFilter):
    answered = (Generation.State.RUNNING,)


@admin.register(Generation)
class GenerationAdmin(TrafficAdmin):
    list_display = (
        "id",
        "account",
        "model",
        "size",
        "n",
        "delivered",
        "state_badge",
        "failure",
        "duration",
        "created_at",
    )
    list_filter = (
        ("account", AccountOfGenerations),
        ("state", StateOfGenerations),
        ("model", NewestRelatedFilter),
    )
    list_filter_submit = True
    list_select_related = ("account", "model")
    ordering = ("-id",)
    search_fields = ("id__exact",)
    search_help_text = f"A generation's id, or a whole key prefix (newest {NEWEST:,} of its account)"
    change_form_template = "admin/generation/generation/change_form.html"
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("state", "failure"),
                    ("account", "api_key"),
                    ("model", "unit_price"),
                    ("size", "render_size", "response_format"),
                    ("n", "delivered"),
                    "prompt",
                )
            },
        ),
        (
            "Times",
            {
                "fields": (
                    ("created_at", "finished_at", "answered_at"),
                    ("duration", "deadline_at"),
                    ("lease_owner", "lease_expires_at", "takeovers"),
                )
            },
        ),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Generation], search_term: str
    ) -> tuple[QuerySet[Generation], bool]:
        key = ApiKey.objects.filter(prefix=search_term.strip()).first()
        if key is None:
            return super().get_search_results(request, queryset, search_term)
        return keep_newest(queryset.filter(account=key.account_id), "-id").filter(api_key=key.pk), False

    @display(description="State", label=STATE_COLOURS)
    def state_badge(self, generation: Generation) -> str:
        return generation.state

    @admin.display(description="Size")
    def size(self, generation: Generation) -> str:
        return generation.size

    @admin.display(description="Rendered as")
    def render_size(self, generation: Generation) -> str:
        return f"{generation.render_width}x{generation.render_height}"

    @admin.display(description="Duration")
    def duration(self, generation: Generation) -> str:
        return format_duration(generation)

    @admin.display(description="Price per image")
    def unit_price(self, generation: Generation) -> str:
        agreed = f", agreed price {generation.account_price_id}" if generation.account_price_id else ""
        return f"{format_money(generation.unit_price_micros)} (version {generation.price_id}{agreed})"

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Generation | None = None, **kwargs: Any
    ) -> HttpResponse:
        if obj is not None:
            context |= gather_facts(obj)
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)


def gather_facts(generation: Generation) -> dict[str, Any]:
    """Everything that other tables know about one generation: five queries, whatever its n."""
    attempts = generation.attempts.select_related("channel", "credential").order_by("number")
    pictures = StoredImage.objects.filter(generation_id=generation.pk).order_by("slot")
    hold = Hold.objects.filter(reference=generation.pk).first()
    entries = LedgerEntry.objects.filter(kind=LedgerEntry.Kind.CHARGE, reference=generation.pk).order_by("sequence")
    return {
        "steps": describe_attempts(generation, attempts),
        "waiting_calls": generation.waiting.order_by("number"),
        "pictures": [(picture, is_live(picture)) for picture in pictures],
        "hold": hold and {"row": hold, "amount": format_money(hold.amount_micros)},
        "entries": [(entry, format_money(entry.amount_micros, entry.currency)) for entry in entries],
        "options_asked": describe_options(generation),
        "revised_prompts": sorted((generation.revised_prompts or {}).items()),
    }


def is_live(picture: StoredImage) -> bool:
    return picture.deleted_at is None and picture.expires_at > timezone.now()
