"""The pages of outcomes, errors and limits say what the tables and settings say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.conf import settings

from crazyrouter.api.errors import KINDS
from crazyrouter.generation.outcomes import TABLE, Key, Next, Pays, Row
from crazyrouter.pages import docs
from tests.pages.reading import read_page

pytestmark = pytest.mark.usefixtures("shop")


def test_every_outcome_is_told() -> None:
    rows = read_page("/docs/outcomes").rows
    assert [name.removeprefix("outcome-") for name in rows if name.startswith("outcome-")] == [
        row.name for row in TABLE
    ]
    for row in TABLE:
        happened, answer, retry, pays, key, follows = rows[f"outcome-{row.name}"]
        assert happened == row.happened.replace("`", "")
        assert (row.code in answer, str(row.status or "") in answer) == (True, True)
        assert ("x-should-retry: false" in retry) == (not row.should_retry)
        assert (pays, follows) == (row.pays, row.next.replace("`", ""))
        assert key == ("–" if row.key is Key.UNDECIDED else row.key)


def test_rows_that_a_customer_looks_up() -> None:
    rows = read_page("/docs/outcomes").rows
    assert rows["outcome-refused"][1:5] == ["one of the errors", "as that error says", "nothing", "not taken"]
    assert rows["outcome-timeout"][1:5] == [
        "504 generation_timeout",
        "x-should-retry: false",
        "the images, if they end up stored",
        "kept",
    ]
    assert rows["outcome-no-capacity"][1:5] == ["429 rate_limit_exceeded", "Retry-After: 10", "nothing", "freed"]
    # What is answered again may be an error: no status can be told.
    assert rows["outcome-replayed"][1] == "the first one's, an error as well"
    assert rows["outcome-sdk-retry"][1] == "the first try's, or a new order's"
    assert read_page("/docs/errors").rows["error-no_channel_available"] == [
        "no_channel_available",
        "503",
        "service_unavailable",
        "Retry-After: 10",
        "The model cannot be served right now. Nothing was charged.",
    ]


def test_every_error_is_told() -> None:
    rows = read_page("/docs/errors").rows
    shown = {name.removeprefix("error-"): cells for name, cells in rows.items() if name.startswith("error-")}
    assert set(shown) == set(KINDS)
    for code, kind in KINDS.items():
        name, status, kind_of, retry, message = shown[code]
        assert (name, status, kind_of, message) == (code, str(kind.status), kind.type, kind.message)
        assert ("x-should-retry: false" in retry) == (not kind.may_retry)
    statuses = [int(cells[1]) for cells in shown.values()]
    assert statuses == sorted(statuses)


def test_a_new_row_appears_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    new = Row("new", "A <new> thing with `code`.", status=418, code="teapot", pays=Pays.ONCE, next=Next.COLLECT)
    monkeypatch.setattr(docs, "TABLE", (*TABLE, new))
    page = read_page("/docs/outcomes")
    assert page.rows["outcome-new"][:4] == ["A <new> thing with code.", "418 teapot", "–", "once"]
    assert "<new>" not in page.html


def test_limits_are_those_of_the_settings(settings: object) -> None:
    settings.MAX_BODY_BYTES = 128 * 1024  # type: ignore[attr-defined]
    settings.FILE_TTL_HOURS = 48.0  # type: ignore[attr-defined]
    rows = read_page("/docs/limits").rows
    assert rows["Body"] == ["Body", "128 KiB of JSON"]
    assert rows["Images"] == ["Images", "48 hours, then they are deleted"]
    assert rows["user"] == ["user", "at most 256 characters"]
    assert rows["seed"] == ["seed", "0 to 2147483647"]
    assert rows["qwen-image-2.0"] == ["qwen-image-2.0", "6", "1300 characters", "500 characters"]


def test_fields_that_change_nothing() -> None:
    rows = read_page("/docs/openai").rows
    assert rows["quality"] == ["quality", '"auto", "standard"']
    assert rows["stream"] == ["stream", "false"]
    assert rows["output_compression"] == ["output_compression", "100"]


def test_the_reference_has_every_operation_and_every_member_of_the_description() -> None:
    document = json.loads(Path(settings.BASE_DIR, "openapi.json").read_text())
    page = read_page("/docs/api")
    operations = [(method.upper(), path) for path, item in document["paths"].items() for method in item]
    assert [row[0] for row in page.tables[0][1:]] == [f"{method} {path}" for method, path in operations]
    for name, schema in document["components"]["schemas"].items():
        if schema.get("properties") and name != "GenerationRequest":
            table = next(table for table in page.tables if [row[0] for row in table[1:]] == list(schema["properties"]))
            assert table[0] == ["Member", "Type", "Description"], name
    for item in document["paths"].values():
        for operation in item.values():
            assert operation["summary"] in page.headings
    headers = [row[0] for row in page.tables[-1][1:]]
    assert headers == list(document["components"]["headers"])
    codes = {code for code in KINDS if f"/docs/errors#error-{code}" in page.links}
    # What only a wrong method gets belongs to no operation.
    assert set(KINDS) - codes == {"method_not_allowed"}
    assert "/docs/errors#file-range_not_satisfiable" in page.links
