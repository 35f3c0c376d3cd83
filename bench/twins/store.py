"""The twin of the store: the `Store` port over dictionaries, without a server, a task or a clock of its own.

It keeps what matters of the real thing: one commit at a time, all or nothing; fences by epoch and version; locked
counters; balances in stripes; rows that are refused when they come twice or are none; members alive by the clock it was
given. `fail_next` takes it away, or lets it refuse, once per call."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct

from zentra.bench.twins.store_commit import OpenCommit, lease_lock
from zentra.bench.twins.store_deliveries import delivery_of, page_of, running_by
from zentra.bench.twins.store_gauges import gauges
from zentra.bench.twins.store_health import HealthTwin
from zentra.bench.twins.store_intake import Intake, frames_of
from zentra.bench.twins.store_names import meant
from zentra.bench.twins.store_reviews import workloads
from zentra.bench.twins.store_rows import (
    OutboxRow,
    Rows,
    add,
    balance_of,
    behind,
    check,
    expiring,
    open_keys,
    open_strangers,
    owned,
    refuse_non_uuids,
    waiting,
    without,
)
from zentra.bench.twins.store_timers import due, started
from zentra.runtime.errors import DataError, InDoubt
from zentra.runtime.ledger.book import AccountRef, Balance, Posting, posting_hash
from zentra.runtime.ports import (
    Claim,
    Configuration,
    Expiring,
    Fence,
    Ground,
    LaneRow,
    Lease,
    LogHead,
    StoredIntent,
    TickPlan,
    TickWrites,
    Timer,
    WaitingCallback,
)
from zentra.runtime.rails.port import RailOutcome
from zentra.runtime.reviews import Workload
from zentra.runtime.stream_ports import NOTHING_CONSUMED, Outgoing, Position
from zentra.runtime.webhooks.delivery import OPEN, Delivery
from zentra.runtime.webhooks.recovery import Recovery, RecoveryPage
from zentra.storage.engine.ownership import shares
from zentra.storage.intake.registration import Outcome, Registered, Registration

__all__ = ["Failure", "StoreTwin"]

OPEN_DELIVERIES_MAX: Final = 2_000
MEMBERS_FORGOTTEN_AFTER: Final = 10  # lease times


class LeaseRow(Struct):
    """A lease as stored."""

    partition: int
    epoch: int = 0
    owner: str | None = None
    version: int = 0
    position: Position = NOTHING_CONSUMED


class Failure(Struct, frozen=True):
    """What the next call of `method` meets; `after` lets it take effect first, which only a commit in doubt can."""

    method: str
    error: Exception
    after: bool = False


class StoreTwin(HealthTwin):
    """An imaginary database. Every worker of a fleet holds the same one."""

    def __init__(self, clock: Callable[[], datetime], configuration: Configuration, partitions: int = 64) -> None:
        super().__init__(clock)
        self.current = configuration
        self.intake = Intake()
        self.partitions = partitions
        self.rows = Rows()
        self.refs: dict[tuple[str, str], AccountRef] = {}
        self.numbers: dict[tuple[str, str, str], str] = {}  # account ids by tenant, scheme and number
        self.lease_rows = {number: LeaseRow(number) for number in range(partitions)}
        self.commits = 0
        self.locks: dict[Hashable, OpenCommit] = {}  # by what is locked: whoever holds it
        self._known: set[str] = set()  # workers that have claimed since they were started
        self._failures: deque[Failure] = deque()

    def now(self) -> datetime:
        """Return the time of the store."""
        return self._clock()

    # What tests set up and look at --------------------------------------------------------------------------------

    def fail_next(self, error: Exception, *, method: str = "commit", after: bool = False) -> None:
        """Let the next call of a method raise `error`: before it does anything, or after it has done all."""
        self._failures.append(Failure(method, error, after))

    def open_account(self, ref: AccountRef) -> AccountRef:
        """Open an account, empty."""
        self.refs[ref.tenant, ref.account_id] = ref
        if ref.guarded:
            self.rows.balances[ref.id, 0] = Balance()
        return ref

    def book(self, debit: AccountRef, credit: AccountRef, minor: int) -> None:
        """Move money between two accounts outside of any tick: what tests begin with."""
        intent = f"{len(self.rows.postings):032x}"
        link = posting_hash(debit.tenant, intent, 0, "book", debit, credit, 0, minor)
        posting = Posting(intent, 0, debit.tenant, "book", debit, credit, 0, minor, self._clock(), link)
        self.rows.postings[intent, 0] = posting
        for ref, change in ((debit, Balance(debits_posted=minor)), (credit, Balance(credits_posted=minor))):
            add(self.rows.balances.setdefault((ref.id, 0 if ref.guarded else 1), Balance()), change)

    def change_account(self, ref: AccountRef) -> AccountRef:
        """Change what may change of an account: in force from the next commit on."""
        self.refs[ref.tenant, ref.account_id] = ref
        self.configure(self.current)
        return ref

    def configure(self, configuration: Configuration) -> None:
        """Change what is set up; the version grows by itself."""
        self.current = msgspec.structs.replace(configuration, version=self.current.version + 1)

    def register(self, item: Registration, *, feed: bool = True) -> tuple[Outcome, list[Outgoing]]:
        """Register an intent as the intake does; return what its key got, and the messages to publish; without `feed`
        nobody is told of its first record."""
        outcome = self.intake.settle(item)
        if not isinstance(outcome, Registered):
            return outcome, []
        transition, timer = item.transition, item.timer
        if transition.intent in self.rows.transitions:
            raise DataError("duplicate key: transitions")
        self.rows.transitions[transition.intent] = [transition]
        self.rows.timers[timer.kind, timer.key, timer.name] = timer
        return outcome, [self.put(timer.partition, *frame) for frame in frames_of(item, feed=feed)]

    def put(self, partition: int, subject: str, body: bytes, key: str, kept: bytes = b"") -> Outgoing:
        """Put a message into the outbox as the gateway does with its facts; return it."""
        self.rows.outbox[key] = OutboxRow(partition, Outgoing(subject, kept or body, key), self._clock())
        return Outgoing(subject, body, key, kept=kept)

    def take_callback(self, outcome: RailOutcome) -> bool:
        """Keep a callback as the gateway does; return whether it is new."""
        assert outcome.event_id is not None
        name, known = (outcome.rail, outcome.event_id), self.rows.callbacks
        if name in known:
            return False
        known[name] = WaitingCallback(outcome, self._clock())
        return True

    def balance(self, account: int) -> Balance:
        """Return the counters of an account over all stripes."""
        return balance_of(self.rows, account)

    # Ownership ----------------------------------------------------------------------------------------------------

    def forget_worker(self, worker: str) -> None:
        """The process of a worker ends: the next one of its name takes its leases over as new ones."""
        self._known.discard(worker)

    async def claim(self, worker: str, lease_seconds: float) -> Claim:
        """See Store.claim. A lease in a commit is taken the next time."""
        self._meet("claim")
        now, lasts = self._clock(), timedelta(seconds=lease_seconds)
        first = worker not in self._known
        self._known.add(worker)
        self.members[worker] = now
        self.members = {w: at for w, at in self.members.items() if now - at <= lasts * MEMBERS_FORGOTTEN_AFTER}
        live = [w for w, at in self.members.items() if now - at < lasts]
        mine = {p for p, owner in shares(self.lease_rows, live).items() if owner == worker}
        for partition in mine:
            row = self.lease_rows[partition]
            free = row.owner not in live or (row.owner == worker and first)
            if free and lease_lock(partition) not in self.locks:
                row.epoch, row.owner = row.epoch + 1, worker
        owned = {p: _lease(row) for p, row in self.lease_rows.items() if row.owner == worker}
        return Claim(owned, frozenset(owned.keys() - mine), len(mine - owned.keys()))

    async def give_up(self, worker: str, partitions: Collection[int]) -> None:
        """See Store.give_up."""
        self._meet("give_up")
        await self._unlocked(partitions)
        for partition in partitions:
            if self.lease_rows[partition].owner == worker:
                self.lease_rows[partition].owner = None

    async def release(self, worker: str) -> None:
        """See Store.release."""
        self._meet("release")
        await self._unlocked([p for p, row in self.lease_rows.items() if row.owner == worker])
        self.members.pop(worker, None)
        self._known.discard(worker)
        for row in self.lease_rows.values():
            if row.owner == worker:
                row.owner = None

    async def leases(self, partitions: Collection[int]) -> dict[int, Lease]:
        """See Store.leases."""
        self._meet("leases")
        await self._unlocked(partitions)
        return {p: _lease(self.lease_rows[p]) for p in partitions if p in self.lease_rows}

    async def _unlocked(self, partitions: Collection[int]) -> None:
        """Return when no commit holds these leases."""
        while any(lease_lock(partition) in self.locks for partition in partitions):
            await self.pause("locks")

    # Reading ------------------------------------------------------------------------------------------------------

    async def configuration(self) -> Configuration:
        """See Store.configuration."""
        self._meet("configuration")
        return self.current

    async def accounts(self, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], AccountRef]:
        """See Store.accounts."""
        self._meet("accounts")
        return meant(self.refs, self.numbers, names)

    async def intent_ids(self, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """See Store.intent_ids."""
        self._meet("intent_ids")
        named = self.intake.intents
        return {name: named[name].intent for name in names if name in named}

    async def intents(self, ids: Collection[str]) -> dict[str, StoredIntent]:
        """See Store.intents."""
        self._meet("intents")
        refuse_non_uuids(*ids)
        made, known = self.rows.deliveries_made, self.rows.transitions
        return {
            key: StoredIntent(tuple((t.record, t.hash) for t in known[key]), frozenset(made.get(key, ())))
            for key in ids
            if key in known
        }

    async def deliveries(self, ids: Collection[str]) -> dict[str, Delivery]:
        """See Store.deliveries."""
        self._meet("deliveries")
        refuse_non_uuids(*ids)
        return {key: delivery_of(self.rows, key) for key in ids if key in self.rows.deliveries}

    async def open_deliveries(self, tenant: str, endpoint: str, *, timed: bool = False) -> list[Delivery]:
        """See Store.open_deliveries."""
        self._meet("open_deliveries")
        keys = open_keys(self.rows, tenant, endpoint, timed)[:OPEN_DELIVERIES_MAX]
        return [delivery_of(self.rows, key) for key in keys]

    async def recoveries(self, ids: Collection[str]) -> dict[str, Recovery]:
        """See Store.recoveries."""
        self._meet("recoveries")
        return {key: self.rows.recoveries[key] for key in ids if key in self.rows.recoveries}

    async def running_recoveries(self, tenants: Collection[str]) -> dict[str, dict[str, str]]:
        """See Store.running_recoveries."""
        self._meet("running_recoveries")
        return running_by(self.rows, tenants)

    async def recovery_page(self, recovery: Recovery) -> RecoveryPage:
        """See Store.recovery_page."""
        self._meet("recovery_page")
        return page_of(self.rows, recovery, self.current.endpoints.get(recovery.tenant, ()))

    async def lane(self, tenant: str, endpoint: str) -> LaneRow:
        """See Store.lane."""
        self._meet("lane")
        return self.rows.lanes.get((tenant, endpoint), LaneRow())

    async def open_lanes(self) -> set[tuple[str, str]]:
        """See Store.open_lanes."""
        self._meet("open_lanes")
        states = self.rows.delivery_states.items()
        made = [self.rows.deliveries[key] for key, row in states if row.state in OPEN]
        return {(delivery.tenant, delivery.endpoint) for delivery in made}

    async def logs(self, tenants: Collection[str]) -> dict[str, LogHead]:
        """See Store.logs."""
        self._meet("logs")
        latest: dict[str, LogHead] = {}
        for (tenant, size), head in self.rows.heads.items():
            if tenant in tenants and (tenant not in latest or latest[tenant].size < size):
                latest[tenant] = head
        return latest

    async def leaves(self, names: Collection[tuple[str, bytes]]) -> set[tuple[str, bytes]]:
        """See Store.leaves."""
        self._meet("leaves")
        return self.rows.leaf_names.intersection(names)

    async def workloads(self, tenants: Collection[str]) -> dict[str, Workload]:
        """See Store.workloads."""
        self._meet("workloads")
        return workloads(self.rows, tenants, self._clock())

    async def answered(self, commands: Collection[str]) -> set[str]:
        """See Store.answered."""
        self._meet("answered")
        return self.rows.command_outcomes.keys() & set(commands)

    async def expiring_holds(self, accounts: Collection[int]) -> dict[int, Expiring]:
        """See Store.expiring_holds."""
        self._meet("expiring_holds")
        return expiring(self.rows, accounts, self._clock())

    async def waiting_callbacks(
        self, names: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[WaitingCallback, ...]]:
        """See Store.waiting_callbacks."""
        self._meet("waiting_callbacks")
        return waiting(self.rows, names)

    async def open_strangers(self, rails: Collection[str]) -> dict[str, frozenset[str]]:
        """See Store.open_strangers."""
        self._meet("open_strangers")
        return open_strangers(self.rows, rails)

    async def due_timers(
        self, partitions: Collection[int], until_seconds: float, limit: int
    ) -> list[tuple[Timer, float]]:
        """See Store.due_timers."""
        self._meet("due_timers")
        return due(self.rows, partitions, until_seconds, limit, self._clock())

    async def started_attempts(
        self, partitions: Collection[int], until_seconds: float, limit: int
    ) -> list[tuple[Timer, float]]:
        """See Store.started_attempts."""
        self._meet("started_attempts")
        return started(self.rows, partitions, until_seconds, limit, self._clock())

    async def unsent(
        self, partitions: Collection[int], older_seconds: float, limit: int, *, commands: bool | None = None
    ) -> list[Outgoing]:
        """See Store.unsent."""
        self._meet("unsent")
        before = self._clock() - timedelta(seconds=older_seconds)
        rows = [r for r in self._outbox(partitions) if r.sent_at is None and r.created_at <= before]
        return [row.message for row in rows if commands in (None, _is_command(row))][:limit]

    async def unsend(self, from_seconds: float, to_seconds: float, kept: Collection[int]) -> int:
        """See Store.unsend."""
        self._meet("unsend")
        now, count = self._clock(), 0
        for row in self.rows.outbox.values():
            if row.sent_at is None or (age := (now - row.sent_at).total_seconds()) < to_seconds:
                continue
            if row.partition not in kept if _is_command(row) else age <= from_seconds:
                row.sent_at = None
                count += 1
        return count

    async def outstanding(self, partitions: Collection[int]) -> list[str]:
        """See Store.outstanding."""
        self._meet("outstanding")
        return [row.message.id for row in self._outbox(partitions) if _is_command(row)]

    async def frames(self, rows: Sequence[str]) -> list[Outgoing]:
        """See Store.frames."""
        self._meet("frames")
        return [self.rows.outbox[key].message for key in rows if key in self.rows.outbox]

    async def unconsumed(self, partitions: Collection[int], sent_seconds: float, limit: int) -> list[Outgoing]:
        """See Store.unconsumed."""
        self._meet("unconsumed")
        before = self._clock() - timedelta(seconds=sent_seconds)
        commands = [row for row in self._outbox(partitions) if _is_command(row)]
        lost = [row for row in commands if row.sent_at is not None and row.sent_at < before][:limit]
        for row in lost:
            row.sent_at = self._clock()
        return [row.message for row in lost]

    async def mark_sent(self, ids: Sequence[str]) -> None:
        """See Store.mark_sent."""
        self._meet("mark_sent")
        for key in ids:
            row = self.rows.outbox.get(key)
            if row is not None and row.sent_at is None:
                row.sent_at = self._clock()

    async def trim_outbox(self, partitions: Collection[int], sent_before: datetime) -> int:
        """See Store.trim_outbox."""
        self._meet("trim_outbox")
        kept = [row for row in self._outbox(partitions) if not _is_command(row)]
        gone = [row.message.id for row in kept if row.sent_at is not None and row.sent_at < sent_before]
        for key in gone:
            del self.rows.outbox[key]
        return len(gone)

    async def statistics(self) -> Mapping[str, float]:
        """See Store.statistics."""
        self._meet("statistics")
        return gauges(self.rows, self.refs.values(), self._clock())

    # Committing ---------------------------------------------------------------------------------------------------

    async def commit(
        self,
        plan: TickPlan,
        decide: Callable[[Ground], TickWrites],
        draft: Callable[[Ground], Awaitable[TickWrites]] | None = None,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> Ground:
        """See Store.commit."""
        failure = self._meet("commit")
        opened = OpenCommit(self, plan)
        self.begun(opened)
        try:
            while not opened.fence():
                await self.pause("locks", opened)
            assert opened.ground is not None
            ground = opened.ground
            drafted = staged = None
            if draft is not None:
                drafted = await draft(ground)
                staged = owned(drafted)
                check(self.rows, plan, staged)
            if turn is not None:
                await turn()
            while not opened.lock():
                await self.pause("locks", opened)
            await self.pause("fenced", opened)
            writes = decide(ground)
            if staged is not None:
                writes = behind(staged, writes, same=writes is drafted)
            check(self.rows, plan, writes)
            if failure is not None and not isinstance(failure.error, InDoubt):
                raise failure.error
            await self.pause("written", opened, writes)
            opened.commit(writes)
        finally:
            opened.end()
        await self.pause("committed", opened)
        if failure is not None:
            raise failure.error
        return ground

    async def pause(self, place: str, opened: OpenCommit | None = None, writes: TickWrites | None = None) -> None:
        """Let the one who drives stop or fail whoever is here: a commit that waits for `locks`, has `fenced` (it holds
        its locks and has read), has `written` or has `committed`. Here nothing happens, and waiting is a bug."""
        if place == "locks":
            raise RuntimeError("a twin has waited")

    def begun(self, opened: OpenCommit) -> None:
        """Tell whoever listens of a transaction that has begun."""

    def holds(self, fence: Fence) -> bool:
        """Return whether a lease row stands where a fence expects it."""
        row = self.lease_rows.get(fence.partition)
        return row is not None and (row.epoch, row.version) == (fence.epoch, fence.version)

    def moved(self, fences: Collection[Fence], writes: TickWrites) -> None:
        """Follow a commit in the leases that it fenced, and in the configuration."""
        for fence in fences:
            row = self.lease_rows[fence.partition]
            row.version, row.position = row.version + 1, fence.position
        if writes.endpoints_disabled:
            self.configure(without(self.current, writes.endpoints_disabled))
        self.commits += 1

    def committed(self, plan: TickPlan, writes: TickWrites, ground: Ground) -> None:
        """Tell whoever listens of a commit that has happened, whether or not its worker ever hears of it."""

    def _meet(self, method: str) -> Failure | None:
        """Raise what this call was to meet before it does anything; return what it meets afterwards."""
        failure = next((f for f in self._failures if f.method == method), None)
        if failure is None:
            return None
        self._failures.remove(failure)
        if not failure.after:
            raise failure.error
        return failure

    def _outbox(self, partitions: Collection[int]) -> list[OutboxRow]:
        return [row for row in self.rows.outbox.values() if row.partition in partitions]


def _lease(row: LeaseRow) -> Lease:
    return Lease(row.partition, row.epoch, row.version, row.position)


def _is_command(row: OutboxRow) -> bool:
    return row.message.subject.startswith("zc.")
