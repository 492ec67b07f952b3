from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.desk import Desk, empty_store


@pytest.fixture
def desk() -> Iterator[Desk]:
    with empty_store() as connection:
        yield Desk(connection)
