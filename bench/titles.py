"""What figures and their circumstances are called where people read of them: in a table, above a curve."""

from __future__ import annotations

TITLES = {
    "burst.acknowledged": "all webhooks acknowledged",
    "burst.cpu": "processor time",
    "burst.cpu_each": "",
    "burst.digested": "digested",
    "burst.incidents_open": "",
    "burst.messages_to_people": "messages to people",
    "burst.messages_to_the_operator": "messages to the operator",
    "burst.most_to_one_person": "messages to one person, at the most",
    "burst.peak_memory": "memory, the most",
    "burst.told_to_come_again": "webhooks put off by a 503, and sent again",
    "burst.understood": "",
    "checks.by_clock_to_blackbox": "single checks, by the clock",
    "checks.by_clock_to_client": "single checks, by the clock",
    "checks.per_core_to_blackbox": "single checks, of one core",
    "checks.per_core_to_client": "single checks, of one core",
    "latency.cpu_each": "processor time for one, with the checks that follow",
    "latency.p50": "webhook to message handed over, p50",
    "latency.p99": "webhook to message handed over, p99",
    "peers.acted_on": "webhooks that break an account, by the clock",
    "peers.acted_on_p99": "webhooks that break an account, p99",
    "peers.acted_on_per_core": "webhooks that break an account, of one core",
    "peers.heard": "webhooks that concern no account, by the clock",
    "peers.heard_p99": "webhooks that concern no account, p99",
    "peers.heard_per_core": "webhooks that concern no account, of one core",
    "peers.memory": "memory",
    "replicas.acknowledged": "acknowledged",
    "replicas.acknowledged_p99": "p99",
    "replicas.cpu_each": "processor time for one",
    "replicas.evenness": "the least busy, of its fair share",
    "replicas.takeover": "worked off after a SIGKILL",
    "replicas.worked_off": "worked off",
    "scale.check_cpu": "an account by itself, processor",
    "scale.cold_start": "start until all known",
    "scale.cold_start_cpu": "start until all known, processor",
    "scale.disk": "on disk, for one account",
    "scale.inventory_cpu": "list of accounts, processor",
    "scale.memory_at_most": "memory, the most",
    "scale.memory_at_rest": "memory at rest",
    "scale.no_news": "sweep without news",
    "scale.no_news_cpu": "sweep without news, processor",
    "scale.one_percent_broke": "sweep, 1 % broke",
    "scale.one_percent_broke_cpu": "sweep, 1 % broke, processor",
    "scale.page_accounts": "page of accounts",
    "scale.page_broken": "page of broken accounts",
    "scale.page_one_account": "page of one account",
    "scale.page_overview": "overview",
    "scale.page_scrape": "a scrape",
    "scale.page_search": "a search",
    "scale.page_search_nothing": "a search that finds nothing",
    "scale.ready": "ready after the first start",
    "scale.ready_again": "ready after a restart",
    "scale.rotation_cpu": "every account by itself in six hours, of a core",
    "scale.sandbox_memory": "memory of the sandbox, the most",
    "sweep.all_news": "a sweep, all new",
    "sweep.memory": "its memory",
    "sweep.no_news": "a sweep without news",
    "sweep.stall": "longest stall of the event loop",
    "webhooks.acknowledged": "acknowledged, by the clock",
    "webhooks.cpu_each": "",
    "webhooks.on_a_core_to_itself": "acknowledged, of one core",
    "webhooks.on_disk": "on disk, by the clock",
    "webhooks.p50": "p50",
    "webhooks.p99": "p99",
    "workspaces.idle_cpu": "processor at rest",
    "workspaces.memory": "memory",
    "workspaces.ready": "ready after the start",
    "workspaces.scrape": "a scrape, by the clock",
    "workspaces.scrape_cpu": "a scrape, processor",
    "workspaces.series": "series",
    "workspaces.wakeups": "wake-ups",
}
"""Every figure that a program says; an empty title is a step on the way to another figure, and in no table."""
STORES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
WORDS = {
    "event": {
        "account.token_expired": "webhooks that break an account",
        "comment.received": "webhooks that concern no account",
    },
    "gate": {"off": "without the gate for mass failures", "on": "with the gate for mass failures"},
    "store": STORES,
}
"""Circumstances that are no sizes."""


def headed(name: str, unit: str) -> str:
    """Title and unit, above a column or a curve."""
    title = TITLES[name]
    return title if title == unit else f"{title}, {unit}"


def circumstance(name: str, value: str | int) -> str:
    """*1,000 accounts*, *SQLite*, *webhooks that break an account*."""
    return f"{value:,} {name}" if isinstance(value, int) else WORDS[name][value]
