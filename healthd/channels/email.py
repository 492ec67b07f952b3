"""Mail over SMTP: text and HTML, one recipient per message, one connection per message."""

from __future__ import annotations

import asyncio
import hashlib
import html
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from healthd.channels.base import LONGEST, Content, Dead, Delivery, Message, Receipt, Retry, fill
from healthd.channels.wording import Wording, plain
from healthd.sections import Section

if TYPE_CHECKING:
    from email.message import EmailMessage

    import aiosmtplib

_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_ATOMS = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = re.compile(rf"{_ATOMS}(\.{_ATOMS})*")
_DOMAIN = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
_MAILBOX = re.compile(r'(?:"?(?P<name>[^<>"]*?)"?\s*<(?P<address>[^<>]+)>|(?P<bare>[^<>\s]+))')
_HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAME_LIMIT = 64
_CONNECT_TIMEOUT = 20.0
_QUIT_TIMEOUT = 2.0


def parse_address(text: str) -> str:
    """The address as it goes over the wire. Raises ``ValueError`` saying what is wrong with it."""
    local, at, domain = text.rpartition("@")
    if _HIDDEN.search(text) or not at or "@" in local:
        raise ValueError(f"{text!r} is no mail address: write it as ada@acme.example")
    with suppress(UnicodeError):
        domain = domain.encode("idna").decode("ascii")
    if not _DOMAIN.fullmatch(domain):
        raise ValueError(f"{text!r} has no valid domain after the @: write it as ada@acme.example")
    if not _LOCAL.fullmatch(local) or len(local) > 64 or len(local) + len(domain) > 253:
        raise ValueError(
            f"{text!r} cannot be written to: before the @ healthd takes up to 64 ASCII letters, digits and "
            "the usual signs, without quotes or spaces"
        )
    return f"{local}@{domain}"


def parse_mailbox(text: str) -> tuple[str, str]:
    """``"healthd <healthd@acme.example>"`` as display name and address; the name may be missing."""
    match = _MAILBOX.fullmatch(text.strip())
    if match is None or _HIDDEN.search(text) or "=?" in text:
        raise ValueError(f"{text!r} is no sender: write it as healthd <healthd@acme.example>")
    name = (match["name"] or "").strip()
    if len(name) > _NAME_LIMIT:
        raise ValueError(f"the sender's name is longer than {_NAME_LIMIT} characters: shorten it")
    return name, parse_address(match["address"] or match["bare"])


class EmailSettings(Section):
    """A mail server to send through."""

    type: Literal["email"]
    host: str = Field(min_length=1, pattern=r"^[A-Za-z0-9.:_-]+$")
    port: int | None = Field(default=None, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: SecretStr | None = None
    sender: str
    reply_to: str | None = None
    ca_file: Path | None = None
    timeout: float = Field(default=90.0, gt=0, le=LONGEST)
    """Seconds for one message from dialling to the final answer, which RFC 1047 advises to wait for patiently."""
    min_severity: Literal["info", "warning", "error", "critical"] = "info"

    @field_validator("sender", "reply_to")
    @classmethod
    def _mailbox(cls, value: str | None) -> str | None:
        if value is not None:
            parse_mailbox(value)
        return value

    @field_validator("ca_file")
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                ssl.create_default_context(cafile=value)
            except OSError as error:
                raise ValueError(
                    f"no certificates could be read from {value}: it must be a PEM file that healthd may read"
                ) from error
        return value

    @model_validator(mode="after")
    def _login(self) -> EmailSettings:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together: set both, or neither")
        if self.username is not None and self.security == "none" and not _is_loopback(self.host):
            raise ValueError('the password would travel in clear: set security = "starttls" or "tls"')
        return self

    def validate_address(self, address: str) -> None:
        """Whether a route may name this address. Raises ``ValueError`` saying what to write."""
        if not address:
            raise ValueError("a mail channel needs a recipient: write it as mail:ada@acme.example")
        parse_address(address)

    def open(self, wording: Wording | None = None) -> Email:
        return Email(self, wording or plain())


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


class Email:
    """Meets ``Channel``."""

    def __init__(self, settings: EmailSettings, wording: Wording) -> None:
        self._settings = settings
        self._wording = wording
        self._port = settings.port or _PORTS[settings.security]
        self._tls = None if settings.security == "none" else ssl.create_default_context(cafile=settings.ca_file)

    def render(self, notice: Message) -> Content:
        mail = self._wording.mail(notice)
        return {"subject": mail.subject, "text": mail.text, "html": mail.html}

    async def send(self, delivery: Delivery) -> Receipt:
        try:
            recipient = parse_address(delivery.target.address)
            message = compose(self._settings, delivery, recipient)
        except ValueError as error:
            # Its text may quote what it could not take, and trying again would not change that.
            raise Dead(f"the message cannot be written as mail ({type(error).__name__})") from None
        async with self._connected() as exchange:
            await exchange.hand_over(parse_mailbox(self._settings.sender)[1], recipient, message)
        return {"message_id": _message_id(delivery.notice_id, self._settings)}

    async def check(self) -> str:
        async with self._connected() as exchange:
            await exchange.server.noop()
            tls = exchange.server.get_transport_info("ssl_object")
        settings = self._settings
        secured = f"{tls.version()}, certificate valid" if tls is not None else "without TLS"
        login = "log-in accepted" if settings.username is not None else "no log-in configured"
        return f"{settings.host}:{self._port} answers: {secured}, {login}"

    async def close(self) -> None:
        """Nothing is kept open between messages."""

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[_Exchange]:
        """A server ready for one exchange within the deadline. What goes wrong comes out as ``Retry`` or ``Dead``."""
        import aiosmtplib  # noqa: PLC0415

        settings = self._settings
        server = aiosmtplib.SMTP(
            hostname=settings.host,
            port=self._port,
            use_tls=settings.security == "tls",
            start_tls=settings.security == "starttls",
            tls_context=self._tls,
            username=settings.username,
            password=settings.password.get_secret_value() if settings.password is not None else None,
            timeout=settings.timeout,
        )
        exchange = _Exchange(server)
        try:
            async with asyncio.timeout(settings.timeout):
                await server.connect(timeout=min(settings.timeout, _CONNECT_TIMEOUT))
                yield exchange
            # What was said before stands, even to a server that does not take its leave.
            with suppress(aiosmtplib.SMTPException, OSError):
                await server.quit(timeout=_QUIT_TIMEOUT)
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise _verdict(error, settings, in_the_open=exchange.in_the_open) from None
        finally:
            server.close()


@dataclass
class _Exchange:
    """One conversation. ``in_the_open`` while a message is under way and the server has not said what became of it."""

    server: aiosmtplib.SMTP
    in_the_open: bool = False

    async def hand_over(self, sender: str, recipient: str, message: bytes) -> None:
        server = self.server
        sizes = [f"size={len(message)}"] if server.supports_extension("size") else []
        await server.mail(sender, options=sizes)
        await server.rcpt(recipient)
        self.in_the_open = True
        await server.data(message)
        self.in_the_open = False


def compose(settings: EmailSettings, delivery: Delivery, recipient: str) -> bytes:
    """The message as it goes over the wire: the same bytes however often it is sent. ``ValueError`` if it cannot be."""
    from email.headerregistry import Address  # noqa: PLC0415
    from email.message import EmailMessage  # noqa: PLC0415

    from healthd.channels.mail_headers import mail_policy  # noqa: PLC0415

    content, link = delivery.content, delivery.link
    name, sender = parse_mailbox(settings.sender)
    message = EmailMessage(policy=mail_policy())
    message["From"] = Address(name, addr_spec=sender)
    message["To"] = Address(addr_spec=recipient)
    if settings.reply_to is not None:
        reply_name, reply_to = parse_mailbox(settings.reply_to)
        message["Reply-To"] = Address(reply_name, addr_spec=reply_to)
    message["Subject"] = content["subject"]
    message["Date"] = delivery.created_at
    message["Message-ID"] = _message_id(delivery.notice_id, settings)
    if delivery.thread is not None:
        message["In-Reply-To"] = message["References"] = _message_id(delivery.thread, settings)
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    # Quoted-printable keeps the message in ASCII with short lines, whatever the server can do.
    message.set_content(fill(content["text"], link), cte="quoted-printable")
    message.add_alternative(fill(content["html"], link, escape_html), subtype="html", cte="quoted-printable")
    message.set_boundary(f"healthd-{hashlib.sha256(delivery.notice_id.encode()).hexdigest()[:32]}")
    data = message.as_bytes()
    _expect_headers(data, message)
    return data


def _message_id(notice_id: str, settings: EmailSettings) -> str:
    return f"<{notice_id}@{parse_mailbox(settings.sender)[1].rpartition('@')[2]}>"


def _expect_headers(data: bytes, message: EmailMessage) -> None:
    """What arrives must be the headers that were set: some Pythons write more when a name is crafted so."""
    from email.parser import BytesHeaderParser  # noqa: PLC0415
    from email.policy import compat32  # noqa: PLC0415

    if BytesHeaderParser(policy=compat32).parsebytes(data).keys() != message.keys():
        raise ValueError("the message came out with other headers than were set")


def escape_html(link: str) -> str:
    """The link as it stands in an attribute or a text of HTML."""
    return html.escape(link, quote=True)


def _verdict(error: Exception, settings: EmailSettings, *, in_the_open: bool) -> Retry | Dead:
    """What an error means for the message. Answers of servers often quote the address, so only their codes are kept."""
    import aiosmtplib as smtp  # noqa: PLC0415

    host = settings.host
    match error:
        case smtp.SMTPRecipientRefused():
            return _refused("the recipient", error.code, error.message)
        case smtp.SMTPDataError():
            return _refused("the message", error.code, error.message)
        case smtp.SMTPAuthenticationError():
            reason = f"{host} refused the log-in ({error.code}): check username and password"
        case smtp.SMTPSenderRefused():
            reason = f"{host} refused the sender ({_codes(error.code, error.message)}): check sender and log-in"
        case smtp.SMTPResponseException():
            reason = f"{host} answered {_codes(error.code, error.message)}"
        case TimeoutError():
            reason = f"{host} did not answer in time"
        case _ if (tls := _tls_error(error)) is not None:
            reason = f"no trusted TLS with {host} ({tls}): check host, security and ca_file"
        case OSError():
            reason = f"no connection to {host}, or it was lost ({_os_error(error)})"
        case _:
            reason = f"{host} does not offer what is configured: check security, username and password"
    return Retry(reason, unknown=in_the_open)


_SIGN_IN_FIRST = frozenset({530, 534, 535, 538})


def _refused(what: str, code: int, message: str) -> Retry | Dead:
    """Refusals are final from 500 on, except those that the operator can mend.

    Those are: no log-in, no permission to relay, and (RFC 3463, X.7.X) a policy that this sender or this machine fails.
    """
    codes = _codes(code, message)
    reason = f"{what} was refused ({codes})"
    if code in _SIGN_IN_FIRST or "relay" in message.lower():
        return Retry(f"{reason}: the server relays only after a log-in, check username and password")
    if " 5.7." in codes:
        return Retry(f"{reason}: its policy is against this sender, check its SPF, DKIM and DMARC, and block lists")
    return Dead(reason) if code >= 500 else Retry(reason)


def _codes(code: int, message: str) -> str:
    enhanced = re.match(r"[245]\.\d{1,3}\.\d{1,3}(?!\S)", message)
    return f"{code} {enhanced[0]}" if enhanced else str(code)


def _tls_error(error: BaseException | None) -> str | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        if isinstance(error, ssl.SSLError):
            return error.reason or "TLS failed"
        error = error.__cause__ or error.__context__
    return None


def _os_error(error: BaseException) -> str:
    """The first system error beneath the library's own, by its kind: the text may hold anything."""
    cause = error.__cause__
    return type(cause if isinstance(cause, OSError) else error).__name__
