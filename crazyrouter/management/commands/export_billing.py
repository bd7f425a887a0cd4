"""The books as CSV, to a file or to whatever reads standard output."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from billing.exports import ExportError, Order, make_plan, stream_export
from billing.exports.streams import BOM
from billing.models import Export
from billing.periods import PeriodError, parse_day
from crazyrouter.management.accounts import find_account
from crazyrouter.management.progress import ProgressBar
from crazyrouter.sql import open_read_only_snapshot


class Command(BaseCommand):
    help = "Write charges, ledger or statements of some days as CSV. Days are cut in each account's time zone."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", dest="first", required=True, metavar="DATE", help="first day, like 2026-11-01")
        parser.add_argument("--to", dest="last", required=True, metavar="DATE", help="last day, included")
        parser.add_argument("--account", help="name of one account; all without it")
        parser.add_argument("--kind", choices=Export.Kind.values, default=Export.Kind.CHARGES.value)
        parser.add_argument("--output", metavar="FILE", help="appears when it is whole; else standard output")
        parser.add_argument("--bom", action="store_true", help="begin with a byte order mark, for spreadsheets")

    def handle(self, *args: Any, output: str | None, bom: bool, **options: Any) -> None:
        order = read_order(**options)
        try:
            with open_output(self.stdout, output) as file:
                write_export(file, order, bom=BOM if bom else b"")
        except BrokenPipeError:
            # Whoever read has read enough. What Python would flush at exit has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        except ExportError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"cannot write {output or 'standard output'}: {error.strerror or error}") from error


def read_order(*, first: str, last: str, account: str | None, kind: str, **_: Any) -> Order:
    try:
        days = parse_day(first), parse_day(last)
        return Order(kind, *days, find_account(account).pk if account is not None else None)
    except (PeriodError, ExportError) as error:
        raise CommandError(str(error)) from error


def write_export(file: Any, order: Order, *, bom: bytes) -> None:
    """In one snapshot of the books, with a progress bar on a terminal."""
    with open_read_only_snapshot(connection):
        plan = make_plan(order)
        bar = ProgressBar(plan.rows, unit="rows")
        try:
            for piece, rows in stream_export(plan, bom=bom):
                file.write(piece)
                bar.show(rows)
        finally:
            bar.end()


class TextSink:
    """Takes the bytes for a standard output that has no bytes of its own."""

    def __init__(self, out: Any) -> None:
        self.out = out

    def write(self, piece: bytes) -> None:
        self.out.write(piece.decode(), ending="")


@contextmanager
def open_output(stdout: Any, name: str | None) -> Iterator[BinaryIO | TextSink]:
    if name is not None:
        with open_file(Path(name).resolve()) as file:
            yield file
        return
    raw = getattr(stdout, "buffer", None)
    yield raw if raw is not None else TextSink(stdout)
    if raw is not None:
        raw.flush()


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears whole or not at all; a pipe or a device is written as it is."""
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as file:
            yield file
        return
    if path.is_dir():
        raise IsADirectoryError(0, "it is a directory")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
