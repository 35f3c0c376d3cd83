"""What a tenant keeps in versions: draft, validated, active, retired; and how a version goes from one to the next.

- A version never changes and is never deleted; only its state does, and each step is an event beside it.
- One version at the most is active. Whoever promotes it is somebody else than its author.
- Steps of one tenant are one after the other, under an advisory lock; a step, its event and its key are one commit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final, Generic, Literal, TypeVar

from msgspec import Struct

from zentra.runtime.errors import Refusal
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import Violation
from zentra.storage.intake.commands import KeyedAnswer, claim_key, known_key, rerun
from zentra.storage.pool import Connection, Pool

__all__ = [
    "STEPS",
    "InvalidDocument",
    "Planned",
    "Step",
    "VersionEvent",
    "VersionKey",
    "VersionRow",
    "may_step",
    "stepped",
    "stepped_once",
]

View = TypeVar("View")
Step = Literal["validate", "promote", "rollback"]


class VersionRow(Struct, frozen=True):
    """A version in a list: all but its document."""

    version: int
    state: str
    digest: str
    note: str
    created_by: str
    created_at: datetime


class VersionEvent(Struct, frozen=True):
    """Who did what with a version, when."""

    version: int
    action: str
    principal: str
    at: datetime
    detail: Any


class VersionKey(Struct, frozen=True):
    """The key of a request, and the digest of what is asked with it."""

    key: str
    digest: bytes
    request_id: str


class InvalidDocument(Exception):
    """Raised for a document that cannot be what it is to be, with everything that is wrong with it."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__(f"{len(violations)} rules are broken; the first: {violations[0]}")
        self.violations = violations


class Planned(Struct, Generic[View], frozen=True):
    """What a step will write, the version as it will be, and what a client is answered: `subject` names it."""

    view: View
    subject: str
    status: int
    answer: bytes
    writes: tuple[tuple[str, tuple[Any, ...]], ...]


STEPS: Final = {
    "validate": (("draft", "validated"), "validated", "validated"),
    "promote": (("validated",), "active", "promoted"),
    "rollback": (("retired",), "active", "rolled_back"),
}
"""By step: the states that it leads on from, the state it leads to, and what it is called in the history."""
_WAYS: Final = {
    "draft": "validate it first",
    "validated": "promote it",
    "active": "it is in force",
    "retired": "roll back to it",
}
_Plan = Callable[[Connection], Awaitable["Planned[View] | None"]]


def may_step(known: VersionRow, step: Step, violations: list[Violation], principal: str) -> None:
    """Return where `principal` may take a version one step on.

    Raises Refusal `policy_state_conflict` where the step does not lead on from its state, `self_promotion` for its own
    author, and InvalidDocument where there are violations."""
    came_from, becomes, _ = STEPS[step]
    if known.state not in came_from:
        raise Refusal("policy_state_conflict", f"version {known.version} is {known.state}; {_WAYS[known.state]}")
    if violations:
        raise InvalidDocument(violations)
    if becomes == "active" and known.created_by == principal:
        raise Refusal("self_promotion", f"version {known.version} was written by {principal}")


async def stepped(pool: Pool, tenant: str, lock: str, plan: _Plan[View]) -> View | None:
    """Plan a step under the tenant's lock, which is a statement, and write it; None where there is nothing to step."""

    async def run(connection: Connection) -> View | None:
        await connection.execute(lock, tenant)
        planned = await plan(connection)
        if planned is None:
            return None
        await _write(connection, planned.writes)
        return planned.view

    return await rerun(pool, tenant, run)


async def stepped_once(
    pool: Pool, tenant: str, lock: str, plan: _Plan[View], key: VersionKey
) -> View | StoredKey | None:
    """Plan a step under the tenant's lock and write it with its key; what the key has done already comes first."""

    async def run(connection: Connection) -> View | StoredKey | None:
        await connection.execute(lock, tenant)
        stored = await known_key(connection, tenant, key.key)
        if stored is not None:
            return stored
        planned = await plan(connection)
        if planned is None:
            return None
        keyed = KeyedAnswer(
            tenant=tenant, key=key.key, digest=key.digest, subject=planned.subject, status=planned.status,
            answer=planned.answer, request_id=key.request_id,
        )  # fmt: skip
        stored = await claim_key(connection, keyed)
        if stored is not None:
            return stored
        await _write(connection, planned.writes)
        return planned.view

    return await rerun(pool, tenant, run)


async def _write(connection: Connection, writes: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
    for statement, values in writes:
        await connection.execute(statement, *values)
