"""What the daemon says of itself when something has changed: a log event, a count, a duration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from healthd.core.machine import FINE
from healthd.core.model import Lane, State, platform_label
from healthd.engine import Change
from healthd.metrics import Metrics

log = structlog.get_logger("healthd.engine")

URGENT = frozenset({Lane.CLICK, Lane.CONFIRM})


@dataclass
class Reporter:
    """Hears of every committed change, and wakes who has work because of it."""

    metrics: Metrics
    wake_prober: Callable[[str], None]
    wake_outbox: Callable[[], None]
    publish: Callable[[Collection[int]], None] = lambda _: None
    """Told the ids of the accounts that look otherwise than before."""

    def heard(self, changes: Sequence[Change]) -> None:
        bound = log.bind()  # once for all: it costs more than a line that is not written
        # Thousands of changes at once are mostly of one kind.
        kinds = Counter((one.workspace, one.source, one.signal, one.fenced) for one in changes)
        for (workspace, source, signal, fenced), number in kinds.items():
            outcome = "fenced" if fenced else "applied"
            self.metrics.observations.labels(workspace, source, signal, outcome).inc(number)
        for change in changes:
            if change.opened is not None or change.resolved is not None:
                self._count(change)
            if change.moved:
                _tell(bound, change)
            if change.storm is not None:
                log.warning(
                    "storm.began", workspace=change.workspace, platform=change.platform, storm=change.storm.id,
                    broken=change.storm.broken, accounts=change.storm.accounts,
                )  # fmt: skip
            if change.probe in URGENT or change.storm is not None or change.resume:
                self.wake_prober(change.workspace)
            if change.notices:
                self.wake_outbox()
        if seen := {one.account_id for one in changes if one.moved or one.notices or one.storm or one.confirmed}:
            self.publish(seen)

    def _count(self, change: Change) -> None:
        metrics, platform = self.metrics, platform_label(change.platform)
        if change.opened is not None:
            metrics.incidents_opened.labels(change.workspace, platform, change.opened.cause).inc()
            metrics.time_to_detect.labels(change.source).observe(
                _span(change.opened.broken_at, change.opened.opened_at)
            )
        if change.resolved is not None and change.resolved.resolution is not None:
            metrics.incidents_resolved.labels(change.workspace, platform, change.resolved.resolution).inc()
            metrics.time_to_repair.labels(platform).observe(
                _span(change.resolved.opened_at, change.resolved.resolved_at or change.resolved.opened_at)
            )


def _tell(bound: Any, change: Change) -> None:
    # The first look at a million healthy accounts is no news of any of them.
    tell = bound.debug if change.before is State.UNKNOWN and change.after in FINE else bound.info
    tell(
        "account." + change.after,
        workspace=change.workspace,
        account_id=change.ref,
        platform=change.platform,
        before=change.before,
        signal=change.signal,
        source=change.source,
        incident=change.opened.id if change.opened else change.resolved.id if change.resolved else None,
    )


def _span(start: datetime, end: datetime) -> float:
    """Seconds; never negative, since two clocks may be involved."""
    return max(end - start, timedelta(0)).total_seconds()
