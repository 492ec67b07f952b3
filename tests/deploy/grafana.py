"""Dashboards as Grafana would ask Prometheus for them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploy.promtool import ROOT

FOLDER = ROOT / "deploy" / "grafana"
BOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
VARIABLES = {"workspace": ".*", "platform": ".*", "__rate_interval": "4s", "__range": "1m"}
"""What Grafana puts in: everything, and spans that fit a test."""


@dataclass(frozen=True)
class Asked:
    """One query of one panel."""

    board: str
    panel: str
    expr: str
    instant: bool

    @property
    def filled(self) -> str:
        return re.sub(r"\$(\w+)", lambda found: VARIABLES[found[1]], self.expr)


def board(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def panels(path: Path) -> Iterator[dict[str, Any]]:
    """A dashboard's panels, rows left out."""
    for panel in board(path)["panels"]:
        if panel["type"] == "row":
            assert not panel["panels"]
        else:
            yield panel


def queries(path: Path) -> list[Asked]:
    return [
        Asked(path.stem, panel["title"], target["expr"], bool(target.get("instant")))
        for panel in panels(path)
        for target in panel["targets"]
    ]
