"""Forms as a browser sends them: what the page shows, with a few fields typed over."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from django.contrib.admin.models import LogEntry
from django.test import Client


class Fields(HTMLParser):
    """The successful controls of a page; rows that a script would add (`__prefix__`) and buttons left out."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self._name = ""
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        name, kind = found.get("name", ""), found.get("type", "text")
        if tag in ("select", "textarea"):
            self._name, self._inside = name, tag
            self.take(name, "")
        elif tag == "option" and "selected" in found:
            self.take(self._name, found["value"])
        elif tag == "input" and kind not in ("submit", "file") and (kind != "checkbox" or "checked" in found):
            self.take(name, found.get("value", "on" if kind == "checkbox" else ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "textarea" and self._name:
            # A line break right after the tag is the template's, not the value's.
            self.take(self._name, (self.values.get(self._name, "") + data).removeprefix("\n"))

    def take(self, name: str, value: str) -> None:
        if name and "__prefix__" not in name:
            self.values[name] = value


def fill_in(client: Client, url: str, **typed: Any) -> dict[str, Any]:
    """The controls of the page at this address with their values, typed over with these."""
    fields = Fields()
    fields.feed(client.get(url).content.decode())
    return fields.values | typed


def read_errors(response: Any) -> str:
    """Everything the page complains about."""
    context = response.context
    said = [str(context["adminform"].form.errors)] if "adminform" in context else [str(context["form"].errors)]
    for inline in context.get("inline_admin_formsets", ()) or ():
        said += [str(inline.formset.errors), str(inline.formset.non_form_errors())]
    return " ".join(said)


def read_log(obj: Any) -> list[tuple[str, str]]:
    """(who, what) of everything recorded about an object, oldest first."""
    entries = LogEntry.objects.filter(object_id=str(obj.pk), content_type__model=obj._meta.model_name)
    return [(entry.user.get_username(), entry.get_change_message()) for entry in entries.order_by("id")]
