"""Calls to addresses that a customer chose: never into our own network, whatever their names resolve to (SSRF).

A name is resolved once for each connection, every address behind it is checked, and the connection goes to the very
address that was checked; so a name that answers differently the second time (DNS rebinding) gains nothing. TLS and
``Host`` keep the name. Redirects are not followed, and proxies and ``.netrc`` of the environment are not used.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpcore2
import httpx2

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""A host and a port in, the addresses behind them out, the best first. Raises ``OSError`` where there are none."""

_PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_PRIVATE_6 = tuple(map(IPv6Network, ("::1/128", "fc00::/7")))
# Beyond these, the cloud's metadata services and the unspecified address among them, no customer has an endpoint.
_NOBODY = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
            "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        ),
    )
)  # fmt: skip
_METADATA_6 = IPv6Address("fd00:ec2::254")
_GLOBAL_6 = IPv6Network("2000::/3")
# Tunnels (Teredo in 2001::/23, 6to4) lead to an IPv4 address of somebody's choice; the others are for documents.
_NOBODY_6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_NAT64 = IPv6Network("64:ff9b::/96")


class AddressRefused(httpx2.ConnectError):
    """The host is not one that may be called from here. The text names neither the host nor its address."""


class AnswerTooLarge(httpx2.ReadError):
    """The answer is longer than it may be, or packed so that nobody can tell."""


def may_call(address: str, *, allow_private: bool = False) -> bool:
    """Whether a connection may go to this IP address. ``allow_private`` opens loopback, RFC 1918, CGNAT and ULA, and
    never link-local addresses, multicast, or the metadata service of a cloud.
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        embedded = _embedded(found)
        if embedded is None:
            return _may_call_6(found, allow_private)
        found = embedded
    if any(found in network for network in _PRIVATE):
        return allow_private
    return not any(found in network for network in _NOBODY)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for: mapped, or behind the well-known NAT64 prefix."""
    return IPv4Address(int(address) & 0xFFFF_FFFF) if address in _NAT64 else address.ipv4_mapped


def _may_call_6(address: IPv6Address, allow_private: bool) -> bool:
    if any(address in network for network in _PRIVATE_6):
        return allow_private and address != _METADATA_6
    return address in _GLOBAL_6 and not any(address in network for network in _NOBODY_6)


def is_loopback(host: str) -> bool:
    """Whether a host as written in a URL is this machine by its very name."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


async def resolve(host: str, port: int) -> Sequence[str]:
    """The system's answer."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("no host can be called so") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _Checked(httpcore2.AsyncNetworkBackend):
    """Connects to nothing but addresses that were checked."""

    def __init__(self, resolve: Resolve, *, allow_private: bool) -> None:
        self._resolve = resolve
        self._allow_private = allow_private
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolve(host, port)
                # One that leads inside spoils them all: such a name is a mistake or an attack, and is told as one.
                if not all(may_call(address, allow_private=self._allow_private) for address in addresses):
                    raise AddressRefused("the host is inside a private network, or at no address that can be called")
                # Each its share of the time: one that swallows all must not keep the others from being tried.
                share = None if timeout is None else timeout / max(len(addresses), 1)
                return await self._first(addresses, port, share, local_address, socket_options)
        except TimeoutError:
            raise httpcore2.ConnectTimeout("no connection in time") from None
        except OSError as error:
            raise httpcore2.ConnectError("the host's name leads nowhere") from error

    async def _first(
        self,
        addresses: Sequence[str],
        port: int,
        share: float | None,
        local_address: str | None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None,
    ) -> httpcore2.AsyncNetworkStream:
        options = list(socket_options or ())
        error: Exception = httpcore2.ConnectError("the host's name leads nowhere")
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, share, local_address, options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as found:
                error = found
        raise error

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        raise AddressRefused("a socket of this machine may not be called")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@functools.cache
def public_authorities(*, trust_env: bool = False) -> ssl.SSLContext:
    """What TLS connections to the world are checked against; reading it takes longer than all else of a client.
    ``trust_env``: the environment may name others (``SSL_CERT_FILE``).
    """
    return httpx2.create_ssl_context(trust_env=trust_env)


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """httpx2's transport over checked connections. Plain http goes to this machine only."""

    def __init__(
        self, *, allow_private: bool = False, tls: ssl.SSLContext | None = None, resolve: Resolve = resolve
    ) -> None:
        # Not the parent's: it has no place for a backend. A release that names the pool otherwise fails at the first
        # request, before anything is sent.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls or public_authorities(),
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=_Checked(resolve, allow_private=allow_private),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises ``AddressRefused`` and whatever else of ``httpx2.HTTPError`` comes in between."""
        if request.url.scheme != "https" and not is_loopback(request.url.host):
            raise AddressRefused("only https leaves this machine")
        return await super().handle_async_request(request)


def guarded_client(
    *,
    timeout: float,
    allow_private: bool = False,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    resolve: Resolve = resolve,
) -> httpx2.AsyncClient:
    """A client for addresses that are not ours. ``timeout`` is in seconds and for each operation: put a deadline of
    your own around a whole exchange, and read answers with ``read_limited``.
    """
    # It logs the address of every request, and such an address may hold a secret.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    return httpx2.AsyncClient(
        transport=GuardedTransport(allow_private=allow_private, tls=tls, resolve=resolve),
        headers={"accept-encoding": "identity", **(headers or {})},
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,
    )


async def read_limited(response: httpx2.Response, most: int) -> bytes:
    """The body of a streamed answer, of ``most`` bytes at the most. Raises ``AnswerTooLarge``, or as httpx2 does."""
    if response.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise AnswerTooLarge("the answer is compressed, which was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most:
            raise AnswerTooLarge(f"the answer is larger than {most} bytes")
    return bytes(body)


def why_not(error: Exception) -> str:
    """What went wrong with a call, in words that hold no address and no secret. For ``httpx2.HTTPError``,
    ``httpx2.InvalidURL``, ``TimeoutError`` and ``OSError``; the kind of error says enough of any other.
    """
    match error:
        case AddressRefused() | AnswerTooLarge():
            return str(error)
        case TimeoutError() | httpx2.TimeoutException():
            return "no whole answer in time"
        case _ if (tls := _tls_error(error)) is not None:
            return f"no trusted TLS ({tls})"
        case httpx2.ConnectError():
            return "no connection"
        case _:
            return f"no answer ({type(error).__name__})"


def _tls_error(error: BaseException | None) -> str | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            # OpenSSL's own words quote the host where the name is wrong.
            return "hostname mismatch" if error.verify_code in _WRONG_NAME else error.verify_message
        if isinstance(error, ssl.SSLError):
            return error.reason or "TLS failed"
        error = error.__cause__ or error.__context__
    return None


_WRONG_NAME = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
