from __future__ import annotations

from collections.abc import Iterator

import pytest

from crazyrouter.pages.facts import FIGURES
from models_registry.seed import seed_models


@pytest.fixture(autouse=True)
def no_figures_of_before() -> Iterator[None]:
    FIGURES.forget()
    yield
    FIGURES.forget()


@pytest.fixture
def shop(db: None) -> None:
    """The four models, as they are promised."""
    seed_models()
