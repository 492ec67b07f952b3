"""A customer's address leads to the customer, and never into our own network."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
import trustme

from healthd.outbound import (
    AddressRefused,
    AnswerTooLarge,
    guarded_client,
    is_loopback,
    may_call,
    read_limited,
    why_not,
)
from tests.loopback import Asked, answer, serving

ANYBODY = ("93.184.215.14", "8.8.8.8", "192.0.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1",
           "::ffff:8.8.8.8", "64:ff9b::808:808")  # fmt: skip
OURS = ("10.0.0.7", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1", "127.255.0.9", "100.64.0.1",
        "100.127.255.255", "::1", "fc00::1", "fd12:3456::1", "::ffff:127.0.0.1", "::ffff:10.1.2.3", "64:ff9b::7f00:1",
        "64:ff9b::a00:1")  # fmt: skip
NOBODYS = ("0.0.0.0", "0.1.2.3", "169.254.169.254", "192.0.0.8", "192.0.2.1", "198.18.0.1", "203.0.113.9", "224.0.0.1",
           "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::127.0.0.1", "fe80::1", "fe80::1%eth0", "ff02::1",
           "fec0::1", "fd00:ec2::254", "2001:db8::1", "2001:0:7f00:1::", "2002:7f00:1::1", "2002:a00:1::",
           "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "100::1",
           "3fff::1", "5f00::1", "", "acme.example")  # fmt: skip


@pytest.mark.parametrize("address", ANYBODY)
def test_an_address_of_the_internet_may_be_called(address: str) -> None:
    assert may_call(address)


@pytest.mark.parametrize("address", OURS)
def test_an_address_of_ours_may_be_called_only_where_that_is_allowed(address: str) -> None:
    assert not may_call(address)
    assert may_call(address, allow_private=True)


@pytest.mark.parametrize("address", NOBODYS)
def test_an_address_that_is_no_customers_is_never_called(address: str) -> None:
    assert not may_call(address)
    assert not may_call(address, allow_private=True)


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False),
     ("localhost.acme.example", False), ("acme.example", False), ("127.1", False)],
)  # fmt: skip
def test_this_machine_is_known_by_its_own_names(host: str, here: bool) -> None:
    assert is_loopback(host) is here


@dataclass
class Names:
    """A name server of our own. What it says of a name it says in turn, and the last for ever."""

    says: dict[str, list[Sequence[str]]]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.says:
            raise OSError("no such name")
        said = self.says[host]
        return said.pop(0) if len(said) > 1 else said[0]


def hello(asked: Asked) -> bytes:
    return answer(200, {"host": asked.headers["host"]}, {"content-type": "application/json"})


def certified(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize("behind", [["127.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["::ffff:127.0.0.1"]])
async def test_a_name_that_leads_inside_is_refused_before_anything_is_sent(behind: list[str]) -> None:
    connections: list[int] = []
    names = Names({"acme.example": [behind]})
    async with (
        serving(hello, connected=lambda: connections.append(1)) as address,
        guarded_client(timeout=5, resolve=names) as client,
    ):
        with pytest.raises(AddressRefused) as refused:
            await client.get(f"https://acme.example:{address.split(':')[1]}/")
    assert connections == []
    assert "127.0.0.1" not in str(refused.value)
    assert "acme" not in why_not(refused.value)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "017700000001", "127.0.0.1", "localhost"])
async def test_no_spelling_of_this_machine_gets_past(host: str) -> None:
    async with guarded_client(timeout=5) as client:
        with pytest.raises(AddressRefused):
            await client.get(f"https://{host}/")


async def test_a_name_that_changes_its_answer_gains_nothing(authority: trustme.CA) -> None:
    """The connection goes to what was checked; another look at the name would have led elsewhere."""
    names = Names({"acme.example": [["127.0.0.1"], ["169.254.169.254"]]})
    async with (
        serving(hello, tls=certified(authority, "acme.example")) as address,
        guarded_client(timeout=5, allow_private=True, tls=trusting(authority), resolve=names) as client,
    ):
        url = f"https://acme.example:{address.split(':')[1]}/"
        told = await client.get(url)
        assert told.json() == {"host": url.removeprefix("https://").rstrip("/")}
        assert names.asked == ["acme.example"]
        assert (await client.get(url)).status_code == 200, "the checked connection is kept"
        assert names.asked == ["acme.example"]
    async with guarded_client(timeout=5, allow_private=True, tls=trusting(authority), resolve=names) as client:
        with pytest.raises(AddressRefused):
            await client.get(url)


async def test_the_certificate_is_the_names_and_not_the_one_of_its_address(authority: trustme.CA) -> None:
    names = Names({"acme.example": [["127.0.0.1"]], "evil.example": [["127.0.0.1"]]})
    async with (
        serving(hello, tls=certified(authority, "acme.example")) as address,
        guarded_client(timeout=5, allow_private=True, tls=trusting(authority), resolve=names) as client,
    ):
        port = address.split(":")[1]
        assert (await client.get(f"https://acme.example:{port}/")).status_code == 200
        with pytest.raises(httpx2.ConnectError) as wrong:
            await client.get(f"https://evil.example:{port}/")
    assert why_not(wrong.value) == "no trusted TLS (hostname mismatch)"


async def test_a_stranger_s_certificate_is_not_trusted(authority: trustme.CA) -> None:
    names = Names({"acme.example": [["127.0.0.1"]]})
    async with (
        serving(hello, tls=certified(authority, "acme.example")) as address,
        guarded_client(timeout=5, allow_private=True, resolve=names) as client,
    ):
        with pytest.raises(httpx2.ConnectError) as wrong:
            await client.get(f"https://acme.example:{address.split(':')[1]}/")
    assert why_not(wrong.value).startswith("no trusted TLS")


async def test_plain_http_stays_on_this_machine() -> None:
    names = Names({"acme.example": [["127.0.0.1"]], "10.0.0.1": [["10.0.0.1"]]})
    async with serving(hello) as address:
        async with guarded_client(timeout=5, allow_private=True) as client:
            assert (await client.get(f"http://{address}/")).status_code == 200
        async with guarded_client(timeout=5, allow_private=True, resolve=names) as client:
            for host in names.says:
                with pytest.raises(AddressRefused, match="only https"):
                    await client.get(f"http://{host}:{address.split(':')[1]}/")


async def test_a_second_address_answers_where_the_first_does_not(authority: trustme.CA) -> None:
    names = Names({"acme.example": [["127.0.0.2", "127.0.0.1"]]})
    async with (
        serving(hello, tls=certified(authority, "acme.example")) as address,
        guarded_client(timeout=5, allow_private=True, tls=trusting(authority), resolve=names) as client,
    ):
        assert (await client.get(f"https://acme.example:{address.split(':')[1]}/")).status_code == 200


async def test_a_redirect_is_handed_back_and_not_followed() -> None:
    seen: list[str] = []

    def redirect(asked: Asked) -> bytes:
        seen.append(asked.path)
        return answer(302, b"", {"location": "/elsewhere"})

    async with serving(redirect) as address, guarded_client(timeout=5, allow_private=True) as client:
        assert (await client.get(f"http://{address}/")).status_code == 302
    assert seen == ["/"]


async def test_neither_proxies_nor_passwords_of_the_environment_are_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    (tmp_path / "netrc").write_text("default login ada password s3cr3t\n", "utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    seen: list[Asked] = []

    def look(asked: Asked) -> bytes:
        seen.append(asked)
        return answer(200)

    async with serving(look) as address, guarded_client(timeout=5, allow_private=True) as client:
        await client.get(f"http://{address}/")
    [asked] = seen
    assert asked.path == "/"
    assert "authorization" not in asked.headers


async def _read(said: bytes, most: int) -> bytes:
    async with (
        serving(lambda _: said) as address,
        guarded_client(timeout=5, allow_private=True) as client,
        client.stream("GET", f"http://{address}/") as response,
    ):
        return await read_limited(response, most)


async def test_an_answer_is_read_to_its_limit_and_no_further() -> None:
    assert await _read(answer(200, b"x" * 100), 100) == b"x" * 100
    with pytest.raises(AnswerTooLarge, match="larger than 99 bytes"):
        await _read(answer(200, b"x" * 100), 99)
    with pytest.raises(AnswerTooLarge, match="compressed"):
        await _read(answer(200, b"\x1f\x8b", {"content-encoding": "gzip"}), 100)


async def test_a_peer_that_is_silent_or_gone_is_told_in_words() -> None:
    async def silence(_: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serving(lambda _: silence) as address, guarded_client(timeout=0.2, allow_private=True) as client:
        with pytest.raises(httpx2.HTTPError) as slow:
            await client.get(f"http://{address}/")
    async with guarded_client(timeout=5, allow_private=True) as client:
        with pytest.raises(httpx2.HTTPError) as gone:
            await client.get(f"http://{address}/")
    async with guarded_client(timeout=5, resolve=Names({})) as client:
        with pytest.raises(httpx2.HTTPError) as unknown:
            await client.get("https://acme.example/")
    assert [why_not(one.value) for one in (slow, gone, unknown)] == [
        "no whole answer in time",
        "no connection",
        "no connection",
    ]
