"""Posts that could not be published, as evidence: which errors speak of a dead grant, and whose account is meant.

The provider names the post and the platform, and not the account. So a failure is never more than a reason to look.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase

from healthd.core.model import BROKEN, State

AUTH_CODES = (
    "TOKEN_*", "*_TOKEN", "*TOKEN_EXPIRED*", "*TOKEN_REVOKED*", "*TOKEN_INVALID*", "*INVALID_TOKEN*",
    "*INVALID_GRANT*", "*UNAUTHORI[SZ]ED*", "*UNAUTHENTICATED*", "NOT_AUTHENTICATED", "AUTH", "AUTH_*", "*_AUTH",
    "*AUTHENTICATION*", "*AUTHORI[SZ]ATION*", "*OAUTH*", "*SESSION_EXPIRED*", "*REAUTH*", "*RECONNECT*",
    "*DISCONNECTED*", "*NOT_CONNECTED*", "*REVOKED*", "*PERMISSION*", "*SCOPE*", "*CREDENTIAL*", "FORBIDDEN",
    "401", "403", "HTTP_401", "HTTP_403",
)  # fmt: skip
"""Codes that speak of the grant, ``*`` standing for anything. The provider documents no list of its codes, so these are
the words that platforms use; one too many costs one question to the API.
"""

CANDIDATES = 20
"""Accounts among which a failure is searched for; more of them are not asked because of one post."""
LOOK_APART = timedelta(seconds=15)
"""Between the questions to accounts of which any may be meant."""
LOOK_AGAIN = timedelta(minutes=5)
"""So long one answer about an account stands against further posts that fail."""
CONNECTED_BUT = timedelta(hours=24)
"""Two posts that fail within so long, for an account that reads as connected, are worth a word to the operator."""

_NO_WORD = re.compile(r"[^A-Z0-9]+")
_ADDRESS = re.compile(r"\b[a-z]{1,20}://\S+", re.IGNORECASE)
_LONG = re.compile(r"[\w.+/=-]{20,}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PostFailure:
    """A post that failed on one platform. ``at`` is on the provider's clock; ``retryable`` is ``None`` where unsaid."""

    post: str
    platform: str
    code: str
    message: str
    retryable: bool | None
    at: datetime


class Meant(StrEnum):
    """Whose account a failure is about, as far as anybody can tell."""

    ONE = "one"
    SEVERAL = "several"
    """Any of several that are well."""
    EXPLAINED = "explained"
    """There are several, and one that is broken already explains it."""
    NOBODY = "nobody"


TAKEN_FOR = ("grant", "connected", *(one.value for one in Meant if one is not Meant.ONE), "other")
"""What a failure is taken for, as a metric's label: one account's grant, the same of one that reads as connected, the
reason why it is no one account's, or the post's own.
"""


def is_about_grant(code: str, patterns: Iterable[str] = AUTH_CODES) -> bool:
    """Whether an error's code says that the account's permission is gone. Case and punctuation do not matter."""
    word = _NO_WORD.sub("_", code.upper()).strip("_")
    return any(fnmatchcase(word, pattern.upper()) for pattern in patterns)


def meant(states: Sequence[State]) -> Meant:
    """Whom a failure is about, from the states of the accounts that publish there."""
    if len(states) <= 1:
        return Meant.ONE if states else Meant.NOBODY
    return Meant.EXPLAINED if any(state in BROKEN for state in states) else Meant.SEVERAL


def without_secrets(message: str) -> str:
    """The message without addresses and without what is long enough to be a token: platforms quote both."""
    return _LONG.sub(_hidden, _ADDRESS.sub("…", message))


def _hidden(found: re.Match[str]) -> str:
    """Words have no digits, however long."""
    return "…" if any(sign.isdigit() for sign in found[0]) else found[0]
