"""Writes the dashboards: `python deploy/grafana/dashboards.py`.

`--check` writes nothing and ends with 1 when a file is not what stands here. What replicas read from the same database
is the same from each: such gauges are asked with ``max``, never added up.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
HERE = 'workspace=~"$workspace"'
THERE = f'{HERE}, platform=~"$platform"'
WORKS = f'{THERE}, state=~"healthy|expiring"'
COUNTED = f'{THERE}, state!~"removed|unknown"'
BROKEN = f'{THERE}, state=~"expired|disconnected"'
REPAIRED = f'{THERE}, how="repaired"'
WIDE, HALF, THIRD, QUARTER, SIXTH = 24, 12, 8, 6, 4


class Query(NamedTuple):
    expr: str
    legend: str = ""


Panel = timeseries.Panel | stat.Panel | bargauge.Panel


def _query(query: Query, ref: str, *, instant: bool) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expr).legend_format(query.legend or "__auto").ref_id(ref)
    return made.instant() if instant else made.range()


def _thresholds(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    made = [models.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)


CALM = ((None, "blue"),)
NONE_IS_GOOD = ((None, "green"), (1.0, "orange"))
UP_IS_GOOD = ((None, "red"), (1.0, "green"))


def lines(
    title: str, text: str, *queries: Query, unit: str = "short", span: int = HALF, stacked: bool = False
) -> timeseries.Panel:
    """Curves over time."""
    panel = (
        timeseries.Panel().title(title).description(text).datasource(SOURCE).unit(unit).span(span).height(8).min(0)
        .fill_opacity(30 if stacked else 8).show_points(common_models.VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().show_legend(True).display_mode(common_models.LegendDisplayMode.LIST)
                .placement(common_models.LegendPlacement.BOTTOM))
    )  # fmt: skip
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    for number, query in enumerate(queries):
        panel = panel.with_target(_query(query, chr(ord("A") + number), instant=False))
    return panel


def number(
    title: str,
    text: str,
    expr: str,
    *,
    unit: str = "short",
    span: int = SIXTH,
    steps: Sequence[tuple[float | None, str]] = CALM,
) -> stat.Panel:
    """One figure, as it is now."""
    return (
        stat.Panel().title(title).description(text).datasource(SOURCE).unit(unit).span(span).height(4)
        .thresholds(_thresholds(*steps)).graph_mode(common_models.BigValueGraphMode.NONE)
        .with_target(_query(Query(expr), "A", instant=True))
    )  # fmt: skip


def bars(title: str, text: str, *queries: Query, span: int = HALF, unit: str = "short") -> bargauge.Panel:
    """Figures side by side, such as the steps of a funnel."""
    panel = (
        bargauge.Panel().title(title).description(text).datasource(SOURCE).unit(unit).span(span).height(8).min(0)
        .thresholds(_thresholds(*CALM)).orientation(common_models.VizOrientation.HORIZONTAL)
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
    )  # fmt: skip
    for place, query in enumerate(queries):
        panel = panel.with_target(_query(query, chr(ord("A") + place), instant=True))
    return panel


def quantiles(metric: str, by: str = "", where: str = "", over: str = "$__rate_interval") -> tuple[Query, ...]:
    """Median and 95th percentile of a histogram; without anything to measure a gap and no NaN. What people do is rare:
    only over days there is something to measure.
    """
    kept = f"le, {by}" if by else "le"
    matcher = f"{{{where}}}" if where else ""
    named = f" {{{{{by}}}}}" if by else ""
    return tuple(
        Query(
            f"histogram_quantile({share}, sum by ({kept}) (rate({metric}_bucket{matcher}[{over}])) > 0)",
            f"{word}{named}",
        )
        for share, word in ((0.5, "median"), (0.95, "95 %"))
    )


def rate(metric: str, by: str, where: str = "") -> Query:
    matcher = f"{{{where}}}" if where else ""
    return Query(f"sum by ({by}) (rate({metric}{matcher}[$__rate_interval]))", _legend(by))


def grown(metric: str, by: str = "", where: str = "", over: str = "$__range") -> str:
    """How much a counter grew, whole and over all replicas."""
    matcher, group = f"{{{where}}}" if where else "", f" by ({by})" if by else ""
    return f"round(sum{group} (increase({metric}{matcher}[{over}])))"


def _legend(by: str) -> str:
    return " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))


def states(by: str, where: str) -> str:
    """Accounts, counted once however many replicas tell of them."""
    return f"sum by ({by}) (max by (workspace, platform, state) (healthd_accounts{{{where}}}))"


def _pick(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name).label(label).query(query).datasource(SOURCE).multi(True).include_all(True)
        .all_value(".*").refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )  # fmt: skip


def board(uid: str, title: str, text: str, rows: Mapping[str, Sequence[Panel]], *, since: str) -> dashboard.Dashboard:
    """A dashboard with the variables that all of them share, and links to the others."""
    made = (
        dashboard.Dashboard(title).uid(uid).description(text).tags(["healthd"]).readonly().refresh("1m")
        .time(since, "now").timezone("browser").tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(dashboard.DashboardLink("healthd").type(models.DashboardLinkType.DASHBOARDS).tags(["healthd"])
              .as_dropdown(True).keep_time(True).include_vars(True))
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_pick("workspace", "Workspace", "label_values(healthd_incidents_open, workspace)"))
        .with_variable(_pick("platform", "Platform", f"label_values(healthd_accounts{{{HERE}}}, platform)"))
    )  # fmt: skip
    ids = itertools.count(1)
    for name, panels in rows.items():
        made = made.with_row(dashboard.Row(name).id(next(ids)))
        for panel in panels:
            made = made.with_panel(panel.id(next(ids)))
    return made


def fleet() -> dashboard.Dashboard:
    broken, now = states("platform", BROKEN), states("state", THERE)
    lasting = f"sum(max by (workspace, platform) (healthd_storms{{{THERE}}})) or vector(0)"
    return board("healthd-fleet", "healthd: the fleet", "Are our accounts alive, and where are they not?", {
        "Now": (
            number("Accounts that work", "Without those that were removed or never read. Below 99 %: see by platform.",
                   f"sum({states('state', WORKS)}) / sum({states('state', COUNTED)})",
                   unit="percentunit", steps=((None, "red"), (0.95, "orange"), (0.99, "green"))),
            number("Broken", "Accounts that wait for a person. `healthd incidents` lists them.",
                   f"sum({states('state', BROKEN)})", steps=NONE_IS_GOOD),
            number("Broken for a week", "Reminders did not help: call their people. `healthd explain ACCOUNT`. Muted "
                   "accounts do not count.",
                   f'sum(max by (workspace) (healthd_incidents_open_for_long{{{HERE}, longer_than="7d"}}))',
                   steps=NONE_IS_GOOD),
            number("Nobody told", "Broken, and no message reaches anybody: add an owner or a route. "
                   "`healthd routes test ACCOUNT`.",
                   f"sum(max by (workspace) (healthd_incidents_nobody_told{{{HERE}}}))", steps=NONE_IS_GOOD),
            number("Storms", "Platforms whose accounts broke all at once; their messages are held. `healthd storms "
                   "list`.",
                   lasting, steps=NONE_IS_GOOD),
            number("Paused", "Accounts whose posting is paused, by a person or by healthd.",
                   f"sum(max by (workspace, platform) (healthd_accounts_paused{{{THERE}}}))"),
        ),
        "By platform": (
            lines("Broken accounts", "A step on one platform alone is the platform's: see storms. A slow rise on all "
                  "is people who do not answer: see the funnel.", Query(broken, "{{platform}}"), stacked=True),
            lines("Accounts by state", "*suspect* lasts for minutes at the most. If it grows, confirmations do not "
                  "come: see provider.", Query(now, "{{state}}"), stacked=True),
            bars("Share that works", "The worst platform first deserves a look.",
                 Query(f"sort({states('platform', WORKS)} / ({states('platform', COUNTED)} > 0))", "{{platform}}"),
                 unit="percentunit"),
            bars("Incidents", "Opened within the time shown. One platform far ahead: its grants are short, or "
                 "something upstream loses them.",
                 Query(grown("healthd_incidents_opened_total", "platform", THERE), "{{platform}}")),
        ),
        "History": (
            lines("Opened and repaired", "Where more is opened than repaired for days, people do not keep up.",
                  Query(grown("healthd_incidents_opened_total", where=THERE, over="1h"), "opened"),
                  Query(grown("healthd_incidents_resolved_total", "how", THERE, "1h"), "{{how}}")),
            lines("Share that works", "What you promise your customers, by workspace.",
                  Query(f"workspace:healthd_accounts_healthy:ratio{{{HERE}}}", "{{workspace}}"), unit="percentunit"),
        ),
    }, since="now-7d")  # fmt: skip


STEPS = (("told", "told"), ("opened", "page opened"), ("minted", "link given"))


def repair() -> dashboard.Dashboard:
    detected = grown("healthd_incidents_opened_total", where=THERE)
    repaired = grown("healthd_incidents_resolved_total", where=REPAIRED)
    steps = [Query(grown("healthd_repair_steps_total", where=f'{THERE}, step="{step}"'), word) for step, word in STEPS]
    return board("healthd-repair", "healthd: from break to repair", "Where do repairs get stuck, and how long do they "
                 "take?", {
        "Funnel": (
            bars("How far incidents came", "Each incident counts once for each step. Few told: routes, quiet hours, "
                 "channels. Few opened: the message or its reader (robots open pages too). Few given a link: the page, "
                 "or the API. Few repaired: the wrong login. What repairs itself skips steps.",
                 Query(detected, "detected"), *steps, Query(repaired, "repaired"), span=HALF),
            lines("The same over time", "By the hour.",
                  Query(grown("healthd_incidents_opened_total", where=THERE, over="1h"), "detected"),
                  Query(grown("healthd_repair_steps_total", "step", THERE, "1h"), "{{step}}"),
                  Query(grown("healthd_incidents_resolved_total", where=REPAIRED, over="1h"),
                        "repaired")),
        ),
        "How long it takes": (
            lines("Until we know", "Over a day, from the break, by the provider's clock. *bulk* far above *webhook* is "
                  "right; *webhook* missing is not: `healthd webhook status`.",
                  *quantiles("healthd_time_to_detect_seconds", "source", over="1d"), unit="s", span=THIRD),
            lines("Until somebody is told", "Over a day. Waiting for others of the same login and for the end of quiet "
                  "hours is part of it.",
                  *quantiles("healthd_time_to_notify_seconds", "channel", over="1d"), unit="s", span=THIRD),
            lines("Until it is repaired", "Over a week. Days: see whether reminders and the next level of the chain "
                  "come early enough (`remind_after`, `escalate_after`).",
                  *quantiles("healthd_time_to_repair_seconds", where='platform=~"$platform"', over="7d"),
                  unit="s", span=THIRD),
        ),
        "Messages": (
            lines("Handed over, by channel", "*retry* that lasts: the channel is down, `healthd notify-test "
                  "CHANNEL`. *dead*: given up, the log says why.", rate("healthd_notices_total", "channel, outcome")),
            lines("Waiting and held", "*pending* that only grows: nothing goes out. Held: `healthd explain ACCOUNT` "
                  "says by what.",
                  Query("max by (status) (healthd_outbox_notices)", "{{status}}"),
                  Query("max by (by) (healthd_notices_held)", "held: {{by}}")),
            lines("Longest overdue", "Above ten minutes nobody sends: see the log.",
                  Query("max(healthd_outbox_oldest_due_seconds)", "seconds"), unit="s", span=THIRD),
            lines("Tried again", "Messages that were refused at least once, by channel. None is good.",
                  Query("max by (channel) (healthd_outbox_retrying) or vector(0)", "{{channel}}"), span=THIRD),
            lines("Addresses not written to", "Messages came back from them: `healthd contacts bounced`.",
                  Query("max by (channel) (healthd_bad_addresses) or vector(0)", "{{channel}}"), span=THIRD),
        ),
        "Pages": (
            lines("Shown", "By what the page said. *over* and *again*: people come late; reminders may be too old.",
                  rate("healthd_link_pages_total", "state"), span=THIRD),
            lines("Button pressed", "Anything but *minted* is a person who wanted to repair and could not: see "
                  "provider.",
                  rate("healthd_link_mints_total", "outcome"), span=THIRD),
            lines("Refused", "*often*: a robot. *invalid*: links that were cut off on their way, or guessed.",
                  Query(f"{rate('healthd_link_refused_total', 'reason').expr} or vector(0)", "{{reason}}"), span=THIRD),
        ),
    }, since="now-7d")  # fmt: skip


def provider() -> dashboard.Dashboard:
    return board("healthd-provider", "healthd: provider and allowance", "Does the API answer, is our share of its rate "
                 "limit enough, and do webhooks come?", {
        "Now": (
            number("Troubles", "What stands between healthd and the API. `healthd check-config --online` says what "
                   "to do.",
                   f"sum(max by (workspace, kind) (healthd_api_trouble{{{HERE}}})) or vector(0)", span=QUARTER,
                   steps=NONE_IS_GOOD),
            number("Oldest sweep", "States are this old at the most. Above five intervals: see troubles.",
                   f"time() - min(max by (workspace) (healthd_sweep_last_success_timestamp_seconds{{{HERE}}}) > 0)",
                   unit="s", span=QUARTER, steps=((None, "green"), (900.0, "red"))),
            number("Webhooks in order", "Workspaces whose webhook is missing or stopped count against it; without "
                   "any that is looked after there is nothing to show. `healthd webhook status`.",
                   f"min(healthd_webhook_subscription_ok{{{HERE}}}) or vector(1)", span=QUARTER, steps=UP_IS_GOOD),
            number("Not understood", "Webhooks that are kept unread: the provider says something new. Look for "
                   "`parked` in the log, and report it.",
                   'max(healthd_inbox_webhooks{status="parked"})', span=QUARTER, steps=NONE_IS_GOOD),
        ),
        "Calls": (
            lines("By outcome", "Anything but *ok* that lasts becomes a trouble, of which operators are told.",
                  rate("healthd_api_requests_total", "endpoint, outcome", HERE), unit="reqps"),
            lines("How long they take", "Near `sweep.request_timeout` calls fail.",
                  *quantiles("healthd_api_request_seconds", "endpoint", HERE), unit="s"),
            lines("Sweeps", "Without *ok* nothing is seen but what webhooks tell.",
                  rate("healthd_sweeps_total", "workspace, outcome", HERE), span=THIRD),
            lines("How long a sweep takes", "Above `sweep.bulk_interval` sweeps are left out.",
                  *quantiles("healthd_sweep_duration_seconds", "workspace", HERE), unit="s", span=THIRD),
            lines("Rows not believed", "A sweep that contradicts itself; each such account is asked by itself. Many: "
                  "report it.",
                  Query(f"{rate('healthd_sweep_unclear_rows_total', 'workspace, why', HERE).expr} or vector(0)",
                        "{{workspace}} {{why}}"), span=THIRD),
        ),
        "Allowance": (
            lines("Used, and our share", "At the share for long: states get old. Raise `rate_share`, or lengthen "
                  "`sweep.account_interval`.",
                  Query(f"max by (workspace) (healthd_api_allowance_used{{{HERE}}})", "used {{workspace}}"),
                  Query(f"max by (workspace) (healthd_api_allowance_share{{{HERE}}})", "share {{workspace}}"),
                  Query(f"max by (workspace) (healthd_api_allowance_limit{{{HERE}}})", "limit {{workspace}}")),
            lines("Calls that wait", "*click* above zero is a person in front of a page. *rotation* may wait.",
                  Query(f"sum by (lane) (healthd_api_calls_waiting{{{HERE}}})", "{{lane}}")),
        ),
        "Webhooks": (
            lines("By answer", "*accepted* and *duplicate* are good. *mismatch*: the secret is not the provider's.",
                  rate("healthd_webhooks_total", "workspace, outcome", HERE)),
            lines("Events", "*unparsed*: kept unread.", rate("healthd_webhook_events_total", "event", HERE)),
            lines("What was learnt", "*fenced* came too late to count, which is right.",
                  rate("healthd_observations_total", "source, signal, outcome", HERE)),
            lines("Acknowledgement", "From the last byte to the answer, the commit included. Above a second: the disk.",
                  *quantiles("healthd_webhook_ack_seconds"), unit="s"),
        ),
    }, since="now-6h")  # fmt: skip


def daemon() -> dashboard.Dashboard:
    job = 'job="healthd"'
    return board("healthd-daemon", "healthd: the daemon", "Is the process itself well?", {
        "Now": (
            number("Up", "Instances that answer. Fewer than you run: `healthd healthcheck` there.", f"sum(up{{{job}}})",
                   steps=UP_IS_GOOD),
            number("Database", "0: an instance cannot use it; where none can, webhooks are refused and nothing is "
                   "sent. `curl ADMIN/readyz`.", "min(healthd_store_up)", steps=UP_IS_GOOD),
            number("Inbox", "Webhooks on disk that nobody has looked at. More than some: see the log.",
                   'max(healthd_inbox_webhooks{status="new"})', steps=((None, "green"), (100.0, "red"))),
            number("Jobs failed", "Within the time shown. The log says which and why.",
                   f"{grown('healthd_jobs_failed_total')} or vector(0)", steps=NONE_IS_GOOD),
            number("Running for", "Since the youngest instance was started. Short, again and again: it is killed, "
                   "mostly for want of memory.", f"time() - max(process_start_time_seconds{{{job}}})", unit="s"),
            number("Instances by version", "More than one version for long: an upgrade stopped half-way.",
                   "count(count by (version) (healthd_build_info))", steps=((None, "green"), (2.0, "orange"))),
        ),
        "Process": (
            lines("Event loop", "Above half a second everything is late.",
                  Query("max by (instance) (max_over_time(healthd_event_loop_lag_seconds[$__rate_interval]))",
                        "{{instance}}"), unit="s"),
            lines("CPU", "One core is the most that one process can use for long.",
                  rate("process_cpu_seconds_total", "instance", job), unit="percentunit"),
            lines("Memory", "A line that only rises, over days, is worth a report.",
                  Query(f"process_resident_memory_bytes{{{job}}}", "{{instance}}"), unit="bytes"),
            lines("Open files", "Near the limit new connections fail: LimitNOFILE.",
                  Query(f"process_open_fds{{{job}}}", "open {{instance}}"),
                  Query(f"process_max_fds{{{job}}}", "limit {{instance}}")),
        ),
        "Work": (
            lines("Webhooks taken", "By instance. One that takes all, or none: look at the proxy before them.",
                  rate("healthd_webhooks_total", "instance"), unit="reqps", span=THIRD),
            lines("Learnt of accounts", "By instance. What one leaves undone another one does: a dead replica shows as "
                  "a gap, and the others rise.", rate("healthd_observations_total", "instance"), span=THIRD),
            lines("Messages handed over", "By instance. Whoever is free takes the next one.",
                  rate("healthd_notices_total", "instance"), span=THIRD),
            lines("Jobs that failed", "By name. None is good.",
                  Query(f"{rate('healthd_jobs_failed_total', 'task').expr} or vector(0)", "{{task}}"), span=THIRD),
            lines("Series scraped", "Bounded by workspaces x platforms x states. A line that rises is a bug.",
                  Query(f"scrape_samples_scraped{{{job}}}", "{{instance}}"), span=THIRD),
            lines("Scrape", "Above a second the database is slow.",
                  Query(f"scrape_duration_seconds{{{job}}}", "{{instance}}"), unit="s", span=THIRD),
        ),
    }, since="now-6h")  # fmt: skip


BOARDS: dict[str, Callable[[], dashboard.Dashboard]] = {
    "fleet.json": fleet,
    "repair.json": repair,
    "provider.json": provider,
    "daemon.json": daemon,
}


def text_of(name: str) -> str:
    """A dashboard as Grafana reads it."""
    return json.dumps(BOARDS[name]().build(), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


def main(check: bool) -> int:
    """Writes the files, or says which are not current."""
    stale = [
        name for name in BOARDS if not (FOLDER / name).exists() or (FOLDER / name).read_text("utf-8") != text_of(name)
    ]
    for name in stale:
        if check:
            print(f"{name} is not what dashboards.py says: run `python deploy/grafana/dashboards.py`", file=sys.stderr)
        else:
            (FOLDER / name).write_text(text_of(name), "utf-8")
            print(f"wrote {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
