"""`manage.py openapi`: write the description of the API, or prove that the one checked in is up to date."""

from __future__ import annotations

import difflib
import json
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

#: Lines of difference; the rest is seen when it is written.
SHOWN = 20


class Command(BaseCommand):
    help = "Write openapi.json from the views and serializers, or check that it is what they say."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--output", type=Path, default=settings.BASE_DIR / "openapi.json", help="the file")
        parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is not up to date")

    def handle(self, *args: Any, output: Path, check: bool, **options: Any) -> None:
        document = generate()
        if not check:
            output.write_text(document, encoding="utf-8")
            self.stdout.write(f"wrote {output}")
            return
        present = output.read_text(encoding="utf-8") if output.exists() else ""
        if present != document:
            self.stderr.write("\n".join(islice(compare(present, document), SHOWN)))
            raise CommandError(f"{output} is not up to date: run manage.py openapi")
        self.stdout.write(f"{output} is up to date")


def generate() -> str:
    """The document as text. What drf-spectacular has to guess is an error."""
    from drf_spectacular.drainage import GENERATOR_STATS
    from drf_spectacular.generators import SchemaGenerator

    schema = SchemaGenerator().get_schema(public=True)
    if GENERATOR_STATS:
        raise CommandError("the description is incomplete: see the warnings above")
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def compare(present: str, document: str) -> Any:
    return difflib.unified_diff(
        present.splitlines(), document.splitlines(), "checked in", "as it should be", lineterm="", n=1
    )
