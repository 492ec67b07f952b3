"""Names of accounts from end to end: whatever is in them comes in by webhook or by the API, and is a name and nothing
else in mail, in Slack, on the page, in the log and in the metrics.
"""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from healthd import logs
from healthd.core.model import State
from healthd.sandbox.world import Account
from healthd.store.inbox import InboxStatus
from tests.channels.mail_server import Letter, Postmaster, mail_server
from tests.channels.samples import HOSTILE
from tests.channels.test_email import BASE_HEADERS, Page, part, read
from tests.channels.test_slack import texts
from tests.channels.web_peer import TOKEN, Slack, web_peer
from tests.daemon.conftest import settled
from tests.daemon.rig import Rig, rig
from tests.daemon.test_receiver import deliver, event
from tests.logs.kept import logging_kept

NAMES = {name: text for name, text in HOSTILE.items() if text and "\ud800" not in text} | {
    "NUL": "Acme\0 Coffee",
    "ten kilobytes": "x" * 10_000,
    "a forged line of a log": 'Acme\n{"event": "evil.forged", "level": "critical"}',
    "a terminal's colours": "\x1b[31mAcme\x1b[0m \x1b]0;evil\x07",
    "a forged metric": 'x"} 1\nevil_metric 1',
    "lines by another name": "Acme\u2028Bcc: eve@evil.example\u2029\x85x",
    "a formula": "=HYPERLINK(1)",
    "every mention there is": "@everyone <!everyone> @channel",
}
SHOWN_WHOLE = ("قهوة أكمي", "👩‍👩‍👧‍👦 Family 👩🏽‍💻", "=HYPERLINK(1)")
PLAIN = "Acme Coffee"
SECRET_REASON = "refused: token=EAAG-CANARY see https://evil.example/?t=CANARY <!channel>"
MARKED = re.compile(r"[A-Z][a-z ]+\n<!date\^\d+\^[^|<>]+\|[\w\xa0 ,:]+>")
"""All that is ever markup in a message to Slack."""


@dataclass
class Town:
    """A daemon that tells a real mail server and a Slack, each of which keeps what it got."""

    scene: Rig
    post: Postmaster
    slack: Slack

    @property
    def letters(self) -> list[Letter]:
        return self.post.letters

    async def told(self, number: int) -> None:
        def all_told() -> bool:
            return len(self.letters) >= number and len(self.slack.messages) >= number

        await self.scene.until(all_told, f"{number} messages each")


@asynccontextmanager
async def town(folder: Path) -> AsyncIterator[Town]:
    slack = Slack()
    async with mail_server() as post, web_peer(slack.respond) as peer:
        sections = {
            "channels.letters": f'type = "email"\nhost = "localhost"\nport = {post.port}\nsecurity = "none"\n'
            'sender = "healthd <healthd@acme.example>"',
            "channels.chat": f'type = "slack"\ntoken = "{TOKEN}"\nchannel = "#alerts"\napi_url = "{peer.url}/api/"',
            "notices": 'default = ["letters:ada@acme.example", "chat"]\n'
            'group_wait = "0s"\ngroup_interval = "0s"\ndigest_above = 1000',
        }
        async with rig(folder, options={"accounts": 1}, **sections) as scene:
            yield Town(scene, post, slack)


def named(scene: Rig, name: str) -> Account:
    """Each behind a login of its own: so each is a message of its own."""
    platform = f"network{len(scene.sandbox.world.accounts)}"
    return scene.sandbox.world.add_account("sandbox", platform, name, name)


async def by_api(town: Town) -> None:
    """The inventory and the readings carry the names; the first sweep finds the accounts broken."""
    for name in (PLAIN, *NAMES.values()):
        town.scene.sandbox.world.break_token(named(town.scene, name))
    await town.scene.start()


async def by_webhook(town: Town) -> None:
    """The API knows plain names and cannot be asked just now: what the messages say comes from the webhooks."""
    scene = town.scene
    accounts = {name: named(scene, f"plain {number}") for number, name in enumerate((PLAIN, *NAMES.values()))}
    await scene.start()
    await settled(scene)
    scene.sandbox.faults.add(kind="status", status=503)
    for name, account in accounts.items():
        scene.sandbox.world.break_token(account)
        body = event(account_id=account.id, account_name=name, reason=SECRET_REASON)
        assert (await deliver(scene, body))[0] == 202
    await scene.until_drained()
    for account in accounts.values():
        await scene.until_state(account, State.SUSPECT)
    scene.travel(timedelta(minutes=5, seconds=1))


WAYS: dict[str, Callable[[Town], Awaitable[None]]] = {"by the API": by_api, "by webhook": by_webhook}


@pytest.mark.parametrize("way", WAYS)
async def test_a_name_is_a_name_and_nothing_else_wherever_it_goes(
    tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_kept():
        logs.configure("debug", "json")
        async with town(tmp_path) as made:
            await WAYS[way](made)
            await made.told(len(NAMES) + 1)
            _holds_in_mail(made.letters)
            _holds_in_slack(made.slack)
            await _holds_on_the_page(made)
            await _holds_in_the_metrics(made.scene)
            await _goes_on(made)
            assert len(made.letters) == len(made.slack.messages) == len(NAMES) + 2
    _holds_in_the_log(capsys.readouterr().err)


def _holds_in_mail(letters: list[Letter]) -> None:
    messages = [read(letter.raw) for letter in letters]
    for letter, message in zip(letters, messages, strict=True):
        assert sorted(message.keys()) == BASE_HEADERS
        assert not message.defects
        assert letter.recipients == ["ada@acme.example"]
        assert letter.raw.count(b"\n") == letter.raw.count(b"\r\n")
        assert "CANARY" not in part(message, "plain") + part(message, "html")
        assert "\x1b" not in part(message, "plain")
    subjects = "\n".join(message["Subject"] for message in messages)
    assert [name for name in (PLAIN, *SHOWN_WHOLE) if name not in subjects] == []
    plain = next(message for message in messages if PLAIN in message["Subject"])
    elements = Page(part(plain, "html")).elements
    assert all(Page(part(message, "html")).elements == elements for message in messages)
    links = [set(Page(part(message, "html")).links) for message in messages]
    assert all(len(found) == 1 and "/r/" in str(found) for found in links)


def _holds_in_slack(slack: Slack) -> None:
    for message in slack.messages.values():
        said = json.dumps(message)
        assert "CANARY" not in said
        assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", message["text"])
        marked = [text for kind, text in texts(message["blocks"]) if kind == "mrkdwn"]
        assert [text for text in marked if not MARKED.fullmatch(text)] == []
        assert "evil.example" not in html.unescape(message["text"]) + json.dumps(message["blocks"])


class _Elements(HTMLParser):
    """A page's elements and attributes, and where it leads; the token of the page itself aside."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self.leads: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag, tuple(name for name, _ in attrs)] += 1
        self.leads |= {value or "" for name, value in attrs if name in {"href", "src", "action"}}


async def _holds_on_the_page(town: Town) -> None:
    pages = {}
    for letter in town.letters:
        message = read(letter.raw)
        [link] = {str(link) for link in Page(part(message, "html")).links}
        answer = await town.scene.http.get(link)
        assert answer.status_code == 200
        pages[message["Subject"], link] = answer.text
    ordinary = next(_Elements(page) for (subject, _), page in pages.items() if PLAIN in subject)
    for (_, link), page in pages.items():
        seen = _Elements(page)
        assert seen.found == ordinary.found
        assert {lead for lead in seen.leads if not lead.startswith(("/r/static/", "data:,"))} == {
            "/r/" + link.rpartition("/r/")[2]
        }
        assert "CANARY" not in page
        assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", page)


async def _holds_in_the_metrics(scene: Rig) -> None:
    text = (await scene.http.get(f"{scene.admin}/metrics")).text
    families = list(text_string_to_metric_families(text))
    assert {family.name for family in families if not family.name.startswith(("healthd_", "process_"))} == set()
    assert [word for word in ("evil", "CANARY", "Acme", "Bcc", "HYPERLINK") if word in text] == []
    assert len({one.labels.get("platform") for family in families for one in family.samples}) <= 3
    assert await scene.metric("healthd_jobs_failed_total") == 0


async def _goes_on(town: Town) -> None:
    """After all of them, the next account is told of as ever."""
    before = len(town.letters)
    town.scene.sandbox.faults.active.clear()
    town.scene.have_rested()
    account = next(iter(town.scene.sandbox.world.accounts.values()))
    town.scene.expire(account)
    await town.told(before + 1)
    assert any(account.name in read(letter.raw)["Subject"] for letter in town.letters[before:])
    livez = await town.scene.http.get(f"{town.scene.admin}/livez")
    assert livez.status_code == 200


def _holds_in_the_log(said: str) -> None:
    lines = [json.loads(line) for line in said.splitlines()]
    assert {line["event"] for line in lines} >= {"healthd.ready", "healthd.stopped"}
    assert [line["event"] for line in lines if not re.fullmatch(r"[a-z_.]+", line["event"])] == []
    assert said.isascii()
    assert [word for word in ("evil.forged", "evil_metric", "CANARY", "Traceback", "\x1b") if word in said] == []


async def test_half_a_character_in_a_name_parks_its_webhook_and_nothing_else(tmp_path: Path) -> None:
    """No JSON can be read that holds one; the account is found broken by the next look all the same."""
    async with town(tmp_path) as made:
        scene = made.scene
        account, other = named(scene, "Acme one"), named(scene, "Acme two")
        await scene.start()
        await settled(scene)
        assert (await deliver(scene, event(account_id=account.id, account_name="Acme \ud800")))[0] == 202
        scene.expire(other)
        await made.told(1)
        await scene.until_drained()
        assert await scene.metric("healthd_inbox_webhooks", status=InboxStatus.PARKED) == 1
        assert await scene.state(account) is State.HEALTHY
        assert "Acme two" in read(made.letters[0].raw)["Subject"]
