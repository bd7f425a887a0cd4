"""`export_billing` and `close_month`: files that are whole or not there, one clear line for what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from billing import closing
from billing.models import Account, ClosedMonth
from crazyrouter.management.commands import export_billing
from crazyrouter.management.progress import ProgressBar
from tests.entries import make_charge, make_top_up, write_entries
from tests.server import ROOT, build_environment

OCTOBER = ("--from", "2026-10-01", "--to", "2026-10-31")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def acme(database: None) -> Account:
    account = Account.objects.create(name="acme", created_at=at("2026-01-01"))
    write_entries(
        account,
        [
            make_top_up(at("2026-09-10"), 100_000_000),
            make_charge(at("2026-10-05"), reference="gen_a"),
            make_charge(at("2026-10-31 15:59:59.5"), reference="gen_b"),
            make_charge(at("2026-10-31 16:00"), reference="gen_c"),
        ],
    )
    return account


def run(command: str, *arguments: str) -> str:
    out = StringIO()
    call_command(command, *arguments, stdout=out)
    return out.getvalue()


def refuse(command: str, *arguments: str) -> str:
    with pytest.raises(CommandError) as caught:
        run(command, *arguments)
    return str(caught.value)


# --- export_billing ---


def test_charges_go_to_standard_output(acme: Account) -> None:
    lines = run("export_billing", *OCTOBER).splitlines()
    assert lines[0].startswith("account_id,account,sequence,entry_id,booked_at,generation_id,slot,")
    assert [line.split(",")[5] for line in lines[1:]] == ["gen_a", "gen_b"]


@pytest.mark.parametrize(("kind", "rows"), [("charges", 2), ("ledger", 2), ("statement", 8)])
def test_each_kind_goes_to_a_file(acme: Account, tmp_path: Path, kind: str, rows: int) -> None:
    file = tmp_path / "october.csv"
    assert run("export_billing", *OCTOBER, "--kind", kind, "--account", "acme", "--output", str(file)) == ""
    assert file.read_bytes().decode() == run("export_billing", *OCTOBER, "--kind", kind)
    assert file.read_bytes().count(b"\r\n") == rows + 1
    assert list(tmp_path.iterdir()) == [file]


def test_a_byte_order_mark_where_it_is_asked_for(acme: Account, tmp_path: Path) -> None:
    file = tmp_path / "october.csv"
    run("export_billing", *OCTOBER, "--bom", "--output", str(file))
    assert file.read_bytes().startswith(b"\xef\xbb\xbfaccount_id,")


def test_a_file_is_replaced_whole_or_not_at_all(acme: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*_: Any, **__: Any) -> Any:
        yield b"half", 0
        raise OSError(28, "No space left on device")

    file = tmp_path / "october.csv"
    file.write_text("before")
    with monkeypatch.context() as patch:
        patch.setattr(export_billing, "stream_export", break_off)
        said = refuse("export_billing", *OCTOBER, "--output", str(file))
    assert said == f"cannot write {file}: No space left on device"
    assert (file.read_text(), list(tmp_path.iterdir())) == ("before", [file])
    run("export_billing", *OCTOBER, "--output", str(file))
    assert file.read_text().startswith("account_id,")


def test_a_link_is_followed_and_a_device_is_written(acme: Account, tmp_path: Path) -> None:
    file, link = tmp_path / "real.csv", tmp_path / "link.csv"
    file.touch()
    link.symlink_to(file)
    run("export_billing", *OCTOBER, "--output", str(link))
    assert link.is_symlink()
    assert file.read_text().startswith("account_id,")
    run("export_billing", *OCTOBER, "--output", os.devnull)
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "2026-10-32", "--to", "2026-10-31"), "'2026-10-32' is not a day: write one like 2026-11-22"),
        (("--from", "2026-10-01", "--to", "31.10.2026"), "'31.10.2026' is not a day: write one like 2026-11-22"),
        (("--from", "2026-10-02", "--to", "2026-10-01"), "the last day, 2026-10-01, is before the first, 2026-10-02"),
        ((*OCTOBER, "--account", "nobody"), "there is no account 'nobody': `manage.py create_account` makes one"),
        ((*OCTOBER, "--account", ""), "there is no account '': `manage.py create_account` makes one"),
        ((*OCTOBER, "--output", "/nowhere/at/all.csv"), "cannot write /nowhere/at/all.csv: No such file or directory"),
        ((*OCTOBER, "--output", "/"), "cannot write /: it is a directory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(acme: Account, arguments: tuple[str, ...], words: str) -> None:
    assert refuse("export_billing", *arguments) == words


def test_standard_output_gets_bytes(acme: Account) -> None:
    class Terminal(StringIO):
        buffer = BytesIO()

    terminal = Terminal()
    call_command("export_billing", *OCTOBER, stdout=terminal)
    assert terminal.getvalue() == ""
    assert terminal.buffer.getvalue().decode() == run("export_billing", *OCTOBER)


def start(*arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "manage.py", "export_billing", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=build_environment(), **streams)


def test_a_reader_that_leaves_is_no_error_to_talk_about(acme: Account) -> None:
    write_entries(acme, [make_charge(at("2026-10-20"), reference=f"gen_{n}") for n in range(5000)])
    process = start(*OCTOBER, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"account_id,")
    process.stdout.close()
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait(20)) == (b"", 1)
    process.stderr.close()


def test_an_error_of_the_process_is_one_line_and_exit_1(acme: Account) -> None:
    process = start("--from", "today", "--to", "2026-10-31", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == (
        b"",
        b"CommandError: 'today' is not a day: write one like 2026-11-22\n",
        1,
    )


# --- close_month ---


def test_a_month_is_closed_and_exported_as_it_was(acme: Account, tmp_path: Path) -> None:
    out = run("close_month", "2026-10", "--account", "acme")
    row = ClosedMonth.objects.get()
    said = f"2 entries, balance ¥99.60, SHA-256 {row.sha256}\n"
    assert out == f"acme: 2026-10 closed, {said}"
    assert row.closed_by.startswith("shell")
    assert run("close_month", "2026-10") == f"acme: 2026-10 already closed, {said}"
    Account.objects.update(name="renamed")
    file = tmp_path / "statement.csv"
    run("export_billing", *OCTOBER, "--kind", "statement", "--account", "renamed", "--output", str(file))
    assert file.read_bytes() == row.csv.encode()
    assert ",acme,Asia/Shanghai,2026-10," in row.csv


def test_a_month_before_every_account_is_said_to_close_nothing(acme: Account) -> None:
    assert run("close_month", "2025-12") == "nobody had an account in 2025-12: nothing was closed\n"
    assert ClosedMonth.objects.count() == 0


def test_what_cannot_be_closed_is_said_and_the_rest_is_closed(
    acme: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Account.objects.create(name="far", time_zone="America/New_York", created_at=at("2026-01-01"))
    monkeypatch.setattr(closing, "read_clock", lambda _: at("2026-10-31 17:00"))
    err = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("close_month", "2026-10", stdout=StringIO(), stderr=err)
    assert ended.value.code == 1
    assert err.getvalue() == (
        "far: 2026-10 ends at 2026-11-01 00:00:00-04:00 and can be closed an hour later; "
        "it is 2026-10-31 13:00:00-04:00\n"
    )
    assert list(ClosedMonth.objects.values_list("account__name", "month")) == [("acme", "2026-10")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("2026-10-01",), "'2026-10-01' is not a month: write one like 2026-11"),
        (("2026-13",), "'2026-13' is not a month: write one like 2026-11"),
        (("2026-10", "--account", "nobody"), "there is no account 'nobody': `manage.py create_account` makes one"),
    ],
)
def test_what_is_no_month_of_an_account(acme: Account, arguments: tuple[str, ...], words: str) -> None:
    assert refuse("close_month", *arguments) == words


def test_a_month_that_has_not_ended(acme: Account) -> None:
    month = (datetime.now(UTC) + timedelta(days=40)).strftime("%Y-%m")
    assert "can be closed an hour later" in refuse("close_month", month, "--account", "acme")


# --- the bar ---


class Screen(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal() -> None:
    screen = Screen()
    bar = ProgressBar(1000, unit="rows", stream=screen)
    bar.drawn = 0
    bar.show(500)
    bar.show(600)  # too soon to draw again
    assert screen.getvalue().startswith("\r[###############               ]  50%  500 rows, ")
    assert screen.getvalue().count("\r") == 1
    bar.end()
    assert screen.getvalue().endswith("\r\x1b[K")


def test_no_bar_where_nobody_watches() -> None:
    stream = StringIO()
    bar = ProgressBar(10, unit="rows", stream=stream)
    bar.show(5)
    bar.end()
    assert stream.getvalue() == ""


def test_a_bar_over_nothing_and_over_more_than_was_expected() -> None:
    for total, done in ((0, 0), (10, 30)):
        screen = Screen()
        bar = ProgressBar(total, unit="rows", stream=screen)
        bar.draw(done, 1.0)
        assert f"100%  {done} rows" in screen.getvalue()
