"""The channels' admin with what becomes of old secrets: whether one is still needed is known here, and not below."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from crazyrouter.generation.rotation import Old, delete_unused_credentials, list_old
from providers.admin_channels import ChannelAdmin, CredentialInline, OfferInline
from providers.admin_rows import Button, Line, Panel
from providers.models import Channel, Credential


class KeptCredentialInline(CredentialInline):
    fields: Any = ("key", "secret", "created_at")

    @admin.display(description="Secret")
    def secret(self, credential: Credential) -> str:
        return "kept, encrypted" if credential.ciphertext else "deleted"


class OldCredentialsAdmin(ChannelAdmin):
    """Old keys stand above the form of their channel, each with what still needs it, or to be deleted."""

    inlines = (OfferInline, KeptCredentialInline)
    buttons: Any = (*ChannelAdmin.buttons, "delete_old_keys")
    actions: Any = (*ChannelAdmin.actions, "delete_keys_of_channels")

    def make_panel(self, request: HttpRequest, obj: Channel) -> Panel:
        panel, found = super().make_panel(request, obj), list_old([obj])
        panel.lines += [Line("Old key", tell_need(old)) for old in found]
        if self.may_press(request) and not all(old.needed for old in found):
            panel.buttons.append(Button(self.link_button(obj, "delete_old_keys"), "Delete old keys"))
        return panel

    @admin.action(description="Delete old keys that nothing needs", permissions=["change"])
    def delete_keys_of_channels(self, request: HttpRequest, channels: QuerySet[Channel]) -> None:
        for channel in channels:
            self.delete_old_keys(request, channel)

    def delete_old_keys(self, request: HttpRequest, channel: Channel) -> None:
        deleted, kept = delete_unused_credentials([channel])
        for credential in deleted:
            self.log_change(request, channel, f"Old key {credential} deleted")
        if deleted:
            said = (
                f"{channel}: {', '.join(map(str, deleted))} deleted. Attempts still say which key they were sent with."
            )
            self.message_user(request, said, messages.SUCCESS)
        for old in kept:
            self.message_user(request, f"{channel}: {tell_need(old)}", messages.WARNING)
        if not deleted and not kept:
            self.message_user(request, f"{channel} has no old key.")


def tell_need(old: Old) -> str:
    return f"{old.credential} stays: {old.needed}" if old.needed else f"{old.credential} is needed by nothing"
