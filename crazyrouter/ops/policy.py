"""What a browser may do with our pages: the Content-Security-Policy of the public ones and of the admin.

Public pages load styles, scripts and fonts from here alone, and pictures from where files are served; nothing inline
runs, and no other site may frame them or be sent a form. The admin's theme evaluates expressions in its markup and
styles it inline, so it is allowed that, and nothing from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse

GetResponse = Callable[[HttpRequest], HttpResponseBase]

ADMIN = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
#: Nothing on any page asks for these.
PERMISSIONS = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


def set_policy(get_response: GetResponse) -> GetResponse:
    """Middleware. A view that has set a policy of its own keeps it."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        policy = ADMIN if request.path.startswith(find_admin()) else build_public(settings.PUBLIC_BASE_URL)
        response.headers.setdefault("Content-Security-Policy", write_policy(policy))
        response.headers.setdefault("Permissions-Policy", PERMISSIONS)
        return response

    return answer


@cache
def find_admin() -> str:
    return reverse("admin:index")


def build_public(base_url: str) -> Mapping[str, str]:
    """Pictures come from `base_url`, which need not be the address under which a page was reached."""
    parts = urlsplit(base_url)
    return {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "font-src": "'self'",
        "img-src": f"'self' data: blob: {parts.scheme}://{parts.netloc}",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }


def write_policy(directives: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {sources}" for name, sources in directives.items())
