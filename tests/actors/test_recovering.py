"""Recoveries: one command, and an endpoint has everything that it had not, with the ids and bytes of the first time."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec import structs

from tests.actors.world import MakeFleet, configuration, endpoint, hook, transfer, verdict
from zentra.actors.recovering import body_at
from zentra.bench.twins.fleet import Fleet
from zentra.bench.twins.transport import ScriptedReply
from zentra.runtime.messages import LaneOpened
from zentra.runtime.webhooks.delivery import DeliveryState, is_told
from zentra.runtime.webhooks.standard import ATTEMPTS_MAX

OK, DOWN = ScriptedReply(200), ScriptedReply(503)
HOUR = 3_600
FOUR_DAYS = 4 * 86_400


def lane_partition(fleet: Fleet, name: str = "hook") -> int:
    return fleet.partition_of(f"acme/{name}")


def recover(fleet: Fleet, since: datetime, which: str = "undelivered", name: str = "hook", **asked: Any) -> str:
    """Give the command and let everything come to rest; return its id."""
    body = {"which": which, "since": since, **asked}
    given = fleet.command("recover_deliveries", name, body, partition=lane_partition(fleet, name))
    fleet.advance(60)
    return given


def row(fleet: Fleet, given: str) -> tuple[str, int, int, int, int]:
    found = fleet.store.rows.recoveries[given]
    return str(found.status), found.found, found.replayed, found.made, found.skipped


def ids(fleet: Fleet) -> list[str]:
    return [received.headers["webhook-id"] for received in fleet.endpoints.received]


def test_an_outage_of_an_hour_is_made_good_by_one_command(make_fleet: MakeFleet) -> None:
    down = [DOWN] * 200
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "*"),)), scripts={hook(): down})
    since = fleet.store.now()
    for _ in range(8):
        fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.advance(HOUR)
    made = {f"msg_{key}": delivery.body for key, delivery in fleet.store.rows.deliveries.items()}
    assert {state.state for state in fleet.store.rows.delivery_states.values()} == {DeliveryState.RETRYING}
    fleet.endpoints.received.clear()
    fleet.endpoints.answer(hook(), [OK])
    given = recover(fleet, since)
    assert verdict(fleet, given) == "done"
    assert row(fleet, given) == ("done", 16, 16, 0, 0)
    assert {r.headers["webhook-id"]: r.body for r in fleet.endpoints.received} == made
    assert set(Counter(ids(fleet)).values()) == {1}
    assert not fleet.store.rows.timers
    rows = [one for key, one in fleet.store.rows.delivery_attempts.items() if one[3] == 200]
    assert {(one[1], one[7]) for one in rows} == {("replay", "ops")}


def test_events_of_while_the_endpoint_was_disabled_get_the_bytes_that_they_would_have_had(
    make_fleet: MakeFleet,
) -> None:
    """A twin endpoint that was there all the time tells what those bytes are."""
    there, late = endpoint("there", "*"), endpoint("hook", "*")
    fleet = make_fleet(configuration(endpoints=(there,)))
    since = fleet.store.now()
    intents = [fleet.submit(transfer(1_000 + place)) for place in range(4)]
    fleet.advance(120)
    assert all(fleet.transaction(intent).sealed for intent in intents)
    fleet.store.configure(structs.replace(fleet.store.current, endpoints={"acme": (there, late)}))
    told = [r.body for r in fleet.endpoints.received]
    fleet.endpoints.received.clear()
    given = recover(fleet, since, "missing")
    assert row(fleet, given) == ("done", len(told), 0, len(told), 0)
    assert sorted(r.body for r in fleet.endpoints.received) == sorted(told)
    again = recover(fleet, since, "missing")
    assert row(fleet, again) == ("done", 0, 0, 0, 0)
    assert len(fleet.endpoints.received) == len(told)
    first = next(iter(fleet.store.rows.deliveries.values()))
    assert {d.id for d in fleet.store.rows.deliveries.values() if d.endpoint == "hook"}.isdisjoint({first.id})


@pytest.mark.parametrize(
    ("which", "events", "expected"),
    [
        # which         events                 found, replayed, made
        ("failed",      [],                    (2, 2, 0)),
        ("missing",     [],                    (2, 0, 2)),
        ("undelivered", [],                    (4, 2, 2)),
        ("any",         [],                    (4, 4, 0)),
        ("undelivered", ["ledger.*"],          (2, 1, 1)),
        ("any",         ["policy.accepted"],   (2, 2, 0)),
        ("failed",      ["provider.routed"],   (0, 0, 0)),
    ],
)  # fmt: skip
def test_what_is_found_is_what_was_asked_for(
    make_fleet: MakeFleet, which: str, events: list[str], expected: tuple[int, int, int]
) -> None:
    """Two deliveries were taken, two failed, two events have none; a dry run finds the same and does nothing."""
    hooked = endpoint("hook", "*")
    fleet = make_fleet(configuration(endpoints=(hooked,)))
    since = fleet.store.now()
    fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.advance(10)
    fleet.endpoints.answer(hook(), [DOWN] * 50)
    fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.advance(10)
    fleet.store.configure(structs.replace(fleet.store.current, endpoints={"acme": ()}))
    fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.advance(70)
    fleet.store.configure(structs.replace(fleet.store.current, endpoints={"acme": (hooked,)}))
    fleet.endpoints.answer(hook(), [OK])
    before = dict(fleet.store.rows.delivery_attempts)
    dry = recover(fleet, since, which, events=events, dry_run=True)
    assert row(fleet, dry) == ("done", expected[0], 0, 0, 0)
    assert fleet.store.rows.delivery_attempts == before
    given = recover(fleet, since, which, events=events)
    assert row(fleet, given) == ("done", *expected, 0)


def test_a_recovery_is_bounded_by_its_time(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "*"),)))
    times = []
    for _ in range(3):
        times.append(fleet.store.now())
        fleet.submit(transfer(1_000, kind="book_transfer"))
        fleet.advance(100)
    given = recover(fleet, times[1], "any", before=times[2])
    assert row(fleet, given) == ("done", 2, 2, 0, 0)
    later = recover(fleet, fleet.store.now() + timedelta(days=1), "any")
    assert row(fleet, later) == ("done", 0, 0, 0, 0)


def test_an_endpoint_that_is_disabled_recovers_nothing(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=()))
    given = recover(fleet, fleet.store.now())
    assert verdict(fleet, given) == "endpoint_disabled"
    assert not fleet.store.rows.recoveries


def test_a_recovery_stops_where_its_endpoint_is_disabled_meanwhile(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "*"),)))
    since = fleet.store.now()
    for _ in range(10):
        fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.advance(100)
    given = fleet.command(
        "recover_deliveries", "hook", {"which": "any", "since": since}, partition=lane_partition(fleet)
    )
    fleet.run_until_idle()
    assert row(fleet, given)[0] == "running"
    fleet.store.configure(structs.replace(fleet.store.current, endpoints={"acme": ()}))
    fleet.advance(60)
    assert row(fleet, given)[0] == "stopped"
    assert not fleet.store.rows.timers


def test_a_recovery_waits_while_its_lane_is_full(make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zentra.actors.recovering.WAITING_MAX", 3)
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "*"),)), lane_width=1)
    since = fleet.store.now()
    for _ in range(10):
        fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.advance(100)
    fleet.effects_lost = True
    given = fleet.command(
        "recover_deliveries", "hook", {"which": "any", "since": since}, partition=lane_partition(fleet)
    )
    counted = fleet.command(
        "recover_deliveries", "hook", {"which": "any", "since": since}, partition=lane_partition(fleet)
    )
    fleet.advance(30)
    assert row(fleet, given) == ("running", 5, 5, 0, 0)
    assert verdict(fleet, counted) == "recovery_under_way"
    fleet.effects_lost = False
    fleet.advance(60)
    fleet.emit(lane_partition(fleet), "webhook", [LaneOpened("acme", "hook")])  # what was lost waits again
    fleet.advance(300)
    assert row(fleet, given) == ("done", 20, 20, 0, 0)


def test_a_tenant_has_a_few_recoveries_under_way_and_an_endpoint_one(make_fleet: MakeFleet) -> None:
    """All of one batch as well as one after the other; and when they are done, others may begin."""
    names = [f"hook-{number}" for number in range(6)]
    hooks = tuple(endpoint(name, "*") for name in names)
    fleet = make_fleet(configuration(endpoints=hooks))
    since = fleet.store.now()
    for _ in range(10):
        fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.advance(100)

    def ask(name: str) -> str:
        body = {"which": "any", "since": since, "dry_run": True}
        return fleet.command("recover_deliveries", name, body, partition=lane_partition(fleet, name))

    first = [ask(names[0]), ask(names[0])]
    fleet.run_until_idle()
    assert [verdict(fleet, one) for one in first] == ["done", "recovery_under_way"]
    more = [ask(name) for name in names]
    fleet.run_until_idle()
    codes = [verdict(fleet, one) for one in more]
    assert (codes[0], sorted(codes)) == ("recovery_under_way", ["done"] * 3 + ["recovery_under_way"] * 3)
    assert {str(one.status) for one in fleet.store.rows.recoveries.values()} == {"running"}
    fleet.advance(60)
    assert {str(one.status) for one in fleet.store.rows.recoveries.values()} == {"done"}
    assert [verdict(fleet, given) for given in [recover(fleet, since, name=names[5])]] == ["done"]


def test_the_pages_of_a_batch_are_asked_for_at_once(make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round each would be more than a tick has."""
    monkeypatch.setattr("zentra.actors.recovering.RUNNING_MAX", 1_000)
    monkeypatch.setattr("zentra.actors.committing.ROUNDS_MAX", 6)
    names = [f"hook-{number}" for number in range(30)]
    fleet = make_fleet(configuration(endpoints=tuple(endpoint(name, "*") for name in names)))
    since = fleet.store.now()
    for _ in range(5):
        fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.advance(100)
    body = {"which": "any", "since": since, "dry_run": True}
    for name in names:
        fleet.command("recover_deliveries", name, body, partition=lane_partition(fleet, name))
    fleet.advance(60)
    assert fleet.cases() == []
    assert [(str(one.status), one.found) for one in fleet.store.rows.recoveries.values()] == [("done", 10)] * 30


def test_what_is_being_sent_is_skipped_and_counted(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "*"),)), scripts={hook(): [DOWN] * ATTEMPTS_MAX})
    since = fleet.store.now()
    fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.advance(FOUR_DAYS)
    fleet.effects_lost = True
    first = next(iter(fleet.store.rows.deliveries))
    body = {"which": "failed", "since": since}
    fleet.command("replay_delivery", first, partition=lane_partition(fleet))
    fleet.run_until_idle()
    given = fleet.command("recover_deliveries", "hook", body, partition=lane_partition(fleet))
    fleet.run_until_idle()
    assert row(fleet, given) == ("done", 1, 1, 0, 0)


def test_a_recovery_that_is_taken_over_goes_on_where_it_was(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "*"),)))
    since = fleet.store.now()
    for _ in range(15):
        fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.advance(100)
    fleet.endpoints.received.clear()
    given = fleet.command(
        "recover_deliveries", "hook", {"which": "any", "since": since}, partition=lane_partition(fleet)
    )
    fleet.run_until_idle()
    assert row(fleet, given)[0] == "running"
    fleet.workers[0].forget()
    fleet.advance(60)
    assert row(fleet, given) == ("done", 30, 30, 0, 0)
    assert set(Counter(ids(fleet)).values()) == {1}


@pytest.mark.parametrize("scenario", [None, "decline", "late_success", "duplicate_callback"])
def test_records_alone_give_the_bytes_of_every_delivery(make_fleet: MakeFleet, scenario: str | None) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "*"),)))
    intent = fleet.submit(transfer(scenario=scenario))
    fleet.advance(600)
    told = {msgspec.json.decode(r.body)["data"]["object_version"]: r.body for r in fleet.endpoints.received}
    stored = fleet.store.rows.transitions[intent]
    records = tuple((one.record, one.hash) for one in stored)
    bodies = {one.sequence: body_at(records[: one.sequence])[2] for one in stored if is_told(one.event)}
    assert {number: bodies[number] for number in told} == told
    assert len(told) >= 4
