"""The document that describes the API, held against the running API: by Schemathesis, which asks for whatever the
document allows, and for much that it does not.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from healthd.api.app import document
from healthd.api.late import ROOT
from tests.api.place import TOKENS, Place, place

GENERATION = GenerationConfig(with_security_parameters=False)
CONFIG = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=GENERATION)))
SCHEMA = schemathesis.openapi.from_dict(json.loads(document()), config=CONFIG)
FOUND: list[Any] = list(SCHEMA.get_all_operations())
OPERATIONS = {one.ok().label: one.ok() for one in FOUND}
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
BASE = f"http://127.0.0.1:9090{ROOT}"


class Running:
    """The API in a loop of its own, asked from plain functions, as Hypothesis wants it."""

    def __init__(self, runner: asyncio.Runner, here: Place) -> None:
        self.runner, self.here = runner, here
        headers = {"authorization": f"Bearer {TOKENS['admin']}"}
        transport = httpx2.ASGITransport(app=here.app, client=("127.0.0.1", 4711))
        self.http = httpx2.AsyncClient(transport=transport, headers=headers)

    def ask(self, case: Any) -> httpx2.Response:
        sent = case.as_transport_kwargs(base_url=BASE)
        sent.pop("cookies", None)
        sent["headers"] = [(name.encode(), value.encode()) for name, value in sent["headers"].items()]
        if "data" in sent:
            sent["content"] = sent.pop("data")
        return self.runner.run(self.http.request(**sent))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with asyncio.Runner() as runner:
        context = place(tmp_path_factory.mktemp("api"))
        yield Running(runner, runner.run(context.__aenter__()))
        runner.run(context.__aexit__(None, None, None))


def beyond_a_schema(operation: str, response: httpx2.Response) -> bool:
    """What no schema can say: a cursor was never given out, a key was used, something changed, nobody is called so."""
    if response.headers.get("content-type") != "application/problem+json":
        return False
    kind = response.json()["type"].rpartition(":")[2]
    return kind in {"bad-cursor", "changed", "key-reused"} or (operation.startswith("PUT") and kind == "invalid")


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_the_document_says_is_so(running: Running, name: str) -> None:
    operation = OPERATIONS[name]
    strategies = [operation.as_strategy(generation_mode=mode) for mode in MODES]

    @settings(
        max_examples=15,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=st.one_of(strategies))
    def holds(case: Any) -> None:
        response = running.ask(case)
        excluded = [ignored_auth]
        if beyond_a_schema(name, response):
            excluded.append(positive_data_acceptance)
        case.validate_response(response, excluded_checks=excluded)

    holds()
