"""People on record: kept as they were given, found in one read, and never a reason to crash."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from healthd.core.contacts import Contact, Hours, parse_days, parse_quiet, parse_zone
from healthd.core.model import Target
from healthd.core.owners import Owned, Resolved, ResolvedLevel
from healthd.store import contacts
from healthd.store.contacts import API, FILE, RESOLVER, BadAddress
from healthd.store.housekeeping import KEEP_RESOLVED
from tests.store.rows import DAY, NOON
from tests.tidy import tidy

ADA = Contact(
    "ada",
    "Ada Lovelace",
    (Target("mail", "ada@acme.example"), Target("slack", "#ada"), Target("mail", "home@ada.example")),
    Hours(parse_zone("Europe/Berlin"), parse_quiet("22:00-07:00"), parse_days("mon-fri")),
    "de",
)
BOB = Contact("bob", "Bob 🙂", (Target("team-slack"),))


def everybody(connection: Connection) -> dict[str, str]:
    return {one.contact.key: one.source for one in contacts.all_contacts(connection)}


def spoil(connection: Connection, table: str, **columns: object) -> None:
    assignments = ", ".join(f"{name} = :{name}" for name in columns)
    connection.execute(text(f"UPDATE {table} SET {assignments}"), columns)


def test_a_contact_comes_back_as_it_was_given(connection: Connection) -> None:
    contacts.put(connection, [ADA, BOB], FILE, NOON)
    found = contacts.get(connection, "ada")
    assert found is not None
    assert (found.contact, found.source, found.updated_at, found.wrong) == (ADA, FILE, NOON, ())
    assert [one.contact for one in contacts.all_contacts(connection)] == [ADA, BOB]
    assert contacts.get(connection, "eve") is None


def test_a_contact_put_again_takes_the_place_of_the_old_one(connection: Connection) -> None:
    contacts.put(connection, [ADA], FILE, NOON)
    moved = Contact("ada", "Ada", (Target("mail", "ada@new.example"),))
    contacts.put(connection, [moved], API, NOON + DAY)
    found = contacts.get(connection, "ada")
    assert found is not None
    assert (found.contact, found.source, found.updated_at) == (moved, API, NOON + DAY)


def test_a_contact_is_forgotten_once(connection: Connection) -> None:
    contacts.put(connection, [ADA], FILE, NOON)
    assert contacts.remove(connection, "ada", NOON)
    assert not contacts.remove(connection, "ada", NOON)
    assert everybody(connection) == {}


def test_a_directory_holds_those_asked_for_that_there_are(connection: Connection) -> None:
    contacts.put(connection, [ADA, BOB], FILE, NOON)
    assert contacts.directory(connection, ["bob", "nobody", "bob"]).contacts == {"bob": BOB}
    assert contacts.directory(connection, []).contacts == {}


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"zone": "Mars/Olympus"}, "zone"),
        ({"zone": "../../etc/passwd"}, "zone"),
        ({"quiet": "late"}, "quiet hours"),
        ({"days": "someday"}, "working days"),
        ({"addresses": "not json"}, "addresses"),
        ({"addresses": '{"mail": "x"}'}, "addresses"),
        ({"addresses": "[1, 2]"}, "addresses"),
        ({"addresses": "null"}, "addresses"),
        ({"addresses": "[" * 100_000}, "addresses"),
    ],
)
def test_what_cannot_be_read_of_a_contact_is_left_out_and_told(
    connection: Connection, columns: dict[str, str], what: str
) -> None:
    contacts.put(connection, [ADA], FILE, NOON)
    spoil(connection, "contacts", **columns)
    found = contacts.directory(connection, ["ada"])
    assert found.wrong == {"ada": (f"the {what} cannot be read",)}
    left = found.contacts["ada"]
    assert (left.key, left.name, left.language) == ("ada", "Ada Lovelace", "de")
    assert left.addresses == (() if what == "addresses" else ADA.addresses)
    assert left.hours.zone == (UTC if what == "zone" else ADA.hours.zone)


ACCOUNT = Owned("acme", "account", "42", (("ada",), ("bob",)), {"brand": "rocket"})
PROFILE = Owned("acme", "profile", "p7", (("eve",),), {"brand": "anvil", "tier": "gold"})
PLATFORM = Owned("acme", "platform", "youtube", (("tube",),), {"team": "video"})
WORKSPACE = Owned("acme", "workspace", "", (("office",),), {"team": "all", "country": "de"})
ELSEWHERE = Owned("globex", "workspace", "", (("hank",),), {"tier": "lead"})


@pytest.mark.parametrize(
    ("place", "owners", "labels", "why"),
    [
        (("acme", "youtube", "p7", "42"), (("ada",), ("bob",)),
         {"brand": "rocket", "tier": "gold", "team": "video", "country": "de"}, "workspace acme, account 42"),
        (("acme", "youtube", "p7", "1"), (("eve",),),
         {"brand": "anvil", "tier": "gold", "team": "video", "country": "de"}, "workspace acme, profile p7"),
        (("acme", "youtube", "", "1"), (("tube",),), {"team": "video", "country": "de"},
         "workspace acme, platform youtube"),
        (("acme", "x", "", "1"), (("office",),), {"team": "all", "country": "de"}, "workspace acme"),
        (("globex", "youtube", "p7", "42"), (("hank",),), {"tier": "lead"}, "workspace globex"),
    ],
)  # fmt: skip
def test_the_most_specific_owners_count_and_labels_add_up(
    connection: Connection,
    place: tuple[str, str, str, str],
    owners: tuple[tuple[str, ...], ...],
    labels: dict[str, str],
    why: str,
) -> None:
    contacts.assign(connection, [ACCOUNT, PROFILE, PLATFORM, WORKSPACE, ELSEWHERE], FILE, NOON)
    found = contacts.assignment(connection, *place)
    assert (found.owners, found.labels, found.why, found.wrong) == (owners, labels, f"owners of {why}", ())


def test_a_record_of_labels_alone_leaves_the_owners_to_the_next(connection: Connection) -> None:
    contacts.assign(connection, [WORKSPACE, Owned("acme", "account", "42", (), {"team": "one"})], FILE, NOON)
    found = contacts.assignment(connection, "acme", "x", "", "42")
    assert found.owners == (("office",),)
    assert found.labels == {"team": "one", "country": "de"}


def test_nobody_on_record_is_an_answer_too(connection: Connection) -> None:
    found = contacts.assignment(connection, "acme", "x", "", "42")
    assert (found.owners, found.labels, found.why) == ((), {}, "")


def test_owners_are_replaced_and_taken_off_record(connection: Connection) -> None:
    contacts.assign(connection, [PROFILE], FILE, NOON)
    contacts.assign(connection, [Owned("acme", "profile", "p7", (("ada",),))], API, NOON + DAY)
    [found] = contacts.all_assignments(connection)
    assert (found.owned.owners, found.source, found.updated_at) == ((("ada",),), API, NOON + DAY)
    assert contacts.unassign(connection, "acme", "profile", "p7")
    assert not contacts.unassign(connection, "acme", "profile", "p7")
    assert contacts.all_assignments(connection) == []


def test_owners_of_no_known_scope_are_refused(connection: Connection) -> None:
    with pytest.raises(ValueError, match="no scope"):
        contacts.assign(connection, [Owned("acme", "planet", "earth", (("ada",),))], FILE, NOON)


@pytest.mark.parametrize(
    ("columns", "what"),
    [({"owners": "x"}, "owners"), ({"owners": '["ada"]'}, "owners"), ({"owners": "[[1]]"}, "owners"),
     ({"labels": "[]"}, "labels"), ({"labels": '{"a": 1}'}, "labels")],
)  # fmt: skip
def test_what_cannot_be_read_of_an_assignment_is_left_out_and_told(
    connection: Connection, columns: dict[str, str], what: str
) -> None:
    contacts.assign(connection, [ACCOUNT], FILE, NOON)
    spoil(connection, "assignments", **columns)
    found = contacts.assignment(connection, "acme", "x", "", "42")
    assert found.wrong == (f"workspace acme, account 42: the {what} cannot be read",)
    assert found.owners == (() if what == "owners" else ACCOUNT.owners)
    assert found.labels == ({} if what == "labels" else ACCOUNT.labels)


ANSWER = Resolved(
    (ResolvedLevel(("ada", "office")), ResolvedLevel(("bob",), timedelta(hours=36))),
    {"ada": ADA, "bob": BOB},
    {"tier": "gold"},
)


def test_the_last_answer_of_the_endpoint_is_kept(connection: Connection) -> None:
    contacts.keep_answer(connection, "acme", "p7", "42", ANSWER, NOON)
    kept = contacts.kept_answer(connection, "acme", "p7", "42")
    assert kept is not None
    assert (kept.answer, kept.fetched_at, kept.wrong) == (ANSWER, NOON, ())
    assert contacts.kept_answer(connection, "acme", "p7", "43") is None
    newer = Resolved((ResolvedLevel(("bob",)),), {"bob": BOB})
    contacts.keep_answer(connection, "acme", "p7", "42", newer, NOON + DAY)
    kept = contacts.kept_answer(connection, "acme", "p7", "42")
    assert kept is not None
    assert (kept.answer, kept.fetched_at) == (newer, NOON + DAY)


def test_the_endpoint_never_overwrites_what_the_operator_wrote(connection: Connection) -> None:
    operators = Contact("ada", "Ada by hand", (Target("mail", "hand@acme.example"),))
    contacts.put(connection, [operators], FILE, NOON)
    contacts.keep_answer(connection, "acme", "p7", "42", ANSWER, NOON)
    assert everybody(connection) == {"ada": FILE, "bob": RESOLVER}
    kept = contacts.kept_answer(connection, "acme", "p7", "42")
    assert kept is not None
    assert kept.answer.contacts == {"ada": operators, "bob": BOB}


@pytest.mark.parametrize("levels", ["x", '[{"keys": ["ada"]}]', '[{"keys": "ada", "after": null}]', "[[]]"])
def test_an_answer_that_cannot_be_read_names_nobody(connection: Connection, levels: str) -> None:
    contacts.keep_answer(connection, "acme", "p7", "42", ANSWER, NOON)
    spoil(connection, "resolved", levels=levels)
    kept = contacts.kept_answer(connection, "acme", "p7", "42")
    assert kept is not None
    assert (kept.answer.levels, kept.wrong) == ((), ("the levels cannot be read",))
    assert kept.answer.labels == ANSWER.labels


def test_old_answers_go_and_the_contacts_that_only_they_named(connection: Connection) -> None:
    contacts.put(connection, [Contact("eve", "Eve", ())], FILE, NOON)
    contacts.keep_answer(connection, "acme", "p7", "42", ANSWER, NOON)
    contacts.keep_answer(connection, "acme", "p7", "43", Resolved((), {"bob": BOB}), NOON + DAY)
    tidy(connection, NOON + DAY + KEEP_RESOLVED)
    assert everybody(connection) == {"bob": RESOLVER, "eve": FILE}
    assert contacts.kept_answer(connection, "acme", "p7", "42") is None
    assert contacts.kept_answer(connection, "acme", "p7", "43") is not None


def test_a_bad_address_is_news_once_until_it_is_trusted_again(connection: Connection) -> None:
    ada, hook = Target("mail", "ada@acme.example"), Target("team-slack")
    assert contacts.mark_bad(connection, ada, NOON, "550 5.1.1", "dsn")
    assert not contacts.mark_bad(connection, ada, NOON + DAY, "another", "dsn")
    assert contacts.mark_bad(connection, hook, NOON + DAY, "the hook is gone", "send")
    assert contacts.all_bad(connection) == [
        BadAddress(ada, NOON, "550 5.1.1", "dsn"),
        BadAddress(hook, NOON + DAY, "the hook is gone", "send"),
    ]
    crossed = [Target("mail"), Target("team-slack", "ada@acme.example"), Target("mail", "bob@acme.example")]
    assert contacts.bad_among(connection, [ada, hook, *crossed]) == {ada, hook}
    assert contacts.bad_among(connection, []) == frozenset()
    assert contacts.bad_counts(connection) == {"mail": 1, "team-slack": 1}
    assert contacts.clear_bad(connection, ada)
    assert not contacts.clear_bad(connection, ada)
    assert contacts.bad_among(connection, [ada, hook]) == {hook}


HOT: dict[str, Callable[[Connection], object]] = {
    "directory": lambda c: contacts.directory(c, ["ada", "bob"]),
    "assignment": lambda c: contacts.assignment(c, "acme", "youtube", "p7", "42"),
    "kept answer": lambda c: contacts.kept_answer(c, "acme", "p7", "42"),
    "bad among": lambda c: contacts.bad_among(c, [Target("mail", "ada@acme.example")]),
}


@pytest.mark.parametrize("connection", ["sqlite"], indirect=True)  # it plans the same for tables without rows
@pytest.mark.parametrize("job", HOT.values(), ids=HOT)
def test_no_question_walks_through_everybody(connection: Connection, job: Callable[[Connection], object]) -> None:
    contacts.keep_answer(connection, "acme", "p7", "42", ANSWER, NOON)
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, _m: Any) -> None:
        asked.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    job(connection)
    event.remove(connection, "before_cursor_execute", note)
    assert asked
    for statement, parameters in asked:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        assert not [line for line in plan if re.match(r"SCAN (?!\d+ CONSTANT|LIST)", line)], (statement, plan)


def test_a_contact_s_texts_survive_any_sign(connection: Connection) -> None:
    odd = Contact("o'brien", "Robert'); DROP TABLE contacts;--", (Target("mail", 'a"b@x'), Target("x", "a:b:c")))
    contacts.put(connection, [odd], FILE, NOON)
    assert contacts.directory(connection, ["o'brien"]).contacts == {"o'brien": odd}
