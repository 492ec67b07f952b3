"""What the operator's pages show, to whom, and what they let whom do: without a browser."""

from __future__ import annotations

import gzip
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from healthd import cli
from healthd.core.model import NoticeStatus
from healthd.store import access, accounts, notices
from tests.web.operator.house import HOSTILE, House, csrf_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGES = ("/", "/accounts", "/incidents", "/notices", "/contacts", "/routes?account=acme/1001", "/workspaces")
FOR_ADMINS = ("/audit", "/access")
ADDRESS = re.compile(r"[\w.+-]{2,}@acme\.example")


class Attributes(HTMLParser):
    """The names of all attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def handle_starttag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.update(name for name, _ in attrs)


def attributes_of(page: str) -> set[str]:
    parser = Attributes()
    parser.feed(page)
    return parser.names


async def all_pages(house: House) -> list[str]:
    [notice, *_] = await house.scene.store.read(notices.of_account, await house.id_of(house.broken))
    each = [await house.path(one) for one in (house.broken, house.hostile)]
    return [*PAGES, *each, f"/notices/{notice.id}"]


async def test_a_viewer_reads_everything_but_addresses_and_has_nothing_to_press(house: House) -> None:
    async with house.asks("viewer") as viewer:
        for path in await all_pages(house):
            page = await viewer.get(path)
            assert page.status_code == 200, path
            assert 'method="post"' not in page.text, path
            assert ADDRESS.findall(page.text) == [], path
        for path in FOR_ADMINS:
            assert (await viewer.get(path)).status_code == 403


async def test_what_a_viewer_sends_does_nothing(house: House) -> None:
    path = await house.path(house.unread)
    async with house.asks("viewer") as viewer:
        for act in ("acknowledge", "mute", "check", "link", "pause-posting"):
            assert (await viewer.post(f"{path}/{act}")).status_code == 403
    [incident, *_] = await house.scene.incidents(house.unread)
    assert incident.acknowledged_until is None


async def test_an_operator_sees_addresses_and_an_admin_the_audit_too(house: House) -> None:
    async with house.asks("operator") as operator:
        assert "ada@acme.example" in (await operator.get("/contacts")).text
        assert (await operator.get("/audit")).status_code == 403
    async with house.asks("admin") as admin:
        assert [(await admin.get(path)).status_code for path in FOR_ADMINS] == [200, 200]


async def test_a_form_from_elsewhere_does_nothing(house: House) -> None:
    path = await house.path(house.unread)
    async with house.signed_in("operator") as someone:
        good = csrf_of((await someone.get(path)).text)
        refused = [
            await someone.post(f"{path}/acknowledge", data={}),
            await someone.post(f"{path}/acknowledge", data={"csrf": good[::-1]}),
            await someone.post(f"{path}/acknowledge", data={"csrf": good}, headers={"origin": "https://evil.example"}),
            await someone.post(f"{path}/acknowledge", data={"csrf": good}, headers={"sec-fetch-site": "cross-site"}),
        ]
    assert [answer.status_code for answer in refused] == [403] * 4
    [incident, *_] = await house.scene.incidents(house.unread)
    assert incident.acknowledged_until is None


async def test_every_page_is_light_and_held_to_its_policy(house: House) -> None:
    async with house.asks("admin") as admin:
        for path in [*await all_pages(house), *FOR_ADMINS]:
            page = await admin.get(path)
            policy = page.headers["content-security-policy"]
            assert "default-src 'none'" in policy, path
            assert "unsafe" not in policy, path
            assert page.headers["x-frame-options"] == "DENY"
            assert page.headers["cache-control"] == "no-store"
            assets = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
            weight = len(page.content) + sum([len((await admin.get(one)).content) for one in assets])
            assert weight < 120_000, path
            assert len(gzip.compress(page.content)) < 20_000, path
            assert attributes_of(page.text) & {"style", "onclick", "onerror", "onload"} == set(), path


async def test_a_hostile_name_is_shown_short_and_as_text(house: House) -> None:
    async with house.asks("admin") as admin:
        for path in ("/accounts?q=onerror", await house.path(house.hostile)):
            page = (await admin.get(path)).text
            assert "&lt;img src=x onerror=alert(1)&gt;" in page
            assert "<img" not in page
            assert HOSTILE[:2000] not in page
            assert re.search(r"<bdi[^>]*>&lt;img", page)


@pytest.mark.parametrize(
    "path",
    [
        "/accounts/999999999", "/accounts/99999999999999999999", "/accounts/0", "/notices/nothing", "/notices/x/mail",
        "/accounts?after=abc", "/incidents?after=WyJhIl0", "/audit?after=abc", "/audit?after=" + "9" * 40,
        "/accounts?after=" + "W" * 3000,
    ],
)  # fmt: skip
async def test_what_does_not_exist_is_said_to_be_missing(house: House, path: str) -> None:
    async with house.asks("admin") as admin:
        answer = await admin.get(path)
    assert answer.status_code == 404
    assert "There is nothing here" in answer.text


@pytest.mark.parametrize("query", ["state=nonsense&sort=up", "q=%00%ff%27%22%25_", "platform=" + "x" * 500, "said=<b>"])
async def test_strange_filters_do_no_harm(house: House, query: str) -> None:
    async with house.asks("admin") as admin:
        for path in ("/accounts", "/incidents", "/notices"):
            answer = await admin.get(f"{path}?{query}")
            assert answer.status_code == 200, path
            assert "<b>" not in answer.text.partition("<h1>")[0]


async def test_pages_follow_each_other_and_show_each_account_once(house: House) -> None:
    seen: list[str] = []
    path: str | None = "/accounts?sort=id"
    async with house.asks("viewer") as viewer:
        while path is not None:
            page = (await viewer.get(path)).text
            seen += re.findall(r'<tr id="account-(\d+)"', page)
            following = re.search(r'rel="next" href="([^"]+)"', page)
            path = following[1].replace("&amp;", "&") if following else None
    assert len(seen) == len(set(seen)) == len(house.scene.sandbox.world.accounts)


async def test_filters_stand_in_the_address_and_find_what_they_say(house: House) -> None:
    async with house.asks("viewer") as viewer:
        page = (await viewer.get("/accounts?state=expired&platform=facebook&sort=changed")).text
    assert re.findall(r'<tr id="account-(\d+)"', page) == [str(await house.id_of(house.broken))]
    assert '<option value="expired" selected>' in page


async def test_every_act_is_on_record_with_who_did_it(house: House) -> None:
    account = await house.fresh("telegram")
    path, account_id = await house.path(account), await house.id_of(account)
    async with house.asks("operator") as operator:
        for act, form in (
            ("mute", {"for": "7d"}), ("unmute", {}), ("check", {}), ("pause-posting", {}), ("resume-posting", {}),
        ):  # fmt: skip
            answer = await operator.post(f"{path}/{act}", data=form)
            assert (answer.status_code, answer.headers["location"]) == (303, f"{path}?said={act}")
    done = await house.scene.store.read(access.audit_of, None, 10, account_id)
    assert [(one.action, one.who) for one in reversed(done)] == [
        ("mute", "token:operator"),
        ("unmute", "token:operator"),
        ("check", "token:operator"),
        ("pause posting", "token:operator"),
        ("resume posting", "token:operator"),
    ]


async def test_what_cannot_be_done_is_said_on_the_page(house: House) -> None:
    path = await house.path(await house.fresh("discord"))
    async with house.asks("operator") as operator:
        not_broken = await operator.post(f"{path}/acknowledge")
        no_span = await operator.post(f"{path}/mute", data={"for": "a while"})
        no_act = await operator.post(f"{path}/explode")
    assert not_broken.status_code == 409
    assert "Nothing was done: the account is not broken." in not_broken.text
    assert no_span.status_code == 409
    assert "is not a span of time" in no_span.text
    assert no_act.status_code == 404


async def test_an_api_that_fails_is_said_on_the_page_and_changes_nothing(house: House) -> None:
    account = await house.fresh("whatsapp")
    path = await house.path(account)
    house.scene.sandbox.faults.add(path="/pause", kind="status", status=500)
    try:
        async with house.asks("operator") as operator:
            answer = await operator.post(f"{path}/pause-posting")
    finally:
        house.scene.sandbox.faults.active.clear()
        house.scene.have_rested()
    assert answer.status_code == 502
    assert "The API did not do it" in answer.text
    stored = await house.scene.store.read(accounts.by_id, await house.id_of(account))
    assert stored is not None
    assert not stored.account.paused


async def test_a_link_is_shown_once_and_stands_in_no_address(house: House) -> None:
    path = await house.path(house.unread)
    async with house.asks("operator") as operator:
        answer = await operator.post(f"{path}/link")
        again = await operator.get(path)
    assert answer.status_code == 200
    assert f'value="{house.scene.public}/r/' in answer.text
    assert "/r/" not in again.text


async def test_a_mail_is_shown_as_sent_and_can_do_nothing(house: House) -> None:
    found = await house.scene.store.read(notices.of_account, await house.id_of(house.broken))
    sent = next(one for one in found if one.status is NoticeStatus.SENT)
    async with house.asks("viewer") as viewer:
        page = await viewer.get(f"/notices/{sent.id}")
        mail = await viewer.get(f"/notices/{sent.id}/mail")
    assert f'src="/notices/{sent.id}/mail" sandbox' in page.text
    assert mail.text == (sent.content or {})["html"]
    policy = mail.headers["content-security-policy"]
    assert "sandbox" in policy
    assert "script-src" not in policy
    assert "default-src 'none'" in policy
    assert mail.headers["x-frame-options"] == "SAMEORIGIN"


async def test_plain_status_is_there_for_scripts(house: House) -> None:
    async with house.asks("viewer") as viewer:
        assert "acme:" in (await viewer.get("/status")).text


async def test_every_command_that_the_pages_name_exists() -> None:
    commands = get_command(cli.app)
    assert isinstance(commands, TyperGroup)
    templates = Path(str(files("healthd.web"))) / "templates" / "operator"
    named = {
        match
        for page in templates.glob("*.j2")
        for match in re.findall(r"<code>healthd ([a-z-]+)(?: ([a-z-]+))?", page.read_text())
    }
    assert len(named) > 8
    for first, second in named:
        command = commands.commands[first]
        if isinstance(command, TyperGroup):
            assert second in command.commands, f"healthd {first} {second}"
