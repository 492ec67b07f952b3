from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.web.site import Site, site


@pytest_asyncio.fixture(scope="module", loop_scope="session", name="shared")
async def _shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session", name="site")
async def _site(shared: Site) -> AsyncIterator[Site]:
    """The module's daemon, with an API that works again after each test."""
    yield shared
    shared.scene.sandbox.faults.active.clear()
    shared.scene.have_rested()
