"""Asks litellm for each thing the argument lists, and prints what came as JSON. Runs in the clients' environment."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from tests.clients.watching import watch_hosts


def main(asks: list[dict[str, Any]]) -> dict[str, Any]:
    hosts = watch_hosts()
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    return {"answers": [ask(litellm, arguments) for arguments in asks], "hosts": sorted(hosts)}


def ask(litellm: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = litellm.image_generation(**arguments)
    except Exception as error:
        kind = f"{type(error).__module__}.{type(error).__name__}"
        return {"error": kind, "status": getattr(error, "status_code", 0), "message": str(error)}
    return {"pictures": [{"url": item.url, "b64_json": item.b64_json} for item in answer.data]}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
