"""Which errors of posts speak of a dead grant, whose account is meant, and what of a message may be kept."""

from __future__ import annotations

import pytest

from healthd.core.model import State
from healthd.core.post_failures import AUTH_CODES, Meant, is_about_grant, meant, without_secrets

H, X, S, E, D, U = (
    State.HEALTHY, State.EXPIRING, State.SUSPECT, State.EXPIRED, State.DISCONNECTED, State.UNKNOWN,
)  # fmt: skip

OF_THE_GRANT = (
    "TOKEN_EXPIRED", "token_expired", "token-expired", "INVALID_TOKEN", "ACCESS_TOKEN_EXPIRED", "TOKEN_REVOKED",
    "invalid_grant", "UNAUTHORIZED", "UNAUTHORISED", "AUTH_FAILED", "AUTH_ERROR", "AUTHENTICATION_REQUIRED",
    "AUTHORIZATION_ERROR", "OAuthException", "SESSION_EXPIRED", "REAUTH_REQUIRED", "RECONNECT_REQUIRED",
    "ACCOUNT_DISCONNECTED", "ACCOUNT_NOT_CONNECTED", "PERMISSION_DENIED", "MISSING_PERMISSIONS", "INSUFFICIENT_SCOPE",
    "INVALID_CREDENTIALS", "FORBIDDEN", "401", "HTTP 403",
)  # fmt: skip
OF_THE_POST = (
    "", "MEDIA_TOO_LARGE", "RATE_LIMITED", "DUPLICATE_POST", "CAPTION_TOO_LONG", "AUTHOR_BLOCKED", "PLATFORM_ERROR",
    "INTERNAL_ERROR", "TIMEOUT", "4031", "500", "NOT_FOUND", "UNSUPPORTED_FORMAT", "TOO_MANY_TOKENS", "*", "[A-Z]",
)  # fmt: skip


@pytest.mark.parametrize("code", OF_THE_GRANT)
def test_such_a_code_speaks_of_the_grant(code: str) -> None:
    assert is_about_grant(code)


@pytest.mark.parametrize("code", OF_THE_POST)
def test_such_a_code_speaks_of_the_post(code: str) -> None:
    assert not is_about_grant(code)


def test_the_operators_own_list_takes_the_place_of_ours() -> None:
    assert is_about_grant("E17", ("E1?",))
    assert not is_about_grant("TOKEN_EXPIRED", ("E1?",))
    assert not any(is_about_grant(code, ()) for code in AUTH_CODES)


@pytest.mark.parametrize(
    ("states", "whose"),
    [
        ([], Meant.NOBODY),
        *(([state], Meant.ONE) for state in (H, X, S, E, D, U)),
        ([H, X], Meant.SEVERAL),
        ([H, S, U], Meant.SEVERAL),
        ([H, E], Meant.EXPLAINED),
        ([D, H, H], Meant.EXPLAINED),
        ([E, D], Meant.EXPLAINED),
    ],
    ids=str,
)
def test_a_failure_is_about_the_only_account_there_and_about_none_where_there_are_several(
    states: list[State], whose: Meant
) -> None:
    assert meant(states) is whose


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("Error validating access token: the session has expired.", None),
        ("see https://graph.example.com/me?access_token=EAAB123 for more", "see … for more"),
        ("token EAABsbCS1iHgBAKZCZCVhZBZAz0eNvfZA was refused", "token … was refused"),
        ("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc", "Bearer …"),
        ("公開できません", None),
        ("Berechtigungsueberpruefungsverfahren", None),
    ],
)
def test_a_message_is_kept_without_what_opens_anything(message: str, kept: str | None) -> None:
    assert without_secrets(message) == (message if kept is None else kept)
