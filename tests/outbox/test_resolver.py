"""The customer's own endpoint says who is told; while it does not answer, those on record are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from healthd.core.cadence import Cadence
from healthd.core.contacts import Contact
from healthd.core.model import NoticeKind, NoticeStatus, Target
from healthd.core.owners import Resolved, ResolvedLevel
from healthd.core.storm import StormPolicy
from healthd.resolver import Answer, Question, ResolverUnavailable
from healthd.store import notices
from tests.outbox.surroundings import Surroundings, surroundings

OPENED, ESCALATED = NoticeKind.OPENED, NoticeKind.ESCALATED
SENT, HELD, DROPPED = NoticeStatus.SENT, NoticeStatus.HELD, NoticeStatus.DROPPED
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

BOB = Contact("bob", "Bob", (Target("bob"),))
EVE = Contact("eve", "Eve", (Target("eve"),))
CHAIN = Resolved((ResolvedLevel(("bob",)), ResolvedLevel(("eve",), HOUR)), {"bob": BOB, "eve": EVE})


@dataclass
class Endpoint:
    """Answers as it is told, and remembers what it was asked."""

    answer: Resolved = CHAIN
    down: bool = False
    asked: list[Question] = field(default_factory=list)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def ask(self, question: Question) -> Answer:
        self.asked.append(question)
        if self.down:
            raise ResolverUnavailable("it answered HTTP 500")
        return Answer(self.answer, self.now())


@asynccontextmanager
async def asking(folder: Path, endpoint: Endpoint, **choices: Any) -> AsyncIterator[Surroundings]:
    cadence = Cadence(remind_after=(), group_wait=timedelta(0), group_interval=timedelta(0))
    wanted = {"asks_for_contacts": True, "resolver": endpoint, "cadence": cadence, "default": (), **choices}
    async with surroundings(folder, channels=("mail", "bob", "eve"), **wanted) as scene:
        endpoint.now = scene.now
        yield scene


async def test_whom_the_endpoint_names_is_told_and_who_comes_after_them_later(tmp_path: Path) -> None:
    endpoint = Endpoint()
    async with asking(tmp_path, endpoint) as scene:
        await scene.break_together("1", profile="p7")
        await scene.outbox.send_due()
        assert [delivery.kind for delivery in scene.channels["bob"].taken] == [OPENED]
        assert scene.channels["eve"].taken == []
        [question] = endpoint.asked
        assert (question.workspace, question.account, question.platform, question.profile) == (
            "acme", "1", "facebook", "p7",
        )  # fmt: skip
        await scene.send_all(HOUR, 10 * MINUTE)
        assert [delivery.kind for delivery in scene.channels["eve"].taken] == [ESCALATED]


async def test_of_accounts_that_break_together_each_is_asked_about(tmp_path: Path) -> None:
    endpoint = Endpoint()
    async with asking(tmp_path, endpoint) as scene:
        await scene.break_together("1", "2", "3")
        await scene.outbox.send_due()
        assert sorted(question.account for question in endpoint.asked) == ["1", "2", "3"]
        assert [(await scene.fates(ref))[-1] for ref in "123"].count((ESCALATED, NoticeStatus.PENDING)) == 3


async def test_within_its_time_the_answer_counts_and_nothing_is_asked_again(tmp_path: Path) -> None:
    endpoint = Endpoint()
    async with asking(tmp_path, endpoint) as scene:
        await scene.breaks()
        await scene.outbox.send_due()
        await scene.recovers()
        await scene.breaks()
        await scene.outbox.send_due()
        assert len(endpoint.asked) == 1
        scene.travel(HOUR)
        await scene.recovers()
        await scene.breaks()
        await scene.outbox.send_due()
        assert len(endpoint.asked) == 2


async def test_while_it_is_down_those_on_record_are_told_and_the_reason_is_kept(tmp_path: Path) -> None:
    async with asking(tmp_path, Endpoint(down=True), default=(Target("mail", "ada@acme.example"),)) as scene:
        await scene.breaks()
        await scene.outbox.send_due()
        assert [delivery.kind for delivery in scene.mail.taken] == [OPENED]
        said = [one.reason for one in await scene.decisions() if one.what == "asked"]
        assert said == ["the contacts endpoint: it answered HTTP 500"]


async def test_while_it_is_down_its_last_answer_counts(tmp_path: Path) -> None:
    endpoint = Endpoint()
    async with asking(tmp_path, endpoint) as scene:
        await scene.breaks()
        await scene.outbox.send_due()
        await scene.recovers()
        endpoint.down = True
        scene.travel(HOUR)
        await scene.breaks()
        await scene.outbox.send_due()
        assert [delivery.kind for delivery in scene.channels["bob"].taken][-1] is OPENED


async def test_where_it_was_down_and_nobody_is_on_record_it_is_asked_again_later(tmp_path: Path) -> None:
    endpoint = Endpoint(down=True)
    async with asking(tmp_path, endpoint) as scene:
        await scene.breaks()
        await scene.outbox.send_due()
        assert await scene.store.read(notices.held) == {"nobody": 1}
        endpoint.down = False
        for _ in range(2):
            scene.travel(HOUR)
            await scene.store.run(scene.outbox.dispatch.try_again, scene.now())
            await scene.outbox.send_due()
        assert [delivery.kind for delivery in scene.channels["bob"].taken] == [OPENED]
        assert await scene.store.read(notices.held) == {}


async def test_what_recovered_while_it_was_asked_is_told_to_nobody(tmp_path: Path) -> None:
    async with asking(tmp_path, Endpoint()) as scene:
        await scene.breaks()
        [batch] = await scene.claimed("mine")
        await scene.recovers()
        await scene.outbox._one(batch)
        await scene.send_all(2 * HOUR, HOUR)
        assert scene.channels["bob"].got == []


async def test_in_a_storm_it_is_not_asked_before_the_hold_ends(tmp_path: Path) -> None:
    endpoint = Endpoint()
    async with asking(tmp_path, endpoint, storms=StormPolicy(least=3)) as scene:
        await scene.break_together("1", "2", "3", "4", "5")
        await scene.send_all(2 * MINUTE)
        assert endpoint.asked == []
        assert await scene.store.read(notices.held) == {"storm": 5}
        scene.travel(HOUR)
        await scene.store.run(scene.outbox.dispatch.judge_storms, scene.now())
        await scene.outbox.send_due()
        assert {question.account for question in endpoint.asked} == {"1", "2", "3", "4", "5"}
        assert [(await scene.fates(ref))[-1][1] for ref in "12345"].count(HELD) == 0
        assert len(scene.channels["bob"].taken) >= 1
