"""The description of the API is what the code says, complete and valid; and it is served."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command
from django.urls import resolve as resolve_path
from drf_spectacular.validation import validate_schema

from crazyrouter.api.errors import KINDS, ApiError, render_error
from crazyrouter.api.schema.examples import FILE
from crazyrouter.api.urls import urlpatterns
from crazyrouter.files.faults import FAULTS
from tests.api.contract import (
    DOCUMENT,
    OPERATIONS,
    PATH,
    list_body_breaches,
    list_breaches,
    list_codes,
    list_faults,
    list_header_breaches,
    list_operations,
    resolve,
)
from tests.api.test_anonymity import FORBIDDEN

# --- the document ---


def test_it_is_up_to_date() -> None:
    out = StringIO()
    call_command("openapi", check=True, stdout=out)
    assert out.getvalue() == f"{PATH} is up to date\n"


def test_a_stale_one_is_refused_and_the_first_differences_named(tmp_path: Path) -> None:
    stale, errors = tmp_path / "openapi.json", StringIO()
    stale.write_text(
        PATH.read_text(encoding="utf-8").replace('"maximum": 2147483647', '"maximum": 7'), encoding="utf-8"
    )
    with pytest.raises(CommandError, match=r"is not up to date: run manage\.py openapi") as refused:
        call_command("openapi", check=True, output=stale, stderr=errors)
    assert refused.value.returncode == 1
    changed = [line.strip() for line in errors.getvalue().splitlines() if line[:1] in "+-"][2:]
    assert [line.replace(" ", "") for line in changed] == ['-"maximum":7', '+"maximum":2147483647']
    assert '"maximum": 7' in stale.read_text(encoding="utf-8")
    call_command("openapi", output=stale, stdout=StringIO())
    assert stale.read_bytes() == PATH.read_bytes()


def test_it_is_made_on_a_machine_without_settings(tmp_path: Path) -> None:
    nothing = tmp_path / "empty.env"
    nothing.touch()
    bare = {"PATH": "/usr/bin:/bin", "ENV_FILE": str(nothing)}
    done = subprocess.run([sys.executable, "manage.py", "openapi", "--check"], cwd=PATH.parent, env=bare, check=False)
    assert done.returncode == 0


def test_it_is_valid() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    validate_schema(DOCUMENT)


def test_its_references_lead_somewhere_and_nothing_lies_idle() -> None:
    used = set(find_references(DOCUMENT))
    for reference in used:
        assert resolve({"$ref": reference}), reference
    parts = {f"#/components/{kind}/{name}" for kind, named in DOCUMENT["components"].items() for name in named}
    idle = parts - used
    assert idle == {"#/components/responses/MethodNotAllowed", "#/components/securitySchemes/bearerAuth"}


def find_references(part: Any) -> Any:
    if isinstance(part, dict):
        yield from (value for name, value in part.items() if name == "$ref")
        part = list(part.values())
    if isinstance(part, list):
        for value in part:
            yield from find_references(value)


def test_it_names_no_carrier() -> None:
    text = PATH.read_bytes().lower()
    assert [word for word in FORBIDDEN if word.lower() in text] == []


def test_the_web_starts_without_drf_spectacular() -> None:
    code = (
        "import sys, crazyrouter.asgi; from django.urls import get_resolver; get_resolver().url_patterns;"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in ('drf_spectacular', 'jsonschema')))"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=PATH.parent, check=True, capture_output=True, text=True)
    assert out.stdout == "[]\n"


# --- paths and operations ---


def test_every_path_of_the_api_occurs() -> None:
    described = {"/" + str(pattern.pattern).replace("<str:", "{").replace(">", "}") for pattern in urlpatterns[:-1]}
    beside = {"/files/{name}", "/healthz", "/readyz"}
    assert described | beside == set(DOCUMENT["paths"])
    for path in DOCUMENT["paths"]:
        assert resolve_path(path.replace("{", "").replace("}", ""))


def test_each_operation_is_told() -> None:
    assert list(OPERATIONS) == [
        "createImage",
        "listGenerations",
        "getGeneration",
        "listModels",
        "getModel",
        "getPricing",
        "getBalance",
        "getUsage",
        "downloadUsage",
        "getFile",
        "getHealth",
        "getReadiness",
        "getOpenapi",
    ]
    for path, _, operation in list_operations():
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}
        assert operation.get("security") == ([{"bearerAuth": []}] if path.startswith("/v1/") else None)
        assert all(parameter["description"] for parameter in operation.get("parameters", []))


@pytest.mark.parametrize(
    ("operation", "bounds"),
    [
        ("listGenerations", {"limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}}),
        (
            "getUsage",
            {
                "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
                "model": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": r"^[^\u0000]*$"},
                "key": {"type": "string", "minLength": 1, "maxLength": 24, "pattern": r"^[^\u0000]*$"},
            },
        ),
    ],
)
def test_parameters_have_their_bounds(operation: str, bounds: dict[str, Any]) -> None:
    schemas = {parameter["name"]: parameter["schema"] for parameter in OPERATIONS[operation]["parameters"]}
    assert {name: schemas[name] for name in bounds} == bounds


# --- errors ---


def test_every_code_occurs_with_the_envelope_that_is_sent() -> None:
    examples = DOCUMENT["components"]["examples"]
    enum = DOCUMENT["components"]["schemas"]["ErrorBody"]["properties"]["code"]["enum"]
    assert set(enum) == {*KINDS, *FAULTS}
    for code in KINDS:
        sent = json.loads(render_error(ApiError(code)).content)
        shown = examples[code]["value"]
        assert shown["error"].pop("generation_id", None) is None or code == "generation_timeout"
        assert shown == sent
        assert examples[code]["description"]


def test_every_code_is_some_operations() -> None:
    everywhere = {code for operation in OPERATIONS for codes in list_codes(operation).values() for code in codes}
    assert {*KINDS, *FAULTS} - everywhere == {"method_not_allowed"}


def test_a_code_stands_below_its_own_status() -> None:
    for operation in OPERATIONS:
        for status, codes in list_codes(operation).items():
            known = {code for code, kind in KINDS.items() if str(kind.status) == status}
            known |= {code for code, fault in FAULTS.items() if str(fault.status) == status}
            assert set(codes) <= known


def test_the_errors_of_reading_a_balance() -> None:
    assert list_codes("getBalance") == {
        "400": ["invalid_value"],
        "401": ["invalid_api_key"],
        "403": ["account_suspended", "ip_not_allowed"],
        "413": ["request_too_large"],
        "500": ["server_error"],
        "503": ["service_unavailable"],
    }


def test_headers_that_steer_retries_stand_where_they_are_sent() -> None:
    for operation in OPERATIONS.values():
        for status, response in operation["responses"].items():
            examples = response.get("content", {}).get("application/json", {}).get("examples", {})
            kinds = [KINDS[name] for name in examples if name in KINDS]
            headers = set(response.get("headers", {}))
            assert not any(kind.retry_after for kind in kinds) or "Retry-After" in headers
            if status >= "400":
                assert ("x-should-retry" in headers) == any(not kind.may_retry for kind in kinds)


async def test_another_method_of_any_path_is_answered_as_the_document_says(gateway: httpx.AsyncClient) -> None:
    described = DOCUMENT["components"]["responses"]["MethodNotAllowed"]
    for path in (path for path in DOCUMENT["paths"] if path.startswith("/v1/")):
        answer = await gateway.delete(path.replace("{", "").replace("}", ""))
        assert answer.status_code == 405
        assert list(list_header_breaches(described, answer.headers)) == []
        assert list_body_breaches(described, answer.headers, answer.content) == []


def test_what_is_not_described_is_a_breach() -> None:
    """Else all the tests that hold answers against the document would show nothing."""
    right = {"x-request-id": "req_" + "0" * 26, "content-type": "application/json"}
    balance = {"balance": "1.00", "held": "0.00", "credit_limit": "0.00", "available": "1.00", "currency": "CNY"}
    blocked = json.loads(render_error(ApiError("moderation_blocked")).content)

    def look(status: int, body: Any, headers: dict[str, str] = right) -> list[str]:
        return list_breaches(OPERATIONS["getBalance"], status, headers, json.dumps(body).encode())

    assert look(200, balance) == []
    assert look(418, balance) == ["status 418 is not described"]
    assert look(200, balance | {"owner": "x"}) == [
        "Additional properties are not allowed ('owner' was unexpected)",
    ]
    assert look(200, balance | {"held": 0}) == ["0 is not of type 'string'"]
    assert look(200, balance, right | {"Retry-After": "5"}) == ["header Retry-After is not described"]
    assert look(200, balance, {"content-type": "application/json"}) == ["header x-request-id is missing"]
    assert look(200, balance, right | {"content-type": "text/html"}) == ["text/html is not described"]
    assert look(400, blocked) == ["'moderation_blocked' is not one of ['invalid_value']"]


# --- examples ---


def test_examples_are_what_the_schemas_say() -> None:
    seen = 0
    for operation in OPERATIONS.values():
        for response in [operation.get("requestBody", {}), *operation["responses"].values()]:
            for media in response.get("content", {}).values():
                for name, example in media.get("examples", {}).items():
                    faults = list_faults(media["schema"], resolve(example)["value"])
                    assert faults == [], (operation["operationId"], name)
                    seen += 1
    assert seen > 100


def test_every_answer_in_json_has_an_example() -> None:
    for name, operation in OPERATIONS.items():
        for status, response in operation["responses"].items():
            media = response.get("content", {}).get("application/json")
            assert media is None or media.get("examples") or (name, status) == ("getOpenapi", "200")


def test_the_file_of_the_examples_could_be_one() -> None:
    [pattern] = [p["schema"]["pattern"] for p in OPERATIONS["getFile"]["parameters"] if p["in"] == "path"]
    assert list_faults({"type": "string", "pattern": pattern}, FILE) == []
