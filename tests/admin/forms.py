"""Forms as a browser sends them: what the page shows, with a few fields typed over."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

from django.contrib.admin.models import LogEntry
from django.test import Client


@dataclass(frozen=True)
class Button:
    """One that posts to an address of its own, its form's or one it names, with the form's hidden fields."""

    address: str
    words: str
    fields: dict[str, str]


class Buttons(HTMLParser):
    """All such buttons of a page, but the one in its corner that logs out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Button] = []
        self._form = ""
        self._fields: dict[str, str] = {}
        self._address = ""
        self._words: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        if tag == "form":
            self._form, self._fields = given.get("action", "") if given.get("method") == "post" else "", {}
        elif tag == "input" and given.get("type") == "hidden" and "name" in given:
            self._fields[given["name"]] = given.get("value", "")
        elif tag == "button":
            self._address, self._words = given.get("formaction", self._form), []

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = ""
        elif tag == "button" and self._words is not None:
            if self._address and not self._address.endswith("/logout/"):
                self.found.append(Button(self._address, " ".join(" ".join(self._words).split()), self._fields))
            self._words = None

    def handle_data(self, data: str) -> None:
        if self._words is not None:
            self._words.append(data)


def find_buttons(client: Client, page: str) -> list[Button]:
    buttons = Buttons()
    buttons.feed(client.get(page).content.decode())
    return buttons.found


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


def select(client: Client, changelist: str, action: str, *rows: Any) -> None:
    """Run an action of a list on these rows."""
    sent = {"action": action, "_selected_action": [row.pk for row in rows]}
    assert client.post(changelist, sent).status_code == 302


def list_buttons(client: Client, page: str) -> list[str]:
    return [button.words for button in find_buttons(client, page)]


def press(client: Client, page: str, words: str) -> Any:
    """The answer, its redirect followed, to the first button of the page that says this."""
    button = next(button for button in find_buttons(client, page) if button.words == words)
    return client.post(button.address, button.fields, follow=True)


def read_messages(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]
