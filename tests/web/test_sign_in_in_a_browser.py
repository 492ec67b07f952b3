"""A real browser signs in and out, and what another site makes it send does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from healthd.core.roles import Role
from healthd.listener import Listener, bind
from tests.loopback import Answer, Asked, answer, serving
from tests.web.browser import DESKTOP, PHONE, window
from tests.web.test_access import Door, door

pytestmark = pytest.mark.asyncio(loop_scope="session")


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[str]:
    bound = bind("127.0.0.1", 0)
    span = timedelta(seconds=5)
    listener = Listener.of(
        app, bound, header_timeout=span, body_timeout=span, max_connections=50, drain_timeout=timedelta(seconds=2)
    )
    serving_it = asyncio.create_task(listener.run_until_exit())
    await listener.accepting.wait()
    try:
        yield f"127.0.0.1:{bound.getsockname()[1]}"
    finally:
        listener.should_exit = True
        await serving_it


def with_button(there: Door) -> ASGIApp:
    """A page of the private listener with the buttons that its pages have."""

    async def page(request: Request) -> Response:
        csrf = request.state.visitor.csrf
        return HTMLResponse(
            '<title>inside</title><form method="post" action="/sign-out">'
            f'<input type="hidden" name="csrf" value="{csrf}"><button>Sign out</button></form>'
        )

    there.app.router.routes.insert(0, Route("/inside", there.access.guard(Role.VIEWER, page)))
    return there.app


@asynccontextmanager
async def another_site(target: str) -> AsyncIterator[str]:
    """A page elsewhere that sends whoever opens it a form to ours, and the cookies of theirs with it if it may."""

    def respond(_: Asked) -> Answer:
        body = (
            f'<form method="post" action="{target}"><input name="csrf" value="guess"></form>'
            "<script>document.forms[0].submit()</script>"
        )
        return answer(200, body.encode(), {"content-type": "text/html"})

    async with serving(respond) as address:
        yield f"http://{address.replace('127.0.0.1', 'localhost')}/"


async def sign_in(page: Page, secret: str) -> None:
    await page.get_by_label("Access token").fill(secret)
    await page.get_by_role("button", name="Sign in with this token").click()


async def test_a_person_signs_in_and_out_and_no_other_site_does_it_for_them(browser: Browser, tmp_path: Path) -> None:
    async with door(tmp_path) as there, listening(with_button(there)) as address, window(browser, "", **PHONE) as mine:
        secret = await there.token("ada")
        page = await mine.open(f"http://{address}/inside?a=b")
        assert await page.title() == "Sign in · healthd"
        await sign_in(page, "wrong")
        assert "unknown, expired or revoked" in await page.get_by_role("alert").inner_text()
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # The style sheet has arrived: the policy lets it through.
        height = await page.evaluate("document.querySelector('button').getBoundingClientRect().height")
        assert height >= 44
        assert await page.evaluate("window.violations") == []
        await sign_in(page, secret)
        await page.wait_for_url("**/inside?a=b")
        assert await page.title() == "inside"
        assert "healthd" not in await page.evaluate("document.cookie")

        async with another_site(f"http://{address}/sign-out") as elsewhere:
            other = await mine.context.new_page()
            await other.goto(elsewhere)
            await other.wait_for_url(f"http://{address}/**")
        await page.reload()
        assert await page.title() == "inside"
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url("**/sign-in")
        await page.goto(f"http://{address}/inside")
        assert await page.title() == "Sign in · healthd"
        assert await there.count_sessions() == 0


async def test_no_other_site_acts_for_somebody_who_need_not_sign_in(browser: Browser, tmp_path: Path) -> None:
    async with (
        door(tmp_path) as there,
        listening(with_button(there)) as address,
        another_site(f"http://{address}/api/v1/things") as elsewhere,
        await browser.new_context(**DESKTOP) as mine,
    ):
        page = await mine.new_page()
        await page.goto(f"http://{address}/inside")
        assert await page.title() == "inside"
        async with page.expect_response(f"http://{address}/api/v1/things") as sent:
            await page.goto(elsewhere)
        answer = await sent.value
        assert answer.status == 403
        assert "Another site sent this" in await answer.text()
