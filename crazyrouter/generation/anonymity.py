"""Words that no customer may read: carriers' names and hosts, and whatever names a channel."""

from __future__ import annotations

import re

from providers.routing import Route

#: Public model ids and the word Qwen are not among them.
FORBIDDEN = re.compile(
    r"dash\s?scope|ali(?:baba|yun|cloud)|bailian|model\s?studio|wanx|tongyi|通义|阿里|百炼|"
    r"fal\.(?:ai|run)|silicon\s?flow|modelscope|wavespeed|replicate\.com|new.?api|one.?api|\boss-",
    re.IGNORECASE,
)
LONGEST_REVISED_PROMPT = 4000


def keep_revised_prompt(text: str | None, route: Route) -> str | None:
    """A carrier's rewrite of the prompt, or nothing if it is too long or would show who rewrote it."""
    if not text or len(text) > LONGEST_REVISED_PROMPT or FORBIDDEN.search(text):
        return None
    names = (route.channel_name, route.upstream_model)
    return None if any(name.lower() in text.lower() for name in names if len(name) > 3) else text
