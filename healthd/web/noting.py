"""What somebody may say about broken accounts besides repairing them: that they are on it, or that it can wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection

from healthd.dispatch import Case, Dispatch
from healthd.store import accounts
from healthd.store.incidents import Incident

Say = Callable[[Dispatch, Case, Incident, str], object]


def _snooze(span: timedelta) -> Say:
    return lambda dispatch, case, incident, who: dispatch.snooze(case, incident, case.now + span, who)


SAID: Mapping[str, Say] = {
    "acknowledge": lambda dispatch, case, incident, who: dispatch.acknowledge(case, incident, who),
    "snooze:1d": _snooze(timedelta(days=1)),
    "snooze:3d": _snooze(timedelta(days=3)),
    "resume": lambda dispatch, case, incident, who: dispatch.resume(case, incident, who),
}
"""By the word that a form or a button carries."""


def note(
    connection: Connection, dispatch: Dispatch, about: Iterable[Incident], said: str, now: datetime, who: str
) -> int:
    """Writes what somebody said of those that are broken still; of how many that is. ``who`` holds no address."""
    noted = 0
    for incident in about:
        account = accounts.by_id(connection, incident.account_id)
        if account is not None and incident.resolved_at is None:
            SAID[said](dispatch, Case(connection, account, now), incident, who)
            noted += 1
    return noted


def quiet_until(incident: Incident) -> datetime | None:
    """Until when nobody is to be reminded of it."""
    return max(filter(None, (incident.acknowledged_until, incident.snoozed_until)), default=None)
