"""Whatever Apprise can reach: some 170 services, each by one URL."""

from __future__ import annotations

import asyncio
import logging
import re
import warnings
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from healthd.channels.base import LONGEST, Content, Delivery, Notice, Receipt, Retry, TroubleNotice, fill
from healthd.channels.wording import Tone, tell

if TYPE_CHECKING:
    from apprise import Apprise

_LIVE = re.compile(r"(?<=[@<\]#])(?=\S)")
_GRACE = 1.0
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


class AppriseSettings(BaseModel):
    """A service that Apprise knows."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    type: Literal["apprise"]
    url: SecretStr
    timeout: float = Field(default=30.0, gt=0, le=LONGEST)
    """Seconds for one message."""

    @field_validator("url")
    @classmethod
    def _usable(cls, value: SecretStr) -> SecretStr:
        _service(value.get_secret_value())
        return value

    def validate_address(self, address: str) -> None:
        """Whether a route may name this address. Raises ``ValueError`` saying what to write."""
        if address:
            raise ValueError("an Apprise channel has one recipient, which its url names: write only the channel's name")

    def open(self) -> AnythingElse:
        return AnythingElse(self)


class AnythingElse:
    """Meets ``Channel``."""

    def __init__(self, settings: AppriseSettings) -> None:
        self._timeout = settings.timeout
        self._apprise = _service(settings.url.get_secret_value())

    def render(self, notice: Notice | TroubleNotice) -> Content:
        words = tell(notice)
        facts = "\n".join(f"{fact.label}: {fact.value}" for fact in words.facts)
        link = notice.link if words.button and notice.link is not None else ""
        parts = (words.happened, words.consequence, words.todo, link, words.link_note, facts)
        return {
            "title": _literal(words.headline),
            "body": _literal("\n\n".join(filter(None, parts))),
            "severity": _SEVERITY[words.tone],
        }

    async def send(self, delivery: Delivery) -> Receipt:
        try:
            # Apprise stops waiting at its own deadline and then says which service was slow; ours holds if it does not.
            async with asyncio.timeout(self._timeout + _GRACE):
                outcome = await self._apprise.async_notify(
                    title=delivery.content["title"],
                    body=fill(delivery.content["body"], delivery.link),
                    body_format="text",
                    notify_type=delivery.content["severity"],
                    timeout=self._timeout,
                )
        except TimeoutError:
            raise Retry("the service did not answer in time") from None
        # The result's own status counts a service marked optional as reached.
        if not any(attempt for service in outcome for attempt in service):
            raise Retry(_reason(outcome))
        return {}

    async def check(self) -> str:
        [service] = self._apprise
        return f"the URL is one for {service.service_name}; only a message would show whether it works"

    async def close(self) -> None:
        """Apprise keeps nothing open."""


def _literal(text: str) -> str:
    """Mentions and Markdown links come apart at a word joiner, since each service has its own way to escape them."""
    return _LIVE.sub("\u2060", text)


def _reason(outcome: Any) -> str:
    """Apprise tells why only in sentences that quote URLs and recipients; the status code is the safe part of them."""
    for entry in outcome.logs():
        if (code := re.search(r"\berror[= ](\d{3})\b", entry.message)) is not None:
            return f"the service answered {code[1]}"
    return "the service could not be reached, or refused the message"
