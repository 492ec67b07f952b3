"""Reads a folder of templates before a message depends on it: every block and layout, with made-up facts.

What is found is said with file and line, so that a slip of the pen is mended where it was made.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING

from healthd.channels.base import LINK
from healthd.channels.examples import Example, examples
from healthd.channels.sentences import LANGUAGES, OURS, PREFIX, Library, is_language, languages_of, layout_names
from healthd.core.model import NoticeKind

if TYPE_CHECKING:
    from jinja2 import Template, nodes

    from healthd.channels.wording import Wording, Words

_SILENT: frozenset[str] = frozenset({NoticeKind.EVENT})
"""Kinds that no mail is ever made of."""
VARIABLES = frozenset({
    # Names, spans and moments
    "name", "hours", "minutes", "count", "moment", "day",
    # About accounts
    "workspace", "reader", "account", "handle", "platform", "platforms", "many", "total", "cause", "unconfirmed",
    "span", "span_for", "since", "failed_posts", "also_told", "told", "left", "days", "by_hand", "link_minutes",
    "more", "repairs", "within", "within_for",
    # For operators
    "trouble", "remedy", "broken", "accounts", "still_broken", "recovered", "window", "longest", "outcome", "cancelled",
})  # fmt: skip
"""Everything that a sentence may be told; ``docs/messages.md`` explains each."""
_FOR_LAYOUTS = frozenset({"words", "link"})


def mistakes(wording: Wording) -> list[str]:
    """One line for each mistake, sorted by file. Nothing where there is no folder to read."""
    if wording.folder is None:
        return []
    if not wording.folder.is_dir():
        return [f"{wording.folder}: there is no such folder"]
    reader = _Reader(wording, wording.folder)
    return sorted(dict.fromkeys([*reader.files(), *reader.sentences(), *reader.layouts()]))


@dataclass(frozen=True)
class _Reader:
    wording: Wording
    folder: Path

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*.j2")))

    @cached_property
    def _unreadable(self) -> dict[str, str]:
        """What Jinja cannot read at all, and why."""
        from jinja2 import TemplateSyntaxError  # noqa: PLC0415

        found = {}
        for name in self._names:
            try:
                self.wording.library.environment_for(name).get_template(name)
            except TemplateSyntaxError as error:
                found[name] = f"{error.name or name}, line {error.lineno}: {error.message}"
            except (OSError, UnicodeError) as error:
                found[name] = f"{name}: it cannot be read as UTF-8 text ({type(error).__name__})"
        return found

    def files(self) -> Iterator[str]:
        yield from self._unreadable.values()
        known = set(self._layout_names())
        for name in self._names:
            folder, _, file = name.rpartition("/")
            if folder == "words":
                yield from _misnamed(name, file.removesuffix(".j2"))
            elif folder in {"", "email"} and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                meant = f"; did you mean {near[0]}?" if near else ": name it as docs/messages.md says"
                yield f"{name}: nothing uses a template of this name{meant}"

    def _layout_names(self) -> Iterator[str]:
        kinds = [kind.value for kind in NoticeKind if kind not in _SILENT]
        for kind, ending in product(kinds, ("html", "txt")):
            yield f"mail.{ending}.j2"
            yield f"email/{kind}.{ending}.j2"
            yield from (f"email/{kind}.{language}.{ending}.j2" for language in self.wording.languages)

    def sentences(self) -> Iterator[str]:
        plain = Library()
        ours = {block for code in LANGUAGES for template in plain.book(code).chain for block in template.blocks}
        for language in self.wording.languages:
            name = f"words/{language}.j2"
            if name in self._names and name not in self._unreadable:
                yield from self._of_another_name(name, ours)
                yield from self._unknown(name, VARIABLES)
                yield from self._failing_sentences(language)

    def _of_another_name(self, name: str, known: set[str]) -> Iterator[str]:
        from jinja2 import nodes  # noqa: PLC0415

        for block in self._parsed(name).find_all(nodes.Block):
            if block.name not in known:
                near = difflib.get_close_matches(block.name, known, n=1)
                meant = f"; did you mean {near[0]}?" if near else ""
                yield f"{name}, line {block.lineno}: there is no sentence called {block.name}{meant}"

    def _unknown(self, name: str, known: frozenset[str]) -> Iterator[str]:
        from jinja2 import meta, nodes  # noqa: PLC0415

        tree = self._parsed(name)
        undeclared = meta.find_undeclared_variables(tree) - known
        for variable in tree.find_all(nodes.Name):
            if variable.name in undeclared and variable.ctx == "load":
                near = difflib.get_close_matches(variable.name, known, n=1)
                meant = f"; did you mean {near[0]}?" if near else ""
                yield f"{name}, line {variable.lineno}: there is no variable called {variable.name}{meant}"
        for template in meta.find_referenced_templates(tree):
            if template is not None and not self._exists(template):
                yield f"{name}: it extends or includes {template}, which does not exist"

    def _exists(self, template: str) -> bool:
        if template.startswith(PREFIX):
            return (OURS / template.removeprefix(PREFIX)).is_file()
        return (self.folder / template).is_file()

    def _parsed(self, name: str) -> nodes.Template:
        source = (self.folder / name).read_text("utf-8")
        return self.wording.library.environment_for(name).parse(source, name)

    def _failing_sentences(self, language: str) -> Iterator[str]:
        """Each sentence is said as often as an example says it; what an override cannot say is heard here."""
        heard: list[str] = []
        book = self.wording.library.open(language, lambda *failure: heard.append(_failed(*failure)))
        for example in examples(language):
            self.wording.tell(example.message, book)
        yield from heard

    def layouts(self) -> Iterator[str]:
        for name in self._names:
            if name in self._unreadable or name.startswith("words/"):
                continue
            yield from self._unknown(name, _FOR_LAYOUTS)
            if name in set(self._layout_names()):
                yield from self._failing_layout(name)

    def _failing_layout(self, name: str) -> Iterator[str]:
        layout, ending = self.wording.library.environment_for(name).get_template(name), name.split(".")[-2]
        for language, told in self._told.items():
            for example, words in told:
                if name not in layout_names(words.kind, language, ending):
                    continue
                if (found := _laid_out(layout, example, words)) is not None:
                    yield found
                    return

    @cached_property
    def _told(self) -> dict[str, list[tuple[Example, Words]]]:
        """Every example in words, by language, for layouts to lay out."""
        told = {}
        for language in self.wording.languages:
            book = self.wording.library.open(language, lambda *_: None)
            told[language] = [(one, self.wording.tell(one.message, book)) for one in examples(language)]
        return told


def _misnamed(name: str, code: str) -> Iterator[str]:
    if is_language(code):
        return
    written = languages_of(code)
    if written and is_language(written[0]):
        yield f"{name}: write the language as {written[0]}: words/{written[0]}.j2"
    else:
        yield f"{name}: {code} is no language: name the file as words/de.j2 or words/pt-BR.j2"


def _laid_out(layout: Template, example: Example, words: Words) -> str | None:
    """What is wrong with it, if anything is."""
    try:
        text = layout.render(words=words, link=example.message.link)
    except Exception as error:  # noqa: BLE001 - a template may fail in any way
        # Jinja has put the template's own lines into this traceback.
        lines = _lines(error, layout)
        return f"{layout.name}{_where(lines)}: {_why(error)} (in the example {example.slug})"
    if words.button and LINK not in text:
        return f"{layout.name}: it does not show the link: write {{{{ link }}}} where it belongs"
    return None


def _failed(template: Template, block: str, error: Exception | None) -> str:
    if error is None:
        return f"{template.name}: {block} must not be empty"
    lines = [template.get_corresponding_lineno(line) for line in _lines(error, template)]
    return f"{template.name}{_where(lines)}: {block}: {_why(error)}"


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _lines(error: Exception, template: Template) -> list[int]:
    frames = extract_tb(error.__traceback__)
    return [frame.lineno for frame in frames if frame.filename == template.filename and frame.lineno]


def _where(lines: list[int]) -> str:
    return f", line {lines[-1]}" if lines else ""
