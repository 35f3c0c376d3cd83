"""Lanes of endpoints: in order, in short, disabled and enabled, slowed down; and what a worker remembers of them."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from msgspec import structs

from tests.actors.world import MakeFleet, configuration, endpoint, facts_of, hook, transfer, verdict
from zentra.bench.twins.fleet import Fleet
from zentra.bench.twins.transport import ScriptedReply
from zentra.runtime.messages import LaneOpened
from zentra.runtime.ports import Endpoint
from zentra.runtime.webhooks.delivery import TELL_OF_ENDPOINT, DeliveryState, EndpointSwitched
from zentra.runtime.webhooks.standard import BODY_BYTES_MAX, AttemptError, verify
from zentra.runtime.webhooks.terms import EndpointTerms

OK, DOWN, GONE, BUSY = ScriptedReply(200), ScriptedReply(503), ScriptedReply(410), ScriptedReply(429)
OURS = ScriptedReply(None, AttemptError.INTERNAL)
LOST = ScriptedReply(None, AttemptError.TIMEOUT)
DISABLED = "webhook.endpoint_disabled"
FIFO = EndpointTerms(fifo=True)
D = DeliveryState


def terms_of(name: str, terms: EndpointTerms, *events: str) -> Endpoint:
    return structs.replace(endpoint(name, *events), terms=terms)


def states(fleet: Fleet, name: str = "hook") -> list[DeliveryState]:
    rows = fleet.store.rows
    return [row.state for key, row in rows.delivery_states.items() if rows.deliveries[key].endpoint == name]


def book(fleet: Fleet, count: int) -> list[str]:
    """Let so many intents be booked, one after the other."""
    made = []
    for _ in range(count):
        made.append(fleet.submit(transfer(1_000, kind="book_transfer")))
        fleet.run_until_idle()
    return made


def told(fleet: Fleet, url: str = hook()) -> list[str]:
    """Return the intents that an endpoint heard of, one for each call."""
    calls = [one for one in fleet.endpoints.received if one.url == url]
    return [msgspec.json.decode(one.body)["data"]["id"] for one in calls]


def enable(fleet: Fleet, *endpoints: Endpoint) -> None:
    """Enable these endpoints, and let workers look after their lanes as they do then."""
    fleet.store.configure(
        structs.replace(fleet.store.current, endpoints={"acme": endpoints}, endpoints_held=frozenset())
    )
    for one in endpoints:
        fleet.emit(fleet.partition_of(f"acme/{one.id}"), "webhook", [LaneOpened("acme", one.id)])
    fleet.run_until_idle()


# Disabled and enabled -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forgetful", [False, True], ids=["in memory", "passivated"])
@pytest.mark.parametrize("takeover", [False, True])
def test_what_an_endpoint_that_is_gone_was_to_get_is_kept_until_it_is_enabled(
    make_fleet: MakeFleet, forgetful: bool, takeover: bool
) -> None:
    hooks = (endpoint("hook"), endpoint("ops", DISABLED))
    fleet = make_fleet(
        configuration(endpoints=hooks), scripts={hook(): [GONE, OK]}, lane_width=1, forgetful=forgetful
    )  # fmt: skip
    fleet.effects_lost = True
    first = book(fleet, 4)[0]
    fleet.effects_lost = False
    fleet.replace_worker("w2")
    fleet.advance(60)
    assert [one.id for one in fleet.store.current.endpoints["acme"]] == ["ops"]
    assert fleet.store.current.endpoints_held == {("acme", "hook")}
    assert states(fleet) == [D.RETRYING, D.PENDING, D.PENDING, D.PENDING]
    assert len(told(fleet)) == 1
    body = msgspec.json.decode(next(one for one in fleet.endpoints.received if one.url == hook("ops")).body)
    said = body["data"]["endpoint"]
    assert (body["type"], body["data"]["id"], said["id"], said["reason"]) == (DISABLED, first, "hook", "gone")
    assert (said["status_code"], said["event"], said["attempts"]) == (410, "ledger.posted", 2)
    assert fleet.events(first).count(DISABLED) == 1
    if takeover:
        fleet.replace_worker("w3")
        fleet.advance(86_400)
        assert len(told(fleet)) == 1
    enable(fleet, *hooks)
    assert states(fleet) == [D.DELIVERED] * 4
    assert sorted(told(fleet)) == sorted([first, *fleet.store.rows.transitions])


@pytest.mark.parametrize(("topic", "enabled"), [(DISABLED, False), ("webhook.endpoint_enabled", True)])
@pytest.mark.parametrize("mode", ["full", "thin"])
def test_what_somebody_did_to_an_endpoint_is_told_to_the_others_by_name_as_often_as_it_was_done(
    make_fleet: MakeFleet, topic: str, enabled: bool, mode: str
) -> None:
    hooks = (endpoint("hook"), structs.replace(endpoint("ops", "webhook.*"), terms=EndpointTerms(mode=mode)))
    fleet = make_fleet(configuration(endpoints=hooks))
    (intent,) = book(fleet, 1)
    fleet.run_until_idle()
    (delivery,) = fleet.store.rows.deliveries
    body = EndpointSwitched("hook", enabled, delivery, "ledger.posted", 1, 200)
    for _ in range(2):
        given = fleet.command(TELL_OF_ENDPOINT, intent, body, principal="ada", role="developer")
        fleet.run_until_idle()
        assert verdict(fleet, given) == "done"
    heard = [msgspec.json.decode(one.body) for one in fleet.endpoints.received if one.url == hook("ops")]
    assert [(one["type"], one["data"]["id"]) for one in heard] == [(topic, intent)] * 2
    assert heard[0]["data"]["endpoint"] == {
        "id": "hook", "reason": "asked", "by": "ada", "delivery": delivery, "event": "ledger.posted", "attempts": 1,
        "status_code": 200, "error": None,
    }  # fmt: skip
    assert fleet.events(intent).count(topic) == 2


def test_nobody_tells_of_an_endpoint_on_the_intent_of_another_tenant(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("ops", "webhook.*"),)))
    (intent,) = book(fleet, 1)
    body = EndpointSwitched("hook", False, "0" * 32, "ledger.posted", 1)
    given = fleet.command(TELL_OF_ENDPOINT, intent, body, tenant="globex")
    fleet.run_until_idle()
    assert verdict(fleet, given) == "not_found"
    assert DISABLED not in fleet.events(intent)


# fmt: off
SUSTAINED = [
    ("too short yet",      4 * 3_600, [DOWN],                     False),
    ("long enough",        3_600,     [DOWN],                     True),
    ("never",              0,         [DOWN],                     False),
    ("no answer at all",   3_600,     [LOST],                     True),
    ("a fault of ours",    3_600,     [OURS],                     False),
    ("a success between",  9_000,     [DOWN, DOWN, DOWN, DOWN, OK], False),
]
# fmt: on


@pytest.mark.parametrize(("after", "script", "disabled"), [row[1:] for row in SUSTAINED], ids=[r[0] for r in SUSTAINED])
def test_an_endpoint_that_takes_nothing_for_too_long_is_disabled(
    make_fleet: MakeFleet, after: int, script: list[ScriptedReply], disabled: bool
) -> None:
    hooks = (terms_of("hook", EndpointTerms(disable_after_seconds=after)), endpoint("ops", DISABLED))
    fleet = make_fleet(configuration(endpoints=hooks), scripts={hook(): script})
    book(fleet, 1)
    fleet.advance(3 * 3_600)
    assert (("acme", "hook") in fleet.store.current.endpoints_held) is disabled
    assert len(told(fleet, hook("ops"))) == disabled
    if disabled:
        body = msgspec.json.decode(fleet.endpoints.received[-1].body)["data"]["endpoint"]
        assert (body["reason"], body["id"]) == ("failing", "hook")


def test_how_long_an_endpoint_has_failed_outlives_its_worker(make_fleet: MakeFleet) -> None:
    hooks = (terms_of("hook", EndpointTerms(disable_after_seconds=3_600)),)
    fleet = make_fleet(configuration(endpoints=hooks), scripts={hook(): [DOWN]})
    book(fleet, 1)
    fleet.advance(600)
    failing_since = fleet.store.rows.lanes["acme", "hook"].health.failing_since
    fleet.replace_worker("w2")
    fleet.advance(3 * 3_600)
    assert failing_since is not None
    assert fleet.store.current.endpoints_held == {("acme", "hook")}


def test_a_deleted_endpoint_ends_what_waited_for_it(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint(),)), scripts={hook(): [GONE]}, lane_width=1)
    book(fleet, 2)
    fleet.advance(1)
    assert states(fleet) == [D.RETRYING]
    fleet.store.configure(structs.replace(fleet.store.current, endpoints={}, endpoints_held=frozenset()))
    fleet.emit(fleet.partition_of("acme/hook"), "webhook", [LaneOpened("acme", "hook")])
    fleet.run_until_idle()
    assert states(fleet) == [D.EXHAUSTED]


# In order -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forgetful", [False, True], ids=["in memory", "passivated"])
def test_an_endpoint_in_order_gets_one_event_at_a_time_and_waits_for_the_one_that_fails(
    make_fleet: MakeFleet, forgetful: bool
) -> None:
    fleet = make_fleet(
        configuration(endpoints=(terms_of("hook", FIFO),)), scripts={hook(): [OK, DOWN, DOWN, OK]}, forgetful=forgetful
    )
    made = book(fleet, 6)
    fleet.run_until_idle()
    assert told(fleet) == made[:2]
    assert states(fleet) == [D.DELIVERED, D.RETRYING] + [D.PENDING] * 4
    fleet.advance(7)
    assert told(fleet) == [*made[:2], made[1]]
    fleet.advance(400)
    assert told(fleet) == [made[0], made[1], made[1], *made[1:]]
    numbers = [one.headers["zentra-sequence"] for one in fleet.endpoints.received]
    assert numbers == ["1", "2", "2", "2", "3", "4", "5", "6"]


def test_a_head_that_is_given_up_lets_the_next_one_go(make_fleet: MakeFleet) -> None:
    terms = EndpointTerms(fifo=True, schedule=(0, 60))
    fleet = make_fleet(configuration(endpoints=(terms_of("hook", terms),)), scripts={hook(): [DOWN, DOWN, OK]})
    made = book(fleet, 3)
    fleet.advance(100)
    assert told(fleet) == [made[0], made[0], made[1], made[2]]
    assert states(fleet) == [D.EXHAUSTED, D.DELIVERED, D.DELIVERED]


@pytest.mark.parametrize("lost", [False, True], ids=["head retries", "head under way"])
def test_a_takeover_keeps_the_order(make_fleet: MakeFleet, lost: bool) -> None:
    terms = EndpointTerms(fifo=True, schedule=(0, 60, 60))
    fleet = make_fleet(configuration(endpoints=(terms_of("hook", terms),)), scripts={hook(): [DOWN, OK]})
    fleet.effects_lost = lost
    made = book(fleet, 4)
    fleet.effects_lost = False
    fleet.replace_worker("w2")
    fleet.run_until_idle()
    if not lost:
        assert told(fleet) == made[:1], "the one that waits for its time still comes first"
    fleet.advance(80)
    assert told(fleet) == [made[0], *made]


def test_a_replay_takes_its_old_place(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(terms_of("hook", FIFO),)), scripts={hook(): [OK, OK, DOWN, OK]})
    made = book(fleet, 5)
    assert told(fleet) == made[:3]
    key = next(key for key, row in fleet.store.rows.deliveries.items() if row.intent == made[1])
    command = fleet.command("replay_delivery", key, partition=fleet.partition_of("acme/hook"))
    fleet.advance(60)
    assert verdict(fleet, command) == "done"
    assert told(fleet) == [*made[:3], made[1], *made[2:]]


def test_a_long_lane_in_order_keeps_it_beyond_what_memory_holds(
    make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zentra.actors.lanes.LANE_WAITING_MAX", 3)
    monkeypatch.setattr("zentra.actors.loading.OPEN_DELIVERIES_MAX", 5)
    monkeypatch.setattr("zentra.bench.twins.store.OPEN_DELIVERIES_MAX", 5)
    fleet = make_fleet(configuration(endpoints=(terms_of("hook", FIFO),)), scripts={hook(): [DOWN, OK]})
    made = book(fleet, 20)
    fleet.advance(60)
    assert told(fleet) == [made[0], *made]


# Numbers, bodies, signatures, widths ----------------------------------------------------------------------------------


def test_the_numbers_of_a_lane_have_no_gap_and_no_second_whoever_gives_them(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "*"), endpoint("other"))))
    book(fleet, 3)
    fleet.replace_worker("w2")
    book(fleet, 3)
    fleet.replay()
    rows = fleet.store.rows
    for name in ("hook", "other"):
        numbers = [row.sequence for key, row in rows.delivery_states.items() if rows.deliveries[key].endpoint == name]
        assert sorted(numbers) == list(range(1, len(numbers) + 1))
        assert rows.lanes["acme", name].sequence == len(numbers)
    before = facts_of(fleet)
    fleet.replay()
    assert facts_of(fleet) == before


@pytest.mark.parametrize(("mode", "metadata", "thin"), [
    ("full", {"note": "x"}, False), ("thin", {"note": "x"}, True), ("full", {"note": "x" * BODY_BYTES_MAX}, True),
])  # fmt: skip
def test_an_event_is_told_in_short_where_it_is_wanted_or_too_large(
    make_fleet: MakeFleet, mode: str, metadata: dict[str, str], thin: bool
) -> None:
    fleet = make_fleet(configuration(endpoints=(terms_of("hook", EndpointTerms(mode=mode)),)))
    intent = fleet.submit(transfer(1_000, kind="book_transfer", metadata=metadata))
    fleet.run_until_idle()
    (received,) = fleet.endpoints.received
    data = msgspec.json.decode(received.body)["data"]
    assert (data["id"], data["object_version"]) == (intent, 3)
    assert data.get("fetch") == (f"/runtime/intents/{intent}" if thin else None)
    assert data["metadata"] == ({} if thin else metadata)
    assert len(received.body) <= BODY_BYTES_MAX


def test_secrets_sign_until_they_expire(make_fleet: MakeFleet) -> None:
    new, old = b"n" * 32, b"o" * 32
    hooks = structs.replace(endpoint(), secrets=(new, old))
    fleet = make_fleet(configuration(endpoints=()))
    hooks = structs.replace(hooks, secrets_until=(None, fleet.now + timedelta(hours=1)))
    fleet.store.configure(structs.replace(fleet.store.current, endpoints={"acme": (hooks,)}))
    for hours, signatures in ((0, 2), (2, 1)):
        fleet.advance(hours * 3_600)
        book(fleet, 1)
        received = fleet.endpoints.received[-1]
        header = received.headers["webhook-signature"]
        assert len(header.split()) == signatures
        for secret in (new, old)[:signatures]:
            stamp = received.headers["webhook-timestamp"]
            verify([secret], received.headers["webhook-id"], stamp, header, received.body, fleet.seconds())


# fmt: off
WIDTHS = [
    (EndpointTerms(),                             [OK],   8),
    (EndpointTerms(concurrency=3),                [OK],   3),
    (EndpointTerms(per_second=2),                 [OK],   4),
    (EndpointTerms(fifo=True, concurrency=3),     [OK],   1),
]
# fmt: on


@pytest.mark.parametrize(("terms", "script", "width"), WIDTHS)
def test_an_endpoint_bounds_what_is_under_way(
    make_fleet: MakeFleet, terms: EndpointTerms, script: list[ScriptedReply], width: int
) -> None:
    fleet = make_fleet(configuration(endpoints=(terms_of("hook", terms),)), scripts={hook(): script})
    fleet.effects_lost = True
    book(fleet, 12)
    assert len(fleet.performed.calls) == width


@pytest.mark.parametrize(("reply", "width"), [(BUSY, 1), (ScriptedReply(502), 1), (ScriptedReply(504), 1), (LOST, 8)])
def test_an_endpoint_that_asks_for_less_gets_one_at_a_time(
    make_fleet: MakeFleet, reply: ScriptedReply, width: int
) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint(),)), scripts={hook(): [reply]})
    book(fleet, 1)
    fleet.effects_lost = True
    book(fleet, 12)
    assert len(fleet.performed.calls) == 1 + width


def test_a_schedule_of_its_own_is_followed_to_its_end(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(
        configuration(endpoints=(terms_of("hook", EndpointTerms(schedule=(0, 10, 100))),)), scripts={hook(): [DOWN]}
    )
    book(fleet, 1)
    assert len(told(fleet)) == 1
    fleet.advance(13)
    assert len(told(fleet)) == 2
    fleet.advance(86_400)
    assert (len(told(fleet)), states(fleet)) == (3, [D.EXHAUSTED])


# What is remembered ---------------------------------------------------------------------------------------------------


def test_what_waits_for_a_time_is_not_kept_in_memory(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint(),)), scripts={hook(): [DOWN]})
    book(fleet, 30)
    assert states(fleet) == [D.RETRYING] * 30
    assert not fleet.workers[0].engine.memory.deliveries


def test_many_pauses_that_end_at_once_are_worked_off_by_a_worker_that_remembers_nothing(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint(),)), scripts={hook(): [DOWN] * 150 + [OK]})
    book(fleet, 150)
    fleet.now += timedelta(seconds=20)
    fleet.replace_worker("w2")
    fleet.fire_timers()
    fleet.run_until_idle()
    assert fleet.cases() == []
    assert states(fleet) == [D.DELIVERED] * 150
