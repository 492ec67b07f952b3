from __future__ import annotations

import atexit
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from hypothesis import settings

from tests import compiled

if TYPE_CHECKING:
    from playwright.async_api import Browser

# A busy machine is no failure.
settings.register_profile("healthd", deadline=None)
settings.load_profile("healthd")

# jsonschema would build the parsers of 39 grammars on import, for formats that no schema here asks for.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

compiled.share_among_engines()


def pytest_configure(config: pytest.Config) -> None:
    """What a run puts among the temporary files goes with it, whichever of its processes were killed. pytest's own
    folders lie where they always do: those of a test that failed are kept.
    """
    if not hasattr(config, "workerinput"):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        # A short name: the address of a socket in there may have a hundred characters.
        os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="hd-")
        atexit.register(shutil.rmtree, tempfile.tempdir, ignore_errors=True)


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
