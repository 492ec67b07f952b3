"""Trouble with an API: news once, until it ends."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection

from healthd.core.cadence import Cadence
from healthd.core.model import NoticeKind, NoticeStatus, Target
from healthd.dispatch import Dispatch, subject_of
from healthd.engine import Engine
from healthd.store import notices, troubles
from healthd.store.troubles import Trouble, trouble_id
from tests.store.rows import NOON

OPERATOR = Target("mail", "ops@acme.example")
engine = Engine(dispatch=Dispatch(operators=(OPERATOR,)))


def trouble(kind: str, workspace: str = "acme", question: str = "bulk", late: int = 0) -> Trouble:
    since = NOON + timedelta(minutes=late)
    identity = trouble_id(workspace, kind, since)
    return Trouble(identity, workspace, kind, question, since, "HTTP 401", "Put a valid key there.")


def written(connection: Connection, about: Trouble, kind: NoticeKind) -> notices.StoredNotice | None:
    return notices.get(connection, notices.notice_id(subject_of(about), OPERATOR, kind, 0))


def test_a_trouble_is_news_once_and_until_it_ends(connection: Connection) -> None:
    assert engine.trouble(connection, trouble("unauthorized"))
    assert not engine.trouble(connection, trouble("unauthorized", late=1))
    assert engine.trouble(connection, trouble("unavailable"))
    assert engine.trouble(connection, trouble("unauthorized", "other"))
    assert {found.kind for found in engine.trouble_over(connection, "acme", NOON, "bulk")} == {
        "unauthorized",
        "unavailable",
    }
    assert engine.trouble_over(connection, "acme", NOON, "bulk") == []
    assert [left.workspace for left in troubles.current(connection)] == ["other"]
    assert engine.trouble(connection, trouble("unauthorized", late=2))


def test_an_answer_to_one_question_does_not_end_the_refusal_of_another(connection: Connection) -> None:
    assert engine.trouble(connection, trouble("forbidden", question="mint"))
    assert engine.trouble_over(connection, "acme", NOON, "bulk") == []
    assert [found.question for found in engine.trouble_over(connection, "acme", NOON, "mint")] == ["mint"]


def test_the_operator_hears_at_once_of_what_does_not_pass_and_later_of_what_may(connection: Connection) -> None:
    for kind, due in {"unauthorized": NOON, "unavailable": NOON + timedelta(minutes=10)}.items():
        engine.trouble(connection, trouble(kind))
        notice = written(connection, trouble(kind), NoticeKind.TROUBLE)
        assert notice is not None
        assert notice.due_at == due
        assert notice.account_id is None


def test_only_who_was_told_hears_that_it_is_over(connection: Connection) -> None:
    engine.trouble(connection, trouble("unauthorized"))
    engine.trouble(connection, trouble("unavailable"))
    [key] = notices.claim(connection, NOON, "lease", NOON + timedelta(minutes=1), 10, (), Cadence())
    notices.settle(connection, key.notices, NoticeStatus.SENT, sent_at=NOON)
    engine.trouble_over(connection, "acme", NOON + timedelta(minutes=2), "bulk")
    withdrawn = written(connection, trouble("unavailable"), NoticeKind.TROUBLE)
    assert withdrawn is not None
    assert withdrawn.status is NoticeStatus.DROPPED
    assert written(connection, trouble("unavailable"), NoticeKind.TROUBLE_OVER) is None
    assert written(connection, trouble("unauthorized"), NoticeKind.TROUBLE_OVER) is not None
