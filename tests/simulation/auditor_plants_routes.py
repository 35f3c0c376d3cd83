"""Faults to plant on a tape: which rail is chosen, waited for, and given up."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import Any

from msgspec import structs

from tests.simulation.auditor_plants import plant
from tests.simulation.auditor_tape import CORRIDORS, Tape
from zentra.runtime.rails.operating import RailOperation

__all__: list[str] = []


def facts_of(tape: Tape, who: str, event: str) -> dict[str, Any]:
    """Return the facts of the first record of this event, to be changed."""
    row = next(t for t in tape.fleet.store.rows.transitions[tape.names[who]] if t.event == event)
    return dict(json.loads(row.record)["facts"])


def weigh(tape: Tape, who: str, event: str, rail: str, **changes: Any) -> None:
    """Let a decision have seen a rail otherwise; its word is the one that it says of it everywhere."""
    facts = copy.deepcopy(facts_of(tape, who, event))
    for row in facts["weighed"]:
        if row["rail"] == rail:
            row |= changes
            facts["considered"][rail] = row["word"]
    tape.rewrite(who, event, {"weighed": facts["weighed"], "considered": facts["considered"]})


def put_corridors(tape: Tape, name: str, **changes: Any) -> None:
    """Let a corridor be another one than that which was decided by."""
    changed = tuple(structs.replace(one, **changes) if one.name == name else one for one in CORRIDORS)
    tape.setting = structs.replace(tape.setting, corridors={"acme": changed})


@plant("R")
def a_corridor_that_does_not_carry_the_intent(tape: Tape) -> None:
    tape.rewrite("happy", "provider.routed", {"corridor": "zz"})


@plant("R")
def a_version_that_is_not_in_force(tape: Tape) -> None:
    tape.rewrite("happy", "provider.routed", {"version": 2})


@plant("R")
def a_decision_that_does_not_say_what_it_weighed(tape: Tape) -> None:
    tape.rewrite("happy", "provider.routed", {"weighed": facts_of(tape, "happy", "provider.routed")["weighed"][:1]})


@plant("R")
def a_rail_that_is_asked_while_it_is_drained(tape: Tape) -> None:
    tape.setting = structs.replace(tape.setting, operations={"alpha": RailOperation(draining=True)})


@plant("R")
def a_rail_that_is_left_out_for_an_amount_that_it_takes(tape: Tape) -> None:
    weigh(tape, "happy", "provider.routed", "beta", word="amount_mismatch")


@plant("R")
def a_rail_that_is_asked_while_its_circuit_is_open(tape: Tape) -> None:
    weigh(tape, "happy", "provider.routed", "alpha", circuit="open", calls=20, bad=20)


@plant("R")
def a_rail_that_is_left_out_while_its_circuit_is_closed(tape: Tape) -> None:
    weigh(tape, "happy", "provider.routed", "beta", word="circuit_open")


@plant("R")
def a_price_that_is_not_that_of_the_rail(tape: Tape) -> None:
    weigh(tape, "happy", "provider.routed", "alpha", cost="1")


@plant("R")
def a_rail_of_the_second_priority_before_one_of_the_first(tape: Tape) -> None:
    facts = copy.deepcopy(facts_of(tape, "happy", "provider.routed"))
    for row in facts["weighed"]:
        row["word"] = "chosen" if row["rail"] == "beta" else "not_needed"
    words = {row["rail"]: row["word"] for row in facts["weighed"]}
    tape.rewrite("happy", "provider.routed", {"rail": "beta", "weighed": facts["weighed"], "considered": words})


@plant("R")
def a_lot_that_another_rail_has_drawn(tape: Tape) -> None:
    ng = CORRIDORS[0]
    routes = (structs.replace(ng.routes[0], weight=0), structs.replace(ng.routes[1], priority=1))
    put_corridors(tape, "ng", routes=routes)
    weighed = facts_of(tape, "happy", "provider.routed")["weighed"]
    weighed[0] |= {"weight": 0}
    weighed[1] |= {"priority": 1}
    tape.rewrite("happy", "provider.routed", {"weighed": weighed})


@plant("R")
def an_intent_that_waits_for_a_rail_that_can_be_asked(tape: Tape) -> None:
    tape.setting = structs.replace(tape.setting, operations={})
    weigh(tape, "stranded", "provider.awaited", "gamma", word="not_needed")


@plant("N")
def a_rail_that_was_asked_and_of_which_a_record_says_that_nothing_was_sent(tape: Tape) -> None:
    tape.rewrite("left", "provider.failover", {"unsent": True})


@plant("R")
def an_intent_that_gives_up_and_does_not_say_what_was_known_of_its_rails(tape: Tape) -> None:
    unchosen = facts_of(tape, "stranded", "ledger.released")["unchosen"]
    words = dict.fromkeys(unchosen["considered"], "unavailable")
    tape.rewrite("stranded", "ledger.released", {"unchosen": {**unchosen, "considered": words}})


@plant("R")
def an_intent_that_waits_longer_than_its_corridor_says(tape: Tape) -> None:
    put_corridors(tape, "zz", wait_seconds=4)


@plant("R")
def an_intent_that_tells_of_its_waiting_twice(tape: Tape) -> None:
    row = next(t for t in tape.fleet.store.rows.transitions[tape.names["stranded"]] if t.event == "provider.awaited")
    writes = tape.commit(lambda writes: row in writes.transitions)
    later = structs.replace(row, sequence=row.sequence + 1, at=row.at + timedelta(microseconds=1))
    spelled = later.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    again = tape._sealed(later, {}, {"sequence": later.sequence, "at": spelled}, after=row.hash)
    writes.transitions.insert(writes.transitions.index(row) + 1, again)


@plant("T")
def an_intent_that_gives_up_before_its_time(tape: Tape) -> None:
    put_corridors(tape, "zz", wait_seconds=5)
    tape.rewrite("astray", "ledger.released", {"reason": "no_rail_now"})
    tape.setting = structs.replace(
        tape.setting,
        corridors={"acme": (*CORRIDORS, structs.replace(CORRIDORS[0], name="pay", kind="payment"))},
    )


@plant("R")
def a_corridor_that_is_not_found(tape: Tape) -> None:
    tape.setting = structs.replace(
        tape.setting,
        corridors={"acme": (*CORRIDORS, structs.replace(CORRIDORS[0], name="pay", kind="payment"))},
    )


@plant("R")
def an_intent_without_a_corridor_that_finds_no_rail(tape: Tape) -> None:
    tape.rewrite("astray", "ledger.released", {"reason": "no_rail_left"})


@plant("R")
def an_intent_that_gives_up_while_a_rail_can_be_asked(tape: Tape) -> None:
    tape.setting = structs.replace(
        tape.setting, rails={**tape.setting.rails, "omega": structs.replace(tape.setting.rails["beta"], name="omega")}
    )


@plant("R")
def a_decision_that_does_not_name_a_rail_that_was_tried(tape: Tape) -> None:
    words = facts_of(tape, "left", "provider.failover")["considered"]
    tape.rewrite("left", "provider.failover", {"considered": {r: word for r, word in words.items() if r != "alpha"}})


@plant("N")
def a_rail_that_is_left_while_its_outcome_is_unknown(tape: Tape) -> None:
    words = facts_of(tape, "left", "provider.failover")["considered"]
    tape.rewrite("left", "provider.failover", {"considered": {**words, "alpha": "started"}})


@plant("O")
def a_worker_that_remembers_otherwise_than_its_records(tape: Tape) -> None:
    tx = tape.fleet.transaction(tape.names["left"])
    first = structs.replace(tx.attempts[0], status="started")
    tape.add("then", lambda auditor: auditor.remembered("w1", structs.replace(tx, attempts=(first, *tx.attempts[1:]))))
