"""Faults to plant on a tape, each with the letter of the invariant that it breaks: claims, strangers, polls."""

from __future__ import annotations

from datetime import timedelta

from msgspec import structs

from tests.simulation.auditor_plants import plant
from tests.simulation.auditor_plants_outside import reference_of, say
from tests.simulation.auditor_tape import Tape
from zentra.bench.simulation.auditor import Auditor
from zentra.runtime.ports import Timer
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome

__all__: list[str] = []


@plant("N")
def a_payment_because_of_a_claim(tape: Tape) -> None:
    tape.rewrite("happy", "provider.callback", {"trust": "shared_secret"})


@plant("N")
def a_release_because_of_a_word_that_proves_nothing(tape: Tape) -> None:
    tape.rewrite("declined", "provider.callback", {"trust": "none"})


@plant("N")
def a_second_rail_because_of_a_claim(tape: Tape) -> None:
    reference = reference_of(tape, "left")

    def only_claimed(auditor: Auditor) -> None:
        heard = auditor.rails._heard[reference]
        auditor.rails._heard[reference] = {structs.replace(word, trust="none") for word in heard}

    left = tape.names["left"]
    at = tape.place(
        "committed",
        lambda w, p, writes, g: any((t.intent, t.event) == (left, "provider.failover") for t in writes.transitions),
    )
    tape.put_before(at, "then", only_claimed)


@plant("I")
def a_claim_that_the_rail_belies_without_a_case(tape: Tape) -> None:
    say(tape, len(tape.calls), "happy", "declined", trust="shared_secret")


@plant("T")
def a_callback_that_everybody_forgets(tape: Tape) -> None:
    outcome = RailOutcome("alpha", "stranger", OutcomeStatus.SUCCEEDED, event_id="e9", trust="body_signed")
    tape.add("then", lambda auditor: auditor.callbacks.said(outcome))


@plant("I")
def two_open_cases_about_one_rail(tape: Tape) -> None:
    def finished(auditor: Auditor) -> None:
        history = auditor.histories[tape.names["clash"]]
        history.cases = {"a" * 32: "provider_contradiction", "b" * 32: "provider_outcome_unknown"}
        auditor.callbacks.finish(tape.fleet.store, {history.id: history}, auditor.desk.claimed, tape.now)

    tape.add("then", finished)


@plant("T")
def a_rail_that_nobody_asks_any_more(tape: Tape) -> None:
    def finished(auditor: Auditor) -> None:
        history = auditor.histories[tape.names["happy"]]
        history.state = "AWAITING_PROVIDER/submitted"
        key = ("intent", history.id, "state")
        tape.rows.timers[key] = Timer(*key, 1, "acme", tape.now + timedelta(hours=2))
        store = tape.fleet.store
        kept, store.rows = store.rows, tape.rows
        try:
            auditor.callbacks.finish(store, {history.id: history}, auditor.desk.claimed, tape.now)
        finally:
            store.rows = kept

    tape.add("then", finished)


def called_back(tape: Tape, who: str, status: str) -> RailOutcome:
    """Return what a callback says of the first attempt of an intent."""
    return RailOutcome("alpha", reference_of(tape, who), OutcomeStatus(status), event_id="e9", trust="body_signed")


@plant("T")
def a_callback_that_says_pending_and_leaves_no_trace(tape: Tape) -> None:
    outcome = called_back(tape, "happy", "pending")

    def finished(auditor: Auditor) -> None:
        auditor.callbacks.said(outcome)
        history = auditor.histories[tape.names["happy"]]
        history.attempts[0].words.discard("pending")
        claimed = {**auditor.desk.claimed, ("alpha", "e9"): ("acme", history.id)}
        auditor.callbacks.finish(tape.fleet.store, {history.id: history}, claimed, tape.now)

    tape.add("then", finished)


@plant("N")
def a_second_rail_after_the_first_took_the_payment(tape: Tape) -> None:
    left = tape.names["left"]
    at = tape.place(
        "committed",
        lambda w, p, writes, g: any((t.intent, t.event) == (left, "provider.failover") for t in writes.transitions),
    )
    tape.put_before(at, "then", lambda auditor: auditor.histories[left].attempts[0].words.add("pending"))


@plant("I")
def a_word_that_nobody_knows_after_the_end_without_a_case(tape: Tape) -> None:
    def finished(auditor: Auditor) -> None:
        history = auditor.histories[tape.names["happy"]]
        auditor.callbacks._strange.add(history.id)
        auditor.callbacks.finish(tape.fleet.store, {history.id: history}, auditor.desk.claimed, tape.now)

    tape.add("then", finished)


@plant("T")
def a_word_of_another_rail_without_a_case(tape: Tape) -> None:
    outcome = RailOutcome(
        "beta", reference_of(tape, "happy"), OutcomeStatus.DECLINED, event_id="e9", trust="body_signed"
    )

    def finished(auditor: Auditor) -> None:
        auditor.callbacks.said(outcome)
        claimed = {**auditor.desk.claimed, ("beta", "e9"): ("acme", tape.names["happy"])}
        auditor.callbacks.finish(tape.fleet.store, auditor.histories, claimed, tape.now)

    tape.add("then", finished)


# Cases, and the people who resolve them -------------------------------------------------------------------------------


@plant("I")
def two_payments_that_nobody_is_told_of(tape: Tape) -> None:
    def finished(auditor: Auditor) -> None:
        history = auditor.histories[tape.names["clash"]]
        history.cases, history.doubled = {}, history.looked + 1
        auditor.callbacks.finish(tape.fleet.store, {history.id: history}, auditor.desk.claimed, tape.now)

    tape.add("then", finished)


@plant("N")
def a_release_on_the_word_about_a_rail_that_was_left_while_the_next_is_unknown(tape: Tape) -> None:
    facts = {"attempt": 1, "rail": "alpha", "reference": reference_of(tape, "left"), "trust": "operator"}
    tape.rewrite("left", "provider.callback", facts)


@plant("N")
def a_persons_word_about_another_attempt_than_the_case(tape: Tape) -> None:
    def elsewhere(auditor: Auditor) -> None:
        auditor.histories[tape.names["stuck"]].about[tape.names["case"]] = 2

    stuck = tape.names["stuck"]
    at = tape.place(
        "committed",
        lambda w, p, writes, g: any((t.intent, t.event) == (stuck, "case.resolved") for t in writes.transitions),
    )
    tape.put_before(at, "then", elsewhere)


@plant("I")
def a_case_about_an_attempt_that_there_is_not(tape: Tape) -> None:
    tape.rewrite("stuck", "case.opened", {"attempt": 2})


@plant("I")
def a_contradiction_of_which_nobody_has_said_anything(tape: Tape) -> None:
    tape.rewrite("stuck", "case.opened", {"reason": "provider_contradiction"})
