"""What SmartlyQ's API says of the webhooks that it sends: who is to be called, and what became of each delivery.

https://docs.smartlyq.com/guides/webhooks
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlencode

import orjson
from pydantic import SecretStr

from healthd.core.model import Lane
from healthd.providers.base import (
    BadAnswer,
    Deliveries,
    Delivery,
    DeliveryStatus,
    NewSubscription,
    Subscription,
    Subscriptions,
    SubscriptionStatus,
    Trial,
)
from healthd.providers.fields import REF, read_ref, read_text, read_time

ROWS = 100
"""Deliveries on one page, the most that the API gives."""
LARGEST_PAYLOAD = 64 * 1024
"""Bytes of a payload that is taken from the log: as many as are taken from a webhook."""
LONGEST_URL = 2048
_WORDS = {
    # The list of the published contract says ``disabled`` where its other pages say ``paused``.
    "active": SubscriptionStatus.ACTIVE,
    "paused": SubscriptionStatus.PAUSED,
    "disabled": SubscriptionStatus.PAUSED,
    "failing": SubscriptionStatus.FAILING,
}

Said = tuple[Any, dict[str, Any], datetime]


class WebhookCalls(ABC):
    """The part of a client that is about webhooks; how a call is made is the client's."""

    @abstractmethod
    async def _get(self, path: str, endpoint: str, lane: Lane) -> Said: ...

    @abstractmethod
    async def _change(
        self, method: str, path: str, endpoint: str, body: Mapping[str, object] | None = None, *, once: str = ""
    ) -> Said: ...

    async def webhooks(self) -> Subscriptions:
        """All subscriptions of the workspace. Raises ``BadAnswer`` where a row cannot be read: one that is left out
        would look as if it were missing.
        """
        data, meta, _ = await self._get("/webhooks", "webhooks", Lane.BULK)
        rows = data.get("webhooks") if isinstance(data, dict) else None
        found = [_subscription(row) for row in rows] if isinstance(rows, list) else [None]
        good = [row for row in found if row is not None]
        if len(good) != len(found):
            raise BadAnswer("the list of webhooks cannot be read", request_id=read_text(meta.get("request_id")))
        return Subscriptions(tuple(good), frozenset(_names(data.get("events"))))

    async def create_webhook(self, url: str, events: Sequence[str]) -> NewSubscription:
        """Subscribes. The secret is told this once, and by nobody ever again."""
        body = {"url": url, "events": list(events)}
        # With its own key a repeated call gets the first one's answer, its secret too, where that got lost on the way.
        data, meta, _ = await self._change("POST", "/webhooks", "webhooks", body, once=secrets.token_hex(16))
        row, secret = _subscription(data), data.get("secret") if isinstance(data, dict) else None
        if row is None or not isinstance(secret, str) or not secret.strip():
            raise BadAnswer("the new webhook came without its secret", request_id=read_text(meta.get("request_id")))
        return NewSubscription(row, SecretStr(secret))

    async def update_webhook(
        self,
        ref: str,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        status: Literal["active", "paused"] | None = None,
    ) -> Subscription:
        """Changes what is given. Its secret stays."""
        given = {"url": url, "events": None if events is None else list(events), "status": status}
        body = {name: value for name, value in given.items() if value is not None}
        data, meta, _ = await self._change("PUT", f"/webhooks/{_in_path(ref)}", "webhooks", body)
        row = _subscription(data)
        if row is None or row.ref != ref:
            raise BadAnswer("the changed webhook cannot be read", request_id=read_text(meta.get("request_id")))
        return row

    async def delete_webhook(self, ref: str) -> None:
        await self._change("DELETE", f"/webhooks/{_in_path(ref)}", "webhooks")

    async def test_webhook(self, ref: str) -> Trial:
        """Lets the provider send one ``webhook.test``, and says what came back."""
        data, meta, _ = await self._change("POST", f"/webhooks/{_in_path(ref)}/test", "webhook_test")
        if not isinstance(data, dict) or not isinstance(data.get("delivered"), bool):
            raise BadAnswer("the outcome of the test cannot be read", request_id=read_text(meta.get("request_id")))
        return Trial(
            delivered=data["delivered"],
            event_id=read_text(data.get("event_id"), 200) or "",
            code=_code(data.get("response_code")),
            said=read_text(data.get("response_body"), 200) or "",
        )

    async def deliveries(
        self, status: DeliveryStatus, *, event: str | None = None, webhook: str | None = None, page: int = 1
    ) -> Deliveries:
        """One page of the log, the newest first. Rows that cannot be read are left out: each is about itself."""
        asked = {"status": status, "event": event, "webhook_id": webhook, "page": page, "per_page": ROWS}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        data, meta, _ = await self._get(f"/webhooks/logs?{query}", "webhook_logs", Lane.BULK)
        rows = data.get("deliveries") if isinstance(data, dict) else None
        if not isinstance(rows, list):
            raise BadAnswer("the log of deliveries is no list", request_id=read_text(meta.get("request_id")))
        pages = data.get("pagination")
        total = pages.get("total") if isinstance(pages, dict) else None
        found = tuple(row for row in map(_delivery, rows) if row is not None)
        return Deliveries(found, total if type(total) is int and total >= 0 else len(rows), len(rows) < ROWS)


def _subscription(row: Any) -> Subscription | None:
    ref = read_ref(row.get("id")) if isinstance(row, dict) else None
    url = row.get("url") if isinstance(row, dict) else None
    if ref is None or not isinstance(url, str):
        return None
    return Subscription(
        ref=ref,
        url=read_text(url, LONGEST_URL) or "",
        events=_names(row.get("events")),
        status=_WORDS.get(str(row.get("status")), SubscriptionStatus.UNKNOWN),
        triggered_at=read_time(row.get("last_triggered_at")),
        created_at=read_time(row.get("created_at")),
    )


def _names(value: object) -> tuple[str, ...]:
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()


def _delivery(row: Any) -> Delivery | None:
    if not isinstance(row, dict):
        return None
    event_id, event = (read_text(row.get(name), 200) for name in ("event_id", "event"))
    at = read_time(row.get("created_at"))
    if event_id is None or event is None or at is None:
        return None
    payload = row.get("payload")
    body = orjson.dumps(payload) if isinstance(payload, dict) and payload else b""
    return Delivery(event_id, event, at, body if len(body) <= LARGEST_PAYLOAD else b"", _code(row.get("response_code")))


def _code(value: object) -> int | None:
    return value if type(value) is int and 100 <= value <= 999 else None


def _in_path(ref: str) -> str:
    if not REF.fullmatch(ref):
        raise ValueError("a webhook's id is digits")
    return ref
