"""The channels' admin with the calls that run there: whether a drain is through is known here, and not below."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.views import ChangeList

from crazyrouter.generation.admin_credentials import OldCredentialsAdmin
from crazyrouter.generation.drains import count_running_calls
from providers.models import Channel

admin.site.unregister(Channel)


class RunningCallsList(ChangeList):
    """Counted for the draining channels of the page, all at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        counts = count_running_calls([channel.pk for channel in self.result_list if channel.draining_since])
        for channel in self.result_list:
            channel.running_calls = counts.get(channel.pk, 0)


@admin.register(Channel)
class ChannelAdmin(OldCredentialsAdmin):
    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RunningCallsList

    def count_calls(self, channels: list[Channel]) -> dict[int, int]:
        return count_running_calls([channel.pk for channel in channels])
