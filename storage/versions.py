"""What a tenant keeps in versions: draft, validated, active, retired; and how a version goes from one to the next.

- A version never changes and is never deleted; only its state does, and each step is an event beside it.
- One version at the most is active. Whoever promotes it is somebody else than its author.
- Steps of one tenant are one after the other, under an advisory lock; a step, its event and its key are one commit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, Generic, Literal, TypeVar

from msgspec import Struct

from zentra.runtime.errors import Contended, Refusal
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import Violation
from zentra.storage.intake.commands import KeyedAnswer, claim_key
from zentra.storage.pool import Connection, Pool, tenant_transaction

__all__ = ["STEPS", "Asked", "InvalidDocument", "Planned", "Step", "VersionEvent", "VersionRow", "may_step", "stepped"]

RUNS_MAX: Final = 4
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


class Asked(Struct, frozen=True):
    """Who asks, and the key of the request with the digest of what is asked; without a key a step is no replay."""

    principal: str
    key: str = ""
    digest: bytes = b""
    request_id: str = ""


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
_KNOWN: Final = """
select digest, status, answer, subject, request_id, first_seen from idempotency where tenant = $1 and key = $2
"""


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


async def stepped(
    pool: Pool,
    tenant: str,
    lock: str,
    asked: Asked,
    plan: Callable[[Connection], Awaitable[Planned[View] | None]],
) -> View | StoredKey | None:
    """Plan a step under the tenant's lock, which is a statement, and write it with its key; what the key has done
    already comes first, and None where there is nothing to step."""
    for _ in range(RUNS_MAX):
        try:
            async with tenant_transaction(pool, tenant) as connection:
                await connection.execute(lock, tenant)
                if asked.key:
                    row = await connection.fetchrow(_KNOWN, tenant, asked.key)
                    if row is not None:
                        return StoredKey(*row)
                planned = await plan(connection)
                if planned is None:
                    return None
                if asked.key:
                    stored = await claim_key(
                        connection,
                        KeyedAnswer(
                            tenant=tenant, key=asked.key, digest=asked.digest, subject=planned.subject,
                            status=planned.status, answer=planned.answer, request_id=asked.request_id,
                        ),
                    )  # fmt: skip
                    if stored is not None:
                        return stored
                for statement, values in planned.writes:
                    await connection.execute(statement, *values)
                return planned.view
        except Contended:
            continue
    raise Contended(f"versions of {tenant} were changed {RUNS_MAX} times meanwhile")
