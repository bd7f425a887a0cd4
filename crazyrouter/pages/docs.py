"""The documentation: Markdown templates filled with what the product goes by, so that no page can say anything else.

`templates/docs/NAME.md` is the page `/docs/NAME`; `templates/docs/family.md` is the page of every model family.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string

from crazyrouter.api.errors import KINDS
from crazyrouter.api.generations import MOST_LISTED
from crazyrouter.api.preferences import LONGEST_KEY
from crazyrouter.files.faults import FAULTS
from crazyrouter.generation.journal.answers import JOIN_WINDOW_S
from crazyrouter.generation.journal.keys import KEY_LIFE_S
from crazyrouter.generation.outcomes import TABLE
from crazyrouter.pages.examples import USUAL_SIZE, build_body, choose_example, write_request
from crazyrouter.pages.facts import FamilyFacts, Shop
from crazyrouter.pages.outcomes import describe_errors, describe_outcomes
from crazyrouter.pages.parameters import list_ignored, list_parameters
from crazyrouter.pages.reference import read_reference
from crazyrouter.pages.site import CONTENTS, DOCS, Entry

BLANK_LINES = re.compile(r"\n{3,}")
FAMILY = "images/"
REFERENCE = "api"
#: What examples name while there is no model to name.
NOTHING_ON_SALE = {"example": {"model": {"name": "MODEL"}}, "body": {"size": USUAL_SIZE}}


def find_entry(name: str, shop: Shop) -> Entry | None:
    """The page of this name below /docs/; None where there is none."""
    if name == "index":
        return CONTENTS
    if name.startswith(FAMILY):
        family = shop.find_family(name.removeprefix(FAMILY))
        return family.entry if family else None
    return DOCS[name].entry if name in DOCS else None


def write_doc(name: str, shop: Shop) -> str:
    """The page as Markdown; `name` is one that `find_entry` knows."""
    family = shop.find_family(name.removeprefix(FAMILY)) if name.startswith(FAMILY) else None
    template = "docs/family.md" if family else f"docs/{name}.md"
    context = build_context(shop, family)
    if name == REFERENCE:
        context["reference"] = read_reference()
    return write_markdown(template, context)


def write_markdown(template: str, context: Mapping[str, Any]) -> str:
    """Tags that stand alone in a line leave it empty: never more than one empty line is kept."""
    return BLANK_LINES.sub("\n\n", render_to_string(template, dict(context))).strip() + "\n"


def build_context(shop: Shop, family: FamilyFacts | None = None) -> dict[str, Any]:
    """What a template may say."""
    models = family.models if family else shop.models
    context: dict[str, Any] = {
        "shop": shop,
        "family": family,
        "models": models,
        "base_url": settings.PUBLIC_BASE_URL,
        "outcomes": describe_outcomes(TABLE),
        "errors": describe_errors(KINDS),
        "file_errors": sorted(FAULTS.items(), key=lambda item: item[1].status),
        "parameters": list_parameters(),
        "ignored": list_ignored(),
        "limits": build_limits(),
    }
    if not models:
        return context | NOTHING_ON_SALE
    example = choose_example(models)
    body = build_body(example)
    return context | {"example": example, "body": body, "request": write_request(settings.PUBLIC_BASE_URL, body)}


def build_limits() -> dict[str, Any]:
    """Bounds and times of the whole product, in the unit that the name says."""
    return {
        "body_kib": settings.MAX_BODY_BYTES // 1024,
        "deadline_s": f"{settings.GENERATION_DEADLINE_S:g}",
        "queue_s": f"{settings.QUEUE_LIMIT_S:g}",
        "file_hours": f"{settings.FILE_TTL_HOURS:g}",
        "prompt_days": f"{settings.PROMPT_TTL_DAYS:g}",
        "key_hours": KEY_LIFE_S // 3600,
        "longest_key": LONGEST_KEY,
        "join_minutes": JOIN_WINDOW_S // 60,
        "most_listed": MOST_LISTED,
    }
