"""What customers wrote is forgotten after PROMPT_TTL_DAYS; what they paid for stays in the books."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from crazyrouter.generation.models import Generation

#: Options that are a customer's own words, or name an end user.
WORDS = ("negative_prompt", "user")


def erase_prompts(now: datetime | None = None, *, batch: int = 1000) -> int:
    """Erase the words of every generation that finished long enough ago; how many generations this run changed.

    Batches go by id and commit for themselves, so any number of runs may overlap or die half way. A rewritten
    prompt is the prompt in other words: it goes, too.
    """
    cutoff = (now or timezone.now()) - timedelta(days=settings.PROMPT_TTL_DAYS)
    finished = Generation.objects.filter(finished_at__lt=cutoff).exclude(state=Generation.State.RUNNING)
    wordy = finished.filter(~Q(prompt="") | Q(revised_prompts__isnull=False) | Q(options__has_any_keys=list(WORDS)))
    erased, after = 0, ""
    while rows := list(wordy.filter(id__gt=after).order_by("id").only("id", "options")[:batch]):
        erased += erase(wordy, rows)
        after = rows[-1].id
    return erased


def erase(wordy: QuerySet[Generation], rows: list[Generation]) -> int:
    """One statement for those without words in their options, one each for the others."""
    with_options = [row for row in rows if any(word in row.options for word in WORDS)]
    others = {row.id for row in rows} - {row.id for row in with_options}
    erased = wordy.filter(id__in=others).update(prompt="", revised_prompts=None)
    for row in with_options:
        kept = {name: value for name, value in row.options.items() if name not in WORDS}
        erased += wordy.filter(id=row.id).update(prompt="", revised_prompts=None, options=kept)
    return erased
