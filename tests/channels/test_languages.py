"""Every language says all that English says, with its own words and its own grammar."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Template, meta, nodes

from healthd.channels.base import Notice, Reader
from healthd.channels.examples import examples
from healthd.channels.proofreading import VARIABLES
from healthd.channels.sentences import LANGUAGES, OURS, Book, Library, languages_of, wrap
from healthd.channels.wording import tell
from healthd.core.model import PLATFORMS, NoticeKind
from tests.channels.samples import (
    BESIDE,
    BROKEN_AT,
    CHRONIC,
    ESCALATED,
    EXPIRING,
    OPENED,
    REMINDER,
    RESOLVED,
    STORM_OVER,
    about,
    of_all,
)

OTHERS = [language for language in LANGUAGES if language != "en"]
LIBRARY = Library()


@cache
def blocks(language: str) -> dict[str, str]:
    """The text of each block as it is written."""
    source = (OURS / "words" / f"{language}.j2").read_text("utf-8")
    return dict(re.findall(r"{% block (\w+) %}\s*(.*?)\s*{% endblock %}", source, re.DOTALL))


def test_the_six_languages_are_there() -> None:
    assert LANGUAGES == ("de", "en", "es", "fr", "ja", "pt")


@pytest.mark.parametrize("language", OTHERS)
def test_a_language_has_every_sentence_of_english_and_no_other(language: str) -> None:
    assert blocks(language).keys() == blocks("en").keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_use_only_variables_that_they_are_told(language: str) -> None:
    path = OURS / "words" / f"{language}.j2"
    tree = LIBRARY.environment_for(f"words/{language}.j2").parse(path.read_text("utf-8"))
    assert meta.find_undeclared_variables(tree) <= VARIABLES
    assert {block.name for block in tree.find_all(nodes.Block)} == blocks(language).keys()


@pytest.mark.parametrize("language", OTHERS)
def test_nothing_is_left_in_english(language: str) -> None:
    """A block without letters of its own may be the same: one that only calls another, a pattern, a colon."""
    same = {name for name, text in blocks(language).items() if text == blocks("en")[name]}
    of_its_own = {name for name in same if re.search(r"[a-z]{2,}", re.sub(r"{[{%].*?[}%]}", "", blocks("en")[name]))}
    assert of_its_own == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_example_in_every_language_fills_every_part(language: str) -> None:
    for example in examples(language):
        words = tell(example.message)
        assert words.language == language
        assert words.subject
        assert words.status
        assert words.happened
        assert words.footer
        assert all(fact.label and fact.value for fact in (*words.facts, *words.commands))


def test_the_examples_show_every_kind_and_every_platform() -> None:
    shown = [example.message for example in examples("en")]
    assert {message.kind for message in shown} == set(NoticeKind) - {NoticeKind.EVENT}
    platforms = {one.platform for message in shown if isinstance(message, Notice) for one in message.accounts}
    assert platforms >= set(PLATFORMS)


CODES = {
    "de": "de",
    "de-AT": "de",
    "pt-BR": "pt",
    "pt_br": "pt",
    "EN-us": "en",
    "it": "en",
    "tlh": "en",
    "": "en",
    "../../etc/passwd": "en",
}


@pytest.mark.parametrize(("asked", "given"), CODES.items(), ids=map(repr, CODES))
def test_a_language_falls_back_to_the_same_without_its_region_and_then_to_english(asked: str, given: str) -> None:
    assert tell(replace(OPENED, reader=Reader("", asked))).language == given


def test_codes_are_read_however_they_are_written() -> None:
    assert languages_of("pt_br") == ("pt-BR", "pt")
    assert languages_of("zh-hant") == ("zh-Hant", "zh")
    assert languages_of("no such thing") == ()


# Plurals: 1, 2 and 5 of what is counted, and none where a language has a form for it.

POSTS = {
    "en": ("1 post has failed", "2 posts have failed", "5 posts have failed"),
    "de": ("1 Beitrag ist", "2 Beiträge sind", "5 Beiträge sind"),
    "es": ("ha fallado 1 publicación", "han fallado 2 publicaciones", "han fallado 5 publicaciones"),
    "fr": ("1 publication a échoué", "2 publications ont échoué", "5 publications ont échoué"),
    "pt": ("1 publicação falhou", "2 publicações falharam", "5 publicações falharam"),
    "ja": ("1件の投稿が失敗", "2件の投稿が失敗", "5件の投稿が失敗"),
}
SPANS = {
    "en": ("for 1 day", "for 2 days", "for 5 days"),
    "de": ("seit 1 Tag ", "seit 2 Tagen", "seit 5 Tagen"),
    "es": ("desde hace 1 día", "desde hace 2 días", "desde hace 5 días"),
    "fr": ("depuis 1 jour", "depuis 2 jours", "depuis 5 jours"),
    "pt": ("há 1 dia", "há 2 dias", "há 5 dias"),
    "ja": ("1日前から", "2日前から", "5日前から"),
}
LEFT = {
    "en": ("1 other account is", "2 other accounts are", "5 other accounts are"),
    "de": ("1 weiteres Konto ist", "2 weitere Konten sind", "5 weitere Konten sind"),
    "es": ("Otra cuenta sigue", "Otras 2 cuentas siguen", "Otras 5 cuentas siguen"),
    "fr": ("1 autre compte est", "2 autres comptes sont", "5 autres comptes sont"),
    "pt": ("1 outra conta continua", "2 outras contas continuam", "5 outras contas continuam"),
    "ja": ("ほかに1件", "ほかに2件", "ほかに5件"),
}
TOLD = {
    "en": ("A was told", "A and B were told", "A, B and C were told"),
    "de": ("A wurde", "A und B wurden", "A, B und C wurden"),
    "es": ("a A.", "a A y B.", "a A, B y C."),
    "fr": ("A a reçu", "A et B ont reçu", "A, B et C ont reçu"),
    "pt": ("A também recebeu", "A e B também receberam", "A, B e C também receberam"),
    "ja": ("Aにも", "A、Bにも", "A、B、Cにも"),
}
DAYS = {
    "en": ("1 day left", "2 days left", "5 days left"),
    "de": ("Noch 1 Tag", "Noch 2 Tage", "Noch 5 Tage"),
    "es": ("Queda 1 día", "Quedan 2 días", "Quedan 5 días"),
    "fr": ("Encore 1 jour", "Encore 2 jours", "Encore 5 jours"),
    "pt": ("Falta 1 dia", "Faltam 2 dias", "Faltam 5 dias"),
    "ja": ("あと1日", "あと2日", "あと5日"),
}
COUNTS = (1, 2, 5)


def to(language: str, notice: Notice, **facts: Any) -> Notice:
    return replace(notice, reader=Reader("", language), **facts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_counted_stands_in_the_form_that_its_number_asks_for(language: str) -> None:
    for index, count in enumerate(COUNTS):
        reminder = to(language, about(REMINDER, failed_posts=count), created_at=BROKEN_AT + timedelta(days=count))
        words = tell(replace(reminder, also_told=tuple("ABC"[: index + 1])))
        assert POSTS[language][index] in words.happened
        assert SPANS[language][index] in f"{words.headline} "
        assert TOLD[language][index] in words.happened
        assert LEFT[language][index] in tell(to(language, RESOLVED, left=count)).happened
        assert tell(to(language, about(EXPIRING, validity_days=count))).status == DAYS[language][index]


def test_a_spanish_list_sounds_as_people_say_it() -> None:
    listed = LIBRARY.book("es").listed
    assert listed(("Facebook", "Instagram")) == "Facebook e Instagram"
    assert listed(("Instagram", "Facebook")) == "Instagram y Facebook"
    assert listed(("Ada", "Hiroshi")) == "Ada e Hiroshi"
    assert listed(("Ada", "Hielo")) == "Ada y Hielo"
    assert listed(("Ada y Inés",)) == "Ada y Inés"


def test_numbers_are_written_as_the_language_writes_them() -> None:
    said = {language: tell(replace(STORM_OVER, reader=Reader("", language))).facts[2].value for language in LANGUAGES}
    assert said["en"] == "412 of 1,250"
    assert said["de"] == "412 von 1.250"
    assert said["fr"] == "412 sur 1\u202f250"
    assert said["ja"] == "1,250件中412件"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_span_is_said_in_its_largest_unit_and_rounded_down(language: str) -> None:
    book: Book = LIBRARY.book(language)
    spans = [timedelta(days=3, hours=23), timedelta(hours=23, minutes=59), timedelta(minutes=59, seconds=59)]
    assert [re.findall(r"\d+", book.span(span)) for span in spans] == [["3"], ["23"], ["59"]]
    assert book.span(timedelta(seconds=-5)) == book.span(timedelta(seconds=59))


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_and_handles_stand_in_every_kind_of_message(language: str) -> None:
    for notice in (OPENED, REMINDER, ESCALATED, EXPIRING, CHRONIC, RESOLVED):
        assert "Acme Coffee" in tell(to(language, notice)).headline
    told = tell(to(language, of_all(OPENED, BESIDE)))
    assert "2" in told.subject
    assert "Facebook" in told.subject
    assert "Instagram" in told.subject


def test_french_marks_are_not_torn_from_their_words() -> None:
    for name, text in blocks("fr").items():
        assert not re.search(r" [:;?!»]", re.sub(r"{[{%].*?[}%]}", "x", text)), name


def test_a_line_of_japanese_is_as_wide_as_one_of_english_and_begins_with_no_closing_mark() -> None:
    wrapped = wrap(tell(to("ja", OPENED)).footer * 3)
    for line in wrapped.split("\n"):
        assert sum(2 if ord(char) > 0x2E80 else 1 for char in line) <= 72
        assert not re.match("[、。」]", line)
    assert wrapped.replace("\n", "") == tell(to("ja", OPENED)).footer * 3


def test_the_folder_of_words_holds_languages_and_what_they_share() -> None:
    assert {path.stem for path in Path(OURS / "words").iterdir()} == {*LANGUAGES, "common"}
    assert all(isinstance(template, Template) for template in LIBRARY.book("de").chain)


def test_the_documentation_explains_every_variable_and_names_every_kind() -> None:
    page = (Path(__file__).parents[2] / "docs" / "messages.md").read_text("utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    assert named >= VARIABLES
    assert named >= {kind.value for kind in NoticeKind} - {"event"}
    assert set(LANGUAGES) <= named
