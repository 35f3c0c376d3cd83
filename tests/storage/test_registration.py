"""A key makes one thing for ever; whoever comes second gets what the first one stored, and harms nobody."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import msgspec
import pytest

from tests.services import PARTITIONS, Database
from zentra.runtime.errors import Contended, DataError, InDoubt, Unavailable
from zentra.runtime.evidence import canonical
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import IntentCommand, digest_of
from zentra.runtime.intents.transaction import register, restore
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.messages import CommandGiven, Due, RailReported, decode_frame
from zentra.runtime.partitions import partition_of
from zentra.runtime.ports import Timer
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome
from zentra.runtime.rails.routing import reference_of
from zentra.runtime.stream_ports import Outgoing
from zentra.storage.errors import AlreadyDecided
from zentra.storage.identifiers import Uuid7
from zentra.storage.intake import registration as module
from zentra.storage.intake.callbacks import Callback, Taken, register_callbacks
from zentra.storage.intake.commands import Command, Decision, KeyedAnswer, register_command
from zentra.storage.intake.registration import (
    IntentIdTaken,
    Registered,
    Registration,
    register_intents,
    stored_commands,
)
from zentra.storage.outbox import mark_sent, unsent
from zentra.storage.pool import Pool, open_pool

_new_id = Uuid7()
_numbers = count()


def _item(key: str, *, intent_id: str | None = None, minor: int = 5, tenant: str = "acme") -> Registration:
    """One registration; another `minor` makes another digest."""
    intent, at = _new_id(), datetime.now(UTC)
    intent_id = intent_id or f"int_{intent}"
    command = IntentCommand(kind=IntentKind.PAYMENT, minor=str(minor), currency="NGN", source="c-1", destination="m-1")
    digest = digest_of("intent", command)
    request_id = f"req_{next(_numbers)}"
    transition = register(
        intent=intent, tenant=tenant, intent_id=intent_id, command=command, digest=digest, key=key, principal="ada",
        role="developer", trace="t", at=at, cause=request_id,
    )  # fmt: skip
    return Registration(
        tenant=tenant, key=key, digest=digest, intent=intent, intent_id=intent_id, command=canonical.encode(command),
        principal="ada", role="developer", trace="t", request_id=request_id, status=202,
        answer=f'{{"id":"{intent}"}}'.encode(), transition=transition,
        timer=Timer("intent", intent, "state", partition_of(intent, PARTITIONS), tenant, at + timedelta(seconds=15)),
    )  # fmt: skip


async def _count(pool: Pool, intents: list[str]) -> dict[str, int]:
    """How many rows these intents have, by table."""
    found = {}
    for table, column in (("intents", "id"), ("transitions", "intent"), ("timers", "key")):
        found[table] = await pool.fetchval(f"select count(*) from {table} where {column} = any($1::uuid[])", intents)
    return found


@pytest.mark.parametrize("guess", [True, False])
async def test_a_new_intent_has_everything_in_one_commit(writer_pool: Pool, guess: bool) -> None:
    items = [_item(f"new-{guess}-{n}") for n in range(300)]
    done = await register_intents(writer_pool, items, guess=guess)
    assert done.outcomes == [Registered()] * 300
    assert await _count(writer_pool, [i.intent for i in items]) == {"intents": 300, "transitions": 300, "timers": 300}
    row = await writer_pool.fetchrow("select record, hash from transitions where intent = $1", items[7].intent)
    assert row is not None
    assert restore([(row[0], row[1])]).intent_id == items[7].intent_id


async def test_frames_go_to_the_partition_and_the_feed(writer_pool: Pool) -> None:
    items = [_item(f"frame-{n}", tenant=("acme", "globex")[n % 2]) for n in range(100)]
    done = await register_intents(writer_pool, items)
    due: dict[str, Outgoing] = {}
    fed: Counter[str] = Counter()
    for message in done.outgoing:
        words = message.subject.split(".")
        if words[0] == "zc":
            for event in decode_frame(message.body):
                assert isinstance(event, Due)
                assert event.opening is not None
                assert message.subject == f"zc.{partition_of(event.intent, PARTITIONS)}.policy"
                due[event.intent] = message
        else:
            records = msgspec.json.decode(message.body)
            assert words[3] == "ingress-accepted"
            for record in records:
                assert (words[1], words[2]) == (str(partition_of(record["intent"], PARTITIONS)), record["tenant"])
                fed[record["intent"]] += 1
    assert set(due) == set(fed) == {item.intent for item in items}
    assert set(fed.values()) == {1}
    waiting = {m.id: m for m in await unsent(writer_pool, range(PARTITIONS), 0, 10_000)}
    for message in done.outgoing:
        again = waiting[message.id]
        assert again.subject == message.subject
        if message.told:  # a frame of the feed is put together from the records that it names
            assert again.body == message.body
        else:  # the worker finds in the store what the first sending brought along
            events = decode_frame(message.body)
            assert decode_frame(again.body) == [
                Due(e.intent, e.tenant, e.version) for e in events if isinstance(e, Due)
            ]
    await mark_sent(writer_pool, [m.id for m in done.outgoing])
    assert not await writer_pool.fetchval(
        "select count(*) from outbox where sent_at is null and id = any($1::uuid[])", [m.id for m in done.outgoing]
    )


@pytest.mark.parametrize("guess", [True, False])
async def test_one_key_that_is_known_harms_none_of_the_new_ones(writer_pool: Pool, guess: bool) -> None:
    known = _item(f"known-{guess}", intent_id=f"known-{guess}")
    await register_intents(writer_pool, [known], guess=guess)
    items = [_item(f"beside-{guess}-{n}") for n in range(100)]
    items[40] = _item(f"known-{guess}")
    items[60] = _item(f"other-key-{guess}", intent_id=f"known-{guess}")
    items[80] = _item(f"other-command-{guess}", intent_id=f"known-{guess}", minor=6)
    done = await register_intents(writer_pool, items, guess=guess)
    assert done.outcomes[80] == IntentIdTaken(known.intent)
    for place in (40, 60):
        found = done.outcomes[place]
        assert isinstance(found, StoredKey)
        assert (found.answer, found.subject) == (known.answer, f"intent/{known.intent}")
    new = [place for place in range(100) if place not in (40, 60, 80)]
    assert [done.outcomes[place] for place in new] == [Registered()] * 97
    expected = {"intents": 97, "transitions": 97, "timers": 97}
    assert await _count(writer_pool, [item.intent for item in items]) == expected


async def test_the_same_key_again_gives_what_is_stored(writer_pool: Pool) -> None:
    first, again, other = _item("twice"), _item("twice"), _item("twice", minor=6)
    await register_intents(writer_pool, [first])
    done = await register_intents(writer_pool, [again, other, _item("neighbour")])
    stored = StoredKey(first.digest, 202, first.answer, f"intent/{first.intent}", first.request_id, first.transition.at)
    assert done.outcomes == [stored, stored, Registered()]
    assert await _count(writer_pool, [again.intent, other.intent]) == {"intents": 0, "transitions": 0, "timers": 0}
    assert await stored_commands(writer_pool, [("acme", first.intent)]) == {first.intent: first.command}
    assert await stored_commands(writer_pool, [("globex", first.intent)]) == {}


async def test_a_key_belongs_to_its_tenant(writer_pool: Pool) -> None:
    done = await register_intents(writer_pool, [_item("shared"), _item("shared", tenant="globex")])
    assert done.outcomes == [Registered(), Registered()]


async def test_a_repeat_within_a_group_is_resolved_against_the_earlier_one(writer_pool: Pool) -> None:
    items = [_item("group"), _item("group"), _item("group", minor=6)]
    done = await register_intents(writer_pool, items)
    winners = [item for item, outcome in zip(items, done.outcomes, strict=True) if outcome == Registered()]
    assert winners == items[:1]
    assert all(isinstance(one, StoredKey) and one.answer == items[0].answer for one in done.outcomes[1:])


@pytest.mark.parametrize("together", [True, False])
async def test_another_key_for_the_same_intent_is_kept_and_replays_too(writer_pool: Pool, together: bool) -> None:
    name = f"same-{together}"
    items = [_item(f"{name}-1", intent_id=name), _item(f"{name}-2", intent_id=name)]
    groups = [items] if together else [[item] for item in items]
    outcomes = [one for group in groups for one in (await register_intents(writer_pool, group)).outcomes]
    assert outcomes[0] == Registered()
    assert isinstance(outcomes[1], StoredKey)
    assert outcomes[1].answer == items[0].answer
    for key in (f"{name}-1", f"{name}-2"):
        (replay,) = (await register_intents(writer_pool, [_item(key, intent_id=name)])).outcomes
        assert isinstance(replay, StoredKey)
        assert (replay.answer, replay.subject) == (items[0].answer, f"intent/{items[0].intent}")


@pytest.mark.parametrize("together", [True, False])
async def test_another_command_for_the_same_intent_is_a_conflict_and_its_key_is_free(
    writer_pool: Pool, together: bool
) -> None:
    name = f"taken-{together}"
    first, other = _item(f"{name}-1", intent_id=name), _item(f"{name}-2", intent_id=name, minor=6)
    again = _item(f"{name}-2", intent_id=name, minor=6)
    groups = [[first, other, again]] if together else [[first], [other], [again]]
    outcomes = [one for group in groups for one in (await register_intents(writer_pool, group)).outcomes]
    assert outcomes == [Registered(), IntentIdTaken(first.intent), IntentIdTaken(first.intent)]
    assert not await writer_pool.fetchval("select count(*) from idempotency where key = $1", f"{name}-2")
    done = await register_intents(writer_pool, [_item(f"{name}-2", intent_id=f"{name}-free")])
    assert done.outcomes == [Registered()]


async def test_a_crowd_with_one_key_and_an_intent_id_that_is_taken_keeps_nobody_waiting(writer_pool: Pool) -> None:
    first = _item("crowd-1", intent_id="crowd")
    crowd = [_item("crowd-2", intent_id="crowd", minor=6 + number) for number in range(12)]
    innocent = [_item(f"innocent-{number}") for number in range(5)]
    done = await register_intents(writer_pool, [first, *crowd, *innocent])
    assert done.outcomes == [Registered(), *[IntentIdTaken(first.intent)] * 12, *[Registered()] * 5]


async def test_groups_that_meet_make_each_intent_once(writer_pool: Pool) -> None:
    """Eight groups at once, each with the same forty keys in another order."""
    names = [f"meet-{n}" for n in range(40)]
    groups = [[_item(name, intent_id=name) for name in names[start:] + names[:start]] for start in range(0, 40, 5)]
    done = await asyncio.gather(*[register_intents(writer_pool, group) for group in groups])
    answers: dict[str, set[bytes]] = {name: set() for name in names}
    made: Counter[str] = Counter()
    for group, registrations in zip(groups, done, strict=True):
        for item, outcome in zip(group, registrations.outcomes, strict=True):
            assert not isinstance(outcome, IntentIdTaken)
            made[item.key] += outcome == Registered()
            answers[item.key].add(outcome.answer if isinstance(outcome, StoredKey) else item.answer)
    assert set(made.values()) == {1}
    assert {len(one) for one in answers.values()} == {1}


async def test_a_group_with_refused_data_leaves_nothing(writer_pool: Pool) -> None:
    items = [_item("fine"), _item("refused\x00")]
    with pytest.raises(DataError):
        await register_intents(writer_pool, items)
    assert await _count(writer_pool, [i.intent for i in items]) == {"intents": 0, "transitions": 0, "timers": 0}
    assert (await register_intents(writer_pool, items[:1])).outcomes == [Registered()]


@pytest.mark.parametrize("size", [3, module.FEW_ITEMS + 1])
@pytest.mark.parametrize("happened", [True, False])
async def test_a_commit_in_doubt_is_settled_by_asking(
    writer_pool: Pool, monkeypatch: pytest.MonkeyPatch, happened: bool, size: int
) -> None:
    write, runs = module._Group.write, count()

    async def in_doubt(group: Any, connection: Any) -> None:
        first = next(runs) == 0
        if happened or not first:
            await write(group, connection)
        if first:
            if connection.is_in_transaction():
                await connection.execute("commit; begin" if happened else "rollback; begin")
            raise InDoubt("the connection died")

    monkeypatch.setattr(module._Group, "write", in_doubt)
    items = [_item(f"doubt-{happened}-{size}-{n}") for n in range(size)]
    done = await register_intents(writer_pool, items)
    assert done.outcomes == [Registered()] * size
    assert await _count(writer_pool, [i.intent for i in items]) == dict.fromkeys(
        ("intents", "transitions", "timers"), size
    )
    assert bool(done.outgoing) is not happened


async def test_a_contended_run_is_run_again_and_not_for_ever(
    writer_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def contended(group: Any, connection: Any) -> None:
        raise Contended("deadlock detected")

    monkeypatch.setattr(module._Group, "write", contended)
    with pytest.raises(Contended, match="after 8 runs"):
        await register_intents(writer_pool, [_item("contended")])


async def test_a_server_that_is_gone_is_unavailable(database: Database, admin_pool: Pool) -> None:
    async with await open_pool(database.writer_url, name="doomed", connections_max=1) as pool:
        await register_intents(pool, [_item("before")])
        await admin_pool.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'doomed'"
        )
        item = _item("after")
        failed = 0
        while True:  # the pool finds out, and opens another connection
            try:
                done = await register_intents(pool, [item])
                break
            except Unavailable:
                failed += 1
        assert failed <= 1  # none where the pool had noticed already
        assert done.outcomes == [Registered()]


# Commands and callbacks.


def _command(
    key: str, *, review: str | None = None, verdict: str = "approved", who: str = "ada", approvals: int = 1
) -> tuple[KeyedAnswer, Command]:
    uuid = _new_id()
    keyed = KeyedAnswer(
        tenant="acme", key=key, digest=verdict.encode(), subject=f"command/{uuid}", status=202,
        answer=uuid.encode(), request_id="req",
    )  # fmt: skip
    decision = Decision(review, 1, verdict, "looks right", approvals) if review is not None else None
    return keyed, Command(
        id=uuid, kind="cancel", subject="order-1", principal=who, role="operator", body=b"{}", partition=3,
        decision=decision, intent="f" * 32,
    )  # fmt: skip


async def test_a_command_is_committed_with_its_frame_once(writer_pool: Pool) -> None:
    keyed, command = _command("command-1")
    message = await register_command(writer_pool, keyed, command)
    assert isinstance(message, Outgoing)
    assert message.subject == "zc.3.command"
    assert decode_frame(message.body) == [
        CommandGiven(command.id, "acme", "cancel", "order-1", "ada", "operator", b"{}", "f" * 32)
    ]
    again, other = _command("command-1")
    stored = await register_command(writer_pool, again, other)
    assert isinstance(stored, StoredKey)
    assert (stored.answer, stored.subject) == (keyed.answer, keyed.subject)
    assert await writer_pool.fetchval("select count(*) from commands where id = $1", other.id) == 0


# Who decides what, one after the other, of a round that takes two approvals; who of them has a seat.
# fmt: off
SEATS = [
    ("two people approve",             [("a", "approved"), ("b", "approved"), ("c", "approved")], [True, True, False]),
    ("one person approves twice",      [("a", "approved"), ("a", "approved"), ("b", "approved")], [True, False, True]),
    ("somebody rejects",               [("a", "rejected"), ("b", "approved")],                    [True, False]),
    ("somebody rejects after another", [("a", "approved"), ("b", "rejected"), ("c", "approved")], [True, True, False]),
    ("both reject",                    [("a", "rejected"), ("b", "rejected")],                    [True, False]),
]
# fmt: on


@pytest.mark.parametrize(("asked", "seated"), [row[1:] for row in SEATS], ids=[row[0] for row in SEATS])
async def test_a_round_has_as_many_seats_as_it_takes_approvals(
    writer_pool: Pool, asked: list[tuple[str, str]], seated: list[bool]
) -> None:
    review, got = _new_id(), []
    for who, verdict in asked:
        keyed, command = _command(_new_id(), review=review, verdict=verdict, who=who, approvals=2)
        try:
            await register_command(writer_pool, keyed, command)
            got.append(True)
        except AlreadyDecided:
            got.append(False)
    assert got == seated


async def test_of_many_who_approve_at_once_as_many_as_it_takes_have_a_seat(writer_pool: Pool) -> None:
    review = _new_id()
    attempts = [_command(f"two-{n}", review=review, who=f"p-{n}", approvals=2) for n in range(6)]
    results = await asyncio.gather(
        *[register_command(writer_pool, keyed, command) for keyed, command in attempts], return_exceptions=True
    )
    assert sum(isinstance(one, Outgoing) for one in results) == 2
    assert sum(isinstance(one, AlreadyDecided) for one in results) == 4


async def test_of_two_deciders_one_decides(writer_pool: Pool) -> None:
    review = _new_id()
    attempts = [_command(f"decide-{n}", review=review, verdict=("approved", "rejected")[n % 2]) for n in range(8)]
    results = await asyncio.gather(
        *[register_command(writer_pool, keyed, command) for keyed, command in attempts], return_exceptions=True
    )
    assert sum(isinstance(one, Outgoing) for one in results) == 1
    assert sum(isinstance(one, AlreadyDecided) for one in results) == 7
    assert await writer_pool.fetchval("select count(*) from review_decisions where review = $1", review) == 1
    assert await writer_pool.fetchval("select count(*) from idempotency where key like 'decide-%'") == 1


def _callback(event_id: str, reference: str) -> Callback:
    outcome = RailOutcome(
        "sandbox", reference, OutcomeStatus.SUCCEEDED, 5, "NGN", event_id=event_id, trust="body_signed"
    )
    return Callback(outcome, event_id, b"raw \xff bytes", {"x-signature": "s"})


async def test_a_callback_is_stored_once_and_every_repeat_reaches_the_actor(writer_pool: Pool) -> None:
    intent = _new_id()
    reference = reference_of(intent, 1)
    first = await register_callbacks(
        writer_pool, [_callback("e-1", reference), _callback("e-1", reference)], partitions=PARTITIONS
    )
    again = await register_callbacks(writer_pool, [_callback("e-1", reference)], partitions=PARTITIONS)
    assert (first.taken, again.taken) == ([Taken.NEW, Taken.REPEATED], [Taken.REPEATED])
    for done, events in ((first, 2), (again, 1)):
        (message,) = done.outgoing
        assert message.subject == f"zc.{partition_of(intent, PARTITIONS)}.callback"
        assert (
            decode_frame(message.body) == [RailReported(_callback("e-1", reference).outcome, "callback/e-1")] * events
        )
    row = await writer_pool.fetchrow(
        "select body, headers, count from callbacks join callback_repeats using (rail, event_id) where event_id = 'e-1'"
    )
    assert row is not None
    assert (row[0], msgspec.json.decode(row[1]), row[2]) == (b"raw \xff bytes", {"x-signature": "s"}, 2)


async def test_an_unknown_reference_has_a_partition_of_its_own(writer_pool: Pool) -> None:
    done = await register_callbacks(writer_pool, [_callback("e-2", "whose?")], partitions=PARTITIONS)
    assert [m.subject for m in done.outgoing] == [f"zc.{partition_of('sandbox/whose?', PARTITIONS)}.callback"]
