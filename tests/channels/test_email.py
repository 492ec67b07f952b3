"""Mail, handed to real servers on loopback and read back from the bytes that they took in."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default as modern
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import trustme

from healthd.channels import email
from healthd.channels.base import Dead, Delivery, Reader, Retry
from healthd.channels.email import Email, EmailSettings
from healthd.channels.sentences import LANGUAGES
from healthd.channels.wording import tell
from healthd.core.model import Target
from healthd.core.text import clean
from tests.channels.mail_server import (
    HANG_UP,
    PASSWORD,
    SILENCE,
    USERNAME,
    Letter,
    mail_server,
    scripted_server,
)
from tests.channels.samples import (
    BESIDE,
    EVERY_KIND,
    HOSTILE,
    OPENED,
    REAL_LINK,
    REMINDER,
    RESOLVED,
    about,
    deliver,
    follow_up,
    of_all,
)

LOGIN = {"username": USERNAME, "password": PASSWORD}
BASE_HEADERS = [
    "Auto-Submitted", "Content-Type", "Date", "From", "MIME-Version", "Message-ID", "Subject", "To",
    "X-Auto-Response-Suppress",
]  # fmt: skip
FOLLOW_UP_HEADERS = sorted([*BASE_HEADERS, "In-Reply-To", "References"])


def settings(port: int = 25, **changes: Any) -> EmailSettings:
    facts = {"type": "email", "host": "localhost", "security": "none", "sender": "healthd <healthd@acme.example>"}
    return EmailSettings.model_validate({**facts, "port": port, "timeout": 5, **changes})


def channel(port: int = 25, **changes: Any) -> Email:
    return settings(port, **changes).open()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("localhost",))).configure_cert(context)
    return context


def read(raw: bytes) -> EmailMessage:
    message = BytesParser(policy=modern).parsebytes(raw)
    assert isinstance(message, EmailMessage)
    return message


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    text = body.get_content()
    assert isinstance(text, str)
    return text.replace("\r\n", "\n")


async def arrives(delivery: Delivery) -> Letter:
    """The message as a plain server got it."""
    async with mail_server() as server:
        await channel(server.port).send(delivery)
    [letter] = server.letters
    return letter


class Page(HTMLParser):
    """What a browser makes of it: elements, links, and the text that is seen."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self.links: list[str | None] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag, tuple(name for name, _ in attrs)] += 1
        self.links += [value for name, value in attrs if name in {"href", "src"}]

    def handle_data(self, data: str) -> None:
        self.text += data


# How it travels.


async def test_a_plain_server_gets_the_message() -> None:
    letter = await arrives(deliver(channel(), OPENED))
    assert (letter.sender, letter.recipients) == ("healthd@acme.example", ["ada@acme.example"])
    assert not letter.encrypted


async def test_starttls_encrypts_before_the_log_in_and_the_message(authority: trustme.CA, ca_file: Path) -> None:
    async with mail_server(starttls=server_context(authority), login=True) as server:
        mail = channel(server.port, security="starttls", ca_file=ca_file, **LOGIN)
        receipt = await mail.send(deliver(mail, OPENED))
    [letter] = server.letters
    assert letter.encrypted
    assert letter.login == USERNAME
    assert receipt == {"message_id": read(letter.raw)["Message-ID"]}


async def test_tls_from_the_first_byte_gets_the_message(authority: trustme.CA, ca_file: Path) -> None:
    async with mail_server(tls=server_context(authority)) as server:
        mail = channel(server.port, security="tls", ca_file=ca_file)
        await mail.send(deliver(mail, OPENED))
    assert len(server.letters) == 1


async def test_an_international_domain_is_written_to_in_ascii() -> None:
    notice = replace(OPENED, target=Target("mail", "ada@bücher.example"))
    assert (await arrives(deliver(channel(), notice))).recipients == ["ada@xn--bcher-kva.example"]


NO_TLS = {
    "it offers none": {"EHLO": "250-mail.acme.example\r\n250 AUTH PLAIN LOGIN"},
    "it is too old to know": {"EHLO": "502 what?"},
    "it refuses": {"EHLO": "250-mail.acme.example\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS", "STARTTLS": "454 not now"},
    "it hangs up": {"EHLO": "250-mail.acme.example\r\n250 STARTTLS", "STARTTLS": HANG_UP},
}


@pytest.mark.parametrize("login", [{}, LOGIN], ids=["no log-in", "a log-in"])
@pytest.mark.parametrize("answers", NO_TLS.values(), ids=NO_TLS)
async def test_nothing_is_sent_in_clear_where_starttls_is_not_to_be_had(
    answers: dict[str, str], login: dict[str, Any]
) -> None:
    async with scripted_server(answers) as server:
        mail = channel(server.port, security="starttls", **login)
        with pytest.raises(Retry):
            await mail.send(deliver(mail, OPENED))
    assert set(server.heard) <= {"EHLO", "HELO", "STARTTLS", "QUIT"}
    assert server.data == []


async def test_a_password_is_not_sent_to_a_server_that_offers_no_log_in() -> None:
    async with scripted_server({"EHLO": "250 mail.acme.example"}) as server:
        mail = channel(server.port, **LOGIN)
        with pytest.raises(Retry, match="does not offer what is configured: check security, username and password"):
            await mail.send(deliver(mail, OPENED))
    assert set(server.heard) <= {"EHLO", "QUIT"}


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("wrong", ["authority", "host"])
async def test_a_certificate_that_is_not_trusted_stops_everything_and_the_fix_is_named(
    authority: trustme.CA, ca_file: Path, security: str, wrong: str
) -> None:
    context = server_context(trustme.CA()) if wrong == "authority" else server_context(authority, "other.example")
    later, at_once = (context, None) if security == "starttls" else (None, context)
    async with mail_server(starttls=later, tls=at_once) as server:
        mail = channel(server.port, security=security, ca_file=ca_file)
        with pytest.raises(Retry, match=r"no trusted TLS with localhost \(.+\): check host, security and ca_file"):
            await mail.send(deliver(mail, OPENED))
    assert server.letters == []


# What the other side may answer.

REFUSALS: dict[str, tuple[str, str, type[Exception], str]] = {
    "no such mailbox": ("RCPT", "550 5.1.1 <ada@acme.example>: no such user", Dead, "550 5.1.1"),
    "no such mailbox, old server": ("RCPT", "550 ada@acme.example unknown", Dead, "550"),
    "mailbox disabled": ("RCPT", "550 5.2.1 disabled", Dead, "550 5.2.1"),
    "greylisted": ("RCPT", "450 4.7.1 <ada@acme.example>: try again later", Retry, "450 4.7.1"),
    "mailbox full for now": ("RCPT", "452 4.2.2 full", Retry, "452 4.2.2"),
    "relaying denied": ("RCPT", "554 5.7.1 <ada@acme.example>: Relay access denied", Retry, "log-in"),
    "relaying denied, other words": ("RCPT", "550 Unable to relay for ada@acme.example", Retry, "log-in"),
    "log-in wanted": ("RCPT", "530 5.7.0 Authentication required", Retry, "log-in"),
    "blocked machine": ("RCPT", "550 5.7.1 [203.0.113.9] is on a list", Retry, "block lists"),
    "sender not authenticated": ("DATA", "550 5.7.26 unauthenticated mail from acme.example", Retry, "SPF"),
    "message refused": ("DATA", "554 5.6.0 we do not like it", Dead, "554 5.6.0"),
    "message put off": ("DATA", "451 4.3.0 queue full", Retry, "451 4.3.0"),
    "sender refused": ("MAIL", "553 5.1.8 who is healthd@acme.example?", Retry, "check sender and log-in"),
    "closing down": ("MAIL", "421 4.3.2 shutting down", Retry, "421"),
}


@pytest.mark.parametrize(("verb", "said", "expected", "words"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal_is_final_only_if_nobody_can_mend_it(
    verb: str, said: str, expected: type[Exception], words: str
) -> None:
    async with mail_server(refusals={verb: said}) as server:
        mail = channel(server.port)
        with pytest.raises((Retry, Dead)) as refused:
            await mail.send(deliver(mail, OPENED))
    assert type(refused.value) is expected
    assert words in str(refused.value)
    assert not re.search(r"ada|203\.0", str(refused.value)), "a server's words may hold addresses"


async def test_a_wrong_password_is_the_operators_to_mend(authority: trustme.CA, ca_file: Path) -> None:
    async with mail_server(starttls=server_context(authority), login=True) as server:
        wrong = {"username": USERNAME, "password": "wr0ng-s3cr3t"}
        mail = channel(server.port, security="starttls", ca_file=ca_file, **wrong)
        with pytest.raises(Retry, match="check username and password") as refused:
            await mail.send(deliver(mail, OPENED))
    assert "s3cr3t" not in str(refused.value)
    assert server.letters == []


BROKEN = {
    "says nothing": {"": SILENCE},
    "hangs up at once": {"": HANG_UP},
    "is busy": {"": "421 too many connections"},
    "is no mail server": {"": "HTTP/1.1 400 Bad Request"},
    "falls silent before the data": {"DATA": SILENCE},
    "hangs up before the data": {"DATA": HANG_UP},
    "falls silent after the final dot": {".": SILENCE},
    "hangs up after the final dot": {".": HANG_UP},
    "answers nonsense after the final dot": {".": "OK"},
}


@pytest.mark.parametrize("answers", BROKEN.values(), ids=BROKEN)
async def test_an_outcome_that_nobody_knows_is_tried_again(answers: dict[str, str]) -> None:
    """It may have arrived from the moment on at which the server was offered the data."""
    async with scripted_server(answers) as server:
        mail = channel(server.port, timeout=0.3 if SILENCE in answers.values() else 5)
        with pytest.raises(Retry) as retry:
            await mail.send(deliver(mail, OPENED))
    assert retry.value.unknown is ("DATA" in server.heard)


async def test_a_message_that_the_server_put_off_has_not_arrived() -> None:
    async with scripted_server({".": "451 4.3.0 queue full"}) as server:
        mail = channel(server.port)
        with pytest.raises(Retry) as retry:
            await mail.send(deliver(mail, OPENED))
    assert not retry.value.unknown
    assert len(server.data) == 1


async def test_a_message_cut_off_after_the_final_dot_is_repeated_as_the_same_message() -> None:
    async with scripted_server({".": HANG_UP}) as server:
        mail = channel(server.port)
        delivery = deliver(mail, OPENED)
        for _ in range(2):
            with pytest.raises(Retry):
                await mail.send(delivery)
    assert len(server.data) == 2
    assert server.data[0] == server.data[1]


async def test_a_connection_cut_in_the_middle_of_the_data_is_tried_again() -> None:
    """A message larger than the buffers in between: some of it is read, then the line goes dead."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail\r\n")
        for _ in range(3):
            await reader.readuntil(b"\r\n")
            writer.write(b"250 OK\r\n")
        await reader.readuntil(b"\r\n")
        writer.write(b"354 go on\r\n")
        await reader.readexactly(1000)
        writer.transport.abort()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    async with server:
        mail = channel(server.sockets[0].getsockname()[1])
        long = replace(deliver(mail, OPENED), content={"subject": "long", "text": "x" * 4_000_000, "html": "<p>x</p>"})
        with pytest.raises(Retry, match="lost"):
            await mail.send(long)


@pytest.mark.parametrize("said", [HANG_UP, SILENCE, "500 what?"])
async def test_a_message_that_was_accepted_stays_accepted_however_the_server_takes_its_leave(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(email, "_QUIT_TIMEOUT", 0.1)
    async with scripted_server({"QUIT": said}) as server:
        mail = channel(server.port)
        assert await mail.send(deliver(mail, OPENED)) == {"message_id": f"<{OPENED.id}@acme.example>"}
    assert len(server.data) == 1


async def test_nobody_listening_is_tried_again() -> None:
    async with scripted_server({}) as server:
        mail = channel(server.port)
    with pytest.raises(Retry, match=r"no connection to localhost, or it was lost \(ConnectionRefusedError\)"):
        await mail.send(deliver(mail, OPENED))


async def test_a_check_logs_in_and_tells_nobody_anything(authority: trustme.CA, ca_file: Path) -> None:
    async with mail_server(starttls=server_context(authority), login=True) as server:
        mail = channel(server.port, security="starttls", ca_file=ca_file, **LOGIN)
        assert re.fullmatch(
            rf"localhost:{server.port} answers: TLSv1\.3, certificate valid, log-in accepted", await mail.check()
        )
    assert server.letters == []


async def test_a_check_says_what_is_wrong() -> None:
    async with scripted_server({"": HANG_UP}) as server:
        with pytest.raises(Retry, match="no connection to localhost"):
            await channel(server.port).check()


# What arrives.


async def test_the_message_is_text_and_html_with_exactly_the_headers_that_it_needs() -> None:
    message = read((await arrives(deliver(channel(), OPENED))).raw)
    assert sorted(message.keys()) == BASE_HEADERS
    assert message["From"] == "healthd <healthd@acme.example>"
    assert message["To"] == "ada@acme.example"
    assert message["Subject"] == "“Acme Coffee” on Facebook needs to be reconnected"
    assert message["Date"].datetime == OPENED.created_at
    assert message["Message-ID"] == f"<{OPENED.id}@acme.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content_type() == "multipart/alternative"
    assert [inner.get_content_type() for inner in message.iter_parts()] == ["text/plain", "text/html"]
    assert not list(message.iter_attachments())


async def test_an_address_for_replies_is_named_where_one_is_configured() -> None:
    async with mail_server() as server:
        mail = channel(server.port, reply_to="Social Team <social@acme.example>")
        await mail.send(deliver(mail, OPENED))
    assert read(server.letters[0].raw)["Reply-To"] == "Social Team <social@acme.example>"


async def test_a_repeat_is_the_same_message_byte_for_byte_even_from_another_process() -> None:
    async with mail_server() as server:
        for _ in range(2):
            mail = channel(server.port)
            await mail.send(deliver(mail, OPENED))
    first, second = server.letters
    assert first.raw == second.raw


async def test_all_messages_of_one_incident_are_one_thread() -> None:
    async with mail_server() as server:
        mail = channel(server.port)
        receipt = await mail.send(deliver(mail, OPENED))
        for notice in (REMINDER, RESOLVED):
            await mail.send(follow_up(mail, notice, receipt))
    first, *others = (read(letter.raw) for letter in server.letters)
    assert [(other["In-Reply-To"], other["References"]) for other in others] == [(first["Message-ID"],) * 2] * 2
    assert len({message["Message-ID"] for message in (first, *others)}) == 3
    assert [sorted(other.keys()) for other in others] == [FOLLOW_UP_HEADERS] * 2


async def test_an_id_of_any_length_is_referred_to_exactly_as_it_was_sent() -> None:
    """A folded or encoded id would match no message any more."""
    async with mail_server() as server:
        mail = channel(server.port, sender=f"healthd@{'a' * 60}.{'b' * 60}.example")
        receipt = await mail.send(deliver(mail, OPENED))
        await mail.send(follow_up(mail, REMINDER, receipt))
    first, second = (letter.raw for letter in server.letters)
    [message_id] = re.findall(rb"^Message-ID: +(<\S+>)\r$", first, re.MULTILINE)
    assert re.findall(rb"^(?:In-Reply-To|References): +(<\S+>)\r$", second, re.MULTILINE) == [message_id] * 2


async def test_a_reminder_keeps_the_subject_so_that_mail_clients_show_one_conversation() -> None:
    mail = channel()
    assert mail.render(REMINDER)["subject"] == mail.render(OPENED)["subject"]


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
async def test_no_name_adds_a_header_a_long_line_or_a_recipient(name: str) -> None:
    hostile = about(of_all(OPENED, BESIDE), name=clean(name), username=clean(name) or None, profile=clean(name))
    letter = await arrives(deliver(channel(), hostile))
    message = read(letter.raw)
    assert sorted(message.keys()) == BASE_HEADERS
    assert not message.defects
    assert letter.recipients == ["ada@acme.example"]
    assert max(len(line) for line in letter.raw.split(b"\r\n")) < 200
    assert letter.raw.isascii()
    assert letter.raw.count(b"\n") == letter.raw.count(b"\r\n"), "a bare line feed is how mail is smuggled"
    assert channel().render(hostile)["subject"] in message["Subject"]


@pytest.mark.parametrize(
    "subject", ["a\r\nBcc: eve@evil.example", "=?utf-8?q?=0D=0ABcc=3A_eve@evil.example?=", "\ud800"]
)
async def test_a_subject_that_was_never_cleaned_is_refused_for_good_or_harmless(subject: str) -> None:
    async with mail_server() as server:
        mail = channel(server.port)
        delivery = deliver(mail, OPENED)
        with suppress(Dead):
            await mail.send(replace(delivery, content={**delivery.content, "subject": subject}))
    for letter in server.letters:
        assert sorted(read(letter.raw).keys()) == BASE_HEADERS
        assert letter.recipients == ["ada@acme.example"]


async def test_a_message_whose_headers_came_out_otherwise_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python up to 3.11.9 writes new headers out of an encoded word in a display name (CVE-2024-6923)."""

    def careless(_: str) -> tuple[str, str]:
        return "=?utf-8?q?=0D=0ABcc=3A_eve@evil.example?=", "healthd@acme.example"

    async with mail_server() as server:
        mail = channel(server.port)
        delivery = deliver(mail, OPENED)
        monkeypatch.setattr(email, "parse_mailbox", careless)
        with suppress(Dead):
            await mail.send(delivery)
    assert all(sorted(read(letter.raw).keys()) == BASE_HEADERS for letter in server.letters)


async def test_lines_that_begin_with_a_dot_arrive_as_they_were() -> None:
    text = ".\n..\n.hidden\n\n. end\n"
    delivery = replace(deliver(channel(), OPENED), content={"subject": "dots", "text": text, "html": f"<p>{text}</p>"})
    message = read((await arrives(delivery)).raw)
    assert part(message, "plain") == text
    assert part(message, "html") == f"<p>{text}</p>\n"


@pytest.mark.parametrize("notice", EVERY_KIND.values(), ids=EVERY_KIND)
async def test_the_text_part_reads_well_at_72_columns_and_says_what_the_html_says(notice: Any) -> None:
    message = read((await arrives(deliver(channel(), notice))).raw)
    text, page = part(message, "plain"), Page(part(message, "html"))
    assert [line for line in text.split("\n") if len(line) > 72 and REAL_LINK not in line] == []
    assert "\n\n\n" not in text
    assert text.count(REAL_LINK) == (1 if notice.link else 0)
    assert page.links == ([REAL_LINK] * 2 if notice.link else [])
    words = tell(notice)
    said = [words.headline, words.happened, words.consequence, words.todo, words.link_note, words.by_hand, words.footer]
    said += [
        *words.advice,
        *(fact.value for fact in (*words.facts, *words.commands)),
        *(row.name for row in words.rows),
    ]
    for form in (text, page.text):
        whole = " ".join(form.split())
        # A single account's row stands in for its line of facts.
        assert [one for one in said if " ".join(one.split()) not in whole and one != words.facts[0].value] == []


def test_a_mail_is_in_the_language_of_its_reader_to_the_last_attribute() -> None:
    for language in LANGUAGES:
        mail = channel().render(replace(OPENED, reader=Reader("", language)))
        assert f'<html lang="{language}" dir="ltr">' in mail["html"]
        assert mail["subject"] in mail["text"]


def test_what_a_list_of_mails_shows_beside_the_subject_is_the_story() -> None:
    html = channel().render(OPENED)["html"]
    [shown] = re.findall(r'<div style="display:none[^>]*>(.*?)</div>', html)
    assert shown.startswith(tell(OPENED).happened)


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_no_name_becomes_an_element_or_a_link_in_the_html(name: str) -> None:
    name = clean(name)
    mail = channel()
    for notice in (OPENED, of_all(OPENED, BESIDE)):
        hostile = about(notice, name=name, username=name, profile=name, platform=name or "x")
        harmless = about(notice, name="a", username="b", profile=name and "c", platform="d")
        page = Page(mail.render(hostile)["html"])
        assert page.elements == Page(mail.render(harmless)["html"]).elements
        assert page.links == [OPENED.link] * 2


async def test_a_link_with_an_ampersand_and_a_quote_is_the_same_link_in_both_parts() -> None:
    link = 'https://healthd.acme.example/r/x?a=1&b="2"&amp;\''
    message = read((await arrives(deliver(channel(), OPENED, link))).raw)
    assert link in part(message, "plain")
    assert Page(part(message, "html")).links == [link, link]


def test_what_is_stored_opens_nothing() -> None:
    assert REAL_LINK not in "".join(channel().render(OPENED).values())


async def test_a_recipient_that_is_no_address_is_dead_without_asking_any_server() -> None:
    with pytest.raises(Dead) as dead:
        await channel().send(deliver(channel(), replace(OPENED, target=Target("mail", "ada@acme.example\nRCPT"))))
    assert "ada" not in dead.value.reason


# What may be configured.

ADDRESSES = {
    "ada@acme.example": "ada@acme.example",
    "ada.lovelace+social@acme.example": "ada.lovelace+social@acme.example",
    "root@localhost": "root@localhost",
    "ada@BÜCHER.example": "ada@xn--bcher-kva.example",
    "": None,
    "ada": None,
    "@acme.example": None,
    "ada@": None,
    "ada@@acme.example": None,
    "ada@acme@example": None,
    "ada@acme..example": None,
    "ada@-acme.example": None,
    "ada@acme.example\r\nRCPT TO:<eve@evil.example>": None,
    "ada@acme.example\u2028": None,
    "ada@acme.example, eve@evil.example": None,
    "Ada <ada@acme.example>": None,
    '"ada lovelace"@acme.example': None,
    ".ada@acme.example": None,
    "ada lovelace@acme.example": None,
    "adä@acme.example": None,
    f"{'a' * 65}@acme.example": None,
    "ada@[127.0.0.1]": None,
}


@pytest.mark.parametrize(("written", "meant"), ADDRESSES.items(), ids=map(repr, ADDRESSES))
def test_an_address_is_taken_whole_or_refused(written: str, meant: str | None) -> None:
    if meant is not None:
        settings().validate_address(written)
        assert email.parse_address(written) == meant
        return
    with pytest.raises(ValueError, match=r"write it as|cannot be written to"):
        settings().validate_address(written)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a password in clear": ({"host": "mail.acme.example", **LOGIN}, 'security = "starttls" or "tls"'),
    "a user name alone": ({"username": USERNAME}, "set both, or neither"),
    "a password alone": ({"password": PASSWORD}, "set both, or neither"),
    "a sender without an address": ({"sender": "healthd"}, "ada@acme.example"),
    "a sender with a header": (
        {"sender": "x\r\nBcc: eve@evil.example <a@b.example>"},
        "healthd <healthd@acme.example>",
    ),
    "a sender with an encoded word": ({"sender": "=?utf-8?q?=0D=0ABcc=3A?= <a@b.example>"}, "is no sender"),
    "two senders": ({"sender": "a@b.example, c@d.example"}, "is no sender"),
    "a sender's name without end": ({"sender": f"{'x' * 65} <a@b.example>"}, "shorten it"),
    "replies to nobody": ({"reply_to": "social"}, "ada@acme.example"),
    "no such certificates": ({"ca_file": "/no/such/file.pem"}, "PEM file"),
    "certificates that are none": ({"ca_file": __file__}, "PEM file"),
    "a web address as host": ({"host": "https://mail.acme.example"}, "host"),
    "unknown security": ({"security": "ssl"}, "'starttls', 'tls' or 'none'"),
    "longer than a lease": ({"timeout": 600}, "150"),
    "an unknown key": ({"passwort": PASSWORD}, "passwort"),
}


@pytest.mark.parametrize(("changes", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_the_settings_is_answered_with_what_to_write_and_never_with_the_secret(
    changes: dict[str, Any], hint: str
) -> None:
    with pytest.raises(ValueError) as mistake:  # noqa: PT011
        settings(**changes)
    assert hint in str(mistake.value)
    assert PASSWORD not in str(mistake.value)


def test_a_log_in_in_clear_is_allowed_on_the_own_machine() -> None:
    assert settings(host="127.0.0.1", username=USERNAME, password=PASSWORD).security == "none"


@pytest.mark.parametrize(("security", "port"), [("starttls", 587), ("tls", 465), ("none", 25)])
async def test_each_kind_of_security_has_its_usual_port(security: str, port: int) -> None:
    assert (
        EmailSettings.model_validate(
            {"type": "email", "host": "mail.acme.example", "security": security, "sender": "healthd@acme.example"}
        )
        .open()
        ._port
        == port
    )


@pytest.fixture(autouse=True)
def _quiet_server(caplog: pytest.LogCaptureFixture) -> None:
    """The server logs each line that it is told."""
    caplog.set_level("CRITICAL", logger="mail.log")
