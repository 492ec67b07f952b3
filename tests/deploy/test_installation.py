"""docs/installation.md can be followed to the letter: its files are there, its commands exist, its names agree."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import Any

import typer

from healthd.cli import app
from tests.deploy.promtool import load
from tests.deploy.shipped import DEPLOY, ROOT, secret_files

PAGE = (ROOT / "docs" / "installation.md").read_text("utf-8")
CHAPTERS = {part.splitlines()[0]: part for part in PAGE.split("\n## ")[1:]}
LINES = [line.strip() for line in PAGE.splitlines() if line.startswith("    ")]
COMMANDS = LINES + re.findall(r"`((?:docker|healthd|kubectl|make) [^`]+)`", PAGE)
OWN = re.compile(r"(?:sudo -u healthd /opt/healthd/bin/|docker compose exec healthd )?healthd (.+)")
VALUES = load(DEPLOY / "kubernetes" / "chart" / "values.yaml")


def words(line: str) -> list[str]:
    return shlex.split(line, comments=True)


def test_the_shell_understands_every_line() -> None:
    told = subprocess.run(["bash", "-n", "-c", "\n".join(LINES)], capture_output=True, text=True, check=False)
    assert told.stderr == ""


def test_every_file_that_is_copied_read_or_applied_is_there() -> None:
    named = {word for line in COMMANDS for word in words(line) if re.match(r"(deploy|requirements|docs)/", word)}
    assert len(named) > 15
    assert [name for name in named if not list(ROOT.glob(name.rstrip("/.")))] == []
    folder = DEPLOY / "compose"
    told = {word for line in COMMANDS for word in words(line) if word.endswith(".env") and "/" not in word} - {".env"}
    assert told == {"demo.env"}
    assert all((folder / name).is_file() for name in (*told, "prepare"))


def test_every_command_of_healthd_exists_with_its_options() -> None:
    own = [found[1] for line in COMMANDS if (found := OWN.match(line))]
    assert {"accounts", "notify-test", "check-config"} <= {line.split()[0] for line in own}
    root: Any = typer.main.get_command(app)
    for line in own:
        command, rest = root, words(line)
        while hasattr(command, "commands"):
            assert rest[0] in command.commands, f"there is no command {rest[0]}: {line}"
            command, rest = command.commands[rest[0]], rest[1:]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= options, line


def test_the_secrets_that_are_made_are_those_that_the_settings_ask_for() -> None:
    debian, kubernetes = CHAPTERS["Debian with systemd"], CHAPTERS["Kubernetes"]
    made = set(re.findall(r"> /etc/healthd/secrets/(\w+)", debian))
    asked = (DEPLOY / "systemd" / "healthd.toml").read_text("utf-8")
    assert made == secret_files(asked, "/etc/healthd/secrets")
    assert set(re.findall(r"--from-file=(\w+)(?:\s|$)", kubernetes)) == secret_files(
        VALUES["settings"], "/run/secrets/healthd"
    )


def test_the_values_that_are_set_are_values_of_the_chart() -> None:
    chapter = CHAPTERS["Kubernetes"]
    keys = re.findall(r"--set(?:-file)? ([\w.=/,-]+)", chapter)
    named = {part.split("=")[0] for one in keys for part in one.split(",")} | set(
        re.findall(r"`((?:monitoring|networkPolicy)\.\w+)", chapter)
    )
    assert len(named) >= 8
    for name in named:
        value: Any = VALUES
        for part in name.split("."):
            assert part in value, name
            value = value[part]


def test_the_proxys_file_has_its_names_once_the_page_has_been_followed() -> None:
    [line] = [line for line in LINES if line.startswith("sed ")]
    told = subprocess.run(
        ["bash", "-c", line.split(" | sudo")[0]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    bare = "\n".join(row for row in told.stdout.splitlines() if not row.startswith("#"))
    assert bare.startswith("healthd.example.com {")
    assert "reverse_proxy 127.0.0.1:8080" in bare
    assert "$" not in bare


def test_what_the_page_publishes_is_published() -> None:
    compose = (DEPLOY / "compose" / "compose.yaml").read_text("utf-8")
    ports = set(re.findall(r"http://127\.0\.0\.1:(\d+)", CHAPTERS["Docker or Podman"]))
    assert ports == {"8025", "8090", "9090", "3000", "9091", "9093"}
    assert ports <= set(re.findall(r'"127\.0\.0\.1:(\d+):', compose))


def test_make_has_the_target_that_is_asked_for() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {words(line)[1] for line in COMMANDS if line.startswith("make ")} <= targets
