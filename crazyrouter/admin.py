"""The admin's own tables in its own skin: who may enter, and what everybody did."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin as BaseGroupAdmin
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.models import Group, User
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from models_registry.backoffice import ReadOnlyAdmin

admin.site.unregister(User)
admin.site.unregister(Group)

FLAGS = {1: "added", 2: "changed", 3: "deleted"}


@admin.register(User)
class UserAdmin(BaseUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(BaseGroupAdmin, ModelAdmin):
    pass


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    list_display = ("action_time", "user", "what", "content_type", "object_repr", "said")
    list_filter = ("action_flag", "content_type", "user")
    list_select_related = ("user", "content_type")
    fields = ("action_time", "user", "what", "content_type", "object_repr", "object_id", "said")

    @display(description="What", label={"added": "success", "changed": "info", "deleted": "danger"})
    def what(self, entry: LogEntry) -> str:
        return FLAGS.get(entry.action_flag, str(entry.action_flag))

    @admin.display(description="Change")
    def said(self, entry: LogEntry) -> str:
        return entry.get_change_message()
