"""Sentences and layouts: Jinja2 templates of ours, and before them those of a folder that the operator may give.

``words/LANGUAGE.j2`` holds the sentences of a language as blocks, and a folder may override a single one. What fails in
an override is left out in favour of ours: a slip in a template must not cost a message.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from functools import cache, cached_property
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

from healthd.channels.platforms import inert

if TYPE_CHECKING:
    from babel import Locale
    from jinja2 import BytecodeCache, Environment, Template

OURS = Path(__file__).with_name("templates")
PREFIX = "healthd/"
"""A user's template calls ours by this: ``{% extends "healthd/words/de.j2" %}``."""
DEFAULT_LANGUAGE = "en"
LANGUAGES = tuple(sorted(path.stem for path in (OURS / "words").glob("*.j2") if path.stem != "common"))

OnFailure = Callable[["Template", str, Exception | None], None]
Blocks = dict[str, list[Callable[..., Iterator[str]]]]
Warn = Callable[[str], None]
"""Takes one line for the operator. It names templates and kinds of errors, never a fact of a message."""

NEVER_EMPTY = re.compile(r"(.*_)?(subject|headline|status|button|footer|quoted|pattern|release|cancel)|label_.*")
_BLANKS = re.compile(r"[ \t\r\n\f\v]+")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*", re.ASCII)
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")
_PERHAPS_WIDE = re.compile("[\u1100-\uffef\U00016fe0-\U0003ffff]")
_SOUNDS_LIKE_Y = re.compile(r"[ií]|h[ií](?![aeoáéó])", re.IGNORECASE)
"""In Spanish *y* becomes *e* before such a word, which no table of list patterns knows."""
_ABBREVIATION = re.compile(r"[A-Z]{2,5}")


def say_in_log(line: str) -> None:
    logging.getLogger("healthd.channels").warning(line)


def languages_of(code: str) -> tuple[str, ...]:
    """The code and what it may fall back to: ``("pt-BR", "pt")``. Nothing where it is no language code."""
    if not _LANGUAGE.fullmatch(code):
        return ()
    parts = code.replace("_", "-").split("-")
    whole = "-".join((parts[0].lower(), *(part.upper() if len(part) == 2 else part.title() for part in parts[1:])))
    return tuple(dict.fromkeys((whole, parts[0].lower())))


def is_language(code: str) -> bool:
    """Whether it is written as we write codes, and known to the tables of plurals and dates."""
    from babel import Locale, UnknownLocaleError  # noqa: PLC0415

    if languages_of(code)[:1] != (code,):
        return False
    try:
        Locale.parse(code, sep="-")
    except (UnknownLocaleError, ValueError):
        return False
    return True


def isolated(text: str) -> str:
    """Right-to-left text that does not turn the sentence around in which it stands."""
    return f"\u2068{text}\u2069" if _RIGHT_TO_LEFT.search(text) else text


@dataclass(frozen=True)
class Book:
    """The sentences of one language. ``chain`` is the templates that hold them, the user's before ours.

    ``on_failure`` hears of the user's template that failed, and the sentence; the error is ``None`` where the sentence
    came out empty that must not be.
    """

    language: str
    locale: Locale
    chain: tuple[Template, ...]
    on_failure: OnFailure

    def has(self, block: str) -> bool:
        return block in self._blocks

    def say(self, block: str, facts: Mapping[str, Any]) -> str:
        """The sentence on one line; empty where there is none of that name."""
        if self._users:
            try:
                said = self._render(self._blocks, block, facts)
            except Exception as error:  # noqa: BLE001 - whatever an override does, the message must go out
                self.on_failure(self._culprit(error), block, error)
            else:
                if said or not NEVER_EMPTY.fullmatch(block):
                    return said
                self.on_failure(self._users[0], block, None)
        return self._render(self._our_blocks, block, facts)

    def _render(self, blocks: Blocks, block: str, facts: Mapping[str, Any]) -> str:
        """``super()`` and ``self`` reach through all of ``blocks``."""
        if block not in blocks:
            return ""
        context = self.chain[-1].new_context(dict(facts))
        context.blocks = blocks
        return _one_line(blocks[block][0](context))

    @cached_property
    def _users(self) -> tuple[Template, ...]:
        return tuple(template for template in self.chain if is_users(template))

    def _culprit(self, error: Exception) -> Template:
        """The innermost of the user's templates in which it happened."""
        files = [frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)]
        return next((one for file in reversed(files) for one in self._users if one.filename == file), self._users[0])

    @cached_property
    def _blocks(self) -> Blocks:
        return _all_blocks(self.chain)

    @cached_property
    def _our_blocks(self) -> Blocks:
        return _all_blocks(template for template in self.chain if not is_users(template))

    @cached_property
    def _quotes(self) -> dict[int, str]:
        """Every quotation mark of this language, for a plain one: a name cannot end its own quotes."""
        marks = {*self.say("quoted", {"name": ""}), *"“”"} - {*" \u00a0\u202f\"'"}
        return dict.fromkeys(map(ord, marks), '"')

    def quoted(self, name: str) -> str:
        """A name that somebody else chose, in quotes: it becomes neither a link nor part of our sentence."""
        return self.say("quoted", {"name": isolated(inert(name).translate(self._quotes))})

    def moment(self, at: datetime, zone: tzinfo) -> str:
        """``"23 Nov 2026, 15:05 CET"``: in the reader's zone, and with its name."""
        from babel.dates import format_datetime  # noqa: PLC0415

        local = at.astimezone(zone)
        return f"{format_datetime(local, self._pattern('moment'), zone, self.locale)}\u00a0{_zone_name(local)}"

    def day(self, at: datetime, zone: tzinfo) -> str:
        """``"23 Nov 2026"``: the day that it is for the reader."""
        from babel.dates import format_date  # noqa: PLC0415

        return format_date(at.astimezone(zone).date(), self._pattern("day"), self.locale)

    def _pattern(self, name: str) -> str:
        return self.say(f"{name}_pattern", {})

    def span(self, span: timedelta, block: str = "span") -> str:
        """As a person would say it, in its largest sensible unit: ``"3 days"``; ``span_for`` says *for 3 days*."""
        minutes = max(0, int(span.total_seconds())) // 60
        return self.say(block, {"days": minutes // 1440, "hours": minutes // 60 % 24, "minutes": minutes % 60})

    def listed(self, items: tuple[str, ...]) -> str:
        """``"A, B and C"``."""
        from babel.lists import format_list  # noqa: PLC0415

        *others, last = items
        whole = format_list([*others, "\0"], "standard", self.locale)
        if self.locale.language == "es" and _SOUNDS_LIKE_Y.match(last):
            whole = whole.replace(" y \0", " e \0")
        return whole.replace("\0", last)


def _zone_name(local: datetime) -> str:
    """``"CET"`` where the zone has a name that people know, or else how far it is from UTC."""
    name = local.tzname() or ""
    if _ABBREVIATION.fullmatch(name):
        return name
    minutes = int((local.utcoffset() or timedelta(0)).total_seconds()) // 60
    sign, (hours, rest) = "−" if minutes < 0 else "+", divmod(abs(minutes), 60)
    return f"UTC{sign}{hours}:{rest:02}" if rest else f"UTC{sign}{hours}"


def _locale(language: str) -> Locale:
    from babel import Locale  # noqa: PLC0415

    # "A, B and C" and dates as most of the world writes them, unless somebody asks for the American way.
    return Locale.parse("en-GB" if language == DEFAULT_LANGUAGE else language, sep="-")


def is_users(template: Template) -> bool:
    return not (template.name or "").startswith(PREFIX)


def _one_line(pieces: Iterable[str]) -> str:
    return _BLANKS.sub(" ", "".join(pieces)).strip(" ")


def _all_blocks(chain: Iterable[Template]) -> Blocks:
    """What each block's name stands for, the first template's meaning first."""
    blocks: Blocks = {}
    for template in chain:
        for name, function in template.blocks.items():
            blocks.setdefault(name, []).append(function)
    return blocks


@cache
def _compiled() -> BytecodeCache:
    """Compiling the sentences of a language takes longer than all messages of a day: it is done once in a process."""
    from jinja2 import BytecodeCache  # noqa: PLC0415
    from jinja2.bccache import Bucket  # noqa: PLC0415

    class InMemory(BytecodeCache):
        def __init__(self) -> None:
            self._kept: dict[str, bytes] = {}

        def load_bytecode(self, bucket: Bucket) -> None:
            if (kept := self._kept.get(bucket.key)) is not None:
                bucket.bytecode_from_string(kept)

        def dump_bytecode(self, bucket: Bucket) -> None:
            self._kept[bucket.key] = bucket.bytecode_to_string()

    return InMemory()


def _read_ours(name: str) -> tuple[str, str, None] | None:
    path = OURS / name.removeprefix(PREFIX)
    if not name.startswith(PREFIX) or not path.is_file():
        return None
    return path.read_text("utf-8"), str(path), None


@dataclass
class Library:
    """All templates. ``folder`` is read once, when it is first needed."""

    folder: Path | None = None
    warn: Warn = say_in_log
    _books: dict[str, Book] = field(default_factory=dict)
    _warned: set[str] = field(default_factory=set)

    def warn_once(self, line: str) -> None:
        """A template that fails does so with every message: once is enough for the log."""
        if line not in self._warned:
            self._warned.add(line)
            self.warn(line)

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """What there are sentences for, ours and the user's."""
        users = self.folder.glob("words/*.j2") if self.folder is not None else ()
        own = {path.stem for path in users if is_language(path.stem)}
        return tuple(sorted({*LANGUAGES, *own}))

    def book(self, code: str) -> Book:
        """The sentences for a reader's language: its own, those of the language without its region, or English."""
        known = [language for language in languages_of(code) if language in self.languages]
        language = known[0] if known else DEFAULT_LANGUAGE
        if language not in self._books:
            self._books[language] = self.open(language, self._say_that_it_failed)
        return self._books[language]

    def open(self, language: str, on_failure: OnFailure) -> Book:
        """A book of its own, for one of ``languages``."""
        locale = _locale(language)
        environment = self._for_words(locale)
        codes = languages_of(language)
        if not {*codes} & {*LANGUAGES}:
            codes = (*codes, DEFAULT_LANGUAGE)
        names = [f"words/{code}.j2" for code in codes]
        chain = (
            *(template for name in names for template in self._users(environment, name)),
            *(template for name in (*names, "words/common.j2") for template in self._ours(environment, name)),
        )
        return Book(language, locale, chain, on_failure)

    def _say_that_it_failed(self, template: Template, block: str, error: Exception | None) -> None:
        why = f"could not be used ({type(error).__name__})" if error else "is empty"
        self.warn_once(f"{template.name}: {block} {why}; ours stands in")

    def environment_for(self, name: str) -> Environment:
        """What reads the user's template of that name."""
        folder, _, code = name.removesuffix(".j2").rpartition("/")
        if folder != "words":
            return self._for_layouts
        return self._for_words(_locale(code if is_language(code) else DEFAULT_LANGUAGE))

    def _for_words(self, locale: Locale) -> Environment:
        environment = self._environment()
        # What ``self.block()`` and ``super()`` put together, so that a sentence may be written over several lines.
        environment.concat = _one_line  # type: ignore[method-assign]
        environment.filters.update(_filters(locale))
        return environment

    def _environment(self) -> Environment:
        from jinja2 import (  # noqa: PLC0415
            ChoiceLoader,
            Environment,
            FileSystemLoader,
            FunctionLoader,
            StrictUndefined,
            select_autoescape,
        )

        ours = FunctionLoader(_read_ours)
        users = [FileSystemLoader(self.folder)] if self.folder is not None else []
        return Environment(
            loader=ChoiceLoader([ours, *users]),
            bytecode_cache=_compiled(),
            autoescape=select_autoescape(["html.j2"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )

    def _users(self, environment: Environment, name: str) -> Iterator[Template]:
        """The user's template of that name, if there is one that can be read."""
        from jinja2 import TemplateError  # noqa: PLC0415

        if self.folder is None or not (self.folder / name).is_file():
            return
        try:
            yield environment.get_template(name)
        except (TemplateError, OSError, UnicodeError) as error:
            self.warn_once(f"{name} cannot be read ({type(error).__name__}); ours stands in")

    @staticmethod
    def _ours(environment: Environment, name: str) -> Iterator[Template]:
        if (OURS / name).is_file():
            yield environment.get_template(PREFIX + name)

    @cached_property
    def _for_layouts(self) -> Environment:
        environment = self._environment()
        environment.filters["joined"] = joined
        environment.filters["wrap"] = wrap
        environment.filters["pad"] = pad
        environment.filters["columns"] = columns_of
        return environment

    def layouts(self, kind: str, language: str, ending: str) -> Iterator[Template]:
        """What may lay out this mail, the most specific first and ours last. ``ending``: ``html`` or ``txt``."""
        names = layout_names(kind, language, ending)
        for name in names:
            yield from self._users(self._for_layouts, name)
        for name in names:
            yield from self._ours(self._for_layouts, name)


def layout_names(kind: str, language: str, ending: str) -> list[str]:
    own = [f"email/{kind}.{code}.{ending}.j2" for code in languages_of(language)]
    return [*own, f"email/{kind}.{ending}.j2", f"mail.{ending}.j2"]


def _filters(locale: Locale) -> dict[str, Callable[..., str]]:
    from babel.numbers import format_decimal  # noqa: PLC0415

    def number(count: int) -> str:
        return format_decimal(count, locale=locale)

    def plural(count: int, other: str, **forms: str) -> str:
        """The form of the language's own rules for so many; ``{n}`` in it becomes the number."""
        return forms.get(locale.plural_form(count), other).replace("{n}", number(count))

    return {"number": number, "plural": plural}


def joined(sentences: Iterable[str]) -> str:
    """Those of the sentences that are not empty, as one paragraph. A full stop of Japanese takes no blank."""
    paragraph = ""
    for sentence in filter(None, sentences):
        paragraph += sentence if not paragraph or paragraph[-1] in "。！？" else f" {sentence}"
    return paragraph


def columns_of(text: str) -> int:
    """How wide a terminal shows it; a character of Japanese counts for two."""
    if text.isascii() or not _PERHAPS_WIDE.search(text):
        return len(text)
    return len(text) + sum(east_asian_width(char) in {"W", "F"} for char in text)


def pad(text: str, columns: int) -> str:
    """The text and as many spaces as make it that wide."""
    return text + " " * max(1, columns - columns_of(text))


# Where a line may end: after a blank, and between two characters of a script that writes none, but not before a mark
# that closes or after one that opens.
_BREAK = re.compile(
    r"(?<= )(?=\S)|(?<=[\u3040-\u30ff\u3400-\u9fff\u3001\u3002\uff01-\uff5d])(?=[\u3040-\u30ff\u3400-\u9fff\u300c])"
)
_NOT_FIRST = re.compile("[ぁぃぅぇぉっゃゅょァィゥェォッャュョー、。」)]")


def _pieces(text: str) -> Iterator[str]:
    """What must stay on one line, with the blank after it."""
    held = ""
    for piece in _BREAK.split(text):
        if held and _NOT_FIRST.match(piece):
            held += piece
            continue
        if held:
            yield held
        held = piece
    if held:
        yield held


def wrap(text: str, indent: int = 0, columns: int = 72) -> str:
    """Paragraphs of a plain text mail: 72 columns, and nothing torn apart that a reader may want to copy."""
    lines: list[str] = []
    line = ""
    for piece in _pieces(_BLANKS.sub(" ", text).strip(" ")):
        if line and columns_of((line + piece).rstrip(" ")) > columns - indent:
            lines.append(line.rstrip(" "))
            line = ""
        line += piece
    return ("\n" + " " * indent).join([*lines, line.rstrip(" ")])
