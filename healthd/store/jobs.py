"""Work that one daemon at a time does for all that share the store: when it is due, and who is at it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, or_, select, update

from healthd.store.schema import jobs
from healthd.store.words import upsert

_FIRST = upsert(jobs).on_conflict_do_nothing()
_TAKE = (
    update(jobs)
    .where(
        jobs.c.name == bindparam("job"),
        jobs.c.due_at <= bindparam("now"),
        or_(jobs.c.lease_until.is_(None), jobs.c.lease_until <= bindparam("now")),
    )
    .values(holder=bindparam("who"), lease_until=bindparam("until"))
)
_SOONER = (
    update(jobs)
    .where(jobs.c.name == bindparam("job"), jobs.c.holder.is_(None), jobs.c.due_at <= bindparam("due_by"))
    .values(due_at=bindparam("now"))
)
_MINE = update(jobs).where(jobs.c.name == bindparam("job"), jobs.c.holder == bindparam("who"))
_KEEP = _MINE.values(lease_until=bindparam("until"))
_DONE = _MINE.values(holder=None, lease_until=None, due_at=bindparam("due"))
_HELD = select(jobs.c.lease_until).where(jobs.c.name == bindparam("job"), jobs.c.lease_until > bindparam("now"))


def take(connection: Connection, job: str, holder: str, now: datetime, until: datetime) -> bool:
    """Whether it is due and this holder's now, for as long as ``until`` if nobody says more of it."""
    asked = {"job": job, "who": holder, "now": now, "until": until}
    if connection.execute(_TAKE, asked).rowcount:
        return True
    if not connection.execute(_FIRST, {"name": job, "due_at": now}).rowcount:
        return False
    return connection.execute(_TAKE, asked).rowcount > 0


def bring_forward(connection: Connection, job: str, now: datetime, due_by: datetime) -> bool:
    """One that would be due by then is due now, unless somebody is at it; whether it is."""
    return connection.execute(_SOONER, {"job": job, "now": now, "due_by": due_by}).rowcount > 0


def keep(connection: Connection, job: str, holder: str, until: datetime) -> bool:
    """Works on; whether it is still this holder's."""
    return connection.execute(_KEEP, {"job": job, "who": holder, "until": until}).rowcount > 0


def done(connection: Connection, job: str, holder: str, due_at: datetime) -> None:
    """Gives it back, unless somebody else has taken it over; it is due again then."""
    connection.execute(_DONE, {"job": job, "who": holder, "due": due_at})


def held_until(connection: Connection, job: str, now: datetime) -> datetime | None:
    """The end of the lease of whoever is at it, unless it is over or nobody is."""
    return connection.execute(_HELD, {"job": job, "now": now}).scalar()
