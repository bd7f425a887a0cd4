"""Stored pictures. Read-only; the bytes expire, the rows stay."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.decorators import display

from crazyrouter.files.models import StoredImage
from models_registry.backoffice import TrafficAdmin

COLOURS = {"stored": "success", "expired": "warning", "deleted": "danger"}


def tell_state(image: StoredImage) -> str:
    if image.deleted_at is not None:
        return "deleted"
    return "stored" if image.expires_at > timezone.now() else "expired"


@admin.register(StoredImage)
class StoredImageAdmin(TrafficAdmin):
    list_display = ("name", "thumbnail", "generation", "slot", "pixels", "state_badge", "expires_at")
    list_per_page = 30
    ordering = ("-id",)
    search_fields = ("name__exact", "generation_id__exact")
    search_help_text = "A file name or a generation's id"
    fields = ("thumbnail", "name", "generation", "slot", "pixels", "weight", "hash", "created_at", "expires_at")

    @admin.display(description="Picture")
    def thumbnail(self, image: StoredImage) -> str:
        if tell_state(image) != "stored":
            return tell_state(image)
        return format_html(
            '<a href="{0}" target="_blank"><img src="{0}" alt="slot {1}" loading="lazy" '
            'style="height: 4rem; max-width: none; width: auto"></a>',
            reverse("stored-file", args=[image.name]),
            image.slot,
        )

    @admin.display(description="Generation")
    def generation(self, image: StoredImage) -> str:
        link = reverse("admin:generation_generation_change", args=[quote(image.generation_id)])
        return format_html('<a href="{}">{}</a>', link, image.generation_id)

    @admin.display(description="Size")
    def pixels(self, image: StoredImage) -> str:
        return f"{image.width}x{image.height}"

    @admin.display(description="Bytes")
    def weight(self, image: StoredImage) -> str:
        return filesizeformat(image.bytes)

    @admin.display(description="SHA-256")
    def hash(self, image: StoredImage) -> str:
        return image.sha256

    @display(description="State", label=COLOURS)
    def state_badge(self, image: StoredImage) -> str:
        return tell_state(image)
