"""Which rail an intent goes by: what rests is not asked, what is ill is probed, and who finds none waits for a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from tests.actors.world import (
    MakeFleet,
    balances,
    configuration,
    endpoint,
    facts_of,
    hook,
    last_facts,
    outcome,
    transfer,
)
from zentra.actors.health import Standing
from zentra.actors.limits import room_of
from zentra.bench.twins.fleet import START, Fleet
from zentra.bench.twins.transport import ScriptedReply
from zentra.runtime.ports import Configuration
from zentra.runtime.rails.document import spelled
from zentra.runtime.rails.explaining import explain_route
from zentra.runtime.rails.health import CircuitState, Counts
from zentra.runtime.rails.operating import Maintenance, RailOperation
from zentra.runtime.rails.routing import Corridor, RailRoute

ALPHA, BETA = RailRoute("alpha", 1, 3, 10, 25), RailRoute("beta", 2)
SMALL = RailRoute("beta", 2, minor_max=1)
DRAINED = RailOperation(draining=True, reason="moved")
ILL = Standing(CircuitState.OPEN, Counts(20, 15), 0, "circuit_open")
PROBED = Standing(CircuitState.HALF_OPEN, Counts(20, 15), 2, "circuit_open")
FULL = Standing(CircuitState.CLOSED, Counts(), 0, "no_capacity")


def setting(
    *routes: RailRoute, wait_seconds: int = 30, alpha: RailOperation | None = None, beta: RailOperation | None = None
) -> Configuration:
    """Return a configuration whose one corridor has these rails, in version 7, and what is said of them."""
    operations = {name: said for name, said in (("alpha", alpha), ("beta", beta)) if said is not None}
    routes = routes or (ALPHA, BETA)
    corridor = Corridor(
        "acme", "ng", "NGN", "transfer", tuple(route.rail for route in routes), routes=routes, version=7,
        wait_seconds=wait_seconds,
    )  # fmt: skip
    return structs.replace(configuration(), corridors={"acme": (corridor,)}, operations=operations)


def stand(fleet: Fleet, **standings: Standing) -> None:
    """Let the workers see rails like this."""
    for worker in fleet.workers:
        worker.engine.memory.rails.standings = standings


def words(facts: dict[str, Any]) -> dict[str, str]:
    return {row["rail"]: row["word"] for row in facts["weighed"]}


def routed(fleet: Fleet, intent: str) -> tuple[str, dict[str, str]]:
    """Return the rail that was asked, and the word of each."""
    facts = last_facts(fleet, intent, "provider.routed")
    return facts["rail"], words(facts)


def test_a_decision_keeps_its_version_and_what_it_weighed(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(setting())
    intent = fleet.submit(transfer())
    fleet.run_until_idle()
    facts = last_facts(fleet, intent, "provider.routed")
    assert (facts["version"], facts["considered"]) == (7, {"alpha": "chosen", "beta": "not_needed"})
    assert facts["weighed"] == [
        {"rail": "alpha", "word": "chosen", "priority": 1, "weight": 3, "cost": "322"},
        {"rail": "beta", "word": "not_needed", "priority": 2, "weight": 1, "cost": "0"},
    ]


def test_a_corridor_of_no_document_is_decided_as_ever(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer())
    fleet.run_until_idle()
    facts = last_facts(fleet, intent, "provider.routed")
    assert (facts["considered"], facts.keys() & {"version", "weighed"}) == (
        {"alpha": "chosen", "beta": "not_needed"},
        set(),
    )


# fmt: off
NOW = START
WINDOW = RailOperation(maintenance=(Maintenance(NOW - timedelta(hours=1), NOW + timedelta(hours=1), "upgrade"),))
PASSED = RailOperation(maintenance=(Maintenance(NOW - timedelta(hours=2), NOW - timedelta(hours=1)),))
RESTING = [
    (DRAINED, {},               "draining"),
    (WINDOW,  {},               "maintenance"),
    (PASSED,  {},               ""),
    (None,    {"alpha": ILL},   "circuit_open"),
    (None,    {"alpha": FULL},  "no_capacity"),
    (None,    {"alpha": PROBED}, ""),
    (DRAINED, {"alpha": ILL},   "draining"),
]
# fmt: on


@pytest.mark.parametrize(("operation", "standings", "word"), RESTING)
def test_a_rail_that_cannot_be_asked_now_is_passed_over(
    make_fleet: MakeFleet, operation: RailOperation | None, standings: dict[str, Standing], word: str
) -> None:
    fleet = make_fleet(setting(alpha=operation))
    stand(fleet, **standings)
    intent = fleet.submit(transfer())
    fleet.run_until_idle()
    expected = (
        ("beta", {"alpha": word, "beta": "chosen"}) if word else ("alpha", {"alpha": "chosen", "beta": "not_needed"})
    )
    assert routed(fleet, intent) == expected


def test_the_health_that_was_used_stands_in_the_record(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(setting())
    stand(fleet, alpha=ILL)
    intent = fleet.submit(transfer())
    fleet.run_until_idle()
    seen = last_facts(fleet, intent, "provider.routed")["weighed"][0]
    assert (seen["circuit"], seen["calls"], seen["bad"]) == ("open", 20, 15)


def test_no_more_probes_are_sent_than_a_turn_has(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(setting())
    stand(fleet, alpha=PROBED)
    intents = [fleet.submit(transfer(100)) for _ in range(5)]
    fleet.run_until_idle()
    assert [routed(fleet, intent)[0] for intent in intents].count("alpha") == 2


# fmt: off
ROOM = [
    # settings of the rail                         of 30 intents in a tick may be sent
    ({"waiting_max": 4, "rate_per_second": 1.0},   5),   # one goes at once
    ({"waiting_max": 4, "concurrency_max": 2},     6),
    ({"rate_per_second": 0.2},                     13),  # as many as have their turn within a minute
    ({},                                           30),
]
# fmt: on


@pytest.mark.parametrize(("changes", "sent"), ROOM)
def test_no_more_intents_of_one_tick_go_to_a_rail_than_may_wait_for_it(
    make_fleet: MakeFleet, changes: dict[str, Any], sent: int
) -> None:
    config = setting(ALPHA)
    alpha = structs.replace(config.rails["alpha"], **changes)
    fleet = make_fleet(structs.replace(config, rails={**config.rails, "alpha": alpha}))
    fleet.effects_lost = True
    for worker in fleet.workers:
        worker.engine.memory.rails.room = lambda rail: room_of(rail) if len(fleet.performed.submissions) == 0 else 0
    intents = [fleet.submit(transfer(100)) for _ in range(30)]
    fleet.run_until_idle()
    assert sum(bool(fleet.transaction(intent).attempts) for intent in intents) == sent
    waiting = [intent for intent in intents if not fleet.transaction(intent).attempts]
    assert [words(last_facts(fleet, intent, "provider.awaited")) for intent in waiting] == [
        {"alpha": "no_capacity"} for _ in waiting
    ]


# fmt: off
AGAIN = [
    # how the rail stands     of 5 payments that it does not know are sent again
    ({},                      5),
    ({"alpha": ILL},          0),
    ({"alpha": PROBED},       2),
    ({"alpha": FULL},         5),
]
# fmt: on


@pytest.mark.parametrize(("standings", "sent"), AGAIN)
def test_a_payment_is_submitted_again_only_as_a_probe_to_a_rail_that_does_not_stand_well(
    make_fleet: MakeFleet, standings: dict[str, Standing], sent: int
) -> None:
    fleet = make_fleet(setting(ALPHA))
    fleet.effects_lost = True
    intents = [fleet.submit(transfer(100)) for _ in range(5)]
    fleet.run_until_idle()
    fleet.performed.submissions.clear()
    stand(fleet, **standings)
    fleet.now += timedelta(seconds=3)
    for intent in intents:
        fleet.report(outcome(intent, "not_found", trust="polled", minor=None, currency=None), f"poll/{intent}01/1")
    fleet.run_until_idle()
    assert len(fleet.performed.submissions) == sent
    fleet.performed.polls.clear()
    fleet.advance(10)
    assert {poll.reference for poll in fleet.performed.polls} == {f"{intent}01" for intent in intents}


def test_an_intent_waits_for_a_rail_and_goes_when_it_can_be_asked(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(setting(ALPHA, alpha=DRAINED))
    intent = fleet.submit(transfer())
    fleet.advance(20)
    facts = last_facts(fleet, intent, "provider.awaited")
    assert fleet.events(intent).count("provider.awaited") == 1
    assert (facts["reason"], words(facts)) == ("no_rail_now", {"alpha": "draining"})
    assert balances(fleet)["customer"][0] == 125_000
    assert fleet.rails["alpha"].submits.total() == 0
    fleet.store.configure(structs.replace(fleet.store.current, operations={}))
    fleet.advance(5)
    assert routed(fleet, intent) == ("alpha", {"alpha": "chosen"})
    fleet.advance(60)
    assert str(fleet.transaction(intent).state) == "SUCCESSFUL"


@pytest.mark.parametrize(("wait_seconds", "awaited"), [(30, 1), (0, 0)])
def test_an_intent_that_finds_no_rail_in_time_fails_and_its_hold_is_released(
    make_fleet: MakeFleet, wait_seconds: int, awaited: int
) -> None:
    fleet = make_fleet(setting(ALPHA, wait_seconds=wait_seconds, alpha=DRAINED))
    intent = fleet.submit(transfer())
    fleet.advance(wait_seconds + 3)
    assert fleet.events(intent).count("provider.awaited") == awaited
    assert last_facts(fleet, intent, "ledger.released")["reason"] == "no_rail_now"
    assert balances(fleet)["customer"] == (0, 0, 0, 5_000_000)
    assert fleet.rails["alpha"].submits.total() == 0
    ended = next(t.at for t in fleet.store.rows.transitions[intent] if t.event == "ledger.released")
    assert timedelta(seconds=wait_seconds) <= ended - START <= timedelta(seconds=wait_seconds + 3)


def test_events_beside_an_intent_do_not_make_it_wait_longer(make_fleet: MakeFleet) -> None:
    config = setting(ALPHA, alpha=DRAINED)
    config = structs.replace(config, endpoints={"acme": (endpoint("hook", "ledger.reserved"),)})
    fleet = make_fleet(config, scripts={hook(): [ScriptedReply(status=500)] * 20})
    intent = fleet.submit(transfer())
    fleet.advance(90)
    rows = fleet.store.rows.transitions[intent]
    assert [t.event for t in rows].count("webhook.retrying") >= 2
    ended = next(t.at for t in rows if t.event == "ledger.released")
    assert ended - START <= timedelta(seconds=33)


def test_a_waiting_intent_is_waited_for_by_whoever_takes_it_over(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(setting(ALPHA, alpha=DRAINED))
    intent = fleet.submit(transfer())
    fleet.advance(4)
    fleet.replace_worker("w2")
    fleet.advance(60)
    assert fleet.events(intent).count("provider.awaited") == 1
    assert last_facts(fleet, intent, "ledger.released")["reason"] == "no_rail_now"


def test_who_waits_can_be_cancelled(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(setting(ALPHA, alpha=DRAINED))
    intent = fleet.submit(transfer())
    fleet.advance(4)
    fleet.command("cancel", intent, {"reason": "too slow"})
    fleet.advance(5)
    assert fleet.transaction(intent).state.lifecycle == "FAILED"
    assert balances(fleet)["customer"] == (0, 0, 0, 5_000_000)


# fmt: off
NONE_LEFT: list[tuple[str, dict[str, Any], tuple[RailRoute, ...], dict[str, Standing], str, str]] = [
    # the other rail                 operated          routes          stands         its word       and so it fails
    ("is drained",                   {"beta": DRAINED}, (ALPHA, BETA), {},            "draining",    ", no_rail_now"),
    ("is in maintenance",            {"beta": WINDOW},  (ALPHA, BETA), {},            "maintenance", ", no_rail_now"),
    ("has an open circuit",          {},                (ALPHA, BETA), {"beta": ILL}, "circuit_open", ", no_rail_now"),
    ("is full",                      {},                (ALPHA, BETA), {"beta": FULL}, "no_capacity", ", no_rail_now"),
    ("does not take the amount",     {},                (ALPHA, SMALL), {},           "amount_mismatch", ""),
]
# fmt: on


@pytest.mark.parametrize(
    ("operated", "routes", "standings", "word", "more"),
    [row[1:] for row in NONE_LEFT],
    ids=[row[0] for row in NONE_LEFT],
)
def test_a_rail_that_did_not_accept_is_left_only_for_one_that_can_be_asked_at_once(
    make_fleet: MakeFleet, operated: dict[str, Any], routes: tuple[RailRoute, ...], standings: dict[str, Standing],
    word: str, more: str,
) -> None:  # fmt: skip
    """And where there is none the record says what was known of it, and the client whether it is worth coming back."""
    fleet = make_fleet(setting(*routes, **operated))
    stand(fleet, **standings)
    intent = fleet.submit(transfer(scenario="reject"))
    fleet.advance(5)
    assert "provider.failover" not in fleet.events(intent)
    assert last_facts(fleet, intent, "ledger.released")["reason"] == f"rail alpha: not_accepted{more}"
    assert balances(fleet)["customer"] == (0, 0, 0, 5_000_000)
    unchosen = last_facts(fleet, intent, "provider.callback")["unchosen"]
    assert unchosen["considered"] == {"alpha": "not_accepted", "beta": word}
    assert (unchosen["version"], [row["word"] for row in unchosen["weighed"]]) == (7, ["not_accepted", word])
    records = [t.record for t in fleet.store.rows.transitions[intent]]
    shown = explain_route(records, {7: spelled(fleet.store.current.corridors["acme"])})
    assert [(one.event, one.rail, one.same) for one in shown.decisions] == [
        ("provider.routed", "alpha", True), ("provider.callback", None, True),
    ]  # fmt: skip
    before = facts_of(fleet)
    fleet.replace_worker("w2")
    fleet.replay()
    assert facts_of(fleet) == before


def test_a_payment_is_not_submitted_again_to_a_rail_that_rests_but_is_polled(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(setting(ALPHA))
    fleet.effects_lost = True
    intent = fleet.submit(transfer())
    fleet.run_until_idle()
    fleet.effects_lost = False
    fleet.store.configure(structs.replace(fleet.store.current, operations={"alpha": DRAINED}))
    fleet.advance(40)
    rail, reference = fleet.rails["alpha"], f"{intent}01"
    assert (rail.submits[reference], rail.polls[reference] >= 2) == (0, True)
    assert "ledger.released" not in fleet.events(intent)
    fleet.store.configure(structs.replace(fleet.store.current, operations={}))
    fleet.advance(120)
    assert rail.submits[reference] == 1
    assert fleet.transaction(intent).state.lifecycle == "SUCCESSFUL"


@pytest.mark.parametrize("standings", [{"alpha": ILL}, {}])
def test_an_unknown_outcome_stays_with_its_rail_whatever_its_health(
    make_fleet: MakeFleet, standings: dict[str, Standing]
) -> None:
    fleet = make_fleet(setting())
    intent = fleet.submit(transfer(scenario="never_answers"))
    fleet.run_until_idle()
    stand(fleet, **standings)
    fleet.advance(600)
    assert routed(fleet, intent)[0] == "alpha"
    assert not {"provider.failover", "ledger.released"} & set(fleet.events(intent))
    assert fleet.rails["beta"].submits.total() == 0
    assert balances(fleet)["customer"][0] == 125_000


@pytest.mark.parametrize("scenario", [None, "reject", "decline"])
@pytest.mark.parametrize("standings", [{}, {"alpha": ILL}, {"alpha": PROBED}])
def test_each_decision_is_made_again_from_its_record_and_the_document_of_its_version(
    make_fleet: MakeFleet, scenario: str | None, standings: dict[str, Standing]
) -> None:
    even = structs.replace(BETA, priority=1)
    fleet = make_fleet(setting(ALPHA, even))
    stand(fleet, **standings)
    intent = fleet.submit(transfer(scenario=scenario))
    fleet.advance(10)
    records = [t.record for t in fleet.store.rows.transitions[intent]]
    document = spelled(fleet.store.current.corridors["acme"])
    shown = explain_route(records, {7: document})
    decided = len(shown.attempts) + (scenario == "reject")  # and that no other rail is left
    assert [one.same for one in shown.decisions] == [True] * decided
    assert [one.word for one in shown.decisions[0].corridors] == ["chosen"]
    changed = {"corridors": [{**document["corridors"][0], "rails": [{"rail": "beta"}]}]}
    assert not any(one.same for one in explain_route(records, {7: changed}).decisions)
    assert [one.same for one in explain_route(records, {}).decisions] == [None] * decided
    last = {None: "succeeded", "reject": "not_accepted", "decline": "declined"}[scenario]
    assert shown.attempts[-1].outcome == last
    assert all(one.ended_at is not None for one in shown.attempts)


def test_an_explanation_tells_of_waiting_and_of_giving_up(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(setting(ALPHA, alpha=DRAINED))
    intent = fleet.submit(transfer())
    fleet.advance(40)
    records = [t.record for t in fleet.store.rows.transitions[intent]]
    shown = explain_route(records, {7: spelled(fleet.store.current.corridors["acme"])})
    assert (shown.ended, shown.attempts) == ("no_rail_now", ())
    assert [(one.event, one.rail, one.same) for one in shown.decisions] == [
        ("provider.awaited", None, True),
        ("ledger.released", None, True),
    ]
    for decision in shown.decisions:
        assert [(one.word, one.means) for one in decision.rails] == [
            ("draining", "an operator had stopped new submissions to it")
        ]


# fmt: off
NO_RAIL = [
    # routes                                                            standings        words
    ((RailRoute("alpha", minor_max=10), RailRoute("beta", countries=("GH",))), {},
     {"alpha": "amount_mismatch", "beta": "country_mismatch"}, "no_rail_left"),
    ((RailRoute("alpha", minor_max=10), RailRoute("gone")), {},
     {"alpha": "amount_mismatch", "gone": "unavailable"}, "no_rail_left"),
    ((RailRoute("alpha", minor_max=10), RailRoute("beta")), {"beta": ILL},
     {"alpha": "amount_mismatch", "beta": "circuit_open"}, "no_rail_now"),
]
# fmt: on


@pytest.mark.parametrize(("routes", "standings", "said", "reason"), NO_RAIL)
def test_that_no_rail_is_left_is_recorded_with_each_and_why(
    make_fleet: MakeFleet,
    routes: tuple[RailRoute, ...],
    standings: dict[str, Standing],
    said: dict[str, str],
    reason: str,
) -> None:
    fleet = make_fleet(setting(*routes, wait_seconds=0))
    stand(fleet, **standings)
    intent = fleet.submit(transfer())
    fleet.run_until_idle()
    released = last_facts(fleet, intent, "ledger.released")
    unchosen = released["unchosen"]
    assert (released["reason"], unchosen["reason"], unchosen["corridor"], unchosen["version"]) == (
        reason,
        reason,
        "ng",
        7,
    )
    assert (unchosen["considered"], words(unchosen)) == (said, said)
    records = [row.record for row in fleet.store.rows.transitions[intent]]
    (one,) = explain_route(records, {7: spelled(fleet.store.current.corridors["acme"])}).decisions
    assert (one.rail, one.reason, one.same, {row.rail: row.word for row in one.rails}) == (None, reason, True, said)


# fmt: off
LATER = [
    # what alpha says after it was left, and what beta says then     the hold     the cases
    (["succeeded"],               "declined",      125_000, ["provider_contradiction"]),
    (["not_accepted"],            "declined",      0,       []),
    ([],                          "declined",      0,       []),
    ([],                          "succeeded",     0,       []),
]
# fmt: on


@pytest.mark.parametrize("restarted", [False, True], ids=["the same worker", "another worker"])
@pytest.mark.parametrize("promoted", [False, True], ids=["one version", "a version without the first rail"])
@pytest.mark.parametrize(("first", "second", "held", "cases"), LATER)
def test_that_a_rail_did_not_accept_is_kept_whatever_version_chooses_the_next(
    make_fleet: MakeFleet,
    first: list[str],
    second: str,
    held: int,
    cases: list[str],
    promoted: bool,
    restarted: bool,
) -> None:
    fleet, intent = left(make_fleet, promoted=promoted)
    stored = fleet.transaction(intent).attempts
    assert [(attempt.rail, attempt.status) for attempt in stored] == [("alpha", "not_accepted"), ("beta", "started")]
    live = [worker.engine.memory.transactions[intent] for worker in fleet.workers]
    assert [tx.attempts for tx in live if tx is not None] == [stored]
    if restarted:
        fleet.replace_worker("w2")
        fleet.run_until_idle()
    for number, word in enumerate(first):
        fleet.report(outcome(intent, word, event=f"later-{number}"))
        fleet.run_until_idle()
    fleet.report(outcome(intent, second, event="second", attempt=2, rail="beta"))
    fleet.run_until_idle()
    assert (fleet.transaction(intent).held, fleet.cases()) == (held, cases)


@pytest.mark.parametrize("promoted", [False, True])
def test_a_decision_across_versions_is_made_again_and_tells_of_the_rail_that_was_left(
    make_fleet: MakeFleet,
    promoted: bool,
) -> None:
    fleet, intent = left(make_fleet, promoted=promoted)
    corridors = {7: spelled(ACROSS[:1]), 8: spelled(ACROSS[1:])}
    shown = explain_route([row.record for row in fleet.store.rows.transitions[intent]], corridors)
    assert [(one.version, one.rail, one.same) for one in shown.decisions] == [
        (7, "alpha", True),
        (8 if promoted else 7, "beta", True),
    ]
    assert {one.rail: one.word for one in shown.decisions[1].rails} == {
        "alpha": "not_accepted",
        "beta": "chosen",
        **({"gamma": "not_needed"} if promoted else {}),
    }
    assert [(one.rail, one.outcome) for one in shown.attempts] == [("alpha", "not_accepted"), ("beta", "started")]


ACROSS = tuple(
    Corridor(
        "acme", "ng", "NGN", "transfer", rails, routes=tuple(RailRoute(rail, n) for n, rail in enumerate(rails, 1)),
        version=version,
    )
    for version, rails in ((7, ("alpha", "beta")), (8, ("beta", "gamma")))
)  # fmt: skip


def left(make_fleet: MakeFleet, *, promoted: bool) -> tuple[Fleet, str]:
    """Return a fleet with a payment that alpha did not accept, so beta has it; between them perhaps another version."""
    base = configuration()
    rails = {**base.rails, "gamma": structs.replace(base.rails["beta"], name="gamma")}
    base = structs.replace(base, rails=rails, corridors={"acme": ACROSS[:1]})
    fleet = make_fleet(base)
    fleet.effects_lost = True
    intent = fleet.submit(transfer(scenario="silent"))
    fleet.run_until_idle()
    if promoted:
        fleet.store.configure(structs.replace(base, corridors={"acme": ACROSS[1:]}))
    fleet.report(outcome(intent, "not_accepted", event="first", minor=None, currency=None))
    fleet.run_until_idle()
    return fleet, intent
