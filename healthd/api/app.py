"""The API put together: routes, errors, and the document that describes them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from healthd.api import accounts, incidents, notices, overview, people
from healthd.api.door import OPEN_TO_ALL, Door
from healthd.api.late import ROOT, Api
from healthd.api.masking import Mask
from healthd.api.models import ProblemDetails
from healthd.api.office import Office
from healthd.api.problems import KINDS, MEDIA_TYPE, TOLD, URN, Problem, problem_of

ROUTERS = (overview.router, accounts.router, incidents.router, notices.router, people.router)
ABOUT = """\
Everything that the operator's pages do. Answers are JSON, and every error is `application/problem+json` (RFC 9457)
with a `type` for programs, such as `urn:healthd:problem:not-found`, and a `detail` for people.

**Who you are.** `Authorization: Bearer TOKEN`, with a token of `healthd token create NAME --role ROLE`. A `viewer`
reads, an `operator` also acts, an `admin` also sees who did what. Addresses of people are masked for viewers. A
browser's session may be used as well; its writes carry `X-CSRF-Token`, which `GET /me` tells.

**Pages.** A list gives `items` and `next`; ask again with `cursor` set to that, or follow the `Link` header. What comes
in meanwhile shows nothing twice and leaves nothing out.

**Doing things once.** With an `Idempotency-Key`, a write that is repeated within a day is answered as it was the first
time and not done again. After an error nothing was done, and the same key may be used again.

**Changes by others.** Each answer has an `ETag`. `If-None-Match` saves reading what has not changed (304); `If-Match`
keeps a write from undoing somebody else's (412).
"""
TAGS = (
    ("overview", "How everything stands, and who did what."),
    ("accounts", "What is known of accounts, and what to do about one."),
    ("incidents", "What broke, and platforms on which everything broke at once."),
    ("notices", "Who was told what, who was not, and why."),
    ("people", "Who can be told, and who is responsible for what."),
)


def build(given: Api) -> Door:
    """The whole of it, with what it works with."""
    app = bare()
    app.state.office = Office(given.desk, given.engine, given.channels, tuple(given.workspaces), given.allowances)
    return Door(app, given.access, given.desk.store, given.now, Mask(given.channels))


def bare() -> FastAPI:
    """The application behind the door, with nothing to work with yet: enough to describe it."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    for router in ROUTERS:
        app.include_router(router, generate_unique_id_function=lambda route: route.name)
    for kind in (one for one in TOLD if issubclass(one, Exception)):
        app.add_exception_handler(kind, _told)
    written: asyncio.Future[bytes] | None = None

    async def openapi(_: Request) -> Response:
        nonlocal written
        if written is None:
            # A fifth of a second's work, once: not for the loop that acknowledges webhooks.
            written = asyncio.ensure_future(asyncio.to_thread(document))
        return Response(await asyncio.shield(written), media_type="application/json")

    app.add_route(OPEN_TO_ALL, openapi, methods=["GET"])
    return app


async def _told(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:
        allowed = ", ".join(_methods(request))
        return Problem(
            "method-not-allowed", f"What can be done here: {allowed}.", headers={"allow": allowed}
        ).response()
    return problem_of(error).response()


def _methods(request: Request) -> list[str]:
    """All that can be done under this path. Starlette would name the first route's only."""
    routes: list[Any] = [route for router in ROUTERS for route in router.routes]
    matching = [one for one in routes if one.matches(request.scope)[0] is not Match.NONE]
    found = {method for route in matching for method in route.methods or ()} or {"GET"}
    return sorted(found | {"HEAD"} if "GET" in found else found)


def document() -> bytes:
    """The OpenAPI document, as it is served and as it stands in ``docs/openapi.json``."""
    return orjson.dumps(described(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def described() -> dict[str, Any]:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    app = bare()
    found = get_openapi(
        title="healthd",
        version=version("healthd"),
        openapi_version="3.1.0",
        summary="The operator's API.",
        description=ABOUT,
        routes=app.routes,
        tags=[{"name": name, "description": said} for name, said in TAGS],
        servers=[{"url": ROOT}],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    schemas = found["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schemas["Problem"].pop("$defs", {})
    found["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "`healthd token create NAME --role operator`"},
    }
    statuses = sorted({kind.status for kind in KINDS.values()})
    found["components"]["responses"] = {_name(status): _response(status) for status in statuses}
    found["security"] = [{"token": []}]
    asks = {route.name for route in routes if route.name in ASK_THE_PROVIDER}
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            _complete(path, method, operation, asks=operation["operationId"] in asks)
    return found


ASK_THE_PROVIDER = frozenset({"make_link", "pause_posting", "resume_posting"})
SAID = {"200": "It is done.", "202": "It will be done in a moment.", "204": "It is done."}
ALWAYS = ("not-signed-in", "forbidden", "too-many-mistakes", "internal", "store-unavailable")
KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A new one for each thing that is to be done, best a random UUID.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!#-\\[\\]-~]+$"},
    "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
}


def _complete(path: str, method: str, operation: dict[str, Any], *, asks: bool) -> None:
    """What FastAPI cannot know: the errors, and what the door reads."""
    answers = operation["responses"]
    answers.pop("422", None)
    kinds = [*ALWAYS, *_errors(path, method, operation, asks=asks)]
    for status, answer in answers.items():
        if answer["description"] == "Successful Response":
            answer["description"] = SAID[status] if method != "get" else "What was asked for."
    for status in sorted({KINDS[kind].status for kind in kinds}):
        answers[str(status)] = {"$ref": f"#/components/responses/{_name(status)}"}
    parameters = operation.setdefault("parameters", [])
    if method == "get":
        answers["304"] = {"description": "It is what `If-None-Match` names."}
        parameters.append(_condition("If-None-Match", "`ETag` of what you have already."))
        answers["200"].setdefault("headers", {})["ETag"] = {"schema": {"type": "string"}}
        if any(one["name"] == "cursor" for one in parameters):
            answers["200"]["headers"]["Link"] = {
                "description": 'Where the next page is, with `rel="next"`.',
                "schema": {"type": "string"},
            }
        return
    parameters.append(KEY_PARAMETER)
    if _conditional(method):
        parameters.append(_condition("If-Match", "`ETag` of what you have seen: the write is refused if it changed."))
        parameters.append(_condition("If-None-Match", "`*`: the write is refused if there is one."))


def _errors(path: str, method: str, operation: Mapping[str, Any], *, asks: bool) -> Iterable[str]:
    parameters = operation.get("parameters", [])
    if parameters or "requestBody" in operation:
        yield "invalid"
    if "{" in path or path == "/addresses/trust":
        yield "not-found"
    if any(one["name"] == "cursor" for one in parameters):
        yield "bad-cursor"
    if method == "get":
        return
    yield from ("unreadable", "bad-key", "too-slow", "too-large", "not-json", "not-now", "under-way", "key-reused")
    if _conditional(method):
        yield "changed"
    if asks:
        yield from ("provider", "provider-unavailable")


def _conditional(method: str) -> bool:
    return method in {"put", "delete"}


def _condition(name: str, said: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": said, "schema": {"type": "string"}}


def _name(status: int) -> str:
    """``"UnprocessableEntity"``."""
    return re.sub(r"[^A-Za-z]", "", HTTPStatus(status).phrase.title())


def _response(status: int) -> dict[str, Any]:
    kinds = [name for name, kind in KINDS.items() if kind.status == status]
    said = "; or ".join(f"{KINDS[kind].title} (`{kind}`)" for kind in kinds)
    examples = {
        kind: {"value": {"type": f"{URN}{kind}", "title": KINDS[kind].title, "status": status}} for kind in kinds
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}}
    headers = {"Retry-After": {"description": "Seconds.", "schema": {"type": "string"}}} if status in {429, 503} else {}
    return {"description": f"{said}.", "content": content} | ({"headers": headers} if headers else {})
