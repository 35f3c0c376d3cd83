"""Faults to plant on a tape: messages, and the rows of the outbox that they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import structs

from tests.simulation.auditor_plants import plant
from tests.simulation.auditor_tape import Call, Tape
from zentra.bench.simulation.auditor import Auditor
from zentra.runtime.messages import AttemptReported, RailReported, encode_frame
from zentra.runtime.ports import TickWrites
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome
from zentra.runtime.stream_ports import Outgoing
from zentra.runtime.webhooks.standard import AttemptResult

__all__ = ["consume"]

MORE = "e" * 32


def feed_of(tape: Tape, who: str, event: str) -> tuple[TickWrites, int]:
    """Return the commit of a record and the index of the message that tells of it."""
    writes = tape.at(who, event)
    record = next(t.record for t in writes.transitions if t.intent == tape.names[who] and t.event == event)
    found = (i for i, (_, message) in enumerate(writes.outbox)
             if message.subject.startswith("ze.") and record in message.body)  # fmt: skip
    return writes, next(found)


def replace_message(tape: Tape, change: Callable[[Outgoing], dict[str, Any]]) -> None:
    writes, at = feed_of(tape, "happy", "ledger.reserved")
    partition, message = writes.outbox[at]
    writes.outbox[at] = (partition, structs.replace(message, **change(message)))


@plant("P")
def a_transition_without_an_event(tape: Tape) -> None:
    writes, at = feed_of(tape, "happy", "ledger.reserved")
    del writes.outbox[at]


@plant("P")
def a_transition_with_two_events(tape: Tape) -> None:
    writes, at = feed_of(tape, "happy", "ledger.reserved")
    partition, message = writes.outbox[at]
    writes.outbox.append((partition, structs.replace(message, id=MORE)))


@plant("P")
def an_event_of_no_transition(tape: Tape) -> None:
    writes = tape.at("happy", "provider.routed")
    writes.transitions[:] = [t for t in writes.transitions if t.intent != tape.names["happy"]]


@plant("P")
def two_messages_under_one_id(tape: Tape) -> None:
    writes, at = feed_of(tape, "happy", "ledger.reserved")
    writes.outbox.append(writes.outbox[at])


@plant("M")
def an_event_told_to_another_tenant(tape: Tape) -> None:
    replace_message(tape, lambda message: {"subject": message.subject.replace("acme", "globex")})


@plant("P")
def an_event_under_another_name(tape: Tape) -> None:
    replace_message(tape, lambda message: {"subject": message.subject.replace("reserved", "posted")})


@plant("O")
def a_publish_of_what_was_never_committed(tape: Tape) -> None:
    tape.add("published", Outgoing("zc.1.policy", b"\x90", MORE))


@plant("O")
def a_callback_published_before_its_bytes_were_kept(tape: Tape) -> None:
    outcome = RailOutcome(
        "alpha", tape.names["happy"] + "01", OutcomeStatus.PENDING, event_id="e1", trust="body_signed"
    )
    tape.add("published", Outgoing("zc.1.callback", encode_frame([RailReported(outcome, "e1")]), MORE))


@plant("O")
def a_publish_before_its_commit(tape: Tape) -> None:
    at = tape.place("committed", lambda w, p, writes, g: any(t.event == "ledger.reserved" for t in writes.transitions))
    tape.put_before(at, "published", tape.calls[at].args[2].outbox[0][1])


@plant("P")
def a_publish_of_other_bytes(tape: Tape) -> None:
    message = next(call.args[0] for call in tape.calls if call.name == "published")
    tape.add("published", structs.replace(message, body=b""))


@plant("P")
def a_report_that_changes_when_it_is_repeated(tape: Tape) -> None:
    result = AttemptReported("acme", "hook", AttemptResult("d" * 32, 1, 200))
    other = AttemptReported("acme", "hook", AttemptResult("d" * 32, 2, 200))
    for event in (result, other):
        tape.add("published", Outgoing("zc.1.webhook", encode_frame([event]), MORE))


@plant("T")
def a_message_that_is_not_sent(tape: Tape) -> None:
    next(iter(tape.rows.outbox.values())).sent_at = None


@plant("O")
def a_message_that_was_marked_and_never_published(tape: Tape) -> None:
    at = tape.place("published", lambda message: message.subject.startswith("ze."))
    del tape.calls[at]


# Rows of command frames ----------------------------------------------------------------------------------------------


def frame_of(tape: Tape) -> tuple[int, str]:
    """Return partition and id of a command frame that a commit wrote."""
    writes = tape.commit(lambda writes: any(message.subject.startswith("zc.") for _, message in writes.outbox))
    return next((at, message.id) for at, message in writes.outbox if message.subject.startswith("zc."))


def consume(tape: Tape) -> tuple[int, str]:
    """Let a later commit that holds the partition of a command frame consume it; return partition and id."""
    partition, key = frame_of(tape)
    published = tape.place("published", lambda message: message.id == key)
    held = [at for at, call in enumerate(tape.calls) if at > published and call.name == "committed"
            and any(fence.partition == partition for fence in call.args[1].fences)]  # fmt: skip
    worker, plan, writes, ground = tape.calls[held[0]].args
    plan = structs.replace(plan, consumed=((partition, key),))
    tape.calls[held[0]] = Call("committed", (worker, plan, writes, ground))
    return partition, key


@plant("O")
def a_frame_that_is_taken_out_and_was_not_consumed(tape: Tape) -> None:
    _, key = frame_of(tape)
    at = tape.place("published", lambda message: message.id == key)

    def taken(auditor: Auditor) -> None:
        del auditor._store.rows.outbox[key]

    tape.put_before(at + 1, "then", taken)


@plant("O")
def a_frame_that_is_consumed_for_a_partition_that_the_commit_has_lost(tape: Tape) -> None:
    partition, key = consume(tape)
    at = tape.place("committed", lambda w, plan, writes, g: plan.consumed == ((partition, key),))
    worker, plan, writes, ground = tape.calls[at].args
    tape.calls[at] = Call("committed", (worker, plan, writes, structs.replace(ground, lost=frozenset({partition}))))

    def taken(auditor: Auditor) -> None:
        del auditor._store.rows.outbox[key]

    tape.put_before(at, "then", taken)


@plant("O")
def a_frame_that_is_consumed_before_it_was_published(tape: Tape) -> None:
    _, key = consume(tape)
    tape.calls = [call for call in tape.calls if call.name != "published" or call.args[0].id != key]


@plant("O")
def a_frame_that_is_lost_in_the_end(tape: Tape) -> None:
    del tape.rows.outbox[frame_of(tape)[1]]
