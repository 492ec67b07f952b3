"""Text that somebody else wrote: whatever it holds, it survives every place we put it, and means the same there."""

from __future__ import annotations

import sqlite3
import unicodedata
from contextlib import closing

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from healthd.core.text import NAME_LIMIT, clean

ANY = st.text(st.characters(), max_size=120) | st.text(
    st.sampled_from('a é\u0301=?\r\n\0\x1b\x85\u2028\u200d\u200b\u202e\u2066\ud800\udfff\ufeff👩🏽"\\<!&'), max_size=120
)
"""Lone surrogates and controls included."""

BREAKS = {
    "R1 a line break in a subject": ("Acme\r\nBcc: e@x", "Acme Bcc: e@x"),
    "R2 an encoded word": ("=?utf-8?q?=0D=0ABcc=3A_e@x?=", "= ?utf-8?q?=0D=0ABcc=3A_e@x?="),
    "R3 lines by other names": ("a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g", "a b c d e f g"),
    "R4 half a character": ("Ac\ud83dme\x00", "Ac me"),
    "R5 an endless name": ("x" * 5000, "x" * (NAME_LIMIT - 1) + "…"),
    "R6 text turned round": ("Acme\u202egnp.exe\u2066", "Acme gnp.exe"),
    "R6 what cannot be seen": ("Ac\u200bme\ufeff", "Ac me"),
    "R13 a terminal's colours": ("\x1b[31mAcme", "[31mAcme"),
    "one letter written as two": ("Cafe\u0301", "Café"),
    "spaces of all kinds": ("  Acme\t\u00a0 \u3000Corp  ", "Acme Corp"),
    "a family is one picture": ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
    "a script that needs its joiner": ("می\u200cخواهم", "می\u200cخواهم"),
    "nothing left": ("\u200b\r\n", ""),
}


@pytest.mark.parametrize(("raw", "kept"), BREAKS.values(), ids=BREAKS)
def test_what_would_break_a_message_is_taken_out(raw: str, kept: str) -> None:
    assert clean(raw) == kept


@given(ANY, st.integers(1, 100))
def test_clean_text_is_one_visible_line_of_bounded_length_in_one_spelling(raw: str, limit: int) -> None:
    text = clean(raw, limit)
    assert len(text) <= limit
    assert text == unicodedata.normalize("NFC", text)
    assert text == text.strip()
    assert len(text.splitlines()) <= 1
    assert "=?" not in text
    assert not {unicodedata.category(char) for char in text} & {"Cc", "Cs", "Zl", "Zp"}
    bidi = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert not {unicodedata.bidirectional(char) for char in text} & bidi


@given(ANY, st.integers(1, 100))
def test_cleaning_twice_changes_nothing_more(raw: str, limit: int) -> None:
    once = clean(raw, limit)
    assert clean(once, limit) == once


@given(st.text(st.characters(categories=["L", "N"], max_codepoint=0x24F), max_size=NAME_LIMIT))
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    assert clean(name) == unicodedata.normalize("NFC", name)


def test_a_name_is_not_cut_through_a_letter() -> None:
    name = "x" * (NAME_LIMIT - 1) + "e\u0323\u0302\u0301" + "y"
    cut = clean(name)
    assert cut.endswith("…")
    assert not any(unicodedata.combining(char) for char in cut)
    assert clean("x" * (NAME_LIMIT - 2) + "👩\u200d👧y").removesuffix("…").endswith("x")


@given(ANY)
def test_clean_text_in_a_database_or_in_json_is_read_back_as_it_was(raw: str) -> None:
    text = clean(raw)
    with closing(sqlite3.connect(":memory:")) as connection:
        assert connection.execute("SELECT ?, length(?)", (text, text)).fetchone() == (text, len(text))
    connection.close()
    assert orjson.loads(orjson.dumps(text)) == text


@given(ANY)
def test_clean_text_in_a_metric_label_is_read_back_as_it_was(raw: str) -> None:
    text, registry = clean(raw), CollectorRegistry()
    Gauge("healthd_test", "A gauge.", ["name"], registry=registry).labels(text).set(1)
    (family,) = text_string_to_metric_families(generate_latest(registry).decode())
    assert [sample.labels for sample in family.samples] == [{"name": text}]
