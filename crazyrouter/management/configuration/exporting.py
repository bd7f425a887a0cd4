"""From the database to a file: everything that `apply` can set, in a fixed order, without any secret.

SecretInside    a text of the database holds a credential, and would carry it out
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import yaml
from django.utils import timezone

from crazyrouter.management.configuration.accounts import export_accounts
from crazyrouter.management.configuration.applying import VERSION
from crazyrouter.management.configuration.catalog import export_models
from crazyrouter.management.configuration.channels import export_channels, reveal
from crazyrouter.management.configuration.families import export_families
from crazyrouter.management.configuration.offers import export_offers
from crazyrouter.management.configuration.secrets import LEAST
from providers.models import Credential

HEADER = """\
# Written by `manage.py config export`; `manage.py config apply FILE` reads it.
# Credentials are not in it: set these variables to the carriers' keys before it is applied.
"""
#: A mapping of at most this many simple values stands in one line.
FLOW = 5
#: Line breaks to YAML 1.1 and to the library, which would read them back as blanks unless they are escaped.
STRANGE_BREAKS = re.compile("[\x85\u2028\u2029]")
#: Lines that a block shows as they are: blank ones at the end would need a mark that ends the document.
BLOCK = re.compile(r"\S(?:.*\S)?\n?", re.DOTALL)


class SecretInside(Exception):
    """The message says which channel's."""


def export(now: datetime | None = None) -> str:
    """The document. To be called in one snapshot, which makes it one moment's. Raises SecretInside."""
    document = build_document(now or timezone.now())
    refuse_secrets("\0".join(list_texts(document)))
    return HEADER + dump(document)


def build_document(now: datetime) -> dict[str, Any]:
    families = {slug: Section(found) for slug, found in export_families().items()}
    offers = export_offers()
    channels = {name: found | {"offers": offers.get(name, [])} for name, found in export_channels().items()}
    return {
        "schema": VERSION,
        "families": families,
        "models": export_models(now),
        "accounts": export_accounts(),
        "channels": channels,
    }


def list_texts(value: Any) -> Iterator[str]:
    """Every text of the document, however deep."""
    if isinstance(value, dict):
        yield from value
        yield from list_texts(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            yield from list_texts(item)
    elif isinstance(value, str):
        yield value


def refuse_secrets(text: str) -> None:
    """Notes and options are free text, and people paste."""
    for credential in Credential.objects.select_related("channel").order_by("id"):
        secret = reveal(credential)
        if secret is not None and len(secret) >= LEAST and secret in text:
            raise SecretInside(
                f"a note, an option or an address holds a credential of {credential.channel.name!r}: take it out first"
            )


class Dumper(yaml.SafeDumper):
    """Lists are indented, small mappings stand in one line, texts of several lines as blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


class Section(dict[str, Any]):
    """A mapping that never stands in one line."""


def represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if STRANGE_BREAKS.search(text):
        style = '"'
    elif "\n" in text:
        style = "|" if BLOCK.fullmatch(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def represent_section(dumper: yaml.SafeDumper, found: Section) -> yaml.MappingNode:
    return dumper.represent_mapping("tag:yaml.org,2002:map", found.items(), flow_style=False)


def represent_mapping(dumper: yaml.SafeDumper, found: dict[str, Any]) -> yaml.MappingNode:
    simple = len(found) <= FLOW and not any(isinstance(value, dict | list) for value in found.values())
    return dumper.represent_mapping("tag:yaml.org,2002:map", found.items(), flow_style=simple)


def represent_list(dumper: yaml.SafeDumper, found: list[Any]) -> yaml.SequenceNode:
    simple = all(isinstance(value, str) for value in found)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", found, flow_style=simple)


Dumper.add_representer(str, represent_text)
Dumper.add_representer(dict, represent_mapping)
Dumper.add_representer(Section, represent_section)
Dumper.add_representer(list, represent_list)


def dump(document: dict[str, Any]) -> str:
    """The same bytes for the same document; no line is folded, and the sections stand apart."""
    sections = (Section({key: value}) for key, value in document.items())
    return "\n".join(
        yaml.dump(section, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=2**31) for section in sections
    )
