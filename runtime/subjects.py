"""The subjects of the three streams, commands, events and dead letters; of the load reports and of the tenants' feeds,
which no stream keeps.

Builders and parsers are each other's inverse. Neither tenant nor key stands in a command subject: their number is
partitions times stages, because every distinct subject costs memory on the server.
"""

from __future__ import annotations

import re

__all__ = [
    "COMMANDS",
    "COMMAND_SUBJECTS",
    "DEAD",
    "DEAD_SUBJECTS",
    "EVENTS",
    "EVENT_SUBJECTS",
    "LOAD_SUBJECTS",
    "command_filters",
    "command_subject",
    "dead_subject",
    "event_filter",
    "event_subject",
    "feed_subject",
    "load_subject",
    "parse_command_subject",
    "parse_dead_subject",
    "parse_event_subject",
]

COMMANDS = "ZC"
EVENTS = "ZE"
DEAD = "ZD"
COMMAND_SUBJECTS = "zc.>"
EVENT_SUBJECTS = "ze.>"
DEAD_SUBJECTS = "zd.>"
LOAD_SUBJECTS = "zl.*"

_TOKEN = re.compile(r"[a-zA-Z0-9_-]+\Z")
_NOT_IN_TOKEN = re.compile(r"[^a-zA-Z0-9_-]+")
_NUMBER = re.compile(r"0\Z|[1-9][0-9]*\Z")


def command_subject(partition: int, stage: str) -> str:
    """`zc.<partition>.<stage>`. Raises ValueError for a stage that is not one token."""
    return f"zc.{partition}.{_token(stage)}"


def event_subject(partition: int, tenant: str, topic: str) -> str:
    """`ze.<partition>.<tenant>.<topic>`, the dots of the topic written as dashes.

    Raises ValueError for a tenant or topic that does not fit into one token.
    """
    return f"ze.{partition}.{_token(tenant)}.{_token(topic.replace('.', '-'))}"


def feed_subject(tenant: str, topic: str, intent: str) -> str:
    """`zentra.feed.<tenant>.<topic>.<intent>`, the topic with its dots: the tenant subscribes without its own name.

    Raises ValueError for a tenant or an intent that is not one token."""
    return f"zentra.feed.{_token(tenant)}.{topic}.{_token(intent)}"


def dead_subject(reason: str, partition: int) -> str:
    """`zd.<reason>.<partition>`. Raises ValueError for a reason that is not one token."""
    return f"zd.{_token(reason)}.{partition}"


def load_subject(worker: str) -> str:
    """`zl.<worker>`, everything that fits into no token written as a dash: the report itself names its worker."""
    return f"zl.{_NOT_IN_TOKEN.sub('-', worker) or '-'}"


def command_filters(partitions: frozenset[int], total: int) -> list[str]:
    """The subject filters of a consumer that owns these of all the partitions, at least one filter.

    Raises ValueError when no partition is owned, because a consumer without a filter would get everything.
    """
    if not partitions:
        raise ValueError("a consumer needs at least one partition")
    if len(partitions) == total:
        return [COMMAND_SUBJECTS]
    return [f"zc.{partition}.*" for partition in sorted(partitions)]


def event_filter(tenant: str | None = None) -> str:
    """The filter for the events of one tenant, or of all."""
    return EVENT_SUBJECTS if tenant is None else f"ze.*.{_token(tenant)}.*"


def parse_command_subject(subject: str) -> tuple[int, str]:
    """(partition, stage). Raises ValueError for any other subject."""
    match subject.split("."):
        case ["zc", partition, stage]:
            return _number(partition), _token(stage)
    raise ValueError(f"not a command subject: {subject!r}")


def parse_event_subject(subject: str) -> tuple[int, str, str]:
    """(partition, tenant, topic with dashes). Raises ValueError for any other subject."""
    match subject.split("."):
        case ["ze", partition, tenant, topic]:
            return _number(partition), _token(tenant), _token(topic)
    raise ValueError(f"not an event subject: {subject!r}")


def parse_dead_subject(subject: str) -> tuple[str, int]:
    """(reason, partition). Raises ValueError for any other subject."""
    match subject.split("."):
        case ["zd", reason, partition]:
            return _token(reason), _number(partition)
    raise ValueError(f"not a dead letter subject: {subject!r}")


def _token(text: str) -> str:
    if _TOKEN.match(text) is None:
        raise ValueError(f"not a subject token: {text!r}")
    return text


def _number(text: str) -> int:
    if _NUMBER.match(text) is None:
        raise ValueError(f"not a partition: {text!r}")
    return int(text)
