"""What each view under /v1, and the price list, is called, takes and gives.

Errors, headers and examples are added by `hooks`, by operation id.
"""

from __future__ import annotations

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.utils import OpenApiParameter, PolymorphicProxySerializer, extend_schema_view
from rest_framework.views import APIView

from crazyrouter.api.accounting import LONGEST_KEY, LONGEST_MODEL, MOST_DAYS, MOST_ROWS, USUAL_ROWS
from crazyrouter.api.generations import MOST_LISTED, USUALLY_LISTED
from crazyrouter.api.preferences import LONGEST_KEY as LONGEST_IDEMPOTENCY_KEY
from crazyrouter.api.schema import answers
from crazyrouter.api.schema.frame import ask, bound, describe, give, limit_text, read_header, subclass, take
from crazyrouter.api.schema.words import CREATE_IMAGE, IDEMPOTENCY_KEY
from crazyrouter.api.serializers import GenerationRequest
from crazyrouter.generation.ids import ALPHABET

GENERATION_ID = f"^gen_[{ALPHABET}]{{26}}$"
DAY = {"type": "string", "format": "date", "examples": ["2025-11-30"]}
#: HTTP takes blanks at the ends of a header's value away.
PRINTABLE = "^[!-~]([ -~]*[!-~])?$"
BEARER: dict[str, list[str]] = {"bearerAuth": []}


# --- images ---

ORDER_HEADERS = [
    read_header(
        "Idempotency-Key",
        {"type": "string", "minLength": 1, "maxLength": LONGEST_IDEMPOTENCY_KEY, "pattern": PRINTABLE},
        IDEMPOTENCY_KEY,
    ),
    read_header(
        "Prefer",
        {"type": "string", "examples": ["respond-async"]},
        "`respond-async`: do not wait for the images. Other preferences are ignored.",
    ),
]


ANSWER = PolymorphicProxySerializer(
    "OrderResponse", [answers.ImagesResponse, answers.Generation], resource_type_field_name=None
)


class Generations(OpenApiViewExtension):
    target_class = "crazyrouter.api.generations.GenerationsView"

    def view_replacement(self) -> type[APIView]:
        return extend_schema_view(
            post=describe(
                "createImage",
                "Order images",
                tag="Images",
                description=CREATE_IMAGE,
                request=GenerationRequest,
                parameters=ORDER_HEADERS,
                auth=[BEARER],
                gives={
                    200: give(
                        ANSWER,
                        "The images; with `Prefer: respond-async` the generation object of an order that has ended.",
                    ),
                    202: give(answers.Generation, "With `Prefer: respond-async`: it is ordered, and runs."),
                },
            ),
            get=describe(
                "listGenerations",
                "List generations",
                tag="Images",
                description="What the account ordered by any of its keys, newest first.",
                parameters=[
                    ask("limit", bound(1, MOST_LISTED, USUALLY_LISTED), "How many on a page."),
                    ask(
                        "after",
                        {"type": "string", "pattern": GENERATION_ID},
                        "The `last_id` of the page before: what is older follows.",
                    ),
                ],
                auth=[BEARER],
                gives={200: give(answers.GenerationList, "A page.")},
            ),
        )(subclass(self.target))


class OneGeneration(OpenApiViewExtension):
    target_class = "crazyrouter.api.generations.GenerationView"

    def view_replacement(self) -> type[APIView]:
        return extend_schema_view(
            get=describe(
                "getGeneration",
                "Read a generation back",
                tag="Images",
                description="What became of an order, images included. While it runs, `Retry-After` says when to ask "
                "again. A failed order answers 200, too: its `error` says why.",
                parameters=[
                    take(
                        "generation_id",
                        OpenApiParameter.PATH,
                        {"type": "string", "pattern": GENERATION_ID},
                        "The `id` of a generation of this account.",
                    )
                ],
                auth=[BEARER],
                gives={200: give(answers.Generation, "The generation, running or ended.")},
            )
        )(subclass(self.target))


# --- models and prices ---


class Models(OpenApiViewExtension):
    target_class = "crazyrouter.api.views.ModelsView"

    def view_replacement(self) -> type[APIView]:
        return extend_schema_view(
            get=describe(
                "listModels",
                "List models",
                tag="Models",
                description="Every model on offer with its sizes, the most images of a request, and the price that "
                "this key's account pays.",
                auth=[BEARER],
                gives={200: give(answers.ModelList, "The models.")},
            )
        )(subclass(self.target))


class OneModel(OpenApiViewExtension):
    target_class = "crazyrouter.api.views.ModelView"

    def view_replacement(self) -> type[APIView]:
        return extend_schema_view(
            get=describe(
                "getModel",
                "Read one model",
                tag="Models",
                description="The same facts as in the list.",
                parameters=[take("name", OpenApiParameter.PATH, {"type": "string"}, "The `id` of a model.")],
                auth=[BEARER],
                gives={200: give(answers.Model, "The model.")},
            )
        )(subclass(self.target))


class Pricing(OpenApiViewExtension):
    target_class = "crazyrouter.api.pricing.PricingView"

    def view_replacement(self) -> type[APIView]:
        return extend_schema_view(
            get=describe(
                "getPricing",
                "Read the price list",
                tag="Models",
                description="The list price of every model on sale. Needs no key; `HEAD` works, too. "
                "What your own account pays stands in `GET /v1/models`.",
                gives={200: give(answers.PriceList, "The price list, as it is this moment.")},
            )
        )(subclass(self.target))


# --- money ---


class BalanceOf(OpenApiViewExtension):
    target_class = "crazyrouter.api.accounting.BalanceView"

    def view_replacement(self) -> type[APIView]:
        return extend_schema_view(
            get=describe(
                "getBalance",
                "Read the balance",
                tag="Account",
                description="The money of this key's account, as it is this moment.",
                auth=[BEARER],
                gives={200: give(answers.Balance, "The balance.")},
            )
        )(subclass(self.target))


RANGE = [
    ask("from", DAY, "The first day, in the account's time zone. If absent: the first of the last day's month."),
    ask("to", DAY, f"The last day, included; today if absent. At most {MOST_DAYS} days in all."),
    ask("model", limit_text(LONGEST_MODEL), "Only this model."),
    ask("key", limit_text(LONGEST_KEY), "Only the API key with this public first part, like `sk-cr-1a2b3c4d`."),
]


class UsageOf(OpenApiViewExtension):
    target_class = "crazyrouter.api.accounting.UsageView"

    def view_replacement(self) -> type[APIView]:
        return extend_schema_view(
            get=describe(
                "getUsage",
                "Read usage",
                tag="Account",
                description="Images and what they cost by day, model and key, with the sum of the whole range.",
                parameters=[
                    *RANGE,
                    ask("limit", bound(1, MOST_ROWS, USUAL_ROWS), "How many rows on a page."),
                    ask(
                        "cursor",
                        {"type": "string", "minLength": 1},
                        "The `next_cursor` of the page before, with the same `model` and `key`.",
                    ),
                ],
                auth=[BEARER],
                gives={200: give(answers.Usage, "A page of rows, and the sum.")},
            )
        )(subclass(self.target))


class UsageFile(OpenApiViewExtension):
    target_class = "crazyrouter.api.accounting.UsageCsvView"

    def view_replacement(self) -> type[APIView]:
        return extend_schema_view(
            get=describe(
                "downloadUsage",
                "Download usage as CSV",
                tag="Account",
                description="All rows of the range in one file, whose amounts have six decimal places.",
                parameters=RANGE,
                auth=[BEARER],
                gives={(200, "text/csv"): give({"type": "string"}, "The rows, below a line that names the columns.")},
            )
        )(subclass(self.target))
