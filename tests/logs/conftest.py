from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.logs.kept import logging_kept


@pytest.fixture(autouse=True)
def _kept() -> Iterator[None]:
    with logging_kept():
        yield
