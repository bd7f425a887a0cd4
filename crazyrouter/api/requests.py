"""From an HTTP request to an order: who asks, what was sent, and whether the model allows it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from billing.keys import LONGEST, KeyIdentity
from billing.limits import allows_model, allows_network
from billing.prices import quote_unit
from crazyrouter.api.errors import ApiError
from crazyrouter.generation.ids import new_id
from crazyrouter.generation.order import Idempotency, Order
from crazyrouter.generation.snapshot import Snapshot, View
from models_registry.catalog import PublicModel
from models_registry.limits import Refused, check_length, check_n, choose_render_size, choose_size

#: What is passed on to upstreams, as they know it.
FORWARDED = ("negative_prompt", "seed", "prompt_extend", "watermark", "user")


async def authenticate(request: HttpRequest, snapshot: Snapshot, view: View) -> KeyIdentity:
    """The caller. Unknown, expired and revoked keys get the same words."""
    scheme, _, secret = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret or len(secret) > LONGEST:
        raise ApiError("invalid_api_key")
    identity = await snapshot.identify(view, secret)
    if identity is None or (identity.expires_at is not None and identity.expires_at <= timezone.now()):
        raise ApiError("invalid_api_key")
    if identity.account_suspended:
        raise ApiError("account_suspended")
    if identity.networks and not allows_network(identity.networks, find_address(request)):
        raise ApiError("ip_not_allowed")
    return identity


def find_address(request: HttpRequest) -> str:
    """Where the request came from: the peer, or what the outermost of our own proxies saw.

    Each proxy appends the address that it saw; whatever stands before those of TRUSTED_PROXY_COUNT is a client's claim.
    A request with fewer entries than that did not come through all of them, and is taken for its peer's.
    """
    peer = str(request.META.get("REMOTE_ADDR") or "")
    count = settings.TRUSTED_PROXY_COUNT
    seen = [part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
    return strip_port(seen[-count]) if 0 < count <= len(seen) else peer


def strip_port(text: str) -> str:
    """Some proxies append the port: `192.0.2.1:4711`, `[2001:db8::1]:4711`."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def read_json(request: HttpRequest) -> Any:
    """The parsed body. NaN, invalid UTF-8, lone surrogates and trailing bytes are not JSON."""
    if request.content_type != "application/json":
        raise ApiError("unsupported_media_type")
    try:
        return orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise ApiError("invalid_json", f"The request body is not valid JSON: {error.msg}.") from None


def find_model(view: View, name: str) -> PublicModel:
    model = view.catalog.get(name)
    if model is None:
        raise ApiError("model_not_found", f"The model '{name[:64]}' does not exist.", param="model")
    return model


def build_order(
    values: Mapping[str, Any],
    identity: KeyIdentity,
    view: View,
    *,
    request_hash: str,
    idempotency: Idempotency | None = None,
) -> Order:
    """Everything checked, everything frozen; nothing is written yet. Raises ApiError."""
    model = find_model(view, values["model"])
    if not allows_model(identity.allowed_models, model.name):
        raise ApiError("model_not_allowed", param="model")
    try:
        size, n = check_limits(model, values)
    except Refused as refused:
        raise ApiError(refused.code, str(refused), param=refused.param) from None
    if model.price is None:
        raise ApiError("model_unavailable")
    agreed = identity.prices.get(model.id)
    return Order(
        id=new_id("gen"),
        account_id=identity.account_id,
        api_key_id=identity.key_id,
        key_prefix=identity.prefix,
        model_id=model.id,
        model_name=model.name,
        unit_price_micros=quote_unit(model.price.amount_micros, agreed),
        price_version=model.price.version,
        account_price_version=agreed.version if agreed else None,
        prompt=values["prompt"],
        options={name: values[name] for name in FORWARDED if name in values},
        size=size,
        render_size=choose_render_size(model, size),
        n=n,
        response_format=values.get("response_format", "url"),
        request_hash=request_hash,
        luck=random.random(),  # noqa: S311 - no secret
        shadow_allowed=identity.shadow_allowed,
        idempotency=idempotency,
    )


def find_size_text(view: View, values: Mapping[str, Any]) -> str | None:
    """The size that the body means today, the model's default included; None if it means none."""
    model = view.catalog.get(values["model"])
    if model is None:
        return None
    try:
        return "{}x{}".format(*choose_size(model, values.get("size")))
    except Refused:
        return None


def check_limits(model: PublicModel, values: Mapping[str, Any]) -> tuple[tuple[int, int], int]:
    """The public size and n. Raises Refused."""
    check_length("prompt", values["prompt"], model.prompt_limit)
    check_length("negative_prompt", values.get("negative_prompt", ""), model.negative_prompt_limit)
    return choose_size(model, values.get("size")), check_n(model, values.get("n", 1))
