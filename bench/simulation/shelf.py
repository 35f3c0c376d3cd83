"""The store of the simulation: the twin, with the faults of a real server and a commit that can be stopped anywhere.

A stopped commit keeps its locks, so the partitions it has fenced are not taken over, until it ends by itself or the
server ends it: `TRANSACTION_SECONDS_MAX` is half a lease, as on the real server. Whoever waits longer than
`LOCK_SECONDS_MAX` for a lock is told so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from msgspec import Struct

from zentra.bench.simulation.faults import Fault
from zentra.bench.simulation.setting import PARTITIONS, configuration
from zentra.bench.simulation.stops import Killed, Stop
from zentra.bench.twins.store import Failure, StoreTwin
from zentra.bench.twins.store_commit import OpenCommit
from zentra.runtime.errors import Contended, InDoubt, Unavailable
from zentra.runtime.ports import Ground, TickPlan, TickWrites

if TYPE_CHECKING:
    from zentra.bench.simulation.simulation import Simulation

__all__ = ["LEASE_SECONDS", "Shelf"]

LEASE_SECONDS: Final = 10.0
TRANSACTION_SECONDS_MAX: Final = LEASE_SECONDS / 2
LOCK_SECONDS_MAX: Final = 4.0
INTERLEAVED: Final = 0.15  # how often a commit lets others run although nothing is wrong
READ_SECONDS_MAX: Final = 2 * LEASE_SECONDS
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Late(Struct):
    """A commit whose worker is not there any more; the server has still to end it, one way or the other."""

    opened: OpenCommit
    writes: TickWrites
    since: float


def _slow(read: Callable[Concatenate[Any, _P], Awaitable[_T]]) -> Callable[..., Coroutine[Any, Any, _T]]:
    """Let the answer to a read be on its way for a while: what it says may be old when it arrives."""

    @wraps(read)
    async def slow(shelf: Shelf, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        found = await read(shelf, *args, **kwargs)
        await shelf.linger()
        return found

    return slow


class Shelf(StoreTwin):
    """A store that fails. Who is calling is `simulation.acting`; calls of nobody never fail."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(simulation.store_time, configuration(), PARTITIONS)
        self._simulation = simulation
        self._open: dict[OpenCommit, float] = {}
        self._late: list[Late] = []
        self.away_until = 0.0

    configuration = _slow(StoreTwin.configuration)
    accounts = _slow(StoreTwin.accounts)
    intents = _slow(StoreTwin.intents)
    intent_ids = _slow(StoreTwin.intent_ids)
    deliveries = _slow(StoreTwin.deliveries)
    started_attempts = _slow(StoreTwin.started_attempts)
    open_deliveries = _slow(StoreTwin.open_deliveries)
    recoveries = _slow(StoreTwin.recoveries)
    running_recoveries = _slow(StoreTwin.running_recoveries)
    recovery_page = _slow(StoreTwin.recovery_page)
    lane = _slow(StoreTwin.lane)
    open_lanes = _slow(StoreTwin.open_lanes)
    logs = _slow(StoreTwin.logs)
    leaves = _slow(StoreTwin.leaves)
    answered = _slow(StoreTwin.answered)
    exchange_health = _slow(StoreTwin.exchange_health)
    waiting_callbacks = _slow(StoreTwin.waiting_callbacks)
    open_strangers = _slow(StoreTwin.open_strangers)

    async def linger(self) -> None:
        """Stop whoever has read something, now and then for longer than it owns what it has read for."""
        simulation, swarm = self._simulation, self._simulation.swarm
        if simulation.acting is None or not swarm.strikes(Fault.READ_STOPPED):
            return
        until = simulation.time + simulation.random.choice((0.0, 1.0, READ_SECONDS_MAX)) * simulation.random.random()
        await Stop("read")
        while simulation.time < until and Fault.READ_STOPPED in swarm.rates:
            await Stop("read")

    def begun(self, opened: OpenCommit) -> None:
        """See StoreTwin.begun."""
        self._open[opened] = self._simulation.time

    def committed(self, plan: TickPlan, writes: TickWrites, ground: Ground) -> None:
        """See StoreTwin.committed."""
        self._simulation.committed(plan, writes, ground)

    async def pause(self, place: str, opened: OpenCommit | None = None, writes: TickWrites | None = None) -> None:
        """See StoreTwin.pause. Raises Killed, and whatever a server answers that is slow, gone or restarted."""
        simulation = self._simulation
        swarm, worker = simulation.swarm, simulation.acting
        if opened is not None and opened.ended and place != "committed":
            raise Unavailable("the server has ended the transaction")
        if place == "locks":
            await self._wait_for_locks(opened)
        elif place == "fenced":
            assert opened is not None
            if swarm.strikes(Fault.KILLED_IN_COMMIT):
                raise Killed
            if worker is not None and swarm.strikes(Fault.STOPPED_IN_COMMIT):
                worker.stalled_until = simulation.time + simulation.random.uniform(0.5, 4 * LEASE_SECONDS)
                await self._stand(opened, place)
            elif simulation.random.random() < INTERLEAVED:
                await self._stand(opened, place)
        elif place == "written":
            assert opened is not None
            assert writes is not None
            await self._commit_or_not(opened, writes)
        elif swarm.strikes(Fault.KILLED_AFTER_COMMIT):
            raise Killed
        elif simulation.random.random() < INTERLEAVED:
            await Stop(place)

    def let_time_pass(self) -> None:
        """End what has taken too long."""
        now = self._simulation.time
        for opened, since in list(self._open.items()):
            if opened.ended:
                del self._open[opened]
            elif now - since > TRANSACTION_SECONDS_MAX:
                opened.end()
                del self._open[opened]
        self.finish_late(now - TRANSACTION_SECONDS_MAX)

    def finish_late(self, until: float) -> None:
        """End the commits without a worker that have begun before a time; chance says how."""
        for late in [late for late in self._late if late.since <= until]:
            self._late.remove(late)
            self._end(late)

    def finish_one(self) -> None:
        """End one of the commits without a worker, if there is any."""
        if self._late:
            self._end(self._late.pop(0))

    def _end(self, late: Late) -> None:
        late.opened.outlives = False
        if self._simulation.random.random() < 0.5:
            late.opened.commit(late.writes)
        late.opened.end()

    async def _wait_for_locks(self, opened: OpenCommit | None) -> None:
        since = self._simulation.time
        await self._stand(opened, "locks")
        if self._simulation.time - since > LOCK_SECONDS_MAX:
            raise Contended("a lock was waited for too long")

    async def _stand(self, opened: OpenCommit | None, place: str) -> None:
        await Stop(place)
        if opened is not None and opened.ended:
            raise Unavailable("the server has ended the transaction")

    async def _commit_or_not(self, opened: OpenCommit, writes: TickWrites) -> None:
        swarm = self._simulation.swarm
        if swarm.strikes(Fault.KILLED_BEFORE_COMMIT):
            if self._simulation.random.random() < 0.5:  # the word to commit is on its way
                self._leave(opened, writes)
            raise Killed
        if swarm.strikes(Fault.IN_DOUBT_UNDONE):
            raise InDoubt("the connection died before the commit arrived")
        if swarm.strikes(Fault.IN_DOUBT_DONE):
            opened.commit(writes)
            raise InDoubt("the connection died after the commit")
        if swarm.strikes(Fault.IN_DOUBT_LATE):
            self._leave(opened, writes)
            raise InDoubt("the connection died during the commit")

    def _leave(self, opened: OpenCommit, writes: TickWrites) -> None:
        opened.outlives = True
        self._open.pop(opened, None)
        self._late.append(Late(opened, writes, self._simulation.time))

    def _meet(self, method: str) -> Failure | None:
        simulation = self._simulation
        if simulation.acting is not None:
            if simulation.time < self.away_until:
                raise Unavailable("the store is away")
            if simulation.swarm.strikes(Fault.STORE_CALL_FAILED):
                raise Unavailable("the connection was refused")
            if method == "commit" and simulation.swarm.strikes(Fault.CONTENDED):
                raise Contended("deadlock detected")
        return super()._meet(method)
