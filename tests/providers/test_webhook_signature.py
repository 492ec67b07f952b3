"""What proves that SmartlyQ sent a webhook, and what may be read out of one that is proven."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from healthd.core.model import Signal, Source
from healthd.providers.allowance import Allowance
from healthd.providers.base import Event, UnparsedWebhook, WebhookRefused
from healthd.providers.smartlyq import OLDEST_EVENT, SmartlyQ

CURRENT, PREVIOUS, STRANGER = "whsec_Y3VycmVudA==", "whsec_cHJldmlvdXM=", "whsec_c3RyYW5nZXI="
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
T = int(NOW.timestamp())
NAME = b"x-smartlyq-signature"
BODY = b'{"id": "evt_1", "event":"account.token_expired","created_at":"2026-11-24T11:59:58Z","data":{"account_id":7}}'

smartlyq = SmartlyQ(
    workspace="acme",
    api_key="sqk_test_secret",
    allowance=Allowance(),
    now=lambda: NOW,
    webhook_secrets=(CURRENT, PREVIOUS),
)

Pairs = list[tuple[bytes, bytes]]


def mac(t: int | bytes = T, body: bytes = BODY, key: str | bytes = CURRENT) -> bytes:
    stamp = t if isinstance(t, bytes) else b"%d" % t
    key = key if isinstance(key, bytes) else key.encode()
    return hmac.new(key, stamp + b"." + body, hashlib.sha256).hexdigest().encode()


def signed(t: int | bytes = T, body: bytes = BODY, key: str | bytes = CURRENT) -> bytes:
    return b"t=%s,v1=%s" % (t if isinstance(t, bytes) else b"%d" % t, mac(t, body, key))


def refusal(headers: dict[bytes, bytes] | Pairs, body: bytes = BODY) -> str | None:
    """Why a request is refused; ``None`` where it is let in."""
    try:
        smartlyq.verify(headers, body, NOW)
    except WebhookRefused as refused:
        return refused.reason
    return None


WRONG = b"0" * 64

LET_IN: dict[str, bytes] = {
    "as it is documented": signed(),
    "W42 the previous secret, while it is listed": signed(key=PREVIOUS),
    "W26 the order swapped": b"v1=%s,t=%d" % (mac(), T),
    "W26 a space after the comma": b"t=%d, v1=%s" % (T, mac()),
    "W26 tabs and spaces round the parts": b" t=%d\t,\tv1=%s " % (T, mac()),
    "W28 ten v1, the last one right": b"t=%d," % T + b"v1=%s," % WRONG * 9 + b"v1=%s" % mac(),
    "W28 sixteen v1, the first one right": b"t=%d,v1=%s" % (T, mac()) + b",v1=%s" % WRONG * 15,
    "W28 both secrets' signatures at once": b"t=%d,v1=%s,v1=%s" % (T, mac(key=PREVIOUS), mac()),
    "W28 a broken v1 beside a good one": b"t=%d,v1=zz,v1=%s" % (T, mac()),
    "W30 upper-case hexadecimal": b"t=%d,v1=%s" % (T, mac().upper()),
    "W30 mixed-case hexadecimal": b"t=%d,v1=%s" % (T, mac()[:32].upper() + mac()[32:]),
    "an unknown scheme beside v1": b"t=%d,v0=abc,v2=def,v1=%s" % (T, mac()),
    "W35 exactly 300 s old": signed(T - 300),
    "W36 exactly 300 s in the future": signed(T + 300),
}

REFUSED: dict[str, tuple[bytes, str]] = {
    "W23 empty": (b"", "malformed"),
    "W23 only commas": (b",,,", "malformed"),
    "W25 no t": (b"v1=%s" % mac(), "malformed"),
    "W25 no v1": (b"t=%d" % T, "malformed"),
    "W25 v0 alone": (b"t=%d,v0=%s" % (T, mac()), "malformed"),
    "W25 an unknown scheme alone": (b"t=%d,sha256=%s" % (T, mac()), "malformed"),
    "W25 names in upper case": (b"T=%d,V1=%s" % (T, mac()), "malformed"),
    "W25 a semicolon between": (b"t=%d;v1=%s" % (T, mac()), "malformed"),
    "W27 two t": (b"t=%d,t=%d,v1=%s" % (T, T, mac()), "malformed"),
    "W28 seventeen v1, the last one right": (b"t=%d" % T + b",v1=%s" % WRONG * 16 + b",v1=" + mac(), "malformed"),
    "W29 a byte beyond ASCII in the signature": (b"t=%d,v1=%s\xe9" % (T, mac()[:-1]), "mismatch"),
    "W29 full-width digits": (b"t=%d,v1=" % T + "０".encode() * 21 + b"0", "mismatch"),
    "W29 nothing but bytes beyond ASCII": (b"\xff\xfe\xe9", "malformed"),
    "W31 truncated": (b"t=%d,v1=%s" % (T, mac()[:-2]), "mismatch"),
    "W31 an odd number of digits": (b"t=%d,v1=%s" % (T, mac()[:-1]), "mismatch"),
    "W31 128 digits": (b"t=%d,v1=%s" % (T, mac() * 2), "mismatch"),
    "W31 no hexadecimal": (b"t=%d,v1=%s" % (T, b"g" * 64), "mismatch"),
    "W31 hexadecimal with spaces inside": (b"t=%d,v1=%s" % (T, mac()[:62] + b"  "), "mismatch"),
    "W31 empty": (b"t=%d,v1=" % T, "mismatch"),
    "W31 0x before it": (b"t=%d,v1=0x%s" % (T, mac()), "mismatch"),
    "W31 in base64": (b"t=%d,v1=%s" % (T, base64.b64encode(bytes.fromhex(mac().decode()))), "mismatch"),
    "W32 a megabyte": (b"t=%d," % T + b"v1=%s," % mac() * 15_000, "malformed"),
    "W35 301 s old": (signed(T - 301), "stale"),
    "W36 301 s in the future": (signed(T + 301), "stale"),
    "W36 the year 9999": (signed(253_402_300_799), "stale"),
    "W35 the epoch": (signed(0), "stale"),
    "W40 over the same JSON written anew": (signed(body=orjson.dumps(orjson.loads(BODY))), "mismatch"),
    "W41 over the body alone": (
        b"t=%d,v1=%s" % (T, hmac.new(CURRENT.encode(), BODY, hashlib.sha256).hexdigest().encode()),
        "mismatch",
    ),
    "W41 the old scheme's bare digest": (
        hmac.new(CURRENT.encode(), BODY, hashlib.sha256).hexdigest().encode(),
        "malformed",
    ),
    "W42 another tenant's secret": (signed(key=STRANGER), "mismatch"),
    "W43 the secret base64-decoded": (signed(key=base64.b64decode(CURRENT.removeprefix("whsec_"))), "mismatch"),
    "W43 the secret without its prefix": (signed(key=CURRENT.removeprefix("whsec_")), "mismatch"),
    "W44 the empty secret": (signed(key=b""), "mismatch"),
    "W45 the boundary shifted": (b"t=1,v1=%s" % mac(T, BODY), "mismatch"),
    "signed for another time": (b"t=%d,v1=%s" % (T + 1, mac()), "mismatch"),
    "signed with SHA-1": (
        b"t=%d,v1=%s" % (T, hmac.new(CURRENT.encode(), b"%d." % T + BODY, hashlib.sha1).hexdigest().encode()),
        "mismatch",
    ),
}

TIMES: dict[str, bytes] = {
    "empty": b"",
    "a word": b"abc",
    "a float": b"%d.0" % T,
    "an exponent": b"1e9",
    "nan": b"nan",
    "inf": b"inf",
    "negative": b"-%d" % T,
    "a plus": b"+%d" % T,
    "a space before": b" %d" % T,
    "a space inside": b"1 795",
    "underscores": b"1_795_521_600",
    "Arabic-Indic digits": "١٧٩٥٥٢١٦٠٠".encode(),
    "milliseconds": b"%d" % (T * 1000),
    "5000 digits": b"1" * 5000,
    "3000 digits": b"1" * 3000,
    "hexadecimal": b"0x6b059d00",
    "NUL": b"%d\0" % T,
    "a line feed": b"%d\n" % T,
}


@pytest.mark.parametrize("header", LET_IN.values(), ids=LET_IN.keys())
def test_lets_in(header: bytes) -> None:
    assert refusal([(b"host", b"x"), (NAME, header)]) is None
    assert refusal({NAME: header}) is None


@pytest.mark.parametrize(("header", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(header: bytes, reason: str) -> None:
    assert refusal([(NAME, header)]) == reason


@pytest.mark.parametrize("t", TIMES.values(), ids=TIMES.keys())
def test_refuses_a_validly_signed_time_that_is_not_plain_digits(t: bytes) -> None:
    assert refusal([(NAME, b"t=%s,v1=%s" % (t, mac(t)))]) == "malformed"


def test_w23_refuses_a_request_without_the_header() -> None:
    assert refusal([]) == "missing"
    assert refusal({}) == "missing"
    assert refusal([(b"x-signature", mac())]) == "missing"
    assert refusal([(b"x-smartlyq-signature-v2", signed())]) == "missing"


def test_w24_refuses_two_signature_headers_even_when_both_are_valid() -> None:
    assert refusal([(NAME, signed()), (NAME, signed())]) == "ambiguous"
    assert refusal([(NAME, signed()), (NAME, b"")]) == "ambiguous"


def test_w45_no_other_split_of_the_signed_text_is_accepted() -> None:
    text = b"%d." % T + b"7000.{}"
    good = hmac.new(CURRENT.encode(), text, hashlib.sha256).hexdigest().encode()
    assert refusal([(NAME, b"t=%d,v1=%s" % (T, good))], b"7000.{}") is None
    assert refusal([(NAME, b"t=%d.7000,v1=%s" % (T, good))], b"{}") == "malformed"
    assert refusal([(NAME, b"t=%d,v1=%s" % (T // 10, good))], b"%d.7000.{}" % (T % 10)) == "mismatch"


def test_w44_without_any_secret_nothing_is_let_in() -> None:
    bare = SmartlyQ(workspace="acme", api_key="k", allowance=Allowance(), now=lambda: NOW)
    with pytest.raises(WebhookRefused, match="mismatch"):
        bare.verify([(NAME, signed(key=b""))], BODY, NOW)


def test_w51_the_signature_is_over_bytes_whatever_they_are() -> None:
    for body in (b"", b"\xff\xfe\x00", b"\x1f\x8b\x08gzip", "ü".encode("utf-16"), bytes(range(256)) * 4):
        assert refusal([(NAME, signed(body=body))], body) is None
        assert refusal([(NAME, signed(body=body))], body + b" ") == "mismatch"


def test_w46_every_secret_is_compared_with_every_signature_through_compare_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def counting(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    assert refusal([(NAME, b"t=%d,v1=%s,v1=%s,v1=%s" % (T, mac(), WRONG, WRONG))]) is None
    assert len(compared) == 2 * 3
    assert {len(side) for pair in compared for side in pair} == {32}


def test_the_reason_of_a_refusal_names_no_secret_and_no_signature() -> None:
    for header, _ in REFUSED.values():
        with pytest.raises(WebhookRefused) as refused:
            smartlyq.verify([(NAME, header)], BODY, NOW)
        assert str(refused.value) in {"missing", "ambiguous", "malformed", "mismatch", "stale"}


_near_valid = st.lists(
    st.one_of(
        st.sampled_from([b"t=%d" % T, b"t=", b"v1=" + mac(), b"v1=", b"v1=" + WRONG, b"v0=1", b" ", b"="]),
        st.binary(max_size=80),
        st.integers(0, 10**14).map(lambda n: b"t=%d" % n),
        st.binary(min_size=64, max_size=64).map(lambda digits: b"v1=" + digits),
    ),
    max_size=20,
).map(b",".join)


@given(
    st.lists(
        st.tuples(st.sampled_from([NAME, b"host", NAME.upper()]), st.one_of(st.binary(), _near_valid)), max_size=3
    ),
    st.one_of(st.just(BODY), st.binary()),
)
def test_any_bytes_are_let_in_or_refused_and_nothing_else_happens(headers: Pairs, body: bytes) -> None:
    reason = refusal(headers, body)
    if reason is None:
        ours = [value for name, value in headers if name == NAME]
        assert body == BODY
        assert len(ours) == 1
        assert mac() in ours[0].lower()


@given(st.binary(max_size=200), st.integers(-300, 300), st.sampled_from([CURRENT, PREVIOUS]))
def test_whatever_was_signed_with_a_listed_secret_in_time_is_let_in(body: bytes, late: int, key: str) -> None:
    assert refusal([(NAME, signed(T + late, body, key))], body) is None


@given(st.integers(0, 10**12 - 1), st.binary(max_size=50))
def test_no_valid_signature_outlives_the_tolerance(t: int, body: bytes) -> None:
    assert refusal([(NAME, signed(t, body))], body) == (None if abs(t - T) <= 300 else "stale")


def event(name: str = "account.token_expired", **changes: Any) -> bytes:
    data = {"account_id": 7, "platform": "linkedin", "account_name": "Acme", "reason": "refresh failed"}
    envelope = {"id": "evt_1", "event": name, "created_at": "2026-11-24T11:59:58Z", "data": data}
    return orjson.dumps({**envelope, **changes})


def with_data(**changes: Any) -> bytes:
    return event(data={"account_id": 7, "platform": "linkedin", "account_name": "Acme", "reason": "gone", **changes})


def parse(body: bytes) -> Event:
    return smartlyq.parse(body, NOW)


def seen(body: bytes) -> Any:
    found = parse(body).observation
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "signal"),
    [
        ("account.token_expired", Signal.TOKEN_EXPIRED),
        ("account.disconnected", Signal.DISCONNECTED),
        ("account.connected", Signal.CONNECTED),
    ],
)
def test_understands_the_events_that_speak_of_an_account(name: str, signal: Signal) -> None:
    parsed = parse(event(name))
    found = parsed.observation
    assert (parsed.name, parsed.event_id, parsed.profile) == (name, "evt_1", None)
    assert found is not None
    assert (found.ref, found.signal, found.source) == ("7", signal, Source.WEBHOOK)
    assert found.at == datetime(2026, 11, 24, 11, 59, 58, tzinfo=UTC)
    assert (found.platform, found.name, found.reason, found.event_id) == (
        "linkedin",
        "Acme",
        "refresh failed",
        "evt_1",
    )
    assert found.asked_at is None
    assert found.paused is None


def test_understands_the_test_event_which_says_nothing_of_any_account() -> None:
    assert parse(event("webhook.test", data={"message": "hello"})) == Event("webhook.test", "evt_1", None)
    assert parse(event("webhook.test", data=None)).observation is None


def test_w59_an_event_nobody_knows_is_recognised_and_nothing_follows_from_it() -> None:
    for name in ("post.failed", "key.revoked", "comment.received", "account.renamed", "ACCOUNT.CONNECTED", ""):
        assert parse(event(name)) == Event(name, "evt_1", None)


def test_w57_the_name_of_an_event_can_be_stored_whatever_was_sent() -> None:
    name = parse(event("post\u0000.failed\r\n\u202e" + "x" * 500)).name
    assert name.isprintable()
    assert len(name) <= 80


def test_an_event_of_a_profile_carries_the_profile() -> None:
    assert parse(with_data(profile_id=128, profile_workspace_id=9)).profile == "128"
    assert parse(with_data(profile_id="128")).profile == "128"
    strange: list[Any] = [0, -1, 1.5, True, None, [], {}, "", "abc", "1" * 21, "../1"]
    for nonsense in strange:
        assert parse(with_data(profile_id=nonsense)).profile is None


@pytest.mark.parametrize(
    ("account_id", "ref"),
    [(1, "1"), ("123", "123"), (2**63 - 1, str(2**63 - 1)), (2**63, str(2**63)), (2**64 - 1, str(2**64 - 1))],
)
def test_w55_an_accounts_id_is_kept_as_text_however_large(account_id: int | str, ref: str) -> None:
    assert seen(with_data(account_id=account_id)).ref == ref


@pytest.mark.parametrize(
    "raw",
    [
        *("0", "-1", "1.0", "1e999", "1" * 21, "18446744073709551616", "1" * 5000, "true", "null", "[]", "{}"),
        *('""', '"0"', '"01"', '" 1"', '"1 "', '"١"', '"1e3"', '"../me"', '"1/health"', '"1\\u0000"', f'"{"1" * 21}"'),
    ],
)
def test_w55_what_is_no_id_leaves_the_webhook_unparsed(raw: str) -> None:
    with pytest.raises(UnparsedWebhook):
        parse(b'{"id":"evt_1","event":"account.connected","data":{"account_id":%s}}' % raw.encode())


UNREADABLE: dict[str, bytes] = {
    "W49 empty": b"",
    "W49 null": b"null",
    "W49 an array": b"[]",
    "W49 a string": b'"x"',
    "W49 a number": b"1",
    "W50 no JSON": b"t=1",
    "W50 truncated": BODY[:-3],
    "W50 trailing garbage": BODY + b"x",
    "W50 two documents": BODY + BODY,
    "W51 invalid UTF-8": BODY.replace(b"evt_1", b"evt_\xff"),
    "W52 a byte order mark": b"\xef\xbb\xbf" + BODY,
    "W52 UTF-16": BODY.decode().encode("utf-16"),
    "W53 arrays 200 000 deep": b"[" * 200_000,
    "W53 closed arrays 100 000 deep": b"[" * 100_000 + b"]" * 100_000,
    "W53 objects 100 000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "W54 NaN": BODY.replace(b"7}", b"NaN}"),
    "W54 Infinity": BODY.replace(b"7}", b"-Infinity}"),
    "W56 a lone surrogate": BODY.replace(b"evt_1", b"\\ud800"),
    "W56 a lone surrogate in bytes": BODY.replace(b"evt_1", b"\xed\xa0\x80"),
    "W57 a raw NUL": BODY.replace(b"evt_1", b"evt\x00"),
    "W60 no event": b'{"id":"evt_1","data":{"account_id":7}}',
    "W60 no data": b'{"id":"evt_1","event":"account.connected"}',
    "W60 no account_id": event(data={"platform": "x"}),
    "W81 data is a list": event(data=[{"account_id": 7}]),
    "W81 data is a string": event(data="7"),
    "the event is a number": b'{"id":"evt_1","event":7,"data":{"account_id":7}}',
    "the event is an object": b'{"id":"evt_1","event":{},"data":{"account_id":7}}',
    "the event is null": b'{"id":"evt_1","event":null,"data":{"account_id":7}}',
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_authentic_body_that_cannot_be_read_is_unparsed(body: bytes) -> None:
    with pytest.raises(UnparsedWebhook):
        parse(body)
    assert smartlyq.event_id(body)


def test_w58_the_last_of_two_equal_keys_wins_for_the_id_as_for_the_rest() -> None:
    body = b'{"id":"evt_a","id":"evt_b","event":"account.connected","data":{"account_id":1,"account_id":2}}'
    assert smartlyq.event_id(body) == parse(body).event_id == "evt_b"
    assert seen(body).ref == "2"


def test_w60_a_body_without_a_usable_id_is_recognised_by_its_digest() -> None:
    unusable: list[Any] = [None, 7, "", [], {}, "x" * 201, "a\nb", "a b", "';--", "../x", "é", "\u0000"]
    for claimed in unusable:
        body = event(id=claimed)
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        assert smartlyq.event_id(body) == parse(body).event_id == digest
        assert seen(body).event_id == digest


def test_the_event_id_of_a_repeated_delivery_is_the_same_and_of_another_body_is_not() -> None:
    assert smartlyq.event_id(BODY) == smartlyq.event_id(bytes(bytearray(BODY))) == "evt_1"
    assert smartlyq.event_id(event(id="evt_2")) != smartlyq.event_id(BODY)
    assert smartlyq.event_id(b"\xff") == smartlyq.event_id(b"\xff") != smartlyq.event_id(b"\xfe")


def test_w67_a_platform_that_is_no_word_is_other() -> None:
    assert seen(with_data(platform="LinkedIn")).platform == "linkedin"
    assert seen(with_data(platform="mastodon")).platform == "mastodon"
    for strange in ('x"} 1\n', "x" * 100_000, "🦋", "\u202elinkedin", "linked in", "a\u0000"):
        assert seen(with_data(platform=strange)).platform == "other"
    unnamed: list[Any] = ["", None, 7, [], {}]
    for none in unnamed:
        assert seen(with_data(platform=none)).platform is None


def test_w68_texts_are_cleaned_and_cut() -> None:
    found = seen(with_data(account_name="A\r\nBcc: x\u0000\u202e" + "y" * 10**6, reason="=?utf-8?q?=0D=0A?=" * 100))
    assert len(found.name) <= 80
    assert found.name.isprintable()
    assert len(found.reason) <= 200
    assert "=?" not in found.reason
    nameless: list[Any] = [None, 7, [], {}, "", "\u0000"]
    for none in nameless:
        assert seen(with_data(account_name=none)).name is None


@pytest.mark.parametrize(
    ("created_at", "at"),
    [
        ("2026-11-24T11:00:00Z", datetime(2026, 11, 24, 11, tzinfo=UTC)),
        ("2026-11-24T12:00:00+01:00", datetime(2026, 11, 24, 11, tzinfo=UTC)),
        ("2026-11-24T11:00:00.950Z", datetime(2026, 11, 24, 11, tzinfo=UTC)),
        ("2026-11-24 11:00:00", datetime(2026, 11, 24, 11, tzinfo=UTC)),
        ("2026-11-24T12:05:00Z", NOW + timedelta(minutes=5)),
        ("2026-08-27T12:00:00Z", datetime(2026, 8, 27, 12, tzinfo=UTC)),
        ("2026-11-24T12:05:01Z", NOW),
        ("9999-12-31T23:59:59Z", NOW),
        ("9999-12-31T23:59:59-23:59", NOW),
        ("0001-01-01T00:00:00+23:59", NOW),
        ("1970-01-01T00:00:00Z", NOW),
        ("2026-11-24T11:00:60Z", NOW),
        ("yesterday", NOW),
        ("", NOW),
        ("٢٠٢٦-11-24T11:00:00Z", NOW),
        ("2026-11-24T11:00:00Z" + " " * 100, NOW),
        (1795521600, NOW),
        (None, NOW),
        ([], NOW),
    ],
)
def test_w62_an_event_is_dated_by_itself_only_where_its_date_can_be_true(created_at: object, at: datetime) -> None:
    assert seen(event(created_at=created_at)).at == at


def test_w62_a_replay_from_the_end_of_the_providers_log_keeps_its_date() -> None:
    oldest = NOW - timedelta(days=90)
    assert oldest - timedelta(hours=2) > NOW - OLDEST_EVENT
    assert seen(event(created_at=oldest.isoformat())).at == oldest


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["account.connected", "evt_1", "2026-11-24T11:00:00Z", "9999-12-31T23:59:59-23:59"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_webhook = st.fixed_dictionaries(
    {},
    optional={
        "id": _json,
        "event": st.sampled_from(["account.token_expired", "account.disconnected", "account.connected", "x"]) | _json,
        "created_at": st.datetimes().map(datetime.isoformat) | _json,
        "data": _json
        | st.fixed_dictionaries(
            {},
            optional={
                "account_id": st.integers(1, 2**64 - 1) | _json,
                "platform": _json,
                "account_name": _json,
                "reason": _json,
                "profile_id": _json,
            },
        ),
    },
)
_bodies = st.one_of(st.binary(), _json.map(orjson.dumps), _webhook.map(orjson.dumps))
_damage: st.SearchStrategy[Callable[[bytes], bytes]] = st.one_of(
    st.just(lambda body: body),
    st.integers(0, 200).map(lambda at: lambda body: body[:at]),
    st.tuples(st.integers(0, 200), st.binary(max_size=4)).map(
        lambda cut: lambda body: body[: cut[0]] + cut[1] + body[cut[0] :]
    ),
)


@given(_bodies, _damage, st.integers(10**9, 4 * 10**9).map(lambda t: datetime.fromtimestamp(t, UTC)))
@example(b'{"event":"account.connected","created_at":"0001-01-01T00:00:00+23:59","data":{"account_id":1}}', bytes, NOW)
def test_any_bytes_are_parsed_or_unparsed_and_nothing_else_happens(
    body: bytes, damage: Callable[[bytes], bytes], now: datetime
) -> None:
    body = damage(body)
    event_id = smartlyq.event_id(body)
    assert 1 <= len(event_id) <= 200
    assert event_id == smartlyq.event_id(body)
    try:
        parsed = smartlyq.parse(body, now)
    except UnparsedWebhook:
        return
    assert parsed.event_id == event_id
    assert len(parsed.name) <= 80
    assert "\0" not in parsed.name
    found = parsed.observation
    if found is not None:
        assert found.ref.isascii()
        assert found.ref.isdigit()
        assert found.at is not None
        assert now - OLDEST_EVENT <= found.at <= now + timedelta(minutes=5)
