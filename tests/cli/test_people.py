"""Commands about people: each changes what it says, on record with who did it, and ends as the help says."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from healthd.app import build_engine
from healthd.cli import app
from healthd.config import load
from healthd.core.model import NoticeKind, Signal, Target
from healthd.store import access, contacts, decisions
from healthd.store.database import sqlite_engine
from healthd.store.notices import StoredNotice
from tests.bounces import samples
from tests.config.written import written
from tests.engine.desk import Desk
from tests.fresh_store import fresh_store
from tests.logs.kept import logging_kept

ADA, BOB, OPS = (Target("mail", f"{name}@acme.example") for name in ("ada", "bob", "ops"))
PEOPLE = "key,name,mail,zone\nada,Ada Lovelace,ada@acme.example,Europe/Berlin\nbob,Bob,bob@acme.example,\n"
OWNERS = "workspace,scope,ref,primary,backup\nacme,account,1,ada,bob\n"
ME = f"cli:{getpass.getuser()}"


@dataclass
class Office:
    """An operator's terminal beside a store."""

    folder: Path
    config: str

    def healthd(self, *words: str, stdin: bytes = b"") -> Result:
        return CliRunner().invoke(app, [*words, "--config", self.config], input=stdin)

    def done(self, *words: str) -> str:
        """What a command that succeeds prints."""
        result = self.healthd(*words)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.done(*words, "--json"))

    def file(self, name: str, content: str) -> str:
        (self.folder / name).write_text(content, "utf-8")
        return str(self.folder / name)

    @contextmanager
    def desk(self) -> Iterator[Desk]:
        """The store, as the daemon would write to it now."""
        settings = load(Path(self.config), {})
        database = sqlite_engine(settings.store.url)
        try:
            with database.begin() as connection:
                yield Desk(connection, build_engine(settings), now=datetime.now(UTC) - timedelta(minutes=1))
        finally:
            database.dispose()

    def broken(self, *refs: str) -> None:
        with self.desk() as desk:
            for ref in refs:
                desk.break_down(ref)

    def sent(self) -> StoredNotice:
        """Account 1 is broken, and whoever is told first has been."""
        self.broken("1")
        with self.desk() as desk:
            desk.now = datetime.now(UTC)
            assert desk.hand_over() == 1
            return desk.notices()[0]

    def notices(self, ref: str = "1") -> list[tuple[str, str, str]]:
        """``(kind, status, to)``, oldest first."""
        with self.desk() as desk:
            return [(str(one.kind), str(one.status), one.target.key) for one in desk.notices(ref)]

    def decided(self, ref: str = "1") -> tuple[str, str]:
        """The last decision, and who made it."""
        with self.desk() as desk:
            last = decisions.of_account(desk.connection, desk.stored(ref).id)[-1]
            return last.what, last.who


def office_in(folder: Path, **sections: str) -> Office:
    given = {
        "store": f'url = "{fresh_store(folder / "healthd.db")}"',
        "notices": 'default = "mail:office@acme.example"\noperator = "mail:ops@acme.example"\ngroup_wait = "0s"',
    }
    return Office(folder, str(written(folder, given | sections)))


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return office_in(tmp_path)


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    with logging_kept():
        yield


def test_a_dry_run_shows_what_an_import_would_change_and_changes_nothing(office: Office) -> None:
    files = (office.file("people.csv", PEOPLE), office.file("owners.csv", OWNERS))
    shown = office.done("contacts", "import", *files, "--dry-run")
    assert "+ contact ada: " in shown
    assert "+ owners of " in shown
    assert office.json("contacts", "list") == []
    assert office.done("contacts", "import", *files) == shown
    assert [one["key"] for one in office.json("contacts", "list")] == ["ada", "bob"]
    assert office.done("contacts", "import", *files) == "= nothing changes\n"


def test_an_import_tells_of_what_nobody_could_be_told_before(tmp_path: Path) -> None:
    office = office_in(tmp_path, notices='group_wait = "0s"')
    office.broken("1")
    assert office.notices() == [("opened", "held", "")]
    office.done("contacts", "import", office.file("people.csv", PEOPLE), office.file("owners.csv", OWNERS))
    assert ("opened", "pending", ADA.key) in office.notices()


def test_all_mistakes_of_all_files_are_told_and_nothing_is_imported(office: Office) -> None:
    people = office.file("people.csv", PEOPLE.replace("Europe/Berlin", "Mars"))
    owners = office.file("owners.csv", OWNERS.replace("bob", "eve"))
    result = office.healthd("contacts", "import", people, owners)
    assert result.exit_code == 2
    assert f"{people}:2: zone:" in result.stderr
    assert f"{owners}:2: backup:" in result.stderr
    assert office.json("contacts", "list") == []


def test_a_file_that_is_not_there_is_a_message(office: Office) -> None:
    result = office.healthd("contacts", "import", "/nowhere.csv")
    assert (result.exit_code, result.stderr) == (1, "✗ /nowhere.csv: cannot be read: No such file or directory\n")


def test_replacing_removes_who_is_in_no_file_any_more_unless_a_route_names_them(tmp_path: Path) -> None:
    office = office_in(tmp_path, **{"[[routes]]": 'to = "@bob"\nplatform = "youtube"'})
    office.done("contacts", "import", office.file("people.csv", PEOPLE))
    one = office.file("one.csv", "key,mail\ncarl,carl@acme.example\n")
    shown = office.done("contacts", "import", one, "--replace")
    assert "- contact ada\n" in shown
    assert "= contact bob stays, though it is in no file: named by route 1\n" in shown
    assert [person["key"] for person in office.json("contacts", "list")] == ["bob", "carl"]


@pytest.mark.parametrize("what", ["contacts", "owners", "json"])
def test_an_export_can_be_imported_as_it_is(office: Office, what: str) -> None:
    office.done("contacts", "import", office.file("people.csv", PEOPLE), office.file("owners.csv", OWNERS))
    exported = office.done("contacts", "export", "--what", what)
    assert "ada" in exported
    assert office.done("contacts", "import", office.file("exported", exported)) == "= nothing changes\n"


def test_an_unknown_kind_of_export_is_told(office: Office) -> None:
    result = office.healthd("contacts", "export", "--what", "owner")
    assert result.exit_code == 2
    assert "there is no kind of file 'owner'; did you mean 'owners'?" in result.stderr


def test_a_contact_that_a_route_names_and_nobody_is_called_is_pointed_out(tmp_path: Path) -> None:
    office = office_in(tmp_path, **{"[[routes]]": 'to = ["@eve", "@ada"]'})
    imported = office.healthd("contacts", "import", office.file("people.csv", PEOPLE), "--dry-run")
    stranger = "! @eve reaches nobody: route 1 names it, and there is no such contact\n"
    assert (imported.exit_code, imported.stderr) == (0, stranger)
    office.done("contacts", "import", office.file("people.csv", PEOPLE))
    office.broken("1")
    tested = office.healthd("routes", "test", "1", "--json")
    assert (tested.exit_code, tested.stderr) == (0, stranger)
    assert [one["where"] for one in json.loads(tested.stdout)[0]["told"]] == [ADA.key]


def test_contacts_are_listed_with_where_and_when_they_are_reached(office: Office) -> None:
    office.done("contacts", "import", office.file("people.csv", PEOPLE))
    [ada, _] = office.json("contacts", "list")
    assert (ada["name"], ada["addresses"], ada["zone"]) == ("Ada Lovelace", [ADA.key], "Europe/Berlin")
    assert (ada["source"], ada["wrong"]) == ("file", [])
    assert "Ada Lovelace" in office.done("contacts", "list")


def test_an_address_that_messages_came_back_from_is_listed_until_it_is_trusted_again(office: Office) -> None:
    assert office.json("contacts", "bounced") == []
    with office.desk() as desk:
        contacts.mark_bad(desk.connection, ADA, desk.now, "bounced (5.1.1)", "mail")
    [bad] = office.json("contacts", "bounced")
    assert (bad["to"], bad["reason"], bad["by"]) == (ADA.key, "bounced (5.1.1)", "mail")
    assert "bounced (5.1.1)" in office.done("contacts", "bounced")
    assert office.done("contacts", "trust", ADA.key) == f"✓ {ADA.key} is written to again\n"
    assert office.json("contacts", "bounced") == []
    again = office.healthd("contacts", "trust", ADA.key)
    assert again.exit_code == 3
    assert "is not among those that messages come back from" in again.stderr


def test_a_dry_run_of_the_routes_tells_who_when_and_why_and_tells_nobody(office: Office) -> None:
    office.done("contacts", "import", office.file("people.csv", PEOPLE), office.file("owners.csv", OWNERS))
    office.broken("1")
    before = office.notices()
    with office.desk() as desk:
        contacts.mark_bad(desk.connection, BOB, desk.now, "bounced", "mail")
    [run] = office.json("routes", "test", "acme/1")
    assert [(one["when"], one["where"]) for one in run["told"]] == [
        ("at once", ADA.key),
        ("after 2 days", BOB.key),
        ("after 4 days", "mail:office@acme.example"),
    ]
    assert run["told"][0]["who"] == "Ada Lovelace"
    assert "level 1" in run["told"][0]["why"]
    assert "come back" in run["told"][1]["note"]
    assert "Ada Lovelace" in office.done("routes", "test", "1")
    assert office.notices() == before
    assert office.healthd("routes", "test", "nobody").exit_code == 3


def test_where_nobody_would_be_told_the_dry_run_says_so(tmp_path: Path) -> None:
    office = office_in(tmp_path, notices="")
    office.broken("1")
    assert "no route matches, no owner is on record, no default is set" in office.done("routes", "test", "1")


def test_routes_are_drawn_with_those_who_come_next(tmp_path: Path) -> None:
    route = 'to = "@owner"\nplatform = "youtube"\nthen = [{ after = "4h", to = "mail:ceo@acme.example" }]'
    drawn = office_in(tmp_path, **{"[[routes]]": route}).done("routes", "show")
    lines = [line.strip("│├└─ ") for line in drawn.splitlines()]
    assert lines[1:4] == ["route 1: platform is youtube", "at once: @owner", "after 4 hours: mail:ceo@acme.example"]
    assert lines[-1] == "then: mail:office@acme.example"


def storm(folder: Path) -> Office:
    """Three accounts broke at once, where two make a storm."""
    office = office_in(folder, storm="least = 1\nshare = 0.1")
    office.broken("1", "2", "3")
    assert {status for _, status, _ in office.notices("3")} == {"held"}
    return office


def test_storms_are_listed_those_that_last_first(tmp_path: Path) -> None:
    office = storm(tmp_path)
    [one] = office.json("storms", "list")
    assert (one["workspace"], one["platform"], one["ended_at"]) == ("acme", "facebook", None)
    assert "lasts" in office.done("storms", "list")
    office.done("storms", "release", one["id"])
    [ended] = office.json("storms", "list")
    assert ended["outcome"] == f"released by {ME}"


@pytest.mark.parametrize(("command", "becomes"), [("release", "pending"), ("cancel", "dropped")])
def test_a_storm_ends_by_the_operators_word(tmp_path: Path, command: str, becomes: str) -> None:
    office = storm(tmp_path)
    assert f"✓ {office.json('storms', 'list')[0]['id']}: " in office.done("storms", command, "acme/facebook")
    for ref in "123":
        [opened] = [status for kind, status, _ in office.notices(ref) if kind == NoticeKind.OPENED]
        assert opened == becomes
        assert office.decided(ref)[1] == ME
    again = office.healthd("storms", command, "acme/facebook")
    assert (again.exit_code, "no storm that lasts is called 'acme/facebook'" in again.stderr) == (3, True)


def test_what_is_held_of_a_broken_account_can_be_let_go(tmp_path: Path) -> None:
    office = storm(tmp_path)
    assert office.done("notices", "release", "acme/2") == "✓ acme/2: 1 notice(s) let go\n"
    assert [status for _, status, _ in office.notices("2")] == ["pending"]
    assert [status for _, status, _ in office.notices("3")] == ["held"]
    assert office.decided("2") == ("released", ME)


def test_who_takes_an_account_on_is_on_record_until_it_is_resumed(office: Office) -> None:
    office.sent()
    assert office.done("acknowledge", "acme/1").startswith("✓ acme/1: no reminders until ")
    assert office.decided() == ("acknowledged", ME)
    with office.desk() as desk:
        incident = desk.incident()
        assert incident is not None
        assert incident.acknowledged_until is not None
        assert incident.acknowledged_by == ME
        assert incident.acknowledged_until - datetime.now(UTC) > timedelta(days=6)
    assert office.done("resume", "acme/1") == "✓ acme/1: reminders go on\n"
    assert office.decided() == ("resumed", ME)
    with office.desk() as desk:
        incident = desk.incident()
        assert incident is not None
        assert incident.acknowledged_until is None


def test_a_snooze_lasts_as_long_as_was_said(office: Office) -> None:
    office.sent()
    until = datetime.now(UTC) + timedelta(hours=8)
    assert f"{until:%Y-%m-%d %H:}" in office.done("snooze", "1", "8h")
    assert office.decided() == ("snoozed", ME)
    with office.desk() as desk:
        incident = desk.incident()
        assert incident is not None
        assert incident.snoozed_until is not None
        assert abs(incident.snoozed_until - until) < timedelta(minutes=1)


def test_of_a_muted_account_nobody_is_told_broken_or_not(office: Office) -> None:
    with office.desk() as desk:
        desk.read(Signal.OK)
    until = datetime.now(UTC) + timedelta(days=2)
    assert f"nobody is told of it until {until:%Y-%m-%d}" in office.done("mute", "acme/1", "2d")
    assert office.decided() == ("muted", ME)
    with office.desk() as desk:
        muted = desk.stored().muted_until
        assert muted is not None
        assert abs(muted - until) < timedelta(minutes=1)
    assert office.done("unmute", "1") == "✓ acme/1: people are told of it again\n"
    with office.desk() as desk:
        assert desk.stored().muted_until is None


def test_whatever_is_done_is_on_record_with_who_did_it(office: Office) -> None:
    notice = office.sent()
    for words in (("acknowledge", "1"), ("snooze", "1", "8h"), ("resume", "1"), ("mute", "1", "1d"), ("unmute", "1")):
        office.done(*words)
    office.done("contacts", "import", office.file("people.csv", PEOPLE))
    office.healthd("bounce", stdin=bounced(notice.id, notice.target.address))
    office.done("contacts", "trust", notice.target.key)
    with office.desk() as desk:
        found = access.audit_of(desk.connection, None, 50)
    told = [(line.action, line.who, line.account_id is not None) for line in reversed(found)]
    about_account = ("acknowledge", "snooze", "resume", "mute", "unmute")
    assert told == [(action, ME, True) for action in about_account] + [
        ("import contacts", ME, False), ("trust address", ME, False),
    ]  # fmt: skip


def test_a_snooze_of_no_length_is_a_mistake_of_the_command_line(office: Office) -> None:
    office.sent()
    result = office.healthd("snooze", "1", "soon")
    assert result.exit_code == 2
    assert "such as 90s, 5m" in result.stderr


ABOUT_ONE = {
    "acknowledge": ("acknowledge", "{}"),
    "snooze": ("snooze", "{}", "1d"),
    "resume": ("resume", "{}"),
    "notices release": ("notices", "release", "{}"),
}


@pytest.mark.parametrize("words", ABOUT_ONE.values(), ids=ABOUT_ONE)
@pytest.mark.parametrize(
    ("meant", "says"),
    [
        ("nobody", "no account is called 'nobody'"),
        ("acme/7", "acme/7 is not broken"),
        ("Twins", "several broken accounts are meant: acme/1, acme/2"),
    ],
    ids=["unknown", "not broken", "unclear"],
)
def test_it_must_be_one_broken_account(office: Office, words: tuple[str, ...], meant: str, says: str) -> None:
    with office.desk() as desk:
        desk.read(Signal.OK, "7", name="Fine")
        for ref in "12":
            desk.read(Signal.OK, ref, name="Twins")
            desk.break_down(ref)
        before = [desk.incident(ref) for ref in "12"]
    result = office.healthd(*(word.format(meant) for word in words))
    assert result.exit_code == 3
    assert says in result.stderr
    with office.desk() as desk:
        assert [desk.incident(ref) for ref in "12"] == before


def bounced(notice_id: str, recipient: str) -> bytes:
    return samples.mail(message_id=f"<{notice_id}@acme.example>", recipient=f"rfc822; {recipient}")


def test_a_mail_that_came_back_marks_its_address_and_the_next_is_told(office: Office) -> None:
    office.done("contacts", "import", office.file("people.csv", PEOPLE), office.file("owners.csv", OWNERS))
    notice = office.sent()
    result = office.healthd("bounce", stdin=bounced(notice.id, ADA.address))
    assert (result.exit_code, result.stdout) == (0, "✓ 1 address(es) will not be written to again\n")
    assert [bad["to"] for bad in office.json("contacts", "bounced")] == [ADA.key]
    with office.desk() as desk:
        [next_one] = [one for one in desk.notices() if one.target == BOB]
        assert next_one.due_at <= datetime.now(UTC)


def test_a_report_about_what_we_never_sent_marks_nobody(office: Office) -> None:
    office.sent()
    assert office.healthd("bounce", stdin=bounced("0" * 24, "office@acme.example")).exit_code == 0
    assert office.json("contacts", "bounced") == []


def test_what_is_no_report_is_told_to_the_mail_server(office: Office) -> None:
    result = office.healthd("bounce", stdin=b"Subject: hello\n\nhow are you?\n")
    assert result.exit_code == 1
    assert result.stderr.startswith("✗ ")
    assert "Traceback" not in result.output


def preview(*words: str) -> Result:
    return CliRunner().invoke(app, ["preview", *words])


def test_every_message_is_rendered_into_a_gallery_without_any_settings(tmp_path: Path) -> None:
    result = preview(str(tmp_path / "out"), "-l", "ja", "-l", "de")
    assert (result.exit_code, result.stdout) == (0, f"✓ {tmp_path / 'out' / 'index.html'}\n")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "de", "de.html", "index.html", "ja", "ja.html",
    ]  # fmt: skip
    assert list((tmp_path / "out" / "ja").glob("*.mail.txt"))


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("out", "-l", "xx"), 2, "there is no language 'xx'; there are: de, en, es, fr, ja, pt"),
        (("out", "--templates", "nowhere"), 2, "nowhere: is no folder"),
        (("/dev/null/out",), 1, "cannot be written: Not a directory"),
    ],
    ids=["a language", "templates", "a place"],
)
def test_what_a_gallery_cannot_be_made_of_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = preview(*words)
    assert result.exit_code == code
    assert says in result.stderr
    assert "Traceback" not in result.output
