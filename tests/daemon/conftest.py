from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.daemon.rig import Rig, rig


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Rig]:
    """A running daemon whose sweep rests for an hour after its first round: what happens then, a webhook started."""
    async with rig(tmp_path) as made:
        await made.start()
        await made.until_swept(0)
        await settled(made)
        yield made


@pytest.fixture
async def sweeping(tmp_path: Path) -> AsyncIterator[Rig]:
    """A running daemon that sweeps several times a second."""
    sweep = 'bulk_interval = "0.3s"\ninventory_interval = "0.5s"\nrequest_timeout = "0.5s"'
    async with rig(tmp_path, sweep=sweep) as made:
        await made.start()
        await settled(made)
        yield made


async def settled(made: Rig) -> None:
    """All accounts have been seen."""
    count = len(made.sandbox.world.accounts)

    async def seen() -> bool:
        return await made.metric("healthd_accounts", state="healthy") == count

    await made.until(seen, "the first sweep")
