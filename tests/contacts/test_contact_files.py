"""Contacts and owners in files: read as people write them, told what is wrong, and written so that they come back."""

from __future__ import annotations

import csv
import io
import json
import string
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthd.contact_files import (
    Book,
    Changes,
    ContactFileError,
    Stock,
    compare,
    contacts_csv,
    normal,
    owners_csv,
    read,
    to_json,
)
from healthd.core.contacts import EVERY_DAY, Contact, Hours, parse_days, parse_quiet, parse_zone
from healthd.core.model import Target
from healthd.core.owners import SCOPES, Owned
from healthd.core.text import clean


def _mail(address: str) -> None:
    if "@" not in address:
        raise ValueError(f"{address!r} is no mail address: write it as ada@acme.example")


def _hook(address: str) -> None:
    if address:
        raise ValueError("a Slack webhook has one recipient: write only the channel's name")


def _any(_: str) -> None:
    """Takes everything."""


CHANNELS = {"mail": _mail, "slack": _any, "team-slack": _hook, "zone": _any}

ADA = Contact(
    "ada",
    "Ada Lovelace",
    (Target("mail", "ada@acme.example"), Target("slack", "#ada")),
    Hours(parse_zone("Europe/Berlin"), parse_quiet("22:00-07:00"), parse_days("mon-fri")),
    "de",
)
BOB = Contact("bob", "Bob", (Target("mail", "bob@acme.example"),))
EVE = Contact("eve", "Eve", (Target("team-slack"),))


def table(text: str, file: str = "contacts.csv") -> Book:
    return read([(file, text.encode())], CHANNELS)


def mistakes(*files: tuple[str, str], **options: Any) -> list[str]:
    with pytest.raises(ContactFileError) as found:
        read([(name, text.encode()) for name, text in files], CHANNELS, **options)
    assert str(found.value) == "\n".join(map(str, found.value.mistakes))
    return list(map(str, found.value.mistakes))


FORMS = {
    "as documented": "key,name,mail,slack,zone,quiet_hours,working_days,language\n"
    "ada,Ada Lovelace,ada@acme.example,#ada,Europe/Berlin,22:00-07:00,mon-fri,de\n",
    "in any order and case, with semicolons and a mark": "\ufeff"
    "MAIL;Quiet Hours;Key;Slack;Name;Working-days;ZONE;Language\r\n"
    "ada@acme.example;22:00-07:00;@Ada;#ada;Ada Lovelace;mon-fri;Europe/Berlin;DE\r\n",
    "with tabs and blank rows": "key\tname\tmail\tslack\tzone\tquiet_hours\tworking_days\tlanguage\n\n\t\t\t\t\t\t\t\n"
    "ada\tAda Lovelace\tada@acme.example\t#ada\tEurope/Berlin\t22:00-07:00\tmon tue wed thu fri\tde\n",
    "with a separator in Excel's way": "sep=;\r\nkey;name;mail;slack;zone;quiet_hours;working_days;language\r\n"
    'ada;"Ada\nLovelace";ada@acme.example;#ada;Europe/Berlin;22:00 - 07:00;"mon,tue,wed,thu,fri";de\r\n',
    "with channels called so": "key,name,channel:mail,channel:slack,zone,quiet_hours,working_days,language,\n"
    "ada,Ada Lovelace,ada@acme.example,#ada,Europe/Berlin,22:00-07:00,mon-fri,de,\n",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_a_table_is_read_however_a_spreadsheet_writes_it(text: str) -> None:
    book = table(text)
    assert book.contacts == {"ada": ADA}
    assert book.owners is None


def test_a_document_says_the_same() -> None:
    document = {
        "contacts": [
            {
                "key": "ada", "name": "Ada Lovelace", "addresses": {"mail": "ada@acme.example", "slack": ["#ada"]},
                "zone": "Europe/Berlin", "quiet_hours": "22:00-07:00", "working_days": "mon-fri", "language": "de",
            },
            {"key": "eve", "name": "Eve", "addresses": {"team-slack": ""}, "zone": None},
        ],
        "owners": [
            {"workspace": "acme", "scope": "profile", "ref": "p7", "owners": [["ada", "eve"], "bob"],
             "labels": {"a": "b"}},
            {"workspace": "acme", "scope": "workspace", "labels": {"tier": "gold"}},
        ],
    }  # fmt: skip
    book = read([("people", json.dumps(document).encode())], CHANNELS)
    assert book.contacts == {"ada": ADA, "eve": EVE}
    assert book.owners == {
        ("acme", "profile", "p7"): Owned("acme", "profile", "p7", (("ada", "eve"), ("bob",)), {"a": "b"}),
        ("acme", "workspace", ""): Owned("acme", "workspace", "", (), {"tier": "gold"}),
    }


def test_a_person_may_have_several_addresses_on_a_channel_and_a_channel_none() -> None:
    book = table("key,mail,team-slack\nada,ada@a.example ada@b.example,*\nbob,bob@a.example; bob@b.example,\n")
    assert book.contacts is not None
    assert book.contacts["ada"].addresses == (
        Target("mail", "ada@a.example"), Target("mail", "ada@b.example"), Target("team-slack"),
    )  # fmt: skip
    assert len(book.contacts["bob"].addresses) == 2


def test_owners_are_read_from_a_table_of_their_own() -> None:
    book = table(
        "Workspace,Scope,Ref,Primary,Backup,Level 3,label:brand,label:Tier\n"
        "acme,Platform,YouTube,ada,bob eve,@hank,rocket,\n"
        "acme,workspace,,bob,,,,gold\n"
    )
    assert book.contacts is None
    assert book.owners == {
        ("acme", "platform", "youtube"): Owned(
            "acme", "platform", "youtube", (("ada",), ("bob", "eve"), ("hank",)), {"brand": "rocket"}
        ),
        ("acme", "workspace", ""): Owned("acme", "workspace", "", (("bob",),), {"Tier": "gold"}),
    }


def test_several_files_are_one_book() -> None:
    files = [("a.csv", b"key,mail\nada,ada@a.example\n"), ("b.csv", b"key,mail\nbob,bob@a.example\n"),
             ("owners.csv", b"workspace,scope,ref,primary\nacme,workspace,,ada\n")]  # fmt: skip
    book = read(files, CHANNELS, known=[], workspaces=["acme"])
    assert book.contacts is not None
    assert list(book.contacts) == ["ada", "bob"]
    assert book.owners is not None
    assert len(book.owners) == 1


PEOPLE = """key,mail,zone,quiet_hours,working_days,language
ada,ada.example,Europe/Berln,late,someday,Deutsch

,bob@acme.example,,,,
own er,x@y,,,,
eve,,,,,
hank,h@a.example,,,,
HANK,h@b.example,,,,
owner,o@a.example,,,,
"""
THEIRS = """workspace,scope,ref,primary,backup
acm,profile,,hank,
acme,proflie,p7,adda,
acme,workspace,p7,,hank
acme,account,42,,
acme,account,43,ada,bad key!
"""


def test_every_mistake_of_all_files_is_told_at_once_with_its_place() -> None:
    assert mistakes(
        ("people.csv", PEOPLE), ("owners.csv", THEIRS),
        workspaces=["acme", "globex"], known=["adele"],
    ) == [
        "people.csv:2: zone: 'Europe/Berln' is no time zone: write it as Europe/Berlin or America/New_York.",
        ("people.csv:2: quiet_hours: 'late' are no quiet hours: write them as 22:00-07:00, on the clock of the "
        "contact's zone."),
        "people.csv:2: working_days: 'someday' are no days: write them as mon-fri, or mon,wed,sat.",
        "people.csv:2: mail: 'ada.example' is no mail address: write it as ada@acme.example.",
        "people.csv:2: language: 'Deutsch' is no language: write its code, such as de or pt-BR.",
        "people.csv:4: key: is empty. Routes and owners name the contact by it.",
        "people.csv:5: key: 'own er' is no key: write up to 127 small letters, digits and . _ + @ -, such as ada.",
        "people.csv:6: eve can be reached nowhere. Channels are: mail, slack, team-slack, zone.",
        "people.csv:8: the contact hank stands twice. First at people.csv:7.",
        "people.csv:9: key: 'owner' stands for whoever is on record: call the contact otherwise.",
        "owners.csv:2: workspace: there is no workspace 'acm'. Did you mean 'acme'?",
        "owners.csv:2: ref: is empty: write the profile's id.",
        "owners.csv:3: scope: must be one of account, profile, platform, workspace. Did you mean 'profile'?",
        "owners.csv:4: ref: must be empty where the scope is the workspace.",
        "owners.csv:4: primary: is empty, but a later level is not. Fill the levels from the first.",
        "owners.csv:5: names nobody and has no label. Fill the column primary, or remove the row.",
        "owners.csv:6: backup: 'key!' is no key: write up to 127 small letters, digits and . _ + @ -, such as ada.",
        "owners.csv:3: primary: there is no contact 'adda'. Did you mean 'ada'?",
        "owners.csv:6: backup: there is no contact 'bad'. Did you mean 'ada'?",
    ]  # fmt: skip


OWNER_COLUMNS = (
    "workspace, scope, ref, primary, backup, level3, level4, level5, level6, level7, level8, level9, label:…."
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "contacts.csv: is empty. Its first row names the columns: key, name, mail, …"),
        ("key,mial\nada,x\n", "contacts.csv:1: mial: is no column that healthd knows. Did you mean 'mail'?"),
        ("key,mail,Mail\n", "contacts.csv:1: Mail: stands twice."),
        ("name,mail\nAda,a@b\n", "contacts.csv:1: there is no column 'key'."),
        ("workspace,primary\nacme,ada\n", "contacts.csv:1: there is no column 'scope'."),
        ("workspace,scope,brand\n",
         "contacts.csv:1: brand: is no column that healthd knows. There are: " + OWNER_COLUMNS),
        ("key,mail\nada,a@b,extra\n",
         "contacts.csv:2: the cell 'extra' stands in no column. Is a cell before it not quoted?"),
        ('key,mail\nada,"a@b\nbob,c@d\n',
         "contacts.csv:2: is not CSV (unexpected end of data). A quotation mark inside a cell is written twice."),
        ("key,team-slack\nada,#x\n",
         "contacts.csv:2: team-slack: a Slack webhook has one recipient: write only the channel's name."),
        ("workspace,scope,ref,primary\nacme,account," + "9" * 201 + ",ada\n",
         "contacts.csv:2: ref: is longer than 200 characters."),
        ("{", "contacts.csv:1: is not JSON (Expecting property name enclosed in double quotes)."),
        ("[" * 100_000, "contacts.csv: is not JSON (it is nested too deeply)."),
        ("[]", 'contacts.csv: must be one document: {"contacts": […], "owners": […]}.'),
        ('{"contacts": 1}', "contacts.csv: contacts: must be a list."),
        ('{"contacts": [], "owner": []}', "contacts.csv: owner: is no key that healthd knows. Did you mean 'owners'?"),
        ('{"contacts": ["ada"]}', "contacts.csv: contacts[0]: must be an object with keys of its own."),
        ('{"contacts": [{"key": "ada", "addresses": {"mial": "a@b"}}]}',
         "contacts.csv: contacts[0].addresses.mial: there is no channel 'mial'. Did you mean 'mail'?"),
        ('{"contacts": [{"key": "ada", "addresses": {"slack": "a b"}}]}',
         "contacts.csv: contacts[0].addresses.slack: 'a b' is no address: none holds blanks, commas or semicolons."),
        ('{"contacts": [{"key": "ada", "addresses": {"slack": 5}}]}',
         "contacts.csv: contacts[0].addresses.slack: must be text, or a list of texts."),
        ('{"contacts": [{"key": "ada", "adresses": {}, "addresses": {"slack": "x"}}]}',
         "contacts.csv: contacts[0].adresses: is no key that healthd knows. Did you mean 'addresses'?"),
        ('{"contacts": [{"key": 5, "addresses": {"slack": "x"}}]}',
         "contacts.csv: contacts[0].key: must be text, in quotes."),
        ('{"contacts": [{"key": "ada", "addresses": "x"}]}',
         'contacts.csv: contacts[0].addresses: must be an object, such as {"mail": "ada@acme.example"}.'),
        ('{"owners": [{"workspace": "acme", "scope": "workspace", "owners": "ada"}]}',
         'contacts.csv: owners[0].owners: must be a list of levels, such as [["ada"], ["bob", "eve"]].'),
        ('{"owners": [{"workspace": "acme", "scope": "workspace", "owners": ["ada"], "labels": {"a": 1}}]}',
         'contacts.csv: owners[0].labels: must be an object of texts, such as {"brand": "rocket"}.'),
        ('{"owners": [{"workspace": "acme", "scope": "workspace", "owners": ["ada"], "labels": {"ä b": "x"}}]}',
         "contacts.csv: owners[0].labels: 'ä b' is no name for a label: write letters, digits and . _ -"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_words(text: str, told: str) -> None:
    assert mistakes(("contacts.csv", text))[0] == told


def test_a_language_that_there_is_not_is_told() -> None:
    assert mistakes(("x.csv", "key,mail,Language\nada,a@b.example,dd\n"), is_language={"de"}.__contains__) == [
        "x.csv:2: Language: there is no language 'dd'."
    ]


def test_a_file_in_an_old_code_page_is_told_apart() -> None:
    with pytest.raises(ContactFileError, match="is not UTF-8 text"):
        read([("contacts.csv", "key,name\nada,Müller\n".encode("cp1252"))], CHANNELS)
    with pytest.raises(ContactFileError, match="is not UTF-8 text"):
        read([("contacts.csv", "key,name\nada,Müller\n".encode("utf-16"))], CHANNELS)


def test_an_export_runs_in_no_spreadsheet() -> None:
    names = ['=HYPERLINK("http://evil.example")', "+1+1", "-2", "@SUM(A1)", "＝1", "'=1", "'t Hooft", "''", "'"]
    people = [Contact(f"k{number}", name, (Target("slack", "@ada"),)) for number, name in enumerate(names)]
    text = contacts_csv(people).decode("utf-8-sig")
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    assert not [cell for cell in cells if cell[:1] in set("=+-@＝＋－＠\t\r")]
    assert table(text).contacts == {one.key: one for one in people}


def test_a_name_with_an_apostrophe_is_left_alone() -> None:
    book = table("key,name,mail\nhooft,'t Hooft,h@a.example\n")
    assert book.contacts is not None
    assert book.contacts["hooft"].name == "'t Hooft"


def test_an_export_says_what_a_person_would_write() -> None:
    assert contacts_csv([EVE, ADA]).decode("utf-8") == (
        "\ufeffkey,name,mail,slack,team-slack,zone,quiet_hours,working_days,language\r\n"
        "ada,Ada Lovelace,ada@acme.example,#ada,,Europe/Berlin,22:00-07:00,\"mon,tue,wed,thu,fri\",de\r\n"
        "eve,Eve,,,*,,,,\r\n"
    )  # fmt: skip
    owned = Owned("acme", "profile", "p7", (("ada", "eve"), ("bob",)), {"brand": "rocket"})
    assert owners_csv([owned]).decode("utf-8") == (
        "\ufeffworkspace,scope,ref,primary,backup,label:brand\r\nacme,profile,p7,ada eve,bob,rocket\r\n"
    )


def _words(first: str, more: str, longest: int) -> st.SearchStrategy[str]:
    """As ``[first][first, more]{0,longest}`` would find them, which takes Hypothesis several times as long."""
    return st.builds(str.__add__, st.sampled_from(first), st.text(alphabet=first + more, max_size=longest))


TEXTS = st.one_of(st.text(max_size=30), st.text(alphabet="=+-@'\"\t\r\n,; ＝ab", max_size=12)).map(clean)
KEYS = _words(string.ascii_lowercase + string.digits, "._+@-", 20).filter(lambda key: key != "owner")
PART = (
    st.one_of(st.text(min_size=1, max_size=12), st.text(alphabet="=+-@'\":*#a", min_size=1, max_size=6))
    .map(lambda text: "".join(clean(text).replace(",", "").replace(";", "").split()))
    .filter(lambda text: text not in {"", "*"} and clean(text) == text)
)
TARGETS = st.one_of(
    st.builds(Target, st.just("mail"), PART.map(lambda part: f"{part}@a.example")),
    st.builds(Target, st.sampled_from(["slack", "zone"]), st.one_of(st.just(""), PART)),
    st.just(Target("team-slack")),
)
TIMES = st.times().map(lambda at: at.replace(second=0, microsecond=0, fold=0))
HOURS = st.builds(
    Hours,
    st.sampled_from(["", "UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"]).map(parse_zone),
    st.one_of(st.none(), st.tuples(TIMES, TIMES).filter(lambda span: span[0] != span[1])),
    st.one_of(st.just(EVERY_DAY), st.frozensets(st.integers(0, 6), min_size=1)),
)
CONTACTS = st.builds(
    Contact, KEYS, TEXTS, st.lists(TARGETS, min_size=1, max_size=5).map(tuple), HOURS,
    st.sampled_from(["", "en", "de", "pt-BR", "zh-Hant"]),
).map(normal)  # fmt: skip
LABELS = st.dictionaries(_words(string.ascii_letters + string.digits, "_.-", 10), TEXTS.filter(bool), max_size=3)
LEVELS = st.lists(st.lists(KEYS, min_size=1, max_size=3, unique=True).map(tuple), max_size=9).map(tuple)
REFS = TEXTS.filter(lambda text: bool(text) and clean(text.lower()) == text.lower())
OWNED = st.builds(
    lambda workspace, scope, ref, owners, labels: Owned(
        workspace, scope, "" if scope == "workspace" else ref.lower() if scope == "platform" else ref, owners, labels
    ),
    TEXTS.filter(bool), st.sampled_from(SCOPES), REFS, LEVELS, LABELS,
).filter(lambda one: bool(one.owners or one.labels))  # fmt: skip


def by_key(found: Sequence[Contact]) -> dict[str, Contact]:
    return {one.key: one for one in found}


@given(st.lists(CONTACTS, max_size=5, unique_by=lambda one: one.key))
def test_contacts_come_back_from_a_table_as_they_went(people: list[Contact]) -> None:
    assert read([("x.csv", contacts_csv(people))], CHANNELS).contacts == by_key(people)


@given(st.lists(OWNED, max_size=5, unique_by=lambda one: one.place))
def test_owners_come_back_from_a_table_as_they_went(owners: list[Owned]) -> None:
    assert read([("x.csv", owners_csv(owners))], CHANNELS).owners == {one.place: one for one in owners}


@given(
    st.lists(CONTACTS, max_size=5, unique_by=lambda one: one.key),
    st.lists(OWNED, max_size=5, unique_by=lambda one: one.place),
)
def test_both_come_back_from_a_document_as_they_went(people: list[Contact], owners: list[Owned]) -> None:
    book = read([("x.json", to_json(people, owners))], CHANNELS)
    assert (book.contacts, book.owners) == (by_key(people), {one.place: one for one in owners})


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: f"key,mail\n{text}".encode()))
def test_no_file_is_worse_than_a_list_of_mistakes(content: bytes) -> None:
    try:
        book = read([("x.csv", content)], CHANNELS)
    except ContactFileError as error:
        told = error.mistakes
    else:
        told = ()
        assert book.contacts is not None or book.owners is not None
    assert all(one.spot.file == "x.csv" and one.message for one in told)


OWNED_BY_ADA = Owned("acme", "workspace", "", (("ada",), ("bob",)), {})
THERE = Stock(
    {"ada": ADA, "bob": BOB, "eve": EVE},
    {OWNED_BY_ADA.place: OWNED_BY_ADA},
    from_files={"ada", "bob"},
    owners_from_files={OWNED_BY_ADA.place},
)
MOVED = Contact("ada", "Ada Lovelace", (Target("mail", "ada@new.example"),), ADA.hours, "de")
HANK = Contact("hank", "Hank", (Target("slack", "#hank"),))


def test_merging_adds_and_changes_and_removes_nothing() -> None:
    changes = compare(Book({"ada": MOVED, "hank": HANK, "eve": EVE}), THERE)
    assert changes == Changes(added=(HANK,), changed=((ADA, MOVED),))
    assert list(changes.lines()) == [
        "+ contact hank: name Hank, addresses slack:#hank",
        "~ contact ada: addresses mail:ada@acme.example slack:#ada → mail:ada@new.example",
    ]
    assert changes.put == (HANK, MOVED)


def test_the_same_once_more_changes_nothing() -> None:
    shuffled = Contact("ada", ADA.name, ADA.addresses[::-1], ADA.hours, "de")
    there = Stock({"ada": shuffled, "bob": BOB}, THERE.owners)
    changes = compare(Book({"ada": ADA, "bob": BOB}, {OWNED_BY_ADA.place: OWNED_BY_ADA}), there, replace=True)
    assert changes == Changes()
    assert list(changes.lines()) == []


def test_replacing_removes_what_came_from_files_and_nothing_else() -> None:
    changes = compare(Book({"ada": ADA}, {}), THERE, replace=True)
    assert changes == Changes(removed=("bob",), owners_removed=(OWNED_BY_ADA,))
    assert list(changes.lines()) == ["- contact bob", "- owners of workspace acme"]


def test_nobody_who_is_still_named_is_removed_and_that_is_told() -> None:
    changes = compare(Book({"hank": HANK}), THERE, replace=True, named={"ada": "route 3"})
    assert changes.removed == ()
    assert changes.kept == {"ada": "route 3", "bob": "the owners of workspace acme"}
    assert list(changes.lines())[1:] == [
        "= contact ada stays, though it is in no file: named by route 3",
        "= contact bob stays, though it is in no file: named by the owners of workspace acme",
    ]


def test_a_file_of_owners_says_nothing_of_contacts() -> None:
    owned = Owned("acme", "profile", "p7", (("eve",),), {"brand": "rocket"})
    new = Owned("acme", "workspace", "", (("bob",),), {})
    changes = compare(Book(None, {owned.place: owned, new.place: new}), THERE, replace=True)
    assert changes == Changes(owners_added=(owned,), owners_changed=((OWNED_BY_ADA, new),))
    assert list(changes.lines()) == [
        "+ owners of workspace acme, profile p7: owners eve, label:brand rocket",
        "~ owners of workspace acme: owners ada > bob → bob",
    ]
    assert changes.assigned == (owned, new)


def test_owners_whom_nobody_is_called_are_a_mistake_with_the_closest_name() -> None:
    book = table("workspace,scope,ref,primary\nacme,profile,p7,adda\n", "owners.csv")
    with pytest.raises(ContactFileError) as wrong:
        compare(book, THERE)
    assert str(wrong.value) == "owners.csv:2: primary: there is no contact 'adda'. Did you mean 'ada'?"
    assert compare(book, Stock({"adda": HANK})).owners_added
