"""Nothing is sent in a person's quiet hours; when they end, only what is still true is, and together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from healthd.channels.base import Notice, Retry
from healthd.core.cadence import Cadence
from healthd.core.contacts import Contact, Hours
from healthd.core.model import NoticeKind, NoticeStatus, Signal, Target
from healthd.core.routing import Route
from healthd.store.troubles import Trouble
from tests.outbox.surroundings import Surroundings, surroundings

OPENED, REMINDER, RESOLVED = NoticeKind.OPENED, NoticeKind.REMINDER, NoticeKind.RESOLVED
PENDING, SENT, DROPPED, DEAD = NoticeStatus.PENDING, NoticeStatus.SENT, NoticeStatus.DROPPED, NoticeStatus.DEAD
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = (time(22), time(7))
MAIL = Target("mail", "ada@acme.example")
ADA = Contact("ada", "Ada", (MAIL,), Hours(BERLIN, NIGHT), "de")
PATIENT = Cadence(remind_after=(DAY,))


def berlin(text: str) -> datetime:
    """A moment by the clock on Ada's wall."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Surroundings]:
    """Ada in Berlin is told of everything, but not from ten at night to seven in the morning."""
    async with surroundings(tmp_path, routes=(Route((Target("@ada"),)),), cadence=PATIENT) as made:
        await made.knows(ADA)
        yield made


async def sent_at(scene: Surroundings, until: datetime, step: timedelta = 10 * MINUTE) -> list[str]:
    """When something was sent from now on, by Ada's clock."""
    times = []
    await scene.outbox.send_due()
    while scene.now() < until:
        before = len(scene.mail.taken)
        scene.travel(step)
        await scene.outbox.send_due()
        times += [f"{scene.now().astimezone(BERLIN):%a %H:%M}"] * (len(scene.mail.taken) - before)
    return times


async def test_by_day_a_contact_is_told_at_once(scene: Surroundings) -> None:
    scene.travel_to(berlin("2027-01-13T12:00"))
    await scene.breaks()
    assert await scene.outbox.send_due() == 1
    [message] = scene.mail.told
    assert (message.reader.name, message.reader.language, message.reader.zone) == ("Ada", "de", BERLIN)


NIGHTS = {
    "before midnight": ("2027-01-13T23:30", "2027-01-14T07:00"),
    "after midnight": ("2027-01-14T00:30", "2027-01-14T07:00"),
    "as they begin": ("2027-01-13T22:00", "2027-01-14T07:00"),
    "the night an hour is skipped": ("2027-03-27T23:00", "2027-03-28T07:00"),
    "the night an hour comes twice": ("2027-10-30T23:00", "2027-10-31T07:00"),
}


@pytest.mark.parametrize(("breaks_at", "told_at"), NIGHTS.values(), ids=NIGHTS)
async def test_what_breaks_in_the_night_is_told_when_it_is_over(
    scene: Surroundings, breaks_at: str, told_at: str
) -> None:
    scene.travel_to(berlin(breaks_at))
    await scene.breaks()
    await scene.outbox.send_due()
    [waiting] = await scene.notices()
    assert (waiting.status, waiting.due_at) == (PENDING, berlin(told_at))
    assert waiting.reason == "quiet hours of its recipient"
    scene.travel_to(berlin(told_at) - 2 * SECOND)
    assert await scene.outbox.send_due() == 0
    scene.travel_to(berlin(told_at) + SECOND)
    assert await scene.outbox.send_due() == 1


async def test_on_days_off_nothing_is_sent_and_on_the_first_working_day_it_is(tmp_path: Path) -> None:
    workdays = Contact("ada", "Ada", (MAIL,), Hours(BERLIN, NIGHT, frozenset(range(5))))
    async with surroundings(tmp_path, routes=(Route((Target("@ada"),)),), cadence=PATIENT) as scene:
        await scene.knows(workdays)
        scene.travel_to(berlin("2027-01-15T22:30"))  # a Friday
        await scene.breaks()
        assert await sent_at(scene, berlin("2027-01-18T09:00"), HOUR / 2) == ["Mon 07:00"]


async def test_the_first_failure_after_a_long_wait_is_not_the_end(tmp_path: Path) -> None:
    """A weekend is not a mail server that failed for a weekend."""
    workdays = Contact("ada", "Ada", (MAIL,), Hours(BERLIN, NIGHT, frozenset(range(5))))
    async with surroundings(tmp_path, routes=(Route((Target("@ada"),)),), cadence=PATIENT) as scene:
        await scene.knows(workdays)
        scene.mail.answers = [Retry("greylisted")]
        scene.travel_to(berlin("2027-01-15T22:30"))
        await scene.breaks()
        await scene.outbox.send_due()
        scene.travel_to(berlin("2027-01-18T07:01"))
        await scene.send_all(MINUTE)
        assert (await scene.fates())[0] == (OPENED, SENT)


async def test_what_broke_in_one_night_is_one_message_in_the_morning(scene: Surroundings) -> None:
    scene.travel_to(berlin("2027-01-13T20:00"))
    await scene.see(Signal.OK, "1", "2", "3")
    scene.travel_to(berlin("2027-01-13T23:00"))
    for ref in "123":
        await scene.breaks(ref)
        await scene.outbox.send_due()
        scene.travel(HOUR)
    assert await sent_at(scene, berlin("2027-01-14T08:00")) == ["Thu 07:00"]
    [message] = scene.mail.told
    assert isinstance(message, Notice)
    assert sorted(account.ref for account in message.accounts) == ["1", "2", "3"]


async def test_what_recovered_before_the_morning_is_not_told_at_all(scene: Surroundings) -> None:
    scene.travel_to(berlin("2027-01-13T23:00"))
    await scene.breaks()
    await scene.outbox.send_due()
    await scene.recovers()
    assert await sent_at(scene, berlin("2027-01-14T09:00"), HOUR) == []
    assert await scene.fates() == [(OPENED, DROPPED)]


async def test_a_repair_in_the_night_is_told_in_the_morning(scene: Surroundings) -> None:
    scene.travel_to(berlin("2027-01-13T21:00"))
    await scene.breaks()
    await scene.outbox.send_due()
    scene.travel_to(berlin("2027-01-13T23:00"))
    await scene.recovers()
    assert await scene.outbox.send_due() == 1, "it was asked about, and waits"
    assert len(scene.mail.taken) == 1
    scene.travel_to(berlin("2027-01-14T07:00") + SECOND)
    await scene.outbox.send_due()
    assert [delivery.kind for delivery in scene.mail.taken] == [OPENED, RESOLVED]


async def test_repaired_and_broken_again_in_one_night_is_told_as_broken_only(scene: Surroundings) -> None:
    scene.travel_to(berlin("2027-01-13T21:00"))
    await scene.breaks()
    await scene.outbox.send_due()
    scene.travel_to(berlin("2027-01-13T23:00"))
    await scene.recovers()
    await scene.outbox.send_due()
    scene.travel(HOUR)
    for _ in range(2):
        await scene.observe("1", Signal.BAD_TOKEN)
    await scene.outbox.send_due()
    scene.travel_to(berlin("2027-01-14T07:01"))
    await scene.send_all(MINUTE)
    assert [delivery.kind for delivery in scene.mail.taken] == [OPENED, OPENED]
    fates = await scene.fates()
    assert (RESOLVED, DROPPED) in fates
    [stale] = [one for one in await scene.notices() if one.kind is RESOLVED]
    assert stale.reason == "broken again before it was told"


async def test_a_reminder_due_in_the_night_comes_in_the_morning(scene: Surroundings) -> None:
    scene.travel_to(berlin("2027-01-13T23:00"))
    await scene.breaks()
    assert await sent_at(scene, berlin("2027-01-16T12:00"), HOUR / 2) == ["Thu 07:00", "Fri 07:00"]
    assert [delivery.kind for delivery in scene.mail.taken] == [OPENED, REMINDER]


async def test_nothing_ever_reaches_a_contact_in_their_quiet_hours(scene: Surroundings) -> None:
    """Three days with breaks and repairs at all hours."""
    scene.travel_to(berlin("2027-03-26T12:00"))
    loud: list[datetime] = []

    def listen() -> None:
        if not ADA.hours.allows(scene.now()):
            loud.append(scene.now())

    scene.mail.during = listen
    await scene.see(Signal.OK, *"12345")
    for turn in range(24):
        ref = str(turn % 5 + 1)
        stored = await scene.account(ref)
        await (scene.recovers(ref) if stored.account.state == "expired" else scene.breaks(ref))
        await scene.send_all(3 * HOUR, 20 * MINUTE)
    assert loud == []
    assert len(scene.mail.taken) > 5


async def test_an_operator_with_quiet_hours_sleeps_through_a_trouble_that_ends_before_them(tmp_path: Path) -> None:
    operators = (Target("@ada"),)
    async with surroundings(tmp_path, operators=operators) as scene:
        await scene.knows(ADA)
        for hours, kinds in ((2, []), (12, [NoticeKind.TROUBLE])):
            scene.travel_to(berlin(f"2027-01-1{hours % 10}T23:00"))
            trouble = Trouble(f"t{hours}", "acme", "unauthorized", "bulk", scene.now(), "HTTP 401", "Put a key there.")
            await scene.store.run(scene.engine.trouble, trouble)
            assert await sent_at(scene, scene.now() + timedelta(hours=hours)) == (["Wed 07:00"] if kinds else [])
            await scene.store.run(scene.engine.trouble_over, "acme", scene.now(), "bulk")
            await scene.outbox.send_due()
        assert [delivery.kind for delivery in scene.mail.taken] == [NoticeKind.TROUBLE, NoticeKind.TROUBLE_OVER]
