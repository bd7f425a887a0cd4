"""What the pages of channels, offers and their like share: inline rows that keep state columns, buttons that post."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from models_registry.backoffice import find_object, go_to
from providers.words import Dot

#: As unfold's own buttons look.
BUTTON = (
    "bg-white border border-base-200 cursor-pointer font-medium inline-flex items-center px-2.5 py-1.5 rounded-default "
    "shadow-xs text-important whitespace-nowrap hover:bg-base-100/80 dark:bg-transparent dark:border-base-700"
)
DOT = "display:inline-block;width:.5rem;height:.5rem;margin-right:2px;border-radius:9999px"
COLOURS = {"success": "bg-green-500", "warning": "bg-orange-500", "danger": "bg-red-500"}


class FormColumnsInlines(ModelAdmin):
    """An inline row writes the columns that were changed in it, and no other: routing moves its own meanwhile."""

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        formset.save(commit=False)
        for row in formset.deleted_objects:
            row.delete()
        for row in formset.new_objects:
            row.save()
        for row, changed in formset.changed_objects:
            columns = {column.name for column in row._meta.concrete_fields}
            row.save(update_fields=columns.intersection(changed))
        formset.save_m2m()


@dataclass(frozen=True, slots=True)
class Button:
    """Something that is done by one click, with a POST to an address of its own."""

    url: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """One fact; `level` colours its word: success, info, warning, danger."""

    subject: str
    text: str
    level: str = ""
    word: str = ""
    dots: tuple[Dot, ...] = ()

    @property
    def drawn_dots(self) -> SafeString:
        return render_dots(self.dots)


@dataclass(slots=True)
class Panel:
    """What stands above the form of an object: facts that nobody types, and what may be done about them."""

    title: str
    lines: list[Line] = field(default_factory=list)
    buttons: list[Button] = field(default_factory=list)


class PanelAdmin(ModelAdmin):
    """With a panel above the form. Its buttons have forms of their own: Enter in a field still saves."""

    change_form_outer_before_template = "admin/providers/panel.html"

    def make_panel(self, request: HttpRequest, obj: Any) -> Panel | None:
        raise NotImplementedError

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, obj: Any = None, **kwargs: Any) -> Any:
        context["panel"] = self.make_panel(request, obj) if obj is not None else None
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)


class ButtonsAdmin(ModelAdmin):
    """`buttons` names methods `(request, obj) -> None` that a POST to `<id>/<name>/` calls; they say what they did."""

    buttons: tuple[str, ...] = ()

    def may_press(self, request: HttpRequest) -> bool:
        return self.has_change_permission(request)

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(
                f"<path:object_id>/{name.replace('_', '-')}/",
                self.admin_site.admin_view(partial(self.press, name=name)),
                name=self.name_button(name),
            )
            for name in self.buttons
        ]
        return own + super().get_urls()

    def get_list_display(self, request: HttpRequest) -> Any:
        """Without a column of buttons for those who may not press them."""
        columns = super().get_list_display(request)
        return columns if self.may_press(request) else [column for column in columns if column != "button"]

    def name_button(self, name: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{name}"

    def press(self, request: HttpRequest, object_id: str, *, name: str) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.may_press(request):
            raise PermissionDenied
        obj = find_object(self, request, object_id)
        act: Callable[[HttpRequest, Any], None] = getattr(self, name)
        act(request, obj)
        if "list" in request.GET:
            return HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"))
        return go_to(self, obj)

    def link_button(self, obj: Any, name: str) -> str:
        return reverse(f"admin:{self.name_button(name)}", args=[quote(obj.pk)])

    def render_button(self, obj: Any, name: str, text: str) -> SafeString:
        """For a list without fields to type in: it posts the list's form, with its token, to the button's address."""
        url = f"{self.link_button(obj, name)}?list"
        return format_html('<button type="submit" formaction="{}" class="{}">{}</button>', url, BUTTON, text)


def render_dots(dots: tuple[Dot, ...]) -> SafeString:
    """A row of dots, each of which says more under the pointer."""
    drawn = format_html_join(
        "", '<span class="{}" style="{}" title="{}"></span>', ((COLOURS[dot.level], DOT, dot.title) for dot in dots)
    )
    return format_html('<span class="inline-flex flex-wrap">{}</span>', drawn)
