"""What the admin pages of all apps share: read-only lists, saves that touch only their form, pages for operations."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin import ShowFacets
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from simple_history.admin import SimpleHistoryAdmin
from simple_history.models import DeletedObject
from simple_history.template_utils import HistoricalRecordContextHelper
from unfold.admin import ModelAdmin, TabularInline
from unfold.widgets import UnfoldAdminTextareaWidget

from models_registry.long_lists import CappedPaginator, FixedOrderChangeList

#: Notes and options are a few lines, not a page.
SHORT_TEXTS: dict[Any, dict[str, Any]] = {
    kind: {"widget": UnfoldAdminTextareaWidget(attrs={"rows": 3})} for kind in (models.TextField, models.JSONField)
}


class FormColumnsAdmin(ModelAdmin):
    """A change writes the columns of its form and no other.

    Django's own save writes the whole row as it was when it was read, and so would take back what others moved
    meanwhile: a balance, what a key has spent, a verification.
    """

    formfield_overrides = SHORT_TEXTS

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            super().save_model(request, obj, form, change)
            return
        obj._history_user = request.user
        columns = [field.name for field in obj._meta.concrete_fields if not field.primary_key]
        obj.save(update_fields=[name for name in columns if name in form.fields])


class RecordedAdmin(FormColumnsAdmin, SimpleHistoryAdmin, ModelAdmin):
    """With a history of every version, who made it, and a way back to it."""

    def history_form_view(
        self, request: HttpRequest, object_id: str, version_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        # django-simple-history lets whoever may look at a version also post it.
        if request.method == "POST" and not self.has_change_permission(request):
            raise PermissionDenied
        return super().history_form_view(request, object_id, version_id, extra_context)

    def get_historical_record_context_helper(self, request: HttpRequest, historical_record: Any) -> VersionWords:
        return VersionWords(self.model, historical_record)

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """A version that comes back differs in nothing from its own form; what happened is that it came back."""
        match = request.resolver_match
        if match is None or match.url_name != f"{self.opts.app_label}_{self.opts.model_name}_simple_history":
            return super().construct_change_message(request, form, formsets, add)
        moment = timezone.localtime(self.model.history.get(history_id=match.args[1]).history_date)
        changed = ", ".join(form.changed_data)
        return f"Back to the version of {moment:%Y-%m-%d %H:%M:%S}" + (f", but for {changed}" if changed else "")


class VersionWords(HistoricalRecordContextHelper):
    """What changed from one version to the next."""

    def prepare_delta_change_value(self, change: Any, value: Any) -> Any:
        # django-simple-history calls a relation that was empty a deleted object without a key.
        if isinstance(value, DeletedObject) and value.pk is None:
            return "–"
        return super().prepare_delta_change_value(change, value)


class AppendOnlyMixin:
    """Rows that may be added by those with the right, but neither changed nor deleted by anybody."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyMixin(AppendOnlyMixin):
    """Rows that only the product writes."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(ReadOnlyMixin, ModelAdmin):
    """Nothing on the page counts all rows for decoration."""

    paginator = CappedPaginator
    list_per_page = 50
    show_full_result_count = False
    show_facets = ShowFacets.NEVER

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The heading counts what a filter or a search found; of everything the foot of the page says the number."""
        found = super().get_changelist_instance(request)
        if not found.query and not found.has_active_filters:
            found.full_result_count = found.result_count
        return found


class TrafficAdmin(ReadOnlyAdmin):
    """For tables that grow with the traffic: always in the order of an index."""

    sortable_by = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[FixedOrderChangeList]:
        return FixedOrderChangeList


class ReadOnlyInline(ReadOnlyMixin, TabularInline):
    extra = 0
    hide_title = True

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields


def find_object(admin: ModelAdmin, request: HttpRequest, object_id: str) -> Any:
    """The object of a page under `<object_id>/`, or 404."""
    obj = admin.get_object(request, object_id)
    if obj is None:
        raise Http404(f"there is no {admin.opts.verbose_name} {object_id}")
    return obj


def go_to(admin: ModelAdmin, obj: Model) -> HttpResponse:
    """Back to the object's own page."""
    return HttpResponseRedirect(link_to(admin, obj))


def link_to(admin: ModelAdmin, obj: Model) -> str:
    opts = admin.opts
    return reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=[quote(obj.pk)])


def show_operation(
    admin: ModelAdmin, request: HttpRequest, *, obj: Model, form: forms.Form, title: str, intro: str, submit: str
) -> HttpResponse:
    """The page that asks what an operation on one object needs to know; it posts to its own address."""
    context = {
        **admin.admin_site.each_context(request),
        "opts": admin.opts,
        "original": obj,
        "title": title,
        "form": form,
        "intro": intro,
        "submit_text": submit,
        "back": link_to(admin, obj),
        "media": admin.media + form.media,
    }
    return TemplateResponse(request, "admin/operation.html", context)


def change_each(admin: ModelAdmin, request: HttpRequest, rows: QuerySet[Any], message: str, **values: Any) -> int:
    """Set columns on each row that differs, one `save` each, so that its history names who did it. How many did."""
    changed = 0
    for row in rows:
        if all(getattr(row, name) == value for name, value in values.items()):
            continue
        for name, value in values.items():
            setattr(row, name, value)
        row._history_user = request.user
        row.save(update_fields=list(values))
        admin.log_change(request, row, message)
        changed += 1
    return changed
