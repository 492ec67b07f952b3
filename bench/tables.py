"""Figures as the documentation shows them: what stands between two markers of a page is made from them.

``<!-- figures: beside peers checks -->`` asks for the figures of these programs that have a peer, ``over workspaces
workspaces`` for a program's growth, a row for each size, ``limits`` for what is at its end first, ``machine`` for where
all of it was measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from figures import Figure, written

_MARKED = re.compile(r"(<!-- figures: ([^>]+) -->\n).*?(<!-- /figures -->)", re.DOTALL)
SIZES = frozenset({"accounts", "workspaces", "daemons"})
NOTHING = "Not measured yet."
TITLES = {
    "checks.by_clock_to_blackbox": "single checks",
    "checks.by_clock_to_client": "single checks",
    "checks.per_core_to_blackbox": "single checks of one core",
    "checks.per_core_to_client": "single checks of one core",
    "burst.cpu_each": "processor time for one expiry",
    "burst.to_one_person": "messages to one person, at the most",
    "burst.to_operator": "messages to the operator",
    "burst.to_people": "messages to people",
    "latency.p50": "webhook to message handed over, p50",
    "latency.p99": "webhook to message handed over, p99",
    "peers.acted_on": "webhooks that break an account, by the clock",
    "peers.acted_on_p99": "webhooks that break an account, p99",
    "peers.acted_on_per_core": "webhooks that break an account, of one core",
    "peers.heard": "webhooks that concern no account, by the clock",
    "peers.heard_p99": "webhooks that concern no account, p99",
    "peers.heard_per_core": "webhooks that concern no account, of one core",
    "peers.memory": "memory",
    "replicas.acknowledged": "acknowledged",
    "replicas.acknowledged_p99": "p99",
    "replicas.cpu_each": "processor time for one",
    "replicas.evenness": "the least busy, of its fair share",
    "replicas.takeover": "worked off after a SIGKILL",
    "replicas.worked_off": "worked off",
    "scale.cold_start": "start until all known",
    "scale.cold_start_cpu": "start until all known, processor",
    "scale.disk": "on disk, for one account",
    "scale.inventory_cpu": "list of accounts, processor",
    "scale.memory_at_most": "memory, the most",
    "scale.memory_at_rest": "memory at rest",
    "scale.no_news": "sweep without news",
    "scale.no_news_cpu": "sweep without news, processor",
    "scale.one_percent_broke": "sweep, 1 % broke",
    "scale.one_percent_broke_cpu": "sweep, 1 % broke, processor",
    "scale.page_accounts": "page of accounts",
    "scale.page_broken": "page of broken accounts",
    "scale.page_one_account": "page of one account",
    "scale.page_overview": "overview",
    "scale.page_scrape": "a scrape",
    "scale.page_search": "a search",
    "scale.page_search_nothing": "a search that finds nothing",
    "scale.ready": "ready after the start",
    "sweep.all_news": "a sweep, all new",
    "sweep.memory": "its memory",
    "sweep.no_news": "a sweep without news",
    "sweep.stall": "longest stall of the event loop",
    "webhooks.breaking": "webhooks that break an account, acknowledged",
    "webhooks.breaking_on_disk": "webhooks that break an account, acknowledged",
    "webhooks.breaking_p50": "webhooks that break an account, p50",
    "webhooks.breaking_p99": "webhooks that break an account, p99",
    "webhooks.breaking_per_core": "webhooks that break an account, of one core",
    "webhooks.noted": "webhooks that concern no account, acknowledged",
    "webhooks.noted_on_disk": "webhooks that concern no account, acknowledged",
    "webhooks.noted_p50": "webhooks that concern no account, p50",
    "webhooks.noted_p99": "webhooks that concern no account, p99",
    "webhooks.noted_per_core": "webhooks that concern no account, of one core",
    "workspaces.idle_cpu": "processor at rest",
    "workspaces.memory": "memory",
    "workspaces.ready": "ready after the start",
    "workspaces.scrape": "a scrape, by the clock",
    "workspaces.scrape_cpu": "a scrape, processor",
    "workspaces.series": "series",
    "workspaces.wakeups": "wake-ups",
}
"""What a figure is called in a table; a name that is not listed speaks for itself."""


def title(name: str) -> str:
    return TITLES.get(name, name.partition(".")[2].replace("_", " ") or name)


def headed(name: str, unit: str) -> str:
    """Title and unit, above a column or a curve."""
    return title(name) if title(name) == unit else f"{title(name)}, {unit}"


@dataclass(frozen=True)
class Measured:
    """All figures of a file, and where they were measured."""

    machine: Mapping[str, str | int]
    figures: Sequence[Figure]
    tables: Mapping[str, Callable[..., str]] = field(init=False)

    def __post_init__(self) -> None:
        tables = {"beside": self.beside, "over": self.over, "limits": self.limits, "machine": self.where}
        object.__setattr__(self, "tables", tables)

    def filled(self, page: str) -> str:
        """The page with all tables that it asks for. Raises ``KeyError`` for one that there is not."""

        def fill(found: re.Match[str]) -> str:
            what, *words = found[2].split()
            return f"{found[1]}{self.tables[what](*words)}\n{found[3]}"

        return _MARKED.sub(fill, page)

    def of(self, *programs: str) -> list[Figure]:
        return [one for one in self.figures if one.program in programs]

    def where(self) -> str:
        machine = self.machine
        memory = round(int(machine["memory_mb"]) / 1024)
        postgres = f", PostgreSQL {machine['postgresql']}" if machine["postgresql"] else ""
        return (
            f"Measured on {machine['date']} at commit `{machine['commit']}`: {machine['cores']} cores of an "
            f"{machine['cpu']} (virtual), {memory} GB, {machine['kernel']}, Python {machine['python']}, "
            f"SQLite {machine['sqlite']}{postgres}."
        )

    def beside(self, *programs: str) -> str:
        """A row for each figure with a peer, and for each of no certain size: those have tables of their own."""
        found = [one for one in self.of(*programs) if one.ratio is not None or SIZES.isdisjoint(one.at)]
        if not found:
            return NOTHING
        return "\n".join(["| | healthd | beside | ratio |", "|---|---|---|---|", *map(_beside, found)])

    def over(self, circumstance: str, *programs: str) -> str:
        """A row for each figure, a column for each size."""
        found = [one for one in self.of(*programs) if circumstance in one.at]
        if not found:
            return NOTHING
        several = len({one.at.get("store") for one in found}) > 1
        columns: dict[tuple[str, int], dict[str, Figure]] = {}
        for one in found:
            columns.setdefault((str(one.at.get("store", "")), int(one.at[circumstance])), {})[one.name] = one
        sizes = sorted(columns, key=lambda column: (column[0] != "sqlite", column))
        heads = [f"{size:,} {store}" if several else f"{size:,}" for store, size in sizes]
        lines = [f"| {circumstance} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
        for name, unit in dict.fromkeys((one.name, one.unit) for one in found):
            cells = [written(columns[size][name].value) if name in columns[size] else "" for size in sizes]
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
                lines.append(f"| {one.what} | not measured yet | | {one.then} |")
                continue
            at = ", ".join(_said(name, value) for name, value in base.at.items())
            said = f"{written(base.value)} {base.unit}{f' at {at}' if at else ''}"
            lines.append(f"| {one.what} | {said} | {written(rounded(one.ends(base)))} {one.unit} | {one.then} |")
        return "\n".join(lines)


def _beside(one: Figure) -> str:
    at = "".join(f", {_said(name, value)}" for name, value in one.at.items())
    ours = f"| {title(one.name)}{at} | {written(one.value)} {one.unit} "
    if one.ratio is None or one.peer_value is None:
        return f"{ours}| | |"
    arrow = "↑" if one.better == "higher" else "↓"
    return f"{ours}| {one.peer}: {written(one.peer_value)} {one.unit} | {one.ratio:.2f} {arrow} |"


def _said(name: str, value: str | int) -> str:
    """A circumstance: *1,000 accounts*, *sqlite*, *gate on*."""
    if isinstance(value, int):
        return f"{written(value)} {name}"
    return value if name == "store" else f"{name} {value}"


def rounded(value: float) -> float:
    """Two digits: what is computed from a measurement is no measurement."""
    return float(f"{value:.2g}")


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
