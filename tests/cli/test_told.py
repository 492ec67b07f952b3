"""Commands that read the store and the settings: what they print, as tables and as JSON, and how they end."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperCommand, TyperGroup
from typer.testing import CliRunner, Result

from healthd.cli import app
from healthd.store.migrations import HEAD
from tests.config.written import written
from tests.daemon.conftest import settled
from tests.daemon.rig import Rig, rig
from tests.logs.kept import logging_kept

HOSTILE = "=1+1 [red]x[/red] [/] :fire: \\"


@dataclass(frozen=True)
class Story:
    """What was left by a daemon that saw one account repaired, and one break and stay so."""

    config: str
    repaired: str
    broken: str


async def _a_post_failed(scene: Rig) -> bool:
    labels = {"workspace": "sandbox", "platform": "facebook", "class": "grant"}
    return await scene.metric("healthd_post_failures_total", **labels) == 1


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    async def play() -> Story:
        folder = tmp_path_factory.mktemp("story")
        async with rig(folder, options={"accounts": 16}) as scene:
            broken = scene.sandbox.world.add_account("sandbox", "youtube", HOSTILE, "channel")
            await scene.start()
            await settled(scene)
            repaired = scene.account("facebook")
            scene.expire(repaired)
            mail = await scene.mail(repaired.name)
            why = {"code": "TOKEN_EXPIRED", "message": "The session has ended.", "retryable": False}
            scene.sandbox.api.tell_of_post(repaired, 4711, why)
            await scene.until(lambda: _a_post_failed(scene), "the post")
            await scene.person.reconnect(mail.link or "")
            await scene.mail("connected again")
            scene.expire(broken)
            await scene.mail("1+1")
            await scene.stop()
            return Story(str(folder / "healthd.toml"), str(repaired.id), str(broken.id))

    return asyncio.run(play())


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    with logging_kept():
        yield


def healthd(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def as_json(*words: str, code: int = 0) -> Any:
    result = healthd(*words, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, (*path, name))
        else:
            assert isinstance(command, TyperCommand)
            yield (*path, name), command


COMMANDS = dict(_commands(typer.main.get_command(app)))


def test_there_are_the_commands_that_were_promised() -> None:
    promised = {"run", "demo", "sandbox", "check-config", "sweep", "accounts", "incidents", "explain", "notify-test"}
    promised |= {"db upgrade", "version", "healthcheck", "acknowledge", "snooze", "resume", "bounce", "preview"}
    promised |= {"mute", "unmute", "init", "db backup", "db restore"}
    promised |= {f"contacts {name}" for name in ("import", "export", "list", "bounced", "trust")}
    promised |= {"routes test", "routes show", "storms list", "storms release", "storms cancel", "notices release"}
    promised |= {"token create", "token list", "token revoke"}
    assert {" ".join(path) for path in COMMANDS} >= promised


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_each_command_says_what_it_does_and_what_each_option_means(path: tuple[str, ...]) -> None:
    result = healthd(*path, "--help")
    assert result.exit_code == 0
    assert f"Usage: healthd {' '.join(path)}" in " ".join(result.stdout.split())
    command = COMMANDS[path]
    assert command.help
    assert command.get_short_help_str(60) in healthd(*path[:-1], "--help").stdout
    assert "..." not in command.get_short_help_str(60)
    assert [param.name for param in command.params if not getattr(param, "help", None)] == [
        param.name for param in command.params if param.name == "help"
    ]


def test_exit_codes_are_told() -> None:
    assert "0 done, 1 failed, 2 the configuration or the command line is wrong, 3 not found" in " ".join(
        healthd("--help").stdout.split()
    )


ENDS: dict[str, tuple[int, tuple[str, ...], str]] = {
    "a list": (0, ("accounts",), "facebook"),
    "an unknown state": (2, ("accounts", "--state", "expird"), "there is no state 'expird'; did you mean 'expired'?"),
    "a state that is like none": (2, ("accounts", "--state", "x"), "there are: unknown, healthy"),
    "an unknown option": (2, ("accounts", "--stat", "x"), "No such option"),
    "no row at all": (2, ("accounts", "--limit", "0"), "--limit"),
    "an unknown workspace": (3, ("accounts", "-w", "sandbx"), "no workspace 'sandbx'; did you mean 'sandbox'?"),
    "an unknown workspace's incidents": (3, ("incidents", "-w", "x"), "there are: sandbox"),
    "an unknown workspace to sweep": (3, ("sweep", "-w", "x"), "there are: sandbox"),
    "an unknown account": (3, ("explain", "nobody"), "no account is called 'nobody'"),
    "an unclear account": (3, ("explain", "0"), "no account is called '0'"),
    "an unknown channel": (1, ("notify-test", "mial:ada@acme.example"), "did you mean 'mail'?"),
    "a channel without an address": (1, ("notify-test", "mail"), "needs a recipient"),
    "a daemon that is not there": (1, ("healthcheck",), "no answer from 127.0.0.1"),
    "a store that is up to date": (0, ("db", "upgrade"), "nothing to do"),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_commands_end_as_the_help_says(story: Story, end: tuple[int, tuple[str, ...], str]) -> None:
    code, words, says = end
    result = healthd(*words, "--config", story.config)
    assert result.exit_code == code, result.output
    assert says in result.output
    assert "Traceback" not in result.output


CONFIGURED = [
    path
    for path, command in COMMANDS.items()
    # `init` writes the file that the others read.
    if path != ("init",) and any(param.name == "config" for param in command.params)
]


@pytest.mark.parametrize("path", CONFIGURED, ids=" ".join)
def test_every_command_tells_all_mistakes_in_the_settings_and_ends_with_2(
    tmp_path: Path, path: tuple[str, ...]
) -> None:
    config = written(tmp_path, {"log": 'level = "loud"', "link": ""})
    result = healthd(*path, *_arguments(COMMANDS[path]), "--config", str(config))
    assert result.exit_code == 2
    assert f"{config}: log.level: must be" in result.stderr
    assert f"{config}: link.secrets: is missing" in result.stderr


def _arguments(command: Any) -> list[str]:
    """Something for each word that the command cannot do without."""
    needed = [param for param in command.params if param.required]
    return [word for param in needed for word in (*param.opts[:1], "x")[param.param_type_name == "argument" :]]


def test_the_settings_file_may_be_named_by_the_environment(story: Story) -> None:
    result = CliRunner(env={"HEALTHD_CONFIG": story.config}).invoke(app, ["accounts"])
    assert result.exit_code == 0, result.output


def test_accounts_are_listed_with_what_is_believed_of_them(story: Story) -> None:
    found = as_json("accounts", "--config", story.config)
    assert len(found) == 17
    by_ref = {one["ref"]: one for one in found}
    assert by_ref[story.broken]["state"] == "expired"
    assert by_ref[story.broken]["name"] == HOSTILE
    assert by_ref[story.repaired]["state"] == "healthy"
    assert set(by_ref[story.broken]) >= {"workspace", "platform", "paused", "changed_at", "validity_days", "profile"}
    only = as_json("accounts", "--config", story.config, "--state", "expired", "--state", "suspect")
    assert [one["ref"] for one in only] == [story.broken]
    assert {one["platform"] for one in as_json("accounts", "-p", "youtube", "-c", story.config)} == {"youtube"}
    assert as_json("accounts", "--platform", "none", "--config", story.config) == []
    assert len(as_json("accounts", "--limit", "3", "--config", story.config)) == 3


def test_a_list_that_was_cut_says_so(story: Story) -> None:
    assert "--limit" in healthd("accounts", "--limit", "3", "--config", story.config).stderr
    assert healthd("accounts", "--config", story.config).stderr == ""


@pytest.mark.parametrize("words", [("accounts",), ("incidents", "--all")], ids=["accounts", "incidents"])
def test_no_name_breaks_a_table_or_is_taken_for_markup(story: Story, words: tuple[str, ...]) -> None:
    lines = healthd(*words, "--config", story.config).stdout.splitlines()
    [row] = [line for line in lines if HOSTILE in line]
    assert len({len(line) for line in lines}) == 1
    assert row.count("│") == lines[-2].count("│")


def test_incidents_that_wait_are_listed_and_all_of_them_newest_first(story: Story) -> None:
    [waiting] = as_json("incidents", "--config", story.config)
    assert (waiting["ref"], waiting["cause"], waiting["resolved_at"]) == (story.broken, "token", None)
    both = as_json("incidents", "--all", "--config", story.config)
    assert [one["ref"] for one in both] == [story.broken, story.repaired]
    assert both[1]["resolution"] == "repaired"
    assert both[0]["opened_at"] > both[1]["opened_at"]


def test_an_account_is_explained_from_the_webhook_to_the_repair(story: Story) -> None:
    [told] = as_json("explain", f"sandbox/{story.repaired}", "--config", story.config)
    events = [(one["what"], one["detail"]) for one in told["timeline"]]
    what = [one for one, _ in events]
    assert what[0] == "first seen"
    for earlier, later in (
        ("webhook said token_expired", "health said bad_token"),
        ("health said bad_token", "incident opened"),
        ("incident opened", "planned"),
        ("planned", "opened sent"),
        ("opened sent", "reconnect button pressed"),
        ("reconnect button pressed", "incident repaired"),
        ("incident repaired", "resolved sent"),
    ):
        assert what.index(earlier) < what.index(later), events
    assert ("health said bad_token", "suspect → expired") in events
    assert ("post 4711 failed", "TOKEN_EXPIRED: The session has ended.") in events
    assert ("opened sent", "mail:ada@acme.example: the default recipients") in events
    assert [one["at"] for one in told["timeline"]] == sorted(one["at"] for one in told["timeline"])
    [level] = told["plan"]
    assert level["recipients"] == [{"to": "mail:ada@acme.example", "contact": None}]


def test_an_account_is_found_by_id_and_name_and_shown_as_a_table(story: Story) -> None:
    for words in (story.broken, f"sandbox/{story.broken}", "1+1 [RED]"):
        result = healthd("explain", words, "--config", story.config)
        assert result.exit_code == 0, result.output
        assert HOSTILE in result.stdout
        assert "opened sent" in result.stdout
        assert "reminder pending" in result.stdout
        assert "told: mail:ada@acme.example" in result.stdout


def test_words_that_fit_several_accounts_show_which(story: Story) -> None:
    result = healthd("explain", "Acme", "--config", story.config)
    assert result.exit_code == 3
    assert "Several accounts are meant" in result.stderr
    assert result.stdout.count("Acme") >= 2
    assert len(as_json("explain", "Acme", "--config", story.config)) >= 2


def test_db_upgrade_says_from_where_to_where(tmp_path: Path) -> None:
    database = tmp_path / "new.db"
    config = str(written(tmp_path, {"store": f'url = "sqlite:///{database}"'}))
    first = healthd("db", "upgrade", "--config", config)
    assert (first.exit_code, f"from empty to revision {HEAD}" in first.stdout) == (0, True)
    assert f"already at revision {HEAD}" in healthd("db", "upgrade", "--config", config).stdout
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    newer = healthd("db", "upgrade", "--config", config)
    assert newer.exit_code == 1
    assert "revision 9999, newer than this release's" in newer.stderr


@pytest.mark.parametrize("words", [("db", "upgrade"), ("accounts",), ("run",)], ids=" ".join)
def test_a_database_that_cannot_be_opened_is_a_message_and_no_traceback(tmp_path: Path, words: tuple[str, ...]) -> None:
    config = written(tmp_path, {"store": 'url = "sqlite:////nowhere/healthd.db"', "server": _any_ports()})
    result = healthd(*words, "--config", str(config))
    assert result.exit_code == 1
    assert "the folder /nowhere does not exist" in result.stderr
    assert "Traceback" not in result.output


def _any_ports() -> str:
    return 'listen = "127.0.0.1:0"\nadmin_listen = "127.0.0.1:0"'


def test_check_config_tells_what_the_settings_amount_to(tmp_path: Path) -> None:
    sections = {"store": f'url = "sqlite:///{tmp_path / "healthd.db"}"'}
    result = healthd("check-config", "--config", str(written(tmp_path, sections)))
    assert result.exit_code == 0
    assert "✓ settings: 1 workspace(s), 1 channel(s)" in result.stdout
    assert "where none matches: mail:ada@example.com" in result.stdout


NOTED: dict[str, tuple[int, dict[str, str], str]] = {
    "no webhooks": (0, {"workspaces.acme": 'api_key = "k"'}, "trouble is found by the sweep only"),
    "direct links": (0, {"link": 'mode = "direct"'}, "✓ link.mode: direct: the link in a message works once"),
    "nobody is told": (0, {"notices": ""}, "where none matches: nobody"),
    "no folder": (1, {"store": 'url = "sqlite:////nowhere/x.db"'}, "✗ store: there is no folder /nowhere"),
    "a mistyped platform": (1, {"[[routes]]": 'to = "mail:a@b.example"\nplatform = "twiter"'}, "mean 'twitter'?"),
    "a new platform": (0, {"[[routes]]": 'to = "mail:a@b.example"\nplatform = "mastodon"'}, "✓ routes.0.platform"),
    "a route for a label": (
        0,
        {"[[routes]]": 'to = "mail:a@b.example"\nlabels = { tier = "gold" }\n[[routes]]\nto = "mail:c@d.example"'},
        "2 route(s); where none matches: mail:ada@example.com",
    ),
    "a route in the way": (
        1,
        {"[[routes]]": 'to = "mail:a@b.example"\n[[routes]]\nto = "mail:c@d.example"'},
        "✗ routes.0: matches everything",
    ),
}  # fmt: skip


@pytest.mark.parametrize("noted", NOTED.values(), ids=NOTED)
def test_check_config_notes_what_is_allowed_and_perhaps_not_meant(
    tmp_path: Path, noted: tuple[int, dict[str, str], str]
) -> None:
    code, sections, says = noted
    given = {"store": f'url = "sqlite:///{tmp_path / "healthd.db"}"'} | sections
    result = healthd("check-config", "--config", str(written(tmp_path, given)))
    assert says in result.stdout
    assert result.exit_code == code


def test_check_config_tells_a_script_the_same(tmp_path: Path) -> None:
    sections = {"store": f'url = "sqlite:///{tmp_path / "healthd.db"}"'}
    good = as_json("check-config", "--config", str(written(tmp_path, sections)))
    assert [one["ok"] for one in good] == [True] * len(good)
    bad = as_json("check-config", "--config", str(written(tmp_path, {"log": 'level = "warn"', "link": ""})), code=2)
    assert {one["subject"]: one["ok"] for one in bad} == {"log.level": False, "link.secrets": False}
    assert "Did you mean 'warning'?" in bad[0]["message"]
