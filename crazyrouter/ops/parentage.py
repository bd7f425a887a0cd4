"""Processes that end with their parent, even when it is killed and can stop nobody.

Linux only (prctl). Elsewhere a killed parent leaves its children to be stopped by hand.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1

# Loaded here, for between fork and exec nothing may be imported.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def make_bond() -> Callable[[], None]:
    """What a child calls between fork and exec to be killed when the calling thread's process ends."""
    parent = os.getpid()

    def die_with_parent() -> None:
        ask_for_signal(signal.SIGKILL)
        # The parent may have died before the request stood.
        if os.getppid() != parent:
            os._exit(1)

    return die_with_parent


def ask_for_signal(number: signal.Signals) -> None:
    """Have the kernel send it to this process when the thread that made it ends."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def follow_make() -> bool:
    """Started by make, stop with it: `make run` killed hard must not leave the product running. Whether it applies."""
    if "MAKELEVEL" not in os.environ or _libc is None:
        return False
    parent = os.getppid()
    try:
        name = Path(f"/proc/{parent}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return False
    if name not in {"make", "gmake"}:
        return False
    ask_for_signal(signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
    return True
