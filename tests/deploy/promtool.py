"""Prometheus and its tool, as they are installed here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.test.yml"))


def program(name: str) -> str:
    """Where ``prometheus`` or ``promtool`` is."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"No {name} found, and these tests need one: `make tools`, or `apt-get install prometheus`.")
    return found


def promtool(*arguments: str | Path) -> str:
    """What it prints; fails with that where it is not content."""
    told = subprocess.run([program("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout + told.stderr


def load(path: Path) -> dict[str, Any]:
    found = yaml.load(path.read_text("utf-8"), yaml.CSafeLoader)
    assert isinstance(found, dict)
    return found


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """All rules of a kind (``alert`` or ``record``) by name."""
    every = [rule for path in RULES for group in load(path)["groups"] for rule in group["rules"] if kind in rule]
    found = {rule[kind]: rule for rule in every}
    assert len(found) == len(every), "two rules have one name"
    return found
