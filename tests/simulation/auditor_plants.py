"""Faults to plant on a tape, each with the letter of the invariant that it breaks: money, records and decisions."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import msgspec
from msgspec import structs

from tests.simulation.auditor_tape import BOOKS, FUNDS, Call, Tape, changed_by, rehashed
from zentra.bench.simulation.auditor import Auditor
from zentra.runtime.policy import PolicyRules, Usage, VelocityKey
from zentra.runtime.ports import TickWrites

Plant = Callable[[Tape], None]
PLANTS: Final[list[tuple[str, Plant]]] = []
REFS: Final = {(ref.tenant, ref.account_id): ref for ref in BOOKS}

__all__ = ["PLANTS", "REFS", "Plant", "plant"]


def plant(letter: str) -> Callable[[Plant], Plant]:
    """Enter a fault into the table."""

    def enter(fault: Plant) -> Plant:
        PLANTS.append((letter, fault))
        return fault

    return enter


# The ledger -----------------------------------------------------------------------------------------------------------


def replace_posting(tape: Tape, who: str, kind: str, **changes: Any) -> TickWrites:
    """Change a posting and what its commit does to balances."""
    writes, at = tape.posting(who, kind)
    writes.postings[at] = rehashed(writes.postings[at], **changes)
    writes.balance_changes = changed_by(writes.postings)
    return writes


@plant("A")
def a_posting_from_an_account_to_itself(tape: Tape) -> None:
    replace_posting(tape, "happy", "reserve", credit=REFS["acme", "customer"])


@plant("A")
def a_posting_into_another_currency(tape: Tape) -> None:
    replace_posting(tape, "happy", "reserve", credit=REFS["acme", "dollars"])


@plant("A")
def a_posting_to_an_account_that_nobody_opened(tape: Tape) -> None:
    replace_posting(tape, "happy", "reserve", credit=structs.replace(REFS["acme", "merchant"], id=999))


@plant("M")
def a_posting_into_another_tenant(tape: Tape) -> None:
    replace_posting(tape, "happy", "reserve", credit=REFS["globex", "settlement-ngn"])


@plant("A")
def a_reserve_with_the_wrong_sign(tape: Tape) -> None:
    replace_posting(tape, "happy", "reserve", pending=-125_000)


@plant("A")
def a_post_that_only_ends_the_hold(tape: Tape) -> None:
    replace_posting(tape, "happy", "post", posted=0)


@plant("B")
def a_posting_that_leaves_out_a_number(tape: Tape) -> None:
    replace_posting(tape, "happy", "reserve", ordinal=1)


@plant("S")
def a_posting_with_the_hash_of_another(tape: Tape) -> None:
    writes, at = tape.posting("happy", "reserve")
    writes.postings[at] = structs.replace(writes.postings[at], hash=bytes(32))


@plant("E")
def a_second_hold(tape: Tape) -> None:
    writes, at = tape.posting("happy", "reserve")
    writes.postings.insert(at + 1, rehashed(writes.postings[at], ordinal=1))
    writes.balance_changes = changed_by(writes.postings)


@plant("E")
def a_hold_that_ends_twice(tape: Tape) -> None:
    writes, at = tape.posting("declined", "release")
    writes.postings.insert(at + 1, rehashed(writes.postings[at], ordinal=2))
    writes.balance_changes = changed_by(writes.postings)


@plant("E")
def a_post_of_more_than_is_held(tape: Tape) -> None:
    replace_posting(tape, "happy", "post", pending=-125_001, posted=125_001)


@plant("C")
def a_reserve_of_more_than_there_is(tape: Tape) -> None:
    replace_posting(tape, "happy", "reserve", pending=FUNDS + 1)


@plant("B")
def a_doubled_posting(tape: Tape) -> None:
    writes, at = tape.posting("happy", "settle")
    writes.postings.insert(at + 1, rehashed(writes.postings[at], ordinal=3))
    writes.balance_changes = changed_by(writes.postings)


@plant("F")
def a_posting_of_what_was_refused(tape: Tape) -> None:
    other = tape.posting("booked", "book")
    posting = rehashed(other[0].postings[other[1]], intent=tape.names["poor"])
    writes = tape.at("poor", "ledger.refused")
    writes.postings.append(posting)
    writes.balance_changes = changed_by(writes.postings)


@plant("B")
def an_entry_that_was_never_posted(tape: Tape) -> None:
    writes, at = tape.posting("happy", "reserve")
    del writes.postings[at]
    writes.balance_changes = changed_by(writes.postings)


@plant("B")
def a_balance_that_does_not_follow_its_posting(tape: Tape) -> None:
    writes, _ = tape.posting("happy", "reserve")
    writes.balance_changes.pop(1)


@plant("B")
def a_decision_on_a_balance_that_is_not_there(tape: Tape) -> None:
    tape.posting("happy", "reserve")
    tape.ground.balances[1].debits_posted += 1


@plant("M")
def a_posting_in_the_books_of_another_tenant(tape: Tape) -> None:
    writes, at = tape.posting("booked", "book")
    refs = {side: REFS["globex", getattr(writes.postings[at], side).account_id] for side in ("debit", "credit")}
    foreign = rehashed(writes.postings[at], tenant="globex", **{**refs, "debit": REFS["globex", "liquidity-ngn"]})
    entry = msgspec.to_builtins(foreign.entry())
    entry["debit"] = "customer"
    floorless = structs.replace(REFS["globex", "customer"], guarded=False)
    foreign = rehashed(foreign, debit=floorless)
    entry["hash"] = foreign.hash.hex()
    writes = tape.rewrite("booked", "ledger.posted", {"entries": [entry]})
    writes.postings[at] = foreign
    writes.balance_changes = changed_by(writes.postings)
    tape.put_before(0, "then", unguard_the_foreign_customer)


def unguard_the_foreign_customer(auditor: Auditor) -> None:
    ref = REFS["globex", "customer"]
    auditor.ledger.accounts[ref.id] = structs.replace(ref, guarded=False)


@plant("D")
def a_reserve_that_holds_nothing(tape: Tape) -> None:
    tape.rewrite("happy", "ledger.reserved", {"entries": []})


@plant("E")
def a_release_that_ends_nothing(tape: Tape) -> None:
    tape.rewrite("declined", "ledger.released", {"entries": []})


@plant("E")
def a_success_that_posts_nothing(tape: Tape) -> None:
    tape.rewrite("happy", "ledger.posted", {"entries": []})


@plant("A")
def a_book_transfer_that_moves_nothing(tape: Tape) -> None:
    tape.rewrite("booked", "ledger.posted", {"entries": []})


@plant("F")
def a_refusal_with_an_entry(tape: Tape) -> None:
    record = tape.fleet.store.rows.transitions[tape.names["booked"]][2].record
    tape.rewrite("poor", "ledger.refused", {"entries": json.loads(record)["facts"]["entries"]})


@plant("D")
def a_stored_hold_that_no_intent_has(tape: Tape) -> None:
    tape.rows.balances[1, 0].debits_pending += 1


@plant("A")
def stored_balances_that_do_not_sum_to_zero(tape: Tape) -> None:
    tape.rows.balances[1, 0].debits_posted += 1


@plant("B")
def stored_balances_that_are_not_the_sum_of_their_postings(tape: Tape) -> None:
    tape.rows.balances[1, 0].debits_posted += 1
    tape.rows.balances[2, 0].credits_posted += 1


@plant("B")
def a_stored_posting_that_is_lost(tape: Tape) -> None:
    tape.rows.postings.popitem()


# Reversals ------------------------------------------------------------------------------------------------------------


def reversal(minor: int, ordinal: int) -> list[dict[str, Any]]:
    """Return the entries of a reversal of a transfer."""
    return [
        {
            "ordinal": ordinal + number, "posting": "reversal", "debit": debit, "credit": credit, "currency": "NGN",
            "pending": "0", "posted": str(minor), "hash": "",
        }
        for number, (debit, credit) in enumerate((("merchant", "settlement-ngn"), ("settlement-ngn", "customer")))
    ]  # fmt: skip


REVERSED: Final = {"event": "ledger.reversal", "to": "SUCCESSFUL", "step": None, "cause": "somebody"}


@plant("L")
def a_reversal_that_does_not_net_to_zero(tape: Tape) -> None:
    tape.rewrite("happy", "ledger.reversal", {"entries": [*reversal(25_000, 3)[:1], *reversal(24_999, 3)[1:]]})


@plant("L")
def a_reversal_of_nothing(tape: Tape) -> None:
    tape.rewrite("happy", "ledger.reversal", {"entries": []})


@plant("L")
def a_reversal_of_more_than_the_original(tape: Tape) -> None:
    facts = {"kind": "booked", "command": "c", "entries": reversal(100_001, 5)}
    tape.forge("happy", facts, **REVERSED)


@plant("L")
def a_reversal_in_part_that_ends_the_intent(tape: Tape) -> None:
    tape.rewrite("happy", "ledger.reversal", to="REVERSED")


@plant("G")
def a_reversal_by_a_command_that_has_acted(tape: Tape) -> None:
    facts = {"kind": "booked", "command": tape.names["reverse happy"], "entries": reversal(25_000, 5)}
    tape.forge("happy", facts, **REVERSED)


# Records --------------------------------------------------------------------------------------------------------------


def reregister(tape: Tape, **changes: Any) -> None:
    """Change the first record of an intent as it is registered."""
    at = tape.place("registered", lambda transition, command: transition.intent == tape.names["happy"])
    transition, command = tape.calls[at].args
    tape.calls[at] = Call("registered", (tape._sealed(transition, {}, changes), command))


@plant("J")
def an_intent_that_begins_with_something_else(tape: Tape) -> None:
    reregister(tape, event="policy.accepted")


@plant("J")
def an_intent_that_begins_in_the_middle(tape: Tape) -> None:
    reregister(tape, to="PROCESSING", step="routing")


@plant("J")
def a_record_without_an_actor(tape: Tape) -> None:
    tape.rewrite("happy", "ledger.reserved", actor="")


@plant("J")
def a_record_without_a_cause(tape: Tape) -> None:
    tape.rewrite("happy", "ledger.reserved", cause="")


@plant("J")
def a_record_that_is_no_record(tape: Tape) -> None:
    tape.rewrite("happy", "ledger.reserved", unheard="of")


@plant("J")
def a_record_of_another_trace(tape: Tape) -> None:
    tape.rewrite("happy", "ledger.reserved", trace="f" * 32)


@plant("M")
def a_record_of_another_tenant(tape: Tape) -> None:
    tape.rewrite("happy", "ledger.reserved", tenant="globex")


@plant("J")
def a_record_that_goes_back_in_time(tape: Tape) -> None:
    tape.rewrite("happy", "ledger.reserved", at="2026-01-01T00:00:00.000000Z")


@plant("J")
def a_record_of_a_time_that_is_not_the_commits(tape: Tape) -> None:
    writes = tape.at("happy", "ledger.reserved")
    row = next(t for t in writes.transitions if t.intent == tape.names["happy"])
    later = row.at + timedelta(seconds=1)
    tape.rewrite("happy", "ledger.reserved", at=later.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


@plant("J")
def a_row_that_says_other_than_its_record(tape: Tape) -> None:
    writes = tape.at("happy", "ledger.reserved")
    writes.transitions[:] = [structs.replace(t, event="ledger.posted") for t in writes.transitions]


@plant("J")
def a_move_that_is_not_in_the_table(tape: Tape) -> None:
    tape.rewrite("happy", "ledger.reserved", to="SUCCESSFUL", step=None)


@plant("P")
def a_version_that_is_missing(tape: Tape) -> None:
    tape.rewrite("happy", "ledger.reserved", sequence=4)


@plant("P")
def two_records_of_one_version(tape: Tape) -> None:
    writes = tape.at("happy", "ledger.reserved")
    writes.transitions.extend(list(writes.transitions))


@plant("S")
def a_record_that_breaks_the_chain(tape: Tape) -> None:
    writes = tape.at("happy", "ledger.reserved")
    writes.transitions[:] = [structs.replace(t, hash=bytes(32)) for t in writes.transitions]


@plant("S")
def a_record_in_another_spelling(tape: Tape) -> None:
    writes = tape.at("happy", "ledger.reserved")
    writes.transitions[:] = [structs.replace(t, record=t.record + b" ") for t in writes.transitions]


@plant("O")
def a_record_of_an_intent_that_nobody_registered(tape: Tape) -> None:
    del tape.calls[tape.place("registered", lambda transition, command: transition.intent == tape.names["happy"])]


@plant("H")
def an_acknowledgement_of_another_command(tape: Tape) -> None:
    at = tape.place("registered", lambda transition, command: True)
    transition, command = tape.calls[at].args
    tape.calls[at] = Call("registered", (transition, structs.replace(command, minor="1")))


def register_again(tape: Tape, intent_id: str, key: str) -> None:
    at = tape.place("registered", lambda transition, command: True)
    transition, command = tape.calls[at].args
    again = tape._sealed(transition, {"idempotency_key": key}, {"intent": "f" * 32, "intent_id": intent_id})
    tape.put_before(at + 1, "registered", structs.replace(again, intent="f" * 32), command)


@plant("G")
def two_intents_for_one_key(tape: Tape) -> None:
    register_again(tape, "another", "key-1")


@plant("G")
def two_intents_of_one_id(tape: Tape) -> None:
    register_again(tape, "intent-1", "another")


@plant("M")
def a_registration_for_another_tenant(tape: Tape) -> None:
    at = tape.place("registered", lambda transition, command: True)
    transition, command = tape.calls[at].args
    tape.calls[at] = Call("registered", (structs.replace(transition, tenant="globex"), command))


@plant("O")
def a_commit_behind_a_fence_that_had_moved(tape: Tape) -> None:
    tape.at("happy", "ledger.reserved")
    tape.plan.fences = tuple(structs.replace(fence, version=fence.version + 1) for fence in tape.plan.fences)


# Decisions ------------------------------------------------------------------------------------------------------------


@plant("Q")
def an_acceptance_over_an_objection(tape: Tape) -> None:
    tape.rewrite("happy", "policy.accepted", {"results": {"review_threshold": "review"}})


@plant("Q")
def a_waiver_that_nobody_gave(tape: Tape) -> None:
    tape.rewrite("happy", "policy.accepted", {"results": {"review_threshold": "waived"}})


@plant("Q")
def an_approval_by_whoever_asked(tape: Tape) -> None:
    tape.rewrite("reviewed", "review.approved", actor="dev")


@plant("Q")
def an_approval_of_more_than_was_flagged(tape: Tape) -> None:
    tape.rewrite("reviewed", "review.approved", {"waives": ["review_threshold", "daily_amount"]})


@plant("K")
def a_review_that_expires_before_its_time(tape: Tape) -> None:
    writes = tape.rewrite("rejected", "review.rejected", event="review.expired")
    at = next(i for i, t in enumerate(writes.transitions) if b'"review.expired"' in t.record)
    writes.transitions[at] = structs.replace(writes.transitions[at], event="review.expired")


@plant("R")
def another_decision_than_the_rules_say(tape: Tape) -> None:
    tape.setting = structs.replace(tape.setting, policies={"acme": PolicyRules(version=3, scopes=())})


@plant("R")
def a_decision_that_ignores_the_limits(tape: Tape) -> None:
    limits = structs.replace(tape.setting.policies["acme"].limits["NGN"], transaction_minor_max=1)
    tape.setting = structs.replace(tape.setting, policies={"acme": PolicyRules(version=3, limits={"NGN": limits})})


@plant("R")
def an_acceptance_that_counts_nothing(tape: Tape) -> None:
    tape.rewrite("happy", "policy.accepted", {"velocity": []})


@plant("R")
def two_decisions_on_the_same_inputs(tape: Tape) -> None:
    rows = tape.fleet.store.rows.transitions[tape.names["happy"]]
    digest = json.loads(rows[1].record)["facts"]["input_digest"]
    tape.rewrite("reviewed", "policy.review", {"input_digest": digest})


@plant("R")
def a_counter_that_was_not_counted(tape: Tape) -> None:
    tape.at("happy", "policy.accepted").velocity_changes.clear()


@plant("R")
def a_counter_that_was_not_given_back(tape: Tape) -> None:
    tape.at("declined", "ledger.released").velocity_changes.clear()


@plant("R")
def a_decision_on_a_counter_that_is_not_so(tape: Tape) -> None:
    tape.at("reviewed", "policy.accepted")
    assert tape.ground.usage
    tape.ground.usage = {key: Usage(used.count + 1, used.minor) for key, used in tape.ground.usage.items()}


@plant("R")
def a_stored_counter_that_is_not_the_sum(tape: Tape) -> None:
    tape.rows.velocity[VelocityKey("acme", "account/customer", "2026-01-05", "NGN")].minor += 1
