"""Exports and closed months in the admin."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from celery import current_app
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import AsyncClient, Client
from django.urls import reverse

from billing import closing
from billing.exports import Order, jobs, make_plan, stream_export
from billing.models import Account, ClosedMonth, Export, ExportPart
from billing.periods import read_clock
from tests.admin.forms import fill_in, read_errors, read_log
from tests.entries import make_charge, make_top_up, write_entries

NEW = reverse("admin:billing_export_add")
EXPORTS = reverse("admin:billing_export_changelist")
MONTHS = reverse("admin:billing_closedmonth_changelist")
CLOSE = reverse("admin:billing_closedmonth_close")
OCTOBER = {"kind": "charges", "first_day": "2026-10-01", "last_day": "2026-10-31"}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def acme(database: None) -> Account:
    """Not within a transaction, as exports are made."""
    account = Account.objects.create(name="acme", created_at=at("2026-01-01"))
    write_entries(
        account,
        [make_top_up(at("2026-10-01"), 100_000_000), make_charge(at("2026-10-05"), reference="gen_a")],
    )
    return account


def log_in(*permissions: str) -> Client:
    """Someone of the staff who may do this; without a word, everything."""
    if permissions:
        user = User.objects.create_user("fiona", password="correct horse battery", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    else:
        user = User.objects.create_superuser("olga", password="correct horse battery")
    client = Client()
    client.force_login(user)
    return client


def read_body(response: Any) -> bytes:
    body: bytes = b"".join(response.streaming_content) if response.streaming else response.content
    return body


def write_plainly(kind: str, account: Account | None = None) -> bytes:
    plan = make_plan(Order(kind, date(2026, 10, 1), date(2026, 10, 31), account.pk if account else None))
    return b"".join(piece for piece, _ in stream_export(plan))


def page_of(row: Any, page: str = "change") -> str:
    return reverse(f"admin:billing_{row._meta.model_name}_{page}", args=[row.pk])


# --- exports ---


@pytest.mark.parametrize("kind", ["charges", "ledger", "statement"])
def test_a_small_export_is_downloaded_at_once(acme: Account, kind: str) -> None:
    response = log_in("view_ledgerentry").post(NEW, OCTOBER | {"kind": kind}, follow=True)
    data = read_body(response)
    assert data == write_plainly(kind)
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"] == (f'attachment; filename="{kind}-2026-10-01-to-2026-10-31.csv"')
    assert response.headers["Content-Length"] == str(len(data))
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    assert response.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert "no-store" in response.headers["Cache-Control"]
    export = Export.objects.get()
    assert (export.requested_by, export.state, export.with_bom) == ("fiona", "done", False)
    assert read_log(export)[0][0] == "fiona"


def test_the_form_begins_with_last_month_and_the_accounts_of_the_address(acme: Account) -> None:
    values = fill_in(log_in(), f"{NEW}?accounts={acme.pk}")
    first, last = date.fromisoformat(values["first_day"]), date.fromisoformat(values["last_day"])
    assert (first.day, (last + timedelta(days=1)).day) == (1, 1)
    assert first < last < datetime.now(UTC).date()
    assert values["accounts"] == str(acme.pk)


def test_each_account_that_is_named_has_a_file_of_its_own(acme: Account) -> None:
    other = Account.objects.create(name="other")
    client = log_in()
    chosen = {"action": "export_books", "_selected_action": [acme.pk, other.pk]}
    form = client.post(reverse("admin:billing_account_changelist"), chosen).headers["Location"]
    assert form == f"{NEW}?accounts={acme.pk},{other.pk}" or form == f"{NEW}?accounts={other.pk},{acme.pk}"
    response = client.post(form, OCTOBER | {"accounts": [acme.pk, other.pk], "with_bom": "on"})
    assert response.headers["Location"] == EXPORTS
    assert set(Export.objects.values_list("account__name", "rows", "with_bom", "state")) == {
        ("acme", 1, True, "done"),
        ("other", 0, True, "done"),
    }


def test_a_large_export_shows_its_progress_until_it_can_be_had(acme: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "SMALL_ROWS", 1)
    monkeypatch.setattr(current_app, "send_task", lambda *_, **__: None)
    client = log_in()
    page = client.post(NEW, OCTOBER).headers["Location"]
    export = Export.objects.get()
    assert page == page_of(export)
    queued = client.get(page)
    assert queued.headers["Refresh"] == "3"
    assert "0 of about 1 rows are written" in queued.content.decode()
    assert page_of(export, "download") not in queued.content.decode()
    Export.objects.update(state="running", rows=1, rows_expected=4)
    assert "25 %" in client.get(page).content.decode()
    early = client.get(page_of(export, "download"), follow=True)
    assert "This export is running." in early.content.decode()
    Export.objects.update(state="queued")
    jobs.make_next_export()
    done = client.get(page)
    assert "Refresh" not in done.headers
    assert page_of(export, "download") in done.content.decode()
    assert read_body(client.get(page_of(export, "download"))) == write_plainly("charges")


def test_a_failed_export_says_why_on_its_page(acme: Account) -> None:
    export = Export.objects.create(
        kind="charges", first_day=date(2026, 10, 1), last_day=date(2026, 10, 31), state="failed", error="disk on fire"
    )
    client = log_in()
    page = client.get(page_of(export))
    assert "disk on fire" in page.content.decode()
    assert "Refresh" not in page.headers
    assert "This export is failed." in client.get(page_of(export, "download"), follow=True).content.decode()


def test_an_expired_export_is_gone(acme: Account) -> None:
    client = log_in()
    client.post(NEW, OCTOBER)
    export = Export.objects.get()
    Export.objects.update(expires_at=read_clock(connection) - timedelta(seconds=1))
    assert "This export has expired." in client.get(page_of(export, "download"), follow=True).content.decode()
    assert "expired" in client.get(EXPORTS).content.decode()
    jobs.expire_exports()
    assert client.get(page_of(export)).status_code == 200


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"last_day": "2026-09-30"}, "this is before the first day, 2026-10-01"),
        ({"first_day": "soon"}, "Enter a valid date"),
        ({"kind": "invoices"}, "invoices is not one of the available choices"),
        ({"accounts": ["999999"]}, "999999 is not one of the available choices"),
        ({"first_day": "9999-12-31", "last_day": "9999-12-31"}, "out of range"),
    ],
)
def test_what_cannot_be_exported_is_said_in_the_form(acme: Account, typed: dict[str, Any], words: str) -> None:
    assert words in read_errors(log_in().post(NEW, OCTOBER | typed))
    assert Export.objects.count() == 0


def test_only_who_may_read_the_ledger_may_take_it_away(acme: Account) -> None:
    log_in().post(NEW, OCTOBER)
    export = Export.objects.get()
    client = log_in("view_export", "add_export", "view_account", "view_closedmonth", "add_closedmonth")
    for url in (NEW, EXPORTS, page_of(export), page_of(export, "download"), MONTHS):
        assert client.get(url).status_code == 403, url
    assert client.post(NEW, OCTOBER).status_code == 403
    accounts = client.get(reverse("admin:billing_account_changelist")).content.decode()
    assert "export_books" not in accounts
    assert EXPORTS not in accounts
    assert Export.objects.count() == 1


def test_nobody_changes_or_deletes_an_export(acme: Account) -> None:
    client = log_in()
    client.post(NEW, OCTOBER)
    export = Export.objects.get()
    assert client.post(page_of(export), {"state": "queued"}).status_code == 403
    assert client.get(page_of(export, "delete")).status_code == 403


def test_a_download_is_sent_piece_by_piece_through_asgi(acme: Account) -> None:
    """A plain iterator would be taken whole first, and Django warns of it, which is an error here."""
    log_in().post(NEW, OCTOBER)
    export = Export.objects.get()
    ExportPart.objects.all().delete()
    packed = zlib.compress(b"x" * 300_000, wbits=31)
    for number in range(0, len(packed), 100):
        ExportPart.objects.create(export=export, number=number // 100, data=packed[number : number + 100])
    Export.objects.update(size_bytes=300_000)

    async def fetch() -> tuple[int, bytes]:
        client = AsyncClient()
        await client.aforce_login(await User.objects.aget())
        response: Any = await client.get(page_of(export, "download"))
        pieces = [piece async for piece in response.streaming_content]
        return len(pieces), b"".join(pieces)

    count, data = asyncio.run(fetch())
    assert count == ExportPart.objects.count() > 2
    assert data == b"x" * 300_000


# --- closed months ---


def test_a_month_is_closed_for_the_accounts_that_are_chosen(acme: Account) -> None:
    Account.objects.create(name="other", created_at=at("2026-01-01"))
    client = log_in()
    chosen = {"action": "close_month", "_selected_action": [acme.pk]}
    form = client.post(reverse("admin:billing_account_changelist"), chosen).headers["Location"]
    assert form == f"{CLOSE}?accounts={acme.pk}"
    response = client.post(form, {"month": "2026-10", "accounts": [acme.pk]}, follow=True)
    assert response.redirect_chain == [(MONTHS, 302)]
    assert "acme: 2026-10 is closed." in response.content.decode()
    row = ClosedMonth.objects.get()
    assert (row.account, row.closed_by, row.entries) == (acme, "olga", 2)
    assert read_log(row) == [("olga", f"Closed with SHA-256 {row.sha256}")]
    again = client.post(CLOSE, {"month": "2026-10", "accounts": [acme.pk]}, follow=True)
    assert "acme: 2026-10 was closed before." in again.content.decode()
    assert len(read_log(row)) == 1


def test_a_month_before_every_account_is_said_to_close_nothing(acme: Account) -> None:
    response = log_in().post(CLOSE, {"month": "2025-12"})
    assert response.status_code == 200
    assert "Nobody had an account in 2025-12: nothing was closed." in response.content.decode()
    assert ClosedMonth.objects.count() == 0


def test_a_frozen_statement_is_downloaded_byte_for_byte(acme: Account) -> None:
    client = log_in()
    client.post(CLOSE, {"month": "2026-10"})
    row = ClosedMonth.objects.get()
    Account.objects.update(name="renamed")
    response = client.get(page_of(row, "download"))
    assert response.content == row.csv.encode()
    assert hashlib.sha256(response.content).hexdigest() == row.sha256
    name = f"statement-account-{acme.pk}-2026-10-01-to-2026-10-31.csv"
    assert response.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    export = client.post(NEW, OCTOBER | {"kind": "statement", "accounts": [acme.pk]}, follow=True)
    assert read_body(export) == response.content
    assert Export.objects.get().rows == response.content.count(b"\r\n") - 1
    shown = client.get(page_of(row)).content.decode()
    for text in ("¥0.00", "¥99.80", row.sha256, "2026-10-01 00:00:00+08:00", "2026-11-01 00:00:00+08:00"):
        assert text in shown


def test_a_month_that_cannot_be_closed_says_why_and_closes_the_others(
    acme: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    Account.objects.create(name="far", time_zone="America/New_York", created_at=at("2026-01-01"))
    monkeypatch.setattr(closing, "read_clock", lambda _: at("2026-10-31 17:00"))
    shown = log_in().post(CLOSE, {"month": "2026-10"}).content.decode()
    assert "far: 2026-10 ends at 2026-11-01 00:00:00-04:00 and can be closed an hour later" in shown
    assert "acme: 2026-10 is closed." in shown
    assert list(ClosedMonth.objects.values_list("account__name", flat=True)) == ["acme"]


def test_a_month_is_written_as_one(acme: Account) -> None:
    assert "is not a month: write one like 2026-11" in read_errors(log_in().post(CLOSE, {"month": "Oct"}))


def test_closing_takes_a_right_of_its_own(acme: Account) -> None:
    client = log_in("view_ledgerentry", "view_account")
    assert client.get(MONTHS).status_code == 200
    assert CLOSE not in client.get(MONTHS).content.decode()
    assert client.post(CLOSE, {"month": "2026-10"}).status_code == 403
    assert "close_month" not in client.get(reverse("admin:billing_account_changelist")).content.decode()
    assert ClosedMonth.objects.count() == 0
