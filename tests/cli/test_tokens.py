"""``healthd token``: a token is shown once and kept nowhere, and ends when it should."""

from __future__ import annotations

import getpass
import json
import os
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from healthd.cli import app
from healthd.store import access
from healthd.store.database import sqlite_engine
from tests.config.written import written
from tests.fresh_store import fresh_store
from tests.logs.kept import logging_kept

GIVEN = "settings-token-" + "7" * 40


class Terminal:
    def __init__(self, folder: Path) -> None:
        self.url = fresh_store(folder / "healthd.db")
        sections = {"store": f'url = "{self.url}"', "access.tokens.ci": f'role = "operator"\ntoken = "{GIVEN}"'}
        self.config = str(written(folder, sections))

    def token(self, *words: str) -> Result:
        with logging_kept():
            return CliRunner().invoke(app, ["token", *words, "--config", self.config])

    def store(self, fn: Any, *args: Any) -> Any:
        engine = sqlite_engine(self.url)
        with closing(engine.connect()) as connection:
            found = fn(connection, *args)
        engine.dispose()
        return found


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def test_a_token_is_shown_once_and_only_its_digest_is_kept(terminal: Terminal, tmp_path: Path) -> None:
    result = terminal.token("create", "ada", "--role", "admin")
    assert result.exit_code == 0, result.output
    secret = result.stdout.strip()
    assert secret.startswith("hdt_")
    assert len(secret) == 47
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("healthd.db*"))
    assert secret.encode() not in kept
    found = terminal.store(access.token_of, access.digest_of(secret), datetime.now(UTC))
    assert (found.name, found.role, found.expires_at) == ("ada", "admin", None)
    assert secret not in terminal.token("list").stdout


def test_it_ends_when_it_was_said_to(terminal: Terminal) -> None:
    secret = json.loads(terminal.token("create", "ada", "-r", "viewer", "--expires", "90d", "--json").stdout)["token"]
    digest, now = access.digest_of(secret), datetime.now(UTC)
    assert terminal.store(access.token_of, digest, now + timedelta(days=89))
    assert terminal.store(access.token_of, digest, now + timedelta(days=90, minutes=1)) is None


def test_the_list_names_those_of_the_store_and_of_the_settings(terminal: Terminal) -> None:
    terminal.token("create", "ada", "--role", "admin")
    shown = json.loads(terminal.token("list", "--json").stdout)
    assert [(one["name"], one["role"], one["by"]) for one in shown] == [
        ("ada", "admin", f"cli:{getpass.getuser()}"), ("ci", "operator", "settings"),
    ]  # fmt: skip
    table = terminal.token("list").stdout
    assert "ada" in table
    assert "settings" in table
    assert GIVEN not in table


def test_whoever_has_a_number_and_no_name_is_on_record_by_the_number(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in OpenShift, which chooses the number by itself."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 1_000_650_000)
    made = terminal.token("create", "ada", "--role", "admin")
    assert made.exit_code == 0, made.output
    assert [one.who for one in terminal.store(access.audit_of, None, 10)] == ["cli:1000650000"]


def test_a_revoked_token_is_gone_and_its_name_free(terminal: Terminal) -> None:
    secret = terminal.token("create", "ada", "--role", "admin").stdout.strip()
    assert terminal.token("revoke", "ada").exit_code == 0
    assert terminal.store(access.token_of, access.digest_of(secret), datetime.now(UTC)) is None
    assert terminal.token("create", "ada", "--role", "viewer").exit_code == 0
    record = terminal.store(access.audit_of, None, 10)
    me = f"cli:{getpass.getuser()}"
    assert [(one.who, one.action, one.subject, one.detail) for one in record] == [
        (me, "token.create", "token:ada", "viewer"),
        (me, "token.revoke", "token:ada", ""),
        (me, "token.create", "token:ada", "admin"),
    ]


REFUSED = {
    "an unknown role": (("create", "eve", "--role", "root"), 2, "there are: viewer, operator, admin"),
    "no role": (("create", "eve"), 2, "--role"),
    "a name that is none": (("create", "Eve Ö", "--role", "viewer"), 2, "lower-case letters"),
    "a span that is none": (("create", "eve", "--role", "viewer", "--expires", "soon"), 2, "write a number and a unit"),
    "an end that was": (("create", "eve", "--role", "viewer", "--expires", "0s"), 2, "ended before it began"),
    "an end after all calendars": (("create", "eve", "--role", "viewer", "--expires", "9999999d"), 2, "--expires"),
    "a name that is taken": (("create", "ada", "--role", "viewer"), 1, "healthd token revoke ada"),
    "a name of the settings": (("create", "ci", "--role", "viewer"), 1, "[access.tokens.ci]"),
    "revoking nobody": (("revoke", "adda"), 3, "did you mean 'ada'"),
    "revoking one of the settings": (("revoke", "ci"), 1, "take [access.tokens.ci] out"),
}


@pytest.mark.parametrize(("words", "code", "said"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_told_with_what_to_do(terminal: Terminal, words: tuple[str, ...], code: int, said: str) -> None:
    terminal.token("create", "ada", "--role", "admin")
    result = terminal.token(*words)
    assert (result.exit_code, said in " ".join(result.output.split())) == (code, True), result.output
    assert [one.name for one in terminal.store(access.tokens)] == ["ada"]
