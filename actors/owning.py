"""What a worker owns: it renews, takes and gives up partitions, and knows at any moment whether it still holds one.

Invariants. Nothing is done for a partition whose lease may have passed on. A partition that another worker should own
takes up nothing new; it is given up when nothing of it is under way, or when its time is over, and dropped before that.
Losing one drops it at once. A worker looks every second, and at once again while partitions change hands: one that
joins has its share within a second or so. Renewing goes on beside it, because following what was gained may take longer
than the lease."""

import logging
import math
from collections.abc import Callable, Collection

import anyio

from zentra.actors.settings import WorkerSettings
from zentra.runtime.errors import Unavailable
from zentra.runtime.instruments import Instruments
from zentra.runtime.ports import Claim, Lease, Store
from zentra.runtime.stream_ports import StreamError

__all__ = ["FOLLOW_SECONDS_MAX", "HAND_OVER_SECONDS_MAX", "UNSETTLED_SECONDS", "Owner"]

logger = logging.getLogger(__name__)

FOLLOW_SECONDS_MAX = 1.0  # between two looks, each a small write: how long a new worker waits until it is seen
UNSETTLED_SECONDS = 0.05  # between two looks while partitions change hands: nobody serves one between two owners
# How long a partition that is to change hands may wait for its commit and its rails: nobody serves it meanwhile, and
# what was not asked by then is asked for by the next owner after the rail's own time.
HAND_OVER_SECONDS_MAX = 1.0


class Owner:
    """The partitions of one worker. What a worker does with them stands in `_take_up`, `_drop`, `_under_way` and
    `_look_after`."""

    def __init__(
        self, settings: WorkerSettings, store: Store, instruments: Instruments, clock: Callable[[], float]
    ) -> None:
        self.settings, self.store, self.instruments = settings, store, instruments
        self.leases: dict[int, Lease] = {}
        self._clock = clock  # of the lease, and of nothing else
        self._following = anyio.Lock()  # whoever starts the source: two at once would leave two consumers behind
        self._claiming = anyio.Lock()
        self._lost = 0  # partitions that were lost and whose messages are listened to yet
        self._leaving: dict[int, float] = {}  # what others should own, and until when it is waited for, by `clock`
        self._awaited = 0  # partitions that others have yet to give up to this worker
        self._alive_until = -math.inf  # by `clock`: nobody takes its partitions before
        self._renewed = anyio.Event()

    async def keep_leases(self) -> None:
        """Renew, take and give up partitions until cancelled; one that is lost is dropped at once.

        Raises what ended it, and not a group."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._keep_following)
                group.start_soon(self._keep_renewed)
        except ExceptionGroup as errors:
            _, bugs = errors.split((Unavailable, StreamError))
            raise (bugs or errors).exceptions[0] from errors

    async def _keep_renewed(self) -> None:
        """Renew where following takes long: a repair that publishes much may outlast the lease."""
        lease_seconds = self.settings.lease_seconds
        while True:
            await anyio.sleep(lease_seconds / 6)
            if self._alive_until - self._clock() < lease_seconds / 2:
                await self.renew_leases()

    async def _keep_following(self) -> None:
        looked_at, every = anyio.current_time(), self.settings.lease_seconds / 3
        while True:
            await anyio.sleep(UNSETTLED_SECONDS if self.unsettled else min(every, FOLLOW_SECONDS_MAX))
            await self.refresh_leases()
            if anyio.current_time() - looked_at >= every:
                looked_at = anyio.current_time()
                await self._look_after()

    @property
    def unsettled(self) -> bool:
        """Return whether partitions are about to change hands between this worker and others."""
        return bool(self._leaving) or self._awaited > 0

    async def refresh_leases(self) -> None:
        """Look once at what this worker owns and follow it. Raises Unavailable and StreamError."""
        async with self._following:
            await self._follow_leases()

    async def renew_leases(self) -> Claim:
        """Renew and drop what is lost, whatever else is under way; return what is owned. What came along waits until it
        can be followed. Raises Unavailable."""
        async with self._claiming:  # else an older answer might be believed after a newer one
            asked_at = self._clock()
            claim = await self.store.claim(self.settings.name, self.settings.lease_seconds)
            owned, self._awaited = claim.owned, claim.awaited
            lost = frozenset(p for p, lease in self.leases.items() if p not in owned or owned[p].epoch != lease.epoch)
            if lost:
                self._drop(lost)
                self._lost += len(lost)
            self._alive_until = asked_at + self.settings.lease_seconds
            self._renewed.set()
            self._renewed = anyio.Event()
            return claim

    async def _follow_leases(self) -> None:
        claim = await self.renew_leases()
        await self._leave(claim.leaving)
        gained = {p: lease for p, lease in claim.owned.items() if p not in self.leases and p not in claim.leaving}
        lost, self._lost = self._lost, 0
        if not gained and not lost:
            return
        self.leases.update(gained)
        try:
            await self._take_up(gained)
        except BaseException:  # a partition that is owned but not listened to would stand still: gain it again
            self._drop(frozenset(gained))
            raise
        logger.info("partitions changed", extra={"gained": len(gained), "lost": lost, "owned": len(self.leases)})
        self.instruments.gauge("leases_owned", len(self.leases))

    async def _leave(self, leaving: Collection[int]) -> None:
        """Give up what another worker should own, each partition once nothing of it is under way or its time is over.

        Dropped first: nothing of it begins while it is being given up."""
        now = self._clock()
        self._leaving = {p: self._leaving.get(p, now + HAND_OVER_SECONDS_MAX) for p in leaving}
        done = {p for p, until in self._leaving.items() if until <= now or not self._under_way(p)}
        if done:
            dropped = frozenset(done & self.leases.keys())
            self._drop(dropped)
            self._lost += len(dropped)
            await self.store.give_up(self.settings.name, done)

    async def _holds(self, partition: int, epoch: int | None) -> bool:
        """Return whether a partition is held in this epoch. A worker that was stopped for longer than its lease lasts
        does not know, and asks before it acts."""
        while self._clock() >= self._alive_until:
            await self._renewed.wait()
        lease = self.leases.get(partition)
        return lease is not None and lease.epoch == epoch

    # What a worker does with its partitions -----------------------------------------------------------------------

    async def _take_up(self, gained: dict[int, Lease]) -> None:
        """Begin to work on what was gained, if anything, and listen to no more than what is owned now."""
        raise NotImplementedError

    def _drop(self, partitions: frozenset[int]) -> None:
        """Forget about partitions that others own, or may own soon."""
        raise NotImplementedError

    def _under_way(self, partition: int) -> bool:
        """Return whether a commit of a partition, or something that was committed, has still to be finished."""
        raise NotImplementedError

    async def _look_after(self) -> None:
        """Do what has to be done now and then for all that is owned."""
        raise NotImplementedError
