"""Every alert fires when it should, is silent when it should not, and leads to what can be done about it."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import typer

from healthd.cli import app
from healthd.metrics import Metrics, Of
from tests.deploy.grafana import BOARDS, Asked, queries
from tests.deploy.promtool import PROMETHEUS, ROOT, RULE_TESTS, load, promtool, rules

ALERTS, RECORDS = rules("alert"), rules("record")
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")
LOOKS = [look for path in RULE_TESTS for test in load(path)["tests"] for look in test["promql_expr_test"]]
LABEL = re.compile(r'(\w+)="([^"]*)"')
DESCRIBED = {one.name: one for one in Metrics("").described}
OF_PROMETHEUS = {"up"}


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


SECTIONS = {_anchor(part.splitlines()[0]): part for part in RUNBOOK.split("\n## ")[1:]}


def _names(expression: str) -> set[str]:
    """The metrics that an expression asks for, recorded ones left out."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    return set(re.findall(r"(?<![\w:])(?:healthd_\w+|up)\b(?![\w:])", bare))


def _of(name: str) -> str:
    """The metric that a series belongs to."""
    return name if name in DESCRIBED else re.sub(r"_(bucket|count|sum)$", "", name)


def test_the_settings_and_rules_are_sound() -> None:
    assert "SUCCESS" in promtool("check", "config", PROMETHEUS / "prometheus.yml")
    told = promtool("check", "rules", "--lint=all", "--lint-fatal", *sorted((PROMETHEUS / "rules").glob("*.yml")))
    assert f"{len(ALERTS)} rules found" in told


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.name)
def test_the_rules_do_what_their_tests_say(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", path)


def test_every_alert_has_been_seen_firing_and_seen_silent() -> None:
    fired: set[str] = set()
    silent: set[str] = set()
    for look in LOOKS:
        asked = re.search(r'ALERTS\{alertname="(\w+)"', look["expr"])
        if asked:
            (fired if look["exp_samples"] else silent).add(asked[1])
    assert fired == set(ALERTS)
    assert silent == set(ALERTS)


def test_every_recorded_figure_has_been_seen() -> None:
    seen = {name for look in LOOKS if look["exp_samples"] for name in RECORDS if name in look["expr"]}
    assert seen == set(RECORDS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_is_so_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert page == "docs/runbook.md"
    assert f"*{name}, {rule['labels']['severity']}.*" in SECTIONS[anchor]
    given = _labels_when_firing(name)
    used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    assert used <= given, "a word of the message would be empty"


def _labels_when_firing(name: str) -> set[str]:
    found: dict[str, set[str]] = defaultdict(set)
    for look in LOOKS:
        for sample in look["exp_samples"]:
            labels = dict(LABEL.findall(sample["labels"]))
            found[labels.get("alertname", "")] |= labels.keys()
    return found[name]


@pytest.mark.parametrize(("name", "rule"), [*ALERTS.items(), *RECORDS.items()], ids=[*ALERTS, *RECORDS])
def test_a_rule_asks_only_for_what_healthd_shows(name: str, rule: dict[str, Any]) -> None:
    asked = _names(rule["expr"])
    assert asked
    assert {_of(one) for one in asked} <= DESCRIBED.keys() | OF_PROMETHEUS


_ALIKE = re.compile(r"\b(?:max|min)(?: by \((?P<by>[^)]*)\))?\s*\(\s*$")
_GROWN = re.compile(r"\b(?:rate|increase|max_over_time)\(\s*$")


def adds_up_replicas(expression: str) -> list[str]:
    """The figures that would come out wrong with several replicas: of the store, and not the same whoever tells them;
    or counted by each process, and not brought together.
    """
    found = []
    for asked in re.finditer(r"(?<![\w:])healthd_\w+\b(?![\w:])", re.sub(r'"[^"]*"', '""', expression)):
        one, before = DESCRIBED[_of(asked[0])], re.sub(r'"[^"]*"', '""', expression)[: asked.start()]
        alike, grown = _ALIKE.search(before), _GROWN.search(before)
        if one.of is Of.STORE and not (alike and "instance" not in (alike["by"] or "")):
            found.append(one.name)
        if one.kind != "gauge" and not (grown and re.search(r"\b(?:sum|max)\b", before)):
            found.append(one.name)
    return found


@pytest.mark.parametrize(("name", "rule"), [*ALERTS.items(), *RECORDS.items()], ids=[*ALERTS, *RECORDS])
def test_a_rule_is_right_with_three_replicas(name: str, rule: dict[str, Any]) -> None:
    assert adds_up_replicas(rule["expr"]) == []


@pytest.mark.parametrize("asked", [one for path in BOARDS for one in queries(path)], ids=lambda one: one.panel)
def test_a_panel_is_right_with_three_replicas(asked: Asked) -> None:
    assert adds_up_replicas(asked.expr) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "sum(healthd_incidents_open)",
        "max by (workspace, instance) (healthd_incidents_open)",
        "healthd_outbox_oldest_due_seconds > 600",
        "rate(healthd_webhooks_total[5m]) > 1",
        "sum(healthd_webhooks_total)",
    ],
)
def test_what_would_be_wrong_with_three_replicas_is_noticed(wrong: str) -> None:
    assert adds_up_replicas(wrong)


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    led_to = [rule["annotations"]["runbook_url"].partition("#")[2] for rule in ALERTS.values()]
    assert sorted(led_to) == sorted(SECTIONS)


@pytest.mark.parametrize("anchor", SECTIONS)
def test_a_section_begins_with_three_commands_that_exist_and_says_how_it_ends(anchor: str) -> None:
    section = SECTIONS[anchor]
    commands = [line[4:] for line in section.splitlines() if line.startswith("    ")]
    assert len(commands) == 3
    assert "\n*Ends* " in section
    root = typer.main.get_command(app)
    for command in commands + re.findall(r"`(healthd [^`]+)`", section):
        if command.startswith("healthd "):
            _check(root, command.partition("#")[0].split()[1:])


def _check(command: Any, words: list[str]) -> None:
    """The command is there, and takes these options."""
    while hasattr(command, "commands"):
        assert words, f"{command.name} alone does nothing"
        assert words[0] in command.commands, f"there is no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    options = {one for parameter in command.params if parameter.param_type_name == "option" for one in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options
    takes = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    assert not takes or words, f"{command.name} needs to be told of what"
