"""A folder of the operator's own templates: what it changes, and what its mistakes cannot do."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from healthd.channels.base import LINK, Message, Reader
from healthd.channels.email import EmailSettings
from healthd.channels.wording import Wording
from tests.channels.samples import OPENED, REAL_LINK, REMINDER, RESOLVED, deliver

Write = Callable[[str, str], None]


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def wording(tmp_path: Path, heard: list[str]) -> Wording:
    return Wording(tmp_path, heard.append)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")

    return written


def to(language: str, message: Message) -> Message:
    return replace(message, reader=Reader("", language))


def test_one_sentence_is_changed_and_all_others_stay(wording: Wording, write: Write, heard: list[str]) -> None:
    write(
        "words/de.j2",
        '{% extends "healthd/words/de.j2" %}{% block opened_headline %}{{ account }} braucht Hilfe{% endblock %}',
    )
    usual, words = Wording().tell(to("de", OPENED)), wording.tell(to("de", OPENED))
    assert words == replace(usual, headline="„Acme Coffee“ braucht Hilfe", subject="„Acme Coffee“ braucht Hilfe")
    assert wording.tell(to("de", REMINDER)).subject == words.subject, "the reminder joins the conversation"
    assert wording.tell(OPENED) == Wording().tell(OPENED)
    assert wording.check() == heard == []


def test_a_sentence_may_stand_around_ours(wording: Wording, write: Write) -> None:
    write("words/en.j2", "{% block footer %}{{ super() }} Questions? Ask the social team.{% endblock %}")
    footer = wording.tell(RESOLVED).footer
    assert footer.startswith("You get this because")
    assert footer.endswith("Ask the social team.")
    assert wording.check() == []


def test_a_region_or_a_new_language_says_what_it_changes_and_borrows_the_rest(wording: Wording, write: Write) -> None:
    write("words/pt-BR.j2", "{% block opened_status %}Caiu{% endblock %}")
    write("words/it.j2", "{% block opened_status %}Scollegato{% endblock %}")
    brazilian, italian = (wording.tell(to(language, OPENED)) for language in ("pt-BR", "it"))
    assert (brazilian.language, brazilian.status) == ("pt-BR", "Caiu")
    assert brazilian.headline == Wording().tell(to("pt", OPENED)).headline
    assert (italian.language, italian.status) == ("it", "Scollegato")
    assert "needs to be reconnected" in italian.headline
    assert {"it", "pt-BR"} <= set(wording.languages)
    assert wording.check() == []


def test_an_optional_sentence_may_be_left_out(wording: Wording, write: Write, heard: list[str]) -> None:
    write("words/en.j2", "{% block advice_facebook %}{% endblock %}{% block opened_consequence %}{% endblock %}")
    mail = wording.mail(OPENED)
    assert "keep failing" not in mail.text + mail.html
    assert wording.check() == heard == []


def test_ours_may_be_read_by_the_channels_that_were_given_the_folder(wording: Wording, write: Write) -> None:
    write("words/en.j2", "{% block opened_headline %}Help for {{ account }}{% endblock %}")
    facts = {"type": "email", "host": "localhost", "sender": "healthd@acme.example"}
    settings = EmailSettings.model_validate(facts)
    assert settings.open(wording).render(OPENED)["subject"] == "Help for “Acme Coffee”"
    assert "needs to be reconnected" in settings.open().render(OPENED)["subject"]


# Layouts.


def test_the_most_specific_layout_is_used(wording: Wording, write: Write) -> None:
    write("email/opened.de.html.j2", "A {{ link }}")
    write("email/opened.html.j2", "B {{ link }}")
    write("mail.html.j2", "C {{ link }}")
    laid_out = [wording.mail(message).html[0] for message in (to("de", OPENED), to("fr", OPENED), REMINDER)]
    assert laid_out == ["A", "B", "C"]
    assert wording.mail(OPENED).text == Wording().mail(OPENED).text
    assert wording.check() == []


def test_a_layout_may_change_one_part_of_ours(wording: Wording, write: Write) -> None:
    write("mail.html.j2", '{% extends "healthd/mail.html.j2" %}{% block brand %}<p>Acme & co</p>{% endblock %}')
    html = wording.mail(OPENED).html
    assert "<p>Acme & co</p>" in html
    assert html.count(LINK) == Wording().mail(OPENED).html.count(LINK)
    assert wording.check() == []


def test_a_name_is_escaped_in_a_layout_of_the_operators(wording: Wording, write: Write) -> None:
    write("mail.html.j2", "<p>{{ words.headline }} {{ link }}</p>")
    hostile = replace(OPENED, accounts=(replace(OPENED.accounts[0], name="<script>alert(1)</script>"),))
    assert "<script>" not in wording.mail(hostile).html


# Mistakes.

MISTAKES = {
    "a syntax error": (
        "words/de.j2", "{% block opened_headline %}\n{{ account\n{% endblock %}", r"words/de\.j2, line 3",
    ),
    "an unknown variable": (
        "words/de.j2", "{% block opened_headline %}\n{{ acount }}{% endblock %}",
        r"words/de\.j2, line 2: .*acount.*did you mean account\?",
    ),
    "an unknown variable where no example goes": (
        "words/en.j2", "{% block opened_headline %}{% if false %}\n{{ acount }}{% endif %}x{% endblock %}",
        r"words/en\.j2, line 2: there is no variable called acount",
    ),
    "an attribute that there is not": (
        "words/en.j2", "\n\n{% block resolved_happened %}{{ span.of.time }}{% endblock %}",
        r"words/en\.j2, line 3: resolved_happened: UndefinedError",
    ),
    "a block of another name": (
        "words/ja.j2", "{% block opend_headline %}x{% endblock %}",
        r"words/ja\.j2, line 1: there is no sentence called opend_headline; did you mean opened_headline\?",
    ),
    "a headline that is empty": (
        "words/en.j2", "{% block resolved_headline %}{% endblock %}",
        r"words/en\.j2: resolved_headline must not be empty",
    ),
    "a filter that is none": (
        "words/en.j2", "{% block button %}{{ total | plurl }}{% endblock %}", r"words/en\.j2, line 1: No filter named",
    ),
    "a language that is none": ("words/deutsch.j2", "", r"words/deutsch\.j2: deutsch is no language"),
    "a language written otherwise": ("words/pt-br.j2", "", r"words/pt-br\.j2: write the language as pt-BR"),
    "a parent that is none": (
        "words/de.j2", '{% extends "healthd/words/dee.j2" %}', r"extends or includes healthd/words/dee\.j2",
    ),
    "a layout without the link": ("mail.txt.j2", "{{ words.headline }}", r"mail\.txt\.j2: it does not show the link"),
    "a layout that fails": (
        "email/opened.de.html.j2", "{{ link }}\n{{ words.headlin }}",
        r"email/opened\.de\.html\.j2, line 2: UndefinedError",
    ),
    "a layout with an unknown variable": ("mail.txt.j2", "{{ lnk }}", r"mail\.txt\.j2, line 1: .*did you mean link\?"),
    "a layout that nothing uses": (
        "email/opend.html.j2", "", r"email/opend\.html\.j2: nothing uses .*did you mean email/opened\.html\.j2\?",
    ),
    "bytes that are no text": ("mail.txt.j2", "\udcff", r"mail\.txt\.j2: it cannot be read as UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_found_before_any_message_and_costs_none(
    wording: Wording, tmp_path: Path, heard: list[str], name: str, text: str, said: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    found = wording.check()
    assert any(re.search(said, line) for line in found), found
    assert all(line.startswith(name) for line in found), found
    for language in ("en", "de", "ja"):
        for message in (OPENED, REMINDER, RESOLVED):
            mail, usual = wording.mail(to(language, message)), Wording().mail(to(language, message))
            assert mail.subject == usual.subject or "x" in text
            assert mail.text.count(LINK) == usual.text.count(LINK)
            assert mail.html.count(LINK) == usual.html.count(LINK)
    assert all("Acme" not in line and "@" not in line for line in heard), "a warning holds no facts of a message"


def test_what_fails_at_the_moment_of_sending_is_warned_of_once(
    wording: Wording, write: Write, heard: list[str]
) -> None:
    write("words/en.j2", "{% block opened_happened %}{{ 1 / 0 }}{% endblock %}")
    assert [wording.tell(OPENED).happened for _ in range(3)] == [Wording().tell(OPENED).happened] * 3
    assert heard == ["words/en.j2: opened_happened could not be used (ZeroDivisionError); ours stands in"]


def test_a_layout_that_loses_the_link_is_passed_over(wording: Wording, write: Write, heard: list[str]) -> None:
    write("mail.txt.j2", "{{ words.headline }}")
    assert wording.mail(OPENED).text.count(LINK) == 1
    assert heard == ["mail.txt.j2 does not show the link; ours stands in"]
    assert wording.mail(RESOLVED).text == "“Acme Coffee” on Facebook is connected again"


def test_a_sentence_of_the_operators_adds_no_line_to_a_subject(wording: Wording, write: Write) -> None:
    write("words/en.j2", "{% block opened_subject %}Help!\r\nBcc: eve@evil.example{% endblock %}")
    subject = wording.tell(OPENED).subject
    assert not re.search(r"[\r\n]", subject)


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    missing = Wording(tmp_path / "nowhere")
    assert missing.check() == [f"{tmp_path / 'nowhere'}: there is no such folder"]
    assert missing.tell(OPENED) == Wording().tell(OPENED)


def test_without_a_folder_there_is_nothing_to_check() -> None:
    assert Wording().check() == []


def test_what_is_stored_opens_nothing_and_what_is_sent_carries_the_link(wording: Wording, write: Write) -> None:
    write("mail.html.j2", '<a href="{{ link }}">x</a>')
    facts = {"type": "email", "host": "localhost", "sender": "healthd@acme.example"}
    channel = EmailSettings.model_validate(facts).open(wording)
    delivery = deliver(channel, OPENED)
    assert REAL_LINK not in "".join(delivery.content.values())
    assert delivery.content["html"] == f'<a href="{LINK}">x</a>'
