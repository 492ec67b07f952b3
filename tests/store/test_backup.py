"""A copy is whole, whatever the daemon does meanwhile; what is put back replaces all or nothing."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection, text

from healthd.core.model import NoticeStatus
from healthd.core.roles import Role
from healthd.store import access, accounts, backup, guard, inbox, migrations, notices
from healthd.store.access import Session
from healthd.store.backup import NotUsable
from healthd.store.database import sqlite_engine
from healthd.store.inbox import Arrival
from healthd.store.notices import Holding
from tests.store.rows import ADA, DAY, HOUR, MINUTE, NOON, add_account, add_notice

T = TypeVar("T")


def write(path: Path, work: Callable[[Connection], T]) -> T:
    engine = sqlite_engine(f"sqlite:///{path}")
    try:
        with engine.begin() as connection:
            return work(connection)
    finally:
        engine.dispose()


def names(path: Path) -> list[str]:
    """Of the accounts there."""
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT ref FROM accounts ORDER BY id")]


def hear(connection: Connection, *numbers: int) -> None:
    inbox.store(connection, [Arrival("acme", f"evt_{number}", b"x" * 2000, NOON) for number in numbers])


@pytest.fixture
def one(path: Path, tmp_path: Path) -> Path:
    """A copy of a database with one account; the database has two by now."""
    write(path, lambda connection: add_account(connection, "1"))
    backup.back_up(path, tmp_path / "one.db")
    write(path, lambda connection: add_account(connection, "2"))
    return tmp_path / "one.db"


def put_back(path: Path, file: Path, quiet: timedelta = 10 * MINUTE) -> backup.Restored:
    return backup.restore(path, file, NOON, "cli:ada", quiet)


def test_a_copy_is_one_private_file_that_says_how_old_it_is(path: Path, tmp_path: Path) -> None:
    write(path, lambda connection: hear(connection, 1))
    made = backup.back_up(path, tmp_path / "copy.db")
    assert (made.revision, made.as_of, made.size) == (migrations.HEAD, NOON, (tmp_path / "copy.db").stat().st_size)
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    assert {one.name for one in tmp_path.iterdir() if not one.name.startswith("healthd.db")} == {"copy.db"}


def test_a_copy_holds_one_moment_and_ends_though_the_writer_never_rests(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page, with a commit between any two: a copy that began anew with each would not end."""
    monkeypatch.setattr(backup, "PAGES", 1)
    write(path, lambda connection: hear(connection, *range(500)))
    ended, written = threading.Event(), [500]

    def go_on() -> None:
        engine = sqlite_engine(f"sqlite:///{path}")
        while not ended.is_set():
            with engine.begin() as connection:
                hear(connection, written[0])
            written[0] += 1
        engine.dispose()

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        while written[0] < 510:
            pass
        backup.back_up(path, tmp_path / "copy.db")
        meanwhile = written[0]
    finally:
        ended.set()
        writer.join()
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        [last, count] = connection.execute("SELECT max(id), count(*) FROM inbox").fetchone()
    assert last == count
    assert 510 <= count < meanwhile


def test_nothing_is_overwritten_by_mistake(one: Path, path: Path) -> None:
    with pytest.raises(FileExistsError):
        backup.back_up(path, one)
    assert names(one) == ["1"]
    backup.back_up(path, one, overwrite=True)
    assert names(one) == ["1", "2"]


def test_a_damaged_database_makes_no_copy_and_leaves_the_last_one_alone(one: Path, path: Path) -> None:
    write(path, lambda connection: hear(connection, *range(100)))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size // 2))
    with pytest.raises(NotUsable, match=r"damaged|malformed"):
        backup.back_up(path, one, overwrite=True)
    assert names(one) == ["1"]
    assert [found.name for found in one.parent.iterdir() if ".part" in found.name] == []


def test_of_many_copies_the_newest_are_kept_and_nothing_else_is_deleted(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    (folder / "healthd-notes.db").touch()
    (folder / "other-20260301T120000Z.db").touch()
    made = [backup.back_up(path, backup.dated(path, folder, NOON + day * DAY)).path for day in range(4)]
    assert made[0].name == "healthd-20260301T120000Z.db"
    assert backup.rotate(path, folder, 3) == made[:1]
    assert backup.rotate(path, folder, 3) == []
    assert {found.name for found in folder.iterdir()} == {
        "healthd-notes.db", "other-20260301T120000Z.db", *(one.name for one in made[1:])
    }  # fmt: skip


def test_what_is_put_back_replaces_the_database_and_the_old_one_is_kept_whole(one: Path, path: Path) -> None:
    with closing(sqlite3.connect(path)) as unfinished:
        unfinished.execute("PRAGMA wal_autocheckpoint=0")
        unfinished.execute("UPDATE accounts SET name = 'only in the log'")
        unfinished.commit()
    done = put_back(path, one)
    assert names(path) == ["1"]
    assert done.kept == path.with_name("healthd.db.before-restore-20260301T120000Z")
    with closing(sqlite3.connect(done.kept)) as kept:
        assert kept.execute("SELECT DISTINCT name FROM accounts").fetchall() == [("only in the log",)]
    assert names(one) == ["1"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in path.parent.iterdir() if found.name.endswith(("-wal", "-shm", ".part"))] == []


def test_a_damaged_database_is_replaced_too_and_kept_as_it_is(one: Path, path: Path) -> None:
    path.write_bytes(b"nothing of use")
    path.with_name("healthd.db-wal").write_bytes(b"neither")
    done = put_back(path, one)
    assert names(path) == ["1"]
    assert done.kept is not None
    assert done.kept.read_bytes() == b"nothing of use"
    assert done.kept.with_name(f"{done.kept.name}-wal").read_bytes() == b"neither"


def test_a_copy_comes_to_a_machine_that_has_no_database(one: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert put_back(tmp_path / "new" / "healthd.db", one).kept is None
    assert names(tmp_path / "new" / "healthd.db") == ["1"]


def newer(file: Path) -> None:
    write(file, lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))


def of_another(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE accounts (id)")


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda file: file.unlink(), "there is no file"),
    "a text": (lambda file: file.write_text("hello " * 1000), "not a database"),
    "empty": (lambda file: file.write_bytes(b""), "no database of healthd"),
    "cut off": (lambda file: file.write_bytes(file.read_bytes()[:20_000]), "damaged|malformed"),
    "of another program": (of_another, "no database of healthd"),
    "of a newer release": (newer, "revision 9999"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_what_is_no_copy_for_this_release_is_refused_and_the_database_stays(one: Path, path: Path, what: str) -> None:
    spoil, said = UNUSABLE[what]
    spoil(one)
    with pytest.raises((NotUsable, migrations.WrongSchema), match=said):
        put_back(path, one)
    assert names(path) == ["1", "2"]
    assert list(path.parent.glob("*before-restore*")) == []


def test_the_database_is_not_put_in_its_own_place(one: Path, path: Path) -> None:
    with pytest.raises(NotUsable, match="the database itself"):
        put_back(path, path)


def test_nothing_is_put_back_while_somebody_works_with_the_database(one: Path, path: Path) -> None:
    with guard.shared(path), guard.shared(path), pytest.raises(guard.InUse, match="stop it first"):
        put_back(path, one)
    with closing(sqlite3.connect(path)) as elsewhere:
        elsewhere.execute("PRAGMA journal_mode=WAL")
        elsewhere.execute("SELECT count(*) FROM accounts").fetchone()
        with pytest.raises(guard.InUse, match="another program"):
            put_back(path, one)
    assert names(path) == ["1", "2"]


def test_while_it_is_put_back_nobody_begins_to_work_with_it(path: Path) -> None:
    with guard.alone(path), pytest.raises(guard.InUse, match="try again"), guard.shared(path):
        pass


def test_what_may_have_been_sent_since_is_in_doubt_and_nothing_else(path: Path, tmp_path: Path) -> None:
    def fill(connection: Connection) -> dict[str, str]:
        account = add_account(connection, "1")
        asked = type(ADA)("@resolver")
        made = {
            "due": add_notice(connection, account, "due", due_at=NOON - HOUR),
            "later": add_notice(connection, account, "later", due_at=NOON + HOUR),
            "held": add_notice(connection, account, "held", due_at=NOON - HOUR, holding=Holding("chronic")),
            "a question": add_notice(connection, account, "question", due_at=NOON - HOUR, target=asked),
            "sent": add_notice(connection, account, "sent", due_at=NOON - HOUR),
        }
        connection.execute(text("UPDATE notices SET status = 'sent' WHERE subject = 'sent'"))
        return made

    made = write(path, fill)
    backup.back_up(path, tmp_path / "copy.db")
    assert put_back(path, tmp_path / "copy.db").doubtful == 1

    def doubtful(connection: Connection) -> set[str]:
        found = {what: notices.get(connection, one) for what, one in made.items()}
        assert found["due"] is not None
        assert found["due"].status is NoticeStatus.PENDING
        return {what for what, one in found.items() if one is not None and one.may_have_arrived}

    assert write(path, doubtful) == {"due"}


def test_for_a_while_nobody_is_told_and_who_was_spared_for_longer_still_is(path: Path, tmp_path: Path) -> None:
    def fill(connection: Connection) -> None:
        add_account(connection, "1")
        add_account(connection, "2", muted_until=NOON + DAY)

    write(path, fill)
    backup.back_up(path, tmp_path / "copy.db")
    done = put_back(path, tmp_path / "copy.db")
    assert done.quiet_until == NOON + 10 * MINUTE

    def muted(connection: Connection) -> list[object]:
        return [one.muted_until for one in accounts.load(connection, "acme", ["1", "2"]).values()]

    assert write(path, muted) == [NOON + 10 * MINUTE, NOON + DAY]


def test_sessions_do_not_come_back_and_the_act_is_on_record(path: Path, tmp_path: Path) -> None:
    def fill(connection: Connection) -> None:
        token = access.create_token(connection, "ada", Role.ADMIN, "digest", at=NOON, by="cli:ada")
        session = Session("d", token.who, Role.ADMIN, token.id, "", NOON, NOON, NOON + DAY)
        assert access.begin_session(connection, session, instead_of=None, how="token")

    write(path, fill)
    backup.back_up(path, tmp_path / "copy.db")
    assert put_back(path, tmp_path / "copy.db").tokens == 1
    assert write(path, lambda connection: connection.execute(text("SELECT count(*) FROM sessions")).scalar()) == 0
    said = write(path, lambda connection: access.audit_of(connection, None, 1))[0]
    assert (said.who, said.action, said.at) == ("cli:ada", "restore database", NOON)
    assert str(NOON) in said.detail
