"""Nobody gets past the door of the private listener who may not, and nobody is locked out who may."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select, text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs

from healthd.bodies import form_fields
from healthd.core.roles import Role
from healthd.store import access as stored
from healthd.store.database import Store
from healthd.store.schema import sessions
from healthd.web.access import Access
from healthd.web.guarding import HEADERS
from tests.config.written import loaded
from tests.fresh_store import fresh_store
from tests.tidy import tidy

BEGIN = datetime(2026, 11, 2, 9, tzinfo=UTC)
GIVEN = "settings-token-" + "7" * 40
HERE = "http://127.0.0.1:9090"
PAGE = {"accept": "text/html,*/*"}
TOKENS = {"access.tokens.grafana": f'role = "viewer"\ntoken = "{GIVEN}"'}
PROXY = {
    "access.proxy": 'header = "X-Forwarded-Email"\ngroups_header = "X-Forwarded-Groups"\n'
    'addresses = ["10.0.0.0/30", "fd00::7"]\ngroups = { ops = "operator" }\n'
    'users = { "ada@k.example" = "admin" }\ndomains = { "acme.example" = "viewer" }'
}


@dataclass
class Door:
    """The private listener with a page, an API and a button behind it, and people who come to it."""

    access: Access
    store: Store
    heard: list[str]
    app: Starlette
    clock: list[datetime]

    @asynccontextmanager
    async def client(
        self, at: str = "127.0.0.1", base: str = HERE, **headers: str
    ) -> AsyncIterator[httpx2.AsyncClient]:
        transport = httpx2.ASGITransport(self.app, client=(at, 4711))
        named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        async with httpx2.AsyncClient(transport=transport, base_url=base, headers=named) as http:
            yield http

    async def get(self, path: str = "/api/v1/things", at: str = "127.0.0.1", base: str = HERE, **headers: str) -> Any:
        async with self.client(at, base, **headers) as http:
            return await http.get(path)

    async def token(self, name: str = "ada", role: Role = Role.OPERATOR, lasts: timedelta | None = None) -> str:
        secret = stored.PREFIX + stored.new_secret()
        await self.store.run(
            stored.create_token, name, role, stored.digest_of(secret), at=self.now, by="cli:test",
            expires_at=self.now + lasts if lasts else None,
        )  # fmt: skip
        return secret

    async def sign_in(self, http: httpx2.AsyncClient, secret: str, wanted: str = "/") -> httpx2.Response:
        return await http.post("/sign-in", data={"token": secret, "next": wanted})

    async def csrf(self, http: httpx2.AsyncClient) -> str:
        return str((await http.get("/api/v1/things")).json()["csrf"])

    async def count_sessions(self) -> int:
        query = select(func.count()).select_from(sessions)
        return await self.store.read(lambda connection: connection.execute(query).scalar_one())

    async def audit(self) -> list[tuple[str, str]]:
        return [(one.who, one.action) for one in await self.store.read(stored.audit_of, None, 100)]

    @property
    def now(self) -> datetime:
        return self.clock[0]

    def wait(self, span: timedelta) -> None:
        self.clock[0] += span


async def _things(request: Request) -> Response:
    visitor = request.state.visitor
    return JSONResponse({"who": visitor.who, "role": visitor.role, "by": visitor.by, "csrf": visitor.csrf})


@asynccontextmanager
async def door(folder: Path, sections: Mapping[str, str] = {}) -> AsyncIterator[Door]:
    settings = loaded(folder, sections)
    store = Store(fresh_store(folder / "healthd.db"))
    clock, heard = [BEGIN], list[str]()
    access = Access(settings, store, lambda: clock[0], heard.append)

    async def act(request: Request) -> Response:
        form = form_fields(await request.body())
        access.check_write(request, request.state.visitor, form)
        return JSONResponse({"done": True})

    routes = [
        Route("/", access.guard(Role.VIEWER, _things)),
        Route("/accounts", access.guard(Role.VIEWER, _things)),
        Route("/api/v1/things", access.guard(Role.VIEWER, _things)),
        Route("/api/v1/things", access.guard(Role.OPERATOR, act), methods=["POST"]),
        Route("/admin", access.guard(Role.ADMIN, _things)),
        *access.routes(),
    ]
    try:
        yield Door(access, store, heard, Starlette(routes=routes), clock)
    finally:
        await access.close()
        await store.close()


# Bearer tokens


async def test_a_token_of_the_store_and_one_of_the_settings_open_the_door(tmp_path: Path) -> None:
    async with door(tmp_path, TOKENS) as there:
        made = await there.token("ada", Role.ADMIN)
        for secret, who, role in ((made, "token:ada", "admin"), (GIVEN, "token:grafana", "viewer")):
            answer = await there.get(authorization=f"Bearer {secret}")
            assert (answer.json()["who"], answer.json()["role"]) == (who, role)
            assert answer.json()["by"] == "bearer"


WRONG_TOKENS = {
    "an unknown one": "hdt_" + "x" * 43,
    "none at all": "",
    "one of ten thousand signs": "t" * 10_000,
    "one that is not ASCII": "hdt_ä€",
    "the settings' and a bit more": GIVEN + "7",
    "the settings' without its end": GIVEN[:-1],
    "its digest": stored.digest_of(GIVEN),
}


@pytest.mark.parametrize("secret", WRONG_TOKENS.values(), ids=WRONG_TOKENS)
async def test_a_wrong_token_is_refused_in_the_api_and_on_the_page(tmp_path: Path, secret: str) -> None:
    async with door(tmp_path, TOKENS) as there:
        async with there.client() as http:
            header = f"Bearer {secret}".encode()
            answer = await http.get("/api/v1/things", headers={b"authorization": header})
            page = await there.sign_in(http, secret)
            after = await http.get("/", headers=PAGE)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == 'Bearer realm="healthd", error="invalid_token"'
        assert answer.json()["status"] == 401
        assert page.status_code in {401, 413}
        assert "set-cookie" not in page.headers
        assert after.status_code == 303
        assert not secret or secret not in page.text + answer.text


async def test_a_token_ends_when_it_expires_and_when_it_is_revoked(tmp_path: Path) -> None:
    async with door(tmp_path) as there:
        short = await there.token("short", lasts=timedelta(days=1))
        long = await there.token("long")
        there.wait(timedelta(days=1))
        assert (await there.get(authorization=f"Bearer {short}")).status_code == 401
        assert (await there.get(authorization=f"Bearer {long}")).status_code == 200
        assert await there.store.run(stored.revoke_token, "long", at=there.now, by="cli:test")
        assert (await there.get(authorization=f"Bearer {long}")).status_code == 401


async def test_nobody_is_told_more_than_that_they_have_to_sign_in(tmp_path: Path) -> None:
    async with door(tmp_path, TOKENS) as there:
        for headers in ({}, {"authorization": "Basic YWRhOmFkYQ=="}, {"cookie": "healthd=made-up"}):
            answer = await there.get(**headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == 'Bearer realm="healthd"'


async def test_the_last_use_of_a_token_is_noted_once_a_minute(tmp_path: Path) -> None:
    async with door(tmp_path) as there:
        secret = await there.token()
        seen = []
        for wait in (0, 30, 31):
            there.wait(timedelta(seconds=wait))
            await there.get(authorization=f"Bearer {secret}")
            [token] = await there.store.read(stored.tokens)
            seen.append(token.used_at)
        assert seen == [BEGIN, BEGIN, BEGIN + timedelta(seconds=61)]


# Roles

MAY = {
    "viewer": (200, 403, 403),
    "operator": (200, 200, 403),
    "admin": (200, 200, 200),
}


@pytest.mark.parametrize("role", MAY)
async def test_a_role_may_do_so_much_and_no_more(tmp_path: Path, role: str) -> None:
    async with door(tmp_path) as there:
        bearer = {"authorization": f"Bearer {await there.token(role=Role(role))}"}
        async with there.client(**bearer) as http:
            answers = [
                await http.get("/api/v1/things"), await http.post("/api/v1/things"), await http.get("/admin"),
            ]  # fmt: skip
        assert tuple(answer.status_code for answer in answers) == MAY[role]
        assert all("application/problem+json" in one.headers["content-type"] for one in answers if one.is_error)


async def test_whoever_may_not_see_a_page_can_sign_in_as_somebody_who_may(tmp_path: Path) -> None:
    async with door(tmp_path) as there, there.client(**PAGE) as http:
        await there.sign_in(http, await there.token("eve", Role.VIEWER))
        refused = await http.get("/admin")
        assert (refused.status_code, "token:eve is viewer" in refused.text) == (403, True)
        [again] = re.findall(r'href="(/sign-in[^"]+)"', refused.text.partition("<body>")[2])
        page = await http.get(again.replace("&amp;", "&"))
        [wanted] = re.findall(r'name="next" value="([^"]*)"', page.text)
        assert (await there.sign_in(http, await there.token("ada", Role.ADMIN), wanted)).headers["location"] == "/admin"
        assert (await http.get("/admin")).json()["who"] == "token:ada"


async def test_a_viewer_who_says_otherwise_stays_a_viewer(tmp_path: Path) -> None:
    async with door(tmp_path) as there, there.client() as http:
        secret = await there.token(role=Role.VIEWER)
        await http.post("/sign-in", data={"token": secret, "role": "admin", "who": "local"})
        headers = {"x-csrf-token": await there.csrf(http), "x-role": "admin", "x-forwarded-email": "ada@k.example"}
        answer = await http.post("/api/v1/things?role=admin", headers=headers)
        assert answer.status_code == 403


# Signing in


async def test_a_person_is_led_to_the_sign_in_page_and_from_there_to_where_they_wanted(tmp_path: Path) -> None:
    async with door(tmp_path, TOKENS) as there, there.client(**PAGE) as http:
        led = await http.get("/accounts?state=expired&q=a%20b")
        assert led.status_code == 303
        page = await http.get(led.headers["location"])
        assert page.status_code == 200
        [wanted] = re.findall(r'name="next" value="([^"]*)"', page.text)
        answer = await there.sign_in(http, GIVEN, wanted.replace("&amp;", "&"))
        assert (answer.status_code, answer.headers["location"]) == (303, "/accounts?state=expired&q=a%20b")
        assert (await http.get("/accounts")).json()["who"] == "token:grafana"
        # Whoever is signed in already is not asked again.
        assert (await http.get("/sign-in?next=/accounts")).headers["location"] == "/accounts"


ELSEWHERE = (
    "https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example",
    "javascript:alert(1)", "evil.example", "/a\r\nset-cookie: x=y", "/sign-out", "/sign-in?next=/", "", "/ä",
    "/" + "a" * 3000, "http:/evil.example",
    " //evil.example", "/\x00", "///evil.example", "/%0d%0a\\evil",
)  # fmt: skip


@pytest.mark.parametrize("wanted", ELSEWHERE)
async def test_after_the_sign_in_nobody_is_led_elsewhere(tmp_path: Path, wanted: str) -> None:
    async with door(tmp_path, TOKENS) as there, there.client(**PAGE) as http:
        page = await http.get("/sign-in", params={"next": wanted})
        assert re.findall(r'name="next" value="([^"]*)"', page.text) == ["/"]
        answer = await there.sign_in(http, GIVEN, wanted)
        assert answer.headers["location"] == "/"
        assert (await http.get("/sign-in", params={"next": wanted})).headers["location"] == "/"


async def test_the_cookie_is_new_with_each_sign_in_and_the_one_before_is_worth_nothing(tmp_path: Path) -> None:
    async with door(tmp_path, TOKENS) as there, there.client() as http:
        planted = "A" * 43
        http.cookies.set("healthd", planted, domain="127.0.0.1")
        cookies = [planted]
        for _ in range(2):
            answer = await there.sign_in(http, GIVEN)
            cookies.append(answer.cookies["healthd"])
        assert len(set(cookies)) == 3
        assert await there.count_sessions() == 1
        worth = [(await there.get(cookie=f"healthd={one}")).status_code for one in cookies]
        assert worth == [401, 401, 200]


async def test_the_cookie_is_for_the_server_alone_and_its_value_is_not_in_the_store(tmp_path: Path) -> None:
    async with door(tmp_path, TOKENS) as there, there.client() as http:
        answer = await there.sign_in(http, GIVEN)
        said = answer.headers["set-cookie"].lower()
        assert {"httponly", "samesite=lax", "path=/", "max-age=43200"} <= set(re.split(r";\s*", said))
        assert "domain" not in said
        content = (tmp_path / "healthd.db").read_bytes() + (tmp_path / "healthd.db-wal").read_bytes()
        assert answer.cookies["healthd"].encode() not in content
        assert GIVEN.encode() not in content


async def test_under_https_the_cookie_is_secure_and_one_without_tls_does_not_count(tmp_path: Path) -> None:
    ours = "https://ops.acme.example"
    async with door(tmp_path, TOKENS | {"access": f'url = "{ours}"'}) as there:
        async with there.client(base=ours, origin=ours) as http:
            answer = await there.sign_in(http, GIVEN)
            said = answer.headers["set-cookie"]
            assert said.startswith("__Host-healthd=")
            assert "secure" in said.lower()
            assert (await http.get("/api/v1/things")).status_code == 200
        value = re.match(r"__Host-healthd=([^;]+)", said)
        assert value is not None
        # Another host of the same domain can set a cookie of the plain name, not of this one.
        assert (await there.get(base=ours, cookie=f"healthd={value[1]}")).status_code == 401
        # By a tunnel to this machine there is no TLS, and no need of it.
        async with there.client(origin=HERE) as http:
            assert (await there.sign_in(http, GIVEN)).headers["set-cookie"].startswith("healthd=")
            assert (await http.get("/api/v1/things")).status_code == 200


async def test_a_session_ends_by_the_clock_by_signing_out_and_with_its_token(tmp_path: Path) -> None:
    async with door(tmp_path, {"access": 'session_lifetime = "2h"'}) as there:
        secret = await there.token("ada", lasts=timedelta(hours=3))
        async with there.client() as http:
            await there.sign_in(http, secret)
            there.wait(timedelta(hours=2))
            assert (await http.get("/api/v1/things")).status_code == 401
            await there.store.run(tidy, there.now)
            assert await there.count_sessions() == 0
            # The token lasts for one more hour, and the session no longer than that.
            assert "Max-Age=3600" in (await there.sign_in(http, secret)).headers["set-cookie"]
            assert (await http.get("/api/v1/things")).status_code == 200
            assert await there.store.run(stored.revoke_token, "ada", at=there.now, by="cli:test")
            assert await there.count_sessions() == 0
            await there.token("bob")
            assert (await http.get("/api/v1/things")).status_code == 401


async def test_signing_out_ends_the_session_for_good(tmp_path: Path) -> None:
    async with door(tmp_path, TOKENS) as there, there.client() as http:
        cookie = (await there.sign_in(http, GIVEN)).cookies["healthd"]
        assert (await http.post("/sign-out")).status_code == 403
        answer = await http.post("/sign-out", data={"csrf": await there.csrf(http)})
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
        assert (await there.get(cookie=f"healthd={cookie}")).status_code == 401
        assert await there.count_sessions() == 0


@pytest.mark.parametrize("change", [GIVEN[::-1], ""], ids=["another token", "no token"])
async def test_a_session_ends_when_the_settings_no_longer_hold_its_token(tmp_path: Path, change: str) -> None:
    async with door(tmp_path, TOKENS) as there, there.client() as http:
        cookie = (await there.sign_in(http, GIVEN)).cookies["healthd"]
    name = "grafana" if change else "other"
    sections = {f"access.tokens.{name}": f'role = "admin"\ntoken = "{change or "o" * 40}"'}
    async with door(tmp_path, sections) as there:
        assert (await there.get(cookie=f"healthd={cookie}")).status_code == 401


async def test_a_session_of_the_settings_has_the_role_that_stands_there_now(tmp_path: Path) -> None:
    promoted = {"access.tokens.grafana": f'role = "operator"\ntoken = "{GIVEN}"'}
    async with door(tmp_path, promoted) as there, there.client() as http:
        cookie = (await there.sign_in(http, GIVEN)).cookies["healthd"]
    async with door(tmp_path, TOKENS) as there:
        assert (await there.get(cookie=f"healthd={cookie}")).json()["role"] == "viewer"


async def test_many_wrong_tokens_are_slowed_down_and_keep_nobody_out_who_has_a_good_one(tmp_path: Path) -> None:
    async with door(tmp_path, TOKENS) as there, there.client("203.0.113.9") as http:
        answers = [(await there.sign_in(http, f"wrong-{number}")) for number in range(25)]
        assert {answer.status_code for answer in answers[:20]} == {401}
        assert answers[-1].status_code == 429
        assert answers[-1].headers["retry-after"] == "60"
        assert (await http.get("/api/v1/things", headers={"authorization": "Bearer x"})).status_code == 429
        async with there.client("203.0.113.10") as other:
            assert (await there.sign_in(other, "wrong")).status_code == 401
        assert (await there.sign_in(http, GIVEN)).status_code == 303
        there.wait(timedelta(minutes=1))
        await there.get(authorization="Bearer wrong", at="203.0.113.11")
        refused = [one for one in await there.store.read(stored.audit_of, None, 9) if one.action == "sign_in.refused"]
        assert [one.subject for one in refused] == ["203.0.113.11/32", "203.0.113.9/32"]
        assert refused[0].detail.endswith("refused since the last such line: 27")
        assert there.heard.count("refused") == 28


async def test_what_happened_at_the_door_is_on_record_and_no_secret_in_it_or_in_the_log(tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with door(tmp_path, PROXY) as there:
            secret = await there.token()
            async with there.client() as http:
                await there.sign_in(http, "hdt_wrong-secret")
                await there.sign_in(http, secret)
            await there.get(x_forwarded_email="ada@k.example")
            await there.store.run(stored.revoke_token, "ada", at=there.now, by="cli:test")
            record = await there.store.read(stored.audit_of, None, 100)
    assert [(one.who, one.action, one.subject) for one in reversed(record)] == [
        ("cli:test", "token.create", "token:ada"),
        ("", "sign_in.refused", "127.0.0.1/32"),
        ("token:ada", "sign_in", ""),
        ("cli:test", "token.revoke", "token:ada"),
    ]
    assert there.heard == ["refused", "token", "proxy_refused"]
    assert [line["event"] for line in lines] == ["access.proxy_header_refused"]
    assert not re.search(f"{secret}|wrong-secret|ada@k", repr(record) + repr(lines))


# Writes

FORGED: Mapping[str, Mapping[str, str]] = {
    "from another site": {"origin": "https://evil.example"},
    "from another port of this machine": {"origin": "http://127.0.0.1:8080"},
    "from nowhere that has a name": {"origin": "null"},
    "from our name's end": {"origin": "http://127.0.0.1:9090.evil.example"},
    "from another scheme than the web's": {"origin": "ftp://127.0.0.1:9090"},
    "across sites, as the browser says": {"sec-fetch-site": "cross-site"},
    "from another host of the same site": {"sec-fetch-site": "same-site"},
}


@pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("how", ["local", "session"])
async def test_no_other_site_changes_anything_even_with_the_right_proof(
    tmp_path: Path, how: str, headers: Mapping[str, str]
) -> None:
    async with door(tmp_path) as there, there.client() as http:
        if how == "session":
            await there.sign_in(http, await there.token())
        proof = {"csrf": await there.csrf(http)}
        assert (await http.post("/api/v1/things", data=proof)).status_code == 200
        assert (await http.post("/api/v1/things", data=proof, headers=dict(headers))).status_code == 403
        signing_in = await http.post("/sign-in", data={"token": await there.token("eve")}, headers=dict(headers))
        assert (signing_in.status_code, "set-cookie" in signing_in.headers) == (403, False)


async def test_a_write_needs_the_proof_of_the_very_session(tmp_path: Path) -> None:
    async with door(tmp_path) as there, there.client() as http, there.client() as other:
        await there.sign_in(http, await there.token("ada"))
        await there.sign_in(other, await there.token("eve"))
        mine, theirs = await there.csrf(http), await there.csrf(other)
        assert mine != theirs
        for form in ({}, {"csrf": ""}, {"csrf": theirs}, {"csrf": mine[:-1]}, {"csrf": "ä" * 64}):
            assert (await http.post("/api/v1/things", data=form)).status_code == 403
        for headers in ({"x-csrf-token": theirs}, {"x-csrf-token": ""}):
            assert (await http.post("/api/v1/things", headers=headers)).status_code == 403
        assert (await http.post("/api/v1/things", data={"csrf": mine})).status_code == 200
        ours = {"x-csrf-token": mine, "origin": HERE, "sec-fetch-site": "same-origin"}
        assert (await http.post("/api/v1/things", headers=ours)).status_code == 200


async def test_behind_a_proxy_that_changes_the_host_the_address_in_the_settings_is_ours(tmp_path: Path) -> None:
    ours = "https://ops.acme.example"
    async with door(tmp_path, TOKENS | {"access": f'url = "{ours}"'}) as there:
        async with there.client(base="http://backend:9090", origin=ours) as http:
            assert (await there.sign_in(http, GIVEN)).status_code == 303
        async with there.client(base="http://backend:9090", origin="https://evil.example") as http:
            assert (await there.sign_in(http, GIVEN)).status_code == 403


# This machine


@pytest.mark.parametrize("host", ["127.0.0.1:9090", "localhost:9090", "localhost", "[::1]:9090", "127.0.0.2"])
async def test_without_any_settings_whoever_is_on_this_machine_is_admin(tmp_path: Path, host: str) -> None:
    async with door(tmp_path) as there:
        answer = await there.get(host=host)
        assert (answer.json()["who"], answer.json()["role"]) == ("local", "admin")


STRANGERS: Mapping[str, list[tuple[str, str]]] = {
    "a name that was made to lead here": [("host", "evil.example:9090")],
    "a name that begins like ours": [("host", "127.0.0.1.evil.example")],
    "a name that ends like ours": [("host", "evil.localhost")],
    "two names": [("host", "localhost"), ("host", "evil.example")],
    "no name": [("host", "")],
    "a user's name before it": [("host", "localhost@evil.example")],
    "a proxy that adds who asked": [("host", "localhost"), ("x-forwarded-for", "203.0.113.7")],
    "a proxy that names itself": [("host", "localhost"), ("via", "1.1 nginx")],
}


@pytest.mark.parametrize("headers", STRANGERS.values(), ids=STRANGERS)
async def test_a_visitor_from_outside_is_not_taken_for_one_of_this_machine(
    tmp_path: Path, headers: list[tuple[str, str]]
) -> None:
    async with door(tmp_path) as there, there.client() as http:
        request = http.build_request("GET", "/", headers=PAGE)
        kept = [(name, value) for name, value in request.headers.multi_items() if name != "host"]
        request.headers = httpx2.Headers(kept + headers)
        answer = await http.send(request)
        assert answer.status_code == 403
        assert "token create" in answer.text


async def test_the_first_token_closes_the_door_and_its_end_does_not_open_it(tmp_path: Path) -> None:
    async with door(tmp_path) as there:
        assert (await there.get()).status_code == 200
        await there.token("ada", lasts=timedelta(days=1))
        assert (await there.get()).status_code == 401
        there.wait(timedelta(days=2))
        assert (await there.get()).status_code == 401


@pytest.mark.parametrize("sections", [TOKENS, PROXY, {"server": 'admin_listen = "10.0.0.5:9090"'}])
async def test_being_here_is_not_enough_where_anything_is_set_up(tmp_path: Path, sections: Mapping[str, str]) -> None:
    async with door(tmp_path, sections) as there:
        assert (await there.get()).status_code == 401


# A proxy

BELIEVED = {
    "a listed user": ({"x_forwarded_email": "Ada@K.example"}, "admin"),
    "somebody of a domain": ({"x_forwarded_email": "eve@acme.example"}, "viewer"),
    "somebody of a group": ({"x_forwarded_email": "bob", "x_forwarded_groups": "all, ops"}, "operator"),
    "the highest of several": ({"x_forwarded_email": "eve@acme.example", "x_forwarded_groups": "ops"}, "operator"),
    "nobody": ({"x_forwarded_email": "mallory@evil.example"}, None),
    "a letter that only looks like one of ours": ({"x_forwarded_email": "ada@\u212a.example"}, None),
    "a domain within another": ({"x_forwarded_email": "eve@sub.acme.example"}, None),
    "two at signs": ({"x_forwarded_email": "eve@evil.example@acme.example"}, None),
    "a domain alone": ({"x_forwarded_email": "@acme.example"}, None),
    "a group without a name": ({"x_forwarded_groups": "ops"}, None),
    "an empty name": ({"x_forwarded_email": "", "x_forwarded_groups": "ops"}, None),
}


@pytest.mark.parametrize(("headers", "role"), BELIEVED.values(), ids=BELIEVED)
async def test_a_proxy_says_who_somebody_is_and_the_settings_what_they_may(
    tmp_path: Path, headers: Mapping[str, str], role: str | None
) -> None:
    async with door(tmp_path, PROXY) as there:
        answer = await there.get(at="10.0.0.2", **headers)
        assert (answer.json().get("role") if answer.is_success else None) == role
        assert answer.status_code == (200 if role else 403)
        if role:
            assert answer.json()["who"] == f"proxy:{headers['x_forwarded_email']}"


@pytest.mark.parametrize("at", ["127.0.0.1", "10.0.0.4", "::1", "fd00::8", "testclient"])
async def test_a_forged_proxy_header_is_refused_and_told_once_a_minute(tmp_path: Path, at: str) -> None:
    async with door(tmp_path, PROXY) as there:
        secret = await there.token("ada", Role.ADMIN)
        with capture_logs() as lines:
            for _ in range(3):
                answer = await there.get(at=at, x_forwarded_email="ada@k.example", authorization=f"Bearer {secret}")
                assert answer.status_code == 403
            assert (await there.get(at=at, x_forwarded_groups="ops")).status_code == 403
        assert len(lines) == 1
        assert there.heard == ["proxy_refused"] * 4
        assert (await there.get(at=at, authorization=f"Bearer {secret}")).status_code == 200


@pytest.mark.parametrize("at", ["10.0.0.2", "::ffff:10.0.0.2", "fd00::7"])
async def test_the_proxy_is_known_by_its_address_however_it_is_written(tmp_path: Path, at: str) -> None:
    async with door(tmp_path, PROXY) as there:
        assert (await there.get(at=at, x_forwarded_email="ada@k.example")).status_code == 200


async def test_a_header_that_comes_twice_is_nobody(tmp_path: Path) -> None:
    async with door(tmp_path, PROXY) as there, there.client("10.0.0.2") as http:
        twice = [("x-forwarded-email", "ada@k.example"), ("x-forwarded-email", "eve@acme.example")]
        assert (await http.get("/api/v1/things", headers=twice)).status_code == 403


async def test_whoever_comes_by_the_proxy_needs_the_proof_for_a_write(tmp_path: Path) -> None:
    async with door(tmp_path, PROXY) as there, there.client("10.0.0.2", x_forwarded_email="ada@k.example") as http:
        assert (await http.post("/api/v1/things")).status_code == 403
        assert (await http.post("/api/v1/things", data={"csrf": await there.csrf(http)})).status_code == 200


# Every answer


async def test_every_answer_of_the_door_has_the_headers_that_keep_it_safe(tmp_path: Path) -> None:
    async with door(tmp_path, TOKENS) as there, there.client(**PAGE) as http:
        answers = [
            await http.get("/sign-in"), await http.head("/sign-in"), await http.put("/sign-in"),
            await http.get("/sign-out"), await there.sign_in(http, "wrong"), await there.sign_in(http, "x" * 10_000),
            await http.post("/sign-in", content=b"&".join(b"a=1" for _ in range(50))), await http.get("/"),
            await http.get("/api/v1/things"), await there.sign_in(http, GIVEN), await http.get("/admin"),
        ]  # fmt: skip
        assert [one.status_code for one in answers] == [200, 200, 405, 405, 401, 413, 400, 303, 401, 303, 403]
        for answer in answers:
            assert {name: answer.headers.get(name) for name in HEADERS} == dict(HEADERS)
        [style] = re.findall(r'href="(/sign-in/style\.css[^"]+)"', answers[0].text)
        assert (await http.get(style)).headers["content-type"].startswith("text/css")
        assert "<script" not in answers[0].text
        assert "style=" not in answers[0].text


async def test_a_part_of_a_page_that_is_asked_for_sends_the_whole_page_to_the_sign_in(tmp_path: Path) -> None:
    async with door(tmp_path, TOKENS) as there:
        answer = await there.get("/accounts", hx_request="true", hx_current_url=f"{HERE}/accounts?page=2")
        assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/sign-in?next=/accounts")


async def test_while_the_database_does_not_answer_nobody_is_let_in(tmp_path: Path) -> None:
    async with door(tmp_path, TOKENS) as there:
        secret = await there.token()

        def ruin(connection: Any) -> None:
            connection.execute(text("DROP TABLE sessions"))
            connection.execute(text("DROP TABLE access_tokens"))

        await there.store.run(ruin)
        answers = [
            await there.get(authorization=f"Bearer {secret}"), await there.get(cookie="healthd=x"),
            await there.get("/sign-in", cookie="healthd=x"),
        ]  # fmt: skip
        assert [one.status_code for one in answers] == [503] * 3
        # What stands in the settings works without it.
        assert (await there.get(authorization=f"Bearer {GIVEN}")).status_code == 200
