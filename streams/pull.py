"""One throw-away consumer and the pull requests that keep it delivering.

The consumer lives in the memory of one server, acknowledges nothing and disappears by itself when nobody asks for
a while. It is used until the first doubt: a gap in its own numbering, a status that is not a heartbeat, silence, a
lost connection. Then `broken` names the doubt, nothing more is delivered, and the owner builds another one.

A consumer with a name of its own is kept on the server instead, with what was acknowledged: each of its messages
acknowledges all before it, and it is left there when its owner goes.

Requests overlap so that the pipe stays full. The server may still send `credit` messages; it serves open requests
in turn, so only their sum is known, and that sum is what bounds memory.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from zentra.streams.connection import Connection, Hook
from zentra.streams.errors import StreamUnavailable, failure_of_exception

__all__ = ["WATCH_S", "Pull", "wait_or_watch"]

_SECOND_NS = 1_000_000_000
_EXPIRES_NS = 5 * _SECOND_NS
_HEARTBEAT_NS = _SECOND_NS // 2
# A consumer nobody asks is gone after this; long enough for an owner whose buffer is full, short enough that a
# fleet reconnecting over and over leaves no heap of them behind.
_INACTIVE_NS = 15 * _SECOND_NS
# The owner calls `watch` this often. Four quiet ones (three heartbeats missed): ask again. Eight: give up.
WATCH_S = 0.4
_QUIET_ASK_AGAIN = 4
_QUIET_BROKEN = 8
_CREATE_DEADLINE_S = 2.0
# Of a consumer that is kept: nothing comes again by itself, because its owner begins anew behind what was acknowledged.
# It is forgotten with the oldest events.
_ACK_WAIT_NS = 3600 * _SECOND_NS
_FORGOTTEN_NS = 30 * 86_400 * _SECOND_NS
_GAP = "gap in the consumer sequence"


class _Created(msgspec.Struct):
    num_pending: int = 0


class Pull:
    """A consumer of `stream`; every message goes to `deliver(sequence, message)` in stream order."""

    def __init__(
        self,
        client: Connection,
        stream: str,
        *,
        batch: int,
        deliver: Callable[[int, Msg], None],
        has_room: Callable[[], bool],
        on_broken: Hook,
        durable: str | None = None,
    ) -> None:
        self._client = client
        self._stream = stream
        self._batch = batch
        self._deliver = deliver
        self._has_room = has_room
        self._on_broken = on_broken
        self._durable = durable
        self._name = durable or f"z{secrets.token_hex(8)}"
        self._request = msgspec.json.encode({"batch": batch, "expires": _EXPIRES_NS, "idle_heartbeat": _HEARTBEAT_NS})
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._remove_hooks: Hook | None = None
        self._expected = 1
        self._credit = 0
        self._heard = False
        self._quiet = 0
        self._pending = ""
        self.heard_at = 0.0  # by the clock of the loop
        self.broken: str | None = None

    @property
    def at_end(self) -> bool:
        """Whether the server had nothing more to deliver when it was last heard of."""
        return self.broken is None and self._pending == "0"

    @property
    def pending(self) -> int:
        """How many messages the server had yet to deliver when it was last heard of."""
        return int(self._pending or 0)

    @property
    def found_gap(self) -> bool:
        """Whether it broke because a message of the consumer went missing on the way."""
        return self.broken == _GAP

    async def open(self, filters: Sequence[str], start: int | None) -> None:
        """Creates the consumer, delivering from sequence `start`, or only what comes from now on when None.

        Raises StreamError when it cannot be created.
        """
        client = self._client
        self._inbox = client.new_inbox()
        self._remove_hooks = client.add_hooks(on_disconnect=self._disconnected)
        try:
            self._subscription = await client.subscribe(
                self._inbox, cb=self._received, pending_msgs_limit=0, pending_bytes_limit=0
            )
        except nats.errors.Error as error:
            raise failure_of_exception(error) from error
        config: dict[str, Any] = {
            "name": self._name,
            "ack_policy": "none",
            "deliver_policy": "new" if start is None else "by_start_sequence",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _INACTIVE_NS,
            "max_deliver": -1,
        }
        if self._durable is not None:
            config |= {
                "durable_name": self._durable,
                "ack_policy": "all",
                "ack_wait": _ACK_WAIT_NS,
                "max_ack_pending": -1,
                "mem_storage": False,
                "num_replicas": 0,
                "inactive_threshold": _FORGOTTEN_NS,
            }
        if len(filters) == 1:
            config["filter_subject"] = filters[0]
        else:
            config["filter_subjects"] = list(filters)
        if start is not None:
            config["opt_start_seq"] = start
        created = await client.call(
            f"CONSUMER.CREATE.{self._stream}.{self._name}",
            {"stream_name": self._stream, "config": config, "action": "create"},
            _Created,
            deadline_s=_CREATE_DEADLINE_S,
        )
        self._pending = str(created.num_pending)
        self.heard_at = asyncio.get_running_loop().time()
        await self.ask()
        if self.broken is not None:
            raise StreamUnavailable(self.broken)

    async def ask(self) -> None:
        """Requests batches until two are outstanding, as long as the owner has room; raises nothing."""
        while self.broken is None and self._credit <= self._batch and self._has_room():
            self._credit += self._batch
            await self._send_request()

    async def watch(self) -> None:
        """Notices silence; call it every `WATCH_S` seconds."""
        if self._heard or not self._credit:
            self._heard = False
            self._quiet = 0
            await self.ask()
            return
        self._quiet += 1
        if self._quiet >= _QUIET_BROKEN:
            self._break("silence")
        elif self._quiet == _QUIET_ASK_AGAIN:
            # The request itself may be lost, with a leader that went away; what was outstanding counts no more.
            self._credit = self._batch
            await self._send_request()

    async def close(self) -> None:
        """Stops delivering and removes the consumer from the server, if that can be done now."""
        if self.broken is None:
            self.broken = "closed"
        if self._remove_hooks is not None:
            self._remove_hooks()
            self._remove_hooks = None
        subscription, self._subscription = self._subscription, None
        if subscription is None or self._client.is_closed:
            return
        try:
            await subscription.unsubscribe()
            if self._client.is_connected and self._durable is None:
                # Nobody waits for the answer; a consumer that stays behind ends with its inactive threshold.
                delete = f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}"
                await self._client.publish(delete, b"", reply=self._inbox)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            failure_of_exception(error)

    async def _send_request(self) -> None:
        if not self._client.is_connected:
            self._break("disconnected")
            return
        try:
            await self._client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}", self._request, self._inbox
            )
        except (nats.errors.Error, TimeoutError, OSError) as error:
            self._break(str(failure_of_exception(error)))

    async def _received(self, message: Msg) -> None:
        if self.broken is not None:
            return
        self._heard = True
        self.heard_at = asyncio.get_running_loop().time()
        reply = message.reply
        if not reply:
            self._status(message.headers or {})
            if self._credit <= self._batch:
                await self.ask()
            return
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<time>.<pending>, with a
        # domain and an account hash before the stream on servers that have domains.
        tokens = reply.split(".")
        at = 5 if len(tokens) == 9 else 7
        if int(tokens[at + 1]) != self._expected:
            self._break(_GAP)
            return
        self._expected += 1
        self._credit -= 1
        self._pending = tokens[at + 3]
        self._deliver(int(tokens[at]), message)
        if self._credit <= self._batch:
            await self.ask()

    def _status(self, headers: dict[str, str]) -> None:
        match headers.get("Status"):
            case "100":
                self._pending = "0"  # it beats while it has nothing to send; what was pending may have been removed
            case "408":
                # The request expired with this many messages of its batch unused.
                self._credit = max(0, self._credit - int(headers.get("Nats-Pending-Messages", self._batch)))
            case status:
                self._break(f"{status} {headers.get('Description', '')}")

    def _disconnected(self) -> None:
        self._break("disconnected")

    def _break(self, reason: str) -> None:
        if self.broken is None:
            self.broken = reason
            self._on_broken()


# The owner's task waits on this between two looks.
async def wait_or_watch(event: asyncio.Event) -> None:
    """Returns when the event is set, or after `WATCH_S`."""
    try:
        async with asyncio.timeout(WATCH_S):
            await event.wait()
    except TimeoutError:
        return
