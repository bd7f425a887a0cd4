"""The admin of everything between us and the carriers, by subject."""

from __future__ import annotations

from providers import admin_accounts, admin_alerts, admin_channels, admin_offers, admin_swaps

__all__ = ["admin_accounts", "admin_alerts", "admin_channels", "admin_offers", "admin_swaps"]
