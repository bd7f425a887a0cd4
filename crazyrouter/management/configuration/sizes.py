"""The sizes of a model: one list, in the order in which customers read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError

from crazyrouter.management.configuration import document
from crazyrouter.management.configuration.document import Node
from crazyrouter.management.configuration.edits import Author
from crazyrouter.management.configuration.entries import Entry, read_list
from crazyrouter.management.configuration.faults import Unfit, suggest
from crazyrouter.management.configuration.values import Size, split_size
from models_registry.models import ImageModel, ImageSize

LEAST_SIDE, MOST_SIDE = 64, 4096


@dataclass(frozen=True, slots=True)
class ReplaceSizes:
    """The list as a whole. A size has nothing behind it that a book would miss: one that is no longer sold goes."""

    model: ImageModel
    sizes: Sequence[ImageSize]

    def run(self, author: Author) -> None:
        known = {(size.width, size.height): size for size in ImageSize.objects.filter(model=self.model)}
        for position, wanted in enumerate(self.sizes):
            size = known.pop((wanted.width, wanted.height), None) or ImageSize(
                model=self.model, width=wanted.width, height=wanted.height
            )
            size.render_width, size.render_height = wanted.render_width, wanted.render_height
            size.position = position
            size.save()
        for size in known.values():
            size.delete()


@dataclass(frozen=True, slots=True)
class RecordSizes:
    """Sizes have no history of their own: a version of their model says who changed them."""

    model: ImageModel

    def run(self, author: Author) -> None:
        fresh = ImageModel.objects.get(pk=self.model.pk)
        ImageModel.history.bulk_history_create([fresh], update=True, default_change_reason=author.reason)


def read_sizes(entry: Entry, model: ImageModel) -> list[ImageSize] | None:
    """What the file says, as rows that are not saved; None where it says nothing that can be read."""
    item = entry.parts.get("sizes")
    nodes = read_list(item, path=f"{entry.path}.sizes", what="sizes", faults=entry.faults) if item else None
    if nodes is None:
        return None
    sizes: list[ImageSize] = []
    for number, node in enumerate(nodes, start=1):
        try:
            sizes.append(read_size(node, model))
        except Unfit as unfit:
            entry.blame("sizes", str(unfit), line=unfit.line or node.line, below=f"[{number}]{unfit.below}")
    names = list(map(str, sizes))
    for name in sorted({name for name in names if names.count(name) > 1}):
        entry.blame("sizes", f"{name} stands there twice")
    return sizes


def read_size(node: Node, model: ImageModel) -> ImageSize:
    """`1024x1024`, or `{size: 1024x1024, render: 1328x1328}`. Raises Unfit."""
    if not isinstance(node, document.Mapping):
        return check_size(build_size(model, Size().read(node), None))
    for key, item in node.items.items():
        if key not in ("size", "render"):
            raise Unfit(f"no field of a size{suggest(key, ('size', 'render'))}", line=item.line, below=f".{key}")
    if "size" not in node.items:
        raise Unfit("needs `size`")
    render = node.items.get("render")
    public = Size().read(node.items["size"].node)
    return check_size(build_size(model, public, Size().read(render.node) if render else None))


def build_size(model: ImageModel, public: str, render: str | None) -> ImageSize:
    width, height = split_size(public)
    render_width, render_height = split_size(render) if render and render != public else (None, None)
    return ImageSize(model=model, width=width, height=height, render_width=render_width, render_height=render_height)


def check_size(size: ImageSize) -> ImageSize:
    """Every rule of a size. Raises Unfit."""
    rendered = size.render_width or size.width, size.render_height or size.height
    if not all(LEAST_SIDE <= side <= MOST_SIDE for side in (size.width, size.height, *rendered)):
        raise Unfit(f"both sides of {size} and of what is rendered are from {LEAST_SIDE} to {MOST_SIDE}")
    if rendered[0] < size.width or rendered[1] < size.height:
        raise Unfit(f"{size} cannot be made of {rendered[0]}x{rendered[1]}: pictures are only ever made smaller")
    try:
        size.full_clean(exclude=["model"])
    except ValidationError as error:
        raise Unfit("; ".join(error.messages)) from error
    return size


def export_size(size: ImageSize) -> Any:
    if size.render_width is None:
        return str(size)
    return {"size": str(size), "render": f"{size.render_width}x{size.render_height}"}


def tell_change(before: Sequence[ImageSize], after: Sequence[ImageSize]) -> str:
    """In one line of a difference: what goes and what comes, or the new order."""
    old, new = (list(map(tell_size, sizes)) for sizes in (before, after))
    gone, come = (f"-{each}" for each in old if each not in new), (f"+{each}" for each in new if each not in old)
    return ", ".join([*gone, *come]) or f"in the order {', '.join(new)}"


def tell_size(size: ImageSize) -> str:
    return str(size) if size.render_width is None else f"{size} (from {size.render_width}x{size.render_height})"


def describe_sizes() -> dict[str, Any]:
    """As JSON Schema."""
    rendered = {
        "type": "object",
        "properties": {"size": Size().describe(), "render": Size().describe()},
        "required": ["size"],
        "additionalProperties": False,
    }
    return {"type": "array", "items": {"anyOf": [Size().describe(), rendered]}}
