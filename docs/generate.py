"""Writes the pages of the documentation that are made from the source: `python docs/generate.py`.

`--check` writes nothing and ends with 1 when a page is not what the source says.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

from healthd.api.app import document
from healthd.core import machine
from healthd.core.machine import ROWS, Effect, Row
from healthd.core.model import OTHER_PLATFORM, PLATFORMS, Cause, Lane, Resolution, Signal, Source, State
from healthd.core.post_failures import TAKEN_FOR
from healthd.metrics import KNOWN_EVENTS, Described, Metrics

DOCS = Path(__file__).parent
MADE = "<!-- Made from the source by `python docs/generate.py`. Change the source, not this page. -->\n\n"

STATE_MEANINGS = {
    State.UNKNOWN: "listed, never read",
    State.HEALTHY: "the last reading was good",
    State.EXPIRING: "good, but a person must act by a date that is near",
    State.SUSPECT: "somebody said that it is broken; a reading of its own is on its way",
    State.EXPIRED: "the grant is dead: an incident is open",
    State.DISCONNECTED: "the connection is broken: an incident is open",
    State.REMOVED: "gone from the inventory; only a newer connection brings it back",
}


def effect_text(effect: Effect) -> str:
    """`OpenIncident(token)`: the effect with what it carries, as one would say it."""
    said = [getattr(effect, entry.name) for entry in fields(effect)]
    said = [name for name in said if name is not None and name is not False]
    words = ["unconfirmed" if value is True else str(value) for value in said]
    return f"{type(effect).__name__}({', '.join(words)})" if words else type(effect).__name__


def edges(rows: Iterable[Row]) -> dict[tuple[State, State], list[Signal]]:
    """Which signals lead from one state to another; staying is no edge."""
    found: dict[tuple[State, State], list[Signal]] = defaultdict(list)
    for row in rows:
        if row.next is not row.state:
            found[row.state, row.next].append(row.signal)
    return found


def state_diagram() -> str:
    lines = ["```mermaid", "stateDiagram-v2", "    direction LR", "    [*] --> unknown"]
    for (state, to), signals in edges(ROWS).items():
        lines.append(f"    {state} --> {to}: {', '.join(signals)}")
    return "\n".join([*lines, "```"])


def state_table() -> str:
    """States down, signals across: where each leads, and what must be done."""
    lines = [f"| | {' | '.join(f'`{signal}`' for signal in Signal)} |", "|---" * (len(Signal) + 1) + "|"]
    for state in State:
        cells = []
        for signal in Signal:
            step = machine.TABLE[state, signal]
            to = "·" if step.state is state else f"**{step.state}**"
            cells.append("<br>".join([to, *map(effect_text, step.effects)]))
        lines.append(f"| **{state}** | {' | '.join(cells)} |")
    return "\n".join(lines)


def effects_list() -> str:
    kinds = sorted({type(effect) for row in ROWS for effect in row.effects}, key=lambda kind: kind.__name__)
    lines = []
    for kind in kinds:
        text = (kind.__doc__ or "").strip()
        said = "" if text.startswith(f"{kind.__name__}(") else f": {text.splitlines()[0]}" if text else ""
        lines.append(f"- `{kind.__name__}`{said}")
    return "\n".join(lines)


def states_page() -> str:
    meanings = "\n".join(f"| `{state}` | {STATE_MEANINGS[state]} |" for state in State)
    return (
        f"# The state machine\n\n{MADE}"
        "Everything that can change an account's state stands in one table, "
        "[`core/machine.py`](../healthd/core/machine.py). *Paused* is a flag beside the state.\n\n"
        f"| state | what we believe |\n|---|---|\n{meanings}\n\n"
        f"## Moves\n\n{state_diagram()}\n\n"
        "## The whole table\n\n"
        "A dot means that the state stays as it is; what must be done stands below.\n\n"
        f"{state_table()}\n\n"
        f"## Effects\n\n{effects_list()}\n"
    )


METRICS_OPENING = f"""\
{MADE}# Metrics

The private listener (`server.admin_listen`) shows these under `/metrics`, and beside them the `process_*` metrics that
every Prometheus client for Python has. Labels come from closed sets or from your own configuration, never from what a
provider writes: the number of series is bounded by workspaces x platforms x states.

Several replicas on one PostgreSQL tell the same of the store: take the `max` over them, never the sum. What is of the
process is each one's own: add it up, or look at it by `instance`. The shipped rules and dashboards do so.
"""

CLOSED_SETS: dict[str, Iterable[str]] = {
    "cause": Cause,
    "class": TAKEN_FOR,
    "event": (*sorted(KNOWN_EVENTS), "other", "unparsed"),
    "how": Resolution,
    "lane": [lane.name.lower() for lane in Lane],
    "platform": (*PLATFORMS, OTHER_PLATFORM),
    "signal": Signal,
    "source": Source,
    "state, of accounts": State,
}

PARTS = {
    "gauge": "## Gauges\n\nWhat is so at the moment of the scrape.",
    "counter": "## Counters\n\nWhat has happened in this process since it started.",
    "histogram": "## Histograms\n\nHow long things took in this process, in seconds.",
}


def metrics_page() -> str:
    described = sorted(Metrics("").described, key=lambda one: one.name)
    parts = [
        f"{words}\n\n{_metrics_table(one for one in described if one.kind == kind)}" for kind, words in PARTS.items()
    ]
    values = "\n".join(f"| {name} | {_words(values)} |" for name, values in CLOSED_SETS.items())
    labels = f"## Labels with a closed set of values\n\n| label | values |\n|---|---|\n{values}"
    return "\n".join((METRICS_OPENING, *(f"{part}\n" for part in (*parts, labels))))


def _metrics_table(metrics: Iterable[Described]) -> str:
    rows = [f"| `{one.name}` | {_words(one.labels)} | {one.of} | {one.text} |" for one in metrics]
    return "\n".join(("| metric | labels | of the | meaning |", "|---|---|---|---|", *rows))


def _words(names: Iterable[str]) -> str:
    return " ".join(f"`{name}`" for name in names)


def openapi() -> str:
    return document().decode()


PAGES: dict[str, Callable[[], str]] = {"states.md": states_page, "metrics.md": metrics_page, "openapi.json": openapi}


def main(check: bool) -> int:
    """Writes the pages, or says which are not current."""
    stale = [name for name, page in PAGES.items() if _differs(DOCS / name, page())]
    for name in stale:
        if check:
            print(f"docs/{name} is not what the source says: run `python docs/generate.py`", file=sys.stderr)
        else:
            (DOCS / name).write_text(PAGES[name](), "utf-8")
            print(f"wrote docs/{name}")
    return 1 if check and stale else 0


def _differs(path: Path, text: str) -> bool:
    return not path.exists() or path.read_text("utf-8") != text


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
