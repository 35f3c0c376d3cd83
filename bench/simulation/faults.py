"""The faults of the simulation: every kind with its rate, and the swarm that a seed makes of them.

Each seed switches a random half of the kinds on and draws a rate for each around the one in the table: runs in which a
few kinds are frequent find what a uniform mixture of everything hides. A kind is counted when it strikes."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from random import Random
from typing import Final, NamedTuple

__all__ = ["FAULTS", "Fault", "Kind", "Swarm"]


class Fault(StrEnum):
    """What can go wrong."""

    PUBLISH_LOST = "publish_lost"
    PUBLISH_UNHEARD = "publish_unheard"
    FRAME_REPEATED = "frame_repeated"
    FRAMES_REORDERED = "frames_reordered"
    OLD_FRAME_REPEATED = "old_frame_repeated"
    POISON_FRAME = "poison_frame"
    STREAM_AWAY = "stream_away"
    STREAM_FULL = "stream_full"
    STREAM_ROLLED_BACK = "stream_rolled_back"
    STREAM_PURGED = "stream_purged"
    KILLED_IN_COMMIT = "killed_in_commit"
    KILLED_BEFORE_COMMIT = "killed_before_commit"
    KILLED_AFTER_COMMIT = "killed_after_commit"
    KILLED_WHILE_PUBLISHING = "killed_while_publishing"
    KILLED_BEFORE_MARKING = "killed_before_marking"
    KILLED_BETWEEN_TICKS = "killed_between_ticks"
    HANDED_OVER = "handed_over"
    IN_DOUBT_DONE = "in_doubt_done"
    IN_DOUBT_UNDONE = "in_doubt_undone"
    IN_DOUBT_LATE = "in_doubt_late"
    CONTENDED = "contended"
    STORE_CALL_FAILED = "store_call_failed"
    STORE_AWAY = "store_away"
    READ_STOPPED = "read_stopped"
    STOPPED_WITH_INPUTS = "stopped_with_inputs"
    STOPPED_IN_COMMIT = "stopped_in_commit"
    STOPPED_FOR_EVER = "stopped_for_ever"
    LEASE_MISSED = "lease_missed"
    STORE_CLOCK_FORWARD = "store_clock_forward"
    STORE_CLOCK_BACK = "store_clock_back"
    GATEWAY_CLOCK_WRONG = "gateway_clock_wrong"
    FORGOTTEN = "forgotten"
    RAIL_SILENT = "rail_silent"
    RAIL_REFUSES = "rail_refuses"
    RAIL_LATE = "rail_late"
    RAIL_SLOW = "rail_slow"
    RAIL_ANSWER_LOST = "rail_answer_lost"
    CALLBACK_LOST = "callback_lost"
    CALLBACK_REPEATED = "callback_repeated"
    CALLBACK_OUT_OF_ORDER = "callback_out_of_order"
    CALLBACK_CONTRADICTS = "callback_contradicts"
    CALLBACK_REPLAYED = "callback_replayed"
    CALLBACK_TOO_EARLY = "callback_too_early"
    CALLBACK_FORGED = "callback_forged"
    ENDPOINT_DOWN = "endpoint_down"
    ENDPOINT_ANSWER_LOST = "endpoint_answer_lost"
    ENDPOINT_GONE = "endpoint_gone"
    REGISTRATION_UNPUBLISHED = "registration_unpublished"
    REGISTRATION_IN_DOUBT = "registration_in_doubt"


class Kind(NamedTuple):
    """How often a fault strikes: `rate` for each chance that it gets; `step` says that each step is such a chance."""

    rate: float
    step: bool = False


F = Fault
# A table is read down its columns.
# fmt: off
FAULTS: Final[dict[Fault, Kind]] = {
    F.PUBLISH_LOST:             Kind(0.03),
    F.PUBLISH_UNHEARD:          Kind(0.02),
    F.FRAME_REPEATED:           Kind(0.03),
    F.FRAMES_REORDERED:         Kind(0.1),
    F.OLD_FRAME_REPEATED:       Kind(0.01,   step=True),
    F.POISON_FRAME:             Kind(0.002,  step=True),
    F.STREAM_AWAY:              Kind(0.002,  step=True),
    F.STREAM_FULL:              Kind(0.002,  step=True),
    F.STREAM_ROLLED_BACK:       Kind(0.003,  step=True),
    F.STREAM_PURGED:            Kind(0.01,   step=True),
    F.KILLED_IN_COMMIT:         Kind(0.005),
    F.KILLED_BEFORE_COMMIT:     Kind(0.005),
    F.KILLED_AFTER_COMMIT:      Kind(0.005),
    F.KILLED_WHILE_PUBLISHING:  Kind(0.005),
    F.KILLED_BEFORE_MARKING:    Kind(0.005),
    F.KILLED_BETWEEN_TICKS:     Kind(0.004,  step=True),
    F.HANDED_OVER:              Kind(0.004,  step=True),
    F.IN_DOUBT_DONE:            Kind(0.01),
    F.IN_DOUBT_UNDONE:          Kind(0.01),
    F.IN_DOUBT_LATE:            Kind(0.01),
    F.CONTENDED:                Kind(0.02),
    F.STORE_CALL_FAILED:        Kind(0.01),
    F.STORE_AWAY:               Kind(0.002,  step=True),
    F.READ_STOPPED:             Kind(0.05),
    F.STOPPED_WITH_INPUTS:      Kind(0.004,  step=True),
    F.STOPPED_IN_COMMIT:        Kind(0.01),
    F.STOPPED_FOR_EVER:         Kind(0.002,  step=True),
    F.LEASE_MISSED:             Kind(0.004,  step=True),
    F.STORE_CLOCK_FORWARD:      Kind(0.002,  step=True),
    F.STORE_CLOCK_BACK:         Kind(0.002,  step=True),
    F.GATEWAY_CLOCK_WRONG:      Kind(0.003,  step=True),
    F.FORGOTTEN:                Kind(0.02,   step=True),
    F.RAIL_SILENT:              Kind(0.004,  step=True),
    F.RAIL_REFUSES:             Kind(0.004,  step=True),
    F.RAIL_LATE:                Kind(0.05),
    F.RAIL_SLOW:                Kind(0.004,  step=True),
    F.RAIL_ANSWER_LOST:         Kind(0.05),
    F.CALLBACK_LOST:            Kind(0.05),
    F.CALLBACK_REPEATED:        Kind(0.1),
    F.CALLBACK_OUT_OF_ORDER:    Kind(0.2),
    F.CALLBACK_CONTRADICTS:     Kind(0.004,  step=True),
    F.CALLBACK_REPLAYED:        Kind(0.006,  step=True),
    F.CALLBACK_TOO_EARLY:       Kind(0.006,  step=True),
    F.CALLBACK_FORGED:          Kind(0.006,  step=True),
    F.ENDPOINT_DOWN:            Kind(0.003,  step=True),
    F.ENDPOINT_ANSWER_LOST:     Kind(0.05),
    F.ENDPOINT_GONE:            Kind(0.001,  step=True),
    F.REGISTRATION_UNPUBLISHED: Kind(0.05),
    F.REGISTRATION_IN_DOUBT:    Kind(0.05),
}
# fmt: on


class Swarm:
    """The faults of one run. Nothing strikes once it has been calmed."""

    def __init__(self, random: Random, only: frozenset[Fault] | None = None) -> None:
        """`only` switches exactly these kinds on, at three times the rate of the table."""
        self._random = random
        self.struck: Counter[Fault] = Counter()
        self.rates: dict[Fault, float] = {}
        for fault, kind in FAULTS.items():
            on, scale = random.random() < 0.5, 10 ** random.uniform(-0.7, 0.4)
            if on if only is None else fault in only:
                self.rates[fault] = min(0.9, kind.rate * (scale if only is None else 3))
        self._steps = [fault for fault in self.rates if FAULTS[fault].step]

    def strikes(self, fault: Fault) -> bool:
        """Return whether this fault strikes here and now."""
        rate = self.rates.get(fault, 0.0)
        if rate and self._random.random() < rate:
            self.struck[fault] += 1
            return True
        return False

    def of_step(self) -> list[Fault]:
        """Return the faults that want to strike in this step; they count themselves when they can."""
        draw = self._random.random
        return [fault for fault in self._steps if draw() < self.rates.get(fault, 0.0)]

    def count(self, fault: Fault) -> None:
        """Count a fault of a step that has struck."""
        self.struck[fault] += 1

    def calm(self) -> None:
        """Switch every fault off."""
        self.rates.clear()
        self._steps.clear()
