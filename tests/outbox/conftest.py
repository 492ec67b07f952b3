from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.outbox.surroundings import Surroundings, surroundings


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Surroundings]:
    """One channel, ``mail``, and nothing broken yet."""
    async with surroundings(tmp_path) as made:
        yield made
