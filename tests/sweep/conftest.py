from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sweep.surroundings import Surroundings, surroundings


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Surroundings]:
    """One workspace whose sixteen accounts have been swept once; nothing runs by itself."""
    async with surroundings(tmp_path) as made:
        await made.sweep.bulk(made.workspace())
        made.told.clear()
        yield made


@pytest.fixture
async def with_profile(tmp_path: Path) -> AsyncIterator[Surroundings]:
    """A workspace with one profile, 201, that holds three accounts, all seen."""
    async with surroundings(tmp_path, profiled=True, count=4) as made:
        profile = made.sandbox.world.add_profile("acme", "Nadia's Bakery", "customer-7")
        for platform in ("facebook", "linkedin", "threads"):
            made.sandbox.world.add_account("acme", platform, profile=profile.id)
        await made.sweep.inventory(made.workspace())
        await made.sweep.bulk(made.workspace())
        made.told.clear()
        yield made
