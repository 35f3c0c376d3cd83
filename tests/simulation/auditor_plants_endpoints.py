"""Faults to plant on a tape: lanes out of order, endpoints called or disabled against their word."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from msgspec import structs

from tests.simulation.auditor_plants import plant
from tests.simulation.auditor_tape import Tape
from zentra.bench.simulation.auditor import Auditor
from zentra.bench.simulation.auditor_histories import Record
from zentra.bench.simulation.auditor_outside import Given
from zentra.runtime.ports import Configuration, EndpointDisabled, LaneRow
from zentra.runtime.webhooks.delivery import Delivery
from zentra.runtime.webhooks.terms import EndpointTerms

__all__: list[str] = []

HOOK = ("acme", "hook")
DISABLED, ENABLED = "webhook.endpoint_disabled", "webhook.endpoint_enabled"
GIVEN: Mapping[str, Given] = {
    "c1": Given("acme", "tell_of_endpoint", "i", "ada", "developer", b'{"endpoint":"hook","enabled":false}')
}


def in_the_end(tape: Tape, fault: Callable[[Auditor], object]) -> None:
    def then(auditor: Auditor) -> None:
        fault(auditor)

    tape.add("then", then)


def under(tape: Tape, **terms: Any) -> Configuration:
    """Return the setting with other terms of its endpoint."""
    changed = tuple(structs.replace(one, terms=EndpointTerms(**terms)) for one in tape.setting.endpoints["acme"])
    return structs.replace(tape.setting, endpoints={"acme": changed})


def stored(tape: Tape, count: int) -> list[str]:
    rows = tape.fleet.store.rows.delivery_states
    return sorted(rows, key=lambda key: rows[key].sequence)[:count]


def ended(tape: Tape, status: int | None, *, at: int = 0, began: int = 0) -> Callable[[Auditor], None]:
    """Return what lets the auditor hear of an attempt, so many seconds after the story."""
    made: Delivery = tape.fleet.store.rows.deliveries[stored(tape, 1)[0]]
    row = (made.id, 1, "acme", "automatic", tape.now, status, None, 1, "")

    def attempted(auditor: Auditor) -> None:
        auditor.deliveries.endpoints.attempted(
            made, row, tape.now + timedelta(seconds=began), tape.now + timedelta(seconds=at)
        )

    return attempted


def disabled(tape: Tape, reason: str, configuration: Configuration, at: int = 0) -> Callable[[Auditor], None]:
    now = tape.now + timedelta(seconds=at)
    rows = {HOOK: EndpointDisabled(*HOOK, reason, now)} if reason else {}
    return lambda auditor: auditor.deliveries.endpoints.disabled(rows, configuration, now)


def telling(event: str, *, by: str = "", commands: Mapping[str, Given] | None = None) -> Callable[[Auditor], None]:
    """Return what lets the auditor read that an endpoint was disabled or enabled."""
    facts = {"endpoint": "hook", **({"by": by} if by else {})}
    record = Record(
        actor=by or "svc_events", at="", cause="c1", event=event, facts=facts, from_=None, intent="", intent_id="",
        scope="", sequence=1, step=None, tenant="acme", to="", trace="",
    )  # fmt: skip
    known = GIVEN if commands is None else commands
    return lambda auditor: auditor.deliveries.endpoints.told("acme", record, known)


@plant("P")
def a_number_that_is_left_out(tape: Tape) -> None:
    writes = tape.commit(lambda writes: bool(writes.deliveries_begun))
    for key in writes.deliveries_begun:
        delivery, at = writes.delivery_states[key]
        writes.delivery_states[key] = (structs.replace(delivery, sequence=delivery.sequence + 1), at)


@plant("P")
def a_lane_that_says_another_number(tape: Tape) -> None:
    writes = tape.commit(lambda writes: bool(writes.lanes))
    writes.lanes[HOOK] = LaneRow(writes.lanes[HOOK].sequence + 1)


@plant("J")
def a_call_while_an_endpoint_is_disabled(tape: Tape) -> None:
    off = structs.replace(tape.setting, endpoints={}, endpoints_held=frozenset({HOOK}))
    in_the_end(tape, lambda auditor: auditor.deliveries._in_order({stored(tape, 1)[0]: ""}, off))


@plant("J")
def more_calls_than_an_endpoint_takes(tape: Tape) -> None:
    begins = dict.fromkeys(stored(tape, 2), "")
    in_the_end(tape, lambda auditor: auditor.deliveries._in_order(begins, under(tape, concurrency=1)))


@plant("P")
def a_call_out_of_order(tape: Tape) -> None:
    first, second = stored(tape, 2)

    def overtake(auditor: Auditor) -> None:
        auditor.deliveries._open[HOOK] = {first: 1, second: 2}
        auditor.deliveries._in_order({second: ""}, under(tape, fifo=True))

    in_the_end(tape, overtake)


@plant("P")
def a_delivery_that_is_dropped_while_its_endpoint_is_disabled(tape: Tape) -> None:
    held = structs.replace(tape.setting, endpoints={}, endpoints_held=frozenset({HOOK}))
    made = tape.fleet.store.rows.deliveries[stored(tape, 1)[0]]
    in_the_end(tape, lambda auditor: auditor.deliveries.endpoints.abandoned(made, held))


@plant("J")
def an_endpoint_that_is_disabled_twice(tape: Tape) -> None:
    in_the_end(tape, disabled(tape, "gone", structs.replace(tape.setting, endpoints={})))


@plant("J")
def an_endpoint_that_is_disabled_although_nobody_said_that_it_is_gone(tape: Tape) -> None:
    in_the_end(tape, ended(tape, 500))
    in_the_end(tape, disabled(tape, "gone", tape.setting))


@plant("J")
def an_endpoint_that_is_disabled_too_early(tape: Tape) -> None:
    for at in (0, 10, 20, 30, 99):
        in_the_end(tape, ended(tape, 500, at=at))
    in_the_end(tape, disabled(tape, "failing", under(tape, disable_after_seconds=100), at=99))


@plant("J")
def an_endpoint_that_is_disabled_after_a_success(tape: Tape) -> None:
    for at, status in ((0, 500), (10, 500), (20, 500), (30, 500), (40, 204), (200, 500)):
        in_the_end(tape, ended(tape, status, at=at))
    in_the_end(tape, disabled(tape, "failing", under(tape, disable_after_seconds=100), at=200))


@plant("J")
def an_endpoint_that_is_gone_and_called_still(tape: Tape) -> None:
    in_the_end(tape, ended(tape, 410))
    in_the_end(tape, disabled(tape, "", tape.setting))


@plant("P")
def an_endpoint_that_is_told_of_without_having_been_disabled(tape: Tape) -> None:
    in_the_end(tape, telling(DISABLED))


@plant("P")
def an_endpoint_that_somebody_is_said_to_have_disabled(tape: Tape) -> None:
    in_the_end(tape, telling(DISABLED, by="ada", commands={}))


@plant("P")
def an_endpoint_that_another_one_is_said_to_have_disabled(tape: Tape) -> None:
    in_the_end(tape, telling(DISABLED, by="bisi"))


@plant("P")
def an_endpoint_that_was_disabled_and_is_told_of_as_enabled(tape: Tape) -> None:
    in_the_end(tape, telling(ENABLED, by="ada"))


@plant("P")
def an_endpoint_that_nobody_enabled(tape: Tape) -> None:
    in_the_end(tape, telling(ENABLED))


@plant("P")
def an_endpoint_that_is_told_of_twice_as_disabled_by_one_command(tape: Tape) -> None:
    in_the_end(tape, telling(DISABLED, by="ada"))
    in_the_end(tape, telling(DISABLED, by="ada"))


@plant("P")
def an_endpoint_that_somebody_disabled_and_nobody_was_told(tape: Tape) -> None:
    in_the_end(tape, lambda auditor: auditor.deliveries.endpoints.finish(GIVEN))


@plant("P")
def an_endpoint_that_was_disabled_and_nobody_was_told(tape: Tape) -> None:
    in_the_end(tape, ended(tape, 410))
    in_the_end(tape, disabled(tape, "gone", tape.setting))
