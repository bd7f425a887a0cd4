"""`make screenshots`: the pictures of the README, taken on a fresh `make run` of this checkout.

python -m tests.browser.screenshots [FOLDER]      default: docs/
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.browser.newcomer import walk
from tests.tools import CHROMIUM_ARGUMENTS, find_chromium

ROOT = Path(__file__).resolve().parent.parent.parent

#: File -> the page of the walk that it shows, and how it is looked at.
SHOTS: dict[str, tuple[str, dict[str, Any]]] = {
    "home.png": ("home", {"viewport": {"width": 1280, "height": 820}, "color_scheme": "light"}),
    "playground.png": ("playground", {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"}),
    "docs-phone.png": (
        "docs",
        {"viewport": {"width": 390, "height": 820}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True},
    ),
}
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 40


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with run_quickstart() as site, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_ARGUMENTS)
        for name, (wanted, options) in SHOTS.items():
            page = chromium.new_context(base_url=site["base_url"], **options).new_page()
            walk(page, site["api_key"], look=take(page, wanted, folder / name))
        chromium.close()


def take(page: Page, wanted: str, path: Path) -> Any:
    def look(name: str) -> None:
        if name == wanted:
            page.evaluate("scrollTo(0, 0)")
            path.write_bytes(shrink(page.screenshot(animations="disabled")))
            print(f"{path}: {path.stat().st_size // 1024} KiB")

    return look


def shrink(data: bytes) -> bytes:
    """In 256 colours, which a page of ours hardly exceeds: a checkout should stay small."""
    small = BytesIO()
    with Image.open(BytesIO(data)) as picture:
        picture.convert("RGB").quantize(256).save(small, "PNG", optimize=True)
    return small.getvalue()


@contextmanager
def run_quickstart() -> Iterator[dict[str, str]]:
    """What `--ready-file` says, while everything runs on data of its own."""
    with tempfile.TemporaryDirectory(prefix="crazyrouter-shots-") as data:
        ready = Path(data) / "ready.json"
        command = [sys.executable, "manage.py", "quickstart", "--port", "0", "--data", data, "--ready-file", str(ready)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            until = time.monotonic() + START_TIMEOUT_S
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > until:
                    sys.exit("the server did not start")
                time.sleep(0.2)
            yield json.loads(ready.read_text())
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")
