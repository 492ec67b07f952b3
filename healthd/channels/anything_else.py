"""Whatever Apprise can reach: some 170 services, each by one URL."""

from __future__ import annotations

import asyncio
import logging
import re
import warnings
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr, field_validator

from healthd.channels.base import LONGEST, Content, Dead, Delivery, Message, Receipt, Retry, fill
from healthd.channels.sentences import joined
from healthd.channels.wording import Tone, Wording, Words, plain
from healthd.sections import Section

if TYPE_CHECKING:
    from apprise import Apprise

_LIVE = re.compile(r"(?<=[@<\]#])(?=\S)")
_GRACE = 1.0
ADDRESS = "{address}"
"""Stands in the URL where each recipient's own address goes."""
_ADDRESS = re.compile(r"[A-Za-z0-9@+._:-]{1,128}")
_LIKELY = ("1234567890", "+15551234567", "@ada_lovelace", "ada@acme.example")
"""What addresses look like: a URL is good if its service takes one of them."""
_SEVERITY = {Tone.BROKEN: "failure", Tone.SOON: "warning", Tone.FIXED: "success"}


def _service(url: str) -> Apprise:
    """The one service behind the URL. ``ValueError`` without the URL in it where there is none."""
    from apprise import Apprise, AppriseAsset  # noqa: PLC0415

    # Its log lines quote URLs and recipients. What we need of them comes with the result of each call.
    logging.getLogger("apprise").propagate = False
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    # Services that show a sender's name show ours instead of the library's.
    apprise = Apprise(asset=AppriseAsset(app_id="healthd", app_desc="healthd", app_url=""))
    with warnings.catch_warnings():
        # It loads all its services here, and some of them import what Python is about to drop.
        warnings.simplefilter("ignore", DeprecationWarning)
        added = apprise.add(url)
    if not added or len(apprise) == 0:
        scheme = re.match(r"[a-z][a-z0-9+.-]*(?=://)", url, re.IGNORECASE)
        named = f"the {scheme[0]}:// URL" if scheme else "the URL"
        raise ValueError(
            f"Apprise cannot use {named}: compare it with the form shown for the service at "
            "https://github.com/caronc/apprise/wiki"
        )
    if len(apprise) > 1:
        raise ValueError("the URL names several services: give each its own channel, so that each is retried by itself")
    return apprise


class AppriseSettings(Section):
    """A service that Apprise knows."""

    type: Literal["apprise"]
    url: SecretStr
    timeout: float = Field(default=30.0, gt=0, le=LONGEST)
    """Seconds for one message."""

    min_severity: Literal["info", "warning", "error", "critical"] = "info"

    @field_validator("url")
    @classmethod
    def _usable(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if url.count(ADDRESS) > 1:
            raise ValueError("write {address} once: it stands for the one recipient of a message")
        _any_service(url)
        return value

    def validate_address(self, address: str) -> None:
        """Whether a route may name this address. Raises ``ValueError`` saying what to write."""
        url = self.url.get_secret_value()
        if ADDRESS not in url:
            if address:
                raise ValueError(
                    "this Apprise channel has one recipient, which its url names: write only the channel's name, "
                    "or put {address} into the url where the recipient stands"
                )
            return
        if not address:
            raise ValueError("the channel's url has {address} in it: write the recipient behind the channel's name")
        if not _ADDRESS.fullmatch(address):
            raise ValueError(f"{address!r} cannot be an address here: use letters, digits and @ + . _ : - only")
        _service(at_address(url, address))

    def open(self, wording: Wording | None = None) -> AnythingElse:
        return AnythingElse(self, wording or plain())


def at_address(url: str, address: str) -> str:
    """The URL for one recipient."""
    return url.replace(ADDRESS, quote(address, safe=""))


def _any_service(url: str) -> Apprise:
    """The service behind the URL, for a made-up recipient. ``ValueError`` as ``_service``."""
    for address in _LIKELY[1:] if ADDRESS in url else ():
        with suppress(ValueError):
            return _service(at_address(url, address))
    return _service(at_address(url, _LIKELY[0]))


def rendered(wording: Wording, message: Message) -> Content:
    """The message as plain text."""
    words = wording.tell(message)
    return {
        "title": _literal(words.headline),
        "body": _literal("\n\n".join(filter(None, _parts(words, message.link)))),
        "severity": _SEVERITY[words.tone],
    }


class AnythingElse:
    """Meets ``Channel``."""

    def __init__(self, settings: AppriseSettings, wording: Wording) -> None:
        self._timeout = settings.timeout
        self._wording = wording
        self._url = settings.url.get_secret_value()
        self._service = lru_cache(maxsize=64)(_service)

    def render(self, notice: Message) -> Content:
        return rendered(self._wording, notice)

    def _of(self, delivery: Delivery) -> Apprise:
        """The service as this recipient is reached through it."""
        if ADDRESS not in self._url:
            return self._service(self._url)
        if not _ADDRESS.fullmatch(delivery.target.address):
            raise Dead("the address cannot be put into the channel's url")
        try:
            return self._service(at_address(self._url, delivery.target.address))
        except ValueError:
            raise Dead("the service does not take this address") from None

    async def send(self, delivery: Delivery) -> Receipt:
        service = self._of(delivery)
        try:
            # Apprise stops waiting at its own deadline and then says which service was slow; ours holds if it does not.
            async with asyncio.timeout(self._timeout + _GRACE):
                outcome = await service.async_notify(
                    title=delivery.content["title"],
                    body=fill(delivery.content["body"], delivery.link),
                    body_format="text",
                    notify_type=delivery.content["severity"],
                    timeout=self._timeout,
                )
        except TimeoutError:
            raise Retry(_TOO_SLOW, unknown=True) from None
        attempts = [attempt for service in outcome for attempt in service]
        # The result's own status counts a service marked optional as reached.
        if not any(attempts):
            if any(attempt.status.name == "TIMEOUT" for attempt in attempts):
                raise Retry(_TOO_SLOW, unknown=True)
            raise Retry(_reason(outcome))
        return {}

    async def check(self) -> str:
        [service] = _any_service(self._url)
        return f"the URL is one for {service.service_name}; only a message would show whether it works"

    async def close(self) -> None:
        """Apprise keeps nothing open."""


_TOO_SLOW = "the service did not answer in time"


def _parts(words: Words, link: str | None) -> tuple[str, ...]:
    rows = [f"- {' · '.join((row.title, row.platform, *row.notes))}" for row in words.short_rows if words.several]
    return (
        joined((words.happened, words.consequence)),
        "\n".join(filter(None, (*rows, words.more_short))),
        words.todo,
        "\n".join(f"{command.label}{words.colon} {command.value}" for command in words.commands),
        link if words.button and link is not None else "",
        words.link_note,
        "\n".join(f"{fact.label}{words.colon} {fact.value}" for fact in words.facts),
    )


def _literal(text: str) -> str:
    """Mentions and Markdown links come apart at a word joiner, since each service has its own way to escape them."""
    return _LIVE.sub("\u2060", text)


def _reason(outcome: Any) -> str:
    """Apprise tells why only in sentences that quote URLs and recipients; the status code is the safe part of them."""
    for entry in outcome.logs():
        if (code := re.search(r"\berror[= ](\d{3})\b", entry.message)) is not None:
            return f"the service answered {code[1]}"
    return "the service could not be reached, or refused the message"
