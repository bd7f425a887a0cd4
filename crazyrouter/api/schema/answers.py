"""Serializers of the answers, for the description alone: what is sent is written by `rendering` and its neighbours.

The docstrings and help texts are public. Every answer that a test gets is held against them.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import Direction
from rest_framework import serializers

from billing.usage import CURRENCY
from crazyrouter.api.errors import KINDS
from crazyrouter.api.views import UNIT
from crazyrouter.files.faults import FAULTS
from crazyrouter.generation.models import Generation as GenerationRow
from models_registry.models import ImageModel

AMOUNT = r"^-?[0-9]+\.[0-9]{2,6}$"
CODES = sorted({*KINDS, *FAULTS})
TYPES = sorted({kind.type for kind in KINDS.values()} | {fault.type for fault in FAULTS.values()})


def only(word: str) -> serializers.ChoiceField:
    return serializers.ChoiceField(choices=[word], help_text=f"Always `{word}`.")


def money(help_text: str) -> serializers.RegexField:
    return serializers.RegexField(AMOUNT, help_text=f"{help_text} A decimal with two to six places, as text.")


def currency() -> serializers.ChoiceField:
    return serializers.ChoiceField(choices=[CURRENCY], help_text="Of every amount.")


# --- errors ---


class ErrorBody(serializers.Serializer):
    """What went wrong."""

    message = serializers.CharField(help_text="For people. The words may change; decide by `code`.")
    type = serializers.ChoiceField(choices=TYPES, help_text="The class of the error, as OpenAI's SDKs know them.")
    param = serializers.CharField(allow_null=True, help_text="The field, parameter or header at fault, if one is.")
    code = serializers.ChoiceField(choices=CODES, help_text="What went wrong, for programs.")
    generation_id = serializers.CharField(
        required=False, help_text="Only with `generation_timeout`: where the images can be collected later."
    )


class Error(serializers.Serializer):
    """Every error of the API comes in this envelope."""

    error = ErrorBody()


# --- images ---


class Image(serializers.Serializer):
    """One image: its address or its bytes, as `response_format` asked."""

    url = serializers.URLField(
        required=False, help_text="Where the PNG can be fetched until it expires. No key needed."
    )
    b64_json = serializers.CharField(required=False, help_text="The PNG, base64.")
    revised_prompt = serializers.CharField(required=False, help_text="The prompt as it was rewritten, if it was.")


class GenerationImage(Image):
    """One image of a generation that is read back."""

    expires_at = serializers.IntegerField(help_text="When the file expires, in seconds since 1970.")


class EitherSchema(OpenApiSerializerExtension):
    """An image has an address or bytes, never both."""

    target_class = "crazyrouter.api.schema.answers.Image"
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        return schema | {"oneOf": [{"required": ["url"]}, {"required": ["b64_json"]}]}


class ImagesResponse(serializers.Serializer):
    """The images of one request: what OpenAI's SDKs read."""

    created = serializers.IntegerField(help_text="When the request came, in seconds since 1970.")
    data = Image(many=True, help_text="The images delivered: at least one, at most `n`. You pay for these.")  # type: ignore[assignment]


class PlainSchema(OpenApiSerializerExtension):
    """Told apart from a generation, which has the same fields and more."""

    target_class = "crazyrouter.api.schema.answers.ImagesResponse"

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        return schema | {"not": {"required": ["object"]}}


class Charged(serializers.Serializer):
    """What a generation cost."""

    images = serializers.IntegerField(help_text="Images paid for; 0 while it runs.")
    amount = money("What was paid for them.")
    currency = currency()


class Generation(serializers.Serializer):
    """One request for images, and what became of it."""

    id = serializers.CharField(help_text="Also the `x-request-id` of the answer to the order.")
    object = only("image.generation")
    status = serializers.ChoiceField(
        choices=GenerationRow.State.values, help_text="`succeeded` with at least one image; `failed` without any."
    )
    model = serializers.CharField()
    created = serializers.IntegerField(help_text="Seconds since 1970.")
    n = serializers.IntegerField(help_text="Images ordered.")
    data = GenerationImage(many=True, help_text="The images delivered; empty while it runs. In a list always by `url`.")  # type: ignore[assignment]
    charged = Charged()
    error = ErrorBody(allow_null=True, help_text="Why it failed; null otherwise.")


class GenerationList(serializers.Serializer):
    """A page of the account's generations, newest first."""

    object = only("list")
    data = Generation(many=True)  # type: ignore[assignment]
    first_id = serializers.CharField(allow_null=True)
    last_id = serializers.CharField(allow_null=True, help_text="Send it as `after` for the next page.")
    has_more = serializers.BooleanField(help_text="Whether older ones follow.")


# --- models and prices ---


class ModelPrice(serializers.Serializer):
    """What one image costs the account of this key: the list price, or what was agreed."""

    unit = only(UNIT)
    amount = money("Per delivered image.")
    currency = currency()


class SizeRange(serializers.Serializer):
    """Other `WIDTHxHEIGHT` are taken, too: both sides are multiples, and the product is within these bounds. How long a
    side may be stands on the model's page and in the error."""

    min_pixels = serializers.IntegerField(help_text="Least width × height.")
    max_pixels = serializers.IntegerField(help_text="Largest width × height.")
    multiple = serializers.IntegerField(help_text="Both sides are multiples of it.")


class Model(serializers.Serializer):
    """A model, and what an order for it may ask."""

    id = serializers.CharField(help_text="Send it as `model`.")
    object = only("model")
    created = serializers.IntegerField(help_text="Seconds since 1970.")
    owned_by = only("crazyrouter")
    capability = serializers.CharField(help_text="What it does, like `text-to-image`.")
    verification = serializers.ChoiceField(
        choices=ImageModel.Verified.values, help_text="`verified` in production, or still `beta`."
    )
    pricing = ModelPrice(allow_null=True, help_text="null while it is not on sale.")
    sizes = serializers.ListField(child=serializers.CharField(), help_text="The listed sizes, as `WIDTHxHEIGHT`.")
    default_size = serializers.CharField(help_text="Used when `size` is absent or `auto`.")
    size_range = SizeRange(allow_null=True, help_text="null where only the listed sizes are taken.")
    max_n = serializers.IntegerField(help_text="Most images of one request.")


class ModelList(serializers.Serializer):
    """Every model on offer."""

    object = only("list")
    data = Model(many=True)  # type: ignore[assignment]


class ListedPrice(serializers.Serializer):
    """The list price of one model."""

    model = serializers.CharField()
    unit = only(UNIT)
    amount = money("Per delivered image.")
    currency = currency()
    effective_from = serializers.DateTimeField(help_text="Since when this price holds, in UTC.")
    verification = serializers.ChoiceField(
        choices=ImageModel.Verified.values, help_text="`verified` in production, or still `beta`."
    )


class PriceList(serializers.Serializer):
    """The public price list."""

    object = only("list")
    currency = currency()
    data = ListedPrice(many=True, help_text="By model; those that are not on sale are left out.")  # type: ignore[assignment]


# --- money ---


class Balance(serializers.Serializer):
    """The account's money."""

    balance = money("Payments, refunds and corrections, less what was charged.")
    held = money("Reserved for generations that run.")
    credit_limit = money("How far the balance may go below zero.")
    available = money("What new requests may cost: balance and credit limit less what is held.")
    currency = currency()


class UsageRow(serializers.Serializer):
    """What one key was charged for one model on one day."""

    date = serializers.DateField()
    model = serializers.CharField()
    key = serializers.CharField(help_text="The first, public part of the API key.")
    images = serializers.IntegerField()
    amount = money("What they cost.")


class UsageTotal(serializers.Serializer):
    """The sum of all rows of the range, on this page or not."""

    images = serializers.IntegerField()
    amount = money("What they cost.")


class Usage(serializers.Serializer):
    """A page of usage, newest day first. Charges only: a refund changes no day."""

    object = only("list")
    time_zone = serializers.CharField(help_text="The account's, in which days are cut.")
    currency = currency()
    data = UsageRow(many=True)  # type: ignore[assignment]
    total = UsageTotal()
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True, help_text="Send it as `cursor` for the next page.")

    def get_fields(self) -> dict[str, serializers.Field]:
        """`from` cannot be the name of an attribute."""
        days = {
            "from": serializers.DateField(help_text="The first day."),
            "to": serializers.DateField(help_text="The last day, included."),
        }
        fields = super().get_fields()
        return {"object": fields.pop("object"), **days, **fields}
