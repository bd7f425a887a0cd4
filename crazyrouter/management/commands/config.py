"""`manage.py config apply FILE` and `config export`: what is sold and how it is got, as one file."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection

from crazyrouter.management.accounts import name_actor
from crazyrouter.management.commands.export_billing import open_output
from crazyrouter.management.configuration.applying import NotApplied, Plan, apply, preview
from crazyrouter.management.configuration.edits import Author
from crazyrouter.management.configuration.exporting import SecretInside, export
from crazyrouter.management.configuration.schema import build_schema
from crazyrouter.ops.schema import list_unapplied
from crazyrouter.sql import open_read_only_snapshot


class Command(BaseCommand):
    help = "Families, models, prices, upstream accounts, channels and offers as one YAML file."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="apply|export|schema")
        apply = verbs.add_parser("apply", help="make the database say what the file says, all of it or nothing")
        apply.add_argument("file", help="- is standard input")
        apply.add_argument("--dry-run", action="store_true", help="print the difference and change nothing")
        export = verbs.add_parser("export", help="write everything that apply can set, without any secret")
        export.add_argument("--output", metavar="FILE", help="appears when it is whole; else standard output")
        verbs.add_parser("schema", help="print the format as JSON Schema, for editors")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        if verb == "schema":
            self.stdout.write(json.dumps(build_schema(), indent=2))
            return
        check_tables()
        if verb == "apply":
            self.apply(options["file"], dry_run=options["dry_run"])
        else:
            self.export(options["output"])

    def apply(self, file: str, *, dry_run: bool) -> None:
        name, data = read_file(file)
        try:
            plan = preview(data) if dry_run else apply(data, author=Author(Path(name).name, name_actor()))
        except NotApplied as error:
            raise CommandError(f"{error}; nothing was changed") from error
        for fault in plan.faults:
            self.stderr.write(fault.render(name))
        if plan.faults:
            self.stderr.write(f"{len(plan.faults)} fault(s): nothing was changed")
            raise SystemExit(1)
        self.tell(plan, name=name, dry_run=dry_run)

    def tell(self, plan: Plan, *, name: str, dry_run: bool) -> None:
        for edit in plan.edits:
            if edit.writes:
                self.stdout.write(edit.render())
        for note in plan.notes:
            self.stdout.write(f"note: {note.render(name)}")
        made, changed, kept = plan.count()
        if dry_run:
            self.stdout.write(f"{made} to be made, {changed} to be changed, {kept} as they are: nothing was changed")
        else:
            self.stdout.write(f"{made} made, {changed} changed, {kept} as they were")

    def export(self, output: str | None) -> None:
        try:
            with open_read_only_snapshot(connection):
                text = export()
        except SecretInside as error:
            raise CommandError(str(error)) from error
        try:
            with open_output(self.stdout, output) as file:
                file.write(text.encode())
        except OSError as error:
            raise CommandError(f"cannot write {output or 'standard output'}: {error.strerror or error}") from error


def check_tables() -> None:
    try:
        unapplied = list_unapplied()
    except DatabaseError as error:
        raise CommandError(f"the database cannot be reached: {error}") from error
    if unapplied:
        raise CommandError(f"the database lacks {len(unapplied)} migration(s): run `manage.py migrate` first")


def read_file(file: str) -> tuple[str, bytes]:
    """What it is called in messages, and what it holds."""
    if file == "-":
        return "<stdin>", sys.stdin.buffer.read()
    try:
        return file, Path(file).read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}") from error
