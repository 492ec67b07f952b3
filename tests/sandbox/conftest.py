from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.sandbox.listener import Listener, listening
from tests.sandbox.scene import Scene, served


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with served() as made:
        yield made


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    async with listening() as made:
        yield made
