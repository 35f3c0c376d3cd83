"""The tenants' feed over NATS: what happens to a tenant's intents, on subjects of its own account.

    ze.<partition>.<tenant>.<topic>  ->  zentra.feed.<tenant>.<topic>.<intent>  ->  zentra.feed.<topic>.<intent>
    frames in the stream ZE              one message per record, in CORE            what the tenant subscribes to

The copy is made for tenants that listen and for nobody else: the servers are asked once a second whose subscriptions
there are, and a tenant without one costs nothing. Where a tenant stands is kept by a durable consumer of the event
stream, one per tenant, which forgets itself after thirty days.

- A tenant that listens gets every record at least once. What was published is counted as told only when the
  subscriptions of before were still there a second later; when one has gone the feed goes back to where it stood, so
  whoever comes back gets again what may have been lost. Every copy of a record has the same `Nats-Msg-Id`.
- The place is the tenant's and not a subscription's: while one of its subscriptions is there, the others miss what they
  are away for. The first subscription begins with what happens from then on.
- Records come in the order of the event stream, which for one intent is nearly that of `sequence`: who needs the exact
  order looks at it.
- One worker copies at a time. Who begins takes the consumer over, and whoever had it before reads nothing more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
import nats.errors
from nats.aio.msg import Msg

from zentra.runtime.stream_ports import StreamError
from zentra.runtime.subjects import EVENTS, event_filter, feed_subject
from zentra.runtime.tracing import traceparent
from zentra.streams.connection import Connection
from zentra.streams.ending import ended
from zentra.streams.errors import STREAM_CONSUMER_NOT_FOUND, StreamRefused, StreamUnavailable, failure_of_exception
from zentra.streams.pull import Pull, wait_or_watch
from zentra.streams.topology import stream_state

__all__ = ["FeedInterest", "FeedWorker", "Heard", "Interest"]

_log = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 1.0
GATHER_SECONDS: Final = 0.25  # within which all servers of a cluster answer
_SUBSCRIPTIONS_MAX: Final = 100_000
_BATCH: Final = 32  # frames of up to 256 KiB each
_FEED: Final = "zentra.feed."

Heard = Mapping[str, frozenset[tuple[str, int, str]]]
"""The subscriptions to each tenant's feed: which server, which connection, which of its subscriptions."""


class Interest(Protocol):
    """Tells who listens."""

    async def heard(self) -> Heard:
        """Return the subscriptions that there are now. Raises StreamUnavailable where nobody can say."""
        ...


class _Subscription(msgspec.Struct):
    subject: str
    sid: str = ""
    cid: int = 0


class _Listed(msgspec.Struct):
    subscriptions_list: list[_Subscription] = []


class _Server(msgspec.Struct):
    id: str = ""


class _Answer(msgspec.Struct):
    data: _Listed = msgspec.field(default_factory=_Listed)
    server: _Server = msgspec.field(default_factory=_Server)


_decode_answer: Final = msgspec.json.Decoder(_Answer).decode


class FeedInterest:
    """Asks all servers, over a connection of the system account, who subscribes to feeds in the runtime's account."""

    def __init__(self, system: Connection, *, gather_seconds: float = GATHER_SECONDS) -> None:
        self._system, self._gather_seconds = system, gather_seconds

    async def heard(self) -> Heard:
        """Return the subscriptions that there are now. Raises StreamUnavailable where no server answers."""
        answers: list[_Answer] = []

        async def take(message: Msg) -> None:
            if message.data:  # without a body nobody listens: the account is no system account
                answers.append(_decode_answer(message.data))

        if not self._system.is_connected:
            raise StreamUnavailable("disconnected")
        question = {"subscriptions": True, "account": "CORE", "limit": _SUBSCRIPTIONS_MAX}
        inbox = self._system.new_inbox()
        try:
            subscription = await self._system.subscribe(inbox, cb=take)
            await self._system.publish("$SYS.REQ.SERVER.PING.SUBSZ", msgspec.json.encode(question), inbox)
            await asyncio.sleep(self._gather_seconds)
            await subscription.unsubscribe()
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise failure_of_exception(error) from error
        if not answers:
            raise StreamUnavailable("no server says who listens")
        found: dict[str, set[tuple[str, int, str]]] = {}
        for answer in answers:
            for one in answer.data.subscriptions_list:
                if one.subject.startswith(_FEED):
                    tenant = one.subject.removeprefix(_FEED).partition(".")[0]
                    found.setdefault(tenant, set()).add((answer.server.id, one.cid, one.sid))
        return {tenant: frozenset(those) for tenant, those in found.items()}


class FeedWorker:
    """Copies the events of whoever listens. `owns` says whether it is this worker's to do."""

    def __init__(
        self, client: Connection, interest: Interest, owns: Callable[[], bool], *, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._client, self._interest, self._owns = client, interest, owns
        self._poll_seconds = poll_seconds
        self._copies: dict[str, _Copy] = {}

    @property
    def tenants(self) -> frozenset[str]:
        """Whose events are being copied."""
        return frozenset(self._copies)

    async def run(self) -> None:
        """Copy until cancelled."""
        try:
            while True:
                await self._look()
                await asyncio.sleep(self._poll_seconds)
        finally:
            for copy in self._copies.values():
                await copy.stop()
            self._copies.clear()

    async def _look(self) -> None:
        try:
            heard = await self._interest.heard() if self._owns() else {}
        except StreamError as error:
            _log.debug("nobody says who listens to feeds", extra={"error": str(error)})
            return  # whoever listened is believed to
        for tenant in self._copies.keys() - heard.keys():
            await self._copies.pop(tenant).stop()
        for tenant, subscriptions in heard.items():
            copy = self._copies.get(tenant)
            if copy is None:
                copy = self._copies[tenant] = _Copy(self._client, tenant)
            await copy.heard_by(subscriptions)


class _Record(msgspec.Struct):
    intent: str
    sequence: int
    event: str
    trace: str = ""


_records: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_record: Final = msgspec.json.Decoder(_Record).decode


class _Copy:
    """The copy of one tenant's events."""

    def __init__(self, client: Connection, tenant: str) -> None:
        self._client, self._tenant = client, tenant
        self._frames: deque[Msg] = deque()
        self._arrived = asyncio.Event()
        self._subscriptions: frozenset[tuple[str, int, str]] = frozenset()
        self._published = self._told = ""  # what acknowledges a frame and all before it
        self._pull: Pull | None = None
        self._task: asyncio.Task[None] | None = None

    async def heard_by(self, subscriptions: frozenset[tuple[str, int, str]]) -> None:
        """Take in who listens; count as told what was published a look ago, or go back where somebody has gone."""
        if self._task is not None and not self._subscriptions <= subscriptions:
            await self.stop()
        self._subscriptions = subscriptions
        if self._task is None:
            self._published = self._told = ""
            self._task = asyncio.create_task(self._run(), name=f"feed of {self._tenant}")
            return
        if self._told and self._client.is_connected:
            await self._client.publish(self._told, b"+ACK")
        self._told = self._published

    async def stop(self) -> None:
        """Copy no more; what is not counted as told comes again."""
        task, self._task = self._task, None
        if task is not None:
            await ended(task)
        await self._discard()

    async def _run(self) -> None:
        while True:
            try:
                pull = await self._open()
                while pull.broken is None:
                    await wait_or_watch(self._arrived)
                    self._arrived.clear()
                    await self._publish()
                    await pull.watch()
                reason = pull.broken
            except (StreamError, nats.errors.Error, TimeoutError, OSError) as error:
                reason = str(failure_of_exception(error))
            _log.warning("feed is read anew", extra={"tenant": self._tenant, "reason": reason})
            await self._discard()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _open(self) -> Pull:
        """Read on behind what was acknowledged, over a new consumer; the old one keeps the place until it is there."""
        place, old, new = await _place_of(self._client, self._tenant)
        self._published = self._told = ""
        pull = self._pull = Pull(
            self._client, EVENTS, batch=_BATCH, deliver=self._deliver, has_room=self._has_room,
            on_broken=self._arrived.set, durable=new,
        )  # fmt: skip
        await pull.open([event_filter(self._tenant)], place + 1)
        if old is not None:
            await _remove(self._client, old)
        return pull

    async def _discard(self) -> None:
        pull, self._pull = self._pull, None
        self._frames.clear()
        if pull is not None:
            await pull.close()

    def _deliver(self, sequence: int, message: Msg) -> None:
        self._frames.append(message)
        self._arrived.set()

    def _has_room(self) -> bool:
        return len(self._frames) < 2 * _BATCH

    async def _publish(self) -> None:
        """Publish what has arrived; return when the server has all of it."""
        if not self._frames:
            return
        while self._frames:
            message = self._frames.popleft()
            for record in _records(message.data):
                told = _decode_record(record)
                headers = {"Nats-Msg-Id": f"{told.intent}-{told.sequence}"}
                if told.trace:
                    headers["traceparent"] = traceparent(told.trace, told.intent, told.sequence)
                subject = feed_subject(self._tenant, told.event, told.intent)
                await self._client.publish(subject, bytes(record), headers=headers)
        await self._client.flush()
        self._published = message.reply


class _Floor(msgspec.Struct):
    stream_seq: int = 0


class _Config(msgspec.Struct):
    opt_start_seq: int = 0


class _Info(msgspec.Struct):
    ack_floor: _Floor
    config: _Config


async def _place_of(client: Connection, tenant: str) -> tuple[int, str | None, str]:
    """Return up to where a tenant's consumer has acknowledged, its name, and a free name for the next.

    What a consumer had delivered and nobody acknowledged would come back in its own time, between what is new; one that
    begins behind the place delivers all of it in order, and whoever read from the old one reads nothing more. Without a
    consumer the place is the end of the stream. Raises StreamUnavailable."""
    last = (await stream_state(client, EVENTS)).last
    names = (f"feed-{tenant}-a", f"feed-{tenant}-b")
    places = {name: place for name in names if (place := await _acknowledged(client, name)) is not None}
    if not places:
        return last, None, names[0]
    old = max(places, key=lambda name: places[name])
    new = names[1 - names.index(old)]
    if new in places:  # of a worker that ended between making its own and removing the old one
        await _remove(client, new)
    return min(places[old], last), old, new


async def _acknowledged(client: Connection, name: str) -> int | None:
    try:
        info = await client.call(f"CONSUMER.INFO.{EVENTS}.{name}", None, _Info)
    except StreamRefused as refusal:
        if refusal.code == STREAM_CONSUMER_NOT_FOUND:
            return None
        raise
    return max(info.ack_floor.stream_seq, info.config.opt_start_seq - 1)


async def _remove(client: Connection, name: str) -> None:
    try:
        await client.call(f"CONSUMER.DELETE.{EVENTS}.{name}", None, dict[str, Any])
    except StreamRefused as refusal:
        if refusal.code != STREAM_CONSUMER_NOT_FOUND:
            raise
