"""Looking for trouble: the sweep over everything, each account's own check, confirmations, and the inventory.

Work stands in due queues in the store, so that nothing is forgotten by a restart and nothing piles up after a pause.
Each workspace is looked after by itself: one that fails slows down alone.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy import Connection

from healthd import tracing
from healthd.comparison import Comparison
from healthd.core.cadence import Cadence, retry_at
from healthd.core.model import BROKEN, Lane, Observation, Signal, Source, State
from healthd.engine import Change, Engine
from healthd.metrics import Metrics
from healthd.pace import Pace
from healthd.providers.allowance import Allowance
from healthd.providers.base import (
    BadAnswer,
    BulkHealth,
    Conflict,
    IsListedAnew,
    IsNews,
    MissingScope,
    NotFound,
    PaymentRequired,
    Provider,
    ProviderError,
    RateLimited,
    Starved,
    Unauthorized,
    Unavailable,
    Unprocessable,
)
from healthd.providers.breaker import Breaker
from healthd.self_care import SelfCare
from healthd.store import accounts, housekeeping, jobs, notices, pauses, profiles, storms, troubles
from healthd.store.accounts import Known, OnRecord, Probe
from healthd.store.database import Store, StoreUnavailable
from healthd.store.pauses import Action, Turn
from healthd.store.profiles import OWN, Scope
from healthd.store.troubles import Trouble, trouble_id

T = TypeVar("T")

log = structlog.get_logger("healthd.sweep")

HOUR = timedelta(hours=1)
URGENT = (Lane.CLICK, Lane.CONFIRM)
URGENT_AT_ONCE = 16
ROTATION_AT_ONCE = 32
DIGEST = 1000
"""Accounts in one transaction of a digest, at the most; and where much follows from each, at the least."""
FEWEST = 20
DIGEST_SPAN = timedelta(milliseconds=100)
"""How long such a transaction is to take, about: webhooks get their commits in between."""
OVERDUE = 500
"""Suspects that nobody could confirm in time, in one transaction: an incident follows from each."""
LEASE = timedelta(minutes=2)
FEW_MISSING = 5
MISSING_SHARE = 0.1
"""More accounts gone at once than this share (and than ``FEW_MISSING``) is more likely a bad list than a true one."""
SHORT_LIST_BELIEVED = timedelta(minutes=10)
"""For how long such a list must go on before it counts against an account that the API does not find either."""
PROFILE_REST = timedelta(hours=1)
"""How long accounts of a paused profile are left alone; they are looked at as soon as it is resumed."""
LOOKS = 50
"""In a second, of each kind: of hundreds of workspaces each looks less often for what other processes made due."""
STARTS = 50
"""Workspaces in a second whose first sweep begins: their answers are neither held in memory nor written all at once."""
SHORTEST_REST = 0.05
"""Seconds between two looks at what is due and cannot be done yet."""
TOLD_AT_ONCE = 50
"""Changes that are told before the event loop gets its turn."""
STANDS_IN_THE_WAY = (Unauthorized, PaymentRequired, MissingScope, Unavailable, RateLimited)
"""Errors that are about the workspace or the API, not about the one account asked for."""
QUESTIONS = ("bulk", "list", "health", "profiles", "mint", "pause", "webhooks")
"""What an API is asked for."""
TRYING = Cadence()
"""How calls to pause and resume are repeated: as messages are."""
TRY_LATER = timedelta(hours=1)
"""The pause between two calls that have failed for a day, where they are repeated all the same."""
POSTING_TIMEOUT = 0.75 * pauses.LEASE.total_seconds()
UNKNOWN_OUTCOME = (Unavailable, BadAnswer)
"""Failures of a call that may have had its effect all the same."""
JOB_LEASE = timedelta(seconds=60)
"""How long after a daemon has died another one does what it was doing for all of them."""
EARLY = 0.75
"""Of an interval: how soon after a job began it may begin again. Each daemon comes by once in an interval."""
SOON = 0.25
"""Of an interval: how soon after a sweep began the next one comes where many wait to be confirmed."""
AFTERWARDS = 0.5
"""Seconds after a sweep for which another one is wanted at once."""
UNTIL_SWEPT = 0.5
"""Of our share of the allowance: what is left is for the sweep, and for clicks."""
STARVED_AFTER = timedelta(minutes=10)
"""How long calls may wait for their turn before that is a trouble of its own."""


@dataclass
class Workspace:
    """One workspace, and how its API has been treating us."""

    name: str
    provider: Provider
    allowance: Allowance
    with_profiles: bool
    rng: random.Random
    urgent: asyncio.Event = field(default_factory=asyncio.Event)
    posting: asyncio.Event = field(default_factory=asyncio.Event)
    """Something may be paused or resumed."""
    inventory_wanted: bool = False
    sweep_wanted: bool = False
    """Many wait to be confirmed, and one sweep answers for all of them."""
    sweeping: bool = False
    troubled: set[str] = field(default_factory=lambda: set(QUESTIONS))
    """Questions whose answer may end a trouble on record: at first all, since an earlier process may have left some."""
    profiles_listed: bool = False
    """Whether this process has asked for them."""
    swept_at: float = -math.inf
    """When this process last began a sweep over all of it, by the loop's clock."""
    everything: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever goes through all its accounts: one at a time, or memory would hold them twice."""

    def __post_init__(self) -> None:
        self.breaker = Breaker(self.rng)
        self.posting_breaker = Breaker(self.rng)  # of its own: what only pausing meets does not keep us from looking

    @property
    def resting(self) -> bool:
        """Whether its API is left alone for now."""
        return self.breaker.is_open(asyncio.get_running_loop().time())


@dataclass(frozen=True, slots=True)
class SweepPolicy:
    """The operator's intervals; ``mode`` is ``"bulk"`` or ``"each"``."""

    mode: str = "bulk"
    bulk_interval: timedelta = timedelta(seconds=60)
    inventory_interval: timedelta = timedelta(minutes=15)
    ask_again: timedelta = timedelta(minutes=15)
    """How soon an account whose row in the sweep was unclear is asked about by itself once more."""
    longest_rest: timedelta = timedelta(seconds=1)
    """How soon work is noticed that another process (a command) put into the store; our own is noticed at once. Where
    there are many workspaces, later: see ``LOOKS``.
    """


@dataclass
class _Answer:
    """``understood`` is false where the profile turned out to be paused or gone: an answer too, but an empty one."""

    understood: bool = True


@dataclass
class Sweep:
    """Runs the jobs of all workspaces. ``heard`` is told of every committed change."""

    store: Store
    engine: Engine
    workspaces: Mapping[str, Workspace]
    metrics: Metrics
    policy: SweepPolicy
    now: Callable[[], datetime]
    heard: Callable[[Sequence[Change]], None]
    has_mail: Callable[[], None] = lambda: None
    """Told when notices were written that come from no change."""
    care: SelfCare | None = None
    """Looks after the webhooks."""
    holder: str = ""
    """This daemon's name among those that share the store."""

    def __post_init__(self) -> None:
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._running: set[asyncio.Task[Any]] = set()
        self._asked: dict[tuple[str, str], datetime] = {}
        self._asked_swept = _LONG_AGO
        self._stopping = asyncio.Event()
        self._suspects = asyncio.Event()

    def start(self) -> None:
        """Starts the jobs on the running loop; the first sweep begins at once."""
        for number, workspace in enumerate(self.workspaces.values()):
            begin = number / STARTS
            if self.policy.mode == "bulk":
                self._every(self.policy.bulk_interval, "bulk", self.bulk, workspace, begin=begin)
            self._every(self.policy.inventory_interval, "inventory", self.inventory, workspace, begin=begin)
            self._spawn(self._keep_probing(workspace, URGENT))
            self._spawn(self._keep_probing(workspace, (Lane.ROTATION,)))
            self._spawn(self._keep_posting(workspace))
            self._spawn(self._keep_webhook(workspace))
        self._spawn(self._keep_time())
        self._every(HOUR, "housekeeping", self._keep_house)
        self._every(timedelta(minutes=5), "allowances", self.watch_allowances)
        self._scheduler.start()

    async def stop(self, within: float) -> None:
        """Starts nothing new, and lets what is under way end within that many seconds."""
        self._stopping.set()
        self._scheduler.remove_all_jobs()
        self._suspects.set()
        for workspace in self.workspaces.values():
            workspace.urgent.set()
            workspace.posting.set()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=within)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def wake(self, workspace: str) -> None:
        """Something urgent is due there now."""
        self._suspects.set()
        if workspace in self.workspaces:
            self.workspaces[workspace].urgent.set()
            self.workspaces[workspace].posting.set()

    @property
    def _longest_rest(self) -> float:
        """Seconds after which a workspace's loop looks again, whatever it knows."""
        return max(self.policy.longest_rest.total_seconds(), len(self.workspaces) / LOOKS)

    def _every(
        self, interval: timedelta, name: str, job: Callable[..., Awaitable[Any]], *args: Workspace, begin: float = 0.0
    ) -> None:
        """Does it at each interval, for the first time after so many seconds."""
        seconds = interval.total_seconds()
        self._scheduler.add_job(
            self._guarded,
            IntervalTrigger(seconds=seconds, jitter=seconds / 10 if args else None, timezone=UTC),
            args=(name, partial(self._by_one, name, job), *args),
            id=":".join((name, *(workspace.name for workspace in args))),
            next_run_time=datetime.now(UTC) + timedelta(seconds=begin),
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )

    async def _guarded(self, name: str, job: Callable[..., Awaitable[Any]], *args: Workspace) -> None:
        """A job that fails is counted and comes again; it takes nothing else down with it."""
        with self._tracked():
            try:
                await job(*args)
            except asyncio.CancelledError:
                if not self._stopping.is_set():
                    raise  # only our own stop ends a job quietly: the scheduler would report it as a failure
            except ProviderError:
                return  # counted and noted where it happened
            except StoreUnavailable as error:
                self.metrics.jobs_failed.labels(name).inc()
                log.warning("job.store_unavailable", job=name, reason=str(error))
            except Exception:
                self.metrics.jobs_failed.labels(name).inc()
                log.exception("job.failed", job=name, workspace=args[0].name if args else None)

    async def _by_one(self, name: str, job: Callable[..., Awaitable[Any]], *args: Workspace) -> None:
        """Of all daemons on one store one does it, and not again before most of its interval is over. The others wait
        for its end: it may die, and then the work is theirs.
        """
        every = {"bulk": self.policy.bulk_interval, "inventory": self.policy.inventory_interval, "housekeeping": HOUR}
        if not self.store.shared or name not in every:
            await job(*args)
            return
        job_name = ":".join((name, *(workspace.name for workspace in args)))
        for workspace in args:
            if name == "bulk" and workspace.sweep_wanted:
                workspace.sweep_wanted = False  # another daemon's sweep answers as well
                now = self.now()
                due_by = now + self.policy.bulk_interval * (EARLY - SOON)
                await self.store.alongside(jobs.bring_forward, job_name, now, due_by)
        while not await self.store.alongside(jobs.take, job_name, self.holder, began := self.now(), began + JOB_LEASE):
            lease_until = await self.store.read(jobs.held_until, job_name, began)
            if lease_until is None:
                return
            await self._rest(self._stopping, (lease_until - began).total_seconds())
            if self._stopping.is_set():
                return
        async with self._held(job_name, lambda: began + every[name] * EARLY):
            await job(*args)

    @asynccontextmanager
    async def _held(self, job_name: str, next_at: Callable[[], datetime]) -> AsyncIterator[None]:
        """Renews the lease of a job that was taken, and gives it back at the end."""
        keeping = asyncio.create_task(self._keep_lease(job_name))
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(StoreUnavailable):  # it ends by itself then
                await self.store.alongside(jobs.done, job_name, self.holder, next_at())

    async def _keep_lease(self, job_name: str) -> None:
        while True:
            await asyncio.sleep(JOB_LEASE.total_seconds() / 3)
            with suppress(StoreUnavailable):
                await self.store.alongside(jobs.keep, job_name, self.holder, self.now() + JOB_LEASE)

    @contextmanager
    def _tracked(self) -> Iterator[None]:
        task = asyncio.current_task()
        if task is not None:
            self._running.add(task)
        try:
            yield
        finally:
            if task is not None:
                self._running.discard(task)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def bulk(self, workspace: Workspace) -> int:
        """One sweep over everything in a workspace; only what differs is written. Returns how many changes it made."""
        workspace.sweeping = True
        try:
            return await self._sweep_once(workspace)
        finally:
            workspace.sweeping = False
            if workspace.sweep_wanted and not workspace.resting:
                # Not in here: a job that has not ended is not begun a second time.
                asyncio.get_running_loop().call_later(AFTERWARDS, self._sweep_soon, workspace)

    async def _sweep_once(self, workspace: Workspace) -> int:
        if workspace.resting:
            return 0
        async with workspace.everything:
            started = workspace.swept_at = asyncio.get_running_loop().time()
            workspace.sweep_wanted = False
            try:
                if workspace.with_profiles and not workspace.profiles_listed:
                    # Newcomers are written once then: by the sweep, as it finds them.
                    with suppress(ProviderError):  # the inventory will meet it, too
                        await self._list_profiles(workspace)
                changes = await self._each_scope(workspace, await self._scopes(workspace), self._bulk_scope)
            except ProviderError as error:
                self.metrics.sweeps.labels(workspace.name, error.kind).inc()
                raise
        self.metrics.sweeps.labels(workspace.name, "ok").inc()
        self.metrics.sweep_seconds.labels(workspace.name).observe(asyncio.get_running_loop().time() - started)
        return changes

    async def _each_scope(
        self,
        workspace: Workspace,
        scopes: Sequence[Scope],
        look: Callable[[Workspace, Scope], Awaitable[int]],
    ) -> int:
        """Looks at the workspace and its profiles in turn. One that cannot be understood does not hide the others; an
        API that fails altogether ends the round.
        """
        changes = 0
        failure: ProviderError | None = None
        for scope in scopes:
            try:
                changes += await look(workspace, scope)
            except STANDS_IN_THE_WAY:
                raise
            except ProviderError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return changes

    async def _tell(self, changes: Sequence[Change]) -> None:
        """Passes on what was committed, in pieces: telling of thousands at once would hold up everybody else."""
        for part in accounts.chunked(changes, TOLD_AT_ONCE):
            self.heard(part)
            await asyncio.sleep(0)

    async def _bulk_scope(self, workspace: Workspace, scope: Scope) -> int:
        compared = Comparison(self.engine, {}, pausing=False)

        async def compare() -> IsNews:
            nonlocal compared
            known = await self.store.read(accounts.known, workspace.name, scope.ref)
            compared = Comparison(self.engine, known, pausing=workspace.name in self.engine.auto_pause)
            return compared.is_news

        async with self._asking(workspace, scope, "bulk") as answer:
            bulk = await workspace.provider.health_all(scope.ref or None, compare)
        if not answer.understood:
            return 0
        await self._look_before_pausing(workspace, compared.active, bulk)
        apply = partial(self.engine.apply, profile=scope.ref)
        changes = await self._digest(workspace, bulk.observations, apply)
        self.metrics.unclear_rows.labels(workspace.name, "contradiction").inc(len(bulk.unclear))
        self.metrics.unclear_rows.labels(workspace.name, "unreadable").inc(bulk.bad_rows)
        await self._ask_one_by_one(workspace, bulk.unclear)
        await self._miss(workspace, scope, compared.known, bulk)
        await self.store.within(workspace.name).run(profiles.mark_bulk, workspace.name, scope.ref, self.now())
        return changes

    async def _digest(
        self,
        workspace: Workspace,
        news: Iterable[T],
        take: Callable[[Connection, str, list[T], datetime], list[Change]],
    ) -> int:
        """Takes in what was told, a transaction for each part. Returns how many changes that made."""
        changes, pace, left = 0, Pace(DIGEST_SPAN, FEWEST, DIGEST), iter(news)
        while part := await asyncio.to_thread(lambda: list(itertools.islice(left, pace.number))):
            began = self.now()
            done = await self.store.within(workspace.name).run(take, workspace.name, part, began)
            pace.learn(len(part), self.now() - began)
            await self._tell(done)
            changes += len(done)
        return changes

    async def _ask_one_by_one(self, workspace: Workspace, refs: Sequence[str]) -> None:
        """Brings the accounts' own checks forward, but not again and again while the sweep goes on contradicting
        itself.
        """
        due = [ref for ref in refs if self._not_asked_lately(workspace, ref)]
        if due:
            await self.store.within(workspace.name).run(_bring_forward, workspace.name, due, self.now(), Lane.ROTATION)

    def _not_asked_lately(self, workspace: Workspace, ref: str) -> bool:
        """Whether this doubtful account may be asked about out of turn; it is then counted as asked."""
        now, key = self.now(), (workspace.name, ref)
        if now - self._asked.get(key, _LONG_AGO) < self.policy.ask_again:
            return False
        if now - self._asked_swept >= self.policy.ask_again:
            self._asked = {key: at for key, at in self._asked.items() if now - at < self.policy.ask_again}
            self._asked_swept = now
        self._asked[key] = now
        return True

    async def _miss(self, workspace: Workspace, scope: Scope, known: Mapping[str, Known], bulk: BulkHealth) -> None:
        """Accounts that the sweep no longer shows are looked for; a sweep alone removes nobody."""
        if bulk.bad_rows:
            return
        absent = await asyncio.to_thread(_absent, known, bulk.shown)
        newly = [ref for ref in absent if not known[ref].missing]
        if not newly:
            return
        if await self._too_short(workspace, scope, known, absent):
            log.warning("sweep.shrunk", workspace=workspace.name, absent=len(absent), known=len(known))
            workspace.inventory_wanted = True
            return
        await self._look_for(workspace, newly, Lane.CONFIRM)

    async def _too_short(
        self, workspace: Workspace, scope: Scope, known: Mapping[str, Known], absent: Sequence[str]
    ) -> bool:
        """Whether a list lacks so much that it is doubted rather than the accounts; and since when that is so."""
        present = sum(before.state is not State.REMOVED for before in known.values()) - len(absent)
        doubtful = len(absent) > max(FEW_MISSING, MISSING_SHARE * len(known)) or (present == 0 and len(absent) > 1)
        if doubtful is (scope.short_since is None):
            since = self.now() if doubtful else None
            await self.store.within(workspace.name).run(profiles.note_short, workspace.name, scope.ref, since)
        return doubtful

    async def _look_for(self, workspace: Workspace, refs: Sequence[str], lane: Lane) -> None:
        turn = self.store.within(workspace.name)
        ids = await turn.run(accounts.mark_missing, workspace.name, refs, self.now())
        await turn.run(accounts.schedule_probe, ids, self.now(), lane)
        if lane in URGENT:
            workspace.urgent.set()

    async def inventory(self, workspace: Workspace) -> int:
        """Reads the lists of accounts and profiles: new ones are taken in, missed ones looked for. Returns how many
        changes that made.
        """
        if workspace.resting:
            return 0
        async with workspace.everything:
            workspace.inventory_wanted = False
            resumed = await self._list_profiles(workspace) if workspace.with_profiles else []
            scopes = await self._scopes(workspace)
            return await self._each_scope(workspace, [*scopes, *resumed], self._inventory_scope)

    async def _inventory_scope(self, workspace: Workspace, scope: Scope) -> int:
        on_record = OnRecord({}, {})

        async def compare() -> IsListedAnew:
            nonlocal on_record
            on_record = await self.store.read(accounts.on_record, workspace.name, scope.ref)
            return on_record.is_listed_anew

        async with self._asking(workspace, scope, "list") as answer:
            listed = await workspace.provider.list_accounts(scope.ref or None, Lane.BULK, compare)
        if not answer.understood:
            return 0
        now, known = self.now(), on_record.known
        if not scope.active:
            await self._resume(workspace, scope, known)
        discover = partial(self.engine.discover, profile=scope.ref, probe_soon=self.policy.mode == "each")
        changes = await self._digest(workspace, listed.entries, discover)
        held = await self.store.read(notices.held_as_paused, workspace.name)
        for part in accounts.chunked((ref for ref in held if ref in listed.shown), DIGEST):
            await self.store.within(workspace.name).run(self.engine.answers_again, workspace.name, part, now)
        absent = await asyncio.to_thread(_absent, known, listed.shown)
        doubtful = await self._too_short(workspace, scope, known, absent)
        if absent:
            await self._look_for(workspace, absent, Lane.ROTATION if doubtful else Lane.CONFIRM)
        await self.store.within(workspace.name).run(profiles.mark_inventory, workspace.name, scope.ref, now)
        return changes

    async def _resume(self, workspace: Workspace, scope: Scope, known: Mapping[str, Known]) -> None:
        """A profile answers again: its accounts are asked about at once, those that are broken before the others."""
        for broken, lane in ((True, Lane.CONFIRM), (False, Lane.ROTATION)):
            refs = (ref for ref, one in known.items() if (one.state in BROKEN) is broken)
            for part in accounts.chunked(refs, DIGEST):
                await self.store.within(workspace.name).run(_bring_forward, workspace.name, part, self.now(), lane)
        await self.store.within(workspace.name).run(profiles.set_active, workspace.name, scope.ref, active=True)
        workspace.urgent.set()
        log.info("profile.resumed", workspace=workspace.name, profile=scope.ref, accounts=len(known))

    async def _list_profiles(self, workspace: Workspace) -> list[Scope]:
        """Takes over the list of profiles. Returns those that were paused and are listed as active: each counts as
        paused until it answers, since the list and the API may disagree.
        """
        workspace.profiles_listed = True
        try:
            found = [profile async for profile in workspace.provider.profiles()]
        except (NotFound, MissingScope) as error:
            # Not enabled for this workspace, or not for this key: then there are none to look after.
            log.debug("profiles.unavailable", workspace=workspace.name, reason=error.kind)
            return []
        except ProviderError as error:
            await self._note_failure(workspace, error, "profiles")
            raise
        before = await self.store.read(profiles.scopes, workspace.name)
        paused = {scope.ref: scope for scope in before if not scope.active}
        listed = [replace(profile, active=profile.active and profile.ref not in paused) for profile in found]
        await self.store.within(workspace.name).run(profiles.replace_profiles, workspace.name, listed)
        return [paused[profile.ref] for profile in found if profile.active and profile.ref in paused]

    async def _scopes(self, workspace: Workspace) -> list[Scope]:
        found = await self.store.read(profiles.scopes, workspace.name)
        return [scope for scope in found if scope.active and (workspace.with_profiles or scope.ref == OWN)]

    async def time_out(self) -> list[Change]:
        """Suspects whose confirmation did not come in time."""
        overdue = await self.store.read(accounts.overdue_confirmations, self.now(), OVERDUE)
        changes: list[Change] = []
        for workspace in dict.fromkeys(workspace for workspace, _ in overdue):
            done = await self.store.within(workspace).run(self.engine.time_out, self.now(), workspace, OVERDUE)
            await self._tell(done)
            changes += done
        return changes

    async def judge_storms(self) -> None:
        """Looks again at platforms whose accounts broke all at once."""
        for storm, why in await self.store.run(self.engine.dispatch.judge_storms, self.now()):
            log.warning("storm.over", workspace=storm.workspace, platform=storm.platform, storm=storm.id, reason=why)
            self.has_mail()
        for workspace in self.workspaces.values():
            workspace.urgent.set()
            workspace.posting.set()

    async def _keep_house(self) -> None:
        left = 1
        while left and not self._stopping.is_set():
            left = await self.store.alongside(housekeeping.prune, self.now())
        if await self.store.run(self.engine.dispatch.try_again, self.now()):
            self.has_mail()

    async def _keep_probing(self, workspace: Workspace, lanes: Sequence[Lane]) -> None:
        """Asks about due accounts for as long as the daemon runs. Urgent lanes and the rotation have a loop each, so
        that nobody waits behind the rotation.
        """

        async def turn() -> float:
            try:
                return await self._probe_round(workspace, lanes)
            finally:
                if workspace.inventory_wanted and Lane.ROTATION in lanes:
                    await self._guarded("inventory", self.inventory, workspace)

        await self._keep_at("probe", workspace, turn, workspace.urgent if lanes is URGENT else self._stopping)

    async def _keep_at(
        self, job: str, workspace: Workspace, turn: Callable[[], Awaitable[float]], woken: asyncio.Event
    ) -> None:
        """Does something turn after turn. A turn says for how many seconds nothing more can be done; one that fails is
        told, and comes again.
        """
        while not self._stopping.is_set():
            rest = self._longest_rest
            try:
                rest = await turn()
            except StoreUnavailable as error:
                log.warning("job.store_unavailable", job=job, reason=str(error))
            except Exception:
                self.metrics.jobs_failed.labels(job).inc()
                log.exception("job.failed", job=job, workspace=workspace.name)
            await self._rest(woken, rest)

    async def _probe_round(self, workspace: Workspace, lanes: Sequence[Lane]) -> float:
        """Asks about whose turn it is. Returns for how many seconds nothing more can be done."""
        allowed = self._allowed(workspace, lanes)
        pause = workspace.breaker.opens_until - asyncio.get_running_loop().time()
        rest = pause if pause > 0 else self._longest_rest
        due = await self.store.read(accounts.next_due, workspace.name, allowed)
        if due is None:
            return rest
        ahead = (due - self.now()).total_seconds()
        if ahead > 0:
            return min(rest, ahead)
        return 0.0 if await self.probe_as_allowed(workspace, lanes) else SHORTEST_REST

    def _sweep_soon(self, workspace: Workspace) -> None:
        """The next sweep comes as soon as it may; after the one that is under way, if one is."""
        job = None if self._stopping.is_set() else self._scheduler.get_job(f"bulk:{workspace.name}")
        if job is None:
            return
        workspace.sweep_wanted = True
        if workspace.sweeping:
            return
        at = datetime.now(UTC) + timedelta(seconds=self._may_sweep_in(workspace))
        if job.next_run_time is None or at < job.next_run_time:
            job.modify(next_run_time=at)

    def _may_sweep_in(self, workspace: Workspace) -> float:
        """Seconds until a sweep that is wanted may begin, as far as this process knows."""
        soonest = workspace.swept_at + self.policy.bulk_interval.total_seconds() * SOON
        return max(0.0, soonest - asyncio.get_running_loop().time())

    def _allowed(self, workspace: Workspace, lanes: Sequence[Lane]) -> Sequence[Lane]:
        """While the breaker is open only people's clicks go through; and where a sweep is to come for all who wait to
        be confirmed, questions about each take no more than ``UNTIL_SWEPT``.
        """
        allowance = workspace.allowance
        swept_soon = workspace.sweep_wanted and allowance.used >= allowance.share * UNTIL_SWEPT
        return tuple(lane for lane in lanes if lane is Lane.CLICK) if workspace.resting or swept_soon else lanes

    async def probe_as_allowed(self, workspace: Workspace, lanes: Sequence[Lane]) -> int:
        """Asks about whose turn it is, as far as the breaker lets us: after its pause one at a time, to see whether the
        API works again. Returns how many that were, where more may be due at once.
        """
        most = 1 if workspace.breaker.is_trying and not workspace.resting else ROTATION_AT_ONCE
        return await self.probe_due(workspace, self._allowed(workspace, lanes), most)

    async def _look_before_pausing(self, workspace: Workspace, active: Sequence[str], bulk: BulkHealth) -> None:
        """Only a sweep tells whether somebody else has paused an account already."""
        if not active:
            return
        waiting = await self.store.read(pauses.to_be_paused, workspace.name)
        found = waiting.intersection(active).difference(bulk.unclear)
        if found:
            await self.store.within(workspace.name).run(pauses.seen_active, workspace.name, found, bulk.asked_at)
            workspace.posting.set()

    async def _keep_posting(self, workspace: Workspace) -> None:
        """Pauses and resumes, one call after the other, for as long as the daemon runs."""
        if workspace.name not in self.engine.auto_pause:
            with suppress(StoreUnavailable):  # an earlier process may have left a trouble that nothing would end
                await self.note_trouble_over(workspace.name, "pause")
        await self._keep_at("posting", workspace, partial(self._posting_round, workspace), workspace.posting)

    async def _posting_round(self, workspace: Workspace) -> float:
        """Does what is due next. Returns for how many seconds nothing more can be done."""
        longest = self._longest_rest
        opens = max(workspace.breaker.opens_until, workspace.posting_breaker.opens_until)
        pausing = workspace.name in self.engine.auto_pause
        turn = await self.store.read(pauses.upcoming, workspace.name, self.now(), pausing=pausing)
        if turn is None:
            return longest
        ahead = max((turn.wanted.due_at - self.now()).total_seconds(), opens - asyncio.get_running_loop().time())
        if ahead > 0:
            return min(longest, ahead)
        return 0.0 if await self.change_posting(workspace) else SHORTEST_REST

    async def change_posting(self, workspace: Workspace) -> bool:
        """Makes the next call that is due to pause or resume an account; whether there was one."""
        pausing = workspace.name in self.engine.auto_pause
        turn = await self.store.within(workspace.name).run(pauses.claim, workspace.name, self.now(), pausing=pausing)
        if turn is None:
            return False
        pause = turn.wanted.action is Action.PAUSE
        call = workspace.provider.pause if pause else workspace.provider.resume
        try:
            async with asyncio.timeout(POSTING_TIMEOUT):
                await call(turn.ref, turn.profile or None)
        except TimeoutError:
            await self._posting_failed(workspace, turn, Unavailable("the call did not get through in time"))
        except ProviderError as error:
            await self._posting_failed(workspace, turn, error)
        else:
            if pause:
                await self.store.within(workspace.name).run(pauses.paused, turn, self.now())
            else:
                await self.store.within(workspace.name).run(pauses.resumed, turn, self.now(), pausing=pausing)
            self._posting_said(turn, "ok", "account.posting_paused" if pause else "account.posting_resumed")
            workspace.posting_breaker.worked()
            await self.note_trouble_over(workspace.name, "pause")
        return True

    async def _posting_failed(self, workspace: Workspace, turn: Turn, error: ProviderError) -> None:
        """What cannot be paused is given up for good reasons only, or after a day; a resume never: what we have paused
        must not stay so.
        """
        now, wanted = self.now(), turn.wanted
        pause, unknown = wanted.action is Action.PAUSE, isinstance(error, UNKNOWN_OUTCOME)
        if isinstance(error, STANDS_IN_THE_WAY):
            workspace.posting_breaker.failed(asyncio.get_running_loop().time())
        if isinstance(error, MissingScope):
            await self.note_trouble(workspace.name, error, "pause")
        after = error.retry_after if isinstance(error, RateLimited) else None
        again = retry_at(wanted.attempts, wanted.since, now, TRYING, workspace.rng, after)
        if pause and not unknown and (again is None or isinstance(error, NotFound | Unprocessable)):
            await self.store.within(workspace.name).run(pauses.give_up, turn, str(error), now)
            self._posting_said(turn, "given_up", "account.posting_not_paused", str(error))
            return
        self.metrics.posting_changes.labels(workspace.name, wanted.action, error.kind).inc()
        stuck = str(error) if again is None else None
        again = again or now + TRY_LATER * workspace.rng.uniform(0.5, 1.0)
        await self.store.within(workspace.name).run(pauses.postpone, turn, again, now, unknown=unknown, stuck=stuck)

    def _posting_said(self, turn: Turn, outcome: str, event: str, reason: str | None = None) -> None:
        wanted = turn.wanted
        self.metrics.posting_changes.labels(wanted.workspace, wanted.action, outcome).inc()
        tell = log.info if outcome == "ok" else log.warning
        tell(event, workspace=wanted.workspace, account_id=turn.ref, platform=turn.platform, reason=reason)

    async def _keep_webhook(self, workspace: Workspace) -> None:
        """Looks after the webhook for as long as the daemon runs, where it is ours to look after."""
        if self.care is None:
            return
        if workspace.name in self.care.addresses:
            await self._keep_at("webhook", workspace, partial(self._webhook_round, workspace), self._stopping)
            return
        with suppress(StoreUnavailable):
            await self.care.leave(workspace.name)
            await self.note_trouble_over(workspace.name, "webhooks")

    async def _webhook_round(self, workspace: Workspace) -> float:
        """Looks after the webhook, unless another daemon does. Returns for how many seconds there is nothing to do."""
        if not self.store.shared or self.care is None:
            return await self.look_after_webhook(workspace)
        name, now, rest = f"webhook:{workspace.name}", self.now(), 0.0
        if not await self.store.alongside(jobs.take, name, self.holder, now, now + JOB_LEASE):
            return JOB_LEASE.total_seconds()
        async with self._held(name, lambda: self.now() + timedelta(seconds=rest)):
            self.care.take_over(workspace.name)
            while not self._stopping.is_set():
                rest = await self.look_after_webhook(workspace)
                if not self.care.is_reading(workspace.name):
                    break
                await self._rest(self._stopping, rest)
        return rest

    async def look_after_webhook(self, workspace: Workspace) -> float:
        """Looks after the webhook if it is time. Returns for how many seconds nothing more is to be done."""
        if self.care is None:
            return 0.0
        pause = workspace.breaker.opens_until - asyncio.get_running_loop().time()
        rest = max(self.care.rest(workspace.name), pause)
        if rest > 0:
            return rest
        try:
            await self.care.look(workspace.name, workspace.provider)
        except ProviderError as error:
            if isinstance(error, STANDS_IN_THE_WAY):
                await self._note_failure(workspace, error, "webhooks")
            else:
                await self.note_trouble(workspace.name, error, "webhooks")
        else:
            await self._note_success(workspace, "webhooks")
        return max(self.care.rest(workspace.name), SHORTEST_REST)

    async def _keep_time(self) -> None:
        """Ends each suspicion when its time has run out, and judges each storm when it is due."""
        deadlines: Sequence[tuple[str, Callable[[Connection], datetime | None], Callable[[], Awaitable[Any]]]] = (
            ("confirm_timeout", accounts.next_confirmation, self.time_out),
            ("storms", storms.next_judgement, self.judge_storms),
        )
        while not self._stopping.is_set():
            rest = self.policy.longest_rest.total_seconds()
            for name, next_one, job in deadlines:
                with suppress(StoreUnavailable):
                    due = await self.store.read(next_one)
                    if due is not None and due <= self.now():
                        await self._guarded(name, job)
                        rest = SHORTEST_REST
                    elif due is not None:
                        rest = min(rest, (due - self.now()).total_seconds())
            await self._rest(self._suspects, rest)

    async def _rest(self, woken: asyncio.Event, seconds: float) -> None:
        """For so long, or until it is woken."""
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), timeout=seconds)
        if woken is not self._stopping:
            woken.clear()

    async def probe_due(self, workspace: Workspace, lanes: Sequence[Lane], most: int = ROTATION_AT_ONCE) -> int:
        """Asks about the accounts whose turn it is; returns how many those were."""
        urgent = Lane.ROTATION not in lanes
        limit = min(most, URGENT_AT_ONCE if urgent else max(1, workspace.allowance.share // 6))
        due = await self.store.within(workspace.name).run(
            accounts.claim_probes, workspace.name, lanes, self.now(), LEASE, limit
        )
        if urgent:
            if len(due) == URGENT_AT_ONCE:
                self._sweep_soon(workspace)
            await asyncio.gather(*(self._probe_now(workspace, probe) for probe in due))
        else:
            answers = await asyncio.gather(*(self._ask(workspace, probe) for probe in due))
            seen = [answer for answer in answers if answer is not None]
            if seen:
                await self._tell(
                    await self.store.within(workspace.name).run(self.engine.apply, workspace.name, seen, self.now())
                )
        return len(due)

    async def _probe_now(self, workspace: Workspace, probe: Probe) -> None:
        with tracing.span("account.probe", workspace=workspace.name, parent=tracing.carried(probe.account_id)):
            await self._probe(workspace, probe)

    async def _probe(self, workspace: Workspace, probe: Probe) -> None:
        seen = await self._ask(workspace, probe)
        if seen is not None:
            self.heard(
                await self.store.within(workspace.name).run(self.engine.apply, workspace.name, [seen], self.now())
            )

    async def _ask(self, workspace: Workspace, probe: Probe) -> Observation | None:
        """One account's own health; ``None`` where nobody can know, with the account's turn put off."""
        try:
            seen = await workspace.provider.health(probe.ref, probe.profile or None, probe.lane)
        except NotFound:
            return await self._not_found(workspace, probe)
        except Conflict:
            await self.store.within(workspace.name).run(_profile_paused, workspace.name, probe, self.now())
            return None
        except ProviderError as error:
            if isinstance(error, STANDS_IN_THE_WAY):
                await self._note_failure(workspace, error, "health")
            again = self._again(workspace, probe, error)
            await self.store.within(workspace.name).run(accounts.postpone_probe, probe.account_id, again, probe.lane)
            return None
        await self._note_success(workspace, "health")
        return seen

    def _again(self, workspace: Workspace, probe: Probe, error: ProviderError) -> datetime:
        """When to ask again: an answer about this account that says nothing will not say more in a minute."""
        if probe.lane in URGENT:
            base = timedelta(seconds=4)
        else:
            base = timedelta(seconds=90) if isinstance(error, STANDS_IN_THE_WAY) else self.policy.ask_again
        if isinstance(error, RateLimited):
            base = max(base, timedelta(seconds=error.retry_after))
        return self.now() + base * workspace.rng.uniform(1.0, 1.5)

    async def _not_found(self, workspace: Workspace, probe: Probe) -> Observation | None:
        """A 404 proves a removal only for an account that the inventory misses too, in a list that can be believed."""
        now = self.now()
        stored = await self.store.read(accounts.by_id, probe.account_id)
        if stored is not None and stored.missing_since is not None:
            scope = await self.store.read(profiles.get, workspace.name, probe.profile)
            short_since = scope.short_since if scope is not None else None
            if short_since is None or now - short_since >= SHORT_LIST_BELIEVED:
                return Observation(probe.ref, Signal.GONE, Source.INVENTORY, at=None)
            again, lane = short_since + SHORT_LIST_BELIEVED, Lane.ROTATION
        elif self._not_asked_lately(workspace, probe.ref):
            workspace.inventory_wanted = True
            again, lane = now + timedelta(seconds=15), Lane.CONFIRM
        else:
            # Listed and yet not found: that is the API's contradiction, and asking faster would not end it.
            again, lane = now + self.policy.ask_again, Lane.ROTATION
        await self.store.within(workspace.name).run(accounts.postpone_probe, probe.account_id, again, lane)
        return None

    @asynccontextmanager
    async def _asking(self, workspace: Workspace, scope: Scope, question: str) -> AsyncIterator[_Answer]:
        """Around a question about a whole scope: notes how the API treated us."""
        answer = _Answer()
        try:
            yield answer
        except ProviderError as error:
            if isinstance(error, Conflict | NotFound) and scope.ref != OWN:
                answer.understood = False
                await self.store.within(workspace.name).run(
                    profiles.set_active, workspace.name, scope.ref, active=False
                )
                return
            await self._note_failure(workspace, error, question)
            raise
        await self._note_success(workspace, question)

    async def _note_failure(self, workspace: Workspace, error: ProviderError, question: str) -> None:
        """The API's trouble is the workspace's, never an account's."""
        workspace.breaker.failed(asyncio.get_running_loop().time())
        await self.note_trouble(workspace.name, error, question)

    async def note_trouble(self, workspace: str, error: ProviderError, question: str) -> None:
        """Something stands in the way of this kind of question; the operator hears of it once."""
        now = self.now()
        self.workspaces[workspace].troubled.update(QUESTIONS)
        trouble = Trouble(
            trouble_id(workspace, error.kind, now), workspace, error.kind, question, now, str(error), error.remedy,
            error.request_id,
        )  # fmt: skip
        if await self.store.within(workspace).run(self.engine.trouble, trouble):
            log.warning(
                "api.trouble", workspace=workspace, kind=error.kind, question=question, reason=str(error),
                remedy=error.remedy, request_id=error.request_id,
            )  # fmt: skip

    async def _note_success(self, workspace: Workspace, question: str) -> None:
        workspace.breaker.worked()
        await self.note_trouble_over(workspace.name, question)

    async def note_trouble_over(self, workspace: str, question: str) -> None:
        """The API answered such a question."""
        if question not in self.workspaces[workspace].troubled:
            return
        self.workspaces[workspace].troubled.discard(question)
        for ended in await self.store.within(workspace).run(self.engine.trouble_over, workspace, self.now(), question):
            log.info("api.trouble_over", workspace=workspace, kind=ended.kind, question=ended.question)

    async def watch_allowances(self) -> None:
        """Calls that wait and wait: the customer's own traffic leaves nothing. The next answer ends the trouble."""
        for trouble in await self.store.read(troubles.current):
            if trouble.workspace in self.workspaces:  # another daemon may have noted it, and be gone
                self.workspaces[trouble.workspace].troubled.update(QUESTIONS)
        for workspace in self.workspaces.values():
            if workspace.allowance.longest_wait > STARVED_AFTER.total_seconds():
                await self.note_trouble(workspace.name, Starved("no call has gone through for minutes"), "any")

    def doubt_key(self, workspace: str) -> None:
        """The provider says that a key was revoked: whether it was ours shows at the next question."""
        if workspace in self.workspaces:
            self.workspaces[workspace].inventory_wanted = True


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def _absent(known: Mapping[str, Known], shown: Set[str]) -> list[str]:
    return [ref for ref, before in known.items() if before.state is not State.REMOVED and ref not in shown]


def _bring_forward(connection: Connection, workspace: str, refs: Sequence[str], at: datetime, lane: Lane) -> None:
    found = accounts.load(connection, workspace, refs)
    accounts.schedule_probe(connection, [stored.id for stored in found.values()], at, lane)


def _profile_paused(connection: Connection, workspace: str, probe: Probe, now: datetime) -> None:
    """One 409 speaks for the whole profile; its accounts are asked about again when it is resumed."""
    if probe.profile != OWN:
        profiles.set_active(connection, workspace, probe.profile, active=False)
    accounts.postpone_probe(connection, probe.account_id, now + PROFILE_REST, Lane.ROTATION)
