"""Mail servers on loopback: a real one (aiosmtpd), and one that misbehaves line by line."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

USERNAME, PASSWORD = "healthd", "pa55-s3cr3t"


@dataclass(frozen=True)
class Letter:
    sender: str
    recipients: list[str]
    raw: bytes
    encrypted: bool
    login: str | None


@dataclass
class Postmaster:
    """What the server says instead of 250, by SMTP verb, and what it took in."""

    refusals: dict[str, str] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    port: int = 0

    async def handle_MAIL(self, _: Any, __: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self.refusals.get("MAIL", "250 OK")

    async def handle_RCPT(self, _: Any, __: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802
        if "RCPT" not in self.refusals:
            envelope.rcpt_tos.append(address)
        return self.refusals.get("RCPT", "250 OK")

    async def handle_DATA(self, _: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if "DATA" not in self.refusals:
            login = session.auth_data.decode() if session.authenticated else None
            raw = envelope.original_content
            self.letters.append(Letter(envelope.mail_from, envelope.rcpt_tos, raw, session.ssl is not None, login))
        return self.refusals.get("DATA", "250 OK queued")


def _check_login(_: Any, __: Any, ___: Any, ____: Any, given: Any) -> AuthResult:
    right = isinstance(given, LoginPassword) and (given.login, given.password) == (
        USERNAME.encode(),
        PASSWORD.encode(),
    )
    return AuthResult(success=right, handled=False, auth_data=given.login if right else None)


@asynccontextmanager
async def mail_server(
    *,
    starttls: ssl.SSLContext | None = None,
    tls: ssl.SSLContext | None = None,
    login: bool = False,
    refusals: dict[str, str] | None = None,
) -> AsyncIterator[Postmaster]:
    """With ``starttls`` it takes no mail before the connection is encrypted; with ``login`` none before a log-in."""
    postmaster = Postmaster(refusals or {})
    loop = asyncio.get_running_loop()
    protocols: list[SMTP] = []

    def meet() -> SMTP:
        protocols.append(
            SMTP(
                postmaster,
                hostname="mail.acme.example",
                loop=loop,
                tls_context=starttls,
                require_starttls=starttls is not None,
                auth_required=login,
                authenticator=_check_login if login else None,
            )
        )
        return protocols[-1]

    server = await loop.create_server(meet, "127.0.0.1", 0, ssl=tls)
    postmaster.port = server.sockets[0].getsockname()[1]
    try:
        yield postmaster
    finally:
        server.close()
        for protocol in protocols:
            task = protocol._handler_coroutine
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await server.wait_closed()


HANG_UP, SILENCE = "hang up", "silence"


@dataclass
class Script:
    """A conversation: what is said to each verb. ``.`` stands for the end of the data, ``""`` for the greeting."""

    answers: dict[str, str]
    heard: list[str] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        verb = ""
        try:
            while await self._say(writer, verb) and verb != "QUIT":
                if verb == "DATA":
                    self.data.append(await reader.readuntil(b"\r\n.\r\n"))
                    verb = "."
                else:
                    verb = (await reader.readuntil(b"\r\n")).decode().split()[0].upper()
                    self.heard.append(verb)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _say(self, writer: asyncio.StreamWriter, verb: str) -> bool:
        default = {"": "220 mail.acme.example", "DATA": "354 go on", "QUIT": "221 bye"}
        said = self.answers.get(verb, default.get(verb, "250 OK"))
        if said == HANG_UP:
            return False
        if said == SILENCE:
            await asyncio.Event().wait()
        writer.write(said.encode() + b"\r\n")
        await writer.drain()
        return True


@asynccontextmanager
async def scripted_server(answers: dict[str, str]) -> AsyncIterator[Script]:
    script, tasks = Script(answers), set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(script.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
