"""Faults to plant on a tape: recoveries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from msgspec import structs

from tests.simulation.auditor_plants import plant
from tests.simulation.auditor_tape import Tape
from zentra.runtime.ports import TickWrites
from zentra.runtime.webhooks.recovery import RecoveryStatus

__all__: list[str] = []


def recovery_in(tape: Tape, number: int, *, last: bool = False, **changes: Any) -> tuple[TickWrites, str]:
    """Return the writes of the first or the last commit that writes a recovery, changed so, and its id."""
    key = tape.names[f"recovery {number}"]

    def wanted(writes: TickWrites) -> bool:
        found = writes.recoveries.get(key)
        return found is not None and (not last or found.status is RecoveryStatus.DONE)

    writes = tape.commit(wanted)
    writes.recoveries[key] = structs.replace(writes.recoveries[key], **changes)
    return writes, key


@plant("O")
def a_recovery_that_nobody_asked_for(tape: Tape) -> None:
    writes, key = recovery_in(tape, 0)
    writes.recoveries["f" * 32] = structs.replace(writes.recoveries[key], id="f" * 32)


@plant("H")
def a_recovery_of_another_time(tape: Tape) -> None:
    found = recovery_in(tape, 0)[0].recoveries
    key = tape.names["recovery 0"]
    found[key] = structs.replace(found[key], since=found[key].since + timedelta(seconds=1))


@plant("J")
def two_recoveries_of_an_endpoint_at_once(tape: Tape) -> None:
    recovery_in(tape, 0, last=True, status=RecoveryStatus.RUNNING)


@plant("J")
def a_recovery_that_finds_less_and_less(tape: Tape) -> None:
    recovery_in(tape, 1, found=1_000)


@plant("F")
def a_dry_run_that_sends(tape: Tape) -> None:
    recovery_in(tape, 2, replayed=1)


@plant("P")
def a_recovery_that_misses_an_event(tape: Tape) -> None:
    key = tape.names["recovery 0"]
    at = tape.place("committed", lambda worker, plan, writes, ground: key in writes.recoveries)
    booked = tape.names["booked"]
    tape.put_before(
        at, "then",
        lambda auditor: [auditor.deliveries.places.discard(one) for one in tuple(auditor.deliveries.places)
                         if one[1] == booked],
    )  # fmt: skip


@plant("P")
def a_recovery_that_leaves_what_was_given_up(tape: Tape) -> None:
    key = tape.names["recovery 0"]
    at = tape.place("committed", lambda worker, plan, writes, ground: key in writes.recoveries)
    tape.put_before(at + 1, "then", lambda auditor: auditor.deliveries.recoveries.given_up[key].add("e" * 32))


@plant("P")
def a_delivery_that_tells_of_another_state(tape: Tape) -> None:
    writes = tape.commit(lambda writes: bool(writes.deliveries))
    made, sequence = writes.deliveries[0]
    body = msgspec.json.decode(made.body)
    body["data"]["status"] = "REVERSED"
    writes.deliveries[0] = (structs.replace(made, body=msgspec.json.encode(body)), sequence)
