"""One trace leads from a webhook to the delivered mail, and nothing in it says whose account it is."""

from __future__ import annotations

import asyncio
import gzip
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult

from healthd import tracing
from healthd.config import ConfigError, load
from healthd.otel import OtelRecorder, OtlpExporter
from tests.daemon.conftest import settled
from tests.daemon.process import daemon_process
from tests.daemon.rig import WEBHOOK_SECRET, rig
from tests.loopback import answer, free_port, serving
from tests.tracing.collector import Collector, Seen, collecting

KEY = "the-key-of-the-collector"
TO_THE_PROBE = ["webhook.receive", "inbox.apply", "account.probe"]


def traced(address: str) -> str:
    return f'endpoint = "http://{address}"\nheaders = {{ x-key = "{KEY}" }}'


def way_to(span: Seen, collector: Collector) -> list[str]:
    """The names of all that a span belongs to, the outermost first, and its own."""
    by_id = {one.id: one for one in collector.spans}
    names = [span.name]
    while span.parent:
        span = by_id[span.parent]
        names.insert(0, span.name)
    return names


async def test_one_trace_leads_from_the_webhook_to_the_delivered_mail(tmp_path: Path) -> None:
    """In a process of its own, as it is run: with uvloop."""
    async with (
        collecting() as collector,
        rig(tmp_path, tracing=traced(collector.address)) as scene,
        daemon_process(scene) as daemon,
    ):
        await daemon.until_seen()
        account = scene.account("facebook")
        scene.expire(account)
        mail = await scene.mail(account.name)
        assert mail.link is not None
        assert await scene.person.reconnect(mail.link)
        await scene.mail("connected again")
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    [sent] = collector.named("notice.send", kind="opened")
    assert way_to(sent, collector) == [*TO_THE_PROBE, "incident.open", "notice.send"]
    assert sent.about == {"kind": "opened", "channel": "mail", "outcome": "sent"}
    [opened] = collector.named("incident.open")
    assert opened.about == {"workspace": "sandbox", "platform": "facebook"}
    ways = [way_to(one, collector) for one in collector.spans]
    assert [*TO_THE_PROBE, "incident.open", "notice.send", "notice.render"] in ways
    assert [*TO_THE_PROBE, "provider.call"] in ways
    assert ["link.mint", "provider.call"] in ways
    [good_news] = collector.named("notice.send", kind="resolved")
    assert way_to(good_news, collector)[-1] == "notice.send"
    assert good_news.trace != sent.trace

    everything = b"".join(gzip.decompress(one.body) for one in collector.asked)
    assert {one.path for one in collector.asked} == {"/v1/traces"}
    assert {one.headers["x-key"] for one in collector.asked} == {KEY}
    private = (account.name, "ada@acme.example", "sqk_", WEBHOOK_SECRET, "/r/", "http:", KEY)
    assert [word for word in private if word.encode() in everything] == []
    assert KEY not in daemon.log


async def test_a_reminder_has_a_trace_of_its_own_with_a_link_to_the_first(tmp_path: Path) -> None:
    async with collecting() as collector, rig(tmp_path, tracing=traced(collector.address)) as scene:
        await scene.start()
        await settled(scene)
        account = scene.account("pinterest")
        scene.expire(account)
        await scene.mail(account.name)
        scene.travel(timedelta(days=1, minutes=1))
        await scene.mail(account.name, since=1)
        await scene.stop()
        [first] = collector.named("notice.send", kind="opened")
        [reminder] = collector.named("notice.send", kind="reminder")
        assert reminder.parent == ""
        assert reminder.trace != first.trace
        assert reminder.links == (first.trace,)


@pytest.mark.parametrize("how", ["nobody listens", "refuses"])
async def test_without_its_collector_healthd_works_and_says_so_once(tmp_path: Path, how: str) -> None:
    async with collecting() as collector:
        collector.status = 503
        address = collector.address if how == "refuses" else f"127.0.0.1:{free_port()}"
        async with rig(tmp_path, tracing=traced(address)) as scene, daemon_process(scene) as daemon:
            await daemon.until_seen()
            account = scene.account("facebook")
            scene.expire(account)
            await scene.mail(account.name)
            daemon.send(signal.SIGTERM)
            assert await daemon.ended() == 0
            [said] = daemon.events("tracing.not_delivered")
            assert said["reason"] == {"nobody listens": "ConnectError", "refuses": "status 503"}[how]


def test_without_the_settings_nothing_of_opentelemetry_is_imported_and_nothing_is_recorded() -> None:
    script = (
        "import sys, healthd.app, healthd.cli; from healthd import tracing\n"
        "with tracing.span('webhook.receive', workspace='acme') as trace: assert trace is None is tracing.current()\n"
        "tracing.carry(1); tracing.outcome('sent'); assert tracing.carried(1) is None\n"
        "assert [name for name in sys.modules if name.startswith('opentelemetry')] == []"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])


def test_where_opentelemetry_is_missing_the_settings_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("opentelemetry", "opentelemetry.sdk"):
        monkeypatch.setitem(sys.modules, name, None)
    path = tmp_path / "healthd.toml"
    path.write_text(
        '[link]\nmode = "direct"\n[workspaces.acme]\napi_key = "x"\n[tracing]\nendpoint = "http://127.0.0.1:4318"'
    )
    with pytest.raises(ConfigError, match=r"tracing.endpoint: .* pip install 'healthd\[otel\]'"):
        load(path, {})


WRONG = {
    "plain http to elsewhere": 'endpoint = "http://otel.example.com:4318"',
    "a key in the address": 'endpoint = "https://otel.example.com/?key=secret-key"',
    "more than all": "sample = 1.5",
    "a header of two lines": 'headers = { authorization = "secret-key\\r\\nhost: x" }',
    "a name that is none": 'headers = { "x key" = "secret-key" }',
}


@pytest.mark.parametrize("what", WRONG)
def test_a_mistake_in_the_settings_is_named_without_the_secret(tmp_path: Path, what: str) -> None:
    path = tmp_path / "healthd.toml"
    path.write_text(f'[link]\nmode = "direct"\n[workspaces.acme]\napi_key = "x"\n[tracing]\n{WRONG[what]}')
    with pytest.raises(ConfigError, match=r"tracing\.") as said:
        load(path, {})
    assert "secret-key" not in str(said.value)


async def test_a_share_of_the_traces_is_kept_and_each_of_these_whole(tmp_path: Path) -> None:
    async with collecting() as collector:
        recorder = OtelRecorder(f"http://{collector.address}", {}, 0.5, "1")
        with tracing.recording(recorder):
            for _ in range(200):
                with tracing.span("webhook.receive") as trace:
                    pass
                with tracing.span("inbox.apply", parent=trace):
                    pass
        await _closed(recorder)
        received = [one.trace for one in collector.named("webhook.receive")]
        assert 50 < len(received) < 150
        assert [one.trace for one in collector.named("inbox.apply")] == received


async def test_an_exception_is_told_by_its_class_alone() -> None:
    async with collecting() as collector:
        recorder = OtelRecorder(f"http://{collector.address}", {}, 1, "1")
        with tracing.recording(recorder), pytest.raises(ValueError, match="ada"), tracing.span("notice.send"):
            raise ValueError("no such mailbox: ada@acme.example")
        await _closed(recorder)
        [seen] = collector.spans
        assert seen.failed == "ValueError"
        assert b"ada" not in gzip.decompress(collector.asked[0].body)


async def test_what_is_kept_of_a_trace_and_cannot_be_read_begins_a_new_one() -> None:
    async with collecting() as collector:
        recorder = OtelRecorder(f"http://{collector.address}", {}, 1, "1")
        with tracing.recording(recorder), tracing.span("inbox.apply", parent="00-nonsense", links=["00-more"]) as trace:
            assert trace is not None
        await _closed(recorder)
        [seen] = collector.spans
        assert (seen.parent, seen.links) == ("", ())


async def test_a_redirect_is_not_followed_so_that_the_key_stays_where_it_belongs() -> None:
    async with collecting() as elsewhere:
        away = answer(307, headers={"location": f"http://{elsewhere.address}/v1/traces"})
        async with serving(lambda _: away) as address:
            exporter = OtlpExporter(f"http://{address}", {"x-key": KEY})
            assert await asyncio.to_thread(exporter.export, []) is SpanExportResult.FAILURE
            exporter.shutdown()
        assert elsewhere.asked == []


async def _closed(recorder: OtelRecorder) -> None:
    await asyncio.to_thread(recorder.close)
