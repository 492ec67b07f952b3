"""The daemon serves the API on its private listener, with all that an act sets in motion."""

from __future__ import annotations

from pathlib import Path

from tests.daemon.conftest import settled
from tests.daemon.rig import rig


async def test_what_broke_is_found_and_repaired_through_the_api(tmp_path: Path) -> None:
    async with rig(tmp_path) as scene:
        await scene.start()
        await settled(scene)
        account = scene.account("facebook")
        scene.expire(account)
        await scene.mail(account.name)
        root = f"{scene.admin}/api/v1"
        me = (await scene.http.get(f"{root}/me")).json()
        (broken,) = (await scene.http.get(f"{root}/accounts?state=expired")).json()["items"]
        assert (me["by"], broken["ref"]) == ("local", str(account.id))
        headers = {"x-csrf-token": me["csrf"]}
        made = (await scene.http.post(f"{root}/accounts/{broken['id']}/link", headers=headers)).json()
        await scene.person.reconnect(made["url"])
        await scene.until(lambda: len(scene.mails()) == 2, "the good news")
        timeline = (await scene.http.get(f"{root}/accounts/{broken['id']}/timeline")).json()["items"]
        assert [one["what"] for one in timeline if one["what"].startswith("incident")] == [
            "incident opened",
            "incident repaired",
        ]


async def test_without_pages_there_is_no_api(tmp_path: Path) -> None:
    async with rig(tmp_path, access="pages = false") as scene:
        await scene.start()
        assert (await scene.http.get(f"{scene.admin}/api/v1/me")).status_code == 404
        assert (await scene.http.get(f"{scene.public}/api/v1/me")).status_code == 404
