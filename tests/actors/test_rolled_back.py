"""A stream that was rolled back or emptied: its partitions go on, and what it lost is published again, once."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Any

import anyio
import pytest

from tests.actors.test_supervisor import in_virtual_time
from tests.actors.test_worker import all_in, make_worker, make_world, running, until
from tests.actors.world import audited, transfer
from zentra.actors.relay import BACKED_UP_LIMIT, SWEEP_LIMIT, Relay, row_of
from zentra.actors.tick import Input
from zentra.bench.twins.fleet import Fleet, at_once
from zentra.bench.twins.stream import SourceTwin
from zentra.gateway.metrics import Metrics
from zentra.gateway.upkeep import Upkeep
from zentra.runtime.errors import Unavailable
from zentra.runtime.instruments import SILENCE
from zentra.runtime.ports import Lease
from zentra.runtime.stream_ports import NOTHING_CONSUMED, Loss, Outgoing, Position, StreamError
from zentra.runtime.subjects import EVENTS
from zentra.streams.errors import StreamFull


def consumed_all(fleet: Fleet) -> bool:
    return min(row.position.sequence for row in fleet.store.lease_rows.values()) == fleet.stream.log().last


async def test_what_a_stream_lost_is_sent_again_for_every_partition_not_only_those_that_had_consumed_it() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w")
    async with running(worker):
        first = fleet.submit(transfer(1_000))
        await until(all_in(fleet, [first]))
        await until(lambda: consumed_all(fleet))
        await worker.drain()
    kept = fleet.stream.log().last
    place = fleet.partition_of(first)
    # One partition consumed what is lost; the command of another was sent, marked and not yet taken.
    other = next(p for p in fleet.store.lease_rows if p != place)
    fleet.store.lease_rows[place].position = Position(kept + 2, "lost")
    frame = fleet.store.put(other, f"zc.{other}.log", b"\x90", "f" * 32)
    fleet.publish([frame])
    fleet.stream.roll_back(kept)
    async with running(make_worker(fleet, "next")):
        await until(lambda: "f" * 32 in {row_of(message.id) for message in fleet.stream.log().messages})


@in_virtual_time
async def test_leases_are_renewed_and_given_up_while_a_repair_takes_longer_than_they_last() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w")
    repairing, go_on = anyio.Event(), anyio.Event()

    async def frames(rows: Sequence[str]) -> list[Outgoing]:
        repairing.set()
        await go_on.wait()
        return []

    async with running(worker):
        await until(lambda: len(worker.leases) == 8)
        fleet.store.put(3, "zc.3.log", b"\x90", "f" * 32)
        fleet.publish([Outgoing("zc.3.log", b"\x90", "report")])
        await until(lambda: worker._taken[3].sequence > 0)
        fleet.store.frames = frames  # type: ignore[method-assign]
        fleet.stream.roll_back(0)
        await repairing.wait()
        ends = anyio.current_time() + 5 * worker.settings.lease_seconds
        while anyio.current_time() < ends:
            await anyio.sleep(worker.settings.lease_seconds / 10)
            assert anyio.current_time() < worker._alive_until
        fleet.store.lease_rows[5].epoch += 1
        await until(lambda: 5 not in worker.leases)
        go_on.set()
        await until(lambda: len(worker.leases) == 8)
        intents = [fleet.submit(transfer(1_000)) for _ in range(10)]
        await until(all_in(fleet, intents))


async def test_a_renewal_that_fails_says_so_itself() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w")
    fleet.store.fail_next(Unavailable("away"), method="claim")
    with pytest.raises(Unavailable, match="away"):
        await worker.keep_leases()


@pytest.mark.parametrize("found_before", [False, True])
async def test_from_the_first_page_that_is_refused_all_is_left_to_the_sweep(found_before: bool) -> None:
    fleet = make_world()
    frames = [fleet.store.put(3, "zc.3.log", b"\x90", f"{n:032x}") for n in range(3 * BACKED_UP_LIMIT)]
    fleet.publish(frames)
    fleet.stream.roll_back(0)
    asked: list[int] = []

    class Refusing:
        async def publish(self, messages: Sequence[Outgoing]) -> list[StreamError | None]:
            asked.append(len(messages))
            return [StreamFull("maximum bytes exceeded")] * len(messages)

    relay = Relay(fleet.store, Refusing(), lambda: range(8), SILENCE)
    source = fleet.stream.source()
    if found_before:  # then what the streams lack was told already
        relay._repaired = (await source.loss()).number
    for row in fleet.store.rows.outbox.values():
        row.sent_at = fleet.now
    assert await relay.republish(source, [3]) == NOTHING_CONSUMED
    assert asked == [BACKED_UP_LIMIT]
    await relay.flush()
    assert {row.id for row in await fleet.store.unsent(range(8), -1, 10_000)} == {row.id for row in frames}
    for row in fleet.store.rows.outbox.values():
        row.sent_at = fleet.now
    asked.clear()
    fleet.now += timedelta(seconds=60)
    await relay.resend(source, 30)
    assert asked == [BACKED_UP_LIMIT]


@pytest.mark.parametrize("told", [True, False])
async def test_what_was_published_between_the_loss_and_the_end_is_published_again_behind_it(told: bool) -> None:
    """Whoever did it, marked or not: another who had noticed earlier, a gateway, a sweep, with a mark still to come."""
    fleet = make_world()
    fleet.stream.clock = (lambda: fleet.now.timestamp()) if told else None
    worker = make_worker(fleet, "w")
    async with running(worker):
        await until(all_in(fleet, [fleet.submit(transfer(1_000))]))
        await until(lambda: consumed_all(fleet))
        last = fleet.stream.log().last
        fleet.now += timedelta(seconds=5)
        rows = [fleet.store.put(p, f"zc.{p}.log", b"\x90", f"{p:032x}") for p in fleet.store.lease_rows]
        for row in list(fleet.store.rows.outbox.values())[::2]:
            row.sent_at = fleet.now
        fleet.stream.roll_back(0)
        fleet.publish([*rows, *(Outgoing("zc.0.log", b"\x90", f"report{n}") for n in range(last))])
        end = fleet.stream.log().last
        await until(lambda: not at_once(fleet.store.outstanding(fleet.store.lease_rows)))
        await worker.drain()
    again = [message.id for message in fleet.stream.log().messages[end:] if message.id.endswith(f"-{end}")]
    assert sorted(again) == sorted(f"{row.id}-{end}" for row in rows)


async def test_a_rollback_that_could_not_be_answered_is_found_again() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w")
    async with running(worker):
        intents = [fleet.submit(transfer(1_000)) for _ in range(5)]
        await until(all_in(fleet, intents))
        await until(lambda: consumed_all(fleet))
        fleet.store.fail_next(Unavailable("away"), method="unsend")
        fleet.stream.roll_back(0)
        fleet.stream.forget_ids()
        more = [fleet.submit(transfer(1_000)) for _ in range(5)]
        await until(all_in(fleet, more))
    audited(fleet)


def take_the_tail(fleet: Fleet) -> None:
    fleet.stream.roll_back(0)


def purge_by_hand(fleet: Fleet) -> None:
    fleet.stream.purge_commands(fleet.stream.log().last + 1)


@pytest.mark.parametrize("checkpoints", [0, 5])
@pytest.mark.parametrize("lose", [take_the_tail, purge_by_hand])
@in_virtual_time
async def test_frames_that_were_sent_and_lost_are_sent_again_though_no_checkpoint_tells(
    lose: Callable[[Fleet], None], checkpoints: int
) -> None:
    """No worker was there to see them, so the stream contradicts nobody."""
    fleet = make_world()
    if checkpoints and lose is purge_by_hand:
        fleet.publish([Outgoing("zc.0.log", b"\x90", f"{n:032x}") for n in range(checkpoints)])
        for row in fleet.store.lease_rows.values():
            row.position = Position(checkpoints, f"{checkpoints - 1:032x}")
    intents = [fleet.submit(transfer(1_000)) for _ in range(5)]
    lose(fleet)
    fleet.now += timedelta(seconds=12)  # before any timer of theirs
    worker = make_worker(fleet, "w")
    worker.instruments = metrics = Metrics()
    async with running(worker), anyio.create_task_group() as group:
        group.start_soon(worker.relay.keep_sweeping)
        group.start_soon(worker.relay.keep_marking)
        await until(all_in(fleet, intents))
        await until(lambda: len(fleet.store.rows.leaves) == 5)
        group.cancel_scope.cancel()
    assert all(row.message.subject.startswith("ze.") for row in fleet.store.rows.outbox.values())
    assert b"zentra_frames_lost_total 5.0" in metrics.exposition()
    audited(fleet)


async def test_a_frame_that_is_consumed_leaves_no_row_and_no_row_is_taken_for_lost() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w")
    worker.instruments = metrics = Metrics()
    fleet.now += timedelta(seconds=60)
    async with running(worker):
        intents = [fleet.submit(transfer(1_000)) for _ in range(20)]
        await until(lambda: len(fleet.store.rows.leaves) == 20)
        await until(lambda: worker._read_through > 0)
    assert all_in(fleet, intents)()
    assert {row.message.subject[:3] for row in fleet.store.rows.outbox.values()} == {"ze."}
    assert b"zentra_frames_lost_total 0.0" in metrics.exposition()


async def test_nothing_is_looked_for_before_what_was_taken_is_consumed() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w")
    await worker.refresh_leases()
    fleet.submit(transfer(1_000))
    fleet.now += timedelta(seconds=60)
    await worker.source.wait_arrival()
    await worker._look_for_lost()
    assert worker._end_seen is None
    worker._take_arrived()
    await worker._look_for_lost()
    assert (worker._end_seen is not None, worker._read_through) == (True, -math.inf)
    batch = worker._next_batch()
    assert batch is not None
    await worker._committer.run(batch, 1)
    await worker._look_for_lost()
    assert worker._read_through > 0
    await worker.refresh_leases()
    fleet.store.lease_rows[3].epoch += 1
    await worker.refresh_leases()  # another consumer: how far it has read is to be seen
    assert worker._read_through == -math.inf


async def test_a_checkpoint_of_a_stream_that_is_gone_is_not_taken_from_inputs_that_wait() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w")
    await worker.refresh_leases()
    worker._queues[3].append((Input(3, "log", None, "m9"), Position(9, "m9")))
    await worker._rewind([3])
    batch = worker._next_batch()
    assert batch is not None
    assert (len(batch.inputs), batch.positions) == (1, {})


async def test_nothing_is_purged_behind_checkpoints_that_the_stream_contradicts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every checkpoint is of before the loss; the stream has given their places to frames that nobody has consumed."""
    fleet = make_world()
    worker = make_worker(fleet, "w")
    await worker.refresh_leases()
    for row in fleet.store.lease_rows.values():
        row.position = Position(7, "lost")
    fleet.publish([fleet.store.put(3, "zc.3.log", b"\x90", f"{number:032x}") for number in range(9)])

    class Store:
        async def partitions(self) -> int:
            return fleet.store.partitions

        async def leases(self, partitions: Collection[int]) -> dict[int, Lease]:
            return await fleet.store.leases(partitions)

    async def purge(client: Any, up_to: int) -> None:
        fleet.stream.purge_commands(up_to)

    monkeypatch.setattr("zentra.gateway.upkeep.purge_commands", purge)
    store: Any = Store()
    client: Any = None
    await Upkeep(worker, store, worker.relay, client, SILENCE)._purge(last=9, consumed=0)
    assert fleet.stream.log().first == 1
    for row in fleet.store.lease_rows.values():
        row.position = Position(7, f"{6:032x}")
    await Upkeep(worker, store, worker.relay, client, SILENCE)._purge(last=9, consumed=0)
    assert fleet.stream.log().first == 7


async def test_a_place_that_a_commit_on_its_way_names_is_not_believed_after_a_rewind() -> None:
    fleet = make_world()
    worker = make_worker(fleet, "w")
    await worker.refresh_leases()
    fleet.publish([fleet.store.put(3, "zc.3.log", b"\x90", f"{number:032x}") for number in range(4)])
    await worker.source.wait_arrival()
    worker._take_arrived()
    batch = worker._next_batch()
    assert batch is not None
    worker._flying = {3}
    fleet.stream.roll_back(1)
    await worker._start_over(worker.source.take_rolled_back())
    assert (worker._taken[3].sequence, worker._checkpoint[3].sequence) == (1, 1)
    await worker._fly(batch, {3}, 0)
    assert fleet.store.lease_rows[3].position.sequence == 4  # as it was decided; but it holds nowhere any more
    assert worker.leases[3].position.sequence == 1
    stored = worker._next_batch()
    assert stored is not None
    assert stored.positions[3].sequence == 1


async def test_an_owner_that_notices_late_settles_what_another_had_published_for_it() -> None:
    """Rows of one partition are swept by its owner before it has looked, on the word of the owner of another."""
    fleet = make_world()
    first, late = make_worker(fleet, "first"), make_worker(fleet, "late")
    for worker in (first, late, first, late):
        await worker.refresh_leases()
    p, q = min(first.leases), min(late.leases)
    fleet.publish([Outgoing(f"zc.{place}.log", b"\x90", f"old{n}") for n, place in enumerate((p, q) * 3)])
    for worker in (first, late):
        await worker.source.wait_arrival()
        worker._take_arrived()
        worker._queues[p if worker is first else q].clear()
    row = fleet.store.put(q, f"zc.{q}.log", b"\x90", "f" * 32)
    row_at = fleet.store.rows.outbox[row.id]
    row_at.sent_at = fleet.now
    fleet.now += timedelta(seconds=2)
    fleet.stream.roll_back(0)
    await first._start_over(first.source.take_rolled_back())
    assert row_at.sent_at is None  # first says that it may be lost
    await late.relay._sweep(1.0)
    assert [message.id for message in fleet.stream.log().messages] == [row.id]  # where late would not look
    assert late._taken[q].sequence > fleet.stream.log().last
    await late._start_over(late.source.take_rolled_back())
    await late.source.wait_arrival()
    late._take_arrived()
    assert [entry.cause for entry, _ in late._queues[q]] == [f"{row.id}-1"]


async def test_rows_of_the_feed_are_taken_back_once_for_a_loss_and_as_far_as_it_goes() -> None:
    fleet = make_world()
    fleet.stream.clock = fleet.seconds
    worker = make_worker(fleet, "w")
    await worker.refresh_leases()
    rows = [fleet.store.put(3, "ze.3.acme.topic", b"[]", f"{number:032x}") for number in range(8)]
    frame = fleet.store.put(3, "zc.3.log", b"\x90", "f" * 32)
    for row in rows:
        fleet.publish([row])
        fleet.store.rows.outbox[row.id].sent_at = fleet.now
        fleet.now += timedelta(seconds=60)
        worker.source.take_nowait(0)  # it looks
    fleet.publish([frame])
    worker._take_arrived()
    kept = 5
    fleet.stream.roll_back(0, events_to=kept)

    def unsent() -> list[str]:
        return [row.id for row in at_once(fleet.store.unsent([3], -1, 100, commands=False))]

    await worker._start_over(worker.source.take_rolled_back())
    assert unsent() == [row.id for row in rows[kept - 1 :]]  # and the last that is left
    await worker.relay._sweep(-1)
    assert unsent() == []
    assert fleet.stream.log(EVENTS).last == len(rows)
    await worker.relay.republish(worker.source, [3])
    assert unsent() == []


@pytest.mark.parametrize(("full", "other"), [("zc", "ze"), ("ze", "zc")])
async def test_neither_line_waits_for_the_other(full: str, other: str) -> None:
    class OneIsFull:
        async def publish(self, messages: Sequence[Outgoing]) -> list[StreamError | None]:
            published.extend(messages)
            return [StreamFull("") if message.subject.startswith(full) else None for message in messages]

    published: list[Outgoing] = []
    fleet = make_world()
    relay = Relay(fleet.store, OneIsFull(), lambda: range(8), SILENCE)
    rows = [fleet.store.put(3, f"{line}.3.acme.topic", b"[]", f"{n:032x}") for n, line in enumerate((full, other) * 2)]
    await relay.publish(rows[:2])
    assert relay.backed_up
    await relay.publish(rows[2:])
    assert [message.id for message in published] == [rows[0].id, rows[1].id, rows[3].id]
    await relay._sweep(-1)
    await relay.flush()
    assert [row.message.id for row in fleet.store.rows.outbox.values() if row.sent_at is None] == [
        rows[0].id,
        rows[2].id,
    ]


async def test_the_sweep_goes_on_while_the_stream_takes_full_pages_whatever_is_published_and_marked_meanwhile() -> None:
    fleet = make_world()
    stream = fleet.stream.publisher()
    fresh = fleet.store.put(3, "zc.3.log", b"\x90", "f" * 32)
    rows = [fleet.store.put(3, "zc.3.log", b"\x90", f"{n:032x}") for n in range(2 * SWEEP_LIMIT + 1)]

    class Busy:
        async def publish(self, messages: Sequence[Outgoing]) -> list[StreamError | None]:
            if len(messages) > 1:
                await relay.publish([fresh])
                await relay.flush()
            return await stream.publish(messages)

    relay = Relay(fleet.store, Busy(), lambda: range(8), SILENCE)
    await relay.publish([fresh])
    await relay._sweep(-1)
    published = {message.id for message in fleet.stream.log().messages}
    assert published == {fresh.id, *(row.id for row in rows)}


@pytest.mark.parametrize(("left", "goes_on"), [(3, 3), (9, 4), (None, 4)])
async def test_what_is_gone_on_from_is_never_behind_the_end_that_was_known_first(
    left: int | None, goes_on: int
) -> None:
    """What was left is told from times, and late: it may be of messages that came after the end was asked for."""
    fleet = make_world()
    fleet.publish([Outgoing("zc.0.log", b"\x90", f"{n:032x}") for n in range(4)])

    class Late(SourceTwin):
        async def loss(self) -> Loss:
            return Loss(1, None if left is None else Position(left, "left"), math.inf, 0.0)

    relay = Relay(fleet.store, fleet.stream.publisher(), lambda: range(8), SILENCE)
    assert (await relay.republish(Late(fleet.stream), [3])).sequence == goes_on
