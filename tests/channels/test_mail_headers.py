"""A subject arrives as it was written, whatever stands in it."""

from __future__ import annotations

import email
from email.message import EmailMessage
from email.policy import SMTP

from hypothesis import example, given
from hypothesis import strategies as st

from healthd.channels.mail_headers import LINE, mail_policy
from healthd.core.text import clean

ANY = st.text(st.characters(), max_size=160) | st.text(
    st.sampled_from('a é\u0301=?\r\n\0\x1b\x85\u200d\u202e\ud800👩🏽"\\<!&日本 '), max_size=160
)


@given(ANY)
@example("=?utf-8?q?=0D=0ABcc=3A_e@x?=")
@example("a\r\nBcc: e@x")
@example("Café Zürich – “Müller & Söhne” muss neu verbunden werden, für Ihr Profil bei der größten Bäckerei")
@example("日本語 の 件名 が 長い 場合 でも 空白 は 残る " * 4)
def test_a_subject_is_read_back_as_it_was_and_adds_no_header(raw: str) -> None:
    subject = clean(raw, 200)
    message = EmailMessage(policy=mail_policy())
    message["Subject"] = subject
    message["In-Reply-To"] = "<" + "a" * 60 + "@acme.example>"
    message.set_content("")
    for data in (message.as_bytes(), message.as_string().encode()):
        read = email.message_from_bytes(data, policy=SMTP)
        assert sorted(read.keys()) == sorted(message.keys())
        assert read["Subject"] == subject
        header = data.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
        assert header.isascii()
        assert max(map(len, header.splitlines())) <= LINE + 2
