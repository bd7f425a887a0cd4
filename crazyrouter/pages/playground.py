"""What the playground needs to know of the models before anybody has entered a key."""

from __future__ import annotations

from typing import Any

from crazyrouter.pages.facts import Shop


def build_playground(shop: Shop, chosen: str) -> dict[str, Any]:
    """`chosen` is a model's public id; any other text chooses the first."""
    models = [facts for facts in shop.models if facts.price]
    first = models[0] if models else None
    return {"models": models, "chosen": next((one for one in models if one.model.name == chosen), first)}
