from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest_asyncio
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.async_api import Browser

# A busy machine is no failure.
settings.register_profile("healthd", deadline=None)
settings.load_profile("healthd")

# jsonschema would build the parsers of 39 grammars on import, for formats that no schema here asks for.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]


# To collect the tests makes a million objects that stay to the end: looking for garbage among them finds nothing.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests of a process, each of which opens contexts of its own."""
    from tests.web.browser import chromium

    async with chromium() as made:
        yield made
