"""Faults to plant on a tape: reviews, cases, timers, commands, the evidence log, and what is left at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from msgspec import structs

from tests.simulation.auditor_plants import plant
from tests.simulation.auditor_tape import Call, Tape
from zentra.bench.simulation.auditor import Auditor
from zentra.bench.twins.fleet import START
from zentra.runtime.evidence.history import SigningKey
from zentra.runtime.evidence.merkle import Frontier
from zentra.runtime.evidence.packet import Verdict
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.ports import TickWrites, Timer

__all__: list[str] = []

MORE = "e" * 32


# Reviews, cases and timers --------------------------------------------------------------------------------------------


@plant("T")
def an_intent_that_waits_without_a_timer(tape: Tape) -> None:
    key = ("intent", tape.names["happy"], "state")
    writes = tape.at("happy", "ledger.reserved")
    writes.timers_set.pop(key, None)
    writes.timers_cleared.add(key)


@plant("T")
def a_review_that_nobody_can_see(tape: Tape) -> None:
    tape.at("reviewed", "policy.review").reviews_opened.clear()


@plant("K")
def a_review_that_stays_open_after_its_decision(tape: Tape) -> None:
    tape.at("reviewed", "review.approved").reviews_closed.clear()


@plant("K")
def a_review_that_ends_twice(tape: Tape) -> None:
    writes = tape.at("reviewed", "review.approved")
    writes.reviews_closed.append(writes.reviews_closed[0])


@plant("T")
def a_case_that_nobody_can_see(tape: Tape) -> None:
    tape.at("stuck", "case.opened").cases_opened.clear()


@plant("T")
def a_case_that_stays_open_after_its_resolution(tape: Tape) -> None:
    tape.at("stuck", "case.resolved").cases_resolved.clear()


@plant("M")
def a_case_at_the_desk_of_another_tenant(tape: Tape) -> None:
    writes = tape.at("stuck", "case.opened")
    writes.cases_opened[0] = structs.replace(writes.cases_opened[0], tenant="globex")


@plant("T")
def a_case_that_its_intent_does_not_know(tape: Tape) -> None:
    writes = tape.at("stuck", "case.opened")
    writes.cases_opened.append(structs.replace(writes.cases_opened[0], id=MORE))


@plant("T")
def a_stored_timer_that_is_lost(tape: Tape) -> None:
    timer = Timer("intent", MORE, "state", 1, "acme", tape.now + timedelta(days=1))
    tape.rows.timers[timer.kind, timer.key, timer.name] = timer


@plant("T")
def a_stored_review_that_is_open_again(tape: Tape) -> None:
    tape.rows.reviews[tape.names["reviewed"]]["status"] = "open"


@plant("T")
def a_stored_case_that_is_lost(tape: Tape) -> None:
    tape.rows.cases.popitem()


@plant("T")
def a_case_that_was_closed_without_its_intent(tape: Tape) -> None:
    case = next(k for k, file in tape.rows.cases.items() if file.row.intent == tape.names["clash"])
    writes = tape.commit(lambda writes: any(row.id == case for row in writes.cases_opened))
    writes.cases_resolved.append((case, "ops", {}, tape.now, "acme"))
    tape.rows.cases[case].status = "resolved"


# Commands -------------------------------------------------------------------------------------------------------------


def answer_in(tape: Tape, command: str) -> TickWrites:
    """Return the writes of the commit that answers a command."""
    key = tape.names[command]
    return tape.commit(lambda writes: any(row[0] == key for row in writes.command_outcomes))


def answered(tape: Tape, which: str, **changes: Any) -> None:
    """Change the answer to a command."""
    writes = answer_in(tape, which)
    names = ("command", "tenant", "accepted", "code", "detail", "at")
    for at, row in enumerate(writes.command_outcomes):
        if row[0] == tape.names[which]:
            told = dict(zip(names, row, strict=True)) | changes
            writes.command_outcomes[at] = tuple(told.values())


@plant("G")
def a_command_that_is_answered_twice(tape: Tape) -> None:
    writes = answer_in(tape, "reverse happy")
    writes.command_outcomes.append(writes.command_outcomes[0])


@plant("O")
def an_answer_to_a_command_that_nobody_gave(tape: Tape) -> None:
    answered(tape, "cancel happy", command=MORE)


@plant("M")
def an_answer_to_another_tenant(tape: Tape) -> None:
    answered(tape, "cancel happy", tenant="globex")


@plant("F")
def a_refused_command_that_acts(tape: Tape) -> None:
    answered(tape, "reverse happy", accepted=False)


@plant("G")
def a_command_that_acts_without_an_answer(tape: Tape) -> None:
    writes = answer_in(tape, "reverse happy")
    writes.command_outcomes[:] = [row for row in writes.command_outcomes if row[0] != tape.names["reverse happy"]]


@plant("M")
def a_command_on_the_intent_of_another_tenant(tape: Tape) -> None:
    def given(auditor: Auditor) -> None:
        commands = auditor.messages.commands
        commands[tape.names["reverse happy"]] = structs.replace(commands[tape.names["reverse happy"]], tenant="globex")

    answered(tape, "reverse happy", tenant="globex")
    key = tape.names["reverse happy"]
    at = tape.place("committed", lambda w, p, writes, g: any(row[0] == key for row in writes.command_outcomes))
    tape.put_before(at, "then", given)


@plant("G")
def a_callback_that_is_claimed_for_two_intents(tape: Tape) -> None:
    writes = tape.commit(lambda writes: bool(writes.callbacks_claimed))
    rail, event, tenant, _ = writes.callbacks_claimed[0]
    writes.callbacks_claimed.append((rail, event, tenant, MORE))


@plant("G")
def a_stored_answer_that_is_lost(tape: Tape) -> None:
    tape.rows.command_outcomes.popitem()


# The evidence log -----------------------------------------------------------------------------------------------------


def leaf_in(tape: Tape, place: int, value: Any) -> TickWrites:
    """Change one field of the first leaf: tenant, index, intent, data, hash."""
    writes = tape.commit(lambda writes: bool(writes.leaves))
    leaf: list[Any] = list(writes.leaves[0])
    leaf[place] = value
    writes.leaves[0] = (leaf[0], leaf[1], leaf[2], leaf[3], leaf[4])
    return writes


def sealing(tape: Tape, change: Callable[[bytes], bytes]) -> None:
    """Change the data of the first leaf, and hash it anew."""
    data = change(tape.commit(lambda writes: bool(writes.leaves)).leaves[0][3])
    leaf_in(tape, 3, data)
    leaf_in(tape, 4, hashlib.sha256(b"\x00" + data).digest())


@plant("M")
def a_leaf_of_no_intent_of_the_tenant(tape: Tape) -> None:
    leaf_in(tape, 2, MORE)


@plant("S")
def a_leaf_that_leaves_a_place_free(tape: Tape) -> None:
    leaf_in(tape, 1, 1)


@plant("S")
def a_leaf_with_another_hash(tape: Tape) -> None:
    leaf_in(tape, 4, bytes(32))


@plant("S")
def a_leaf_over_records_that_were_not_closed(tape: Tape) -> None:
    sealing(tape, lambda data: data.replace(b'"records":', b'"records":9'))


@plant("S")
def a_leaf_of_another_kind(tape: Tape) -> None:
    sealing(tape, lambda data: data.replace(b'"packet"', b'"addendum"'))


@plant("S")
def a_leaf_that_is_logged_twice(tape: Tape) -> None:
    writes = tape.commit(lambda writes: bool(writes.leaves))
    tenant, index, intent, data, link = writes.leaves[-1]
    writes.leaves.append((tenant, index + 1, intent, data, link))


@plant("S")
def a_tile_of_an_incomplete_tree(tape: Tape) -> None:
    tape.commit(lambda writes: bool(writes.leaves)).tiles.append(("acme", 8, 0, bytes(32)))


@plant("S")
def a_log_that_grows_without_a_head(tape: Tape) -> None:
    tape.commit(lambda writes: bool(writes.leaves)).heads.clear()


@plant("S")
def a_head_over_another_root(tape: Tape) -> None:
    writes = tape.commit(lambda writes: bool(writes.heads))
    writes.heads[0] = structs.replace(writes.heads[0], root=bytes(32))


@plant("S")
def a_head_by_a_key_before_its_time(tape: Tape) -> None:
    def rotated(auditor: Auditor) -> None:
        place, head = auditor.logs._heads.popitem()
        auditor.logs._heads[place] = structs.replace(head, key_id="key1")
        keys = (SigningKey("key", timestamp(START)), SigningKey("key1", timestamp(head.at + timedelta(seconds=1))))
        auditor.logs._signed_in_time(SimpleNamespace(current=SimpleNamespace(evidence_keys=keys)))  # type: ignore[arg-type]

    tape.add("then", rotated)


@plant("S")
def a_head_with_another_frontier(tape: Tape) -> None:
    writes = tape.commit(lambda writes: bool(writes.heads))
    frontier = Frontier(1, (bytes(32),))
    writes.heads[0] = structs.replace(writes.heads[0], frontier=frontier)


@plant("S")
def a_head_of_before_the_one_that_it_follows(tape: Tape) -> None:
    writes = tape.commit(lambda writes: bool(writes.heads) and writes.heads[0].size > 1)
    writes.heads[0] = structs.replace(writes.heads[0], at=writes.heads[0].at - timedelta(days=365))


@plant("S")
def a_stored_leaf_that_was_changed(tape: Tape) -> None:
    key, (intent, data, link) = next(iter(tape.rows.leaves.items()))
    tape.rows.leaves[key] = (intent, data + b" ", link)


@plant("S")
def a_stored_head_that_is_lost(tape: Tape) -> None:
    tape.rows.heads.popitem()


@plant("S")
def a_log_under_another_root_than_the_definition_gives(tape: Tape) -> None:
    def forgotten(auditor: Auditor) -> None:
        place, head = auditor.logs._heads.popitem()
        auditor.logs._heads[place] = tape.rows.heads[place] = structs.replace(head, root=bytes(32))

    tape.add("then", forgotten)


@plant("S")
def a_packet_that_is_not_in_the_log(tape: Tape) -> None:
    tape.add("then", lambda auditor: auditor.logs._places.popitem())


@plant("S")
def an_intent_whose_last_records_were_not_closed(tape: Tape) -> None:
    tape.add("then", lambda auditor: auditor.histories[tape.names["happy"]].seals.pop())


@plant("S")
def a_packet_whose_proof_is_of_another_leaf(tape: Tape) -> None:
    def exchanged(auditor: Auditor) -> None:
        places = auditor.logs._places
        first, second = list(places)[:2]
        places[first], places[second] = places[second], places[first]

    tape.add("then", exchanged)


@plant("S")
def a_verifier_that_believes_everything(tape: Tape) -> None:
    def believing(auditor: Auditor) -> None:
        auditor.logs.verify = lambda packet, key: Verdict(ok=True, integrity=True, completeness=True)

    tape.add("then", believing)


# The end --------------------------------------------------------------------------------------------------------------


@plant("O")
def a_stored_intent_that_nobody_registered(tape: Tape) -> None:
    tape.rows.transitions[MORE] = []


@plant("O")
def a_stored_intent_that_is_lost(tape: Tape) -> None:
    tape.rows.transitions.popitem()


@plant("S")
def a_stored_record_with_a_flipped_byte(tape: Tape) -> None:
    rows = tape.rows.transitions[tape.names["happy"]]
    rows[1] = structs.replace(rows[1], record=rows[1].record[:-2] + b"x}")


@plant("J")
def a_history_that_is_not_the_fold_of_its_records(tape: Tape) -> None:
    def forgotten(auditor: Auditor) -> None:
        auditor.histories[tape.names["happy"]].posted += 1

    tape.add("then", forgotten)


@plant("T")
def an_intent_that_waits_for_nobody(tape: Tape) -> None:
    end = tape.place("committed", lambda w, p, writes, g: any(t.event == "case.opened" for t in writes.transitions))

    def judged(auditor: Auditor) -> None:
        auditor.desk.finish(tape.fleet.store, auditor.histories, tape.now)

    tape.calls = [*tape.calls[:end], Call("then", (judged,))]


@plant("T")
def a_timer_that_is_overdue(tape: Tape) -> None:
    timer = Timer("delivery", MORE, "attempt", 1, "acme", tape.now)
    tape.rows.timers[timer.kind, timer.key, timer.name] = timer
    tape.add("then", lambda auditor: auditor.desk.timers.add(("delivery", MORE, "attempt")))
