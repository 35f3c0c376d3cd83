"""One commit of the store's twin, in steps: lock what the plan names, read the ground, write, or give it all back.

Locks are taken in the order of the real store (leases by partition, counters by key, balances by account and stripe),
kept while a later one is waited for, and given back at the end. A lease that has moved on is not locked but lost, and
that is judged anew after each wait, as the server does."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from datetime import date
from typing import TYPE_CHECKING

from zentra.bench.twins.store_rows import apply
from zentra.runtime.errors import Unavailable
from zentra.runtime.policy import Usage, VelocityKey
from zentra.runtime.ports import Ground, TickPlan, TickWrites

if TYPE_CHECKING:
    from zentra.bench.twins.store import StoreTwin

__all__ = ["OpenCommit", "lease_lock"]


class OpenCommit:
    """A transaction that is under way. `ended` says that it is over: committed, given up, or ended by the server. One
    that `outlives` its client is not given up with it."""

    def __init__(self, store: StoreTwin, plan: TickPlan) -> None:
        self._store, self.plan = store, plan
        self._keys: list[Hashable] = [("velocity", key) for key in plan.velocity]
        self._keys += [("balance", ref.id, 0 if ref.guarded else plan.stripe) for ref in plan.accounts]
        self._fences = list(plan.fences)
        self._held: list[Hashable] = []
        self._kept: set[int] = set()
        self.ended = self.outlives = False
        self.ground: Ground | None = None

    def fence(self) -> bool:
        """Take the next leases; return whether all are taken: then `ground` is there, with what is unknown."""
        while self._fences:
            fence = self._fences[0]
            if self._store.holds(fence):
                if not self._take(lease_lock(fence.partition)):
                    return False
                self._kept.add(fence.partition)
            del self._fences[0]
        lost = frozenset(fence.partition for fence in self.plan.fences) - self._kept
        rows = self._store.rows
        balances = {ref.id: copy.copy(rows.balances[ref.id, 0]) for ref in self.plan.unknown_accounts}
        usage = {_dated(key): copy.copy(rows.velocity.get(key, Usage())) for key in self.plan.unknown_velocity}
        self.ground = Ground(self._store.now(), self._store.current.version, lost, balances, usage)
        return True

    def lock(self) -> bool:
        """Take the next counters and balances; return whether all are taken and stand on the ground.

        Raises what reading raises."""
        while self._keys:
            if not self._take(self._keys[0]):
                return False
            del self._keys[0]
        assert self.ground is not None
        rows, plan = self._store.rows, self.plan
        self.ground.usage.clear()
        self.ground.balances.update((r.id, copy.copy(rows.balances[r.id, 0])) for r in plan.accounts if r.guarded)
        self.ground.usage.update((_dated(key), copy.copy(rows.velocity.get(key, Usage()))) for key in plan.velocity)
        return True

    def commit(self, writes: TickWrites) -> Ground:
        """Write what was checked, and end."""
        if self.ended or self.ground is None:
            raise RuntimeError("there is no transaction to commit in")
        apply(self._store.rows, self.plan, writes, self.ground.now)
        for partition, frame in self.plan.consumed:
            if partition in self._kept:
                self._store.rows.outbox.pop(frame, None)
        self._store.moved([fence for fence in self.plan.fences if fence.partition in self._kept], writes)
        self.end()
        self._store.committed(self.plan, writes, self.ground)
        return self.ground

    def end(self) -> None:
        """Give every lock back; what was not committed is as if it had never been."""
        if self.outlives:
            return
        self.ended = True
        for key in self._held:
            del self._store.locks[key]
        self._held.clear()

    def _take(self, key: Hashable) -> bool:
        if self.ended:
            raise Unavailable("the server has ended the transaction")
        holder = self._store.locks.setdefault(key, self)
        if holder is self:
            self._held.append(key)
        return holder is self


def lease_lock(partition: int) -> Hashable:
    """Return the name of the lock on a lease row."""
    return ("lease", partition)


def _dated(key: VelocityKey) -> VelocityKey:
    """Return the key; raise ValueError where its day is none, as a column of dates does."""
    date.fromisoformat(key.day)
    return key
