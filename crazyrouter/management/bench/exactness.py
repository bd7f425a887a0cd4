"""Whether a load left everything as it must be: without that, its speed is worth nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Books:
    """What the product's database says: violated invariants, images charged, upstream calls that failed."""

    violations: tuple[str, ...]
    charged: int
    failed: int
    running: int


def compare_product(books: Books, *, submissions: int, answered: int) -> list[str]:
    """What does not fit, in words; nothing if all is exact. The counts are totals since the database was made."""
    faults = [f"the books are wrong: {violation}" for violation in books.violations]
    if submissions != books.charged + books.failed:
        faults.append(
            f"the upstream counts {submissions} submissions, "
            f"the books {books.charged} charged images and {books.failed} failed attempts"
        )
    if answered != books.charged:
        faults.append(f"the clients got {answered} pictures, {books.charged} are charged")
    if books.running:
        faults.append(f"{books.running} generations are still running")
    return faults


def compare_relay(*, submissions: int, answered: int) -> list[str]:
    if submissions == answered:
        return []
    return [f"the upstream counts {submissions} submissions of the relay, the clients got {answered} answers"]
