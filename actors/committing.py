"""Committing: one batch to its commit, whole or in parts, whatever the store says to it.

Invariants. A batch ends committed, or without inputs because its partitions were lost; anything else raises. Each
tick is committed and sent once. An event that the store refuses, or that can never be decided, is set aside by itself:
its neighbours are committed without it. A commit of unknown outcome is settled by the lease rows before it is sent."""

import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from zentra.actors.engine import Engine
from zentra.actors.loading import load
from zentra.actors.memory import Missing, MissingGround, Needs
from zentra.actors.tick import Batch, Input, Tick
from zentra.runtime.errors import Contended, DataError, InDoubt, LeaseLost, Unavailable
from zentra.runtime.ports import Ground, Lease, Store, TickPlan, TickWrites

__all__ = ["Committer"]

logger = logging.getLogger(__name__)

ROUNDS_MAX: Final = 64  # a tick that still misses something after so many rounds would miss it for ever
CONTENDED_TRIES: Final = 20
AWAY_SECONDS: Final = 0.2
DECIDED_SECONDS: Final = 0.001  # between looks at whether the batch before is decided
UNDRAFTED_MAX: Final = 16  # events; to decide on them takes so little time that rows may be locked for it


class Committer:
    """Commits batches of one worker. `leases` is the worker's own table; `drop` gives partitions up, `committed`
    follows a commit in memory, `send` publishes and performs what a part of a batch has made true. A batch of up to
    `undrafted_max` events is decided under its locks alone where no other is on its way that locks any."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        leases: dict[int, Lease],
        *,
        drop: Callable[[frozenset[int]], None],
        committed: Callable[[TickPlan, Tick], None],
        send: Callable[[Tick], Awaitable[None]],
        pause: Callable[[float], Awaitable[None]] = anyio.sleep,
        breathe: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint,
        undrafted_max: int = UNDRAFTED_MAX,
    ) -> None:
        self._engine, self._store, self._leases = engine, store, leases
        self._drop, self._committed, self._send, self._pause = drop, committed, send, pause
        self._breathe, self._undrafted_max = breathe, undrafted_max
        self._drafting = False
        self._believing: list[int] = []  # batches that stand on beliefs and have not locked their rows yet, in turn
        self._undecided: set[int] = set()  # batches under way of which nobody knows yet what they leave behind
        self._locking = 0  # commits under way that lock counters or balances

    async def run(self, batch: Batch, stripe: int) -> Tick | None:
        """Commit a batch, whole or in parts; return the last tick, not sent yet, or None where nothing was left.

        Raises Contended where the store never lets it through, DataError where setting an event aside does not help."""
        rounds = contended = 0
        missing = Missing()
        while True:
            if self._leave_lost(batch):
                missing = Missing()  # what it was to load may be for actors of others by now: asked anew
            if not batch.inputs and not batch.positions:
                return None
            try:
                if missing:
                    await load(self._store, self._engine.memory, batch, missing)
                    if self._leave_lost(batch):
                        missing = Missing()
                        continue
                missing, needs = self._engine.look(batch)
                if not missing:
                    return await self._commit(batch, needs, stripe)
            except MissingGround as more:
                missing = more.missing
            except Contended:
                contended += 1
                if contended > CONTENDED_TRIES:
                    raise
                # spreads retries, guards nothing
                await self._pause(random.uniform(0, 0.01) * contended)  # noqa: S311
                continue
            except LeaseLost:
                continue
            except DataError as error:
                return await self._isolate(batch, stripe, error)
            except Unavailable as error:
                logger.warning("the store is away; the tick is tried again", extra={"error": str(error)})
                await self._pause(AWAY_SECONDS)
                continue
            rounds += 1
            if rounds > ROUNDS_MAX:
                return await self._isolate(batch, stripe, DataError("the tick misses the same for ever"))

    async def _commit(self, batch: Batch, needs: Needs, stripe: int) -> Tick:
        """Decide and commit once; remember what was committed.

        A small batch is decided under its locks where no other commit locks any: a draft would cost round trips, and
        keep nobody waiting less."""
        plan = self._engine.plan(batch, needs, self._leases, stripe)
        beliefs = self._engine.memory.beliefs
        locks = bool(plan.velocity or plan.accounts)
        beside = locks and self._locking > 0
        drafting = batch.draftable and (beside or len(batch.inputs) > self._undrafted_max)
        if drafting:
            plan.unknown_velocity, plan.unknown_accounts = beliefs.unknown(plan)
        drafts: list[Tick] = []
        decided: list[Tick] = []

        async def draft(ground: Ground) -> TickWrites:
            tick = await self._draft(batch, plan, ground)
            if tick is not None and tick.believed is not None:
                drafts.append(tick)
                self._believing.append(id(batch))
                return tick.writes
            self._undecided.add(id(batch))
            if tick is None:
                return TickWrites()
            drafts.append(tick)
            tick.writes.drafted = len(tick.writes.transitions)
            return TickWrites(transitions=tick.writes.transitions[:])

        async def turn() -> None:
            while id(batch) in self._believing[1:]:
                await self._pause(DECIDED_SECONDS)

        def decide(ground: Ground) -> TickWrites:
            decided.append(self._engine.decide(batch, plan, ground, drafts[-1] if drafts else None))
            self._settled(batch)
            return decided[-1].writes

        if locks and not drafting:
            self._undecided.add(id(batch))
        self._locking += locks
        try:
            try:
                await self._store.commit(plan, decide, draft if drafting else None, turn)
            except InDoubt:
                await self._settle_doubt(plan, decided[-1].lost if decided else frozenset())
        except BaseException:
            if drafts or decided:
                beliefs.forget(plan)
            raise
        finally:
            self._locking -= locks
            self._settled(batch)
        tick = decided[-1]
        self._committed(plan, tick)
        return tick

    def _settled(self, batch: Batch) -> None:
        """Whoever comes after a batch need not wait for it: its rows are locked, or it has failed."""
        self._undecided.discard(id(batch))
        if id(batch) in self._believing:
            self._believing.remove(id(batch))

    async def _draft(self, batch: Batch, plan: TickPlan, ground: Ground) -> Tick | None:
        """Return what can be decided before the locks, one batch after the other: what is believed to be there is what
        the batches before leave behind. None where nothing can be made of it."""
        beliefs = self._engine.memory.beliefs
        while self._drafting or (self._undecided and not beliefs.doubted):
            await self._pause(DECIDED_SECONDS)
        self._drafting = True
        try:
            tick = Tick(self._engine.memory, self._engine.rules, batch, ground)
            tick.believed = beliefs.on(plan, ground)
            for worth in self._engine.draft(batch, plan, tick):
                if not worth:
                    return None
                await self._breathe()
            return tick
        finally:
            self._drafting = False

    async def _settle_doubt(self, plan: TickPlan, refused: frozenset[int]) -> None:
        """Return where a commit of unknown outcome did happen; raise Unavailable or LeaseLost where it did not.

        A lease that was `refused` says nothing: whoever moved it may have left it where this commit would have."""
        fences = {fence.partition: fence for fence in plan.fences if fence.partition not in refused}
        while True:
            try:
                leases = await self._store.leases(fences)
                break
            except Unavailable:
                await self._pause(AWAY_SECONDS)
        if any(leases[p].epoch == f.epoch and leases[p].version == f.version + 1 for p, f in fences.items()):
            return
        lost = frozenset(p for p, f in fences.items() if leases[p].epoch != f.epoch)
        if lost:
            self._drop(lost)
            raise LeaseLost("another worker took over while a commit was in doubt")
        raise Unavailable("the commit did not happen")

    def _leave_lost(self, batch: Batch) -> bool:
        """Take inputs of partitions out of a batch that were lost since it was made, even where they came back: then
        they are read again from the checkpoint. What was loaded for them since is forgotten: others write it by now.
        Return whether there were any."""
        leases, epochs = self._leases, batch.epochs
        named = {entry.partition for entry in batch.inputs} | batch.positions.keys()
        lost = {p for p in named if p not in leases or leases[p].epoch != epochs.get(p, leases[p].epoch)}
        if lost:
            batch.inputs = [entry for entry in batch.inputs if entry.partition not in lost]
            batch.positions = {p: position for p, position in batch.positions.items() if p not in lost}
            batch.consumed = [frame for frame in batch.consumed if frame[0] not in lost]
            batch.poisoned.clear()
            self._engine.memory.drop_partitions(frozenset(lost))
        return bool(lost)

    async def _isolate(self, batch: Batch, stripe: int, error: DataError) -> Tick | None:
        """Find the event whose data the store refuses: try the partitions one by one, then the events."""
        self._engine.memory.distrust()
        if batch.trust_openings:
            batch.trust_openings = False
            batch.opened.clear()
            return await self.run(batch, stripe)
        partitions = sorted({entry.partition for entry in batch.inputs})
        if len(partitions) > 1:
            parts = [
                self._part(batch, [entry for entry in batch.inputs if entry.partition == p], {p}) for p in partitions
            ]
        elif len(batch.inputs) > 1:
            parts = [self._part(batch, [entry], set()) for entry in batch.inputs]
            parts[-1].positions, parts[-1].consumed = batch.positions, batch.consumed
        elif batch.inputs and not batch.poisoned:
            batch.poisoned[0] = f"the store refuses its data: {error}"
            return await self.run(batch, stripe)
        else:
            raise error
        for part in parts[:-1]:
            tick = await self.run(part, stripe)
            if tick is not None:
                await self._send(tick)
        return await self.run(parts[-1], stripe)

    @staticmethod
    def _part(batch: Batch, inputs: list[Input], partitions: set[int]) -> Batch:
        positions = {p: position for p, position in batch.positions.items() if p in partitions}
        consumed = [frame for frame in batch.consumed if frame[0] in partitions]
        return Batch(inputs, positions, trust_openings=False, epochs=batch.epochs, consumed=consumed)
