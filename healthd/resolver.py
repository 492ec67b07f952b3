"""Asks the customer's own endpoint who is responsible for an account.

One signed POST by the Standard Webhooks specification, and one small JSON answer. Whoever calls falls back on what is
on record, or on the last answer that was kept, when this fails; so it fails soon, says why, and leaves an endpoint that
is down alone for a while.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
from standardwebhooks import Webhook as Signer

from healthd.contact_files import Channels, read_contact
from healthd.core.contacts import CONTACT_KEY, OWNER, Contact
from healthd.core.duration import parse_duration
from healthd.core.model import Target
from healthd.core.owners import Resolved, ResolvedLevel
from healthd.core.text import clean
from healthd.outbound import Resolve, guarded_client, is_loopback, read_limited, resolve, why_not

EVENT = "contacts.resolve"
ANSWER_LIMIT = 65_536
"""Bytes. Nine levels of twenty people fit in well."""
MOST_LEVELS = 9
MOST_CONTACTS = 20
"""In one level."""
MOST_LABELS = 50
AT_ONCE = 8
"""Questions on their way at the same time."""
KEPT = 10_000
"""Answers in memory."""
PAUSE = timedelta(seconds=30)
"""For how long an endpoint that does not answer is left alone."""

_TEXT = 200
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_TEXTS = ("name", "zone", "quiet_hours", "working_days", "language")


class ResolverUnavailable(Exception):
    """There is no usable answer. ``reason`` is for operators and holds no secret, address or name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Down(ResolverUnavailable):
    """The endpoint as a whole does not answer, whatever it is asked."""


@dataclass(frozen=True, slots=True)
class Question:
    """An account, and the profile that it is in. ``external_id`` is the customer's own key for the profile."""

    workspace: str
    account: str
    platform: str
    name: str
    username: str | None = None
    profile: str = ""
    external_id: str | None = None
    profile_name: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.workspace, self.profile, self.account

    def data(self) -> dict[str, Any]:
        profile = {"id": self.profile, "external_id": self.external_id, "name": self.profile_name}
        return {
            "workspace": self.workspace,
            "account": {
                "id": self.account, "platform": self.platform, "name": self.name, "username": self.username,
            },
            "profile": profile if self.profile else None,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What the endpoint says, and at which time. ``left_out`` tells what of it could not be used."""

    resolved: Resolved
    fetched_at: datetime
    left_out: tuple[str, ...] = ()


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Resolver:
    """One endpoint. ``timeout`` is in seconds and for a whole question; an answer counts for ``cache_for``.

    ``channels`` are the configured ones, each with its ``validate_address``. Raises ``ValueError`` where the secret is
    none that the specification knows.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        channels: Channels,
        timeout: float = 5.0,
        cache_for: timedelta = timedelta(minutes=15),
        allow_private: bool = False,
        now: Callable[[], datetime] = _utc_now,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve = resolve,
    ) -> None:
        self._url = url
        self._signer = _signer(secret)
        self._channels = channels
        self._timeout = timeout
        self._cache_for = cache_for
        self._now = now
        self._client = guarded_client(
            timeout=timeout,
            # The operator's own word: an address on loopback is private by its nature.
            allow_private=allow_private or is_loopback(httpx2.URL(url).host),
            headers={"user-agent": "healthd", "content-type": "application/json", "accept": "application/json"},
            tls=tls,
            resolve=resolve,
        )
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._answers: OrderedDict[tuple[str, str, str], Answer] = OrderedDict()
        self._asking: dict[tuple[str, str, str], asyncio.Task[Answer]] = {}
        self._pause: tuple[datetime, str] | None = None

    async def ask(self, question: Question) -> Answer:
        """Who is responsible, by the endpoint or by its answer of a short while ago. Those who ask the same at the same
        time share one question. Raises ``ResolverUnavailable``, nothing else.
        """
        answer = self._answers.get(question.key)
        if answer is not None and self._now() - answer.fetched_at < self._cache_for:
            return answer
        task = self._asking.get(question.key)
        if task is None:
            task = self._asking[question.key] = asyncio.create_task(self._ask(question))
            task.add_done_callback(lambda done: self._asked(question, done))
        return await asyncio.shield(task)

    def forget(self) -> None:
        """Asks again for everything, and at once, such as after the operator changed something."""
        self._answers.clear()
        self._pause = None

    async def close(self) -> None:
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    def _asked(self, question: Question, done: asyncio.Task[Answer]) -> None:
        del self._asking[question.key]
        # Looked at here, so that nobody hears of an error whose only listener has gone.
        if done.cancelled() or done.exception() is not None:
            return
        self._answers[question.key] = done.result()
        self._answers.move_to_end(question.key)
        if len(self._answers) > KEPT:
            self._answers.popitem(last=False)

    async def _ask(self, question: Question) -> Answer:
        async with self._at_once:
            if self._pause is not None and self._now() < self._pause[0]:
                raise ResolverUnavailable(f"{self._pause[1]}; it is asked again soon")
            try:
                return await self._exchange(question)
            except _Down as down:
                self._pause = self._now() + PAUSE, down.reason
                raise ResolverUnavailable(down.reason) from None

    async def _exchange(self, question: Question) -> Answer:
        at = self._now().astimezone(UTC)
        body = json.dumps({"type": EVENT, "timestamp": at.isoformat(timespec="milliseconds"), "data": question.data()})
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream(
                    "POST", self._url, content=body.encode(), headers=self._signed(at, body)
                ) as response,
            ):
                _check(response)
                content = await read_limited(response, ANSWER_LIMIT)
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, OSError, TimeoutError) as error:
            raise _Down(f"the call to the endpoint failed: {why_not(error)}") from None
        resolved, left_out = read_answer(content, self._channels)
        return Answer(resolved, at, left_out)

    def _signed(self, at: datetime, body: str) -> dict[str, str]:
        identity = f"ask_{secrets.token_hex(16)}"
        return {
            "webhook-id": identity,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": self._signer.sign(msg_id=identity, timestamp=at, data=body),
        }


def _signer(secret: str) -> Signer:
    try:
        return Signer(secret)
    except Exception:  # noqa: BLE001 - the library has several words for it, and some quote the secret
        raise ValueError(
            'is no secret of the Standard Webhooks kind: make one with `echo "whsec_$(openssl rand -base64 32)"`'
        ) from None


def _check(response: httpx2.Response) -> None:
    status = response.status_code
    if status >= 500 or status == 429:
        raise _Down(f"the endpoint answered {status}")
    if status in {401, 403}:
        raise _Down(f"the endpoint refused the question ({status}): does it know the secret?")
    if 300 <= status < 400:
        raise _Down(f"the endpoint redirects ({status}), which is not followed: set url to where it leads")
    if status != 200:
        raise ResolverUnavailable(f"the endpoint answered {status}")
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ResolverUnavailable("the answer is not application/json")


def read_answer(content: bytes, channels: Channels) -> tuple[Resolved, tuple[str, ...]]:
    """What an answer says, and what of it could not be used. Pure. Raises ``ResolverUnavailable`` for another shape."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise ResolverUnavailable("the answer is not JSON") from None
    if not isinstance(found, dict) or ("levels" in found) == ("contacts" in found):
        raise ResolverUnavailable('the answer must be an object with either "levels" or "contacts"')
    levels = _list(found["levels"], "levels", MOST_LEVELS) if "levels" in found else [found]
    reading = _Reading(channels)
    taken = tuple(level for number, entry in enumerate(levels) if (level := reading.level(number, entry)).keys)
    return Resolved(taken, reading.contacts, reading.labels(found.get("labels"))), tuple(reading.left_out)


class _Reading:
    """One answer being read. Its words about what is left out quote positions and channels, never addresses."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self.contacts: dict[str, Contact] = {}
        self.left_out: list[str] = []

    def level(self, number: int, entry: object) -> ResolvedLevel:
        where = f"levels[{number}]"
        level = _object(entry, where)
        people = _list(level.get("contacts"), f"{where}.contacts", MOST_CONTACTS)
        keys = [
            self._contact(f"{where}.contacts[{position}]", _object(one, f"{where}.contacts[{position}]"))
            for position, one in enumerate(people)
        ]
        return ResolvedLevel(
            tuple(dict.fromkeys(filter(None, keys))), self._after(f"{where}.after", level.get("after"))
        )

    def labels(self, found: object) -> Mapping[str, str]:
        told: dict[str, str] = {}
        for name, value in list(_object(found or {}, "labels").items())[:MOST_LABELS]:
            if isinstance(value, str) and _LABEL.fullmatch(name) and (text := clean(value, _TEXT)):
                told[name] = text
            else:
                self.left_out.append(f"label {clean(name)!r}: it must be a word with a text")
        return told

    def _contact(self, where: str, entry: Mapping[str, Any]) -> str:
        """The contact's key; empty where nobody could be reached."""
        given = entry.get("key")
        key = clean(str(given), _TEXT).lower() if isinstance(given, str | int) else ""
        usable = bool(CONTACT_KEY.fullmatch(key)) and key != OWNER
        if "addresses" not in entry:
            if not usable:
                self.left_out.append(f"{where}: it has neither addresses nor the key of a contact on record")
            return key if usable else ""
        addresses = list(self._addresses(where, entry["addresses"]))
        texts = {name: entry[name] for name in _TEXTS if isinstance(entry.get(name), str)}
        contact = read_contact(
            {**texts, "key": key if usable else _derived(key, addresses)},
            addresses,
            self._channels,
            lambda field, _message, _hint: self.left_out.append(f"{where}.{field}: it cannot be used"),
        )
        if not contact.addresses:
            self.left_out.append(f"{where}: it can be reached nowhere")
            return ""
        self.contacts[contact.key] = contact
        return contact.key

    def _addresses(self, where: str, found: object) -> Iterator[tuple[str, Target]]:
        for channel, said in _object(found, f"{where}.addresses").items():
            if channel not in self._channels:
                self.left_out.append(f"{where}: there is no channel {clean(channel)!r}")
                continue
            for address in said if isinstance(said, list) else [said]:
                if isinstance(address, str):
                    yield f"addresses.{channel}", Target(channel, address)
                else:
                    self.left_out.append(f"{where}.addresses.{channel}: it must be text")

    def _after(self, where: str, found: object) -> timedelta | None:
        if found is None:
            return None
        try:
            return parse_duration(found if isinstance(found, str) else "")
        except ValueError:
            self.left_out.append(f"{where}: it must be a span of time such as 2d")
            return None


def _derived(key: str, addresses: Sequence[tuple[str, Target]]) -> str:
    """A key for somebody who has none that can be written in a route: the same whenever it is asked for."""
    told = key or "\n".join(sorted(target.key for _, target in addresses))
    return f"resolved-{hashlib.sha256(told.encode('utf-8', 'replace')).hexdigest()[:16]}"


def _object(found: object, where: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ResolverUnavailable(f"the answer's {where} must be an object")
    return found


def _list(found: object, where: str, most: int) -> list[Any]:
    if not isinstance(found, list) or len(found) > most:
        raise ResolverUnavailable(f"the answer's {where} must be a list of {most} at the most")
    return found
