"""The real daemon, made mortal: it kills itself with SIGKILL before or after a step that a test names.

``python -m tests.crash.mortal run --config …`` is ``healthd run --config …`` with its writes, hand-overs and mints
counted from outside; the product knows nothing of it. A step is a transaction that changed something (named after the
function that did it), one SQL statement of a migration, or a call that leaves the process. What it is told stands in
the environment:

- ``MORTAL_TRACE``: the file that gets a line for each step, on both its sides.
- ``MORTAL_KILL``: where to die, as ``NAME#N:before`` or ``NAME#N:after``; ``any#N:…`` counts all steps.
- ``MORTAL_SINCE``: counting begins with the first step of this name.
- ``MORTAL_PRAGMA``: a file whose lines are applied to the writing connection before each transaction.
- ``MORTAL_DIGEST``: how many accounts a sweep writes in one transaction.
- ``MORTAL_LEASE``: seconds after which a call to pause or resume an account is known to have ended.
- ``MORTAL_LEASES``: seconds after which another daemon on the same store takes over whatever this one was at.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event

from healthd import cli, outbox, sweep
from healthd.channels.email import Email
from healthd.providers.smartlyq import SmartlyQ
from healthd.store import migrations, pauses, postgres
from healthd.store.database import Store, Turn

ANY = "any"
STATEMENT = "migrations.statement"


@dataclass(frozen=True, slots=True)
class Place:
    """A step among those of its name, and among all."""

    name: str
    number: int
    overall: int
    about: str


@dataclass
class Mortality:
    """Counts the steps, tells them to the trace, and ends the process at the one that was chosen."""

    trace: int
    kill: str = ""
    since: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def begins(self, name: str, about: str = "") -> Place:
        """The step is all done but not yet in force."""
        with self._turn:
            if name == self.since:
                self.since = ""
            if not self.since:
                self.counts.update((name, ANY))
            place = Place(name, self.counts[name], self.counts[ANY], about)
            self._tell(place, "before")
            return place

    def ends(self, place: Place) -> None:
        """The step is in force, and nobody has heard of it yet."""
        with self._turn:
            self._tell(place, "after")

    def _tell(self, place: Place, moment: str) -> None:
        with contextlib.suppress(OSError):  # where a test lets no file grow, this one included
            line = f"{os.getpid()} {place.name} {place.number} {moment} {place.about or '-'}\n"
            os.write(self.trace, line.encode())
        if place.number and self.kill in {
            f"{place.name}#{place.number}:{moment}",
            f"{ANY}#{place.overall}:{moment}",
        }:
            os.kill(os.getpid(), signal.SIGKILL)


def name_of(fn: Callable[..., Any]) -> str:
    fn = fn.func if isinstance(fn, partial) else fn
    return f"{fn.__module__.rpartition('.')[2]}.{fn.__qualname__}"


def about_of(args: tuple[Any, ...]) -> str:
    """Which notice a step is about, if it is about any: the one that leads the message."""
    first = args[0] if args else None
    first = next(iter(getattr(first, "notices", ())), first)
    for name in ("notice_id", "id"):
        if isinstance(found := getattr(first, name, None), str):
            return found
    return ""


def _changes(connection: Connection) -> int:
    """A number that grows when the transaction has changed something."""
    driver: Any = connection.connection.dbapi_connection
    if connection.dialect.name == "sqlite":
        return int(driver.total_changes)
    return int(driver.execute("SELECT count(pg_current_xact_id_if_assigned())").fetchone()[0])


def shorten_leases(seconds: float) -> None:
    """A message is handed over within half of its lease."""
    lease = timedelta(seconds=seconds)
    outbox.LEASE, outbox.HAND_OVER, outbox.SENDING = lease, lease / 2, lease / 2
    sweep.LEASE = sweep.JOB_LEASE = lease
    postgres._CONFIGURE += f"; SET idle_in_transaction_session_timeout = '{seconds}s'"


@contextlib.contextmanager
def _statements(connection: Connection, mortality: Mortality) -> Iterator[None]:
    """Meanwhile each statement is a step. The store keeps its connection afterwards."""

    def stepped(*_: object) -> None:
        mortality.begins(STATEMENT)

    event.listen(connection, "after_cursor_execute", stepped)
    try:
        yield
    finally:
        event.remove(connection, "after_cursor_execute", stepped)


def wrap_transactions(mortality: Mortality) -> None:
    real = Store._write

    async def write(self: Store, turn: Turn, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        name, about = name_of(fn), about_of(args)
        place: Place | None = None

        def transact(connection: Connection, *args: Any, **kwargs: Any) -> Any:
            nonlocal place
            changes = partial(_changes, connection)
            changed = changes()
            with _statements(connection, mortality) if fn is migrations.upgrade else contextlib.nullcontext():
                result = fn(connection, *args, **kwargs)
            if changes() > changed:
                place = mortality.begins(name, about)
            return result

        result = await real(self, turn, transact, *args, **kwargs)
        if place is not None:
            mortality.ends(place)
        return result

    Store._write = write  # type: ignore[method-assign]


def obey(pragmas: Path) -> None:
    """Before each transaction of the writer, and even before its BEGIN, which a read-only database refuses."""

    def begin(connection: Connection) -> None:
        if threading.current_thread().name.startswith("store-writer") and pragmas.exists():
            driver: Any = connection.connection.dbapi_connection
            for line in pragmas.read_text().splitlines():
                driver.execute(f"PRAGMA {line}").close()

    event.listen(Engine, "begin", begin)


def wrap_call(mortality: Mortality, owner: type, method: str) -> None:
    real = getattr(owner, method)
    name = f"{owner.__name__}.{method}"

    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        place = mortality.begins(name, about_of(args))
        result = await real(self, *args, **kwargs)
        mortality.ends(place)
        return result

    setattr(owner, method, call)


def main() -> None:
    told = os.environ
    trace = os.open(told["MORTAL_TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    mortality = Mortality(trace, told.get("MORTAL_KILL", ""), told.get("MORTAL_SINCE", ""))
    wrap_transactions(mortality)
    if "MORTAL_PRAGMA" in told:
        obey(Path(told["MORTAL_PRAGMA"]))
    wrap_call(mortality, Email, "send")
    for method in ("mint", "pause", "resume"):
        wrap_call(mortality, SmartlyQ, method)
    sweep.DIGEST = int(told.get("MORTAL_DIGEST", sweep.DIGEST))
    pauses.LEASE = timedelta(seconds=float(told.get("MORTAL_LEASE", pauses.LEASE.total_seconds())))
    if seconds := told.get("MORTAL_LEASES"):
        shorten_leases(float(seconds))
    cli.main()


if __name__ == "__main__":
    main()
