"""Whoever an identity provider knows is let in, and nothing that only looks like its word lets anybody in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme
from structlog.testing import capture_logs

from tests.tidy import tidy
from tests.web.identity import CLIENT, SECRET, Identity, hs256, identity, new_key, path_of, unsigned
from tests.web.site import NO_TLS
from tests.web.test_access import BEGIN, HERE, PAGE, Door, door

USERS = 'users = { "ada@acme.example" = "admin" }'


@dataclass
class Way:
    """A browser that is about to go to the provider and back."""

    there: Door
    provider: Identity
    http: httpx2.AsyncClient
    outside: httpx2.AsyncClient

    async def go(self, wanted: str = "/accounts") -> str:
        """Where the provider sends the person back to, with the code."""
        led = await self.http.get("/sign-in/oidc", params={"next": wanted})
        assert led.status_code == 303, led.text
        back = await self.outside.get(led.headers["location"])
        return path_of(back.headers["location"])

    async def there_and_back(self) -> httpx2.Response:
        return await self.http.get(await self.go())

    async def who(self) -> dict[str, Any]:
        answer = await self.http.get("/api/v1/things")
        return dict(answer.json()) if answer.is_success else {}


@cache
def _authority() -> bytes:
    """One authority instead of the whole world's, which take their time to load."""
    return trustme.CA().cert_pem.bytes()


@asynccontextmanager
async def way(folder: Path, grants: str = USERS, **options: str) -> AsyncIterator[Way]:
    async with identity(lambda: BEGIN) as provider:
        (folder / "ca.pem").write_bytes(_authority())
        options |= {"ca_file": f'"{folder / "ca.pem"}"'}
        more = "".join(f"{name} = {value}\n" for name, value in options.items())
        sections = {
            "access": f'url = "{HERE}"',
            "access.oidc": f'issuer = "{provider.issuer}"\nclient_id = "{CLIENT}"\nclient_secret = "{SECRET}"\n'
            f"{more}{grants}",
        }
        async with (
            door(folder, sections) as there,
            there.client(**PAGE) as http,
            httpx2.AsyncClient(trust_env=False, verify=NO_TLS) as outside,
        ):
            provider.now = lambda: there.now
            yield Way(there, provider, http, outside)


async def test_a_person_signs_in_there_and_comes_back_to_where_they_wanted(tmp_path: Path) -> None:
    async with way(tmp_path) as on:
        assert 'href="/sign-in/oidc?next=/accounts"' in (await on.http.get("/sign-in?next=/accounts")).text
        answer = await on.there_and_back()
        assert (answer.status_code, answer.headers["location"]) == (303, "/accounts")
        who = await on.who()
        assert (who["who"], who["role"], who["by"]) == ("oidc:ada@acme.example", "admin", "session")
        assert ("oidc:ada@acme.example", "sign_in") in await on.there.audit()
        assert on.there.heard == ["oidc"]
        proof = {"csrf": who["csrf"]}
        assert (await on.http.post("/api/v1/things", data=proof)).status_code == 200


GIVEN: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "an address that the provider has checked": (USERS, {}, "admin"),
    "an address that it has not checked": (USERS, {"email_verified": False}, None),
    "an address of which it does not say": (USERS, {"email_verified": None}, None),
    "an address that is no text": (USERS, {"email": ["ada@acme.example"]}, None),
    "a name that people choose themselves": (USERS, {"email": None, "preferred_username": "ada@acme.example"}, None),
    "a domain": ('domains = { "acme.example" = "viewer" }', {}, "viewer"),
    "a domain that is not checked": ('domains = { "acme.example" = "viewer" }', {"email_verified": False}, None),
    "a group": ('groups = { ops = "operator" }', {"groups": ["all", "ops"]}, "operator"),
    "a group alone": ('groups = { ops = "operator" }', {"groups": "ops", "email": None}, "operator"),
    "groups of another kind": ('groups = { ops = "operator" }', {"groups": [7, None, {"ops": 1}]}, None),
    "another group": ('groups = { ops = "operator" }', {"groups": ["ops2"]}, None),
    "nobody we know": (USERS, {"email": "eve@acme.example"}, None),
}


@pytest.mark.parametrize(("grants", "claims", "role"), GIVEN.values(), ids=GIVEN)
async def test_what_the_provider_says_of_somebody_gives_them_their_role(
    tmp_path: Path, grants: str, claims: dict[str, Any], role: str | None
) -> None:
    async with way(tmp_path, grants) as on:
        on.provider.wrong = claims
        answer = await on.there_and_back()
        assert answer.status_code == (303 if role else 403)
        assert (await on.who()).get("role") == role


async def test_groups_may_stand_within_another_claim(tmp_path: Path) -> None:
    async with way(tmp_path, 'groups = { ops = "operator" }', groups_claim='"realm_access.roles"') as on:
        on.provider.person = {"sub": "7", "preferred_username": "ada", "realm_access": {"roles": ["ops"]}}
        await on.there_and_back()
        assert (await on.who())["who"] == "oidc:ada (7)"


def _by_the_public_key(provider: Identity) -> None:
    provider.forge = hs256(provider.key.as_pem(private=False))


def _tampered(provider: Identity) -> None:
    def forge(claims: dict[str, Any]) -> str:
        good = provider.signed(claims | {"email": "eve@acme.example"})
        head, _, signature = good.split(".")
        return f"{head}.{provider.signed(claims).split('.')[1]}.{signature}"

    provider.forge = forge


def _nonce_in_a_list(provider: Identity) -> None:
    provider.forge = lambda claims: provider.signed(claims | {"nonce": [claims["nonce"], "x"]})


def _claims(**wrong: Any) -> Callable[[Identity], None]:
    return lambda provider: provider.wrong.update(wrong)


def _forged(forge: Callable[[dict[str, Any]], str]) -> Callable[[Identity], None]:
    return lambda provider: setattr(provider, "forge", forge)


AT = int(BEGIN.timestamp())
UNBELIEVABLE: Mapping[str, Callable[[Identity], None]] = {
    "another sign-in's nonce": _claims(nonce="x" * 43),
    "no nonce": _claims(nonce=None),
    "the nonce among others": _nonce_in_a_list,
    "another audience": _claims(aud="somebody-else"),
    "no audience": _claims(aud=None),
    "several audiences and no word for whom": _claims(aud=[CLIENT, "somebody-else"]),
    "a token that another asked for": _claims(azp="somebody-else"),
    "another issuer": _claims(iss="https://evil.example"),
    "no issuer": _claims(iss=None),
    "one that has expired": _claims(exp=AT - 61),
    "one that never expires": _claims(exp=None),
    "an end that is no number": _claims(exp="9999999999"),
    "one of the future": _claims(iat=AT + 61),
    "nobody in particular": _claims(sub=None),
    "no signature": _forged(unsigned),
    "a signature by the client's secret": _forged(hs256(SECRET.encode())),
    "a signature by the public key, as if it were a secret": _by_the_public_key,
    "a signature by a key of somebody else": lambda provider: setattr(provider, "published", [new_key("first")]),
    "a key that is not published": lambda provider: setattr(provider, "published", [new_key("other")]),
    "claims that were not signed": _tampered,
    "no token at all": _forged(lambda _: "a.b.c"),
    "text that is not ASCII": _forged(lambda _: "ä.ö.ü"),
}


@pytest.mark.parametrize("spoil", UNBELIEVABLE.values(), ids=UNBELIEVABLE)
async def test_an_id_token_that_proves_nothing_lets_nobody_in(
    tmp_path: Path, spoil: Callable[[Identity], None]
) -> None:
    async with way(tmp_path) as on:
        spoil(on.provider)
        with capture_logs() as lines:
            answer = await on.there_and_back()
        assert answer.status_code == 401
        assert await on.there.count_sessions() == 0
        assert await on.who() == {}
        assert [line["event"] for line in lines] == ["access.oidc_refused"]
        assert "acme.example" not in repr(lines)
        assert on.there.heard == ["refused"]


async def test_the_client_itself_may_be_named_in_other_ways(tmp_path: Path) -> None:
    async with way(tmp_path) as on:
        on.provider.wrong = {"aud": [CLIENT, "another"], "azp": CLIENT}
        on.provider.says = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
        assert (await on.there_and_back()).status_code == 303


async def test_an_answer_counts_once_in_the_same_browser_and_within_ten_minutes(tmp_path: Path) -> None:
    async with way(tmp_path) as on:
        back = await on.go()
        async with on.there.client(**PAGE) as victim:
            assert (await victim.get(back)).status_code == 401
        changed = back.replace("state=", "state=x")
        assert (await on.http.get(changed)).status_code == 401
        mixed_up = (await on.go()).replace("iss=http", "iss=https")
        assert (await on.http.get(mixed_up)).status_code == 401
        # Whatever came of it, the browser has to begin again.
        assert (await on.http.get(back)).status_code == 401
        late = await on.go()
        on.there.wait(timedelta(minutes=10))
        assert (await on.http.get(late)).status_code == 401
        used = await on.go()
        cookie = on.http.cookies["healthd-oidc"]
        assert (await on.http.get(used)).status_code == 303
        on.http.cookies.set("healthd-oidc", cookie, domain="127.0.0.1", path="/")
        assert (await on.http.get(used)).status_code == 401
        assert await on.there.count_sessions() == 1


async def test_a_code_is_worth_nothing_without_the_browser_that_asked_for_it(tmp_path: Path) -> None:
    async with way(tmp_path) as on:
        stolen = (await on.go()).partition("code=")[2].partition("&")[0]
        async with on.there.client(**PAGE) as thief:
            mine = Way(on.there, on.provider, thief, on.outside)
            own = await mine.go()
            assert (await thief.get(own.replace("code=code-1", f"code={stolen}"))).status_code == 401
            assert await mine.who() == {}


@pytest.mark.parametrize(
    "query",
    [
        "error=access_denied&state={}",
        "state={}",
        "code=&state={}",
        "code=x",
        "code=x&state={}&iss=https://evil.example",
    ],
)
async def test_whoever_comes_back_without_a_good_answer_may_begin_again(tmp_path: Path, query: str) -> None:
    async with way(tmp_path) as on:
        state = (await on.go()).partition("state=")[2].partition("&")[0]
        answer = await on.http.get(f"/sign-in/oidc/done?{query.format(state)}")
        assert answer.status_code == 401
        assert 'href="/sign-in/oidc?next=/accounts"' in answer.text


async def test_nobody_is_led_elsewhere_after_it(tmp_path: Path) -> None:
    async with way(tmp_path) as on:
        answer = await on.http.get(await on.go("//evil.example"))
        assert answer.headers["location"] == "/"


async def test_new_keys_of_the_provider_are_found_by_themselves(tmp_path: Path) -> None:
    async with way(tmp_path) as on:
        assert (await on.there_and_back()).status_code == 303
        on.there.wait(timedelta(minutes=2))
        on.provider.key, on.provider.header = new_key("second"), {"alg": "ES256", "kid": "second"}
        assert (await on.there_and_back()).status_code == 303
        # Made-up keys do not make us ask again and again.
        on.provider.header = {"alg": "ES256", "kid": "third"}
        for _ in range(3):
            assert (await on.there_and_back()).status_code == 401
        assert on.provider.asked.count("/keys") == 2


def _says(**said: object) -> Callable[[Identity], None]:
    return lambda provider: provider.says.update(said)


def _refuses(status: int, said: object) -> Callable[[Identity], None]:
    return lambda provider: setattr(provider, "refusal", (status, said))


OUT_OF_ORDER: Mapping[str, tuple[Callable[[Identity], None], str]] = {
    "another name than ours for it": (_says(issuer="https://evil.example"), "calls itself otherwise"),
    "an endpoint without TLS": (
        _says(token_endpoint="http://evil.example/"),
        "names no https address as token_endpoint",
    ),
    "an endpoint that is none": (_says(jwks_uri=["https://evil.example/"]), "names no https address as jwks_uri"),
    "an endpoint at the cloud's metadata": (_says(jwks_uri="https://169.254.169.254/"), "inside a private network"),
    "a client that it does not know": (_refuses(401, {"error": "invalid_client"}), "client_id or client_secret"),
    "a failure": (_refuses(500, b"<html>"), "answered 500"),
    "an answer without a token": (_refuses(200, {"access_token": "x"}), "holds no ID token"),
    "an answer without an end": (_refuses(200, b"x" * 600_000), "larger than"),
}


@pytest.mark.parametrize(("spoil", "said"), OUT_OF_ORDER.values(), ids=OUT_OF_ORDER)
async def test_a_provider_that_is_out_of_order_is_told_as_that_and_tokens_still_work(
    tmp_path: Path, spoil: Callable[[Identity], None], said: str
) -> None:
    async with way(tmp_path) as on:
        spoil(on.provider)
        secret = await on.there.token()
        answer = await on.http.get("/sign-in/oidc")
        if answer.status_code == 303:
            answer = await on.there_and_back()
        assert answer.status_code == 503
        assert said in answer.text
        assert SECRET not in answer.text
        assert (await on.there.sign_in(on.http, secret)).status_code == 303


async def test_a_session_ends_when_the_settings_no_longer_let_its_person_in(tmp_path: Path) -> None:
    async with way(tmp_path) as on:
        await on.there_and_back()
        cookie = on.http.cookies["healthd"]
        assert (await on.there.get(cookie=f"healthd={cookie}")).status_code == 200
        await on.there.store.run(tidy, BEGIN)
    async with way(tmp_path, 'users = { "eve@acme.example" = "admin" }') as on:
        assert (await on.there.get(cookie=f"healthd={cookie}")).status_code == 401
