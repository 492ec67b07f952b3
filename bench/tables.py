"""Figures as the documentation shows them: what stands between two markers of a page is made from them.

``<!-- figures: promises -->`` asks for what was promised and whether it holds, ``beside peers checks`` for the figures
of these programs that have a peer, ``stores webhooks`` for a program's figures on both databases, ``over workspaces
workspaces`` for its growth, a column for each size, ``limits`` for what is at its end first, ``machine`` for where all
of it was measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field

from figures import Better, Circumstance, Figure, written
from titles import STORES, TITLES, circumstance, headed

_MARKED = re.compile(r"(<!-- figures: ([^>]+) -->\n).*?(<!-- /figures -->)", re.DOTALL)
SIZES = frozenset({"accounts", "workspaces", "daemons"})
NOTHING = "not measured yet"
DEFAULT = "sqlite"
"""On which what names no database was measured."""


@dataclass(frozen=True)
class Measured:
    """All figures of a file, and where they were measured."""

    machine: Mapping[str, str | int]
    figures: Sequence[Figure]
    tables: Mapping[str, Callable[..., str]] = field(init=False)

    def __post_init__(self) -> None:
        tables = {
            "promises": self.promises, "beside": self.beside, "stores": self.stores, "over": self.over,
            "limits": self.limits, "machine": self.where,
        }  # fmt: skip
        object.__setattr__(self, "tables", tables)

    def filled(self, page: str) -> str:
        """The page with all tables that it asks for. Raises ``KeyError`` for one that there is not."""

        def fill(found: re.Match[str]) -> str:
            what, *words = found[2].split()
            return f"{found[1]}{self.tables[what](*words)}\n{found[3]}"

        return _MARKED.sub(fill, page)

    def of(self, *programs: str) -> list[Figure]:
        return [one for one in self.figures if one.program in programs and TITLES[one.name]]

    def where(self) -> str:
        machine = self.machine
        memory = round(int(machine["memory_mb"]) / 1024)
        postgres = f", PostgreSQL {machine['postgresql']}" if machine["postgresql"] else ""
        return (
            f"Measured on {machine['date']} at commit `{machine['commit']}`: {machine['cores']} cores of an "
            f"{machine['cpu']} (virtual), {memory} GB, {machine['kernel']}, Python {machine['python']}, "
            f"SQLite {machine['sqlite']}{postgres}."
        )

    def promises(self) -> str:
        lines = [
            f"| | promised | {' | '.join(STORES.values())} |",
            "|---|---|" + "---|" * len(STORES),
        ]
        for one in PROMISES:
            cells = [self.kept(one, store) if store in one.stores else "" for store in STORES]
            lines.append(f"| {one.what} | {one.said} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def kept(self, promise: Promise, store: str) -> str:
        """Whether it holds on that database, and what was measured."""
        asked = {"store": store, **promise.at}
        for one in self.figures:
            if one.name == promise.figure and asked.items() <= {"store": DEFAULT, **one.at}.items():
                return f"**{'yes' if promise.holds(one.value) else 'no'}**: {amount(one.value, one.unit)}"
        return NOTHING

    def beside(self, *programs: str) -> str:
        """A row for each figure with a peer, and for each of no certain size: those have tables of their own."""
        found = [one for one in self.of(*programs) if one.ratio is not None or SIZES.isdisjoint(one.at)]
        if not found:
            return NOTHING
        common = {name: value for name, value in found[0].at.items() if all(one.at.get(name) == value for one in found)}
        lines = [f"{_first(common)} | healthd | beside | ratio |", "|---|---|---|---|"]
        for one in found:
            title = ", ".join([TITLES[one.name], *_each(one.at, but=common)])
            lines.append(f"| {title} | {amount(one.value, one.unit)} | {_peer([one])} |")
        return "\n".join(lines)

    def stores(self, *programs: str) -> str:
        """A table for all that was measured under the same circumstances, with a column for each database."""
        tables: dict[frozenset[tuple[str, Circumstance]], list[Figure]] = {}
        for one in self.of(*programs):
            others = frozenset((name, value) for name, value in one.at.items() if name != "store")
            tables.setdefault(others, []).append(one)
        return "\n\n".join(map(_by_store, tables.values())) or NOTHING

    def over(self, circumstance: str, *programs: str) -> str:
        """A row for each figure, a column for each size; of two databases both values stand in a cell."""
        found = [one for one in self.of(*programs) if circumstance in one.at]
        if not found:
            return NOTHING
        stores = [store for store in STORES if any(one.at.get("store", DEFAULT) == store for one in found)]
        sizes = sorted({int(one.at[circumstance]) for one in found})
        values = {(one.name, one.at[circumstance], one.at.get("store", DEFAULT)): written(one.value) for one in found}
        head = circumstance if len(stores) == 1 else f"{circumstance}: {' / '.join(STORES[store] for store in stores)}"
        lines = [f"| {head} | {' | '.join(f'{size:,}' for size in sizes)} |", "|---" * (len(sizes) + 1) + "|"]
        for name, unit in dict.fromkeys((one.name, one.unit) for one in found):
            rows = [[values.get((name, size, store), "–") for store in stores] for size in sizes]
            cells = ["" if set(row) == {"–"} else _together(" / ".join(row)) for row in rows]
            lines.append(f"| {headed(name, unit)} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def largest(self, name: str) -> Figure | None:
        """The figure at its largest size."""
        found = [one for one in self.figures if one.name == name]
        return max(
            found, key=lambda one: max((v for v in one.at.values() if isinstance(v, int)), default=0), default=None
        )

    def limits(self) -> str:
        lines = ["| what is used up | measured | so it ends at | then |", "|---|---|---|---|"]
        for one in LIMITS:
            base = self.largest(one.figure)
            if base is None:
                lines.append(f"| {one.what} | {NOTHING} | | {one.then} |")
                continue
            at = _said(base.at)
            said = f"{amount(base.value, base.unit)}{f' ({at})' if at else ''}"
            lines.append(f"| {one.what} | {said} | {written(rounded(one.ends(base)))} {one.unit} | {one.then} |")
        return "\n".join(lines)


def _by_store(figures: Sequence[Figure]) -> str:
    """These differ in nothing but their names and the database."""
    stores = [store for store in STORES if any(one.at["store"] == store for one in figures)]
    rows: dict[str, dict[Circumstance, Figure]] = {}
    for one in figures:
        rows.setdefault(one.name, {})[one.at["store"]] = one
    heads = " | ".join(STORES[store] for store in stores)
    lines = [f"{_first(figures[0].at, but=('store',))} | {heads} | beside | ratio |", "|---" * (len(stores) + 3) + "|"]
    for name, row in rows.items():
        cells = [amount(row[store].value, row[store].unit) if store in row else "" for store in stores]
        peers = _peer([row[store] for store in stores if store in row])
        lines.append(f"| {TITLES[name]} | {' | '.join(cells)} | {peers} |")
    return "\n".join(lines)


def _peer(figures: Sequence[Figure]) -> str:
    """Two cells: what the peer did in the same runs, and the ratios."""
    ratios = [f"{one.ratio:.2f}" for one in figures if one.ratio is not None]
    if not ratios:
        return "|"
    values = dict.fromkeys(written(one.peer_value) for one in figures if one.peer_value is not None)
    arrow = "↑" if figures[0].better == "higher" else "↓"
    beside = f"{', '.join(values)} {figures[0].unit}"
    return f"{figures[0].peer}: {_together(beside)} | {_together(', '.join(ratios) + ' ' + arrow)}"


def amount(value: float, unit: str) -> str:
    return _together(f"{written(value)} {unit}")


def _together(words: str) -> str:
    """Never apart at a line's end."""
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def _each(at: Mapping[str, Circumstance], but: Container[str] = ()) -> list[str]:
    return [circumstance(name, value) for name, value in at.items() if name not in but]


def _first(at: Mapping[str, Circumstance], but: Container[str] = ()) -> str:
    """The cell above the titles: what holds for all of them."""
    return f"| {_said(at, but)}".rstrip()


def _said(at: Mapping[str, Circumstance], but: Container[str] = ()) -> str:
    """*1,000 accounts, SQLite*."""
    return ", ".join(_each(at, but))


def rounded(value: float) -> float:
    """Two digits: what is computed from a measurement is no measurement."""
    return float(f"{value:.2g}")


@dataclass(frozen=True)
class Promise:
    """What a figure must be, under these circumstances."""

    what: str
    figure: str
    better: Better
    limit: float
    unit: str
    at: Mapping[str, Circumstance] = field(default_factory=dict)
    stores: Sequence[str] = tuple(STORES)
    """Those on which it is measured."""

    @property
    def said(self) -> str:
        return f"{'at least' if self.better == 'higher' else 'under'} {amount(self.limit, self.unit)}"

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.better == "higher" else value < self.limit


NO_ACCOUNT: Mapping[str, Circumstance] = {"event": "comment.received"}
BREAKS: Mapping[str, Circumstance] = {"event": "account.token_expired"}
BURST: Mapping[str, Circumstance] = {"expiries": 50_000, "gate": "on"}
NEWCOMERS: Mapping[str, Circumstance] = {"accounts": 100_000}
MILLION: Mapping[str, Circumstance] = {"accounts": 1_000_000}
PROMISES = (
    Promise(
        "webhooks that concern no account, acknowledged", "webhooks.acknowledged", "higher", 8000, "/s", NO_ACCOUNT
    ),
    Promise("and their p99", "webhooks.p99", "lower", 50, "ms", NO_ACCOUNT),
    Promise("webhooks that break an account, acknowledged", "webhooks.acknowledged", "higher", 8000, "/s", BREAKS),
    Promise("and their p99", "webhooks.p99", "lower", 50, "ms", BREAKS),
    Promise("single checks, of one core", "checks.per_core_to_client", "higher", 2000, "/s", stores=(DEFAULT,)),
    Promise("from a webhook to the message handed over, p50", "latency.p50", "lower", 100, "ms"),
    Promise("and p99", "latency.p99", "lower", 1000, "ms"),
    Promise("50,000 expiries in a minute, digested", "burst.digested", "lower", 120, "s", BURST),
    Promise("memory at rest, a million accounts", "scale.memory_at_rest", "lower", 120, "MB", MILLION),
    Promise("a scrape, a million accounts", "scale.page_scrape", "lower", 50, "ms", MILLION),
    Promise("ready after a restart, a million accounts", "scale.ready_again", "lower", 1, "s", MILLION),
    Promise("100,000 newcomers in one answer, digested", "sweep.all_news", "lower", 3, "s", NEWCOMERS, (DEFAULT,)),
    Promise("and the most memory until then", "scale.memory_at_most", "lower", 300, "MB", NEWCOMERS),
)
"""In the order of the daemon's work."""


@dataclass(frozen=True)
class Limit:
    """Where a resource ends, computed from one figure as if nothing else were in the way."""

    what: str
    figure: str
    ends: Callable[[Figure], float]
    unit: str
    then: str


def _size(figure: Figure, name: str) -> int:
    return int(figure.at[name])


HALF = 0.5
"""Of a core, for what must leave room for everything else."""
SIX_HOURS = 6 * 3600
MINUTE = 60
SCRAPE_TIMEOUT = 10_000
"""Milliseconds: Prometheus' own default."""
FOUR_GB = 4096
LIMITS = (
    Limit(
        "processor: the sweep a minute", "scale.no_news_cpu",
        lambda one: HALF * MINUTE / one.value * _size(one, "accounts"), "accounts on half a core",
        "more daemons: each workspace is swept by one of them; or a longer `bulk_interval`",
    ),
    Limit(
        "processor: each account by itself every 6 h", "checks.per_core_to_client",
        lambda one: HALF * one.value * SIX_HOURS, "accounts on half a core",
        "more daemons; the provider's allowance ends long before",
    ),
    Limit(
        "commits: webhooks on disk", "webhooks.acknowledged",
        lambda one: one.value, "a second at once, by the clock",
        "refused with 503, and repeated by the provider; more daemons, a faster disk",
    ),
    Limit(
        "processor: webhooks that break accounts", "peers.acted_on_per_core",
        lambda one: one.value, "a second on one core, lastingly",
        "they wait on disk, acknowledged; more daemons and workspaces",
    ),
    Limit(
        "processor on PostgreSQL, the database's included", "replicas.cpu_each",
        lambda one: 1000 / one.value, "webhooks a second for each core of both",
        "the database's cores first: partitions, then a database for each group of workspaces",
    ),
    Limit(
        "processor at rest", "workspaces.idle_cpu",
        lambda one: HALF * 100 / one.value * _size(one, "workspaces"), "workspaces on half a core",
        "more daemons; a longer `bulk_interval`",
    ),
    Limit(
        "memory, by workspaces", "workspaces.memory",
        lambda one: FOUR_GB / one.value * _size(one, "workspaces"), "workspaces in 4 GB",
        "the same",
    ),
    Limit(
        "memory, by accounts", "scale.memory_at_rest",
        lambda one: FOUR_GB / one.value * _size(one, "accounts"), "accounts in 4 GB",
        "several groups of daemons, each with its own workspaces",
    ),
    Limit(
        "scrape, within Prometheus' 10 s", "workspaces.scrape_cpu",
        lambda one: SCRAPE_TIMEOUT / one.value * _size(one, "workspaces"), "workspaces in one daemon",
        "several groups of daemons; fewer series in each",
    ),
    Limit(
        "series in Prometheus", "workspaces.series",
        lambda one: 1_000_000 / one.value * _size(one, "workspaces"), "workspaces for a million series",
        "drop what nobody reads by `metric_relabel_configs`",
    ),
)  # fmt: skip
"""In the order of the daemon's work."""
