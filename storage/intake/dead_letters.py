"""Retrying what was set aside: the frame is sent once more, its case is resolved by a command that says who and why.

- The command, its frame and the frame that is tried again are one commit, named by the letter: a second retry of the
  same letter finds them and adds nothing.
- They are outbox rows like any other, so they reach the stream whoever dies meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from zentra.runtime.messages import CommandGiven
from zentra.runtime.stream_ports import Outgoing
from zentra.runtime.subjects import command_subject
from zentra.storage.intake.commands import Command
from zentra.storage.outbox import Row, command_frames, write_outbox
from zentra.storage.pool import Pool, transaction

__all__ = ["Retrial", "register_retrials"]


class Retrial(Struct, frozen=True, kw_only=True):
    """A frame to send once more, under an id of its own, and the command that resolves its case."""

    tenant: str
    stage: str
    frame: bytes
    frame_id: str
    command: Command


async def register_retrials(pool: Pool, retrials: Sequence[Retrial]) -> set[str]:
    """Commit what was not retried before; return the ids of the commands that are new.

    Raises Unavailable and DataError as the store does; asking again is safe."""
    if not retrials:
        return set()
    async with transaction(pool) as connection:
        columns = zip(
            *[
                (r.command.id, r.tenant, r.command.kind, r.command.subject, r.command.principal, r.command.role,
                 r.command.body)
                for r in sorted(retrials, key=lambda r: r.command.id)
            ],
            strict=True,
        )  # fmt: skip
        new = {row[0] for row in await connection.fetch(_INSERT, *columns)}
        await write_outbox(connection, [row for r in retrials if r.command.id in new for row in _rows(r)])
    return new


def _rows(retrial: Retrial) -> list[Row]:
    command = retrial.command
    event = CommandGiven(
        command.id, retrial.tenant, command.kind, command.subject, command.principal, command.role, command.body
    )
    again = Outgoing(command_subject(command.partition, retrial.stage), retrial.frame, retrial.frame_id)
    resolve = command_frames(command.partition, command.stage, [(event, len(command.body))])
    return [(command.partition, again), *resolve]


_INSERT: Final = """
insert into commands (id, tenant, kind, subject, principal, role, body)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[])
on conflict do nothing
returning id
"""
