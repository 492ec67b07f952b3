"""What was taken of each workspace's API allowance: what a restart and a process beside us must know.

Each taking is added to a row of its second, so the sum over the last minute is what all lives and processes have taken.
One row with a running number could not say when its parts become free again, and two processes could not add to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from healthd.store.schema import allowance_spends as spends
from healthd.store.schema import allowances
from healthd.store.words import upsert

_HERE = spends.c.workspace == bindparam("here")
_OTHERS = select(spends.c.at, spends.c.calls).where(_HERE, spends.c.holder != bindparam("but"))
_FORGET = delete(spends).where(_HERE, spends.c.at <= bindparam("oldest"))
_SET_RIGHT = update(spends).where(_HERE, spends.c.at > bindparam("latest")).values(at=bindparam("now"))
# Whoever has locked this row is the only one who takes, from the sum to its own row.
_KNOWN = (
    select(allowances.c.limit, allowances.c.paused_until)
    .where(allowances.c.workspace == bindparam("here"))
    .with_for_update()
)
_FIRST_KNOWN = upsert(allowances).on_conflict_do_nothing()
_LEARN = upsert(allowances)
_LEARN = _LEARN.on_conflict_do_update(
    index_elements=["workspace"], set_={name: _LEARN.excluded[name] for name in ("limit", "paused_until")}
)
_MORE = (
    update(spends)
    .where(_HERE, spends.c.holder == bindparam("mine"), spends.c.at == bindparam("second"))
    .values(calls=spends.c.calls + bindparam("more"))
)
_FIRST = insert(spends)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is on record after a taking, which stands there only if it was ``granted``.

    ``others`` is when, in whole seconds, other holders took how many calls.
    """

    granted: bool
    others: list[tuple[datetime, int]]
    limit: int | None
    paused_until: datetime | None


def take(
    connection: Connection,
    workspace: str,
    holder: str,
    now: datetime,
    *,
    calls: int,
    beside: int,
    keep: timedelta,
    longest_pause: timedelta,
    owed: int = 0,
    limit: int | None = None,
    paused_until: datetime | None = None,
) -> Standing:
    """Adds ``calls`` unless there is a pause, or other holders have taken more than ``beside`` within ``keep``.

    ``owed`` calls are added in any case: they were made. A new ``limit`` takes the place of the old one, a pause can
    only become longer.
    """
    known = _note(connection, workspace, now + longest_pause, limit, paused_until)
    _forget(connection, workspace, now, keep)
    others = [(at, taken) for at, taken in connection.execute(_OTHERS, {"here": workspace, "but": holder})]
    paused = known.paused_until is not None and known.paused_until > now
    granted = not paused and sum(taken for _, taken in others) <= beside
    _add(connection, workspace, holder, now, owed + (calls if granted else 0))
    return Standing(granted, others, known.limit, known.paused_until)


def _forget(connection: Connection, workspace: str, now: datetime, keep: timedelta) -> None:
    connection.execute(_FORGET, {"here": workspace, "oldest": now - keep})
    # The clock was wrong, then or now; until it got there again, nothing more could be taken.
    connection.execute(_SET_RIGHT, {"here": workspace, "latest": now + keep, "now": now})


@dataclass(frozen=True, slots=True)
class _Known:
    limit: int | None = None
    paused_until: datetime | None = None


def _note(
    connection: Connection, workspace: str, latest: datetime, limit: int | None, paused_until: datetime | None
) -> _Known:
    """What is known from now on; a pause beyond ``latest`` is a wrong clock's."""
    row = connection.execute(_KNOWN, {"here": workspace}).first()
    if row is None:
        connection.execute(_FIRST_KNOWN, {"workspace": workspace})
        row = connection.execute(_KNOWN, {"here": workspace}).one()
    before = _Known(row.limit, row.paused_until)
    pauses = [until for until in (before.paused_until, paused_until) if until is not None]
    after = _Known(limit or before.limit, min(max(pauses), latest) if pauses else None)
    if after != before:
        facts = {"workspace": workspace, "limit": after.limit, "paused_until": after.paused_until}
        connection.execute(_LEARN, facts)
    return after


def _add(connection: Connection, workspace: str, holder: str, now: datetime, calls: int) -> None:
    """Into the row of this second, so that there are no more rows than seconds however many calls there are."""
    if not calls:
        return
    second = now.replace(microsecond=0)
    added = connection.execute(_MORE, {"here": workspace, "mine": holder, "second": second, "more": calls})
    if added.rowcount == 0:
        connection.execute(_FIRST, {"workspace": workspace, "holder": holder, "at": second, "calls": calls})
