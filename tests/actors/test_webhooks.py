"""Webhook lanes: fan-out, schedule, width, takeover, and how a transaction hears of its deliveries."""

from __future__ import annotations

import msgspec
import pytest

from tests.actors.world import MakeFleet, configuration, endpoint, facts_of, hook, summary, transfer, verdict
from zentra.bench.twins import store as store_module
from zentra.bench.twins.fleet import Fleet
from zentra.bench.twins.transport import ScriptedReply
from zentra.runtime.messages import AttemptReported, LaneOpened
from zentra.runtime.webhooks.delivery import DeliveryState
from zentra.runtime.webhooks.standard import ATTEMPTS_MAX, AttemptError, AttemptResult

FOUR_DAYS = 4 * 86_400
OK, DOWN, GONE = ScriptedReply(200), ScriptedReply(503), ScriptedReply(410)
LOST = ScriptedReply(None, AttemptError.TIMEOUT)
ABORTED = ScriptedReply(400, aborted=True)
AGAIN, DONE, OVER = "webhook.retrying", "webhook.delivered", "webhook.exhausted"
DISABLED = "webhook.endpoint_disabled"
SYNCED, SEALED, AMENDED = "money_runtime.synchronized", "review.closed", "evidence.amended"


def states(fleet: Fleet) -> list[DeliveryState]:
    return [row.state for row in fleet.store.rows.delivery_states.values()]


def lane_partition(fleet: Fleet, name: str = "hook") -> int:
    return fleet.partition_of(f"acme/{name}")


# fmt: off
FILTERS = [
    (("ledger.posted",),                  ["ledger.posted"]),
    (("ledger.*",),                       ["ledger.reserved", "ledger.posted"]),
    (("policy.accepted", "provider.*"),   ["policy.accepted", "provider.routed", "provider.callback",
                                           "provider.callback"]),
    (("*",),                              ["policy.accepted", "ledger.reserved", "provider.routed", "provider.callback",
                                           "provider.callback", "ledger.posted"]),
    (("webhook.*", "review.closed"),      []),
]
# fmt: on


@pytest.mark.parametrize(("filters", "topics"), FILTERS)
def test_an_endpoint_gets_what_it_asked_for_and_nothing_about_being_told(
    make_fleet: MakeFleet, filters: tuple[str, ...], topics: list[str]
) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", *filters),)))
    intent = fleet.submit(transfer())
    fleet.advance(120)
    bodies = [msgspec.json.decode(received.body) for received in fleet.endpoints.received]
    assert sorted(body["type"] for body in bodies) == sorted(topics)
    assert {body["data"]["id"] for body in bodies} <= {intent}
    assert fleet.events(intent).count("webhook.delivered") == len(topics)


def test_every_endpoint_has_its_own_delivery_and_one_that_is_down_holds_up_nobody(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("up"), endpoint("down"))), scripts={hook("down"): [DOWN]})
    intent = fleet.submit(transfer())
    fleet.advance(1)
    assert sorted(states(fleet)) == [DeliveryState.DELIVERED, DeliveryState.RETRYING]
    assert fleet.transaction(intent).state.lifecycle == "SUCCESSFUL"


# fmt: off
SCHEDULES = [
    ("at once",    [OK],             DeliveryState.DELIVERED, 1,            [DONE]),
    ("second try", [DOWN, OK],       DeliveryState.DELIVERED, 2,            [AGAIN, DONE]),
    ("no answer",  [LOST, LOST, OK], DeliveryState.DELIVERED, 3,            [AGAIN, AGAIN, DONE]),
    ("never",      [DOWN],           DeliveryState.EXHAUSTED, ATTEMPTS_MAX, [AGAIN] * 9 + [OVER]),
    ("gone",       [GONE],           DeliveryState.RETRYING,  1,            [AGAIN, DISABLED]),
    ("aborted",    [ABORTED],        DeliveryState.EXHAUSTED, 1,            [OVER]),
]
# fmt: on


@pytest.mark.parametrize("forgetful", [False, True], ids=["in memory", "passivated"])
@pytest.mark.parametrize(
    ("script", "state", "attempts", "told"), [row[1:] for row in SCHEDULES], ids=[row[0] for row in SCHEDULES]
)
def test_a_delivery_follows_the_schedule_to_its_end(
    make_fleet: MakeFleet,
    script: list[ScriptedReply],
    state: DeliveryState,
    attempts: int,
    told: list[str],
    forgetful: bool,
) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint(),)), scripts={hook(): script}, forgetful=forgetful)
    intent = fleet.submit(transfer())
    fleet.advance(FOUR_DAYS)
    row = next(iter(fleet.store.rows.delivery_states.values()))
    assert (row.state, row.attempts, len(fleet.store.rows.delivery_attempts)) == (state, attempts, attempts)
    assert [event for event in fleet.events(intent) if event.startswith("webhook.")] == told
    assert len({received.body for received in fleet.endpoints.received}) == 1  # the same bytes on each try
    assert len({received.headers["webhook-id"] for received in fleet.endpoints.received}) == 1
    assert not fleet.store.rows.timers


@pytest.mark.parametrize("width", [1, 2, 8])
def test_no_more_attempts_are_under_way_than_the_lane_is_wide(make_fleet: MakeFleet, width: int) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint(),)), lane_width=width)
    fleet.advance(1)
    fleet.effects_lost = True
    for _ in range(12):
        fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.run_until_idle()
    assert len(fleet.performed.calls) == width
    lane = fleet.workers[0].engine.memory.lanes["acme", "hook"]
    assert (len(lane.in_flight), len(lane.waiting)) == (width, 12 - width)


def test_a_lane_works_off_more_than_memory_holds(make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zentra.actors.lanes.LANE_WAITING_MAX", 3)
    monkeypatch.setattr("zentra.actors.loading.OPEN_DELIVERIES_MAX", 5)
    monkeypatch.setattr(store_module, "OPEN_DELIVERIES_MAX", 5)
    fleet = make_fleet(configuration(endpoints=(endpoint(),)), lane_width=2, events_max=5)
    for _ in range(40):
        fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.run_until_idle()
    assert states(fleet) == [DeliveryState.DELIVERED] * 40
    assert len(fleet.endpoints.received) == 40


def test_an_outage_larger_than_a_page_of_the_store_ends(make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zentra.actors.lanes.LANE_WAITING_MAX", 3)
    monkeypatch.setattr("zentra.actors.loading.OPEN_DELIVERIES_MAX", 5)
    monkeypatch.setattr(store_module, "OPEN_DELIVERIES_MAX", 5)
    fleet = make_fleet(configuration(endpoints=(endpoint(),)), scripts={hook(): [DOWN] * 30 + [OK]}, lane_width=2)
    for _ in range(20):
        fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.advance(FOUR_DAYS)
    assert states(fleet) == [DeliveryState.DELIVERED] * 20


def test_a_takeover_sends_again_what_was_under_way(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint(),)), lane_width=2)
    fleet.effects_lost = True
    for _ in range(5):
        fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.run_until_idle()
    fleet.effects_lost = False
    assert sorted(states(fleet)) == [DeliveryState.DELIVERING] * 2 + [DeliveryState.PENDING] * 3
    fleet.replace_worker("w2")
    fleet.advance(1)
    assert states(fleet) == [DeliveryState.DELIVERED] * 5
    assert sorted(row.attempts for row in fleet.store.rows.delivery_states.values()) == [1, 1, 1, 2, 2]


def test_a_takeover_finds_what_waited_for_its_lane_after_its_pause(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint(),)), scripts={hook(): [DOWN, DOWN, OK]}, lane_width=2)
    for _ in range(2):
        fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.run_until_idle()
    assert states(fleet) == [DeliveryState.RETRYING] * 2
    fleet.effects_lost = True
    for _ in range(2):  # they fill the lane and never report
        fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.advance(30)
    assert sorted(states(fleet)) == [DeliveryState.DELIVERING] * 2 + [DeliveryState.RETRYING] * 2
    assert not fleet.store.rows.timers or all(t.kind != "delivery" for t in fleet.store.rows.timers.values())
    fleet.effects_lost = False
    fleet.replace_worker("w2")
    fleet.advance(1)
    assert states(fleet) == [DeliveryState.DELIVERED] * 4


def test_an_attempt_that_never_reports_gives_its_place_back_and_is_made_again(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint(),)), lane_width=1)
    fleet.effects_lost = True
    for _ in range(3):
        fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.run_until_idle()
    fleet.effects_lost = False
    worker = fleet.workers[0]
    for seconds, expected in ((59, DeliveryState.DELIVERING), (2, DeliveryState.DELIVERED)):
        fleet.advance(seconds)
        worker.look_after_lanes(worker.leases)
        fleet.run_until_idle()
        assert expected in states(fleet)
    assert states(fleet) == [DeliveryState.DELIVERED] * 3
    assert sorted(row.attempts for row in fleet.store.rows.delivery_states.values()) == [1, 1, 2]


def test_a_failure_of_an_attempt_that_was_started_again_says_nothing(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint(),)), lane_width=1)
    fleet.effects_lost = True
    fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.run_until_idle()
    fleet.replace_worker("w2")
    fleet.run_until_idle()
    stale, current = fleet.performed.calls
    assert (stale[2].attempt, current[2].attempt) == (1, 2)
    fleet.effects_lost = False
    _answer(fleet, stale[2].delivery, 1, 503)
    assert states(fleet) == [DeliveryState.DELIVERING]
    assert fleet.workers[0].engine.memory.lanes["acme", "hook"].in_flight.keys() == {stale[2].delivery}
    _answer(fleet, stale[2].delivery, 2)
    assert states(fleet) == [DeliveryState.DELIVERED]


def test_a_replay_sends_the_same_bytes_again(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint(),)))
    intent = fleet.submit(transfer())
    fleet.advance(1)
    delivery = next(iter(fleet.store.rows.deliveries))
    command = fleet.command("replay_delivery", delivery, partition=lane_partition(fleet))
    fleet.run_until_idle()
    assert verdict(fleet, command) == "done"
    first, second = fleet.endpoints.received
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert fleet.events(intent).count("webhook.delivered") == 2
    assert [row[1] for row in fleet.store.rows.delivery_attempts.values()] == ["automatic", "manual"]


def test_what_is_being_sent_is_not_replayed(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint(),)), lane_width=1)
    fleet.effects_lost = True
    fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.run_until_idle()
    delivery = next(iter(fleet.store.rows.deliveries))
    command = fleet.command("replay_delivery", delivery, partition=lane_partition(fleet))
    fleet.run_until_idle()
    assert verdict(fleet, command) == "delivery_under_way"
    assert states(fleet) == [DeliveryState.DELIVERING]


def test_a_replay_command_that_comes_again_sends_nothing(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint(),)))
    fleet.submit(transfer())
    fleet.advance(1)
    delivery = next(iter(fleet.store.rows.deliveries))
    fleet.command("replay_delivery", delivery, partition=lane_partition(fleet))
    fleet.run_until_idle()
    sent = len(fleet.store.rows.delivery_attempts)
    fleet.replay()
    fleet.run_until_idle()
    assert (sent, len(fleet.store.rows.delivery_attempts)) == (2, 2)


def test_a_replay_of_what_gave_up_starts_the_schedule_anew(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint(),)), scripts={hook(): [DOWN] * (ATTEMPTS_MAX + 1) + [OK]})
    fleet.submit(transfer())
    fleet.advance(FOUR_DAYS)
    delivery = next(iter(fleet.store.rows.deliveries))
    fleet.command("replay_delivery", delivery, partition=lane_partition(fleet))
    fleet.advance(10)
    assert states(fleet) == [DeliveryState.DELIVERED]


def test_a_replay_of_another_tenants_delivery_is_not_found(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint(),)))
    fleet.submit(transfer())
    fleet.advance(1)
    delivery = next(iter(fleet.store.rows.deliveries))
    command = fleet.command("replay_delivery", delivery, partition=lane_partition(fleet), tenant="globex")
    fleet.run_until_idle()
    assert (verdict(fleet, command), len(fleet.endpoints.received)) == ("not_found", 1)


def test_a_delivery_replayed_before_its_lane_took_it_in_is_sent_once(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint(),)))
    fleet.submit(transfer(kind="book_transfer"))
    worker = fleet.workers[0]
    while not fleet.store.rows.deliveries:
        worker.take()
        worker.tick()
    delivery = next(iter(fleet.store.rows.deliveries))
    given = fleet.command("replay_delivery", delivery, partition=lane_partition(fleet))
    worker.take()
    worker.inbox.rotate(1)  # the command comes first
    fleet.run_until_idle()
    assert verdict(fleet, given) == "done"
    assert (states(fleet), len(fleet.endpoints.received)) == ([DeliveryState.DELIVERED], 1)


@pytest.mark.parametrize("repeats", [1, 2])
def test_deliveries_are_begun_once_however_often_their_frames_come(make_fleet: MakeFleet, repeats: int) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "*"),)), repeats=repeats)
    fleet.submit(transfer())
    fleet.advance(120)
    assert len(fleet.endpoints.received) == 6
    before = facts_of(fleet)
    fleet.replay()
    assert facts_of(fleet) == before
    assert len(fleet.endpoints.received) == 6


def test_a_new_delivery_beside_a_repeated_one_is_taken_in(make_fleet: MakeFleet) -> None:
    """The store refuses the repeat, nothing is trusted any more, and the new one must not be taken for begun."""
    fleet = make_fleet(configuration(endpoints=(endpoint(),)), events_max=1)
    fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.run_until_idle()
    due = next(message for message in fleet.stream.log().messages if message.subject.endswith(".webhook"))
    fleet.submit(transfer(1_000, kind="book_transfer"))
    worker = fleet.workers[0]
    while len(fleet.store.rows.deliveries) < 2:
        worker.take()
        worker.tick()
    fleet.emit_raw(lane_partition(fleet), "webhook", due.body)
    worker.take()
    fleet.events_max = 1_000
    fleet.run_until_idle()
    assert states(fleet) == [DeliveryState.DELIVERED] * 2


# When the packet is sealed --------------------------------------------------------------------------------------------


# fmt: off
SEALS = [
    ("no endpoint",     (),                 [OK],             1, [SEALED]),
    ("drained at once", ("ledger.posted",), [OK],             1, [DONE, SYNCED, SEALED]),
    ("drained in time", ("ledger.posted",), [DOWN, OK],       1, [AGAIN, DONE, SYNCED, SEALED]),
    ("after a minute",  ("ledger.posted",), [DOWN, DOWN, OK], 2, [AGAIN, AGAIN, SEALED, DONE, AMENDED]),
]
# fmt: on


@pytest.mark.parametrize("forgetful", [False, True], ids=["in memory", "passivated"])
@pytest.mark.parametrize(
    ("filters", "script", "leaves", "tail"), [row[1:] for row in SEALS], ids=[row[0] for row in SEALS]
)
def test_a_packet_is_sealed_when_deliveries_are_drained_or_after_a_minute(
    make_fleet: MakeFleet,
    filters: tuple[str, ...],
    script: list[ScriptedReply],
    leaves: int,
    tail: list[str],
    forgetful: bool,
) -> None:
    endpoints = (endpoint("hook", *filters),) if filters else ()
    fleet = make_fleet(configuration(endpoints=endpoints), scripts={hook(): script}, forgetful=forgetful)
    intent = fleet.submit(transfer(kind="book_transfer"))
    fleet.advance(3_600)
    events = fleet.events(intent)
    assert events[events.index("ledger.posted") + 1 :] == tail
    assert len(fleet.store.rows.leaves) == leaves


def test_facts_about_an_event_in_flight_do_not_hold_up_the_money(make_fleet: MakeFleet) -> None:
    """A delivery that is told while the ledger is asked makes that question stale; it must be asked again at once."""
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "*"),)), events_max=1)
    intent = fleet.submit(transfer())
    fleet.advance(1)
    assert fleet.transaction(intent).state.lifecycle == "SUCCESSFUL"


def test_how_ticks_are_cut_changes_no_delivery(make_fleet: MakeFleet) -> None:
    seen = []
    for events_max in (1, 4, 1_000):
        fleet = make_fleet(
            configuration(endpoints=(endpoint("hook", "ledger.*"), endpoint("other", "*"))),
            scripts={hook(): [DOWN, OK]},
            events_max=events_max,
        )
        for _ in range(6):
            fleet.submit(transfer(1_000))
        fleet.advance(FOUR_DAYS)
        found = summary(fleet)
        seen.append((found["balances"], found["states"], found["deliveries"]))
    assert seen[0] == seen[1] == seen[2]


def _answer(fleet: Fleet, delivery: str, attempt: int, status: int = 200) -> None:
    result = AttemptResult(delivery, attempt, status=status)
    fleet.emit(lane_partition(fleet), "webhook", [AttemptReported("acme", "hook", result)])
    fleet.run_until_idle()


def test_a_long_lane_of_an_endpoint_that_is_gone_is_given_up_by_a_worker_that_remembers_nothing(
    make_fleet: MakeFleet,
) -> None:
    """The lane ends at once, so a tick asks for all of its deliveries at once: one by one it would never be done."""
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "*"),)), lane_width=1)
    fleet.effects_lost = True
    for _ in range(60):
        fleet.submit(transfer(1_000))
    fleet.run_until_idle()
    assert len(states(fleet)) > 100
    fleet.forgetful = True
    fleet.store.configure(configuration(endpoints=()))
    fleet.emit(lane_partition(fleet), "webhook", [LaneOpened("acme", "hook")])
    fleet.run_until_idle()
    assert fleet.cases() == []
    assert sorted(set(states(fleet))) == [DeliveryState.DELIVERING, DeliveryState.EXHAUSTED]
    assert states(fleet).count(DeliveryState.DELIVERING) == 1  # its attempt has still to report


def test_many_attempts_that_never_reported_are_made_again_by_a_worker_that_remembers_nothing(
    make_fleet: MakeFleet,
) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "*"),)), lane_width=200)
    fleet.effects_lost = True
    for _ in range(80):
        fleet.submit(transfer(1_000))
    fleet.run_until_idle()
    assert states(fleet).count(DeliveryState.DELIVERING) == 200
    fleet.advance(61)
    assert states(fleet).count(DeliveryState.DELIVERING) == 200
    fleet.effects_lost = False
    fleet.forgetful = True
    fleet.workers[0].look_after_lanes(fleet.workers[0].leases)
    fleet.run_until_idle()
    assert fleet.cases() == []
    assert set(states(fleet)) == {DeliveryState.DELIVERED}


@pytest.mark.parametrize(
    ("attempt", "status", "after"),
    [
        # of     says  the delivery is
        (1,      200,  DeliveryState.DELIVERED),   # thought lost, and taken after all
        (1,      503,  DeliveryState.DELIVERING),  # only the latest says that it has to be tried again
        (1,      410,  DeliveryState.DELIVERING),
        (2,      200,  DeliveryState.DELIVERED),
        (2,      503,  DeliveryState.RETRYING),
        (3,      200,  DeliveryState.DELIVERING),  # of an attempt that there is not
    ],
)  # fmt: skip
def test_an_attempt_that_was_thought_lost_counts_where_it_was_taken(
    make_fleet: MakeFleet, attempt: int, status: int, after: DeliveryState
) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "ledger.posted"),)))
    fleet.effects_lost = True
    fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.run_until_idle()
    fleet.advance(61)
    fleet.emit(lane_partition(fleet), "webhook", [LaneOpened("acme", "hook")])
    fleet.run_until_idle()
    [(key, row)] = fleet.store.rows.delivery_states.items()
    assert (row.state, row.attempts) == (DeliveryState.DELIVERING, 2)
    for _ in range(2):  # a report may come twice
        _answer(fleet, key, attempt, status)
    assert states(fleet) == [after]
    ended = after is not DeliveryState.DELIVERING
    assert list(fleet.store.rows.delivery_attempts) == ([(key, attempt)] if ended else [])


def test_an_attempt_from_before_a_replay_does_not_end_what_was_asked_for_anew(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "ledger.posted"),)))
    fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.run_until_idle()
    [key] = fleet.store.rows.deliveries
    fleet.effects_lost = True
    fleet.command("replay_delivery", key, partition=lane_partition(fleet))
    fleet.run_until_idle()
    _answer(fleet, key, 1)
    assert states(fleet) == [DeliveryState.DELIVERING]


def test_attempts_that_are_lost_make_a_lane_narrower(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "*"),)), lane_width=8)
    fleet.effects_lost = True
    fleet.submit(transfer(1_000, kind="book_transfer"))
    fleet.run_until_idle()
    fleet.workers[0].engine.memory.lanes["acme", "hook"].width = 24
    for width in (12, 8, 8):  # never below what it had at first
        fleet.advance(61)
        fleet.emit(lane_partition(fleet), "webhook", [LaneOpened("acme", "hook")])
        fleet.run_until_idle()
        assert fleet.workers[0].engine.memory.lanes["acme", "hook"].width == width
