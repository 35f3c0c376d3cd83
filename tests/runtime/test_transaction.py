"""The transaction as a value: what is restored is what was written, in one unbroken and strictly ordered chain."""

import copy
import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from zentra.runtime.errors import IllegalFact
from zentra.runtime.evidence import canonical
from zentra.runtime.evidence.chain import GENESIS
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.command import IntentCommand, digest_of
from zentra.runtime.intents.machine import MOVES
from zentra.runtime.intents.transaction import Transaction, Transition, advance, register, restore, timestamp
from zentra.runtime.intents.vocabulary import SETTLED, Fact, IntentKind, State

START: Final = datetime(2026, 4, 1, 12, 0, tzinfo=UTC)
MINOR: Final = 1000
INTENT: Final = "0190a0b0c0d070008000000000000001"


def _command() -> IntentCommand:
    return IntentCommand(
        kind=IntentKind.TRANSFER, minor=str(MINOR), currency="NGN", source="customer", destination="merchant"
    )


def _opened(at: datetime = START) -> tuple[Transaction, list[Transition]]:
    command = _command()
    first = register(
        intent=INTENT,
        tenant="acme",
        intent_id="pay-1",
        command=command,
        digest=digest_of("intent", command),
        key="key-1",
        principal="dev",
        role="developer",
        trace="ab" * 16,
        at=at,
        cause="request-1",
    )
    return restore([(first.record, first.hash)]), [first]


def _entry(tx: Transaction, number: int, kind: str, pending: int, posted: int) -> f.Entry:
    return f.Entry(tx.ordinal + number, kind, "customer", "merchant", "NGN", str(pending), str(posted), "00" * 32)


def _booked(tx: Transaction, *entries: tuple[str, int, int], reason: str = "", command: str = "") -> f.Booked:
    made = tuple(_entry(tx, number, *entry) for number, entry in enumerate(entries))
    return f.Booked(made, reason, command)


def _reported(tx: Transaction, status: str, said: str | None = None) -> f.Reported:
    attempt = tx.attempts[-1]
    return f.Reported(attempt.rail, attempt.number, attempt.reference, status, "direct", said=said)


def _routed(tx: Transaction) -> f.Routed:
    number = len(tx.attempts) + 1
    considered = {attempt.rail: "not_accepted" for attempt in tx.attempts} | {f"rail{number}": "chosen"}
    return f.Routed("corridor", f"rail{number}", number, f"{INTENT}{number:02d}", timestamp(START), considered)


def facts_for(tx: Transaction, fact: Fact, pick: int) -> f.Facts:
    """What a runtime would say with `fact`; `pick` varies what can vary."""
    left = tx.posted - tx.given_back
    match fact:
        case Fact.POLICY_ACCEPTED:
            return f.Judged("accepted", 1, "00", "straight_through", {}, velocity=(f.VelocityUse("account/c", "d"),))
        case Fact.POLICY_REFERRED:
            return f.Judged("review", 1, "00", "manual", {f"rule{pick % 3}": "review"})
        case Fact.POLICY_DENIED:
            return f.Judged("denied", 1, "00", "blocked", {"rule": "denied"})
        case Fact.APPROVED | Fact.REJECTED:
            return f.Decided("approved", tx.round + 1, "seen", tx.flagged, "operator")
        case Fact.RESERVED:
            return _booked(tx, ("reserve", MINOR, 0))
        case Fact.BOOKED:
            return _booked(tx, ("book", 0, MINOR))
        case Fact.POSTED if pick % 2:
            part = 1 + pick % (MINOR - 1)
            rest = ("release", part - MINOR, 0)
            return _booked(tx, ("post", -part, part), ("settle", 0, part), rest)
        case Fact.POSTED:
            return _booked(tx, ("post", -MINOR, MINOR), ("settle", 0, MINOR))
        case Fact.RELEASED | Fact.UNROUTABLE:
            return _booked(tx, ("release", -tx.held, 0), reason="why")
        case Fact.CANCELLED:
            return _booked(tx, ("release", -tx.held, 0)) if tx.held else f.Noted("cancelled")
        case Fact.REVERSED_IN_PART:
            part = min(max(left - 1, 0), 1 + pick % MINOR)
            return _booked(tx, ("reversal", 0, part), ("reversal", 0, part), command=f"c{tx.sequence}")
        case Fact.REVERSED_IN_FULL:
            return _booked(tx, ("reversal", 0, left), ("reversal", 0, left))
        case Fact.LEDGER_REFUSED:
            return f.Refused("insufficient_funds")
        case Fact.ROUTED | Fact.FAILED_OVER:
            return _routed(tx)
        case Fact.RAIL_CONFIRMED:
            return _reported(tx, "succeeded")
        case Fact.RAIL_DECLINED:
            return _reported(tx, "declined")
        case Fact.RAIL_REPEATED | Fact.RAIL_CONTRADICTED if tx.attempts:
            return _reported(tx, tx.attempts[-1].status, said="succeeded")
        case Fact.CASE_OPENED:
            return f.CaseNoted(f"case{pick % 3}", "kind")
        case Fact.CASE_RESOLVED:
            return f.CaseNoted(f"case{pick % 3}", "kind", resolution="dismissed")
        case Fact.DELIVERED | Fact.DELIVERY_RETRYING | Fact.DELIVERY_EXHAUSTED | Fact.ENDPOINT_DISABLED:
            return f.Delivered(f"d{pick % 3}", "hook", "ledger.posted", 1 + pick % 4)
        case Fact.ENDPOINT_ENABLED:
            return f.Delivered(f"d{pick % 3}", "hook", "ledger.posted", pick % 4, reason="asked", by="ada")
        case Fact.SEALED | Fact.AMENDED:
            return f.Closed(tx.sequence, tx.hash.hex())
        case _:
            return f.Noted("noted")


def _walk(picks: list[tuple[int, int, int]]) -> tuple[Transaction, list[Transition]]:
    tx, written = _opened()
    now = START
    for choice, pick, drift in picks:
        legal = [fact for state, fact in MOVES if state is tx.state]
        now += timedelta(microseconds=drift)
        fact = legal[choice % len(legal)]
        written.append(advance(tx, fact, facts_for(tx, fact, pick), actor="svc", now=now, cause=f"m{len(written)}"))
    return tx, written


PICKS: Final = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 1000), st.sampled_from([0, 0, 1, 7, -5_000_000])), max_size=40
)


@given(PICKS)
def test_what_is_restored_is_what_was_written(picks: list[tuple[int, int, int]]) -> None:
    tx, written = _walk(picks)
    assert restore([(transition.record, transition.hash) for transition in written]) == tx


@given(PICKS)
def test_sequences_have_no_gap_and_time_only_goes_forward(picks: list[tuple[int, int, int]]) -> None:
    _, written = _walk(picks)
    assert [transition.sequence for transition in written] == list(range(1, len(written) + 1))
    texts = [json.loads(transition.record)["at"] for transition in written]
    assert texts == [timestamp(transition.at) for transition in written]
    assert texts == sorted(set(texts))


@given(PICKS)
def test_the_chain_can_be_recomputed_from_the_records(picks: list[tuple[int, int, int]]) -> None:
    _, written = _walk(picks)
    link = GENESIS
    for transition in written:
        link = hashlib.sha256(link + transition.record).digest()
        assert transition.hash == link


@given(PICKS)
def test_every_record_is_canonical_and_says_who_where_when_and_why(picks: list[tuple[int, int, int]]) -> None:
    _, written = _walk(picks)
    before = None
    for number, transition in enumerate(written):
        record = canonical.decode(transition.record)
        assert set(record) == {
            "actor", "at", "cause", "event", "facts", "from", "intent", "intent_id", "scope", "sequence", "step",
            "tenant", "to", "trace",
        }  # fmt: skip
        assert record["actor"] == ("svc" if number else "dev")
        assert record["cause"]
        assert (record["from"], record["to"]) == (before, transition.state.lifecycle)
        assert record["step"] == transition.state.step
        assert record["event"] == transition.event == transition.move.topic
        before = record["to"]


@given(PICKS)
def test_held_posted_and_given_back_are_the_sums_of_the_entries(picks: list[tuple[int, int, int]]) -> None:
    tx, written = _walk(picks)
    entries = [entry for t in written for entry in json.loads(t.record)["facts"].get("entries", ())]
    assert tx.held == sum(int(entry["pending"]) for entry in entries)
    assert tx.posted == sum(int(entry["posted"]) for entry in entries if entry["posting"] in ("post", "book"))
    assert tx.given_back * 2 == sum(int(entry["posted"]) for entry in entries if entry["posting"] == "reversal")
    assert tx.ordinal == len(entries)
    assert (tx.held > 0) == (tx.state in (State.ROUTING, State.SUBMITTED, State.CONFIRMED, State.REFUSED))
    assert 0 <= tx.given_back <= tx.posted <= MINOR
    assert (tx.settled_at is not None) == (tx.state in SETTLED)


@pytest.mark.parametrize("state", list(State))
def test_an_illegal_fact_leaves_the_value_untouched(state: State) -> None:
    tx, _ = _opened()
    tx.state = state
    before = copy.deepcopy(tx)
    for fact in Fact:
        if (state, fact) not in MOVES:
            with pytest.raises(IllegalFact):
                advance(tx, fact, f.Noted("x"), actor="svc", now=START + timedelta(days=1), cause="m")
            assert tx == before


def _steps(*steps: tuple[Fact, Any]) -> Transaction:
    """Advance a new transaction; facts are given or made from the transaction."""
    tx, written = _opened()
    for fact, given_facts in steps:
        facts = facts_for(tx, fact, 0) if given_facts is None else given_facts(tx)
        written.append(advance(tx, fact, facts, actor="svc", now=START, cause="m"))
    assert restore([(transition.record, transition.hash) for transition in written]) == tx
    return tx


SENT: Final = ((Fact.POLICY_ACCEPTED, None), (Fact.RESERVED, None), (Fact.ROUTED, None))


# fmt: off
AMOUNTS: list[tuple[str, tuple[tuple[Fact, Any], ...], tuple[int, int, int]]] = [
    # after                 facts                                                                     held, posted, back
    ("a reserve",           SENT[:2],                                                                 (1000, 0, 0)),
    ("a book transfer",     (SENT[0], (Fact.BOOKED, None)),                                           (0, 1000, 0)),
    ("a route",             SENT,                                                                     (1000, 0, 0)),
    ("a confirmation",      (*SENT, (Fact.RAIL_CONFIRMED, None)),                                     (1000, 0, 0)),
    ("a post",              (*SENT, (Fact.RAIL_CONFIRMED, None), (Fact.POSTED, None)),                (0, 1000, 0)),
    ("a part captured",     (*SENT, (Fact.RAIL_CONFIRMED, None),
                             (Fact.POSTED, lambda tx: facts_for(tx, Fact.POSTED, 399))),              (0, 400, 0)),
    ("a release",           (*SENT, (Fact.RAIL_DECLINED, None), (Fact.RELEASED, None)),               (0, 0, 0)),
    ("no rail",             (*SENT[:2], (Fact.UNROUTABLE, None)),                                     (0, 0, 0)),
    ("a cancellation",      (*SENT[:2], (Fact.CANCELLED, None)),                                      (0, 0, 0)),
    ("a part given back",   (*SENT, (Fact.RAIL_CONFIRMED, None), (Fact.POSTED, None),
                             (Fact.REVERSED_IN_PART, lambda tx: facts_for(tx, Fact.REVERSED_IN_PART, 299))),
                                                                                                      (0, 1000, 300)),
    ("all given back",      (*SENT, (Fact.RAIL_CONFIRMED, None), (Fact.POSTED, None),
                             (Fact.REVERSED_IN_PART, None), (Fact.REVERSED_IN_FULL, None)),           (0, 1000, 1000)),
    ("one leg given back",  (SENT[0], (Fact.BOOKED, None),
                             (Fact.REVERSED_IN_FULL, lambda tx: _booked(tx, ("reversal", 0, 1000)))), (0, 1000, 1000)),
]
# fmt: on


@pytest.mark.parametrize(("name", "steps", "amounts"), AMOUNTS)
def test_amounts_after_every_kind_of_entry(
    name: str, steps: tuple[tuple[Fact, Any], ...], amounts: tuple[int, int, int]
) -> None:
    tx = _steps(*steps)
    assert (tx.held, tx.posted, tx.given_back) == amounts, name


def test_a_clock_that_stands_still_or_jumps_back_is_outrun_by_a_microsecond() -> None:
    tx, written = _opened()
    for now in (START, START - timedelta(hours=1), START + timedelta(seconds=1), START):
        written.append(advance(tx, Fact.CASE_OPENED, f.CaseNoted("c", "k"), actor="svc", now=now, cause="m"))
    tick = timedelta(microseconds=1)
    later = START + timedelta(seconds=1)
    assert [transition.at for transition in written] == [START, START + tick, START + 2 * tick, later, later + tick]


def test_a_failover_remembers_that_the_rail_before_it_did_not_accept() -> None:
    tx = _steps(*SENT, (Fact.FAILED_OVER, None), (Fact.FAILED_OVER, None))
    assert [attempt.status for attempt in tx.attempts] == ["not_accepted", "not_accepted", "started"]


def test_a_contradicted_refusal_no_longer_counts_as_one() -> None:
    def late_success(tx: Transaction) -> f.Reported:
        return f.Reported("rail1", 1, f"{INTENT}01", "not_accepted", "direct", said="succeeded")

    tx = _steps(*SENT, (Fact.FAILED_OVER, None), (Fact.RAIL_CONTRADICTED, late_success))
    assert [attempt.status for attempt in tx.attempts] == ["contradicted", "started"]


def test_a_report_that_changes_nothing_keeps_the_first_outcome() -> None:
    contradiction = (Fact.RAIL_CONTRADICTED, lambda tx: _reported(tx, "succeeded", said="declined"))
    tx = _steps(*SENT, (Fact.RAIL_CONFIRMED, None), contradiction, (Fact.POSTED, None), contradiction)
    assert tx.attempts[-1].status == "succeeded"


def test_a_second_approval_keeps_what_the_first_waived() -> None:
    def referred(rule: str) -> Any:
        return lambda tx: f.Judged("review", 1, "00", "manual", {rule: "review"})

    tx = _steps(
        (Fact.JUDGING_BEGUN, None),
        (Fact.POLICY_REFERRED, referred("first")),
        (Fact.APPROVED, None),
        (Fact.POLICY_REFERRED, referred("second")),
        (Fact.APPROVED, None),
    )
    assert (tx.waives, tx.round) == (("first", "second"), 2)


def test_deliveries_that_were_made_are_open_until_a_record_ends_them() -> None:
    tx, written = _opened()
    for fact, delivery in ((Fact.DELIVERED, "a"), (Fact.DELIVERY_RETRYING, "b"), (Fact.DELIVERY_EXHAUSTED, "c")):
        facts = f.Delivered(delivery, "hook", "e", 1)
        written.append(advance(tx, fact, facts, actor="svc", now=START, cause="m"))
    rows = [(transition.record, transition.hash) for transition in written]
    assert restore(rows, frozenset("abcd")).deliveries_open == {"b", "d"}


def test_a_time_is_written_in_utc_whatever_zone_it_came_in() -> None:
    lagos = datetime(2026, 4, 1, 13, 0, 0, 5, tzinfo=timezone(timedelta(hours=1)))
    assert timestamp(lagos) == "2026-04-01T12:00:00.000005Z"


@pytest.mark.parametrize("skip", [0, 1])
def test_records_that_do_not_begin_with_a_registration_are_refused(skip: int) -> None:
    tx, written = _opened()
    written.append(advance(tx, Fact.JUDGING_BEGUN, f.Noted(), actor="svc", now=START, cause="m"))
    rows = [(transition.record, transition.hash) for transition in written][1:]
    with pytest.raises(ValueError, match="start with its registration"):
        restore(rows if skip else [])


def test_a_rail_that_was_left_did_not_accept_also_where_the_decision_does_not_name_it() -> None:
    def silent(tx: Transaction) -> f.Routed:
        facts = _routed(tx)
        return structs.replace(facts, considered={facts.rail: "chosen"})

    tx = _steps(*SENT, (Fact.FAILED_OVER, silent))
    assert [attempt.status for attempt in tx.attempts] == ["not_accepted", "started"]
