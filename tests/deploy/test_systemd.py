"""deploy/systemd and deploy/litestream: the unit is sound and closed, and the database comes back from its copy."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from sqlalchemy import Connection, text

from healthd.store.database import Store
from healthd.terminal import EXIT_CONFIG
from tests.deploy.promtool import load
from tests.deploy.shipped import DEPLOY, lint, secret_files, settings_of
from tests.fresh_store import fresh_store

FOLDER, LITESTREAM = DEPLOY / "systemd", DEPLOY / "litestream"
UNIT = (FOLDER / "healthd.service").read_text("utf-8")
SECRETS = "/etc/healthd/secrets"
linux = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")


def program(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.fail(f"No {name} found, and these tests need one: `make tools`, or {package}.")
    return found


def setting(name: str) -> str:
    [found] = re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    return str(found)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that is there."""
    installed = tmp_path / "healthd.service"
    command = setting("ExecStart").split()[0]
    installed.write_text(UNIT.replace(command, str(Path(sys.executable).with_name("healthd"))), "utf-8")
    return installed


@linux
def test_systemd_understands_every_line_of_the_unit(unit: Path) -> None:
    command = [program("systemd-analyze", "`apt-get install systemd`"), "verify", "--man=no", str(unit)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    ours = [line for line in told.stderr.splitlines() if "healthd.service" in line]
    assert (ours, told.returncode) == ([], 0)


@linux
def test_with_postgresql_it_is_tried_again_for_as_long_as_it_takes(unit: Path) -> None:
    more = unit.with_name("healthd.service.d") / "postgresql.conf"
    more.parent.mkdir()
    shutil.copy(FOLDER / "healthd.postgresql.conf", more)
    analyze = [program("systemd-analyze", "`apt-get install systemd`"), "verify", "--man=no", str(unit)]
    told = subprocess.run(analyze, capture_output=True, text=True, check=False)
    ours = [line for line in told.stderr.splitlines() if "healthd.service" in line]
    assert (ours, told.returncode) == ([], 0)
    lines = more.read_text("utf-8").splitlines()
    assert "StartLimitIntervalSec=0" in lines
    assert setting("Restart") == "on-failure"
    assert setting("RestartPreventExitStatus") == str(EXIT_CONFIG), "a mistake in the settings is not tried again"


@linux
def test_the_unit_is_closed_as_far_as_it_can_be(unit: Path) -> None:
    analyze = program("systemd-analyze", "`apt-get install systemd`")
    command = [analyze, "security", "--no-pager", "--offline=true", "--threshold=25", str(unit)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout[-200:]
    assert "Overall exposure level" in told.stdout


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="owners are root's to give")
def test_user_and_folders_are_made_and_the_secrets_are_closed(tmp_path: Path) -> None:
    for kind in ("sysusers", "tmpfiles"):
        folder = tmp_path / "etc" / f"{kind}.d"
        folder.mkdir(parents=True)
        shutil.copy(FOLDER / f"healthd.{kind}.conf", folder / "healthd.conf")
    settings = tmp_path / "etc" / "healthd" / "healthd.toml"
    key = tmp_path / "etc" / "healthd" / "secrets" / "smartlyq_key"
    key.parent.mkdir(parents=True)
    for file in (settings, key):
        file.write_text("", "utf-8")
        file.chmod(0o644)
    for tool, *options in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
        command = [program(tool, "`apt-get install systemd`"), f"--root={tmp_path}", *options]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stderr
    assert "\nhealthd:x:" in "\n" + (tmp_path / "etc" / "passwd").read_text("utf-8")
    data = tmp_path / "var" / "lib" / "healthd"
    assert (data.stat().st_mode & 0o777, data.stat().st_uid != 0) == (0o700, True)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (settings.parent, settings, key.parent, key)}
    [group] = re.findall(r"^healthd:[^:]*:(\d+):", (tmp_path / "etc" / "group").read_text("utf-8"), re.MULTILINE)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (settings, key)} == {(0, int(group))}
    assert modes == {"healthd": 0o750, "healthd.toml": 0o640, "secrets": 0o750, "smartlyq_key": 0o640}


def test_healthd_starts_with_its_settings(tmp_path: Path) -> None:
    given = (FOLDER / "healthd.toml").read_text("utf-8")
    environ = dict(re.findall(r"\b(HEALTHD_\w+)=(\S+)", setting("Environment")))
    named = secret_files(given, SECRETS)
    settings = settings_of(tmp_path, given, environ, secrets_in=SECRETS, named=named)
    assert f"d {SECRETS} " in (FOLDER / "healthd.tmpfiles.conf").read_text("utf-8")
    assert settings.store.url == f"sqlite:////var/lib/{setting('StateDirectory')}/healthd.db"
    assert settings.server.admin_is_local


@pytest.mark.parametrize("path", sorted(LITESTREAM.glob("*.yml")), ids=lambda path: path.name)
def test_the_settings_of_litestream_are_tidy(path: Path) -> None:
    assert lint(path) == []


def test_litestream_copies_the_database_that_healthd_writes() -> None:
    lines = (LITESTREAM / "litestream.env.example").read_text("utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    [database] = load(LITESTREAM / "litestream.yml")["dbs"]
    assert database["path"].strip("${}") in given
    assert {one["url"].strip("${}") for one in database["replicas"]} <= given.keys()
    assert f'url = "sqlite:///{given["DATABASE"]}"' in (FOLDER / "healthd.toml").read_text("utf-8")
    drop_in = (LITESTREAM / "litestream.service.conf").read_text("utf-8")
    assert f"User={setting('User')}\n" in drop_in, "another user's files beside the database would stop healthd"
    assert f"ReadWritePaths={Path(given['DATABASE']).parent}\n" in drop_in


@pytest.mark.skipif(platform.system() + platform.machine() != "Linuxx86_64", reason="no package has a Litestream")
async def test_the_database_comes_back_from_its_copy_whole(tmp_path: Path) -> None:
    """healthd's own checkpoints, which come every thousand pages, take nothing away from under Litestream."""
    file = tmp_path / "healthd.db"
    environ = {"DATABASE": str(file), "REPLICA": f"file://{tmp_path}/copy"}
    store = Store(fresh_store(file))
    await store.run(_execute, "CREATE TABLE written (number INTEGER, body BLOB)")
    with (tmp_path / "log").open("w") as log:
        process = await _litestream(environ, "replicate", output=log)
        try:
            async with asyncio.timeout(30):
                while not _begun(tmp_path / "copy"):
                    assert process.returncode is None, _text(tmp_path / "log")
                    await asyncio.sleep(0.05)
            for number in range(400):
                await store.run(_execute, f"INSERT INTO written VALUES ({number}, randomblob(20000))")
        finally:
            process.terminate()  # it copies what is left before it ends
            await process.wait()
            await store.close()
    assert _text(tmp_path / "log").count("new generation") == 1, "a copy that begins anew is expensive"

    back = tmp_path / "back.db"
    restoring = await _litestream(environ, "restore", "-o", str(back), str(file), output=None)
    assert await restoring.wait() == 0
    with contextlib.closing(sqlite3.connect(back)) as restored:
        assert restored.execute("SELECT count(*), max(number) FROM written").fetchone() == (400, 399)
        assert restored.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def _litestream(
    environ: dict[str, str], command: str, *arguments: str, output: IO[str] | None
) -> asyncio.subprocess.Process:
    """With the settings that are shipped."""
    words = [command, "-config", str(LITESTREAM / "litestream.yml"), *arguments]
    found = program("litestream", "a release of its own")
    return await asyncio.create_subprocess_exec(found, *words, env=environ, stdout=output, stderr=output)


def _execute(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))


def _begun(copy: Path) -> bool:
    return any(copy.glob("**/*.lz4"))


def _text(path: Path) -> str:
    return path.read_text("utf-8")
