"""Secrets stand in the environment; the document holds their names, as `${NAME}`, and never learns them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from environ.fileaware_mapping import FileAwareMapping

from crazyrouter.management.configuration.document import Node, Scalar
from crazyrouter.management.configuration.faults import Unfit
from providers.forms import SECRET

REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
LEAST, MOST = 8, 500


@dataclass(frozen=True, slots=True)
class Secret:
    """`name` may be shown."""

    name: str
    value: str = field(repr=False)


def read_secret(node: Node) -> Secret:
    """What the reference stands for. No message holds what stands in the file: it may be the secret. Raises Unfit."""
    match = REFERENCE.fullmatch(node.text) if isinstance(node, Scalar) else None
    if match is None:
        raise Unfit("write ${NAME}, the name of an environment variable: a secret itself never stands in a file")
    return Secret(match[1], find_value(match[1]))


def find_value(name: str) -> str:
    """Of the variable, or of the file that NAME_FILE names, as with every setting. Raises Unfit."""
    try:
        value: str = FileAwareMapping(cache=False)[name].strip()
    except KeyError as error:
        raise Unfit(f"{name} is not set in the environment") from error
    except OSError as error:
        raise Unfit(f"{name}_FILE names a file that cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Unfit(f"{name}_FILE names a file that is no text") from error
    if not LEAST <= len(value) <= MOST or not SECRET.fullmatch(value):
        raise Unfit(f"{name} holds no key: one has {LEAST} to {MOST} printable ASCII characters without spaces")
    return value


def name_secrets(channels: Iterable[str]) -> dict[str, str]:
    """A variable for each channel, `DASHSCOPE_SYNC_KEY`: by name alone, so that every database names them alike."""
    names: dict[str, str] = {}
    for channel in sorted(channels):
        name = wanted = name_secret(channel)
        ordinal = 2
        while name in names.values():
            name, ordinal = f"{wanted}_{ordinal}", ordinal + 1
        names[channel] = name
    return names


def name_secret(channel: str) -> str:
    stem = re.sub(r"[^A-Z0-9]+", "_", channel.upper(), flags=re.ASCII).strip("_")
    if not stem:
        stem = hashlib.sha256(channel.encode()).hexdigest()[:8].upper()
    return f"{stem}_KEY" if stem[0].isalpha() else f"CHANNEL_{stem}_KEY"
