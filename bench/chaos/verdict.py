"""The verdict on a chaos run: what the client was told against what the books, the rails and the feed hold.

- Pure functions of the ground: each check returns what is wrong, and nothing where nothing is.
- Every invariant of the domain's list has its line, by letter. One that this run cannot show says where it is shown."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from zentra.bench.chaos.ground import Ground, Intent
from zentra.bench.chaos.load import REVIEWED_MINOR, Asked
from zentra.bench.chaos.moods import RailMood
from zentra.bench.chaos.rail import BANKS, RailPayment
from zentra.gateway.http.endpoint_fields import EVENTS_DEFAULT
from zentra.runtime.intents.machine import INITIAL, MOVES
from zentra.runtime.rails.routing import parse_reference

__all__ = ["ELSEWHERE", "ENDED", "Verdict", "accounted", "judge"]

SHOWN_MAX: Final = 10  # wrongs named per invariant; the count says how many there are

CONTRADICTION: Final = "provider_contradiction"
UNKNOWN_OUTCOME: Final = "provider_outcome_unknown"  # the case of a rail that stays silent, whatever it says later
QUIET: Final = frozenset({"success", "decline", "reject", "duplicate_callback", "out_of_order", "late_success"})
"""What rails are told to play that contradicts nothing."""
SIGNING: Final = frozenset(name for name, kind in BANKS.items() if kind.dialect == "gtbank")
ENDED: Final = frozenset({"SUCCESSFUL", "FAILED", "RECONCILED", "REVERSED"})
CHAINS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    # lifecycle -> what may stand in the ledger: over a rail, or as a book transfer
    "SUCCESSFUL": (("reserve", "post", "settle"), ("book",)),
    "FAILED": ((), ("reserve", "release")),
    "REVIEW": ((),),
    "REVERSED": (("reserve", "post", "settle"), ("book",)),
    "AWAITING_PROVIDER": (("reserve",),),
}
_ROWS: Final = frozenset(
    [("", str(INITIAL.to), str(INITIAL.topic))]
    + [(str(state), str(move.to), str(move.topic)) for (state, _), move in MOVES.items()]
)

ELSEWHERE: Final[Mapping[str, str]] = {
    "K": "no hold runs out here: `zentra simulate` and tests/actors",
    "R": "no rule changes here: tests/runtime and tests/replay",
}

Wrongs = Iterator[str]


class Verdict(Struct, frozen=True):
    """What became of one invariant: held, violated, or not_checked; `detail` says by what, or where instead."""

    letter: str
    verdict: str
    detail: str
    wrongs: tuple[str, ...] = ()
    count: int = 0


def accounted(intent: Intent) -> bool:
    """Return whether an intent came to an end, to a person or to a case."""
    return intent.state in ENDED or intent.state == "REVIEW" or any(status == "open" for _, status in intent.cases)


def judge(ground: Ground) -> list[Verdict]:
    """Return the verdict on every invariant, in the order of their letters."""
    verdicts = []
    for letter, (says, checks) in CHECKS.items():
        wrongs = [wrong for check in checks for wrong in check(ground)]
        wrongs += [f"{b.where}: {b.detail}" for b in ground.audit.breaches if b.letter == letter]
        wrongs += [sentence for where, sentence in ground.readings.wrongs if where == letter]
        verdict = "violated" if wrongs else "held"
        verdicts.append(Verdict(letter, verdict, says, tuple(wrongs[:SHOWN_MAX]), len(wrongs)))
    verdicts += [Verdict(letter, "not_checked", where) for letter, where in ELSEWHERE.items()]
    return sorted(verdicts, key=lambda one: one.letter)


def _by_key(ground: Ground) -> dict[tuple[str, str], list[Asked]]:
    grouped: dict[tuple[str, str], list[Asked]] = defaultdict(list)
    for one in ground.asked:
        grouped[one.tenant, one.key].append(one)
    return grouped


def _stored(ground: Ground) -> dict[tuple[str, str], Intent]:
    return {(one.tenant, one.intent_id): one for one in ground.intents}


def refusals_left_nothing(ground: Ground) -> Wrongs:
    """F: what failed moved no money, and what was never accepted left no intent."""
    for intent in ground.intents:
        if intent.state == "FAILED" and any(posted for _, _, posted in intent.postings):
            yield f"{intent.intent_id} failed and something was posted"
    for (tenant, key), asked in _by_key(ground).items():
        if all(one.outcome[:1] == "4" for one in asked) and (tenant, asked[0].intent_id) in _stored(ground):
            yield f"{key} of {tenant} was refused ({asked[0].outcome}) and made an intent"


def answers_are_equal(ground: Ground) -> Wrongs:
    """G: all acceptances of one key are the same bytes, and only one of them is not a replay."""
    for (tenant, key), asked in _by_key(ground).items():
        heard = {one.answer for one in asked if one.outcome in ("accepted", "replayed")}
        if len(heard) > 1:
            yield f"{key} of {tenant} was given {len(heard)} different answers"
        first = sum(one.outcome == "accepted" for one in asked)
        if first > 1:
            yield f"{key} of {tenant} was accepted as new {first} times"


def one_intent_per_key(ground: Ground) -> Wrongs:
    """G: a key made one intent, and that under the id that the client gave it."""
    for tenant_key, count in Counter((one.tenant, one.key) for one in ground.intents).items():
        if count > 1:
            yield f"{tenant_key[1]} of {tenant_key[0]} made {count} intents"


def changes_are_refused(ground: Ground) -> Wrongs:
    """H: a key that was accepted takes no other content, and the intent is what was asked for first."""
    stored = _stored(ground)
    for one in ground.asked:
        if one.changed and one.outcome in ("accepted", "replayed"):
            yield f"{one.key} of {one.tenant} was {one.outcome} with changed content"
        intent = stored.get((one.tenant, one.intent_id))
        if intent is not None and one.original is None and int(intent.command["minor"]) != int(one.body["amount"]):
            yield f"{one.intent_id} asks for {intent.command['minor']}, the client for {one.body['amount']}"


def _of_intents(ground: Ground) -> dict[str, list[RailPayment]]:
    """Return what all rails together have of each intent, by its uuid."""
    found: dict[str, list[RailPayment]] = defaultdict(list)
    for payment in ground.payments:
        named = parse_reference(payment.reference)
        if named is not None:
            found[named[0]].append(payment)
    return found


def _contradicts(payment: RailPayment) -> bool:
    """Return whether the rail called failed what it has paid."""
    return payment.mood is RailMood.CONTRADICTS or payment.scenario == "contradictory_status"


def settled_as_paid(ground: Ground) -> Wrongs:
    """N, I: over all rails together, what is settled was paid exactly once, what is released was not paid, and nothing
    was paid twice. Only of what a rail itself called failed may the release stand, and a case says so."""
    payments = _of_intents(ground)
    for intent in ground.intents:
        mine = payments.get(intent.id, [])
        times = sum(payment.paid for payment in mine)
        rails = ", ".join(payment.rail for payment in mine if payment.paid) or "no rail"
        over_rail = intent.command["kind"] != "book_transfer"
        if times > 1:
            yield f"{intent.intent_id} was paid {times} times, by {rails}"
        if times and not over_rail:
            yield f"{intent.intent_id} is no payout and was paid by {rails}"
        if over_rail and intent.state in ("SUCCESSFUL", "REVERSED") and not times:
            yield f"{intent.intent_id} is {intent.state} and no rail paid it"
        belied = any(map(_contradicts, mine)) and any(kind == CONTRADICTION for kind, _ in intent.cases)
        if intent.state == "FAILED" and times and not belied:
            yield f"{intent.intent_id} is FAILED and {rails} paid it"


def contradictions_are_cases(ground: Ground) -> Wrongs:
    """I: a rail that contradicts itself leaves one case, which somebody resolves; one that repeats itself, or in whose
    name somebody else speaks, leaves none."""
    payments = _of_intents(ground)
    for intent in ground.intents:
        scenario = intent.command.get("metadata", {}).get("sandbox_scenario", "")
        mine = payments.get(intent.id, [])
        kinds = [kind for kind, _ in intent.cases if kind != UNKNOWN_OUTCOME]
        belied = scenario.startswith("contradictory_") or any(map(_contradicts, mine))
        if belied and mine and len(kinds) > 1:
            yield f"{intent.intent_id} ({scenario}) has the cases {', '.join(kinds)}"
        if scenario in QUIET and kinds and not belied:
            moods = ", ".join(payment.mood for payment in mine)
            yield f"{intent.intent_id} ({scenario}, {moods}) has the cases {', '.join(kinds)}"
        if any(_must_be_seen(payment) for payment in mine) and CONTRADICTION not in kinds:
            yield f"{intent.intent_id} was called failed and then paid, and has no case"
        if (CONTRADICTION, "open") in intent.cases:
            yield f"{intent.intent_id} has a contradiction that nobody resolved"


def _must_be_seen(payment: RailPayment) -> bool:
    """Return whether a payment's contradiction has to have been noticed: both words were signed, and came in time."""
    return payment.mood is RailMood.CONTRADICTS and payment.rail in SIGNING and payment.scenario == "success"


def moves_are_of_the_table(ground: Ground) -> Wrongs:
    """J: every transition is a row of the machine's table and says who, for whom, when and why."""
    for intent in ground.intents:
        before = ""
        for step in intent.steps:
            if (before, step.state, step.event) not in _ROWS:
                yield f"{intent.intent_id} went from {before or 'nothing'} to {step.state} by {step.event}"
            if not step.known:
                yield f"{intent.intent_id} record {step.sequence} does not say who, for whom, when or why"
            before = step.state


def reversals_are_done_once(ground: Ground) -> Wrongs:
    """L: each accepted reversal gave back once, together at most the original; REVERSED means all of it."""
    accepted = Counter(one.subject for one in ground.commands if one.kind == "reverse" and one.accepted)
    for intent in ground.intents:
        legs = 1 if intent.command["kind"] == "book_transfer" else 2
        back = [posted for kind, _, posted in intent.postings if kind == "reversal"]
        given, original = sum(back) // legs, int(intent.command["minor"])
        if len(back) != legs * accepted[intent.id]:
            yield f"{intent.intent_id} has {len(back)} reversal postings after {accepted[intent.id]} reversals"
        if given > original or (intent.state == "REVERSED") != (given == original):
            yield f"{intent.intent_id} is {intent.state} and gave back {given} of {original}"


def no_second_rail(ground: Ground) -> Wrongs:
    """N: no intent was taken by a rail while another one may have paid it."""
    for intent, payments in _of_intents(ground).items():
        names = {payment.rail for payment in payments if payment.scenario != "reject"}
        if len(names) > 1:
            yield f"{intent} was taken by {', '.join(sorted(names))}"


def acknowledged_is_there(ground: Ground) -> Wrongs:
    """O: nothing that was acknowledged is lost; what was not was found out by reading."""
    stored = _stored(ground)
    for one in ground.asked:
        there = (one.tenant, one.intent_id) in stored
        if one.outcome in ("accepted", "replayed") and not there:
            yield f"{one.intent_id} of {one.tenant} was acknowledged and is not there"
    for intent_id, found in ground.read_back.items():
        if found != any(intent_id == name for _, name in stored):
            yield f"{intent_id} was {'' if found else 'not '}found over the API, and the store says otherwise"


def history_is_explained(ground: Ground) -> Wrongs:
    """O: what the doors answered follows from the commits in some serial order, as the history checker finds."""
    yield from ground.history_wrongs


def paid_once(ground: Ground) -> Wrongs:
    """O: no rail paid twice, none was asked for what no intent asks, and one that would pay twice was asked once."""
    intents = {one.id: one for one in ground.intents}
    paid: Counter[str] = Counter()
    for payment in ground.payments:
        named = parse_reference(payment.reference)
        if named is None:
            yield f"{payment.rail} was asked under a reference of nobody, {payment.reference}"
            continue
        paid[named[0]] += payment.paid
        if payment.rail in ground.plain_rails and payment.submits > 1:
            yield f"{payment.rail} was asked {payment.submits} times for {payment.reference}"
        intent = intents.get(named[0])
        if intent is None:
            yield f"{payment.rail} was asked to pay {payment.reference}, which no intent asked for"
        elif (payment.amount, payment.currency) != (int(intent.command["minor"]), intent.command["currency"]):
            yield f"{payment.rail} was asked for {payment.currency} {payment.amount} for {intent.intent_id}"
    for intent_id, times in paid.items():
        if times > 1:
            yield f"{intents[intent_id].intent_id if intent_id in intents else intent_id} was paid {times} times"


def one_chain_of_postings(ground: Ground) -> Wrongs:
    """O, E: each intent has one reserve, one post and one settle, or what its state allows instead."""
    for intent in ground.intents:
        kinds = tuple(kind for kind, _, _ in intent.postings if kind != "reversal" and not kind.startswith("fee"))
        if kinds not in CHAINS.get(intent.state, (kinds,)):
            yield f"{intent.intent_id} is {intent.state} with {', '.join(kinds) or 'no posting'}"


def told_once(ground: Ground) -> Wrongs:
    """P: every committed transition is in the feed, nothing else is, and versions have no gaps."""
    if not ground.feed.whole:
        yield "the feed could not be read to its end"
    committed = {(intent.id, step.sequence) for intent in ground.intents for step in intent.steps}
    known = {intent.id for intent in ground.intents}
    for intent, sequence in sorted(committed - ground.feed.told.keys()):
        yield f"record {sequence} of {intent} was never told"
    for intent, sequence in sorted(key for key in ground.feed.told if key[0] in known and key not in committed):
        yield f"record {sequence} of {intent} was told and never committed"
    for one in ground.intents:
        if [step.sequence for step in one.steps] != list(range(1, len(one.steps) + 1)):
            yield f"{one.intent_id} has gaps in its versions"


def reviews_hold_back(ground: Ground) -> Wrongs:
    """Q: what waits for a person has reserved nothing and was sent to nobody."""
    asked = {named[0] for payment in ground.payments if (named := parse_reference(payment.reference)) is not None}
    for intent in ground.intents:
        approved = any(step.event == "review.approved" for step in intent.steps)
        if int(intent.command["minor"]) >= REVIEWED_MINOR and not approved and (intent.postings or intent.id in asked):
            yield f"{intent.intent_id} was acted on before anybody approved it"


def evidence_verifies(ground: Ground) -> Wrongs:
    """S: chains, logs, heads and packets verify, and every settled intent has one packet in the log."""
    yield from ground.evidence_flaws
    for intent in ground.intents:
        if intent.state in ENDED and intent.sealed != 1:
            yield f"{intent.intent_id} is {intent.state} with {intent.sealed} packets in the log"


def nothing_is_missing(ground: Ground) -> Wrongs:
    """T: every event that an endpoint wants has one delivery, also where it was disabled meanwhile."""
    made = Counter((one.intent, one.event) for one in ground.deliveries)
    for intent in ground.intents:
        wanted = Counter(step.event for step in intent.steps if step.event in EVENTS_DEFAULT)
        for event, count in wanted.items():
            if made[intent.id, event] != count:
                yield f"{intent.intent_id} has {made[intent.id, event]} deliveries for {count} events {event}"


def all_come_to_an_end(ground: Ground) -> Wrongs:
    """T: every intent ended, waits for a person or has a case, every delivery is settled, in bounded time."""
    if ground.unsettled_seconds is None:
        yield "not everything had settled when the patience ran out"
    for intent in ground.intents:
        if not accounted(intent):
            yield f"{intent.intent_id} is {intent.state} and nobody looks after it"
    for command in ground.commands:
        if command.accepted is None:
            yield f"command {command.id} ({command.kind}) was never decided"
    for delivery in ground.deliveries:
        arrived = ground.arrived.get(f"msg_{delivery.id}")
        if delivery.status != "delivered":
            yield f"delivery {delivery.id} is {delivery.status}"
        elif arrived is None or not arrived.calls:
            yield f"delivery {delivery.id} is delivered and never arrived"
    for identifier, arrived in ground.arrived.items():
        if arrived.unsigned or arrived.differing:
            yield f"{identifier} arrived {arrived.unsigned} times unsigned, {arrived.differing} times with other bytes"
    if ground.given_up:
        yield f"process {ground.given_up} ended again and again and was given up"


Check = Callable[[Ground], Wrongs]

CHECKS: Final[Mapping[str, tuple[str, tuple[Check, ...]]]] = {
    "A": ("audit; every snapshot during the run sums to zero", ()),
    "B": ("audit; posted counters never fell in what the API showed", ()),
    "C": ("audit; every snapshot and every account read during the run", ()),
    "D": ("audit", ()),
    "E": ("audit; one ending per hold", (one_chain_of_postings,)),
    "F": ("failed and refused requests moved nothing", (refusals_left_nothing,)),
    "G": ("repeats over both doors", (answers_are_equal, one_intent_per_key)),
    "H": ("repeats with changed content", (changes_are_refused,)),
    "I": (
        "rails' own records; repeated, unordered, contradictory callbacks",
        (settled_as_paid, contradictions_are_cases),
    ),
    "J": ("every record against the machine's table", (moves_are_of_the_table,)),
    "L": ("audit; accepted reversals against postings", (reversals_are_done_once,)),
    "M": ("reads of other tenants' intents during the run", ()),
    "N": ("the own records of all rails together", (no_second_rail, settled_as_paid)),
    "O": (
        "acknowledged intents, rails' own records, the history of both doors",
        (acknowledged_is_there, paid_once, history_is_explained),
    ),
    "P": ("the feed against the records", (told_once,)),
    "Q": ("intents above the review limit", (reviews_hold_back,)),
    "S": ("audit; logs and heads made anew; packets verified offline", (evidence_verifies,)),
    "T": ("everything settled after the last fault", (all_come_to_an_end, nothing_is_missing)),
}
