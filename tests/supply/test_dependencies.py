"""What the daemon imports is what it declares, and what it declares is what is locked."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
DEPENDENCIES: list[str] = PROJECT["project"]["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
GROUPS: dict[str, list[str]] = PROJECT["dependency-groups"]

BY_WAY_OF = {
    # Its parser is reached through the protocol class that uvicorn builds on it.
    "httptools": ("httptools", "healthd/listener.py"),
    # Zones for machines that bring none, such as a slim container.
    "tzdata": ("zoneinfo", "healthd/core/contacts.py"),
}
"""Declared without an import of their own, with the module and the file that need them."""

LOCKED_FROM = {
    "run": [*DEPENDENCIES, *EXTRAS["postgres"]],
    "dev": [*DEPENDENCIES, *GROUPS["dev"]],
    "build": GROUPS["build"],
}


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]).lower()


def names(requirements: Iterable[str]) -> set[str]:
    return {name_of(requirement) for requirement in requirements}


def imported_modules(files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((alias.name, str(file.relative_to(ROOT))) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield node.module, str(file.relative_to(ROOT))


def imported_packages(files: Iterable[Path]) -> set[str]:
    """Names on the package index of all that these files import, wherever in the file."""
    packages = packages_distributions()
    tops = {module.partition(".")[0] for module, _ in imported_modules(files)} - sys.stdlib_module_names - {"healthd"}
    return {name_of(package) for top in tops for package in packages[top]}


TRACING = [ROOT / "healthd" / "otel.py"]
POSTGRES = [ROOT / "healthd" / "store" / name for name in ("postgres.py", "move.py")]
DAEMON = [
    file
    for file in (ROOT / "healthd").rglob("*.py")
    if "demo" not in file.relative_to(ROOT).parts and file not in (*TRACING, *POSTGRES)
]
DEMO = sorted((ROOT / "healthd" / "demo").rglob("*.py"))


def test_whatever_the_daemon_imports_is_declared() -> None:
    assert imported_packages(DAEMON) - names(DEPENDENCIES) == set()


def test_whatever_is_declared_is_imported() -> None:
    assert names(DEPENDENCIES) - imported_packages(DAEMON) - set(BY_WAY_OF) == set()


def test_the_demo_imports_no_more_than_its_extra_adds() -> None:
    assert imported_packages(DEMO) - names(DEPENDENCIES) - names(EXTRAS["demo"]) == set()
    assert names(EXTRAS["demo"]) <= imported_packages(DEMO)


def test_postgresql_needs_no_more_than_its_extra_adds() -> None:
    assert imported_packages(POSTGRES) - names(DEPENDENCIES) == names(EXTRAS["postgres"])


def test_traces_need_no_more_than_their_extra_adds() -> None:
    """Its packages share the name of their folder, so that each is told by what it provides there."""
    provides = {
        "opentelemetry-sdk": "opentelemetry.sdk",
        "opentelemetry-exporter-otlp-proto-common": "opentelemetry.exporter.otlp.proto.common",
    }
    brought_by_the_sdk = ("opentelemetry.context", "opentelemetry.trace")
    imported = {module for module, _ in imported_modules(TRACING) if module.startswith("opentelemetry")}
    assert {module for module in imported if not module.startswith((*provides.values(), *brought_by_the_sdk))} == set()
    assert all(any(module.startswith(one) for module in imported) for one in provides.values())
    assert names(EXTRAS["otel"]) == provides.keys()


@pytest.mark.parametrize(("module", "file"), BY_WAY_OF.values(), ids=BY_WAY_OF)
def test_a_dependency_without_an_import_is_needed_where_it_is_said_to_be(module: str, file: str) -> None:
    assert any(module in imported for imported, _ in imported_modules([ROOT / file]))


def reached_from(requirements: Iterable[str], among: set[str]) -> set[str]:
    """The requirements and all that they require, as the installed packages say it."""
    found: set[str] = set()
    waiting = [(name_of(line), extras_of(line)) for line in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if name not in among or (name, extras) in seen:
            continue
        seen.add((name, extras))
        found.add(name)
        for line in needed_by(name):
            extra = re.search(r"extra == ['\"]([\w.-]+)['\"]", line)
            if extra is None or extra[1] in extras:
                waiting.append((name_of(line), extras_of(line)))
    return found


def needed_by(name: str) -> list[str]:
    """What an installed package requires; nothing of one that is locked for other platforms only."""
    from importlib.metadata import PackageNotFoundError

    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []


def extras_of(requirement: str) -> frozenset[str]:
    found = re.match(r"[A-Za-z0-9._-]+\[([\w,.-]+)\]", requirement)
    return frozenset(found[1].split(",")) if found else frozenset()


@pytest.mark.parametrize("lock", LOCKED_FROM)
def test_a_lock_holds_what_is_declared_with_what_that_needs_and_nothing_else(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.lock").read_text("utf-8")
    locked = names(line for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line))
    assert names(LOCKED_FROM[lock]) - locked == set(), "declared, and not locked"
    assert locked - reached_from(LOCKED_FROM[lock], locked) == set(), "locked, and needed by nothing declared"


@pytest.mark.parametrize("lock", ["dev", "build"])
def test_what_is_tested_and_what_builds_is_what_runs(lock: str) -> None:
    def pins(name: str) -> dict[str, str]:
        text = (ROOT / "requirements" / f"{name}.lock").read_text("utf-8")
        return dict(re.findall(r"(?m)^([A-Za-z0-9._-]+)(?:\[[\w,-]+\])?==(\S+)", text))

    other, shared = pins(lock), pins("run" if lock == "dev" else "dev")
    assert {name: version for name, version in shared.items() if other.get(name, version) != version} == {}
    assert lock != "dev" or shared.keys() <= other.keys()
