"""What is repaired again and again: the operator hears of it, with the evidence, in place of the person."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from healthd.channels.base import Notice
from healthd.core.cadence import Cadence
from healthd.core.model import NoticeKind, Target
from tests.outbox.surroundings import surroundings

HOUR = timedelta(hours=1)
CADENCE = Cadence(
    remind_after=(), group_wait=timedelta(0), group_interval=timedelta(0), chronic_repairs=2,
    chronic_within=timedelta(days=14),
)  # fmt: skip


async def test_the_operator_gets_the_evidence_and_the_person_no_message_until_it_is_released(tmp_path: Path) -> None:
    operators = (Target("ops"),)
    async with surroundings(tmp_path, channels=("mail", "ops"), operators=operators, cadence=CADENCE) as scene:
        repaired = []
        for _ in range(2):
            await scene.breaks()
            await scene.outbox.send_due()
            await scene.recovers()
            await scene.outbox.send_due()
            repaired.append(scene.now() - timedelta(seconds=1))
            scene.travel(HOUR)
        told = len(scene.mail.taken)
        await scene.breaks()
        await scene.send_all(3 * HOUR, HOUR)
        assert len(scene.mail.taken) == told
        [message] = scene.channels["ops"].told
        assert isinstance(message, Notice)
        [account] = message.accounts
        assert message.kind is NoticeKind.CHRONIC
        assert len(account.repaired_at) == 2
        assert all(abs(at - was) < timedelta(seconds=5) for at, was in zip(account.repaired_at, repaired, strict=True))
        dispatch = scene.outbox.dispatch
        await scene.decide(lambda case, incident: dispatch.release(case, incident, "Olga"))
        await scene.outbox.send_due()
        assert [one.kind for one in scene.mail.taken[told:]] == [NoticeKind.OPENED]
