"""A letter is retried once: the command, its frame and the frame to try again are one commit."""

from __future__ import annotations

import uuid

import pytest

from zentra.runtime.messages import CommandGiven, decode_frame
from zentra.storage.intake.commands import Command
from zentra.storage.intake.dead_letters import Retrial, register_retrials
from zentra.storage.pool import Pool
from zentra.storage.reads.dead_letters import read_handlings

pytestmark = pytest.mark.service


def retrial(case: str, tenant: str = "acme") -> Retrial:
    command = Command(
        id=uuid.uuid4().hex,
        kind="resolve_case",
        subject=case,
        principal="ada",
        role="operator",
        body=b"{}",
        partition=5,
    )
    return Retrial(tenant=tenant, stage="route", frame=b"\x90", frame_id=uuid.uuid4().hex, command=command)


async def test_a_retry_is_one_commit_and_happens_once(writer_pool: Pool) -> None:
    one, other = retrial(uuid.uuid4().hex), retrial(uuid.uuid4().hex, tenant="-")
    assert await register_retrials(writer_pool, [one]) == {one.command.id}
    assert await register_retrials(writer_pool, [one, other]) == {other.command.id}
    assert await register_retrials(writer_pool, [one, other]) == set()
    assert await register_retrials(writer_pool, []) == set()
    for retried in (one, other):
        again = await writer_pool.fetchrow("select subject, body, sent_at from outbox where id = $1", retried.frame_id)
        assert again is not None
        assert tuple(again) == ("zc.5.route", b"\x90", None)
    frames = await writer_pool.fetch("select body from outbox where subject = 'zc.5.command'")
    events = [event for row in frames for event in decode_frame(row[0])]
    assert all(isinstance(event, CommandGiven) for event in events)
    assert {(event.command, event.tenant) for event in events if isinstance(event, CommandGiven)} == {
        (one.command.id, "acme"), (other.command.id, "-"),
    }  # fmt: skip


async def test_where_a_letter_stands_is_told_by_its_command_and_its_case(writer_pool: Pool) -> None:
    retried, dismissed, untouched = retrial(uuid.uuid4().hex), uuid.uuid4().hex, uuid.uuid4().hex
    await register_retrials(writer_pool, [retried])
    for case, status, operator in ((dismissed, "resolved", "bob"), (untouched, "open", None)):
        await writer_pool.execute(
            "insert into cases (id, tenant, kind, status, detail, opened_at, deadline, operator, resolved_at)"
            " values ($1, 'acme', 'poison_message', $2, '{}', now(), now(), $3, now())", case, status, operator,
        )  # fmt: skip
    asked = [
        (uuid.uuid4().hex, dismissed), (retried.command.id, retried.command.subject), (uuid.uuid4().hex, untouched),
        (uuid.uuid4().hex, uuid.uuid4().hex),
    ]  # fmt: skip
    handlings = await read_handlings(writer_pool, asked)
    assert [(one.status, one.by) for one in handlings] == [
        ("resolved", "bob"), ("retried", "ada"), ("open", None), ("open", None),
    ]  # fmt: skip
    assert await read_handlings(writer_pool, []) == []
