"""What a link outlives, and what it does not."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from healthd.demo.person import read
from tests.daemon.rig import LINK_SECRET, rig
from tests.web.site import Site, site

NEWER_SECRET = "another-secret-that-signs-links-in-the-tests"


def link_settings(scene: Site, *secrets: str, lifetime: str = "7d") -> str:
    hosts = f'allowed_hosts = ["127.0.0.1:{scene.scene.ports["sandbox"]}"]'
    return f'secrets = {list(secrets)}\nlifetime = "{lifetime}"\n{hosts}'


async def test_a_link_outlives_restarts_and_a_change_of_the_secret_but_not_its_lifetime(tmp_path: Path) -> None:
    async with site(tmp_path, each=32) as made:
        scene = made.scene
        broken = await made.broken()
        async with made.visitor() as http:
            form = read(await http.get(broken.link)).fields

            await scene.stop()
            await scene.start()
            assert (await http.post(broken.link, data=form)).status_code == 303

            await scene.stop()
            scene.settings["link"] = link_settings(made, LINK_SECRET, NEWER_SECRET)
            await scene.start()
            scene.travel(timedelta(hours=1))
            assert (await http.post(broken.link, data=form)).status_code == 303

            scene.travel(timedelta(days=6, hours=22))
            page = await http.get(broken.link)
            assert page.status_code == 200
            assert (await http.post(broken.link, data=form)).status_code == 403
            assert (await http.post(broken.link, data=read(page).fields)).status_code == 303

            scene.travel(timedelta(hours=1, minutes=1))
            assert (await http.get(broken.link)).status_code == 410
            assert (await http.post(broken.link, data=read(page).fields)).status_code == 410

            await scene.stop()
            scene.settings["link"] = link_settings(made, NEWER_SECRET)
            await scene.start()
            assert (await http.get(broken.link)).status_code == 404
            made.forget()
            newer = await made.broken()
            assert (await http.get(newer.link)).status_code == 200


async def test_without_a_page_of_ours_there_is_nothing_under_its_address(tmp_path: Path) -> None:
    async with rig(tmp_path, link='mode = "direct"') as scene:
        await scene.start()
        assert (await scene.http.get(f"{scene.public}/r/anything")).status_code == 404
