"""Somebody is taken out of the contacts: the links that they were sent open nothing, and the chain goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from healthd.core.contacts import Contact
from healthd.core.model import NoticeKind, NoticeStatus, Target
from healthd.core.routing import Route, Step
from healthd.store import contacts, incidents, notices
from tests.outbox.surroundings import Surroundings, surroundings

OPENED, REMINDER, ESCALATED = NoticeKind.OPENED, NoticeKind.REMINDER, NoticeKind.ESCALATED
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ADA = Contact("ada", "Ada", (Target("mail", "ada@acme.example"), Target("chat", "#ada")))
BOB = Contact("bob", "Bob", (Target("chat", "#bob"),))
ROUTES = (Route((Target("@ada"),), then=(Step((Target("@bob"),), 5 * DAY),)),)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Surroundings]:
    """Ada has been told; Bob comes after her."""
    async with surroundings(tmp_path, channels=("mail", "chat"), routes=ROUTES, remind_after=(DAY,)) as made:
        await made.knows(ADA, BOB)
        await made.breaks()
        await made.outbox.send_due()
        yield made


async def revoked(scene: Surroundings) -> dict[str, bool]:
    """Of each who has, or will have, a link: whether it is revoked."""
    _, incident = await scene.case()
    found = {}
    for target in (*ADA.addresses, *BOB.addresses):
        for kind in (OPENED, ESCALATED):
            first = notices.notice_id(incident.id, target, kind, 0)
            link = await scene.store.read(incidents.link, incidents.link_id(first))
            if link is not None:
                found[link.target] = link.revoked_at is not None
    return found


async def let_go(scene: Surroundings, key: str) -> None:
    assert await scene.store.run(contacts.remove, key, scene.now())


async def test_their_links_are_revoked_and_nobody_elses(scene: Surroundings) -> None:
    before = await revoked(scene)
    assert set(before.values()) == {False}
    assert "mail:ada@acme.example" in before
    await let_go(scene, "ada")
    assert await revoked(scene) == {target: "ada" in target for target in before}


async def test_where_somebody_else_is_reached_at_the_address_its_link_goes_on_working(scene: Surroundings) -> None:
    await scene.knows(Contact("desk", "The desk", (ADA.addresses[0],)))
    await let_go(scene, "ada")
    assert not (await revoked(scene))["mail:ada@acme.example"]


async def test_they_are_not_reminded_any_more_and_the_next_one_hears_in_time(scene: Surroundings) -> None:
    await let_go(scene, "ada")
    await scene.send_all(5 * DAY + HOUR, HOUR)
    assert [one.kind for one in scene.mail.taken] == [OPENED]
    assert [(one.kind, one.target.address) for one in scene.channels["chat"].taken] == [
        (OPENED, "#ada"),
        (ESCALATED, "#bob"),
    ]
    ends = {(one.status, one.reason) for one in await scene.notices() if one.kind is REMINDER and one.contact == "ada"}
    assert ends == {(NoticeStatus.DROPPED, "its recipient is no longer on record")}


async def test_they_are_not_told_of_the_repair_either(scene: Surroundings) -> None:
    await let_go(scene, "ada")
    await scene.recovers()
    await scene.outbox.send_due()
    assert [one.kind for one in scene.mail.taken] == [OPENED]


async def test_whoever_was_not_told_yet_is_not_and_the_next_in_the_chain_is(tmp_path: Path) -> None:
    async with surroundings(tmp_path, channels=("mail", "chat"), routes=ROUTES) as scene:
        await scene.knows(ADA, BOB)
        await scene.breaks()
        await let_go(scene, "ada")
        await scene.outbox.send_due()
        assert scene.mail.taken == []
        assert [(one.kind, one.target.address) for one in scene.channels["chat"].taken] == [(ESCALATED, "#bob")]


async def test_an_address_that_the_settings_name_themselves_is_no_contacts(tmp_path: Path) -> None:
    async with surroundings(tmp_path, routes=(Route((ADA.addresses[0],)),), remind_after=(DAY,)) as scene:
        await scene.knows(ADA)
        await scene.breaks()
        await scene.outbox.send_due()
        await let_go(scene, "ada")
        await scene.send_all(2 * DAY, HOUR)
        assert [one.kind for one in scene.mail.taken] == [OPENED, REMINDER]
