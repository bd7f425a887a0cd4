"""The carrier protocols this product speaks: one file and one line here for each.

`kind` is what the database stores; a class is imported when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from providers.contract import Adapter

ADAPTERS = {
    "dashscope_async": "providers.adapters.dashscope_async.DashScopeAsync",
    "dashscope_sync": "providers.adapters.dashscope_sync.DashScopeSync",
    "fal_queue": "providers.adapters.fal_queue.FalQueue",
    "modelscope": "providers.adapters.modelscope.ModelScope",
    "openai_images": "providers.adapters.openai_images.OpenAIImages",
    "openai_images_tasks": "providers.adapters.openai_images_tasks.OpenAIImagesTasks",
    "replicate": "providers.adapters.replicate.Replicate",
    "siliconflow": "providers.adapters.siliconflow.SiliconFlow",
    "wavespeed": "providers.adapters.wavespeed.WaveSpeed",
}


def kinds() -> tuple[str, ...]:
    """Every registered kind, in alphabetical order."""
    return tuple(sorted(ADAPTERS))


def get_adapter_class(kind: str) -> type[Adapter]:
    """The adapter of a kind. Raises LookupError for a kind that is not (or no longer) registered."""
    path = ADAPTERS.get(kind)
    if path is None:
        raise LookupError(f"no adapter of kind {kind!r}")
    return _load(path)


@cache
def _load(path: str) -> type[Adapter]:
    module, _, name = path.rpartition(".")
    adapter: type[Adapter] = getattr(import_module(module), name)
    return adapter


def find_option_faults(kind: str, options: Mapping[str, Any]) -> list[str]:
    """What is wrong with a channel's options, a sentence each; for forms and checks. Raises LookupError."""
    known = getattr(get_adapter_class(kind), "OPTIONS", {})
    unknown = [f"{name}: not an option of {kind}" for name in options if name not in known]
    wrong = [
        f"{name}: {known[name].meaning}" for name in options if name in known and not known[name].accepts(options[name])
    ]
    return unknown + wrong
