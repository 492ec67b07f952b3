"""The tokens of the reconnect page."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthd.links import Links, fingerprint

OLD, NEW = "the-older-secret-of-thirty-two-chars", "the-newer-secret-of-thirty-two-chars"
ID = "0123456789abcdef"
LINKS = Links("https://healthd.example/", [OLD])
TOKEN = LINKS.token(ID)
ALPHABET = string.ascii_letters + string.digits + "-_"


def test_a_token_leads_back_to_its_link_and_is_always_the_same() -> None:
    assert LINKS.check(TOKEN) == ID
    assert Links("https://healthd.example", [OLD]).token(ID) == TOKEN
    assert LINKS.url(ID) == f"https://healthd.example/r/{TOKEN}"


@pytest.mark.parametrize("place", range(len(TOKEN)))
def test_no_character_of_a_token_can_be_another(place: int) -> None:
    others = set(ALPHABET + ".=+/ %") - {TOKEN[place]}
    assert not [char for char in others if LINKS.check(TOKEN[:place] + char + TOKEN[place + 1 :])]


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{16}\.[A-Za-z0-9_-]{43}", fullmatch=True))
def test_nothing_that_we_did_not_sign_is_a_token(text: str) -> None:
    assert text == TOKEN or LINKS.check(text) is None


def test_an_older_secret_still_verifies_and_the_newest_signs() -> None:
    rotated = Links("https://healthd.example", [OLD, NEW])
    assert rotated.check(TOKEN) == ID
    assert rotated.token(ID) == Links("https://healthd.example", [NEW]).token(ID) != TOKEN
    assert rotated.signed("text", LINKS.sign("text"))
    assert Links("https://healthd.example", [NEW]).check(TOKEN) is None


def test_a_signature_over_something_else_is_no_token() -> None:
    """What the form carries is signed with the same key, over a text that no link's id can be."""
    assert LINKS.check(f"{ID}.{LINKS.sign(f'{ID}:490000')}") is None
    assert not LINKS.signed("text", "not-ascii-ä")


def test_a_fingerprint_tells_tokens_apart_and_opens_nothing() -> None:
    assert fingerprint(TOKEN) != fingerprint(LINKS.token(ID[::-1]))
    assert fingerprint(TOKEN) not in TOKEN
    assert len(fingerprint("\ud800")) == 12


@pytest.mark.parametrize(
    ("public_url", "secure"), [("https://healthd.example", True), ("http://127.0.0.1:8080", False)]
)
def test_cookies_are_secure_where_the_page_is(public_url: str, *, secure: bool) -> None:
    assert Links(public_url, [OLD]).secure is secure
