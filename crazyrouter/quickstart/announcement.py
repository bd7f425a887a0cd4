"""What a start says when everything answers: a block for people, a file for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from crazyrouter.quickstart.envfile import write_privately


@dataclass(frozen=True, slots=True)
class Facts:
    """`admin_password` is None where an operator has changed it."""

    base_url: str
    api_key: str
    admin_username: str
    admin_password: str | None
    simulator_url: str
    simulator_key: str

    @property
    def admin_url(self) -> str:
        return f"{self.base_url}/admin/"


def write_ready_file(path: Path, facts: Facts) -> None:
    """Appears whole, for the owner's eyes alone. Raises OSError."""
    content = {
        "base_url": facts.base_url,
        "api_key": facts.api_key,
        "admin_url": facts.admin_url,
        "admin_username": facts.admin_username,
        "admin_password": facts.admin_password,
        "simulator_url": facts.simulator_url,
        "simulator_key": facts.simulator_key,
    }
    write_privately(path, json.dumps(content, indent=2) + "\n")


def render_block(facts: Facts, *, folder: Path, real_models: list[str]) -> str:
    pictures = "drawn by the simulated upstream"
    if real_models:
        pictures = f"real and paid for: {', '.join(real_models)}"
    return f"""
Crazyrouter is running; Ctrl-C stops it. Everything it keeps is in {folder}.

  Pages     {facts.base_url}/   (docs, prices, playground)
  API       {facts.base_url}/v1
  Key       {facts.api_key}
  Admin     {facts.admin_url}   {facts.admin_username} / {facts.admin_password or "(the password you set)"}
  Upstream  {facts.simulator_url} (simulator)
  Pictures  {pictures}

Try it:

  {render_curl(facts)}
"""


def render_curl(facts: Facts) -> str:
    """One line, to be pasted as it is."""
    order = json.dumps({"model": "qwen-image-2.0", "prompt": "a red fox in fresh snow", "size": "1024x1024"})
    return (
        f"curl -s {facts.base_url}/v1/images/generations -H 'Authorization: Bearer {facts.api_key}'"
        f" -H 'Content-Type: application/json' -d '{order}'"
    )
