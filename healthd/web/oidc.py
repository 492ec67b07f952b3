"""What an OpenID Connect provider says of somebody: a code with PKCE, state and nonce, and a checked ID token.

https://openid.net/specs/openid-connect-core-1_0.html, sections 3.1 and 3.1.3.7. No access token is kept or used.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx2
import orjson
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet, import_key

from healthd.access import OidcSettings
from healthd.core.text import clean
from healthd.outbound import guarded_client, is_loopback, read_limited, why_not

ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
)  # fmt: skip
"""None that anybody could sign with who knows no more than we do: neither ``none`` nor ``HS…``."""
WITHIN = 10.0
ANSWER_LIMIT = 512 * 1024
KEEP_METADATA = timedelta(hours=1)
NEW_KEYS_EVERY = timedelta(minutes=1)
LEEWAY = 60
"""Seconds by which the provider's clock may differ from ours."""


class Unavailable(Exception):
    """The provider could not be asked, or its answers make no sense. The text says why, and holds no address."""


class Refused(Exception):
    """What came back proves nothing. ``reason`` is a word for the record."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Pending:
    """What has to come back with somebody who was sent to the provider; ``wanted`` is where they want to go."""

    state: str
    nonce: str
    verifier: str
    wanted: str


@dataclass(frozen=True, slots=True)
class Person:
    """``user`` is an e-mail address that the provider has checked, or empty; ``name`` is for the record alone."""

    name: str
    user: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Metadata:
    authorization: str
    token: str
    keys: str
    by_post: bool
    fetched_at: datetime


class Oidc:
    """One provider. ``redirect_uri`` is where it sends people back."""

    def __init__(self, settings: OidcSettings, redirect_uri: str, now: Callable[[], datetime]) -> None:
        self._settings, self._redirect_uri, self._now = settings, redirect_uri, now
        tls = ssl.create_default_context(cafile=settings.ca_file) if settings.ca_file else None
        # The operator chose it, and many stand in the operator's own network.
        self._http = guarded_client(timeout=WITHIN, allow_private=True, tls=tls)
        self._metadata: _Metadata | None = None
        self._keys: tuple[KeySet, datetime] | None = None

    async def close(self) -> None:
        await self._http.aclose()

    async def begin(self, wanted: str) -> tuple[str, Pending]:
        """The address to send somebody to, and what to remember meanwhile. Raises ``Unavailable``."""
        found = await self._provider()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        pending = Pending(state, nonce, verifier, wanted)
        challenge = hashlib.sha256(pending.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(self._settings.scopes),
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return f"{found.authorization}{'&' if '?' in found.authorization else '?'}{urlencode(asked)}", pending

    async def finish(self, pending: Pending, answer: Mapping[str, str]) -> Person:
        """Who came back, by the query that they came with. Raises ``Refused`` or ``Unavailable``."""
        if not hmac.compare_digest(answer.get("state", "").encode("utf-8", "replace"), pending.state.encode()):
            raise Refused("state")
        if answer.get("iss", self._settings.issuer) != self._settings.issuer:
            raise Refused("issuer")
        if "error" in answer or not answer.get("code"):
            raise Refused("denied")
        claims = await self._claims(await self._id_token(answer["code"], pending.verifier))
        self._check(claims, pending.nonce)
        return self._person(claims)

    async def _id_token(self, code: str, verifier: str) -> str:
        found = await self._provider()
        chosen, secret = self._settings, self._settings.client_secret.get_secret_value()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": verifier,
            "client_id": chosen.client_id,
        }
        # The specification has both encoded as in a form before they are put together.
        auth = None if found.by_post else httpx2.BasicAuth(quote_plus(chosen.client_id), quote_plus(secret))
        if found.by_post:
            form["client_secret"] = secret
        status, said = await self._ask("POST", found.token, data=form, auth=auth)
        if status != 200:
            error = said.get("error")
            if error in {"invalid_grant", "invalid_request"}:
                raise Refused("code")
            refused = status == 401 or error in {"invalid_client", "unauthorized_client"}
            raise Unavailable("it refuses client_id or client_secret" if refused else f"it answered {status}")
        token = said.get("id_token")
        if not isinstance(token, str):
            raise Unavailable("its answer holds no ID token")
        return token

    async def _claims(self, token: str) -> dict[str, Any]:
        keys = await self._key_set()
        try:
            try:
                return jwt.decode(token, keys, algorithms=ALGORITHMS).claims
            except InvalidKeyIdError:
                # A key that we have not seen: the provider has changed its keys, or somebody made one up.
                return jwt.decode(token, await self._key_set(anew=True), algorithms=ALGORITHMS).claims
        except (JoseError, ValueError, TypeError, KeyError):
            raise Refused("signature") from None

    def _check(self, claims: dict[str, Any], nonce: str) -> None:
        chosen = self._settings
        registry = jwt.JWTClaimsRegistry(
            now=int(self._now().timestamp()), leeway=LEEWAY,
            iss={"essential": True, "value": chosen.issuer}, aud={"essential": True, "value": chosen.client_id},
            exp={"essential": True}, iat={"essential": True}, sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )  # fmt: skip
        try:
            registry.validate(claims)
        except JoseError as error:
            raise Refused(f"claim: {clean(str(error), 60)}") from None
        if not isinstance(claims["nonce"], str):
            raise Refused("nonce")
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else chosen.client_id) != chosen.client_id:
            raise Refused("azp")

    def _person(self, claims: Mapping[str, Any]) -> Person:
        """A name that people choose themselves is for the record, and only beside what the provider gave them."""
        email, subject, chosen = claims.get("email"), clean(str(claims["sub"]), 100), claims.get("preferred_username")
        user = clean(email, 200) if isinstance(email, str) and claims.get("email_verified") in (True, "true") else ""
        name = user or (f"{clean(chosen, 80)} ({subject})" if isinstance(chosen, str) and chosen else subject)
        return Person(name, user, _texts(_claim(claims, self._settings.groups_claim)))

    async def _provider(self) -> _Metadata:
        now = self._now()
        if self._metadata is not None and now - self._metadata.fetched_at < KEEP_METADATA:
            return self._metadata
        issuer = self._settings.issuer
        status, said = await self._ask("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if status != 200:
            raise Unavailable(f"its configuration was answered with {status}")
        if said.get("issuer") != issuer:
            raise Unavailable("it calls itself otherwise than access.oidc.issuer does, to the letter")
        ways = said.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        self._metadata = _Metadata(
            authorization=_endpoint(said, "authorization_endpoint"),
            token=_endpoint(said, "token_endpoint"),
            keys=_endpoint(said, "jwks_uri"),
            by_post="client_secret_basic" not in ways and "client_secret_post" in ways,
            fetched_at=now,
        )
        return self._metadata

    async def _key_set(self, *, anew: bool = False) -> KeySet:
        now = self._now()
        if self._keys is not None:
            keys, fetched_at = self._keys
            if now - fetched_at < (NEW_KEYS_EVERY if anew else KEEP_METADATA):
                return keys
        status, said = await self._ask("GET", (await self._provider()).keys)
        if status != 200:
            raise Unavailable(f"its keys were answered with {status}")
        self._keys = _public_keys(said.get("keys")), now
        return self._keys[0]

    async def _ask(self, method: str, url: str, **more: Any) -> tuple[int, dict[str, Any]]:
        """The status and the JSON object of an answer, an empty one for anything else."""
        try:
            async with (
                asyncio.timeout(WITHIN),
                self._http.stream(method, url, headers={"accept": "application/json"}, **more) as response,
            ):
                body = await read_limited(response, ANSWER_LIMIT)
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError) as error:
            raise Unavailable(why_not(error)) from None
        try:
            said = orjson.loads(body)
        except ValueError:
            said = None
        return response.status_code, said if isinstance(said, dict) else {}


def _endpoint(said: Mapping[str, Any], name: str) -> str:
    found = said.get(name)
    try:
        parts = urlsplit(found) if isinstance(found, str) else None
        safe = parts is not None and (parts.scheme == "https" or is_loopback(parts.hostname or ""))
    except ValueError:
        safe = False
    if not safe:
        raise Unavailable(f"its configuration names no https address as {name}")
    return str(found)


def _public_keys(found: object) -> KeySet:
    """The keys that sign; those that cannot be read belong to somebody else's purpose."""
    keys = []
    for one in found if isinstance(found, list) else []:
        if isinstance(one, dict) and one.get("kty") in {"RSA", "EC", "OKP"} and one.get("use", "sig") == "sig":
            try:
                keys.append(import_key(one))
            except (JoseError, ValueError, TypeError, KeyError):
                continue
    if not keys:
        raise Unavailable("it publishes no key that signs")
    return KeySet(keys)


def _claim(claims: Mapping[str, Any], name: str) -> object:
    """The claim of that name, or along its dots: Keycloak has ``realm_access.roles``."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()
