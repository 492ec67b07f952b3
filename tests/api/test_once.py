"""A write under an Idempotency-Key is done once, whatever is repeated, at once or after a crash."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from healthd.api.door import Door
from healthd.store import access, answers
from healthd.store.schema import answers as table
from tests.api.place import Place
from tests.loopback import answer
from tests.tidy import tidy

KEY = {"idempotency_key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


async def acts(here: Place) -> int:
    return len(await here.store.read(access.audit_of, None, 100)) - 1


async def kept(here: Place) -> list[Any]:
    return list(await here.store.read(lambda connection: connection.execute(select(table)).all()))


async def test_a_repeat_has_the_first_answer_and_does_nothing(here: Place) -> None:
    path = f"/accounts/{here.ids['healthy']}/mute"
    first = await here.post(path, {"for": "2h"}, **KEY)
    here.clock.at += timedelta(hours=1)
    again = await here.post(path, {"for": "2h"}, **KEY)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["content-type"] == "application/json"
    assert await acts(here) == 1


async def test_a_key_in_quotes_is_the_same_key(here: Place) -> None:
    path = f"/accounts/{here.ids['healthy']}/mute"
    await here.post(path, {"for": "2h"}, idempotency_key='"one"')
    await here.post(path, {"for": "2h"}, idempotency_key="one")
    assert await acts(here) == 1


@pytest.mark.parametrize(
    ("path", "body"), [("mute", {"for": "3h"}), ("snooze", {"for": "2h"}), ("mute", {"for": "2h "})]
)
async def test_a_key_is_for_one_request_only(here: Place, path: str, body: dict[str, str]) -> None:
    await here.post(f"/accounts/{here.ids['expired']}/mute", {"for": "2h"}, **KEY)
    other = await here.post(f"/accounts/{here.ids['expired']}/{path}", body, **KEY)
    assert (other.status_code, other.json()["type"]) == (422, "urn:healthd:problem:key-reused")
    assert await acts(here) == 1


async def test_somebody_elses_key_is_another(here: Place) -> None:
    path = f"/accounts/{here.ids['healthy']}/mute"
    await here.post(path, {"for": "2h"}, "operator", **KEY)
    other = await here.post(path, {"for": "3h"}, "admin", **KEY)
    assert other.status_code == 200
    assert await acts(here) == 2


async def test_of_two_at_once_one_is_done_and_the_other_is_told_to_wait(here: Place) -> None:
    path = f"/accounts/{here.ids['healthy']}/pause-posting"
    first, second = await asyncio.gather(here.post(path, **KEY), here.post(path, **KEY))
    assert sorted((first.status_code, second.status_code)) == [200, 409]
    late = max(first, second, key=lambda one: one.status_code)
    assert (late.json()["type"], late.headers["retry-after"]) == ("urn:healthd:problem:under-way", "1")
    assert len(here.asked) == 1


async def test_after_an_error_the_same_key_may_be_used_again(here: Place) -> None:
    path, well = f"/accounts/{here.ids['healthy']}/pause-posting", here.said
    here.said = lambda _: answer(503)
    assert (await here.post(path, **KEY)).status_code == 503
    here.said = well
    assert (await here.post(path, **KEY)).status_code == 200


async def test_a_write_that_was_cut_off_is_taken_over_after_a_minute(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies between the act and its answer: nothing of what follows the act is done."""

    class Killed(BaseException):
        pass

    async def killed(self: Door, *_: object) -> None:
        raise Killed

    path = f"/accounts/{here.ids['healthy']}/mute"
    with monkeypatch.context() as patched:
        patched.setattr(answers, "end", _raising(Killed))
        patched.setattr(Door, "_forget", killed)
        with pytest.raises(Killed):
            await here.post(path, {"for": "2h"}, **KEY)
    assert await acts(here) == 1
    here.clock.at += timedelta(seconds=59)
    assert (await here.post(path, {"for": "2h"}, **KEY)).status_code == 409
    here.clock.at += timedelta(seconds=1)
    again = await here.post(path, {"for": "2h"}, **KEY)
    assert again.json()["muted_until"] == "2026-03-01T15:01:00Z"
    assert (await here.post(path, {"for": "2h"}, **KEY)).content == again.content


def _raising(error: type[BaseException]) -> Any:
    def raising(*_: object, **__: object) -> None:
        raise error

    return raising


async def test_whoever_was_taken_over_does_not_overwrite_the_answer(here: Place) -> None:
    now = here.clock.now()
    facts = ("token:ada", "k", "digest")
    assert await here.store.run(answers.begin, *facts, now) is None
    later = now + answers.LOST_AFTER
    assert await here.store.run(answers.begin, *facts, later) is None
    await here.store.run(answers.end, "token:ada", "k", now, answers.Answer(200, b"of the first"))
    await here.store.run(answers.end, "token:ada", "k", later, answers.Answer(200, b"of the second"))
    await here.store.run(answers.forget, "token:ada", "k", now)
    found = await here.store.run(answers.begin, *facts, later)
    assert found is not None
    assert found.body == b"of the second"


async def test_a_link_is_never_kept_and_is_made_again(here: Place) -> None:
    path = f"/accounts/{here.ids['healthy']}/link"
    first = await here.post(path, **KEY)
    again = await here.post(path, **KEY)
    assert (first.status_code, again.status_code, len(here.asked)) == (200, 200, 2)
    rows = await kept(here)
    assert [(row.status, row.body, row.headers) for row in rows] == [(0, b"", "{}")]
    assert (await here.post(f"/accounts/{here.ids['healthy']}/check", **KEY)).status_code == 422


async def test_answers_are_forgotten_after_a_day(here: Place) -> None:
    path = f"/accounts/{here.ids['healthy']}/mute"
    await here.post(path, {"for": "2h"}, **KEY)
    here.clock.at += timedelta(hours=24, seconds=1)
    await here.store.run(tidy, here.clock.now())
    assert await kept(here) == []


async def test_a_key_is_anew_after_a_day_even_before_it_is_swept_away(here: Place) -> None:
    path = f"/accounts/{here.ids['healthy']}/mute"
    await here.post(path, {"for": "2h"}, **KEY)
    here.clock.at += timedelta(hours=24, seconds=1)
    assert "idempotency-replayed" not in (await here.post(path, {"for": "2h"}, **KEY)).headers


@pytest.mark.parametrize("key", ["", " ", "é", "k" * 201, 'a"b', "a b"])
async def test_a_key_that_is_none_is_refused(here: Place, key: str) -> None:
    async with here.client() as http:
        headers = [(b"idempotency-key", key.encode())]
        response = await http.post(f"/accounts/{here.ids['healthy']}/check", headers=headers)
    assert (response.status_code, response.json()["type"]) == (400, "urn:healthd:problem:bad-key")


async def test_two_keys_are_none(here: Place) -> None:
    async with here.client() as http:
        headers = [("idempotency-key", "a"), ("idempotency-key", "b")]
        response = await http.post(f"/accounts/{here.ids['healthy']}/check", headers=headers)
    assert response.status_code == 400
