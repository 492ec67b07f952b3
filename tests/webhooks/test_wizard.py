"""``healthd init``: from a key to a healthd that receives its first webhook."""

from __future__ import annotations

import asyncio
import os
import pty
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from healthd.config import load
from healthd.core.model import Target
from healthd.first_settings import Answers, Place, Way, checked, mistakes, text, write
from healthd.self_care import WANTED
from healthd.wizard import _secret
from tests.cli.command import Finished, healthd
from tests.daemon.rig import HOST, Rig, rig

KEY = "sqk_test_sandbox"

PATIENCE = 25.0


@asynccontextmanager
async def sandbox(folder: Path) -> AsyncIterator[Rig]:
    async with rig(folder, options={"accounts": 5, "webhook_url": None}) as scene:
        scene.sandbox.world.add_profile("sandbox", "Nadia's Bakery", None)
        yield scene


def base_url(scene: Rig) -> str:
    return f"http://{HOST}:{scene.ports['sandbox']}/v1"


async def unasked(scene: Rig, folder: Path, *words: str, key: str = KEY) -> Finished:
    return await healthd("init", "--yes", "--base-url", base_url(scene), *words, folder=folder, SMARTLYQ_API_KEY=key)


async def test_without_a_question_it_ends_with_settings_that_work_and_a_webhook_that_arrived(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (tmp_path / "slack").write_text("https://hooks.slack.com/services/T0/B0/s3cret")
    async with sandbox(tmp_path) as scene:
        done = await unasked(
            scene, folder, "--workspace", "acme", "--public-url", scene.public, "--listen",
            f"{HOST}:{scene.ports['public']}", "--admin-listen", f"{HOST}:{scene.ports['admin']}", "--notify", "slack",
            "--slack-webhook-file", str(tmp_path / "slack"), "--test",
        )  # fmt: skip
        assert done.code == 0, done.err + done.out
        [endpoint] = scene.sandbox.sender.endpoints.values()
        settings = load(folder / "healthd.toml", {})
    for seen in ("sees 5 account(s)", "Nadia's Bakery", "facebook", "healthd answered 202"):
        assert seen in done.out
    secrets = {file.name: file.read_text().strip() for file in (folder / "healthd-secrets").iterdir()}
    assert secrets.keys() == {"api_key", "link", "webhook", "webhook_url"}
    assert secrets["webhook"] == endpoint.secret
    assert (endpoint.url, endpoint.events) == (f"{scene.public}/webhooks/acme", WANTED)
    written = (folder / "healthd.toml").read_text()
    assert [name for name, value in secrets.items() if value in written + done.out + done.err] == []
    made = [folder / "healthd.toml", *(folder / "healthd-secrets").iterdir()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in made} == {0o600}
    assert stat.S_IMODE((folder / "healthd-secrets").stat().st_mode) == 0o700
    assert [one.get_secret_value() for one in settings.workspaces["acme"].webhook_secrets] == [endpoint.secret]
    assert settings.operators() == (Target("slack"),)


async def test_a_person_is_asked_and_asked_again_where_an_answer_is_wrong(tmp_path: Path) -> None:
    async with sandbox(tmp_path) as scene:
        talk = [
            ("Address of the API", "ftp://x"),
            ("must be https", base_url(scene)),
            ("API key", "sqk_test_wrong"),
            ("Is the key right", KEY),
            ("short name", "Acme Inc"),
            ("lower-case", "acme"),
            ("Public address", "healthd.example.com"),
            ("bare https address", scene.public),
            ("How do messages go out", "mail"),
            ("Mail server", "127.0.0.1"),
            ("Its security", "none"),
            ("Its port", str(scene.ports["mail"])),
            ("Who logs in", ""),
            ("mails come from", "healthd@acme.example"),
            ("broken accounts", "ada"),
            ("broken accounts", "ada@acme.example"),
            ("needs help", ""),
            ("Register the webhook now", "n"),
        ]
        said = await converse(talk, tmp_path / "healthd2.toml")
        settings = load(tmp_path / "healthd2.toml", {})
        assert scene.sandbox.sender.endpoints == {}
    assert "healthd webhook register" in said
    assert KEY not in said
    assert settings.routing().default == (Target("mail", "ada@acme.example"),)
    assert settings.operators() == (Target("mail", "ada@acme.example"),)
    assert settings.public_url == scene.public


async def converse(talk: list[tuple[str, str]], config: Path) -> str:
    """Runs the wizard on a terminal, and gives each answer when it is asked for. All that the terminal showed."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "healthd", "init", "--config", str(config),
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={name: value for name, value in os.environ.items() if name != "SMARTLYQ_API_KEY"} | {"TERM": "dumb"},
    )  # fmt: skip
    os.close(theirs)
    os.set_blocking(ours, False)
    said, mark = "", 0
    try:
        async with asyncio.timeout(PATIENCE):
            for words, reply in talk:
                while words not in said[mark:] or not said.rstrip(" ").endswith(":"):
                    said += await _read(ours)
                mark = len(said)
                os.write(ours, f"{reply}\n".encode())
            while process.returncode is None:
                said += await _read(ours)
    except TimeoutError:
        raise AssertionError(f"nothing more was said: {said}") from None
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(ours)
    assert process.returncode == 0, said
    return said


async def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 65536).decode()
    except OSError:  # nothing there yet, or nobody there any more
        await asyncio.sleep(0.02)
        return ""


async def test_it_overwrites_nothing_and_writes_nothing_before_everything_is_known(tmp_path: Path) -> None:
    (tmp_path / "healthd.toml").write_text("precious")
    kept = await healthd("init", "--yes", folder=tmp_path)
    assert (kept.code, (tmp_path / "healthd.toml").read_text()) == (2, "precious")
    async with sandbox(tmp_path) as scene:
        wrong = await unasked(scene, tmp_path, "--config", "other.toml", key="sqk_test_wrong")
    assert wrong.code == 2
    assert "401" in wrong.err
    assert "sqk_test_wrong" not in wrong.err + wrong.out
    assert names_in(tmp_path) == ["healthd.toml"]


def names_in(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()]


MAIL = Way("mail", {"type": "email", "host": "smtp.example.com", "port": 587, "sender": "h@example.com"}, {}, True)
WAYS = {
    "nothing": (None, ""),
    "mail": (MAIL, "mail:ada@example.com"),
    "mail with a log-in": (
        Way("mail", {**MAIL.keys, "username": "h"}, {"password": _secret('p"ä\\')}, True),
        "mail:ada@example.com",
    ),
    "any service": (Way("service", {"type": "apprise"}, {"url": _secret("ntfy://topic")}), "service"),
}


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
@pytest.mark.parametrize("public_url", ["", "https://healthd.example.com"])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_written_means_what_was_answered(tmp_path: Path, way: str, public_url: str) -> None:
    chosen, target = WAYS[way]
    answers = Answers("acme", _secret("sqk_live_1"), public_url=public_url, way=chosen, default=target, operator=target)
    place = Place(tmp_path / 'heal"thd.toml')
    write(answers, place)
    settings, meant = load(place.file, {}), checked(answers)
    assert settings.workspaces == meant.workspaces
    assert settings.channels == meant.channels
    assert settings.notices == meant.notices
    assert (settings.public_url, settings.link.mode) == (meant.public_url, meant.link.mode)
    assert text(answers, place) == place.file.read_text().removesuffix("\n") + "\n"


def test_what_signs_links_that_were_sent_stays_when_settings_are_written_again(tmp_path: Path) -> None:
    answers = Answers("acme", _secret("sqk_live_1"), public_url="https://healthd.example.com")
    place = Place(tmp_path / "healthd.toml")
    write(answers, place)
    secret = (place.folder / "link").read_text()
    write(answers, place)
    assert (place.folder / "link").read_text() == secret


def test_a_mistake_is_told_in_the_words_of_check_config() -> None:
    answers = Answers("acme", _secret("sqk live"), public_url="http://healthd.example.com")
    assert "copy it again" in mistakes(answers, "workspaces.acme.api_key")[0]
    assert "bare https address" in mistakes(answers, "public_url")[0]
    assert mistakes(answers, "server") == []
