"""What every page of the admin says at its top while something needs a person."""

from __future__ import annotations

from django.http import HttpRequest

from crazyrouter.generation.admin_checks import warn_of_violations
from providers.admin_alerts import warn_of_alerts


def warn_of_trouble(request: HttpRequest) -> tuple[str, str] | None:
    """Books that are wrong first, then open alerts: the words of one label, and its colour."""
    books, alerts = warn_of_violations(request), warn_of_alerts(request)
    said = [words for words in (books and books[0], alerts) if words]
    return (" · ".join(said), "danger") if said else None
