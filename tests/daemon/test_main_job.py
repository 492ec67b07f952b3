"""The main job, end to end: what the product is for."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import get_args

import pytest

from healthd.core.model import NoticeKind, NoticeStatus, State
from healthd.core.post_failures import LOOK_APART
from healthd.sandbox.faults import Kind
from tests.daemon.rig import Rig


async def test_a_webhook_leads_to_a_mail_with_a_link(scene: Rig) -> None:
    account = scene.account("facebook")
    scene.expire(account)
    mail = await scene.mail(account.name)
    assert mail.to == "ada@acme.example"
    assert mail.link is not None
    assert mail.link.startswith(f"{scene.public}/r/")
    assert await scene.state(account) is State.EXPIRED


async def test_without_a_webhook_the_sweep_notices(sweeping: Rig) -> None:
    account = sweeping.account("instagram")
    sweeping.expire(account, webhook=False)
    await sweeping.mail(account.name)


async def test_without_a_webhook_of_the_account_its_posts_that_fail_are_noticed(scene: Rig) -> None:
    account = scene.account("facebook")
    scene.expire(account, webhook=False)
    why = {"code": "AUTH_FAILED", "message": "The session has ended.", "retryable": False}
    scene.sandbox.api.tell_of_post(account, 4711, why, ["linkedin"])
    await scene.until_turn_comes(account, LOOK_APART)
    await scene.mail(account.name)


async def test_posts_that_fail_without_any_fault_of_their_account_are_no_news_to_anybody(scene: Rig) -> None:
    account = scene.account("facebook")
    scene.sandbox.api.tell_of_post(account, 1, {"code": "AUTH_FAILED", "message": "", "retryable": False})
    await scene.until_turn_comes(account, LOOK_APART)
    await scene.until_state(account, State.HEALTHY)
    assert scene.mails() == []


async def test_a_disconnection_that_the_reading_agrees_with_is_told_at_once(scene: Rig) -> None:
    account = scene.account("reddit")
    scene.sandbox.world.break_connection(account)
    scene.sandbox.api.tell(account, "account.disconnected", reason="revoked")
    await scene.mail(account.name)
    assert await scene.state(account) is State.DISCONNECTED


BROKEN_API = [kind for kind in get_args(Kind) if kind != "delay"]


@pytest.mark.parametrize("kind", BROKEN_API)
async def test_while_the_api_fails_nobody_is_mailed_and_no_state_moves(sweeping: Rig, kind: str) -> None:
    broken = sweeping.account("facebook")
    before = {account.id: await sweeping.state(account) for account in sweeping.sandbox.world.accounts.values()}
    fault = sweeping.sandbox.faults.add(kind=kind, status=500, seconds=0.001)

    def struck(times: int) -> bool:
        sweeping.have_rested()
        return fault.strikes >= times

    # An answer that was on its way when the fault came would tell the truth: the account breaks after the first strike.
    await sweeping.until(lambda: struck(1), "the fault")
    sweeping.expire(broken, webhook=False)
    await sweeping.until(lambda: struck(4), "the fault")
    assert {account.id: await sweeping.state(account) for account in sweeping.sandbox.world.accounts.values()} == before
    assert sweeping.mails() == []
    sweeping.sandbox.faults.active.clear()
    sweeping.have_rested()
    await sweeping.mail(broken.name)


async def test_an_empty_list_removes_nobody(sweeping: Rig) -> None:
    count = len(sweeping.sandbox.world.accounts)
    workspace = sweeping.sandbox.world.workspaces["sandbox"]
    kept, workspace.accounts = workspace.accounts, {}
    await sweeping.until_swept(3)
    assert await sweeping.metric("healthd_accounts", state="healthy") == count
    workspace.accounts = kept


async def test_an_event_five_times_and_out_of_order_is_one_incident_and_one_notice(scene: Rig) -> None:
    account = scene.account("linkedin")
    late = (scene.now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    scene.sandbox.api.tell(account, "account.connected", created_at=late, delay=0.3)
    scene.expire(account, duplicates=4, event_id="evt_repeated")
    scene.sandbox.api.tell(account, "account.connected", created_at=late, delay=0.6)
    await scene.mail(account.name)
    await scene.until(lambda: all(d.status == "delivered" for d in scene.sandbox.sender.deliveries.values()))
    await scene.until_drained()

    async def recorded() -> bool:
        return NoticeStatus.SENDING not in {notice.status for notice in await scene.notices(account)}

    await scene.until(recorded, "the record of the mail")
    opened = [notice for notice in await scene.notices(account) if notice.kind is NoticeKind.OPENED]
    assert len(await scene.incidents(account)) == 1
    assert [notice.status for notice in opened] == [NoticeStatus.SENT]
    assert len(scene.mails()) == 1


async def test_a_repair_is_told_in_the_same_thread_and_nobody_is_nagged_afterwards(scene: Rig) -> None:
    account = scene.account("threads")
    scene.expire(account)
    opened = await scene.mail(account.name)
    scene.repair(account)
    fixed = await scene.mail("connected again")
    assert fixed.thread == opened.identity
    scene.travel(timedelta(days=8))
    await asyncio.sleep(1.5)
    assert len(scene.mails()) == 2


async def test_what_is_still_broken_is_reminded_of(scene: Rig) -> None:
    account = scene.account("pinterest")
    scene.expire(account)
    opened = await scene.mail(account.name)
    scene.travel(timedelta(days=1, minutes=1))
    reminder = await scene.mail(account.name, since=opened.number)
    assert reminder.thread == opened.identity
    assert reminder.link == opened.link


async def test_robots_cost_a_link_and_never_the_repair(scene: Rig) -> None:
    account = scene.account("facebook")
    scene.expire(account)
    link = (await scene.mail(account.name)).link or ""
    for method in ("GET", "HEAD") * 5:
        answer = await scene.http.request(method, link, headers={"user-agent": "LinkScanner/1.0"})
        assert answer.status_code == 200
    assert scene.sandbox.world.links == {}
    robot = await scene.person.press(await scene.person.open(link))
    assert robot.status == 200
    scene.travel(timedelta(days=2))
    done = await scene.person.reconnect(link)
    assert "Connected" in done.text
    await scene.mail("connected again")
    assert await scene.person.watch(link, "repaired", 10)


async def test_one_login_repairs_its_siblings_without_a_webhook(scene: Rig) -> None:
    first, second = scene.account("youtube"), scene.account("gmb")
    for account in (first, second):
        scene.expire(account)
        await scene.mail(account.name)
    scene.repair(second, webhook=False)
    scene.repair(first)
    await scene.until_state(first, State.HEALTHY)
    await scene.until_state(second, State.HEALTHY)


async def test_a_deleted_account_is_closed_and_nobody_hears_of_it_again(sweeping: Rig) -> None:
    account = sweeping.account("tumblr")
    sweeping.expire(account)
    await sweeping.mail(account.name)
    sweeping.sandbox.world.remove_account(account)
    await sweeping.until_state(account, State.REMOVED)
    sweeping.expire_event_only(account)
    sweeping.travel(timedelta(days=8))
    await asyncio.sleep(1.5)
    assert await sweeping.state(account) is State.REMOVED
    assert len(sweeping.mails()) == 1


async def test_a_paused_account_is_nobodys_trouble_until_it_is_resumed(sweeping: Rig) -> None:
    account = sweeping.account("tiktok")
    account.is_active = False
    await sweeping.until(lambda: _paused(sweeping), "the pause")
    sweeping.expire(account)
    await sweeping.until_state(account, State.EXPIRED)
    await sweeping.until_swept(2)
    assert sweeping.mails() == []
    account.is_active = True
    await sweeping.mail(account.name)


async def _paused(scene: Rig) -> bool:
    return await scene.metric("healthd_accounts_paused") == 1


async def test_an_event_that_nobody_can_confirm_is_told_as_unconfirmed_after_a_while(scene: Rig) -> None:
    account = scene.account("snapchat")
    scene.sandbox.faults.add(kind="status", status=503)
    scene.expire(account)
    await scene.until_state(account, State.SUSPECT)
    assert scene.mails() == []
    scene.travel(timedelta(minutes=5, seconds=1))
    mail = await scene.mail(account.name)
    assert "may need" in mail.subject


async def test_a_false_alarm_is_cleared_without_a_word(scene: Rig) -> None:
    account = scene.account("bluesky")
    scene.expire_event_only(account)
    await scene.until(lambda: len(scene.asked(f"/{account.id}/health")) > 0, "the confirmation")
    await scene.until_state(account, State.HEALTHY)
    assert scene.mails() == []
