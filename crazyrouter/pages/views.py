"""What anybody may read."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from crazyrouter.api.errors import KINDS
from crazyrouter.api.preferences import LONGEST_KEY
from crazyrouter.generation.journal.answers import JOIN_WINDOW_S
from crazyrouter.generation.journal.keys import KEY_LIFE_S
from crazyrouter.generation.outcomes import TABLE
from crazyrouter.pages.outcomes import describe_errors, describe_outcomes


@require_safe
@cache_control(public=True, max_age=300)
def show_errors(request: HttpRequest) -> HttpResponse:
    """GET /docs/errors"""
    return render(
        request,
        "pages/errors.html",
        {
            "outcomes": describe_outcomes(TABLE),
            "errors": describe_errors(KINDS),
            "base_url": settings.PUBLIC_BASE_URL,
            "key_hours": KEY_LIFE_S // 3600,
            "longest_key": LONGEST_KEY,
            "join_minutes": JOIN_WINDOW_S // 60,
            "deadline_s": settings.GENERATION_DEADLINE_S,
            "file_hours": settings.FILE_TTL_HOURS,
        },
    )
