"""Commands that talk to somebody: a sandbox, a mail server, the running daemon."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from healthd import by_hand, doctor
from healthd.app import open_store
from healthd.config import load
from healthd.core.model import State
from healthd.doctor import Finding
from tests.cli.command import healthd
from tests.config.written import written
from tests.daemon.rig import HOST, Rig, rig

EACH = 'mode = "each"\nrequest_timeout = "3s"'


@asynccontextmanager
async def surroundings(folder: Path, **more: Any) -> AsyncIterator[tuple[Rig, str]]:
    """A sandbox and a mail server without a daemon, and the configuration of one."""
    async with rig(folder, **({"options": {"accounts": 16}} | more)) as scene:
        yield scene, str(scene.write_config())


HEAVY = ("sqlalchemy", "alembic", "apprise", "httpx2", "starlette", "uvicorn", "jinja2", "rich.table")
LIGHT = f"""
import sys
from healthd.cli import app
app(sys.argv[1:], standalone_mode=False)
print([name for name in {HEAVY!r} if name in sys.modules])
"""


@pytest.mark.parametrize("words", [("version",), ("--help",), ("sweep", "--help")], ids=" ".join)
def test_what_needs_nothing_loads_nothing_and_so_answers_at_once(words: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


INSTALLED = {"script": (str(Path(sys.executable).with_name("healthd")),), "module": (sys.executable, "-m", "healthd")}


@pytest.mark.parametrize("command", INSTALLED.values(), ids=INSTALLED)
def test_the_installed_command_tells_its_version(tmp_path: Path, command: tuple[str, ...]) -> None:
    from importlib.metadata import version

    done = subprocess.run([*command, "version"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{version('healthd')}\n", "")


OFFLINE = """
import sys
TALK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event in TALK else None)
from healthd.cli import app
try:
    app(["check-config", "--config", sys.argv[1]], standalone_mode=False)
finally:
    print("talked:", seen)
"""


def test_check_config_touches_no_network(tmp_path: Path) -> None:
    sections = {
        "store": f'url = "sqlite:///{tmp_path / "healthd.db"}"',
        "channels.mail": 'type = "email"\nhost = "192.0.2.1"\nsender = "healthd@example.com"',
        "channels.chat": 'type = "slack"\ntoken = "xoxb-x"\nchannel = "#x"\napi_url = "https://slack.invalid/api/"',
        "channels.phone": 'type = "apprise"\nurl = "ntfy://192.0.2.2/topic"',
        "workspaces.acme": 'api_key = "k"\nbase_url = "https://192.0.2.3/v1"',
    }
    config = str(written(tmp_path, sections))
    done = subprocess.run([sys.executable, "-c", OFFLINE, config], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "talked: []", done.stdout + done.stderr
    assert "✓ settings: 1 workspace(s), 3 channel(s)" in done.stdout


async def test_check_config_online_says_what_each_key_may_do_and_what_could_not_be_asked(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as (scene, config):
        done = await healthd("check-config", "--online", "--config", config, folder=tmp_path)
        assert done.code == 0, done.out + done.err
        for says in (
            "✓ workspaces.sandbox: the key belongs to 'sandbox'",
            "social:read: the key sees 16 account(s) and their health",
            "social:write: asked for a reconnect link of no account, which the API did not forbid",
            "profiles:read: 0 profile(s)",
            "profiles:manage: not asked, for want of an active profile",
            "✓ channels.mail: 127.0.0.1:",
        ):
            assert says in done.out
        assert scene.sandbox.world.links == {}, "asking must not make a link"
        assert scene.mails() == []


async def online(config: str) -> list[Finding]:
    return await doctor.online(load(Path(config), {}))


async def test_check_config_online_looks_into_a_profile_where_there_is_one(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as (scene, config):
        profile = scene.sandbox.world.add_profile("sandbox", "A customer", "c-1")
        scene.sandbox.world.add_account("sandbox", "facebook", profile=profile.id)
        messages = [one.message for one in await online(config)]
        assert "profiles:read: 1 profile(s)" in messages
        assert "profiles:manage: sees 1 account(s) in a profile" in messages


ALL = {"social:read", "social:write", "profiles:read", "profiles:manage"}


@pytest.mark.parametrize("scope", sorted(ALL))
async def test_check_config_online_names_the_scope_that_a_key_lacks(tmp_path: Path, scope: str) -> None:
    async with surroundings(tmp_path) as (scene, config):
        world = scene.sandbox.world
        world.add_profile("sandbox", "A customer", "c-1")
        world.add_key("sqk_test_sandbox", "sandbox", ALL - {scope})
        [bad] = [one for one in await online(config) if not one.ok]
        assert bad.subject == "workspaces.sandbox"
        assert f"the key lacks the scope {scope}: add it" in bad.message
        assert ('set profiles = "none"' in bad.message) == scope.startswith("profiles:")


async def test_check_config_online_tells_of_everything_that_does_not_answer(tmp_path: Path) -> None:
    sections = {
        "channels.down": f'type = "email"\nhost = "{HOST}"\nport = 9\nsecurity = "none"\nsender = "a@acme.example"',
        "channels.chat": f'type = "slack"\ntoken = "xoxb-x"\nchannel = "#x"\napi_url = "http://{HOST}:9/api/"',
    }
    async with surroundings(tmp_path, options={"workspaces": ("one", "two", "three")}, **sections) as (scene, config):
        scene.sandbox.world.keys["sqk_test_one"].revoked = True
        scene.sandbox.faults.add(kind="html", path="/social/accounts", workspace="two")
        done = await healthd("check-config", "--online", "--json", "--config", config, folder=tmp_path)
    assert done.code == 1
    bad = [(one["subject"], one["message"]) for one in done.json if not one["ok"]]
    told = dict(bad)
    assert set(told) == {"workspaces.one", "workspaces.two", "channels.down", "channels.chat"}
    assert "HTTP 401" in told["workspaces.one"]
    assert "Put a valid API key" in told["workspaces.one"]
    assert "could not be checked" in told["workspaces.two"]
    assert [subject for subject, _ in bad].count("workspaces.one") == 1, "a refused key is asked no further"
    assert "sqk_test" not in done.out + done.err


async def test_notify_test_sends_one_marked_message(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as (scene, config):
        done = await healthd("notify-test", "mail:eve@acme.example", "--config", config, folder=tmp_path)
        assert (done.code, done.out) == (0, "✓ mail:eve@acme.example: handed over\n")
        [caught] = scene.inbox.messages
        assert caught.to == "eve@acme.example"
        assert "TEST: nothing is broken" in caught.subject
        assert (caught.link or "").endswith("/r/this-is-a-test")


async def test_notify_test_promises_no_page_where_there_is_none(tmp_path: Path) -> None:
    async with surroundings(tmp_path, link='mode = "direct"') as (scene, config):
        done = await healthd("notify-test", "mail:eve@acme.example", "--config", config, folder=tmp_path)
        assert done.code == 0, done.out
        assert scene.inbox.messages[0].link is None
        assert "healthd.invalid" not in scene.inbox.messages[0].text + scene.inbox.messages[0].html


async def test_sweep_shows_what_changed_and_says_so_in_json(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as (scene, config):
        first = await healthd("sweep", "--config", config, folder=tmp_path)
        assert first.code == 0, first.err
        assert first.out.strip() == "16 account(s) known, 16 of them new and well; nothing changed."
        assert "sandbox: done" in first.err
        broken = [scene.account("facebook"), scene.account("youtube")]
        for account in broken:
            scene.expire(account, webhook=False)
        second = await healthd("sweep", "--config", config, folder=tmp_path)
        for account in broken:
            rows = [line for line in second.out.splitlines() if f" {account.id} " in line]
            assert any("suspect" in row and "expired" in row for row in rows), second.out
        assert "0 of them new and well; 4 changed." in second.out
        scene.sandbox.world.repair(broken[0])
        third = await healthd("sweep", "--json", "--config", config, folder=tmp_path)
        assert [(one["ref"], one["before"], one["after"]) for one in third.json["changes"]] == [
            (str(broken[0].id), "expired", "healthy")
        ]
        assert third.json["failures"] == {}
        assert third.err == ""
        assert scene.mails() == [], "the daemon sends, not the sweep"


async def swept(config: str) -> by_hand.Result:
    settings = load(Path(config), {})
    async with open_store(settings) as store:
        return await by_hand.sweep(settings, store, list(settings.workspaces), show=False)


async def test_sweep_looks_at_every_account_where_each_is_asked_by_itself(tmp_path: Path) -> None:
    async with surroundings(tmp_path, sweep=EACH) as (scene, config):
        await swept(config)
        scene.sandbox.api.requests.clear()
        account = scene.account("tiktok")
        scene.expire(account, webhook=False)
        done = await swept(config)
        asked = {entry["path"] for entry in scene.asked("/health")}
        assert asked == {f"/v1/social/accounts/{number}/health" for number in scene.sandbox.world.accounts}
        assert (str(account.id), "expired") in {(one.ref, one.after) for one in done.moved()}


async def test_sweep_where_each_is_asked_by_itself_does_not_wait_for_an_api_that_stopped_answering(
    tmp_path: Path,
) -> None:
    async with surroundings(tmp_path, sweep=EACH, options={"accounts": 64}) as (scene, config):
        fault = scene.sandbox.faults.add(kind="status", status=401, path="/health")
        done = await swept(config)
        assert "HTTP 401" in done.failures["sandbox"]
        assert 0 < fault.strikes < 64


async def test_sweep_tells_of_a_workspace_that_fails_and_goes_on_with_the_others(tmp_path: Path) -> None:
    async with surroundings(tmp_path, options={"workspaces": ("one", "two"), "accounts": 4}) as (scene, config):
        scene.sandbox.world.keys["sqk_test_one"].revoked = True
        done = await healthd("sweep", "--json", "--config", config, folder=tmp_path)
        assert done.code == 1
        assert list(done.json["failures"]) == ["one"]
        assert "HTTP 401" in done.json["failures"]["one"]
        assert done.json["new"] == 4
        assert "✗ one: HTTP 401" in done.err
        only = await healthd("sweep", "--workspace", "two", "--config", config, folder=tmp_path)
        assert only.code == 0
        assert "4 account(s) known" in only.out


async def test_a_sweep_by_hand_beside_the_daemon_leads_to_the_daemons_mail(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as (scene, config):
        await scene.start()
        account = scene.account("instagram")
        await scene.until_state(account, State.HEALTHY)
        scene.expire(account, webhook=False)
        done = await healthd("sweep", "--config", config, folder=tmp_path)
        assert done.code == 0, done.err
        await scene.mail(account.name)
        ready = await healthd("healthcheck", "--config", config, folder=tmp_path)
        assert (ready.code, ready.out) == (0, "✓ ready\n")
        assert scene.daemon is not None
        scene.daemon.operations.draining = True
        drained = await healthd("healthcheck", "--config", config, folder=tmp_path)
        assert (drained.code, drained.err) == (1, "✗ draining\n")
