"""The health of rails as one worker knows it: what its own calls came to, and what other workers have counted.

Each worker has circuits of its own. It counts its calls where they end, publishes the sums of its window every
EXCHANGE_SECONDS into a small table, and reads the others' there; what opens a circuit are the sums over all. So a rail
that fails everywhere is left by every worker within about that time, one that cannot be reached from one machine is
left at least by that one, and without the table each worker decides by what it has seen itself. Probes are counted by
each worker, and so is what waits for its turn.

Ticks see a frozen picture of it (`standings`), which holds only rails that are not simply well. What a decision saw of
it stands in its record."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import anyio
from msgspec import Struct
from msgspec.structs import replace

from zentra.actors.limits import room_of
from zentra.runtime.errors import Unavailable
from zentra.runtime.instruments import Instruments
from zentra.runtime.ports import RailCounts, Store
from zentra.runtime.rails.health import Circuit, CircuitState, Counts, Shift, Window, is_bad, trips
from zentra.runtime.rails.port import RailOutcome, RailSettings

__all__ = ["LOOK_SECONDS", "HealthExchange", "RailBoard", "Standing"]

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5  # how late an open circuit may be probed
EXCHANGE_SECONDS: Final = 2.0
_NUMBERS: Final = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}


class Standing(Struct, frozen=True):
    """How a rail stands where it is not simply well; `blocked` says why no more than `probes` may go to it now."""

    circuit: CircuitState
    counts: Counts
    probes: int = 0
    blocked: str = ""


class RailBoard:
    """The circuits of one worker. Times are seconds of one monotonic clock.

    `settings` returns the rails as they are configured now. A circuit that is closed is not kept."""

    def __init__(self, settings: Callable[[], Mapping[str, RailSettings]]) -> None:
        self._settings = settings
        self._windows: dict[str, tuple[float, Window]] = {}
        self._circuits: dict[str, Circuit] = {}
        self._proved_at: dict[str, float] = {}
        self._others: dict[str, Counts] = {}
        self._waiting: Counter[str] = Counter()
        self._submitting: Counter[str] = Counter()  # those of them that are submissions
        self.workers = 1  # that are alive, this one among them
        self.standings: Mapping[str, Standing] = {}
        self.room: Callable[[RailSettings], int | None] = room_of  # see `limits.RailGate.room`
        self._trips: Counter[str] = Counter()  # how often the circuit of a rail has opened

    def rooms(self) -> Mapping[str, int]:
        """Return how many more submissions each rail may be given that has a limit to what waits for it."""
        rails = self._settings()
        return {rail: room for rail, settings in rails.items() if (room := self.room(settings)) is not None}

    def trips(self, rail: str) -> int:
        """Return a number that is another one once the circuit of a rail has opened."""
        return self._trips[rail]

    def tripped(self, rail: str, trips: int) -> bool:
        """Return whether the circuit of a rail is open, or has been so since its `trips` were read: what was to be sent
        before is not sent any more."""
        return self._trips[rail] != trips or self.circuit(rail) is CircuitState.OPEN

    def heard(self, outcome: RailOutcome, how: str, seconds: float, now: float) -> None:
        """Count what a call to a rail has come to; `how` it was called is "submit" or "poll".

        A good poll counts for nothing: those follow submissions that hung, and would speak for a rail that hangs."""
        rail = outcome.rail
        settings = self._settings().get(rail)
        if settings is None:
            return
        failed = is_bad(outcome)
        slow = not failed and 0 < settings.slow_seconds < seconds
        if how == "poll" and not (failed or slow):
            return
        self._window(settings).add(now, seconds, failed=failed, slow=slow)
        circuit = self._circuits.get(rail)
        if circuit is None:
            if (failed or slow) and self._judge(settings, now):
                self._show(now)
        elif how == "submit":
            self._move(rail, circuit.hear(failed or slow, settings.probes_max, now), now)
            self._show(now)

    def waits(self, rail: str, how: str, more: int, now: float) -> None:
        """Count calls of a rail that wait for their turn; fewer where `more` is below 0. Polls fill no rail: they leave
        a share of its turns to submissions, and most come when payments are not paid."""
        self._waiting[rail] += more
        if how != "submit":
            return
        self._submitting[rail] += more
        settings = self._settings().get(rail)
        if settings is not None and settings.waiting_max:
            full = self._submitting[rail] >= settings.waiting_max
            if full != (rail in self.standings):
                self._show(now)

    def probed(self, probes: Mapping[str, int]) -> None:
        """Follow a commit that has sent probes out."""
        for rail, count in probes.items():
            circuit = self._circuits.get(rail)
            if circuit is not None and circuit.state is CircuitState.HALF_OPEN:
                self._circuits[rail] = circuit.lend(count)
                known = self.standings.get(rail)
                if known is not None:
                    self.standings = {**self.standings, rail: replace(known, probes=max(0, known.probes - count))}

    def learn(self, workers: int, rows: Sequence[RailCounts]) -> None:
        """Take what other workers have counted."""
        self.workers = max(1, workers)
        self._others = {}
        for row in rows:
            self._others[row.rail] = self._others.get(row.rail, Counts()) + row.counts

    def look(self, now: float) -> None:
        """Let time pass: a circuit that has rested is probed, and what others have counted may open another."""
        rails = self._settings()
        for rail, circuit in list(self._circuits.items()):
            settings = rails.get(rail)
            if settings is None:
                del self._circuits[rail]
            else:
                self._circuits[rail] = circuit.wait(now, settings.open_seconds)
        for rail in self._others:
            if rail not in self._circuits and rail in rails:
                self._judge(rails[rail], now)
        self._show(now)

    def told(self, worker: str, now: float) -> list[RailCounts]:
        """Return what others should know of the rails that this worker has called lately, or does not call."""
        waiting = {rail for rail, count in self._waiting.items() if count}
        rows = []
        for rail in sorted(self._windows.keys() | self._circuits.keys() | waiting):
            counts, state = self._own(rail, now), self.circuit(rail)
            if counts.calls or state is not CircuitState.CLOSED or rail in waiting:
                rows.append(RailCounts(worker, rail, counts, str(state), self._waiting[rail]))
        return rows

    def circuit(self, rail: str) -> CircuitState:
        """Return how the circuit of a rail stands."""
        circuit = self._circuits.get(rail)
        return CircuitState.CLOSED if circuit is None else circuit.state

    def _move(self, rail: str, circuit: Circuit, now: float) -> None:
        if circuit.state is not CircuitState.CLOSED:
            if circuit.state is CircuitState.OPEN and self.circuit(rail) is not CircuitState.OPEN:
                self._trips[rail] += 1
            self._circuits[rail] = circuit
            return
        logger.warning("the circuit of a rail closes", extra={"rail": rail})
        del self._circuits[rail]
        self._windows.pop(rail, None)  # what is in it is of before
        self._proved_at[rail] = now

    def _judge(self, settings: RailSettings, now: float) -> bool:
        """Open the circuit of a rail where its window says so; return whether that is so."""
        counts = self._counts(settings, now)
        if not trips(counts, settings):
            return False
        self._circuits[settings.name] = Circuit().move(Shift.TRIPPED, now)
        self._trips[settings.name] += 1
        told = {"rail": settings.name, "calls": counts.calls, "bad": counts.bad}
        logger.warning("the circuit of a rail opens", extra=told)
        return True

    def _window(self, settings: RailSettings) -> Window:
        known = self._windows.get(settings.name)
        if known is None or known[0] != settings.health_window_seconds:
            known = settings.health_window_seconds, Window(settings.health_window_seconds)
            self._windows[settings.name] = known
        return known[1]

    def _own(self, rail: str, now: float) -> Counts:
        known = self._windows.get(rail)
        return Counts() if known is None else known[1].counts(now)

    def _counts(self, settings: RailSettings, now: float) -> Counts:
        """Return the calls of all workers. Whoever has just proved a rail well goes by its own until a window later:
        what others have counted is of before."""
        proved_at, own = self._proved_at.get(settings.name), self._own(settings.name, now)
        if proved_at is not None and now - proved_at < settings.health_window_seconds:
            return own
        return own + self._others.get(settings.name, Counts())

    def _show(self, now: float) -> None:
        standings: dict[str, Standing] = {}
        for rail, settings in self._settings().items():
            circuit = self._circuits.get(rail)
            if circuit is not None:
                probes = circuit.probes_left(settings.probes_max)
                standings[rail] = Standing(circuit.state, self._counts(settings, now), probes, "circuit_open")
            elif 0 < settings.waiting_max <= self._submitting[rail]:
                counts = self._counts(settings, now)
                standings[rail] = Standing(CircuitState.CLOSED, counts, 0, "no_capacity")
        self.standings = standings


class HealthExchange:
    """Keeps a board up to date: time, the other workers, and the gauges."""

    def __init__(self, board: RailBoard, store: Store, worker: str, lease_seconds: float, tell: Instruments) -> None:
        self._board, self._store, self._instruments = board, store, tell
        self._worker, self._lease_seconds = worker, lease_seconds
        self._exchanged_at = -EXCHANGE_SECONDS
        self._shown: set[str] = set()

    async def run(self) -> None:
        """Look after the board until cancelled; while the store is away it goes by what it has counted itself."""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            try:
                await self.once(anyio.current_time())
            except Unavailable as error:
                logger.warning("the health of rails waits for the store", extra={"error": str(error)})

    async def once(self, now: float) -> None:
        """Look once; raises Unavailable where the others cannot be asked, which is tried again the next time."""
        self._board.look(now)
        if now - self._exchanged_at < EXCHANGE_SECONDS:
            return
        self._exchanged_at = now
        rows = self._board.told(self._worker, now)
        self._gauges(rows)
        workers, others = await self._store.exchange_health(self._worker, rows, self._lease_seconds)
        self._board.learn(workers, others)

    def _gauges(self, rows: Sequence[RailCounts]) -> None:
        self._shown.update(row.rail for row in rows)
        waiting = {row.rail: row.waiting for row in rows}
        for rail in self._shown:
            number = _NUMBERS[self._board.circuit(rail)]
            self._instruments.gauge("rail_circuit", number, {"rail": rail})
            self._instruments.gauge("rail_waiting", waiting.get(rail, 0), {"rail": rail})
