"""Thousands of accounts of one person break at once: few messages, and soon."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

from healthd.channels.base import Notice
from healthd.core.cadence import Cadence
from healthd.core.storm import StormPolicy
from healthd.outbox import LISTED
from tests.outbox.surroundings import surroundings

SOON = 60.0
"""Seconds on any machine that runs the tests; a tenth of it on most."""


async def test_thousands_that_break_at_once_are_few_messages_and_soon_told(tmp_path: Path) -> None:
    calm = StormPolicy(least=100_000)
    async with surroundings(tmp_path, cadence=Cadence(), storms=calm) as scene:
        began = time.monotonic()
        await scene.break_together(*map(str, range(2000)))
        messages = await scene.send_all(timedelta(minutes=1))
        assert time.monotonic() - began < SOON
        assert messages <= 6
        told = [message for message in scene.mail.told if isinstance(message, Notice)]
        assert sum(message.total for message in told) == 2000
        assert all(len(message.accounts) <= LISTED for message in told)
