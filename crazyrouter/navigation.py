"""How the admin looks and where it leads: the settings of django-unfold. A leaf, like the settings that take it in."""

from __future__ import annotations

from typing import Any

from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.module_loading import import_string


def link_admin(title: str, icon: str, model: str, *, sees: str = "", badge: Any = None) -> dict[str, Any]:
    """One line of the admin's navigation, for those who may see its rows, or `sees`; `model` is `app.model`.

    `badge` counts what needs a person; 0 shows none.
    """
    app, _, name = model.partition(".")
    return {
        "badge": badge,
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{name}_changelist"),
        "permission": lambda request: request.user.has_perm(sees or f"{app}.view_{name}"),
    }


def count_open_alerts() -> int:
    """For the template of the navigation, which calls it."""
    return import_string("providers.admin_alerts.count_open_alerts")()


UNFOLD = {
    "SITE_TITLE": "Crazyrouter",
    "SITE_HEADER": "Crazyrouter",
    "SITE_SUBHEADER": "Image generation",
    "SITE_SYMBOL": "imagesmode",
    "STYLES": [lambda request: static("crazyrouter/admin.css")],
    # No icon, said in the page: a browser would ask for /favicon.ico otherwise, and be told 404.
    "SITE_FAVICONS": [{"rel": "icon", "href": lambda request: "data:,"}],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    # A red label on every page while the last check of the books says that they are wrong, or alerts are open.
    "ENVIRONMENT": "crazyrouter.generation.admin_warnings.warn_of_trouble",
    # A generation's id, a key's prefix or an account's name, from every page.
    "COMMAND": {"search_models": ["generation.Generation", "billing.ApiKey", "billing.Account"]},
    "SIDEBAR": {
        "show_search": True,
        "command_search": True,
        "navigation": [
            {
                "title": "Catalog",
                "items": [
                    link_admin("Models", "imagesmode", "models_registry.imagemodel"),
                    link_admin("Families", "category", "models_registry.modelfamily"),
                    link_admin("Prices", "sell", "models_registry.price"),
                    link_admin("Verification", "verified", "models_registry.verification"),
                ],
            },
            {
                "title": "Channels",
                "items": [
                    link_admin("Channels", "hub", "providers.channel"),
                    link_admin("Offers", "route", "providers.offer"),
                    link_admin("Upstream accounts", "speed", "providers.upstreamaccount"),
                    link_admin("Swaps", "swap_horiz", "providers.swap"),
                    link_admin("Alerts", "notifications", "providers.alert", badge=count_open_alerts),
                ],
            },
            {
                "title": "Billing",
                "items": [
                    link_admin("Accounts", "account_balance_wallet", "billing.account"),
                    link_admin("API keys", "key", "billing.apikey"),
                    link_admin("Agreed prices", "handshake", "billing.accountprice"),
                    link_admin("Ledger", "receipt_long", "billing.ledgerentry"),
                    link_admin("Bookings", "approval", "billing.booking"),
                    link_admin("Holds", "lock_clock", "billing.hold"),
                    link_admin("Checks of the books", "fact_check", "generation.bookscheck"),
                    link_admin("Exports", "download", "billing.export", sees="billing.view_ledgerentry"),
                    link_admin("Closed months", "lock", "billing.closedmonth", sees="billing.view_ledgerentry"),
                ],
            },
            {
                "title": "Traffic",
                "items": [
                    link_admin("Generations", "bolt", "generation.generation"),
                    link_admin("Waiting calls", "hourglass_top", "generation.waitingcall"),
                    link_admin("Stored images", "photo_library", "files.storedimage"),
                ],
            },
            {
                "title": "Administration",
                "items": [
                    link_admin("Users", "person", "auth.user"),
                    link_admin("Groups", "group", "auth.group"),
                    link_admin("Audit log", "history", "admin.logentry"),
                ],
            },
        ],
    },
}
