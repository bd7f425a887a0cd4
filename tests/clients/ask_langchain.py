"""Asks LangChain's wrapper for each thing the argument lists, and prints what came. Runs in the clients' environment.

Each ask is `[settings of the wrapper, prompt]`.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from typing import Any

from tests.clients.watching import watch_hosts


def main(asks: list[tuple[dict[str, Any], str]]) -> dict[str, Any]:
    hosts = watch_hosts()
    warnings.simplefilter("ignore", DeprecationWarning)  # it is being sunset, and says so
    module: Any = importlib.import_module("langchain_community.utilities.dalle_image_generator")

    answers = [ask(module.DallEAPIWrapper(**configuration), prompt) for configuration, prompt in asks]
    return {"answers": answers, "hosts": sorted(hosts)}


def ask(wrapper: Any, prompt: str) -> dict[str, Any]:
    try:
        return {"text": wrapper.run(prompt)}
    except Exception as error:
        kind = f"{type(error).__module__}.{type(error).__name__}"
        return {"error": kind, "code": getattr(error, "code", ""), "message": str(error)}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
