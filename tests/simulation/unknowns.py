"""Unknown outcomes, in many seeded runs: `python -m tests.simulation.unknowns 1000`.

Each run is the simulator's, where rails hang, answer late, refuse, or their answers and workers are lost, three times
as often as usual. What is watched here is counted beside the auditor and by less: the words of rails as they are
published, and the records as they are committed. While no final word on an attempt has been published,

- nothing is released and no second rail is asked,
- the attempt is not submitted again where its rail takes a second submission for a second payment,
- nor, anywhere, past its deadline or beside the case that asks a person about it.

Once an attempt was submitted again, "not accepted" is final only as the answer to a poll.

Ends with 1 where that, or any invariant of the auditor, is violated."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from functools import partial

import msgspec
from msgspec import Struct

from zentra.bench.simulation.auditor_outside import LATE_MAX
from zentra.bench.simulation.faults import Fault
from zentra.bench.simulation.simulation import Simulation, VirtualLoop
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.messages import RailReported, decode_frame
from zentra.runtime.ports import Ground, TickPlan, TickWrites
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome, Submission
from zentra.runtime.stream_ports import Outgoing, StreamError

__all__ = ["FAULTS", "Watched", "run", "watched"]

INTENTS = 60
FAULTS = frozenset(
    {
        Fault.RAIL_SILENT, Fault.RAIL_LATE, Fault.RAIL_REFUSES, Fault.RAIL_SLOW, Fault.RAIL_ANSWER_LOST,
        Fault.CALLBACK_LOST, Fault.CALLBACK_REPEATED, Fault.CALLBACK_OUT_OF_ORDER, Fault.KILLED_BETWEEN_TICKS,
        Fault.KILLED_AFTER_COMMIT, Fault.STOPPED_WITH_INPUTS, Fault.HANDED_OVER, Fault.PUBLISH_LOST,
        Fault.FRAME_REPEATED,
    }
)  # fmt: skip


class Watched(Struct, frozen=True):
    """What one run has met: submissions that no answer told the end of, of how many, and what was done against the
    rules meanwhile."""

    seed: int
    submissions: int
    unknown: int
    waited: int  # intents that found no rail for a time
    violations: tuple[str, ...]


class WatchedSimulation(Simulation):
    """A run that is watched from outside of the auditor."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        super().__init__(seed, INTENTS, loop, steps_max=None, only=FAULTS)
        self.submits: Counter[str] = Counter()
        self.answered: set[str] = set()  # references whose submission was answered with something that says anything
        self.words: dict[str, set[str]] = {}
        self.references: dict[str, list[str]] = {}  # by intent, in order
        self.deadlines: dict[str, str] = {}  # by reference
        self.asks_a_person: set[str] = set()  # intents of which a person is asked what became of them
        self.committed_at = ""
        self.waited = 0
        self.against: list[str] = []
        for rail in self.rails.values():
            rail.submit = partial(self._submit, rail.submit)  # type: ignore[method-assign]

    def _submit(self, submit: Callable[[Submission], RailOutcome], submission: Submission) -> RailOutcome:
        settings = self.store.current.rails[submission.rail]
        self.submits[submission.reference] += 1
        if self.submits[submission.reference] > 1 and not settings.idempotent_references:
            self.against.append(f"{submission.reference} was submitted again to {submission.rail}")
        if self.submits[submission.reference] > 1 and self.committed_at > self.deadlines[submission.reference]:
            self.against.append(f"{submission.reference} was submitted again past its deadline")
        if self.submits[submission.reference] > 1 and submission.reference[:32] in self.asks_a_person:
            self.against.append(f"{submission.reference} was submitted again beside its case")
        return submit(submission)

    def append(self, message: Outgoing) -> StreamError | None:
        """Read what a rail has said before anybody acts on it."""
        failure = super().append(message)
        if failure is None and message.subject.endswith(".callback"):
            for event in _reports(message.body):
                status, reference = event.outcome.status, event.outcome.reference
                second = self.submits[reference] > 1 and status is OutcomeStatus.NOT_ACCEPTED
                if status.final and (not second or event.outcome.trust == "polled"):
                    self.words.setdefault(reference, set()).add(str(status))
                if event.outcome.trust == "direct" and status is not OutcomeStatus.UNKNOWN:
                    self.answered.add(reference)
        return failure

    def committed(self, plan: TickPlan, writes: TickWrites, ground: Ground) -> None:
        """Hold each record to what rails have said by now."""
        self.committed_at = timestamp(ground.now)
        for transition in writes.transitions:
            record = msgspec.json.decode(transition.record)
            known, facts = self.references.setdefault(transition.intent, []), record["facts"]
            if facts.get("trust") == "operator":
                self.words.setdefault(facts["reference"], set()).add(facts["said"] or facts["status"])
            if transition.event == "provider.awaited":
                self.waited += 1
            if transition.event == "provider.failover" and "not_accepted" not in self.words.get(known[-1], ()):
                self.against.append(f"{known[-1]} is unknown, and {facts['rail']} is asked")
            if transition.event in ("provider.routed", "provider.failover"):
                known.append(facts["reference"])
                late = datetime.fromisoformat(facts["deadline"]) + LATE_MAX
                self.deadlines[facts["reference"]] = timestamp(late)
            if facts.get("reason") == "provider_outcome_unknown":
                opened = transition.event == "case.opened"
                (self.asks_a_person.add if opened else self.asks_a_person.discard)(transition.intent)
            refused = self.words.get(known[-1], set()) & {"declined", "not_accepted"} if known else {"never sent"}
            if transition.event == "ledger.released" and not refused:
                self.against.append(f"{known[-1]} is unknown, and its hold is released")
        super().committed(plan, writes, ground)


def _reports(body: bytes) -> Iterator[RailReported]:
    try:
        events = decode_frame(body)
    except msgspec.MsgspecError:
        return
    yield from (event for event in events if isinstance(event, RailReported))


def watched(seed: int) -> Watched:
    """Return what one seed has met."""
    logging.disable(logging.CRITICAL)
    loop = VirtualLoop()

    async def play() -> Watched:
        simulation = WatchedSimulation(seed, loop)
        outcome = simulation.run()
        against = list(simulation.against)
        if outcome.failed is not None:
            against.append(f"{outcome.failed.letter}: {outcome.failed.detail}")
        unknown = simulation.submits.keys() - simulation.answered
        return Watched(seed, len(simulation.submits), len(unknown), simulation.waited, tuple(against))

    try:
        return loop.run_until_complete(play())
    finally:
        loop.close()
        logging.disable(logging.NOTSET)


def run(runs: int, first: int, jobs: int) -> int:
    """Print what so many runs have met; return 1 where something was violated."""
    submissions = unknown = waited = violations = 0
    with ProcessPoolExecutor(jobs) as pool:
        for found in pool.map(watched, range(first, first + runs), chunksize=5):
            submissions, unknown = submissions + found.submissions, unknown + found.unknown
            waited += found.waited
            violations += len(found.violations)
            for sentence in found.violations:
                sys.stdout.write(f"seed {found.seed}: {sentence}\n")
    sys.stdout.write(f"runs               {runs}\n")
    sys.stdout.write(f"submissions        {submissions}\n")
    sys.stdout.write(f"unknown outcomes   {unknown}\n")
    sys.stdout.write(f"waited for a rail  {waited}\n")
    sys.stdout.write(f"violations         {violations}\n")
    return 1 if violations else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="unknown outcomes of rails, in many seeded runs")
    parser.add_argument("runs", type=int, nargs="?", default=1000)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    sys.exit(run(given.runs, given.first, given.jobs))
