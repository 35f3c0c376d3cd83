"""Callbacks of one payment in any order, many thousand times, through the real decisions of a worker.

Every permutation is a payment and what is said of it: one to six reports, signed, polled, claimed or the answer to the
submission; of the right amount or another; some before the attempt is there, some twice, some a day late; with polls
in between that the rail answers, or does not, or only later. A model of its own, which knows of the rail's words and of
nothing in the engine, says where the money has to be and how many cases are open (invariant I): reports that name one
outcome lead to one state; a set that contradicts itself to exactly one open case, and to the money where the first
valid outcome put it. Half of them have a second rail, which never says anything: only what nobody ever took goes there.
Run as many as you like:

    .venv/bin/python -m tests.actors.callbacks --permutations 10000
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from random import Random
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from tests.actors.racing import START, Racer
from tests.actors.world import ACCOUNTS, configuration
from zentra.actors.strangers import KIND
from zentra.actors.tick import derived_id
from zentra.bench.twins.store import StoreTwin
from zentra.runtime.intents.command import IntentCommand, digest_of
from zentra.runtime.intents.transaction import register
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.messages import Due, Event, RailReported, TimerFired
from zentra.runtime.ports import Fence, Lease, TickPlan, TickWrites
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome, Trust
from zentra.runtime.rails.routing import Corridor, reference_of

__all__ = ["Drawn", "Played", "Word", "draw", "expected", "main", "permutations_on_twin"]

MINOR: Final = 1_000
FUNDS: Final = 10**12
TOGETHER: Final = 100  # payments whose reports come in the same ticks
WORDS_MAX: Final = 6
RAIL: Final = "alpha"
DAY: Final = timedelta(days=1)
TRUSTED: Final = ("direct", "polled", "body_signed")


class Word(Struct, frozen=True):
    """One report. `early` ones come before the attempt is there; `again` says how often the same callback comes."""

    status: str
    trust: Trust
    minor: int | None
    currency: str | None
    early: bool = False
    again: int = 1
    late: bool = False  # a day later

    @property
    def strange(self) -> bool:
        """Whether it is a callback with a word that the adapter does not know."""
        return self.status == "unknown" and self.trust not in ("polled", "direct")

    @property
    def differs(self) -> bool:
        """Whether it names another amount or currency than was asked for; of what was not accepted none counts."""
        other = self.minor not in (None, MINOR) or self.currency not in (None, "NGN")
        return other and self.status != "not_accepted"


class Drawn(Struct, frozen=True):
    """How one payment goes: the reports in the order in which they arrive, what the rail says when it is asked (None:
    nothing, ever), after how many ticks the early ones are looked at, and how many of the others a tick takes."""

    words: tuple[Word, ...]
    answer: str | None
    looked_at: int
    width: int = 1

    @property
    def name(self) -> str:
        """A name of the set of reports, whatever their order."""
        return "|".join(sorted(f"{w.status}/{w.trust}/{w.minor}/{w.currency}" for w in self.words))


class Played(Struct):
    """What became of all permutations."""

    permutations: int = 0
    seconds: float = 0.0
    sets: set[str] = msgspec.field(default_factory=set)
    ends: Counter[str] = msgspec.field(default_factory=Counter)
    contradicted: int = 0
    wrong: list[str] = msgspec.field(default_factory=list)


# What has to become of it ---------------------------------------------------------------------------------------------


class Model(Struct):
    """What is known of one payment by somebody who only listens."""

    decided: str | None = None
    contradicted: bool = False
    paid_otherwise: bool = False
    claims: set[str] = msgspec.field(default_factory=set)
    taken: bool = False  # somebody has said that the rail has the payment
    beside: bool = False  # there is another rail
    doubted: bool = False  # the rail was left, and then something else was said of it

    @property
    def left(self) -> bool:
        """Whether another rail was asked."""
        return self.beside and self.decided == "not_accepted" and not self.taken

    def hear(self, word: Word) -> bool:
        """Take a report; return whether the rail has to be asked because of it."""
        left, callback = self.left, word.trust not in ("polled", "direct")
        if left and word.status in ("declined", "not_accepted"):
            self.doubted &= word.trust not in TRUSTED
        elif left and (callback or word.differs or word.status in ENDS):
            self.doubted = word.status != "succeeded" or word.trust not in TRUSTED
        return self._learn(word) or (left and self.doubted and callback)

    def _learn(self, word: Word) -> bool:
        paid = word.status == "succeeded"
        claim, known = word.trust not in TRUSTED, self.decided is not None and (self.decided == "succeeded") == paid
        if word.status != "not_accepted" and word.status != "unknown":
            self.taken |= self.decided is None and (claim or word.status == "pending")
        if word.differs:
            self.contradicted = True
            self.paid_otherwise |= not claim and word.status == "succeeded"
            return claim
        if word.status not in ENDS:  # one that nobody knows may say that the money has come back
            strange = word.strange and self.decided is not None
            self.contradicted |= strange
            return claim and strange
        if self.decided is not None:
            self.contradicted |= not known
        elif claim:
            self.claims.add(word.status)
        elif word.status == "not_accepted" and self.paid_otherwise:
            self.contradicted = True
        else:
            self.decided = word.status
            self.contradicted |= any((claimed == "succeeded") != paid for claimed in self.claims)
        return claim and not known


def expected(drawn: Drawn, *, beside: bool = False) -> tuple[str, tuple[str, ...]]:
    """Return where the money has to be (paid, kept, held) and the open cases, from the words alone; `beside` says that
    there is another rail."""
    model, answer, ticks = Model(beside=beside), drawn.answer, _ticks(drawn)
    before = False  # it was decided when the last deadline was looked at
    for number, tick in enumerate(ticks):
        before = model.decided is not None if number == len(ticks) - 1 else False
        asked = [model.hear(word) for word in tick]
        if (any(asked) or (not tick and (model.decided is None or model.doubted))) and answer is not None:
            model.hear(Word(answer, "polled", MINOR, "NGN"))
            answer = None
    where = {None: "held", "succeeded": "paid", "declined": "kept", "not_accepted": "kept"}[model.decided]
    if model.left:
        where = "held"
    if model.contradicted:
        return where, ("provider_contradiction",)
    if model.left:
        return where, ("provider_outcome_unknown",) if before else ()  # what is sent a day later is not waited for here
    return where, ("provider_outcome_unknown",) if model.decided is None else ()


def _ticks(drawn: Drawn) -> list[list[Word]]:
    """Return the reports as they take effect, tick by tick: early ones when somebody looks, and at the end, behind a
    tick without any in which the rail is asked for what nobody knows, those of a day later."""
    ticks = [[drawn.words[n] for n in tick] for tick in _there(drawn)]
    early = [word for word in drawn.words if word.early]
    if early:
        ticks.insert(min(drawn.looked_at, len(ticks)), early)
    return [*ticks, [], [word for word in drawn.words if word.late]]


def _there(drawn: Drawn) -> list[list[int]]:
    """Return the places of the reports that come while the payment waits, cut into ticks."""
    places = [n for n, word in enumerate(drawn.words) if not word.early and not word.late]
    return [places[n : n + drawn.width] for n in range(0, len(places), drawn.width)]


ENDS: Final = ("succeeded", "declined", "not_accepted")


# Drawing --------------------------------------------------------------------------------------------------------------


def draw(random: Random) -> Drawn:
    """Return one permutation: half of them name one outcome, the others whatever comes."""
    truth = random.choice(ENDS)
    agrees = random.random() < 0.5
    words = []
    for _ in range(random.randrange(1, WORDS_MAX + 1)):
        status = truth if agrees else random.choice(ENDS)
        if random.random() < 0.2:
            status = random.choice(("pending", "unknown"))
        trust: Trust = random.choice(("body_signed", "body_signed", "polled", "direct", "shared_secret", "none"))
        minor: int | None = random.choice((MINOR, MINOR, MINOR, None))
        currency: str | None = "NGN" if minor is not None else random.choice((None, "NGN"))
        if not agrees and random.random() < 0.15:
            minor, currency = random.choice(((MINOR + 1, "NGN"), (MINOR, "USD"), (1, "NGN")))
        is_callback = trust not in ("polled", "direct")
        early = is_callback and random.random() < 0.2
        late = is_callback and not early and random.random() < 0.2
        again = random.choice((1, 1, 2, 3)) if is_callback else 1
        words.append(Word(status, trust, minor, currency, early, again, late))
    answer = (truth if agrees else random.choice(ENDS)) if random.random() < 0.6 else None
    return Drawn(tuple(words), answer, random.randrange(0, WORDS_MAX), random.choice((1, 1, 2, 6)))


# Playing --------------------------------------------------------------------------------------------------------------


class Payment(Struct):
    """One payment under way, and the events that are still to come, tick by tick."""

    intent: str
    drawn: Drawn
    steps: list[list[Event]]
    answered: bool = False


class Player(Racer):
    """A worker without tasks whose payments wait for a rail that says what was drawn."""

    async def begin_with(self, name: str) -> None:
        """Take the partition and what is set up."""
        await self.begin(name)
        self.stages = ("policy", "ledger", "route", "callback")

    async def play(self, drawn: Sequence[Drawn], at_seconds: float, random: Random, prefix: str) -> list[str]:
        """Play payments side by side, each report in a tick; return their intents."""
        begin = START + timedelta(seconds=at_seconds)
        payments = [self._payment(one, number, prefix) for number, one in enumerate(drawn)]
        await self._deliver(begin, [event for payment in payments for event in _early(payment)], payments)
        await self._register(begin, payments)
        now = begin + timedelta(milliseconds=100)
        while any(payment.steps for payment in payments):
            events = [event for payment in payments if payment.steps for event in payment.steps.pop(0)]
            now += timedelta(milliseconds=random.randrange(1, 50))
            if random.random() < 0.2:  # another worker takes over
                self.memory.distrust()
            await self._deliver(now, events, payments)
        # what nobody has asked for yet is asked for now, and past its deadline it is a case
        for seconds in (10, 400):
            await self._deliver(now + timedelta(seconds=seconds), [_timer(one.intent) for one in payments], payments)
        late = [event for payment in payments for event in _late(payment)]
        await self._deliver(now + DAY, late, payments)
        return [payment.intent for payment in payments]

    def _payment(self, drawn: Drawn, number: int, prefix: str) -> Payment:
        self._serial += 1
        intent = f"{prefix}{self._serial:031x}"
        steps: list[list[Event]] = [
            [event for n in tick for event in _report(intent, drawn, n)] for tick in _there(drawn)
        ]
        if any(word.early for word in drawn.words):
            steps.insert(min(drawn.looked_at, len(steps)), [_look(intent)])
        return Payment(intent, drawn, steps)

    async def _register(self, at: Any, payments: Sequence[Payment]) -> None:
        command = IntentCommand(
            kind=IntentKind.TRANSFER, minor=str(MINOR), currency="NGN", source="customer", destination="merchant"
        )
        rows = [
            register(
                intent=one.intent, tenant="acme", intent_id=one.intent, command=command,
                digest=digest_of("intent", command), key=one.intent, principal="dev", role="developer",
                trace="0" * 32, at=at, cause="test",
            )
            for one in payments
        ]  # fmt: skip
        lease = self.leases[0]
        plan = TickPlan((Fence(0, lease.epoch, lease.version, lease.position),), (), (), 1)
        await self.store.commit(plan, lambda ground: TickWrites(transitions=rows))
        self.leases[0] = Lease(0, lease.epoch, lease.version + 1, lease.position)
        await self.run(at, [("policy", Due(one.intent, "acme", 1)) for one in payments])

    async def _deliver(self, at: Any, events: Sequence[Event], payments: Sequence[Payment]) -> None:
        """Let one tick take these reports, and the next what the rail answers to what it asks."""
        twin = self.store
        assert isinstance(twin, StoreTwin)
        for event in events:
            if isinstance(event, RailReported) and event.outcome.event_id is not None:
                twin.take_callback(event.outcome)
        events = [event for event in events if not isinstance(event, TimerFired) or _is_set(twin, event)]
        if not events:
            return
        self.polled.clear()
        await self.run(at, [("timer" if isinstance(event, TimerFired) else "callback", event) for event in events])
        asked = {reference[:32] for reference in self.polled if reference.endswith("01")}
        answers = []
        for payment in payments:
            if payment.intent in asked and payment.drawn.answer is not None and not payment.answered:
                payment.answered = True
                said = RailOutcome(
                    RAIL, reference_of(payment.intent, 1), OutcomeStatus(payment.drawn.answer), MINOR, "NGN",
                    trust="polled",
                )  # fmt: skip
                answers.append(("callback", RailReported(said, f"poll/{payment.intent}")))
        if answers:
            await self.run(at + timedelta(microseconds=1), answers)


def _report(intent: str, drawn: Drawn, number: int) -> list[Event]:
    """Return a report of the set as often as it comes."""
    word = drawn.words[number]
    callback = word.trust not in ("polled", "direct")
    said = RailOutcome(
        RAIL, reference_of(intent, 1), OutcomeStatus(word.status), word.minor, word.currency,
        event_id=f"{intent}-{number}" if callback else None, trust=word.trust,
        reason="status_unrecognised" if word.strange else None,
    )  # fmt: skip
    cause = (
        f"callback/{said.event_id}"
        if callback
        else f"{'submit' if word.trust == 'direct' else 'poll'}/{intent}/{number}"
    )
    return [RailReported(said, cause)] * word.again


def _early(payment: Payment) -> list[Event]:
    words = payment.drawn.words
    return [event for n, word in enumerate(words) if word.early for event in _report(payment.intent, payment.drawn, n)]


def _late(payment: Payment) -> list[Event]:
    words = payment.drawn.words
    again = [event for n, w in enumerate(words) if w.late for event in _report(payment.intent, payment.drawn, n)]
    replayed = [_report(payment.intent, payment.drawn, n)[0] for n, w in enumerate(words) if w.again > 1]
    return [*again, *replayed]


def _look(intent: str) -> TimerFired:
    reference = reference_of(intent, 1)
    return TimerFired(KIND, derived_id(KIND, RAIL, reference), f"{RAIL}/{reference}", "-")


def _is_set(store: StoreTwin, event: TimerFired) -> bool:
    """Return whether a timer may fire: of a payment that does not wait any more there is none."""
    return event.kind != KIND or (event.kind, event.key, event.name) in store.rows.timers


def _timer(intent: str) -> TimerFired:
    return TimerFired("intent", intent, "state", "acme")


# Judging --------------------------------------------------------------------------------------------------------------


def found_of(store: StoreTwin, intents: Sequence[str]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return where the money of each payment is, added up from its postings, and its open cases."""
    sums: dict[str, list[int]] = {intent: [0, 0] for intent in intents}
    for posting in store.rows.postings.values():
        if posting.intent in sums:
            if posting.debit.account_id == "customer":
                sums[posting.intent][0] += posting.pending
            if posting.credit.account_id == "merchant":
                sums[posting.intent][1] += posting.posted
    open_: dict[str, list[str]] = {intent: [] for intent in intents}
    for file in store.rows.cases.values():
        if file.status == "open" and file.row.intent in open_:
            open_[file.row.intent].append(file.row.kind)
    words = {(MINOR, 0): "held", (0, MINOR): "paid", (0, 0): "kept"}
    return {
        intent: (words.get((held, paid), f"{held} held and {paid} paid"), tuple(sorted(open_[intent])))
        for intent, (held, paid) in sums.items()
    }


async def permutations_on_twin(seed: int, permutations: int, *, undrafted_max: int = 16) -> Played:
    """Return what became of permutations on the store's twin."""
    clock = [START]
    setup = configuration(limits=None)
    # nothing is submitted twice here, and a worker that takes over knows it: "not found" would not be believed yet
    rail = structs.replace(setup.rails[RAIL], not_found_lies_seconds=3 * DAY.total_seconds())
    setup = structs.replace(setup, rails={**setup.rails, RAIL: rail})
    random, played, began = Random(seed), Played(), time.perf_counter()
    at_seconds, left = 0.0, permutations
    while left > 0:
        many = min(left, TOGETHER)
        left -= many
        beside = random.random() < 0.5
        corridor = Corridor("acme", "ng", "NGN", "transfer", (RAIL, "beta") if beside else (RAIL,))
        store = StoreTwin(lambda: clock[0], structs.replace(setup, corridors={"acme": (corridor,)}), partitions=1)
        refs = {ref.account_id: store.open_account(ref) for ref in ACCOUNTS}
        store.book(refs["liquidity-ngn"], refs["customer"], FUNDS)
        player = Player(store, lambda at: clock.__setitem__(0, at), undrafted_max)
        await player.begin_with("player")
        drawn = [draw(random) for _ in range(many)]
        intents = await player.play(drawn, at_seconds, random, "c")
        at_seconds += 3 * 86_400
        found = found_of(store, intents)
        for intent, one in zip(intents, drawn, strict=True):
            due = expected(one, beside=beside)
            played.permutations += 1
            played.sets.add(one.name)
            played.ends[due[0]] += 1
            played.contradicted += due[1] == ("provider_contradiction",)
            if found[intent] != due:
                played.wrong.append(f"{one}, {beside=}, came to {found[intent]}, not to {due}")
            elif strangers := [key for key in store.rows.timers if key[0] == "stranger"]:
                played.wrong.append(f"strangers are left: {strangers}")
    played.seconds = time.perf_counter() - began
    return played


def main(arguments: Sequence[str]) -> int:
    """Play permutations on the twin and print what became of them."""
    parser = argparse.ArgumentParser(description="Play callbacks of one payment in any order.")
    parser.add_argument("--permutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    played = asyncio.run(permutations_on_twin(asked.seed, asked.permutations))
    ends = ", ".join(f"{count:,} {word}" for word, count in sorted(played.ends.items()))
    print(f"{played.permutations:,} permutations of {len(played.sets):,} sets in {played.seconds:.1f} s: {ends}")  # noqa: T201
    print(f"{played.contradicted:,} contradict themselves: one open case each, the first valid outcome counts")  # noqa: T201
    print("\n".join(played.wrong[:10]) or "violations of invariant I: 0")  # noqa: T201
    return 1 if played.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
