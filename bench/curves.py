"""Figures over sizes as an SVG of small panels, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from figures import Figure, written
from titles import STORES, headed

WIDTH, HEIGHT, LEFT, TOP, PLOT_WIDTH, PLOT_HEIGHT = 312, 232, 54, 44, 236, 142
ACROSS = 3
SIZES = ("accounts", "workspaces")
DRAWN = (
    "scale.cold_start_cpu", "scale.no_news_cpu", "scale.one_percent_broke_cpu", "scale.memory_at_rest",
    "scale.memory_at_most", "scale.disk", "scale.page_scrape", "scale.page_accounts", "scale.page_search",
    "workspaces.idle_cpu", "workspaces.memory", "workspaces.scrape_cpu",
)  # fmt: skip
"""Which figures, in this order."""
FONT = "-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
STYLE = """
.paper{fill:#fbfcfd}.grid{stroke:#dde2e9}.h{fill:#171c24;font-size:13px;font-weight:650}.s{fill:#59636f;font-size:11px}
.first{stroke:#2257d0;fill:#2257d0}.second{stroke:#b4500f;fill:#b4500f}.peer{stroke:#59636f;fill:#59636f}
path{fill:none!important;stroke-width:2}path.peer{stroke-dasharray:5 4}circle,text,tspan{stroke:none!important}
@media (prefers-color-scheme:dark){.paper{fill:#14171c}.grid{stroke:#333b46}.h{fill:#eef1f5}.s{fill:#b3bcc8}
.first{stroke:#7ea3f5;fill:#7ea3f5}.second{stroke:#f0a070;fill:#f0a070}.peer{stroke:#9aa5b3;fill:#9aa5b3}}
"""

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One figure over one kind of size, with a line for each store and one for the peer."""

    name: str
    unit: str
    over: str
    lines: Mapping[str, Points]


def panels(figures: Iterable[Figure]) -> list[Panel]:
    """A panel for each of those to be drawn of which there are at least two sizes."""
    found: dict[tuple[str, str, str], dict[str, Points]] = {}
    for one in figures:
        sizes = [name for name in SIZES if name in one.at]
        if one.name not in DRAWN or not sizes or one.value <= 0:
            continue
        over = sizes[-1]
        lines = found.setdefault((one.name, one.unit, over), {})
        size = float(one.at[over])
        lines.setdefault(str(one.at.get("store", "")), []).append((size, one.value))
        if one.peer is not None and one.peer_value:
            lines.setdefault(one.peer, []).append((size, one.peer_value))
    made = [Panel(*key, {name: sorted(points) for name, points in lines.items()}) for key, lines in found.items()]
    made = [one for one in made if max(map(len, one.lines.values())) > 1]
    return sorted(made, key=lambda one: DRAWN.index(one.name))


def drawn(figures: Sequence[Figure]) -> str:
    """The whole picture."""
    found = panels(figures)
    rows = -(-len(found) // ACROSS)
    width, height = ACROSS * WIDTH + 16, rows * HEIGHT + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="{FONT}">',
        "<title>What healthd's figures become as accounts and workspaces grow</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}" rx="14"/>',
    ]
    for number, one in enumerate(found):
        x, y = 8 + number % ACROSS * WIDTH, 8 + number // ACROSS * HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *_panel(one), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel) -> list[str]:
    points = [point for line in panel.lines.values() for point in line]
    across, up = _Axis([x for x, _ in points], PLOT_WIDTH), _Axis([y for _, y in points], PLOT_HEIGHT)
    parts = [f'<text class="h" x="{LEFT}" y="18">{escape(headed(panel.name, panel.unit))}</text>']
    bottom = TOP + PLOT_HEIGHT
    for value in up.ticks:
        y = bottom - up.place(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{LEFT + PLOT_WIDTH}"/>')
        parts.append(f'<text class="s" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{written(value)}</text>')
    for value in across.ticks:
        x = LEFT + across.place(value)
        parts.append(f'<text class="s" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{written(value)}</text>')
    parts.append(
        f'<text class="s" x="{LEFT + PLOT_WIDTH}" y="{bottom + 31}" text-anchor="end">{escape(panel.over)}</text>'
    )
    for name, line in panel.lines.items():
        kind = _kind(name)
        placed = [(LEFT + across.place(x), bottom - up.place(y)) for x, y in line]
        parts.append(f'<path class="{kind}" d="M{" L".join(f"{x:.1f} {y:.1f}" for x, y in placed)}"/>')
        parts += [f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in placed]
    names = [f'<tspan class="{_kind(name)}">{escape(STORES.get(name, name))}</tspan>' for name in panel.lines if name]
    return [*parts, f'<text class="s" x="{LEFT}" y="34">{", ".join(names)}</text>']


def _kind(line: str) -> str:
    return {"": "first", "sqlite": "first", "postgresql": "second"}.get(line, "peer")


class _Axis:
    """Powers of ten from below the least to above the greatest value."""

    def __init__(self, values: Sequence[float], length: float) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self.length = length

    @property
    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]

    def place(self, value: float) -> float:
        """Units of the picture from the axis's beginning."""
        return (math.log10(value) - self.low) / (self.high - self.low) * self.length
