"""The three streams as they must exist on the server, and the little administration they need.

Postgres is the source of truth, so retention is bounded on purpose: commands are purged behind the checkpoints and
refused when the stream is full (never dropped), events and dead letters forget their oldest. No message can be
deleted or edited one by one.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import msgspec

from zentra.runtime.subjects import COMMAND_SUBJECTS, COMMANDS, DEAD, DEAD_SUBJECTS, EVENT_SUBJECTS, EVENTS
from zentra.streams.connection import Connection
from zentra.streams.errors import STREAM_NAME_IN_USE, StreamFull, StreamRefused, StreamUnavailable

__all__ = ["StreamState", "ensure_streams", "purge_commands", "stream_state"]

_GIB = 1024**3
_SECOND_NS = 1_000_000_000
_DAY_NS = 86_400 * _SECOND_NS
# Long enough for every retry of a publisher; each remembered id costs the server some 260 bytes of memory.
_DEDUPE_WINDOW_NS = 120 * _SECOND_NS
_ADMIN_DEADLINE_S = 10.0
_CREATE_TRIES = 10
# Creating a replicated stream waits for an election, some 70 ms. Of requests that race to create it, a cluster leaves
# some unanswered for good, so an answer that takes this long does not come any more.
_CREATE_DEADLINE_S = 2.0
_random = secrets.SystemRandom()


class StreamState(msgspec.Struct, frozen=True):
    """What a stream holds: `first` is one past `last` when it is empty; `created` changes when it is made anew."""

    first: int
    last: int
    messages: int
    bytes: int
    created: str


class _State(msgspec.Struct):
    first_seq: int
    last_seq: int
    messages: int
    bytes: int


class _Info(msgspec.Struct):
    created: str
    state: _State


class _Names(msgspec.Struct):
    """The part of a stream listing that is read here."""

    streams: list[str] | None = None


def _configuration(
    name: str, subjects: str, *, days: int, discard: str, bytes_max: int, replicas: int
) -> dict[str, Any]:
    return {
        "name": name,
        "subjects": [subjects],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "discard": discard,
        "max_bytes": bytes_max,
        "max_msgs": -1,
        "max_consumers": -1,
        "max_msgs_per_subject": -1,
        "max_msg_size": -1,
        "max_age": days * _DAY_NS,
        "duplicate_window": _DEDUPE_WINDOW_NS,
        "allow_direct": True,
        "deny_delete": True,
        "deny_purge": False,
    }


async def ensure_streams(
    client: Connection,
    *,
    replicas: int = 1,
    command_bytes_max: int = 2 * _GIB,
    event_bytes_max: int = 4 * _GIB,
    dead_bytes_max: int = _GIB // 2,
) -> None:
    """Creates the streams, or brings existing ones to this configuration; safe to run from many processes at once.

    Raises StreamUnavailable without a server, StreamFull when the limits exceed its disk allowance, and
    StreamRefused when an existing stream cannot be changed into this.
    """
    for configuration in (
        _configuration(
            COMMANDS, COMMAND_SUBJECTS, days=7, discard="new", bytes_max=command_bytes_max, replicas=replicas
        ),
        _configuration(EVENTS, EVENT_SUBJECTS, days=30, discard="old", bytes_max=event_bytes_max, replicas=replicas),
        _configuration(DEAD, DEAD_SUBJECTS, days=90, discard="old", bytes_max=dead_bytes_max, replicas=replicas),
    ):
        await _ensure(client, configuration)


async def _ensure(client: Connection, configuration: dict[str, Any]) -> None:
    """Updates the stream where it exists and creates it where it does not, whoever else is doing the same."""
    name = configuration["name"]
    for tries_left in reversed(range(_CREATE_TRIES)):
        # Creating a stream that exists counts its limit twice against the disk allowance, so it is looked for first.
        try:
            exists = await _exists(client, name)
            verb = "UPDATE" if exists else "CREATE"
            await client.call(f"STREAM.{verb}.{name}", configuration, _Info, deadline_s=_CREATE_DEADLINE_S)
            return
        except StreamUnavailable:
            if not tries_left or not client.is_connected:
                raise
        except (StreamFull, StreamRefused) as refusal:
            raced = isinstance(refusal, StreamFull) or refusal.code == STREAM_NAME_IN_USE
            if exists or not raced or not tries_left:
                raise
            await asyncio.sleep(_random.uniform(0.05, 0.3))


async def _exists(client: Connection, name: str) -> bool:
    listed = await client.call("STREAM.NAMES", {}, _Names, deadline_s=_CREATE_DEADLINE_S)
    return name in (listed.streams or ())


async def stream_state(client: Connection, stream: str) -> StreamState:
    """What the stream holds now, as its leader sees it.

    Raises StreamUnavailable when there is no server, no leader, or no such stream.
    """
    info = await client.call(f"STREAM.INFO.{stream}", None, _Info)
    state = info.state
    return StreamState(state.first_seq, state.last_seq, state.messages, state.bytes, info.created)


async def purge_commands(client: Connection, up_to: int) -> None:
    """Removes the commands with a sequence below `up_to`.

    Pass the smallest checkpoint: the message at a checkpoint must stay, the rollback guard compares it.
    Raises StreamUnavailable when the server cannot be asked.
    """
    if up_to > 1:
        await client.call(f"STREAM.PURGE.{COMMANDS}", {"seq": up_to}, dict[str, Any], deadline_s=_ADMIN_DEADLINE_S)
