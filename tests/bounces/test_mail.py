"""Reports about deliveries (RFC 3464): which count, and what no mail can do."""

from __future__ import annotations

import io
import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthd.bounces import MAIL_LIMIT, MOST_LINES, Bounce, Unreadable, read_mail, read_stream
from tests.bounces.samples import ADA, MESSAGE_ID, NOTICE_ID, NOW, mail

AT = datetime(2026, 11, 23, 14, tzinfo=UTC)
OTHER_ID = "<20261123.4711@customer.example>"


def test_a_failed_delivery_of_our_message_is_a_permanent_bounce() -> None:
    assert read_mail(mail(), NOW) == (Bounce(ADA, True, "bounced (5.1.1)", NOTICE_ID, AT),)


@pytest.mark.parametrize("returned", ["message/rfc822", "text/rfc822-headers", "message/global-headers"])
@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
def test_it_is_recognised_by_what_came_back_however_that_is_written(returned: str, ends: bytes) -> None:
    [bounce] = read_mail(mail(returned=returned).replace(b"\n", ends), NOW)
    assert bounce.notice_id == NOTICE_ID


def test_one_that_brings_nothing_back_may_name_the_message_it_answers() -> None:
    raw = mail(message_id="", head=f"In-Reply-To: {MESSAGE_ID}\n")
    assert [bounce.notice_id for bounce in read_mail(raw, NOW)] == [NOTICE_ID]


FINAL = {
    "5.1.1": True,
    "5.1.10": True,
    "5.2.1": True,
    "5.4.1": True,
    "5.0.0": True,
    "5.1.1 (bad destination mailbox address)": True,
    "5.2.2": False,
    "5.3.4": False,
    "5.6.0": False,
    "5.7.1": False,
    "5.1.8": False,
    "5.4.7": False,
    "4.4.7": False,
    "4.2.2": False,
    "2.0.0": False,
    "": False,
    "5": False,
    "550": False,
    "15.1.1": False,
    "5.1.1.1": False,
}


@pytest.mark.parametrize("status", FINAL)
def test_only_what_is_wrong_with_the_address_for_good_marks_it(status: str) -> None:
    [bounce] = read_mail(mail(status=status), NOW)
    assert bounce.permanent is FINAL[status]


@pytest.mark.parametrize("action", ["delayed", "relayed", "delivered", "expanded", "", "failed; x", "FAILED "])
def test_only_a_failure_is_one(action: str) -> None:
    assert len(read_mail(mail(action=action), NOW)) == (action.strip().lower() == "failed")


@pytest.mark.parametrize(
    "message_id",
    [
        OTHER_ID,
        "",
        NOTICE_ID.upper().join(("<", "@acme.example>")),
        f"<{NOTICE_ID}0@acme.example>",
        f"<{NOTICE_ID}@acme.example> <{NOTICE_ID}@acme.example>",
        f"<{NOTICE_ID}>",
        f"<x{NOTICE_ID}@acme.example>",
    ],
)
def test_a_report_about_no_message_of_ours_says_nothing(message_id: str) -> None:
    assert read_mail(mail(message_id=message_id), NOW) == ()


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "rfc822;",
        "rfc822; nobody",
        f"x400; {ADA}",
        f"rfc822; {ADA}, eve@evil.example",
        "rfc822; a@b\tc@d",
        f"rfc822; {'a' * 70}@acme.example",
        "rfc822; ada@acmé.example",
    ],
)
def test_a_recipient_that_is_no_plain_address_is_nobody(recipient: str) -> None:
    assert read_mail(mail(recipient=recipient), NOW) == ()


def test_an_address_may_stand_in_angle_brackets_and_means_the_same_in_any_case() -> None:
    [bounce] = read_mail(mail(recipient=f"RFC822;<{ADA.upper()}>"), NOW)
    assert bounce.concerns(ADA)
    assert not bounce.concerns("eve@customer.example")


def test_several_recipients_are_several_bounces() -> None:
    more = "\nFinal-Recipient: rfc822; bob@customer.example\nAction: delayed\nStatus: 4.4.1\n"
    more += "\nFinal-Recipient: rfc822; eve@customer.example\nAction: failed\nStatus: 5.2.1\n"
    bounces = read_mail(mail(fields=more), NOW)
    assert [(bounce.address, bounce.reason) for bounce in bounces] == [
        (ADA, "bounced (5.1.1)"),
        ("eve@customer.example", "bounced (5.2.1)"),
    ]


@pytest.mark.parametrize(
    ("date", "at"),
    [
        ("Mon, 23 Nov 2026 14:00:00 +0000", AT),
        ("Mon, 23 Nov 2026 15:00:00 +0100", AT),
        ("Mon, 23 Nov 2026 14:00:00", AT),
        ("Mon, 23 Nov 2099 14:00:00 +0000", NOW),
        ("yesterday", NOW),
        ("Mon, 99 Nov 2026 14:00:00 +0000", NOW),
        ("", NOW),
    ],
)
def test_it_happened_when_the_report_says_but_never_later_than_now(date: str, at: datetime) -> None:
    raw = mail().replace(b"Date: Mon, 23 Nov 2026 14:00:00 +0000", b"Date: " + date.encode(), 1)
    [bounce] = read_mail(raw, NOW)
    assert bounce.at == at


ATTACHED = mail().split(b"MIME-Version: 1.0\n")[1]

NO_REPORTS = {
    "nothing": b"",
    "an answer from somebody on holiday": f"Auto-Submitted: auto-replied\nIn-Reply-To: {MESSAGE_ID}\n\nHi".encode(),
    "a mail that quotes a report": b"Subject: Fwd\nContent-Type: text/plain\n\n" + mail(),
    "a mail that has a report attached": b"Content-Type: multipart/mixed; boundary=o\n\n--o\n"
    + ATTACHED
    + b"\n--o--\n",
    "a read receipt": mail().replace(b"message/delivery-status", b"message/disposition-notification"),
    "a complaint": mail().replace(b"message/delivery-status", b"message/feedback-report"),
    "a report without its parts": mail().split(b"--8C1F2")[0],
    "bytes": bytes(range(256)) * 40,
    "too much": b"A: b\n\n" + b"x" * MAIL_LIMIT,
    "too many lines": b"A: b\n" * (MOST_LINES + 1),
}


@pytest.mark.parametrize("name", NO_REPORTS)
def test_a_mail_that_is_no_report_is_told_as_none(name: str) -> None:
    with pytest.raises(Unreadable) as refused:
        read_mail(NO_REPORTS[name], NOW)
    assert "@" not in str(refused.value)


def nested(levels: int) -> bytes:
    return b"".join(
        b"Content-Type: multipart/report; boundary=b%d\n\n--b%d\n" % (level, level) for level in range(levels)
    )


SLOW = {
    "levels within levels": nested(500),
    "as many levels as are let in, and as many lines": nested(39) + b"--x\n" * (MOST_LINES - 300),
    "messages within messages": b"Content-Type: message/rfc822\n\n" * 15_000,
    "a field of a megabyte": b'Content-Type: multipart/report; x="' + b";" * 1_000_000,
    "the same, folded": b'Content-Type: multipart/report; x="' + b"\n ;;;;;;;;;;;;;;;;;;;;;;;;;;;" * 30_000,
    "fields almost too long": nested(1) + (b'--b0\nContent-Type: text/plain; x="' + b";" * 4000 + b"\n\n") * 240,
    "a date of comments": b"Date: " + b"(" * 900_000 + b"\n" + mail(),
    "one recipient after the other": mail(fields="\n".join(["x: y", "", ""] * 13_000)),
}


@pytest.mark.parametrize("name", SLOW)
def test_no_mail_keeps_the_parser_busy(name: str) -> None:
    """Each of these takes Python's parser minutes, or more stack than there is, without the limits."""
    began = time.process_time()
    with suppress(Unreadable):
        read_mail(SLOW[name], NOW)
    assert time.process_time() - began < 3


def test_nothing_that_a_server_says_gets_into_a_reason() -> None:
    evil = "5.1.1\n X-Evil: <eve@evil.example>\n 550 call +49 30 123"
    [bounce] = read_mail(mail(status=evil), NOW)
    assert bounce.reason == "bounced (5.1.1)"


def test_standard_input_is_read_no_further_than_a_mail_may_be_long() -> None:
    assert read_stream(io.BytesIO(mail()), NOW) == read_mail(mail(), NOW)
    endless = io.BytesIO(b"A: b\n\n" + b"x" * (4 * MAIL_LIMIT))
    with pytest.raises(Unreadable):
        read_stream(endless, NOW)
    assert endless.tell() == MAIL_LIMIT + 1


PIECES = st.sampled_from(
    [
        *(line.encode() + b"\n" for line in mail().decode().splitlines()),
        b"Content-Type: multipart/report; boundary=b\n",
        b"--b\n",
        b"--b--\n",
        b"Content-Transfer-Encoding: base64\n",
        b"Content-Type: text/rfc822-headers; charset=idna\n",
        b"Content-Type: message/delivery-status; boundary=b\n",
        b"Content-Type: multipart/report\n",
        b"From x\n",
        b"=?utf-8?q?x?=",
        b"\xff\x00",
        b" ",
        b'"',
        b"*0*=",
    ]
)


@given(st.lists(PIECES | st.binary(max_size=20), max_size=40))
def test_any_mail_at_all_leads_to_bounces_of_ours_or_to_none(pieces: list[bytes]) -> None:
    try:
        bounces = read_mail(b"".join(pieces), NOW)
    except Unreadable:
        return
    assert all(bounce.notice_id == NOTICE_ID and bounce.at <= NOW for bounce in bounces)


@given(st.data())
def test_a_report_that_was_damaged_on_its_way_is_about_our_message_or_about_none(data: st.DataObject) -> None:
    raw = bytearray(mail())
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(raw) - 1))
        raw[start : start + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=5))
    try:
        bounces = read_mail(bytes(raw), NOW)
    except Unreadable:
        return
    assert all(bounce.notice_id and bounce.at <= NOW for bounce in bounces)
