from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.engine.desk import Desk, empty_store

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


@pytest.fixture
def desk() -> Iterator[Desk]:
    with empty_store() as connection:
        yield Desk(connection)
