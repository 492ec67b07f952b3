"""Contacts and owners as files: CSV as spreadsheets write it, and JSON. Pure: bytes and values in and out.

Every mistake of all files is told at once, with file, line and column, and what was probably meant.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from healthd.core.contacts import (
    CONTACT_KEY,
    OWNER,
    Contact,
    Hours,
    format_days,
    format_quiet,
    format_zone,
    parse_days,
    parse_quiet,
    parse_zone,
)
from healthd.core.model import Target
from healthd.core.owners import SCOPES, Owned
from healthd.core.text import clean

T = TypeVar("T")
Place = tuple[str, str, str]
"""Workspace, scope and ref: what owners are on record for."""
Channels = Mapping[str, Callable[[str], None]]
"""The configured channels by name, each with its ``validate_address``, which raises ``ValueError`` saying why not."""

LONGEST_ADDRESS = 320
LONGEST_TEXT = 200
MOST_LEVELS = 9
NO_ADDRESS = "*"
"""Stands in a cell for a channel that has but one recipient, which needs no address."""

_OWN = ("key", "name", "zone", "quiet_hours", "working_days", "language")
_OWNED = ("workspace", "scope", "ref")
_LEVELS = ("primary", "backup", *(f"level{number}" for number in range(3, MOST_LEVELS + 1)))
_LEVEL = re.compile(r"level_?([1-9])", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_LANGUAGE = re.compile(r"([a-z]{2,3})(?:[-_]([a-z0-9]{2,8}))?", re.ASCII | re.IGNORECASE)
_BETWEEN = re.compile(r"[\s,;]+")
_FORMULA = frozenset("=+-@＝＋－＠\t\r'")


@dataclass(frozen=True, slots=True)
class Spot:
    """Where something stands: a line and a column of a CSV file, or a path in a JSON document."""

    file: str
    line: int | None = None
    column: str = ""

    def at(self, column: str) -> Spot:
        """The same line, or a path that goes on from here."""
        return Spot(self.file, self.line, column if self.line is not None else f"{self.column}.{column}".lstrip("."))

    def __str__(self) -> str:
        line = f":{self.line}" if self.line is not None else ""
        column = f" {self.column}:" if self.column else ""
        return f"{self.file}{line}:{column}"


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong, where, and what was probably meant."""

    spot: Spot
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (str(self.spot), self.message, self.hint)))


class ContactFileError(Exception):
    """The files cannot be used. ``mistakes`` holds every one that was found."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True)
class Book:
    """What files say. ``None`` is what they do not speak of, which is something else than an empty list.

    ``spots`` tells where each contact that owners name stands.
    """

    contacts: Mapping[str, Contact] | None = None
    owners: Mapping[Place, Owned] | None = None
    spots: Mapping[tuple[Place, str], Spot] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stock:
    """What is on record. ``from_files`` and ``owners_from_files`` name what came from files, and may be removed."""

    contacts: Mapping[str, Contact] = field(default_factory=dict)
    owners: Mapping[Place, Owned] = field(default_factory=dict)
    from_files: Collection[str] = ()
    owners_from_files: Collection[Place] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """What an import does. ``kept`` are contacts that are in no file and stay: each with what still names it."""

    added: tuple[Contact, ...] = ()
    changed: tuple[tuple[Contact, Contact], ...] = ()
    removed: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    owners_added: tuple[Owned, ...] = ()
    owners_changed: tuple[tuple[Owned, Owned], ...] = ()
    owners_removed: tuple[Owned, ...] = ()

    @property
    def put(self) -> tuple[Contact, ...]:
        return self.added + tuple(after for _, after in self.changed)

    @property
    def assigned(self) -> tuple[Owned, ...]:
        return self.owners_added + tuple(after for _, after in self.owners_changed)

    def lines(self) -> Iterator[str]:
        """The difference as people read it, one line for each; nothing where nothing changes."""
        for contact in self.added:
            yield f"+ contact {contact.key}: {_in_words(_told(contact))}"
        for before, after in self.changed:
            yield f"~ contact {after.key}: {_difference(_told(before), _told(after))}"
        for key in self.removed:
            yield f"- contact {key}"
        for key, why in self.kept.items():
            yield f"= contact {key} stays, though it is in no file: named by {why}"
        for owned in self.owners_added:
            yield f"+ owners of {owned.says}: {_in_words(_told_owned(owned))}"
        for old, new in self.owners_changed:
            yield f"~ owners of {new.says}: {_difference(_told_owned(old), _told_owned(new))}"
        for owned in self.owners_removed:
            yield f"- owners of {owned.says}"


def read(
    files: Iterable[tuple[str, bytes]],
    channels: Channels,
    *,
    workspaces: Collection[str] | None = None,
    known: Collection[str] | None = None,
    is_language: Callable[[str], bool] = bool,
) -> Book:
    """What all the files say together, each by its name and content. Raises ``ContactFileError`` with all mistakes.

    What a file is shows in it: JSON begins with a brace, and a CSV file of owners has a column ``workspace``. Where the
    ``workspaces`` or the ``known`` contacts of the store are given, names that are neither there nor here are mistakes.
    ``is_language`` says of a code that is written well whether there is such a language.
    """
    found = _Found(channels, workspaces, is_language)
    for file, content in files:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            found.wrong(Spot(file), "is not UTF-8 text.", 'In Excel, save it as "CSV UTF-8".')
            continue
        is_document = text.lstrip()[:1] in {"{", "["} or file.lower().endswith(".json")
        (_Document if is_document else _Table)(found).take(file, text)
    if known is not None:
        found.check_names(known)
    if found.mistakes:
        raise ContactFileError(found.mistakes)
    return Book(found.contacts, found.owners, found.spots)


def compare(given: Book, there: Stock, *, replace: bool = False, named: Mapping[str, str] | None = None) -> Changes:
    """What importing the book changes. Merging adds and changes; replacing removes what came from files and is in none.

    ``named`` says of contacts what else names them, such as ``{"ada": "route 3"}``: those are kept. Raises
    ``ContactFileError`` where owners name a contact that nobody is called.
    """
    contacts = {key: normal(one) for key, one in there.contacts.items()}
    owners = dict(there.owners) | dict(given.owners or {})
    dropped_owners: list[Owned] = []
    if replace and given.owners is not None:
        gone = sorted(place for place in there.owners_from_files if place in owners and place not in given.owners)
        dropped_owners = [owners.pop(place) for place in gone]
    known = contacts.keys() | (given.contacts or {}).keys()
    if mistakes := list(_unknown(given, known)):
        raise ContactFileError(mistakes)
    removed, kept = _dropped(given, there, owners, named or {}) if replace else ((), {})
    return Changes(
        tuple(one for key, one in (given.contacts or {}).items() if key not in contacts),
        tuple((contacts[k], new) for k, new in (given.contacts or {}).items() if k in contacts and contacts[k] != new),
        removed,
        kept,
        tuple(one for place, one in (given.owners or {}).items() if place not in there.owners),
        tuple(
            (there.owners[place], new)
            for place, new in (given.owners or {}).items()
            if place in there.owners and there.owners[place] != new
        ),
        tuple(dropped_owners),
    )


def normal(contact: Contact) -> Contact:
    """The contact with its addresses in the order of their channels, each once: they are all told at the same time."""
    addresses = tuple(dict.fromkeys(sorted(contact.addresses, key=lambda target: target.channel)))
    return Contact(contact.key, contact.name, addresses, contact.hours, contact.language)


def contacts_csv(contacts: Iterable[Contact]) -> bytes:
    """A table that a spreadsheet opens rightly and ``read`` understands."""
    people = sorted(map(normal, contacts), key=lambda one: one.key)
    channels = sorted({target.channel for one in people for target in one.addresses})
    titles = [f"channel:{name}" if name in _OWN else name for name in channels]
    rows = [["key", "name", *titles, *_OWN[2:]]]
    for one in people:
        told = _fields(one)
        cells = [" ".join(_address_cells(one, channel)) for channel in channels]
        rows.append([told["key"], told["name"], *cells, *(told[name] for name in _OWN[2:])])
    return _table(rows)


def owners_csv(owners: Iterable[Owned]) -> bytes:
    """A table that a spreadsheet opens rightly and ``read`` understands."""
    records = sorted(owners, key=lambda one: one.place)
    levels = _LEVELS[: max([2, *(len(one.owners) for one in records)])]
    labels = sorted({name for one in records for name in one.labels})
    rows = [[*_OWNED, *levels, *(f"label:{name}" for name in labels)]]
    for one in records:
        people = [" ".join(keys) for keys in one.owners]
        people += [""] * (len(levels) - len(people))
        rows.append([*one.place, *people, *(one.labels.get(name, "") for name in labels)])
    return _table(rows)


def to_json(contacts: Iterable[Contact], owners: Iterable[Owned]) -> bytes:
    """One document with both, in an order that keeps differences between two of them small."""
    people = [_document(normal(one)) for one in sorted(contacts, key=lambda one: one.key)]
    records = [_owned_document(one) for one in sorted(owners, key=lambda one: one.place)]
    return json.dumps({"contacts": people, "owners": records}, ensure_ascii=False, indent=2).encode() + b"\n"


Tell = Callable[[str, str, str], None]
"""Takes a mistake: the field that it is in, what is wrong, and a hint."""


def read_contact(
    fields: Mapping[str, str], addresses: Iterable[tuple[str, Target]], channels: Channels, tell: Tell
) -> Contact:
    """A contact from texts that somebody else wrote: ``fields`` by the names of the CSV columns, and each address with
    the field that it stands in. What is wrong goes to ``tell`` and is left out.
    """

    def parsed(name: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(clean(fields.get(name, ""), LONGEST_TEXT))
        except ValueError as error:
            tell(name, f"{error}.", "")
            return parse("")

    hours = Hours(parsed("zone", parse_zone), parsed("quiet_hours", parse_quiet), parsed("working_days", parse_days))
    found = [target for target in (_address(at, one, channels, tell) for at, one in addresses) if target is not None]
    contact = Contact(
        parsed("key", _key), clean(fields.get("name", "")), tuple(found), hours, parsed("language", _language)
    )
    return normal(contact)


def _key(text: str) -> str:
    key = text.removeprefix("@").lower()
    if key == OWNER:
        raise ValueError(f"{key!r} stands for whoever is on record: call the contact otherwise")
    if key and not CONTACT_KEY.fullmatch(key):
        raise ValueError(f"{text!r} is no key: write up to 127 small letters, digits and . _ + @ -, such as ada")
    return key


def _language(text: str) -> str:
    if not text:
        return ""
    found = _LANGUAGE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no language: write its code, such as de or pt-BR")
    region = found[2] or ""
    return "-".join(filter(None, (found[1].lower(), region.upper() if len(region) == 2 else region.title())))


def _address(at: str, given: Target, channels: Channels, tell: Tell) -> Target | None:
    address = clean(given.address, LONGEST_ADDRESS)
    validate = channels.get(given.channel)
    if validate is None:
        tell(at, f"there is no channel {given.channel!r}.", _meant(given.channel, channels))
        return None
    if _BETWEEN.search(address) or address == NO_ADDRESS:
        tell(at, f"{address!r} is no address: none holds blanks, commas or semicolons.", "")
        return None
    try:
        validate(address)
    except ValueError as error:
        tell(at, f"{error}.", "")
        return None
    return Target(given.channel, address)


class _Found:
    """What files say, taken together, and what is wrong with them."""

    def __init__(
        self, channels: Channels, workspaces: Collection[str] | None, is_language: Callable[[str], bool]
    ) -> None:
        self.channels = channels
        self._is_language = is_language
        self._workspaces = workspaces
        self.contacts: dict[str, Contact] | None = None
        self.owners: dict[Place, Owned] | None = None
        self.spots: dict[tuple[Place, str], Spot] = {}
        self.mistakes: list[Mistake] = []
        self._seen: dict[tuple[str, ...], Spot] = {}
        self._tried: set[str] = set()

    def speak_of_contacts(self) -> None:
        self.contacts = {} if self.contacts is None else self.contacts

    def speak_of_owners(self) -> None:
        self.owners = {} if self.owners is None else self.owners

    def wrong(self, spot: Spot, message: str, hint: str = "") -> None:
        self.mistakes.append(Mistake(spot, message, hint))

    def _teller(self, spot: Spot, columns: Mapping[str, str] | None = None) -> Tell:
        def tell(column: str, message: str, hint: str) -> None:
            self.wrong(spot.at((columns or {}).get(column, column)), message, hint)

        return tell

    def _once(self, spot: Spot, what: str, *place: str) -> bool:
        before = self._seen.setdefault((what, *place), spot)
        if before is not spot:
            self.wrong(
                spot,
                f"the {what} {'/'.join(filter(None, place))} stands twice.",
                f"First at {before}".rstrip(":") + ".",
            )
        return before is spot

    def contact(
        self, spot: Spot, texts: Mapping[str, str], addresses: Sequence[tuple[str, Target]], titles: Mapping[str, str]
    ) -> None:
        before = len(self.mistakes)
        contact = read_contact(texts, addresses, self.channels, self._teller(spot, titles))
        self._tried.add(contact.key)
        if contact.language and not self._is_language(contact.language):
            self.wrong(spot.at(titles.get("language", "language")), f"there is no language {contact.language!r}.")
        if not texts.get("key", "").strip():
            self.wrong(spot.at(titles.get("key", "key")), "is empty.", "Routes and owners name the contact by it.")
        elif len(self.mistakes) == before and not addresses:
            self.wrong(
                spot, f"{contact.key} can be reached nowhere.", f"Channels are: {', '.join(self.channels) or 'none'}."
            )
        if len(self.mistakes) == before and self._once(spot, "contact", contact.key) and self.contacts is not None:
            self.contacts[contact.key] = contact

    def owned(
        self, spot: Spot, texts: Mapping[str, str], levels: Sequence[tuple[str, list[str]]], labels: Mapping[str, str]
    ) -> None:
        before = len(self.mistakes)
        place = self._place(spot, texts)
        owners = [self._level(spot.at(column), place, keys) for column, keys in levels]
        told = {name: self._text(spot.at(f"label:{name}"), value) for name, value in labels.items()}
        told = {name: value for name, value in told.items() if value}
        if len(self.mistakes) == before and not any(owners) and not told:
            self.wrong(spot, "names nobody and has no label.", "Fill the column primary, or remove the row.")
        if len(self.mistakes) == before and self._once(spot, "record of", *place) and self.owners is not None:
            self.owners[place] = Owned(*place, tuple(owners), told)

    def _level(self, spot: Spot, place: Place, keys: Sequence[str]) -> tuple[str, ...]:
        if not keys:
            self.wrong(spot, "is empty, but a later level is not.", "Fill the levels from the first.")
        level: dict[str, None] = {}
        for text in keys:
            try:
                key = _key(clean(text, LONGEST_TEXT))
            except ValueError as error:
                self.wrong(spot, f"{error}.")
            else:
                level[key] = None
                self.spots.setdefault((place, key), spot)
        return tuple(level)

    def _text(self, spot: Spot, text: str) -> str:
        if len(text.strip()) > LONGEST_TEXT:
            self.wrong(spot, f"is longer than {LONGEST_TEXT} characters.")
        return clean(text, LONGEST_TEXT)

    def check_names(self, known: Collection[str]) -> None:
        """Notes owners whom nobody is called. A contact whose own row is wrong has been told already."""
        names = sorted({*known, *self._tried})
        for (_, key), spot in self.spots.items():
            if key not in names:
                self.wrong(spot, f"there is no contact {key!r}.", _meant(key, names))

    def _place(self, spot: Spot, texts: Mapping[str, str]) -> Place:
        workspace, scope, ref = (self._text(spot.at(name), texts.get(name, "")) for name in _OWNED)
        scope = scope.lower()
        if scope == "platform":
            ref = ref.lower()
        if not workspace:
            self.wrong(spot.at("workspace"), "is empty.")
        elif self._workspaces is not None and workspace not in self._workspaces:
            self.wrong(
                spot.at("workspace"), f"there is no workspace {workspace!r}.", _meant(workspace, self._workspaces)
            )
        if scope not in SCOPES:
            self.wrong(spot.at("scope"), f"must be one of {', '.join(SCOPES)}.", _meant(scope, SCOPES) if scope else "")
        elif scope == "workspace" and ref:
            self.wrong(spot.at("ref"), "must be empty where the scope is the workspace.")
        elif scope != "workspace" and not ref:
            self.wrong(spot.at("ref"), f"is empty: write the {scope}'s {'name' if scope == 'platform' else 'id'}.")
        return workspace, scope, ref


class _Table:
    """Reads CSV files."""

    def __init__(self, found: _Found) -> None:
        self._found = found

    def take(self, file: str, text: str) -> None:
        rows = self._rows(file, text)
        if not rows:
            self._found.wrong(Spot(file), "is empty.", "Its first row names the columns: key, name, mail, …")
            return
        (line, header), *rest = rows
        titles = [_title(cell) for cell in header]
        owners = not {"workspace", "scope"}.isdisjoint(titles)
        before = len(self._found.mistakes)
        columns = self._columns(Spot(file, line), header, self._owner_column if owners else self._contact_column)
        if owners:
            self._found.speak_of_owners()
        else:
            self._found.speak_of_contacts()
        missing = [name for name in (("workspace", "scope") if owners else ("key",)) if name not in columns.values()]
        if missing:
            # A name of a column that healthd does not know is often the one that is missed here.
            if len(self._found.mistakes) == before:
                self._found.wrong(Spot(file, line), f"there is no column {' and no column '.join(map(repr, missing))}.")
            return
        for number, cells in rest:
            spot = Spot(file, number)
            row = self._row(spot, header, columns, cells)
            if owners:
                self._owner_row(spot, row, header, columns)
            else:
                self._contact_row(spot, row, header, columns)

    def _rows(self, file: str, text: str) -> list[tuple[int, list[str]]]:
        """Rows that are not blank, with the lines at which they begin."""
        lines = text.splitlines(keepends=True)
        first = lines[0].strip().lower() if lines else ""
        separator = first[4:] if len(first) == 5 and first.startswith("sep=") else ""
        body = lines[1:] if separator else lines
        skipped = len(lines) - len(body)
        head = next((line for line in body if line.strip()), "")
        separator = separator or max(",;\t", key=head.count)
        reader = csv.reader(io.StringIO("".join(body), newline=""), delimiter=separator, strict=True)
        rows, begins = [], 1 + skipped
        try:
            for cells in reader:
                shown = [_shown(cell) for cell in cells]
                if any(shown):
                    rows.append((begins, shown))
                begins = reader.line_num + 1 + skipped
        except csv.Error as error:
            self._found.wrong(
                Spot(file, begins), f"is not CSV ({error}).", "A quotation mark inside a cell is written twice."
            )
            return []
        return rows

    def _columns(self, spot: Spot, header: Sequence[str], known: Callable[[str], str | None]) -> dict[int, str]:
        """What each column holds, by its number."""
        columns: dict[int, str] = {}
        for number, cell in enumerate(header):
            if not cell:
                continue
            name = known(cell)
            if name is None:
                names = (
                    (*_OWNED, *_LEVELS, "label:…") if known == self._owner_column else (*_OWN, *self._found.channels)
                )
                self._found.wrong(spot.at(cell), "is no column that healthd knows.", _meant(_title(cell), names))
            elif name in columns.values():
                self._found.wrong(spot.at(cell), "stands twice.")
            else:
                columns[number] = name
        return columns

    def _contact_column(self, cell: str) -> str | None:
        if (title := _title(cell)) in _OWN:
            return title
        channel = cell.lower().removeprefix("channel:").strip()
        return f"channel:{channel}" if channel in self._found.channels else None

    def _owner_column(self, cell: str) -> str | None:
        title = _title(cell)
        if (level := _LEVEL.fullmatch(title)) is not None:
            return _LEVELS[int(level[1]) - 1]
        if title.startswith("label:"):
            label = cell.partition(":")[2].strip()
            return f"label:{label}" if _LABEL.fullmatch(label) else None
        return title if title in (*_OWNED, *_LEVELS) else None

    def _row(
        self, spot: Spot, header: Sequence[str], columns: Mapping[int, str], cells: Sequence[str]
    ) -> dict[str, str]:
        for number, cell in enumerate(cells):
            if cell and (number >= len(header) or not header[number]):
                self._found.wrong(spot, f"the cell {cell!r} stands in no column.", "Is a cell before it not quoted?")
        return {name: cells[number] if number < len(cells) else "" for number, name in columns.items()}

    def _contact_row(
        self, spot: Spot, row: Mapping[str, str], header: Sequence[str], columns: Mapping[int, str]
    ) -> None:
        addresses = [
            (name, Target(name.removeprefix("channel:"), "" if address == NO_ADDRESS else address))
            for name, cell in row.items()
            if name.startswith("channel:")
            for address in filter(None, _BETWEEN.split(cell))
        ]
        self._found.contact(spot, row, addresses, {name: header[number] for number, name in columns.items()})

    def _owner_row(self, spot: Spot, row: Mapping[str, str], header: Sequence[str], columns: Mapping[int, str]) -> None:
        titles = {name: header[number] for number, name in columns.items()}
        levels = [(titles.get(name, name), list(filter(None, _BETWEEN.split(row.get(name, ""))))) for name in _LEVELS]
        while levels and not levels[-1][1]:
            levels.pop()
        labels = {name.removeprefix("label:"): cell for name, cell in row.items() if name.startswith("label:") and cell}
        self._found.owned(spot, row, levels, labels)


class _Document:
    """Reads JSON files."""

    def __init__(self, found: _Found) -> None:
        self._found = found

    def take(self, file: str, text: str) -> None:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            line = error.lineno if isinstance(error, json.JSONDecodeError) else None
            why = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
            self._found.wrong(Spot(file, line), f"is not JSON ({why}).")
            return
        if not isinstance(found, dict) or not found.keys() & {"contacts", "owners"}:
            self._found.wrong(Spot(file), 'must be one document: {"contacts": […], "owners": […]}.')
            return
        for name in sorted(found.keys() - {"contacts", "owners"}):
            self._found.wrong(
                Spot(file, None, name), "is no key that healthd knows.", _meant(name, ("contacts", "owners"))
            )
        for name, take in (("contacts", self._contact_entry), ("owners", self._owner_entry)):
            if name in found:
                self._entries(Spot(file, None, name), found[name], take)

    def _entries(self, spot: Spot, found: object, take: Callable[[Spot, dict[str, Any]], None]) -> None:
        if spot.column == "contacts":
            self._found.speak_of_contacts()
        else:
            self._found.speak_of_owners()
        if not isinstance(found, list):
            self._found.wrong(spot, "must be a list.")
            return
        for number, entry in enumerate(found):
            here = Spot(spot.file, None, f"{spot.column}[{number}]")
            if isinstance(entry, dict):
                take(here, entry)
            else:
                self._found.wrong(here, "must be an object with keys of its own.")

    def _contact_entry(self, spot: Spot, entry: dict[str, Any]) -> None:
        texts = self._texts(spot, entry, _OWN, ("addresses",))
        given = entry.get("addresses", {})
        if not isinstance(given, dict):
            self._found.wrong(spot.at("addresses"), 'must be an object, such as {"mail": "ada@acme.example"}.')
            given = {}
        addresses = [
            (f"addresses.{channel}", Target(channel, address))
            for channel, cell in given.items()
            for address in self._list_of_texts(spot.at(f"addresses.{channel}"), cell)
        ]
        self._found.contact(spot, texts, addresses, {})

    def _owner_entry(self, spot: Spot, entry: dict[str, Any]) -> None:
        texts = self._texts(spot, entry, _OWNED, ("owners", "labels"))
        given, labels = entry.get("owners", []), entry.get("labels", {})
        if not isinstance(given, list):
            self._found.wrong(spot.at("owners"), 'must be a list of levels, such as [["ada"], ["bob", "eve"]].')
            given = []
        levels = [
            (f"owners[{number}]", list(self._list_of_texts(spot.at(f"owners[{number}]"), level)))
            for number, level in enumerate(given)
        ]
        if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
            self._found.wrong(spot.at("labels"), 'must be an object of texts, such as {"brand": "rocket"}.')
            labels = {}
        for name in (name for name in labels if not _LABEL.fullmatch(name)):
            self._found.wrong(spot.at("labels"), f"{name!r} is no name for a label: write letters, digits and . _ -")
        self._found.owned(spot, texts, levels, labels)

    def _texts(self, spot: Spot, entry: dict[str, Any], texts: Sequence[str], others: Sequence[str]) -> dict[str, str]:
        for name in sorted(entry.keys() - {*texts, *others}):
            self._found.wrong(spot.at(name), "is no key that healthd knows.", _meant(name, (*texts, *others)))
        for name in texts:
            if not isinstance(entry.get(name, ""), str | None):
                self._found.wrong(spot.at(name), "must be text, in quotes.")
        return {name: entry[name] for name in texts if isinstance(entry.get(name), str)}

    def _list_of_texts(self, spot: Spot, found: object) -> Iterator[str]:
        for one in found if isinstance(found, list) else [found]:
            if isinstance(one, str):
                yield one
            else:
                self._found.wrong(spot, "must be text, or a list of texts.")


def _dropped(
    given: Book, there: Stock, owners: Mapping[Place, Owned], named: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Contacts from files that are in none any more: those that go, and those that stay, with the reason."""
    if given.contacts is None:
        return (), {}
    still = dict(named)
    for owned in owners.values():
        for key in (key for level in owned.owners for key in level):
            still.setdefault(key, f"the owners of {owned.says}")
    gone = sorted(key for key in there.from_files if key in there.contacts and key not in given.contacts)
    return tuple(key for key in gone if key not in still), {key: still[key] for key in gone if key in still}


def _unknown(given: Book, known: Collection[str]) -> Iterator[Mistake]:
    for (_, key), spot in given.spots.items():
        if key not in known:
            yield Mistake(spot, f"there is no contact {key!r}.", _meant(key, sorted(known)))


def _meant(wrong: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(wrong, names, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"There are: {', '.join(names)}." if 0 < len(names) <= 20 else ""


def _title(cell: str) -> str:
    return re.sub(r"[\s_-]+", "_", cell.strip().lower())


def _shown(cell: str) -> str:
    """The cell as its writer meant it: without the apostrophe that keeps a spreadsheet from taking it for a formula."""
    cell = cell.strip()
    return cell[1:] if cell[:1] == "'" and cell[1:2] in _FORMULA and len(cell) > 1 else cell


def _safe(cell: str) -> str:
    """The cell so that no spreadsheet takes it for a formula, and ``_shown`` gives it back."""
    begins = cell[:2] if cell.startswith("'") else cell[:1]
    return f"'{cell}" if begins and begins[-1] in _FORMULA and begins != "'" else cell


def _table(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows([_safe(cell) for cell in row] for row in rows)
    # Without the mark Excel takes UTF-8 for its own old code page.
    return text.getvalue().encode("utf-8-sig")


def _fields(contact: Contact) -> dict[str, str]:
    return {
        "key": contact.key,
        "name": contact.name,
        "zone": format_zone(contact.hours.zone),
        "quiet_hours": format_quiet(contact.hours.quiet),
        "working_days": format_days(contact.hours.days),
        "language": contact.language,
    }


def _address_cells(contact: Contact, channel: str) -> Iterator[str]:
    return (target.address or NO_ADDRESS for target in contact.addresses if target.channel == channel)


def _document(contact: Contact) -> dict[str, Any]:
    addresses: dict[str, Any] = {}
    for target in contact.addresses:
        addresses.setdefault(target.channel, []).append(target.address)
    shown = {name: text for name, text in _fields(contact).items() if text}
    return shown | {"addresses": {name: found[0] if len(found) == 1 else found for name, found in addresses.items()}}


def _owned_document(owned: Owned) -> dict[str, Any]:
    shown: dict[str, Any] = {name: text for name, text in zip(_OWNED, owned.place, strict=True) if text}
    if owned.owners:
        shown["owners"] = [list(level) for level in owned.owners]
    return shown | ({"labels": dict(sorted(owned.labels.items()))} if owned.labels else {})


def _told(contact: Contact) -> dict[str, str]:
    addresses = " ".join(target.key for target in contact.addresses)
    return {name: text for name, text in _fields(contact).items() if name != "key"} | {"addresses": addresses}


def _told_owned(owned: Owned) -> dict[str, str]:
    levels = " > ".join(" ".join(level) for level in owned.owners)
    return {"owners": levels} | {f"label:{name}": value for name, value in sorted(owned.labels.items())}


def _in_words(told: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in told.items() if text)


def _difference(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    names = dict.fromkeys((*before, *after))
    return ", ".join(
        f"{name} {before.get(name) or 'nothing'} → {after.get(name) or 'nothing'}"
        for name in names
        if before.get(name, "") != after.get(name, "")
    )
