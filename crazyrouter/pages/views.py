"""What anybody may read: no login, no cookie, nothing kept of who reads it.

Every page is made from the registry and the contract as they are at that moment, and asked for again by every browser,
which is told whether it has changed.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_control
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import conditional_page, require_safe
from django.views.decorators.vary import vary_on_headers

from crazyrouter.pages.docs import build_context, find_entry, write_doc, write_markdown
from crazyrouter.pages.examples import build_body, write_request
from crazyrouter.pages.facts import ModelFacts, Shop, load_shop
from crazyrouter.pages.markdown import render_markdown
from crazyrouter.pages.playground import build_playground
from crazyrouter.pages.site import list_pages

logger = logging.getLogger(__name__)

View = Callable[..., HttpResponse]
MARKDOWN = "text/markdown; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
#: What of a path is looked at, and told, that leads nowhere.
LONGEST_PATH = 200


def public_page(view: View) -> View:
    """GET and HEAD; kept by a browser only until it has asked whether the page is still the same.

    Nothing else does anything here, so that it is refused for its method, not for want of a token.
    """

    @csrf_exempt
    @require_safe
    @gzip_page
    @conditional_page
    @vary_on_headers("Accept-Encoding")
    @cache_control(public=True, no_cache=True)
    @wraps(view)
    def answer(request: HttpRequest, **arguments: Any) -> HttpResponse:
        return view(request, **arguments)

    return answer


# --- pages ---


@public_page
def show_home(request: HttpRequest) -> HttpResponse:
    """GET /"""
    context = build_context(load_shop())
    examples = render_markdown(context["request"]) if "request" in context else None
    return render(request, "pages/home.html", context | {"examples": examples})


@public_page
def show_models(request: HttpRequest) -> HttpResponse:
    """GET /models"""
    return render(request, "pages/models.html", {"area": "models", "shop": load_shop()})


@public_page
def show_model(request: HttpRequest, name: str) -> HttpResponse:
    """GET /models/{id}"""
    facts = get_model(load_shop(), name)
    examples = render_markdown(write_request(settings.PUBLIC_BASE_URL, build_body(facts)))
    return render(request, "pages/model.html", {"area": "models", "facts": facts, "examples": examples})


@public_page
def show_pricing(request: HttpRequest) -> HttpResponse:
    """GET /pricing"""
    return render(request, "pages/pricing.html", {"area": "pricing", "shop": load_shop()})


@public_page
def show_playground(request: HttpRequest) -> HttpResponse:
    """GET /playground; `?model=` chooses one."""
    chosen = request.GET.get("model", "")
    return render(request, "pages/playground.html", {"area": "playground", **build_playground(load_shop(), chosen)})


@public_page
def show_contents(request: HttpRequest) -> HttpResponse:
    """GET /docs/"""
    return render_doc(request, "index")


@public_page
def show_doc(request: HttpRequest, name: str) -> HttpResponse:
    """GET /docs/{name}"""
    return render_doc(request, name)


def render_doc(request: HttpRequest, name: str) -> HttpResponse:
    shop = load_shop()
    entry = find_entry(name, shop)
    if entry is None or request.path != entry.path:
        raise Http404
    document = render_markdown(write_doc(name, shop))
    return render(request, "pages/doc.html", {"area": "docs", "entry": entry, "document": document, "shop": shop})


def get_model(shop: Shop, name: str) -> ModelFacts:
    facts = shop.find_model(name)
    if facts is None:
        raise Http404
    return facts


# --- the same for programs ---


@public_page
def show_models_text(request: HttpRequest) -> HttpResponse:
    """GET /models.md"""
    return HttpResponse(write_markdown("pages/models.md", build_context(load_shop())), content_type=MARKDOWN)


@public_page
def show_model_text(request: HttpRequest, name: str) -> HttpResponse:
    """GET /models/{id}.md"""
    return HttpResponse(write_model(get_model(load_shop(), name)), content_type=MARKDOWN)


@public_page
def show_pricing_text(request: HttpRequest) -> HttpResponse:
    """GET /pricing.md"""
    return HttpResponse(write_markdown("pages/pricing.md", build_context(load_shop())), content_type=MARKDOWN)


@public_page
def show_doc_text(request: HttpRequest, name: str) -> HttpResponse:
    """GET /docs/{name}.md"""
    shop = load_shop()
    if find_entry(name, shop) is None:
        raise Http404
    return HttpResponse(write_doc(name, shop), content_type=MARKDOWN)


@public_page
def show_llms(request: HttpRequest) -> HttpResponse:
    """GET /llms.txt: what there is to read, for programs."""
    return HttpResponse(write_markdown("pages/llms.txt", build_context(load_shop())), content_type=TEXT)


@public_page
def show_llms_full(request: HttpRequest) -> HttpResponse:
    """GET /llms-full.txt: all of it."""
    shop = load_shop()
    parts = [write_doc(entry.path.removeprefix("/docs/"), shop) for entry in shop.docs]
    parts += [write_model(facts) for facts in shop.models]
    parts.append(write_markdown("pages/pricing.md", build_context(shop)))
    return HttpResponse("\n---\n\n".join(parts), content_type=TEXT)


def write_model(facts: ModelFacts) -> str:
    request = write_request(settings.PUBLIC_BASE_URL, build_body(facts))
    return write_markdown("pages/model.md", {"facts": facts, "request": request})


@public_page
def show_sitemap(request: HttpRequest) -> HttpResponse:
    """GET /sitemap.xml"""
    context = {"base_url": settings.PUBLIC_BASE_URL, "pages": load_shop().pages}
    return render(request, "pages/sitemap.xml", context, content_type="application/xml")


@public_page
def show_robots(request: HttpRequest) -> HttpResponse:
    """GET /robots.txt: the pages are for everybody, pictures and the admin are not."""
    return render(request, "pages/robots.txt", {"base_url": settings.PUBLIC_BASE_URL}, content_type=TEXT)


# --- what is not there ---


def show_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """What could have been meant, and where everything is; without a database, what does not come from it."""
    try:
        pages = load_shop().pages
    except AnyDatabaseError:
        logger.exception("a page that is not there is answered without the registry")
        pages = [*list_pages([], [])]
    paths = {page.path: page for page in pages}
    path = request.path[:LONGEST_PATH]
    near = difflib.get_close_matches(path, paths, n=3, cutoff=0.55)
    context = {"path": path, "near": [paths[path] for path in near], "pages": pages}
    response = render(request, "404.html", context, status=404)
    response.headers["Cache-Control"] = "no-store"
    return response
