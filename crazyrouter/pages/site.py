"""What pages there are: their addresses, names and order. Navigation, sitemap and llms.txt are made of this."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from models_registry.catalog import PublicModel
from models_registry.families import PublicFamily


@dataclass(frozen=True, slots=True)
class Entry:
    """One page. `path` is absolute and quoted, as in a link; `markdown` is where it is Markdown, empty where not."""

    path: str
    title: str
    summary: str
    markdown: str = ""


@dataclass(frozen=True, slots=True)
class Doc:
    """A page of the documentation whose text is `templates/docs/{name}.md`."""

    name: str
    title: str
    summary: str

    @property
    def entry(self) -> Entry:
        return Entry(f"/docs/{self.name}", self.title, self.summary, f"/docs/{self.name}.md")


BEFORE = (
    Doc("quickstart", "Quick start", "From a key to a picture in a minute, with curl or any OpenAI SDK."),
    Doc("openai", "Moving from OpenAI", "What is the same as OpenAI's Images API, what is not, field by field."),
)
AFTER = (
    Doc(
        "outcomes",
        "What is charged when",
        "Everything that can happen to a request: the answer, the price, the next step.",
    ),
    Doc("errors", "Errors", "Every error code with its status, its words and whether to try again."),
    Doc("idempotency", "Idempotency and retries", "How not to buy twice, and how to collect what was ordered."),
    Doc("limits", "Limits", "Sizes of requests, rates, times, and how long things are kept."),
    Doc(
        "clients",
        "Clients and libraries",
        "The OpenAI SDK, LiteLLM and LangChain with our base URL, a key and a model's name.",
    ),
    Doc("api", "API reference", "Every endpoint, parameter, header and answer, from the OpenAPI description."),
)
DOCS = {doc.name: doc for doc in (*BEFORE, *AFTER)}

HOME = Entry("/", "Crazyrouter", "Image generation by API, paid per image that was delivered.")
MODELS = Entry("/models", "Models", "Every model with its sizes, price, verification and times.", "/models.md")
PRICING = Entry("/pricing", "Pricing", "What an image costs, and what is never charged.", "/pricing.md")
PLAYGROUND = Entry("/playground", "Playground", "Try every model in the browser with your own key.")
CONTENTS = Entry(
    "/docs/", "Documentation", "Everything about the image API, made from the product itself.", "/docs/index.md"
)


def name_model(model: PublicModel) -> Entry:
    summary = f"{model.capability}, {'Beta' if model.verification == 'beta' else model.verification}"
    path = f"/models/{quote(model.name, safe='')}"
    return Entry(path, model.name, summary, f"{path}.md")


def name_family(family: PublicFamily) -> Entry:
    path = f"/docs/images/{family.slug}"
    return Entry(path, family.title, family.summary or "Models, parameters, examples and prices.", f"{path}.md")


def list_docs(families: Sequence[PublicFamily]) -> list[Entry]:
    """The documentation in the order in which it is best read."""
    return [*(doc.entry for doc in BEFORE), *map(name_family, families), *(doc.entry for doc in AFTER)]


def list_pages(families: Sequence[PublicFamily], models: Sequence[PublicModel]) -> Iterator[Entry]:
    """Every public page."""
    yield from (HOME, MODELS)
    yield from map(name_model, models)
    yield from (PRICING, PLAYGROUND, CONTENTS)
    yield from list_docs(families)
