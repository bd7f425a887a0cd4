"""The models' admin with how their offers have done: a page of figures, which also go into the record of every move.

What was tried where is known here, and not below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.decorators import action

from crazyrouter.generation.evidence import DAYS, Comparison, Evidence, Figures, gather_evidence
from models_registry.admin import ImageModelAdmin as QuietImageModelAdmin
from models_registry.backoffice import find_object, link_to
from models_registry.long_lists import NEWEST
from models_registry.models import ImageModel
from providers.words import count, describe_ms

admin.site.unregister(ImageModel)

CALLS = ["Offer", "Role", "Calls", "Succeeded", "Images", "Mean", "95 % within", "Wrong size", "Failures"]
COPIES = [
    "Shadow",
    "Copies",
    "Both served",
    "Only the customer",
    "Only the copy",
    "Neither",
    "Sizes",
    "Customer",
    "Copy",
]
NOTHING = "–"


@admin.register(ImageModel)
class ImageModelAdmin(QuietImageModelAdmin):
    actions_detail: Any = (*QuietImageModelAdmin.actions_detail, "evidence")

    @action(description="Evidence", url_path="evidence", icon="query_stats", permissions=["see_evidence"])
    def evidence(self, request: HttpRequest, object_id: str) -> HttpResponse:
        model = find_object(self, request, object_id)
        days = read_days(request)
        found = gather_evidence(model, days=days)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": model,
            "title": f"Evidence: {model}",
            "evidence": found,
            "newest": NEWEST,
            "calls": {"headers": CALLS, "rows": [render_figures(one) for one in found.figures]},
            "copies": {"headers": COPIES, "rows": [render_comparison(one) for one in found.comparisons]},
            "spans": [(one, one == days) for one in sorted(DAYS)],
            "back": link_to(self, model),
            "media": self.media,
        }
        return TemplateResponse(request, "admin/generation/evidence.html", context)

    def has_see_evidence_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Channels stand there by name, with all that went wrong."""
        return self.has_view_permission(request) and request.user.has_perm("generation.view_generation")

    def list_evidence(self, model: ImageModel) -> list[str]:
        return list(tell_evidence(gather_evidence(model)))


def read_days(request: HttpRequest) -> int:
    """Those of the address; the usual ones for any that are not offered."""
    asked = request.GET.get("days", "")
    return int(asked) if asked in map(str, DAYS) else DAYS[0]


# --- on the page ---


def render_figures(one: Figures) -> list[Any]:
    return [
        link_offer(one.offer_id, one.channel, one.upstream_model),
        one.role,
        f"{one.calls:,}" + (f" ({one.running:,} running)" if one.running else ""),
        tell_rate(one),
        f"{one.images:,} of {one.wanted:,}",
        tell_ms(one.mean_ms),
        tell_ms(one.p95_ms),
        f"{one.wrong_size:,}",
        tell_failures(one.failures) or NOTHING,
    ]


def render_comparison(one: Comparison) -> list[Any]:
    return [
        link_offer(one.offer_id, one.channel, one.upstream_model),
        f"{one.copies:,}",
        f"{one.both:,}",
        f"{one.customer_only:,}",
        f"{one.copy_only:,}",
        f"{one.neither:,}",
        f"{one.as_asked:,} of {one.pictures:,} as asked",
        tell_ms(one.customer_ms),
        tell_ms(one.copy_ms),
    ]


def link_offer(offer_id: int | None, channel: str, upstream_model: str) -> Any:
    if offer_id is None:
        return f"{channel}: {upstream_model}, deleted"
    page = reverse("admin:providers_offer_change", args=[offer_id])
    return format_html('<span><a class="text-link" href="{}">{}</a>: {}</span>', page, channel, upstream_model)


# --- in words ---


def tell_evidence(found: Evidence) -> Iterator[str]:
    """A line for the time, one for each offer and role, one for each shadow; nothing where nothing was tried."""
    if not found.figures:
        return
    at = timezone.localtime(found.at)
    newest = "" if found.window.whole else f", among the newest {NEWEST:,} generations"
    yield f"Evidence of the last {count(found.window.days, 'day')}{newest}, as of {at:%Y-%m-%d %H:%M %Z}:"
    yield from map(tell_figures, found.figures)
    yield from map(tell_comparison, found.comparisons)


def tell_figures(one: Figures) -> str:
    """`official (qwen-image-max), customer: 1,204 calls, 99.2 % succeeded, 1,300 of 1,310 images, …`."""
    said = [count(one.calls, "call")]
    if one.judged:
        said.append(f"{tell_rate(one)} succeeded")
    said.append(f"{one.images:,} of {count(one.wanted, 'image')}")
    if one.mean_ms is not None:
        said.append(f"mean {tell_ms(one.mean_ms)}")
        said.append(f"95 % within {tell_ms(one.p95_ms)}")
    said.append(f"{one.wrong_size:,} of a wrong size")
    failures = tell_failures(one.failures)
    return f"{one.channel} ({one.upstream_model}), {one.role}: {', '.join(said)}" + (
        f"; failures: {failures}" if failures else ""
    )


def tell_comparison(one: Comparison) -> str:
    """`trial (qwen-image-max), of 40 requests: 38 served by both, 2 by the customer's channel only, …`."""
    said = [
        f"{one.both:,} served by both",
        f"{one.customer_only:,} by the customer's channel only",
        f"{one.copy_only:,} by the copy only",
        f"{one.neither:,} by neither",
        f"{one.as_asked:,} of {count(one.pictures, 'picture')} in the size asked for",
    ]
    if one.both:
        said.append(f"customers waited {tell_ms(one.customer_ms)}, copies took {tell_ms(one.copy_ms)}")
    return f"{one.channel} ({one.upstream_model}), of {count(one.copies, 'copied request')}: {', '.join(said)}"


def tell_rate(one: Figures) -> str:
    """Cut, not rounded: 100 % means that none failed."""
    return NOTHING if not one.judged else f"{one.succeeded * 1000 // one.judged / 10:.1f} %"


def tell_ms(milliseconds: int | None) -> str:
    return NOTHING if milliseconds is None else describe_ms(milliseconds)


def tell_failures(failures: Mapping[str, int]) -> str:
    return ", ".join(f"{code} {times:,}" for code, times in failures.items())
