"""One request in four spellings, as fenced examples of a Markdown page. The tests run every one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.utils.safestring import SafeString, mark_safe

from crazyrouter.pages.facts import ModelFacts

PATH = "/v1/images/generations"
PROMPT = "A perfume poster in soft studio light, titled 晨雾"
#: The size that most clients of OpenAI's API send.
USUAL_SIZE = "1024x1024"


def choose_example(models: tuple[ModelFacts, ...]) -> ModelFacts:
    """Of several models, one that is on sale, verified and answers in one go where there is such a one."""
    return min(models, key=lambda one: (not one.price, one.is_beta, one.model.execution_shape != "sync"))


def build_body(facts: ModelFacts) -> dict[str, Any]:
    """A request that this model accepts, with the fields that most requests have."""
    size = USUAL_SIZE if USUAL_SIZE in facts.sizes else facts.default_size
    return {"model": facts.model.name, "prompt": PROMPT, "size": size, "n": 1, "response_format": "url"}


def write_request(base_url: str, body: Mapping[str, Any]) -> SafeString:
    """The request with curl, the Python SDK, plain Node and as it goes over the wire."""
    blocks = [
        ("sh", write_curl(base_url, body)),
        ("python", write_python(base_url, body)),
        ("js", write_node(base_url, body)),
        ("http", write_http(base_url, body)),
    ]
    return mark_safe("\n\n".join(f"```{language}\n{code}\n```" for language, code in blocks))  # noqa: S308 - Markdown


def write_curl(base_url: str, body: Mapping[str, Any]) -> str:
    return (
        f"curl {base_url}{PATH} \\\n"
        '  -H "Authorization: Bearer $CRAZYROUTER_API_KEY" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d {quote_shell(indent(write_json(body)))}"
    )


def write_python(base_url: str, body: Mapping[str, Any]) -> str:
    arguments = "".join(f"    {name}={write_literal(value)},\n" for name, value in body.items())
    return (
        "import os\n\n"
        "from openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{base_url}/v1", api_key=os.environ["CRAZYROUTER_API_KEY"])\n'
        f"answer = client.images.generate(\n{arguments})\n"
        "print(answer.data[0].url)"
    )


def write_node(base_url: str, body: Mapping[str, Any]) -> str:
    return (
        f'const answer = await fetch("{base_url}{PATH}", {{\n'
        '  method: "POST",\n'
        "  headers: {\n"
        "    Authorization: `Bearer ${process.env.CRAZYROUTER_API_KEY}`,\n"
        '    "Content-Type": "application/json",\n'
        "  },\n"
        f"  body: JSON.stringify({indent(write_json(body))}),\n"
        "});\n"
        "const { data, error } = await answer.json();\n"
        "if (error) throw new Error(`${error.code}: ${error.message}`);\n"
        "console.log(data[0].url);"
    )


def write_http(base_url: str, body: Mapping[str, Any]) -> str:
    # In one line: lines of HTTP end with CR and LF, which would count.
    content = json.dumps(body, ensure_ascii=False)
    return (
        f"POST {PATH} HTTP/1.1\n"
        f"Host: {urlsplit(base_url).netloc}\n"
        "Authorization: Bearer $CRAZYROUTER_API_KEY\n"
        "Content-Type: application/json\n"
        f"Content-Length: {len(content.encode())}\n"
        "Connection: close\n\n"
        f"{content}"
    )


def write_json(body: Mapping[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False, indent=2)


def indent(text: str) -> str:
    return text.replace("\n", "\n  ")


def quote_shell(text: str) -> str:
    """Single quotes, which no shell looks into."""
    return "'" + text.replace("'", "'\\''") + "'"


def write_literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
