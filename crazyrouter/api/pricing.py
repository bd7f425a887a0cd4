"""The public price list: what an image of each model costs, to anybody who asks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse

from billing.usage import CURRENCY
from crazyrouter.api.errors import render_json
from crazyrouter.api.views import OpenView, describe_price
from crazyrouter.generation.runtime import get_runtime
from models_registry.catalog import Catalog, PublicModel, PublicPrice, load_catalog


class PricingView(OpenView):
    """GET /api/pricing: read from the database with each request, so that a change shows at once."""

    async def get(self, request: HttpRequest) -> HttpResponse:
        return render_json(describe_prices(await get_runtime().reader.read(load_catalog)))


def describe_prices(catalog: Catalog) -> dict[str, Any]:
    """The models of `GET /v1/models` in its order, without those that have no price and so are not on sale."""
    prices = [describe_offer(model, model.price) for model in catalog.values() if model.price is not None]
    return {"object": "list", "currency": CURRENCY, "data": prices}


def describe_offer(model: PublicModel, price: PublicPrice) -> dict[str, str]:
    return {
        "model": model.name,
        **describe_price(price),
        "effective_from": write_time(price.effective_from),
        "verification": model.verification,
    }


def write_time(moment: datetime) -> str:
    """ISO 8601 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
