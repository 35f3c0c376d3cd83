"""Faults to plant on a tape: rails and deliveries."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import structs

from tests.simulation.auditor_plants import plant
from tests.simulation.auditor_tape import Call, Tape
from zentra.bench.simulation.auditor import Auditor
from zentra.runtime.messages import RailReported, decode_frame, encode_frame
from zentra.runtime.ports import TickWrites
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome, Submission
from zentra.runtime.stream_ports import Outgoing
from zentra.runtime.webhooks.delivery import Delivery, DeliveryState

__all__: list[str] = []

MORE = "e" * 32


def reference_of(tape: Tape, who: str, attempt: int = 1) -> str:
    return f"{tape.names[who]}{attempt:02d}"


# What rails are asked and what they pay -------------------------------------------------------------------------------


def asked_of(tape: Tape, who: str) -> tuple[int, Submission]:
    """Return where a rail was first asked for an intent, and for what."""
    at = tape.place("asked", lambda submission: submission.reference == reference_of(tape, who))
    submission = tape.calls[at].args[0]
    assert isinstance(submission, Submission)
    return at, submission


def ask(tape: Tape, **changes: Any) -> None:
    """Let the first call to a rail be another one."""
    at, submission = asked_of(tape, "happy")
    tape.calls[at] = Call("asked", (structs.replace(submission, **changes),))


@plant("O")
def a_call_to_a_rail_for_no_intent(tape: Tape) -> None:
    ask(tape, reference="f" * 32 + "01")


@plant("O")
def a_call_to_a_rail_without_an_attempt(tape: Tape) -> None:
    ask(tape, reference=reference_of(tape, "happy", 2))


@plant("O")
def a_call_to_a_rail_that_was_not_chosen(tape: Tape) -> None:
    ask(tape, rail="beta")


@plant("Q")
def a_call_to_a_rail_before_approval(tape: Tape) -> None:
    at = tape.place("committed", lambda w, p, writes, g: any(t.event == "review.approved" for t in writes.transitions))
    _, submission = asked_of(tape, "reviewed")
    tape.put_before(at, "asked", submission)


@plant("M")
def a_call_to_a_rail_for_another_tenant(tape: Tape) -> None:
    ask(tape, tenant="globex")


@plant("A")
def a_call_to_a_rail_for_another_amount(tape: Tape) -> None:
    ask(tape, minor=1)


@plant("O")
def a_second_call_to_a_rail_that_pays_each_time(tape: Tape) -> None:
    rails = {name: structs.replace(rail, idempotent_references=False) for name, rail in tape.setting.rails.items()}
    tape.setting = structs.replace(tape.setting, rails=rails)
    at, submission = asked_of(tape, "happy")
    tape.put_before(at, "asked", submission)


@plant("N")
def a_second_call_to_a_rail_after_the_deadline(tape: Tape) -> None:
    at, submission = asked_of(tape, "happy")

    def much_later(auditor: Auditor) -> None:
        attempt = auditor.histories[tape.names["happy"]].attempts[0]
        assert attempt.deadline is not None
        auditor.rails.now = attempt.deadline + timedelta(seconds=66)

    tape.put_before(at + 1, "asked", submission)
    tape.put_before(at + 1, "then", much_later)


@plant("N")
def a_second_call_to_a_rail_beside_the_case_about_it(tape: Tape) -> None:
    at, submission = asked_of(tape, "happy")

    def a_person_is_asked(auditor: Auditor) -> None:
        auditor.histories[tape.names["happy"]].cases["a" * 32] = "provider_outcome_unknown"

    tape.put_before(at + 1, "asked", submission)
    tape.put_before(at + 1, "then", a_person_is_asked)


@plant("O")
def a_payment_that_nobody_asked_for(tape: Tape) -> None:
    tape.put_before(0, "paid", "alpha", reference_of(tape, "happy"), 125_000)


@plant("O")
def a_second_payment_by_the_same_rail(tape: Tape) -> None:
    tape.add("paid", "alpha", reference_of(tape, "happy"), 125_000)


@plant("O")
def a_payment_by_a_second_rail(tape: Tape) -> None:
    for attempt in (1, 2):
        tape.add("paid", "alpha", reference_of(tape, "left", attempt), 125_000)


@plant("A")
def a_payment_of_another_amount(tape: Tape) -> None:
    at, _ = asked_of(tape, "happy")
    tape.put_before(at + 1, "paid", "alpha", reference_of(tape, "happy"), 1)


@plant("N")
def a_payment_of_what_was_released(tape: Tape) -> None:
    tape.add("paid", "beta", reference_of(tape, "left", 2), 125_000)


# What rails say -------------------------------------------------------------------------------------------------------


def silence(tape: Tape, who: str, attempt: int = 1) -> None:
    """Let what a rail said of an attempt never have been said."""
    reference = reference_of(tape, who, attempt)

    def tells(message: Outgoing) -> bool:
        if not message.subject.endswith(".callback"):
            return False
        events = decode_frame(message.body)
        return any(isinstance(event, RailReported) and event.outcome.reference == reference for event in events)

    tape.calls = [call for call in tape.calls if not (call.name == "published" and tells(call.args[0]))]


def say(tape: Tape, at: int, who: str, status: str, **changes: Any) -> None:
    """Let a rail say one thing more."""
    outcome = structs.replace(
        RailOutcome("alpha", reference_of(tape, who), OutcomeStatus(status), 125_000, "NGN"), **changes
    )
    body = encode_frame([RailReported(outcome, f"poll/{outcome.reference}/{at}")])
    tape.put_before(at, "published", Outgoing("zc.1.callback", body, MORE))


@plant("N")
def a_record_of_a_refusal_that_no_rail_has_said(tape: Tape) -> None:
    silence(tape, "left")


@plant("N")
def a_second_rail_while_nothing_is_known_of_the_first(tape: Tape) -> None:
    silence(tape, "left")
    say(tape, asked_of(tape, "left")[0] + 1, "left", "unknown", minor=None, currency=None)
    writes = tape.at("left", "provider.failover")
    at = next(i for i, t in enumerate(writes.transitions) if tape._is(t, "left", "provider.failover"))
    facts = {"said": "unknown", "status": "started", "minor": None, "currency": None, "trust": "direct"}
    told = writes.transitions[at - 1] = tape._sealed(writes.transitions[at - 1], facts, {})
    writes.transitions[at] = tape._sealed(writes.transitions[at], {}, {}, after=told.hash)


@plant("N")
def a_second_rail_after_the_first_has_paid(tape: Tape) -> None:
    at, submission = asked_of(tape, "left")
    tape.put_before(at + 1, "paid", submission.rail, submission.reference, submission.minor)


@plant("N")
def a_second_rail_because_of_a_refusal_that_may_be_of_a_second_submission(tape: Tape) -> None:
    at, submission = asked_of(tape, "left")
    tape.put_before(at + 1, "asked", submission)


@plant("N")
def a_release_that_no_rail_gave_reason_for(tape: Tape) -> None:
    silence(tape, "declined")


@plant("N")
def a_success_that_no_rail_has_told_of(tape: Tape) -> None:
    silence(tape, "happy")


@plant("N")
def a_release_because_nothing_is_known(tape: Tape) -> None:
    tape.rewrite("declined", "provider.callback", {"said": "unknown", "status": "unknown"})


@plant("N")
def a_success_because_the_rail_declined(tape: Tape) -> None:
    tape.rewrite("happy", "provider.callback", {"said": "declined"})


@plant("N")
def an_outcome_of_a_rail_that_was_left(tape: Tape) -> None:
    facts = {"attempt": 1, "rail": "alpha", "reference": reference_of(tape, "left")}
    tape.rewrite("left", "provider.callback", facts)


@plant("N")
def an_operators_word_that_nobody_gave(tape: Tape) -> None:
    tape.rewrite("happy", "provider.callback", {"trust": "operator"})


@plant("I")
def a_success_with_another_amount(tape: Tape) -> None:
    tape.rewrite("happy", "provider.callback", {"minor": "124999"})


@plant("J")
def a_callback_of_an_attempt_that_there_is_not(tape: Tape) -> None:
    tape.rewrite("happy", "provider.callback", {"attempt": 2})


@plant("O")
def an_attempt_under_the_reference_of_another(tape: Tape) -> None:
    tape.rewrite("happy", "provider.routed", {"reference": reference_of(tape, "happy", 2)})


@plant("I")
def a_callback_that_is_recorded_twice(tape: Tape) -> None:
    rows = tape.fleet.store.rows.transitions[tape.names["twice"]]
    told = [row for row in rows if row.event == "provider.callback"]
    first, again = [row for row in told if json.loads(row.record)["facts"]["event_id"] is not None][:2]
    facts = {"event_id": json.loads(first.record)["facts"]["event_id"]}
    writes = tape.commit(lambda writes: again in writes.transitions)
    writes.transitions[writes.transitions.index(again)] = tape._sealed(again, facts, {})


@plant("I")
def a_contradiction_without_a_case(tape: Tape) -> None:
    say(tape, len(tape.calls), "happy", "declined")


@plant("I")
def another_amount_without_a_case(tape: Tape) -> None:
    say(tape, len(tape.calls), "happy", "succeeded", minor=1)


@plant("I")
def a_case_without_a_contradiction(tape: Tape) -> None:
    def opened(auditor: Auditor) -> None:
        auditor.histories[tape.names["happy"]].opened.append("provider_contradiction")

    tape.add("then", opened)


@plant("I")
def a_failure_although_the_rail_says_nothing_but_success(tape: Tape) -> None:
    def finished(auditor: Auditor) -> None:
        history = auditor.histories[tape.names["happy"]]
        history.state = "FAILED"
        auditor.rails.finish(history, set())

    tape.add("then", finished)


@plant("I")
def a_second_open_case_of_one_kind(tape: Tape) -> None:
    facts = {"kind": "case", "case": "c" * 32, "reason": "provider_contradiction"}
    tape.forge("clash", facts, event="case.opened", cause="somebody")


@plant("I")
def a_resolution_of_a_case_that_is_not_open(tape: Tape) -> None:
    tape.rewrite("stuck", "case.resolved", {"case": "c" * 32})


# Deliveries -----------------------------------------------------------------------------------------------------------


def delivery_in(tape: Tape, **changes: Any) -> TickWrites:
    """Return the writes of the first commit that makes a delivery, changed so."""
    writes = tape.commit(lambda writes: bool(writes.deliveries))
    made, sequence = writes.deliveries[0]
    writes.deliveries[0] = (structs.replace(made, **changes), sequence)
    return writes


def standing_in(tape: Tape, state: DeliveryState, **changes: Any) -> tuple[TickWrites, str]:
    """Return the writes of the first commit after which a delivery stands so, changed so, and the delivery."""
    writes = tape.commit(lambda writes: any(d.state is state for d, _ in writes.delivery_states.values()))
    key = next(key for key, (d, _) in writes.delivery_states.items() if d.state is state)
    delivery, at = writes.delivery_states[key]
    writes.delivery_states[key] = (structs.replace(delivery, **changes), at)
    return writes, key


@plant("M")
def a_delivery_to_another_tenant(tape: Tape) -> None:
    delivery_in(tape, tenant="globex")


@plant("P")
def a_delivery_that_is_made_twice(tape: Tape) -> None:
    writes = delivery_in(tape)
    writes.deliveries.append(writes.deliveries[0])


@plant("P")
def a_delivery_to_an_endpoint_that_did_not_ask(tape: Tape) -> None:
    writes = delivery_in(tape)
    made, sequence = writes.deliveries[0]
    writes.deliveries.append((structs.replace(made, id=MORE, endpoint="other"), sequence))


@plant("P")
def a_delivery_that_is_missing(tape: Tape) -> None:
    delivery_in(tape).deliveries.pop()


@plant("P")
def a_delivery_of_another_version(tape: Tape) -> None:
    writes = delivery_in(tape)
    made, sequence = writes.deliveries[0]
    body = msgspec.json.decode(made.body)
    body["data"]["object_version"] += 1
    writes.deliveries[0] = (structs.replace(made, body=msgspec.json.encode(body)), sequence)


@plant("O")
def a_delivery_that_begins_twice(tape: Tape) -> None:
    key = next(iter(tape.commit(lambda writes: bool(writes.deliveries_begun)).deliveries_begun))
    more = tape.commit(lambda writes: bool(writes.deliveries_begun) and key not in writes.deliveries_begun)
    more.deliveries_begun.add(key)


@plant("O")
def a_delivery_that_stands_without_having_begun(tape: Tape) -> None:
    writes = tape.commit(lambda writes: bool(writes.deliveries_begun))
    writes.deliveries_begun.clear()


@plant("G")
def an_attempt_that_ends_twice(tape: Tape) -> None:
    writes = tape.commit(lambda writes: bool(writes.delivery_attempts))
    writes.delivery_attempts.append(writes.delivery_attempts[0])


@plant("G")
def an_attempt_that_was_never_started(tape: Tape) -> None:
    writes = tape.commit(lambda writes: bool(writes.delivery_attempts))
    key, _, *rest = writes.delivery_attempts[0]
    writes.delivery_attempts[0] = (key, 7, *rest)


@plant("J")
def a_delivery_without_an_attempt(tape: Tape) -> None:
    writes, _ = standing_in(tape, DeliveryState.DELIVERED)
    writes.delivery_attempts.clear()


@plant("J")
def a_delivery_that_its_endpoint_has_not_taken(tape: Tape) -> None:
    writes, _ = standing_in(tape, DeliveryState.DELIVERED)
    writes.delivery_attempts[:] = [(*row[:5], 503, *row[6:]) for row in writes.delivery_attempts]


@plant("J")
def a_delivery_that_is_ended_by_an_attempt_from_before_its_replay(tape: Tape) -> None:
    writes, key = standing_in(tape, DeliveryState.DELIVERED)
    writes.delivery_states[key][0].tries = 0


@plant("J")
def a_delivery_that_has_ended_and_goes_on(tape: Tape) -> None:
    _, key = standing_in(tape, DeliveryState.DELIVERED)
    writes = tape.at("happy", "evidence.amended")
    writes.delivery_states[key] = (structs.replace(made(tape, key), state=DeliveryState.RETRYING, attempts=1), None)


@plant("P")
def a_delivery_that_counts_its_attempts_back(tape: Tape) -> None:
    _, key = standing_in(tape, DeliveryState.DELIVERED)
    writes = tape.at("happy", "evidence.amended")
    writes.delivery_states[key] = (
        structs.replace(made(tape, key), state=DeliveryState.PENDING, attempts=0, trigger="replay"), None,
    )  # fmt: skip


def made(tape: Tape, key: str) -> Delivery:
    return tape.fleet.store.rows.deliveries[key]


def call(tape: Tape, at: int, tenant: str = "acme", **changes: Any) -> None:
    """Let the first call to an endpoint be another one."""
    _, endpoint, made_call = tape.calls[at].args
    tape.calls[at] = Call("called", (tenant, endpoint, structs.replace(made_call, **changes)))


def first_call(tape: Tape) -> int:
    return tape.place("called", lambda tenant, endpoint, call: True)


@plant("O")
def a_call_to_an_endpoint_that_was_not_committed(tape: Tape) -> None:
    call(tape, first_call(tape), attempt=2)


@plant("M")
def a_call_to_the_endpoint_of_another_tenant(tape: Tape) -> None:
    call(tape, first_call(tape), tenant="globex")


@plant("P")
def a_call_with_other_bytes(tape: Tape) -> None:
    call(tape, first_call(tape), body=b"{}")


@plant("P")
def a_stored_delivery_that_is_lost(tape: Tape) -> None:
    tape.rows.deliveries.popitem()


@plant("P")
def a_stored_delivery_that_stands_elsewhere(tape: Tape) -> None:
    next(iter(tape.rows.delivery_states.values())).attempts += 1


@plant("T")
def a_delivery_that_has_not_ended(tape: Tape) -> None:
    tape.rows.deliveries[MORE] = structs.replace(next(iter(tape.rows.deliveries.values())), id=MORE)

    def never_begun(auditor: Auditor) -> None:
        auditor.deliveries._made[MORE] = tape.rows.deliveries[MORE]

    tape.add("then", never_begun)
