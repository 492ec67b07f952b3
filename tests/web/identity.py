"""An OpenID Connect provider on loopback: small, and as strict as a real one about what it is asked."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey

from tests.loopback import Answer, Asked, answer, serving

CLIENT, SECRET = "healthd & co", "s3cr3t/+ of a client: long enough"


def new_key(kid: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": kid, "use": "sig", "alg": "ES256"})


@dataclass
class Identity:
    """Tests set what it says of the person in front of it, and what is wrong with that."""

    now: Callable[[], datetime]
    issuer: str = ""
    key: ECKey = field(default_factory=lambda: new_key("first"))
    published: list[ECKey] = field(default_factory=list)
    header: dict[str, Any] = field(default_factory=lambda: {"alg": "ES256", "kid": "first"})
    person: dict[str, Any] = field(
        default_factory=lambda: {"sub": "248289", "email": "ada@acme.example", "email_verified": True}
    )
    wrong: dict[str, Any] = field(default_factory=dict)
    """Claims in place of the right ones; ``None`` leaves one out."""
    forge: Callable[[dict[str, Any]], str] | None = None
    says: dict[str, Any] = field(default_factory=dict)
    """In place of what stands in its configuration."""
    refusal: tuple[int, object] | None = None
    """What its token endpoint answers instead."""
    asked: list[str] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def respond(self, asked: Asked) -> Answer:
        path, _, query = asked.path.partition("?")
        self.asked.append(path)
        match path:
            case "/.well-known/openid-configuration":
                return answer(200, self._configuration())
            case "/keys":
                return answer(200, {"keys": [key.as_dict(private=False) for key in self.published or [self.key]]})
            case "/authorize":
                return self._authorize(dict(parse_qsl(query)))
            case "/token":
                return answer(*self._token(asked))
        return answer(404)

    def _configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        } | self.says

    def _authorize(self, query: dict[str, str]) -> bytes:
        """The person agrees at once."""
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        code = f"code-{len(self._codes)}"
        self._codes[code] = query
        back = urlencode({"code": code, "state": query["state"], "iss": self.issuer})
        return answer(303, headers={"location": f"{query['redirect_uri']}?{back}"})

    def _token(self, asked: Asked) -> tuple[int, object]:
        if self.refusal is not None:
            return self.refusal
        form = dict(parse_qsl(asked.body.decode()))
        if not self._is_client(asked, form):
            return 401, {"error": "invalid_client"}
        begun = self._codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        good = begun and begun["code_challenge"] == challenge.decode() and begun["redirect_uri"] == form["redirect_uri"]
        if begun is None or not good:
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "unused", "token_type": "Bearer", "id_token": self._id_token(begun["nonce"])}

    def _is_client(self, asked: Asked, form: dict[str, str]) -> bool:
        if "client_secret_post" in self.says.get("token_endpoint_auth_methods_supported", ()):
            return (form["client_id"], form.get("client_secret")) == (CLIENT, SECRET)
        given = base64.b64decode(asked.headers.get("authorization", "").removeprefix("Basic ")).decode()
        [(user, password)] = parse_qsl(given.replace(":", "=", 1), keep_blank_values=True)
        return (user, password) == (CLIENT, SECRET)

    def _id_token(self, nonce: str) -> str:
        at = int(self.now().timestamp())
        right = {"iss": self.issuer, "aud": CLIENT, "iat": at, "exp": at + 300, "nonce": nonce} | self.person
        claims = {name: value for name, value in (right | self.wrong).items() if value is not None}
        return self.forge(claims) if self.forge else self.signed(claims)

    def signed(self, claims: dict[str, Any]) -> str:
        return jwt.encode(self.header, claims, self.key, algorithms=[self.header["alg"]])


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _written(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))


def unsigned(claims: dict[str, Any]) -> str:
    """By hand, as the library would not do such a thing."""
    return _written({"alg": "none", "typ": "JWT"}, claims) + "."


def hs256(secret: bytes) -> Callable[[dict[str, Any]], str]:
    """Signs with a secret, whatever that is meant for."""

    def forge(claims: dict[str, Any]) -> str:
        text = _written({"alg": "HS256", "kid": "first"}, claims)
        return f"{text}.{_base64(hmac.digest(secret, text.encode(), hashlib.sha256))}"

    return forge


@asynccontextmanager
async def identity(now: Callable[[], datetime]) -> AsyncIterator[Identity]:
    made = Identity(now)
    async with serving(made.respond) as address:
        made.issuer = f"http://{address}"
        yield made


def path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"
