"""The customer's own endpoint is asked who is responsible, believed within limits, and never waited for long."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Signer
from standardwebhooks import WebhookVerificationError

from healthd.channels.email import EmailSettings
from healthd.core.contacts import Contact, Hours, parse_days, parse_quiet, parse_zone
from healthd.core.model import Target
from healthd.core.owners import ResolvedLevel
from healthd.resolver import ANSWER_LIMIT, Question, Resolver, ResolverUnavailable, read_answer
from tests.loopback import Answer, Asked, answer, serving

SECRET = "whsec_" + base64.b64encode(b"s3cr3t-of-thirty-two-bytes-or-so").decode()
QUESTION = Question("acme", "42", "youtube", "Rocket Skates", "rocketskates", "p7", "cust-17", "Wile E.")


def _slack(address: str) -> None:
    if address and not address.startswith("#"):
        raise ValueError(f"{address!r} is no Slack channel")


CHANNELS = {
    "mail": EmailSettings(type="email", host="mail.acme.example", sender="h@acme.example").validate_address,
    "slack": _slack,
}
ADA = {"key": "ada", "name": "Ada Lovelace", "addresses": {"mail": "ada@acme.example"}}


@dataclass
class Clock:
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.at


@dataclass
class Endpoint:
    """A customer's endpoint: what it was asked, and what it says next; the last thing it says for ever."""

    says: list[Answer]
    clock: Clock = field(default_factory=Clock)
    asked: list[Asked] = field(default_factory=list)
    address: str = ""
    resolver: Resolver = field(init=False)

    def respond(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        return self.says.pop(0) if len(self.says) > 1 else self.says[0]


def ok(body: object, content_type: str = "application/json") -> bytes:
    return answer(200, body, {"content-type": content_type})


@asynccontextmanager
async def endpoint(*says: Answer, patience: float = 5.0) -> AsyncIterator[Endpoint]:
    found = Endpoint(list(says))
    async with serving(found.respond) as address:
        found.address = address
        found.resolver = Resolver(
            f"http://{address}/owners?token=h1dden", SECRET, channels=CHANNELS, timeout=patience, now=found.clock
        )
        yield found
        await found.resolver.close()


async def refused(customer: Endpoint, question: Question = QUESTION) -> str:
    with pytest.raises(ResolverUnavailable) as wrong:
        await customer.resolver.ask(question)
    reason = wrong.value.reason
    assert not [secret for secret in (SECRET, "h1dden", customer.address, "127.0.0.1", "Rocket") if secret in reason]
    return reason


async def test_the_question_is_signed_and_says_what_it_is_about() -> None:
    async with endpoint(ok({"levels": []})) as customer:
        await customer.resolver.ask(QUESTION)
        [asked] = customer.asked
    assert (asked.method, asked.path) == ("POST", "/owners?token=h1dden")
    assert asked.headers["content-type"] == "application/json"
    said = Signer(SECRET).verify(asked.body, dict(asked.headers))
    assert said == {
        "type": "contacts.resolve",
        "timestamp": said["timestamp"],
        "data": {
            "workspace": "acme",
            "account": {"id": "42", "platform": "youtube", "name": "Rocket Skates", "username": "rocketskates"},
            "profile": {"id": "p7", "external_id": "cust-17", "name": "Wile E."},
        },
    }
    assert abs(datetime.fromisoformat(said["timestamp"]) - customer.clock.at) < timedelta(seconds=1)
    with pytest.raises(WebhookVerificationError):
        Signer("whsec_" + base64.b64encode(b"another").decode()).verify(asked.body, dict(asked.headers))


async def test_an_account_outside_any_profile_is_asked_for_without_one() -> None:
    async with endpoint(ok({"levels": []})) as customer:
        await customer.resolver.ask(Question("acme", "1", "x", "X"))
        assert json.loads(customer.asked[0].body)["data"]["profile"] is None


async def test_an_answer_becomes_contacts_levels_and_labels() -> None:
    said = {
        "levels": [
            {"contacts": [{**ADA, "addresses": {"mail": ["ada@acme.example", "a@home.example"], "slack": "#ada"},
                           "zone": "Europe/Berlin", "quiet_hours": "22:00-07:00", "working_days": "mon-fri",
                           "language": "DE"}, {"key": "office"}]},
            {"contacts": [{"name": "Bob", "addresses": {"slack": ""}}], "after": "36h"},
        ],
        "labels": {"tier": "gold"},
    }  # fmt: skip
    async with endpoint(ok(said, "Application/JSON; charset=utf-8")) as customer:
        found = await customer.resolver.ask(QUESTION)
    assert found.left_out == ()
    assert found.fetched_at == customer.clock.at
    (first, second), contacts = found.resolved.levels, found.resolved.contacts
    assert first == ResolvedLevel(("ada", "office"))
    assert second.after == timedelta(hours=36)
    assert found.resolved.labels == {"tier": "gold"}
    assert contacts["ada"] == Contact(
        "ada", "Ada Lovelace",
        (Target("mail", "ada@acme.example"), Target("mail", "a@home.example"), Target("slack", "#ada")),
        Hours(parse_zone("Europe/Berlin"), parse_quiet("22:00-07:00"), parse_days("mon-fri")), "de",
    )  # fmt: skip
    assert "office" not in contacts, "a key alone means a contact on record"
    [bob] = second.keys
    assert contacts[bob].addresses == (Target("slack"),)
    assert read_answer(json.dumps(said).encode(), CHANNELS)[0].levels[1].keys == (bob,), "it keeps the key it was given"


def test_contacts_alone_are_one_level() -> None:
    found, left_out = read_answer(json.dumps({"contacts": [ADA]}).encode(), CHANNELS)
    assert (found.levels, left_out) == ((ResolvedLevel(("ada",)),), ())


def test_what_cannot_be_used_is_left_out_and_told_without_an_address() -> None:
    said = {
        "levels": [
            {"contacts": [{"key": "nobody", "addresses": {"teams": "x@y", "mail": "no address"}}, {"name": "Zed"}]},
            {"after": "soon", "contacts": [
                {"key": "The Boss!", "name": "\u202eevil\r\nBcc: x", "zone": "Mars", "quiet_hours": "never",
                 "addresses": {"mail": ["boss@acme.example", "x@y\r\nBcc: z@y.example", 7]}},
                {"key": "owner", "addresses": {"slack": "#all"}},
            ]},
        ],
        "labels": {"tier": 5, "ok": "yes"},
    }  # fmt: skip
    found, left_out = read_answer(json.dumps(said).encode(), CHANNELS)
    assert left_out == (
        "levels[0].contacts[0]: there is no channel 'teams'",
        "levels[0].contacts[0].addresses.mail: it cannot be used",
        "levels[0].contacts[0]: it can be reached nowhere",
        "levels[0].contacts[1]: it has neither addresses nor the key of a contact on record",
        "levels[1].contacts[0].addresses.mail: it must be text",
        "levels[1].contacts[0].zone: it cannot be used",
        "levels[1].contacts[0].quiet_hours: it cannot be used",
        "levels[1].contacts[0].addresses.mail: it cannot be used",
        "levels[1].after: it must be a span of time such as 2d",
        "label 'tier': it must be a word with a text",
    )
    [level] = found.levels
    boss, everybody = (found.contacts[key] for key in level.keys)
    assert (boss.name, boss.addresses, boss.hours) == ("evil Bcc: x", (Target("mail", "boss@acme.example"),), Hours())
    assert everybody.key.startswith("resolved-"), "@owner is taken"
    assert found.labels == {"ok": "yes"}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (ok(b"<html>"), "the answer is not JSON"),
        (ok(b"[" * 60_000), "the answer is not JSON"),
        (ok([]), 'the answer must be an object with either "levels" or "contacts"'),
        (ok({}), 'the answer must be an object with either "levels" or "contacts"'),
        (ok({"levels": [], "contacts": []}), 'the answer must be an object with either "levels" or "contacts"'),
        (ok({"levels": {}}), "the answer's levels must be a list of 9 at the most"),
        (ok({"levels": [{"contacts": []}] * 10}), "the answer's levels must be a list of 9 at the most"),
        (ok({"levels": ["ada"]}), "the answer's levels[0] must be an object"),
        (ok({"levels": [{}]}), "the answer's levels[0].contacts must be a list of 20 at the most"),
        (ok({"contacts": [ADA] * 21}), "the answer's levels[0].contacts must be a list of 20 at the most"),
        (ok({"contacts": [{"addresses": []}]}), "the answer's levels[0].contacts[0].addresses must be an object"),
        (ok({"contacts": [ADA], "labels": []} | {"labels": "x"}), "the answer's labels must be an object"),
        (ok({"levels": []}, "text/html"), "the answer is not application/json"),
        (answer(404, {"levels": []}), "the endpoint answered 404"),
        (answer(204), "the endpoint answered 204"),
        (answer(401), "the endpoint refused the question (401): does it know the secret?"),
        (answer(302, b"", {"location": "http://127.0.0.1:1/"}),
         "the endpoint redirects (302), which is not followed: set url to where it leads"),
        (answer(503, {"levels": []}), "the endpoint answered 503"),
        (ok(b" " * (ANSWER_LIMIT + 1)), "the call to the endpoint failed: the answer is larger than 65536 bytes"),
        (answer(200, b"x", {"content-type": "application/json", "content-encoding": "gzip"}),
         "the call to the endpoint failed: the answer is compressed, which was not asked for"),
        (b"nonsense\r\n\r\n", "the call to the endpoint failed: no answer (RemoteProtocolError)"),
    ],
)  # fmt: skip
async def test_anything_but_a_good_answer_is_none(said: bytes, why: str) -> None:
    async with endpoint(said) as customer:
        assert await refused(customer) == why


async def test_an_endpoint_that_drips_is_not_waited_for() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 -\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with endpoint(drip, patience=0.2) as customer, asyncio.timeout(10):
        assert await refused(customer) == "the call to the endpoint failed: no whole answer in time"


async def test_nobody_there_is_told() -> None:
    async with endpoint(ok({"levels": []})) as customer:
        gone = customer.address
    resolver = Resolver(f"http://{gone}/", SECRET, channels=CHANNELS)
    with pytest.raises(ResolverUnavailable) as wrong:
        await resolver.ask(QUESTION)
    assert wrong.value.reason == "the call to the endpoint failed: no connection"
    await resolver.close()


async def test_an_address_inside_our_network_is_not_asked() -> None:
    async def inside(_host: str, _port: int) -> list[str]:
        return ["10.0.0.7"]

    resolver = Resolver("https://owners.acme.example/", SECRET, channels=CHANNELS, resolve=inside)
    with pytest.raises(ResolverUnavailable) as wrong:
        await resolver.ask(QUESTION)
    assert "inside a private network" in wrong.value.reason
    assert "10.0.0.7" not in wrong.value.reason
    await resolver.close()


async def test_an_answer_counts_for_a_while() -> None:
    async with endpoint(ok({"contacts": [ADA]}), ok({"levels": []})) as customer:
        first = await customer.resolver.ask(QUESTION)
        customer.clock.at += timedelta(minutes=14, seconds=59)
        assert await customer.resolver.ask(QUESTION) is first
        await customer.resolver.ask(Question("acme", "43", "youtube", "Anvils"))
        assert len(customer.asked) == 2, "another account is another question"
        customer.clock.at += timedelta(seconds=1)
        assert (await customer.resolver.ask(QUESTION)).resolved.levels == ()
        customer.resolver.forget()
        await customer.resolver.ask(QUESTION)
        assert len(customer.asked) == 4


async def test_who_asks_the_same_at_the_same_time_shares_one_question() -> None:
    async with endpoint(ok({"contacts": [ADA]})) as customer:
        found = await asyncio.gather(*(customer.resolver.ask(QUESTION) for _ in range(20)))
        assert len(customer.asked) == 1
        assert all(one is found[0] for one in found)


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others() -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def late(writer: asyncio.StreamWriter) -> None:
        reached.set()
        await go_on.wait()
        writer.write(ok({"contacts": [ADA]}))
        await writer.drain()

    async with endpoint(late) as customer:
        impatient = asyncio.create_task(customer.resolver.ask(QUESTION))
        patient = asyncio.create_task(customer.resolver.ask(QUESTION))
        await reached.wait()
        impatient.cancel()
        go_on.set()
        assert (await patient).resolved.levels == (ResolvedLevel(("ada",)),)
        assert impatient.cancelled()


async def test_an_endpoint_that_is_down_is_left_alone_for_a_while() -> None:
    async with endpoint(answer(503), ok({"contacts": [ADA]})) as customer:
        others = [Question("acme", str(number), "x", "X") for number in range(50)]
        assert await refused(customer) == "the endpoint answered 503"
        for other in others:
            assert await refused(customer, other) == "the endpoint answered 503; it is asked again soon"
        assert len(customer.asked) == 1
        customer.clock.at += timedelta(seconds=30)
        assert (await customer.resolver.ask(QUESTION)).resolved.levels


async def test_a_bad_answer_about_one_account_does_not_silence_the_others() -> None:
    async with endpoint(answer(404), ok({"contacts": [ADA]})) as customer:
        assert await refused(customer) == "the endpoint answered 404"
        assert (await customer.resolver.ask(Question("acme", "43", "x", "X"))).resolved.levels


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_%", "\u00e4"])
def test_a_secret_that_cannot_sign_is_refused_without_being_quoted(secret: str) -> None:
    with pytest.raises(ValueError, match="no secret of the Standard Webhooks kind") as wrong:
        Resolver("https://acme.example/", secret, channels={})
    assert not secret.strip("whsec_") or secret not in str(wrong.value)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["key", "name", "addresses", "mail", "slack", "contacts", "after", "zone", "labels", "x"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["levels", "contacts", "labels"]), JSON | st.lists(JSON, max_size=3)))
def test_no_answer_is_worse_than_none(said: dict[str, Any]) -> None:
    try:
        found, _ = read_answer(json.dumps(said).encode(), CHANNELS)
    except ResolverUnavailable:
        return
    for contact in found.contacts.values():
        assert contact.addresses
        for target in contact.addresses:
            CHANNELS[target.channel](target.address)
