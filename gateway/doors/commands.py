"""Commands on what exists: registered as facts, then answered by the outcome that the owner of the object writes.

- The fact, its key and its frame are one commit. The answer stored with the key is the 202: where the command stands.
- A replay finds the command of its key and answers with what has become of it by now, so it never acts twice and never
  hides a result that came later. That is the one answer of the API that may change between two replays.
- A refusal is an outcome like any other: it is answered with its code, on a replay too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from zentra.gateway.http.app import Headers, Reply, Request, json_reply
from zentra.gateway.http.problems import Problem, of_outcome
from zentra.gateway.http.sending import Sending
from zentra.gateway.http.waiting import CommandWaiters
from zentra.runtime.idempotency import KeyOutcome, StoredKey, decide
from zentra.runtime.instruments import Instruments
from zentra.runtime.intents.command import digest_of
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.partitions import partition_of
from zentra.storage.errors import AlreadyDecided
from zentra.storage.identifiers import Uuid7
from zentra.storage.intake.commands import Command, Decision, KeyedAnswer, bind_key, register_command, stored_key
from zentra.storage.pool import Connection, Pool
from zentra.storage.reads.border import OutcomeRow

__all__ = ["CommandDoor", "Order", "answered", "replayed"]

WAIT_SECONDS: Final = 5.0
_SUBJECT: Final = "command/"


class Order(Struct, frozen=True, kw_only=True):
    """One command to give: what it is for, the partition key of its owner, and what the client is shown.

    `asked` is what the digest covers: the words of the client, without what was looked up for it, and `subject` unless
    `named` says what the client named instead. `intent` is the intent that the command may move where `subject` names
    something else. A command that was asked for by one person and is given by another has its id, the principal and
    role of the first, and what is written `also` in its transaction."""

    kind: str
    subject: str
    owner: str
    body: Struct | dict[str, Any]
    asked: dict[str, Any]
    shows: dict[str, Any]
    location: str
    decision: Decision | None = None
    intent: str = ""
    named: str | None = None
    id: str | None = None
    principal: str | None = None
    role: str | None = None
    also: Callable[[Connection], Awaitable[None]] | None = None


class CommandDoor:
    """Gives commands and waits for their outcomes."""

    def __init__(
        self,
        pool: Pool,
        sending: Sending,
        waiters: CommandWaiters[OutcomeRow],
        instruments: Instruments,
        partitions: int,
    ) -> None:
        self._pool, self._sending, self._waiters = pool, sending, waiters
        self._instruments, self._partitions = instruments, partitions
        self._new_id = Uuid7()

    async def give(self, request: Request, key: str, order: Order) -> Reply:
        """Return the outcome (200), or where to look for it (202) when it takes longer than the client waits.

        Raises Problem for a refusal and for a key that was used for something else."""
        command = order.id or self._new_id()
        asker = request.principal
        digest = _digest(order)
        answer = msgspec.json.encode(
            {"command": command, "status": "accepted", **order.shows, "links": {
                "self": f"/runtime/commands/{command}", "subject": order.location}}
        )  # fmt: skip
        keyed = KeyedAnswer(
            tenant=asker.tenant, key=key, digest=digest, subject=_SUBJECT + command, status=202, answer=answer,
            request_id=request.request_id,
        )  # fmt: skip
        given = Command(
            id=command, kind=order.kind, subject=order.subject, principal=order.principal or asker.id,
            role=order.role or asker.role, body=msgspec.json.encode(order.body),
            partition=partition_of(order.owner, self._partitions), decision=order.decision, intent=order.intent,
            also=order.also,
        )  # fmt: skip
        try:
            done = await register_command(self._pool, keyed, given)
        except AlreadyDecided:
            raise Problem("review_already_decided") from None
        if isinstance(done, StoredKey):
            return await self._again(request, digest, done)
        self._sending.send_nowait([done])
        return await self._wait(request, command, answer, ())

    async def bind(self, request: Request, key: str, kind: str, asked: dict[str, Any]) -> None:
        """Let a key stand for one request of many commands, each of which has a key of its own and its answer.

        Raises Problem for a key that was used for anything else."""
        digest = digest_of(kind, asked)
        keyed = KeyedAnswer(
            tenant=request.principal.tenant, key=key, digest=digest, subject=kind, status=200, answer=b"{}",
            request_id=request.request_id,
        )  # fmt: skip
        stored = await bind_key(self._pool, keyed)
        if stored is not None:
            _same(digest, stored)

    async def given_before(self, request: Request, key: str, order: Order) -> Reply | None:
        """Return the answer to a command that this key gave before, or None where it gave none.

        For those who would object to it now: what they see has changed since, by that very command perhaps. Raises
        Problem for a refusal and for a key that was used for something else."""
        stored = await stored_key(self._pool, request.principal.tenant, key)
        return None if stored is None else await self._again(request, _digest(order), stored)

    async def _again(self, request: Request, digest: bytes, stored: StoredKey) -> Reply:
        _same(digest, stored)
        self._instruments.count("idempotency_replays", {"source": "command"})
        return await self._wait(request, stored.subject.removeprefix(_SUBJECT), stored.answer, _replay_headers(stored))

    async def _wait(self, request: Request, command: str, answer: bytes, headers: Headers) -> Reply:
        seconds = WAIT_SECONDS if request.wait_seconds is None else request.wait_seconds
        outcome = await self._waiters.wait(request.principal.tenant, command, seconds)
        return self._answer(request, answer, outcome, headers)

    def _answer(self, request: Request, accepted: bytes, outcome: OutcomeRow | None, headers: Headers) -> Reply:
        if request.wait_seconds is not None:
            headers = (*headers, (b"preference-applied", b"wait=%d" % request.wait_seconds))
        shown = msgspec.json.decode(accepted)
        if outcome is None:
            return Reply(202, accepted, (*headers, (b"location", shown["links"]["self"].encode())))
        if not outcome.accepted:
            problem = of_outcome(outcome.code, {"command": shown["command"]})
            problem.headers += headers
            raise problem
        return json_reply(200, {**shown, "status": "done", "outcome": outcome.code, "detail": outcome.detail}, headers)


def _digest(order: Order) -> bytes:
    subject = order.subject if order.named is None else order.named
    return digest_of(f"command/{order.kind}", {"subject": subject, **order.asked})


def answered(keyed: KeyedAnswer, stored: StoredKey | None, headers: Headers = ()) -> Reply:
    """Return the answer to what was done with a key now, or to what the key has stored, if it did something before.

    Raises Problem for a key that was used for something else."""
    return Reply(keyed.status, keyed.answer, headers) if stored is None else replayed(keyed.digest, stored, headers)


def replayed(digest: bytes, stored: StoredKey, headers: Headers = ()) -> Reply:
    """Return the answer that a key has stored, with the headers that tell a replay from the first one.

    Raises Problem for a key that was used for something else than what has this digest."""
    _same(digest, stored)
    return Reply(stored.status, stored.answer, (*headers, *_replay_headers(stored)))


def _same(digest: bytes, stored: StoredKey) -> None:
    if decide(digest, stored) is KeyOutcome.REUSED:
        raise Problem("idempotency_key_reused", "the first request with this key asked for something else")


def _replay_headers(stored: StoredKey) -> Headers:
    return (
        (b"idempotent-replayed", b"true"),
        (b"x-original-request-id", stored.request_id.encode()),
        (b"idempotency-first-seen", timestamp(stored.first_seen).encode()),
    )
