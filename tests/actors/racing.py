"""Capture against expiry, many thousand times, through the real decisions of a worker: its engine, ticks and commits.

Every race takes a hold to its deadline, to the microsecond, and lets a capture and the hold's timer come in an order
and at times that a seed decides, in one tick or in two. A model of four lines says who has to win. Run as many as you
like:

    .venv/bin/python -m tests.actors.racing --races 10000
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

import msgspec
from msgspec import Struct

from tests.actors.world import ACCOUNTS
from zentra.actors.committing import Committer
from zentra.actors.engine import Engine
from zentra.actors.memory import Memory
from zentra.actors.tick import Batch, Input, Rules, Tick
from zentra.bench.twins.store import StoreTwin
from zentra.runtime.intents.command import IntentCommand, digest_of
from zentra.runtime.intents.terms import HoldTerms
from zentra.runtime.intents.transaction import Transaction, Transition, register
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.messages import CommandGiven, Due, Event, TimerFired
from zentra.runtime.policy import Limits, PolicyRules
from zentra.runtime.ports import Configuration, Fence, Lease, Store, TickPlan, TickWrites
from zentra.runtime.subjects import command_subject, dead_subject, event_subject

__all__ = ["CONFIGURATION", "FUNDS", "MINOR", "START", "Drawn", "Raced", "Racer", "judged", "race", "races_on_twin"]

START: Final = datetime(2026, 1, 5, 1, tzinfo=UTC)
CONFIGURATION: Final = Configuration(
    version=1,
    policies={"acme": PolicyRules(version=1, limits={"NGN": Limits(daily_minor_max=10**15)})},
    corridors={},
    endpoints={},
    rails={},
)
MINOR: Final = 1_000
FUNDS: Final = 10**12
TOGETHER: Final = 100  # holds that are placed at once
MICROSECOND: Final = timedelta(microseconds=1)
_NEAR: Final = (-1_000_000, -10_000, -3, -2, -1, 0, 0, 0, 1, 2, 3, 10_000, 1_000_000)  # microseconds from the deadline


class Drawn(Struct, frozen=True):
    """How one race goes: what comes, when, and whether both come in one tick."""

    first: str
    first_at: datetime
    second_at: datetime
    together: bool


class Raced(Struct):
    """What became of all races; `wins` are by who won and how far from the deadline it came, in microseconds."""

    races: int = 0
    captured: int = 0
    expired: int = 0
    seconds: float = 0.0
    wrong: list[str] = msgspec.field(default_factory=list)


class Racer:
    """A worker without tasks on any store, whose clock a race sets. Everything is of one partition. `stages` are those
    whose frames are worked off; `polled` are the references that rails were to be asked for."""

    stages: tuple[str, ...] = ("policy", "ledger")

    def __init__(self, store: Store, set_clock: Callable[[datetime], None], undrafted_max: int) -> None:
        rules = Rules(
            partition_of=lambda key: 0, command_subject=command_subject, event_subject=event_subject,
            dead_subject=dead_subject, sign_head=lambda tenant, size, root, at: ("key", bytes(64)),
            open_secret=lambda sealed: sealed,
        )  # fmt: skip
        self.store, self._set_clock = store, set_clock
        self.memory = Memory(CONFIGURATION, rules.partition_of)
        self.leases: dict[int, Lease] = {}
        self.outcomes: dict[str, str] = {}
        self.polled: list[str] = []
        self._committer = Committer(
            Engine(self.memory, rules), store, self.leases, drop=lambda lost: None, committed=self._committed,
            send=self._send, undrafted_max=undrafted_max,
        )  # fmt: skip
        self._serial = 0

    async def begin(self, name: str) -> None:
        """Take the partition."""
        self.leases.update({0: (await self.store.claim(name, 3_600)).owned[0]})
        self.memory.configure(await self.store.configuration())

    async def place(self, at: datetime, seconds: Sequence[int], prefix: str) -> list[str]:
        """Return the intents of holds that stand, placed `at` a time for so many seconds each."""
        registered = [self._registered(at, lasts, prefix) for lasts in seconds]
        lease = self.leases[0]
        plan = TickPlan((Fence(0, lease.epoch, lease.version, lease.position),), (), (), 1)
        await self.store.commit(plan, lambda ground: TickWrites(transitions=registered))
        self.leases[0] = Lease(0, lease.epoch, lease.version + 1, lease.position)
        await self.run(at, [("policy", Due(one.intent, "acme", 1)) for one in registered])
        return [one.intent for one in registered]

    async def run(self, at: datetime, events: Sequence[tuple[str, Event]]) -> None:
        """Let a tick at a time take these events, and what it asks for until nothing is left."""
        self._set_clock(at)
        inputs = [Input(0, stage, event, f"test/{stage}") for stage, event in events]
        while inputs:
            tick = await self._committer.run(Batch(inputs, {}, epochs={0: self.leases[0].epoch}), 1)
            assert tick is not None
            assert not tick.batch.poisoned, tick.batch.poisoned
            self.outcomes |= {row[0]: row[3] for row in tick.writes.command_outcomes}
            self.polled += [poll.reference for poll in tick.polls]
            inputs = [
                Input(0, stage, event, f"frame/{stage}")
                for (_, stage), found in tick.frames.items()
                for event in found
                if stage in self.stages
            ]

    def capture(self, intent: str) -> tuple[str, tuple[str, Event]]:
        """Return the id of a capture of all that is left, and its event."""
        self._serial += 1
        key = f"{intent[0]}c{self._serial:030x}"
        body = b'{"amount":"full"}'
        return key, ("command", CommandGiven(key, "acme", "capture_hold", intent, "dev", "developer", body))

    def _registered(self, at: datetime, seconds: int, prefix: str) -> Transition:
        self._serial += 1
        command = IntentCommand(
            kind=IntentKind.HOLD, minor=str(MINOR), currency="NGN", source="customer", destination="merchant",
            hold=HoldTerms(seconds),
        )  # fmt: skip
        return register(
            intent=f"{prefix}{self._serial:031x}", tenant="acme", intent_id=f"hold-{self._serial}", command=command,
            digest=digest_of("intent", command), key=f"key-{self._serial}", principal="dev", role="developer",
            trace="0" * 32, at=at, cause="test",
        )  # fmt: skip

    def _committed(self, plan: TickPlan, tick: Tick) -> None:
        for fence in plan.fences:
            self.leases[fence.partition] = Lease(fence.partition, fence.epoch, fence.version + 1, fence.position)
        self.memory.keep(tick.transactions.values())

    async def _send(self, tick: Tick) -> None:
        """Nobody listens."""

    def standing(self, intent: str) -> Transaction:
        """Return a hold as this worker remembers it."""
        tx = self.memory.transactions[intent]
        assert tx is not None
        return tx


async def race(
    racer: Racer, seed: int, races: int, raced: Raced, *, begin: datetime = START, prefix: str = "a"
) -> None:
    """Run races on one racer, and note in `raced` what became of them; ids begin with `prefix`, a hex digit."""
    random, at = Random(seed), begin
    while races > 0:
        many = min(races, TOGETHER)
        races -= many
        # so far apart that no race touches the deadline of another
        intents = await racer.place(at, [60 + 10 * number for number in range(many)], prefix)
        for intent in intents:
            await _one(racer, random, intent, raced)
        at += timedelta(seconds=60 + 10 * many + 60)


async def _one(racer: Racer, random: Random, intent: str, raced: Raced) -> None:
    hold = racer.standing(intent).hold
    assert hold is not None
    deadline = hold.expires_at
    times = sorted(deadline + random.choice(_NEAR) * MICROSECOND for _ in range(2))
    drawn = Drawn(random.choice(("capture", "timer")), times[0], times[1], random.random() < 0.5)
    key, capture = racer.capture(intent)
    timer: tuple[str, Event] = ("timer", TimerFired("intent", intent, "state", "acme"))
    events = [capture, timer] if drawn.first == "capture" else [timer, capture]
    if drawn.together:
        await racer.run(drawn.second_at, events)
    else:
        await racer.run(drawn.first_at, events[:1])
        await racer.run(drawn.second_at, events[1:])
    capture_at = drawn.first_at if drawn.first == "capture" and not drawn.together else drawn.second_at
    wins = capture_at < deadline
    late, again = racer.capture(intent)
    await racer.run(max(deadline, drawn.second_at) + timedelta(seconds=2), [timer, again])
    tx = racer.standing(intent)
    assert tx.hold is not None
    found = (tx.hold.end, tx.held, tx.posted, racer.outcomes[key], racer.outcomes[late])
    due = (
        ("hold_captured", 0, MINOR, "done", "hold_already_posted") if wins
        else ("hold_expired", 0, 0, "hold_expired", "hold_expired")
    )  # fmt: skip
    raced.races += 1
    raced.captured, raced.expired = raced.captured + wins, raced.expired + (not wins)
    if found != due:
        raced.wrong.append(f"{intent}: {drawn} around {deadline} came to {found}, not to {due}")


async def races_on_twin(seed: int, races: int, *, undrafted_max: int) -> tuple[Raced, StoreTwin]:
    """Return what became of races on the store's twin, and the twin, for a look at the money."""
    clock = [START]
    store = StoreTwin(lambda: clock[0], CONFIGURATION, partitions=1)
    refs = {ref.account_id: store.open_account(ref) for ref in ACCOUNTS}
    store.book(refs["liquidity-ngn"], refs["customer"], FUNDS)
    racer = Racer(store, lambda at: clock.__setitem__(0, at), undrafted_max)
    await racer.begin("racer")
    raced, began = Raced(), time.perf_counter()
    await race(racer, seed, races, raced)
    raced.seconds = time.perf_counter() - began
    return raced, store


def judged(raced: Raced, store: StoreTwin) -> list[str]:
    """Return what is wrong with races that were run on a twin: who won, the money, the counters, the projection."""
    wrong = raced.wrong[:]
    totals = {ref.account_id: store.balance(ref.id) for ref in store.refs.values()}
    customer, merchant = totals["customer"], totals["merchant"]
    moved = raced.captured * MINOR
    if (customer.debits_pending, customer.debits_posted, merchant.credits_posted) != (0, moved, moved):
        wrong.append(f"the money: {customer} and {merchant} where {moved} was captured")
    counted = Counter[str]()
    for usage in store.rows.velocity.values():
        counted.update(count=usage.count, minor=usage.minor)
    if (counted["count"], counted["minor"]) != (raced.captured, moved):
        wrong.append(f"the counters: {dict(counted)} where {raced.captured} were captured")
    statuses = Counter(row.status for row in store.rows.holds.values())
    if statuses != Counter({"captured": raced.captured, "expired": raced.expired}):
        wrong.append(f"the projection: {statuses}")
    return wrong


def main(arguments: Sequence[str]) -> int:
    """Run races on the twin and print what became of them."""
    parser = argparse.ArgumentParser(description="Race captures of holds against their expiry.")
    parser.add_argument("--races", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    raced, store = asyncio.run(races_on_twin(asked.seed, asked.races, undrafted_max=16))
    wrong = judged(raced, store)
    print(f"{raced.races} races in {raced.seconds:.1f} s: {raced.captured} captures won, {raced.expired} expiries")  # noqa: T201
    print("\n".join(wrong[:10]) or "exactly one won each time; money, counters and codes are right")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
