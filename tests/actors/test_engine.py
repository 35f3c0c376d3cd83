"""What holds for the engine as a whole, whatever the story: repeats, replays, passivation, poison, refusals, doubt."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec import structs

from tests.actors.world import MakeFleet, balances, configuration, endpoint, facts_of, outcome, summary, transfer
from zentra.actors import stages
from zentra.bench.twins.fleet import Fleet, at_once
from zentra.runtime import messages as m
from zentra.runtime.errors import Contended, DataError, InDoubt, Unavailable
from zentra.runtime.intents.vocabulary import IntentKind, State
from zentra.runtime.ports import Ground, TickPlan, TickWrites
from zentra.runtime.rails.port import RailSettings
from zentra.runtime.stream_ports import Outgoing

Story = Callable[[Fleet], None]


def _transfer(fleet: Fleet) -> None:
    fleet.submit(transfer())
    fleet.advance(10)


def _decline(fleet: Fleet) -> None:
    fleet.submit(transfer(scenario="decline"))
    fleet.advance(10)


def _failover(fleet: Fleet) -> None:
    fleet.rails["alpha"].book.available = False
    fleet.submit(transfer())
    fleet.advance(10)


def _denied(fleet: Fleet) -> None:
    fleet.submit(transfer(10_000_001))
    fleet.submit(transfer(source="poor"))
    fleet.run_until_idle()


def _reviewed(fleet: Fleet) -> None:
    for number, decided in enumerate(("approved", "rejected")):
        intent = fleet.submit(transfer(1_000_000 + number))
        fleet.run_until_idle()
        fleet.command("decide_review", intent, {"verdict": decided, "round": 1, "reason": "seen"})
        fleet.advance(10)


def _reversed(fleet: Fleet) -> None:
    intent = fleet.submit(transfer())
    fleet.advance(10)
    for amount in ("25000", "full", "full"):
        fleet.command("reverse", intent, {"amount": amount})
        fleet.advance(1)


def _unknown(fleet: Fleet) -> None:
    intent = fleet.submit(transfer(scenario="never_answers"))
    fleet.advance(400)
    fleet.report(outcome(intent, "succeeded", event="evt-late"))
    fleet.advance(10)


def _callbacks(fleet: Fleet) -> None:
    for scenario in ("contradictory_status", "contradictory_amount", "duplicate_callback", "out_of_order"):
        fleet.submit(transfer(scenario=scenario))
        fleet.advance(10)


def _crowd(fleet: Fleet) -> None:
    for number in range(9):
        kind = IntentKind.BOOK_TRANSFER if number % 3 == 2 else IntentKind.TRANSFER
        fleet.submit(transfer(1_000 + number, scenario=("success", "decline", None)[number % 3], kind=kind))
    fleet.advance(10)


STORIES: dict[str, Story] = {
    "transfer": _transfer,
    "decline": _decline,
    "failover": _failover,
    "denied": _denied,
    "reviewed": _reviewed,
    "reversed": _reversed,
    "unknown": _unknown,
    "callbacks": _callbacks,
    "crowd": _crowd,
}
story = pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)


@story
def test_replaying_the_whole_stream_changes_nothing(make_fleet: MakeFleet, story: Story) -> None:
    fleet = make_fleet()
    story(fleet)
    before = facts_of(fleet)
    submitted = len(fleet.performed.submissions)
    fleet.replay()
    assert facts_of(fleet) == before
    assert len(fleet.performed.submissions) == submitted


@story
def test_replaying_frame_by_frame_changes_nothing(make_fleet: MakeFleet, story: Story) -> None:
    fleet = make_fleet()
    story(fleet)
    before = facts_of(fleet)
    fleet.events_max = 1
    fleet.replay()
    assert facts_of(fleet) == before


@pytest.mark.parametrize("repeats", [2, 3])
@story
def test_frames_that_come_again_at_once_change_nothing(make_fleet: MakeFleet, story: Story, repeats: int) -> None:
    once, again = make_fleet(), make_fleet(repeats=repeats)
    story(once)
    story(again)
    assert summary(again) == summary(once)


@pytest.mark.parametrize(
    "options",
    [{"forgetful": True}, {"events_max": 1}, {"events_max": 2}, {"forgetful": True, "events_max": 1}],
    ids=["passivated", "one by one", "two by two", "passivated, one by one"],
)
@story
def test_passivation_and_the_cut_of_ticks_change_nothing(
    make_fleet: MakeFleet, story: Story, options: dict[str, int | bool]
) -> None:
    plain, other = make_fleet(), make_fleet(**options)
    story(plain)
    story(other)
    assert summary(other) == summary(plain)


@story
def test_an_actor_in_memory_equals_the_one_in_the_store(make_fleet: MakeFleet, story: Story) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("hook", "*"),)))
    story(fleet)
    held = [tx for tx in fleet.workers[0].engine.memory.transactions.values() if tx is not None]
    for tx in held:
        assert structs.replace(tx, timer_due=None) == fleet.transaction(tx.id)


@story
def test_every_transition_is_on_the_feed_once(make_fleet: MakeFleet, story: Story) -> None:
    fleet = make_fleet()
    story(fleet)
    told = [
        (record["intent"], record["sequence"])
        for message in fleet.stream.log("ZE").messages
        for record in json.loads(message.body)
    ]
    written = [(t.intent, t.sequence) for found in fleet.store.rows.transitions.values() for t in found]
    assert sorted(told) == sorted(pair for pair in written if pair[1] > 1)  # the intake tells of the first


# Failures of the store ------------------------------------------------------------------------------------------------


# fmt: off
FAILURES = [
    ("contended",          Contended("deadlock"),   False),
    ("away",               Unavailable("away"),     False),
    ("doubt, not written", InDoubt("lost"),         False),
    ("doubt, written",     InDoubt("lost"),         True),
]
# fmt: on


@pytest.mark.parametrize(("error", "after"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
@pytest.mark.parametrize("number", range(7))
def test_a_commit_that_fails_is_run_again_and_one_that_happened_is_not(
    make_fleet: MakeFleet, error: Exception, after: bool, number: int
) -> None:
    plain, fleet = make_fleet(), make_fleet()
    for each in (plain, fleet):
        each.submit(transfer())
    worker = fleet.workers[0]
    for _ in range(number):
        worker.take()
        worker.tick()
    fleet.store.fail_next(error, after=after)
    for each in (plain, fleet):
        each.advance(10)
    assert summary(fleet) == summary(plain)
    assert list(fleet.rails["alpha"].submits.values()) == [1]


@pytest.mark.parametrize("method", ["intents", "accounts", "logs", "leases"])
def test_a_store_that_is_away_while_loading_is_asked_again(make_fleet: MakeFleet, method: str) -> None:
    plain, fleet = make_fleet(forgetful=True), make_fleet(forgetful=True)
    for _ in range(3):
        fleet.store.fail_next(Unavailable("away"), method=method)
    if method == "leases":
        fleet.store.fail_next(InDoubt("lost"))
    for each in (plain, fleet):
        each.submit(transfer())
        each.advance(10)
    assert summary(fleet) == summary(plain)


# Poison ---------------------------------------------------------------------------------------------------------------

GOOD = "a" * 32
# fmt: off
POISON = [
    ("no frame",                 "policy",   b"\xc1\xff"),
    ("not an event",             "policy",   b"\x91\x93\xa3due\x01\x02"),
    ("a gap",                    "ledger",   m.Due(GOOD, "acme", 7)),
    ("no uuid",                  "ledger",   m.Due("not-a-uuid", "acme", 1)),
    ("a zero byte",              "ledger",   m.Due("\x00" * 32, "ac\x00me", 1)),
    ("a broken opening",         "policy",   m.Due(GOOD, "acme", 1, m.Opening(b"{}", b"x"))),
    ("an unknown stage",         "callback", m.Due(GOOD, "acme", 1)),
    ("a stranger in the ledger", "ledger",   m.LeafDue("acme", GOOD, b"data")),
    ("a command for no uuid",    "command",  m.CommandGiven(GOOD, "acme", "cancel", "x", "ops", "operator", b"{}")),
    ("a command id of no kind",  "command",  m.CommandGiven("x", "acme", "cancel", GOOD, "ops", "operator", b"{}")),
    ("a report with zero bytes", "callback", m.RailReported(outcome(GOOD, "succeeded", reference="\x00"), "cause")),
    ("a timer of nobody",        "timer",    m.TimerFired("moon", GOOD, "state", "acme")),
    ("a delivery of no uuid",    "webhook",  m.CommandGiven(GOOD, "acme", "replay_delivery", "x", "ops", "dev", b"")),
]
# fmt: on


@pytest.mark.parametrize("crowded", [False, True], ids=["alone", "in a crowd"])
@pytest.mark.parametrize(("stage", "poison"), [row[1:] for row in POISON], ids=[row[0] for row in POISON])
def test_poison_is_set_aside_with_a_letter_and_a_case_and_nobody_waits(
    make_fleet: MakeFleet, stage: str, poison: bytes | m.Event, crowded: bool
) -> None:
    fleet = make_fleet()
    body = poison if isinstance(poison, bytes) else m.encode_frame([poison])
    partition = fleet.partition_of(GOOD)
    intents = [fleet.submit(transfer(1_000)) for _ in range(6 if crowded else 0)]
    fleet.emit_raw(partition, stage, body)
    fleet.advance(10)
    letters = fleet.stream.log("ZD").messages
    assert [message.subject for message in letters] == [f"zd.poison.{partition}"]
    assert fleet.cases() == ["poison_message"]
    assert all(fleet.transaction(intent).state is State.SUCCESSFUL for intent in intents)
    assert fleet.store.lease_rows[partition].position.sequence > 0
    before = facts_of(fleet)
    fleet.replay()  # the same poison is the same case
    assert facts_of(fleet) == before


def test_two_poisons_in_one_frame_are_two_cases(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.emit(1, "ledger", [m.Due("not-a-uuid", "acme", 1), m.Due("nor-this", "acme", 1)])
    fleet.run_until_idle()
    assert fleet.cases() == ["poison_message"] * 2


def test_poison_that_a_stream_lost_and_got_again_is_the_same_case(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    body = m.encode_frame([m.Due("not-a-uuid", "acme", 1)])
    for name in (GOOD, f"{GOOD}-17", f"{'b' * 32}-17"):
        fleet.publish([Outgoing(fleet.rules.command_subject(1, "ledger"), body, name)])
    fleet.run_until_idle()
    letters = [msgspec.json.decode(letter.body) for letter in fleet.stream.log("ZD").messages]
    assert [letter["cause"] for letter in letters] == [GOOD, f"{GOOD}-17", f"{'b' * 32}-17"]
    assert len({letter["case"] for letter in letters}) == 2
    assert fleet.cases() == ["poison_message"] * 2


def test_a_poisoned_ask_of_a_state_is_repeated_ever_more_rarely_under_one_case_a_day(
    make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(stages, "_BEGINNINGS", {**stages._BEGINNINGS, IntentKind.BOOK_TRANSFER: broken})
    fleet = make_fleet()
    intent = fleet.submit(transfer(5, kind=IntentKind.BOOK_TRANSFER))
    fleet.advance(3_600)
    letters = [msgspec.json.decode(letter.body) for letter in fleet.stream.log("ZD").messages]
    assert 8 <= len(letters) <= 10  # after 15 seconds, 30, 60 and so on
    assert fleet.cases() == ["poison_message"]
    assert {letter["case"] for letter in letters} == set(fleet.store.rows.cases)
    fleet.advance(86_400)
    assert fleet.cases() == ["poison_message"] * 2  # a resolved case does not silence it for ever
    monkeypatch.undo()
    fleet.advance(3_600)
    assert fleet.transaction(intent).state is State.SUCCESSFUL


def test_an_endpoint_whose_secret_cannot_be_opened_stops_only_its_own_deliveries(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(endpoints=(endpoint("good"), endpoint("broken"))))

    def opened(sealed: bytes) -> bytes:
        if sealed == b"?":
            raise ValueError("the seal does not fit")
        return sealed

    broken = structs.replace(endpoint("broken"), secrets=(b"?",))
    fleet.store.configure(structs.replace(fleet.store.current, endpoints={"acme": (endpoint("good"), broken)}))
    fleet.workers[0].engine.rules = structs.replace(fleet.rules, open_secret=opened)
    intent = fleet.submit(transfer())
    fleet.advance(120)
    assert fleet.transaction(intent).state is State.SUCCESSFUL
    assert fleet.events(intent).count("webhook.delivered") == 1
    assert fleet.cases() == ["poison_message"]


@pytest.mark.parametrize("number", range(6))
def test_a_tick_that_the_store_refuses_is_committed_in_parts_and_each_is_sent_once(
    make_fleet: MakeFleet, number: int
) -> None:
    fleet = make_fleet()
    intents = [fleet.submit(transfer(1_000 + number)) for number in range(5)]
    for _ in range(number):
        fleet.workers[0].take()
        fleet.workers[0].tick()
    for _ in range(2):  # for the whole tick, and again where nothing is trusted
        fleet.store.fail_next(DataError("no"))
    fleet.advance(10)
    assert [fleet.transaction(intent).state for intent in intents] == [State.SUCCESSFUL] * 5
    assert fleet.cases() == []
    assert sorted(fleet.rails["alpha"].submits.values()) == [1] * 5


def test_a_part_that_was_lost_sends_nothing_in_the_name_of_the_one_before(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intents = sorted((fleet.submit(transfer(1_000)) for _ in range(6)), key=fleet.partition_of)
    worker = fleet.workers[0]
    for _ in range(2):
        worker.take()
        worker.tick()
    last = fleet.partition_of(intents[-1])
    commit, calls = fleet.store.commit, 0

    async def losing(
        plan: TickPlan, decide: Callable[[Ground], TickWrites], draft: Any = None, turn: Any = None
    ) -> Ground:
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise DataError("no")
        if calls == 3:
            worker.drop(frozenset({last}))
        return await commit(plan, decide, draft, turn)

    fleet.store.commit = losing  # type: ignore[method-assign]  # the store refuses twice, then a partition is lost
    worker.take()
    worker.tick()
    kept = [intent for intent in intents if fleet.partition_of(intent) != last]
    assert sorted(s.reference[:32] for s in fleet.performed.submissions) == sorted(kept)


# Ownership ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["epoch", "version"])
def test_a_partition_that_was_lost_is_left_out_and_the_rest_commits(make_fleet: MakeFleet, column: str) -> None:
    fleet = make_fleet()
    intents = [fleet.submit(transfer(1_000)) for _ in range(6)]
    places = [fleet.partition_of(intent) for intent in intents]
    row = fleet.store.lease_rows[places[0]]
    setattr(row, column, getattr(row, column) + 1)
    fleet.run_until_idle()
    worker = fleet.workers[0]
    assert places[0] not in worker.leases
    for intent, place in zip(intents, places, strict=True):
        state = State.ACCEPTED if place == places[0] else State.SUBMITTED
        assert fleet.transaction(intent).state is state
        assert (intent in worker.engine.memory.transactions) == (place != places[0])
    worker.claim()  # it comes back and is read again from its checkpoint
    fleet.advance(10)
    assert [fleet.transaction(intent).state for intent in intents] == [State.SUCCESSFUL] * 6


def test_a_zombie_commits_nothing(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    zombie = fleet.workers[0]
    fleet.submit(transfer())
    zombie.take()
    fleet.replace_worker("w2")
    before = facts_of(fleet)
    zombie.tick()
    assert facts_of(fleet) == before
    fleet.advance(20)
    assert list(fleet.rails["alpha"].submits.values()) == [1]


def test_two_workers_share_the_partitions_and_hand_over_without_loss(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(events_max=3)
    intents = [fleet.submit(transfer(1_000)) for _ in range(20)]
    fleet.workers[0].take()
    fleet.workers[0].tick()
    fleet.add_worker("w2")
    for worker in (*fleet.workers, *fleet.workers):
        worker.claim()
    owned = [set(worker.leases) for worker in fleet.workers]
    assert owned[0] | owned[1] == set(range(8))
    assert not owned[0] & owned[1]
    assert all(owned)
    fleet.advance(20)
    assert [fleet.transaction(intent).state for intent in intents] == [State.SUCCESSFUL] * 20
    assert set(fleet.rails["alpha"].submits.values()) == {1}


def test_a_worker_that_dies_between_commit_and_publish_is_swept_up_after(make_fleet: MakeFleet) -> None:
    plain, fleet = make_fleet(), make_fleet()
    for each in (plain, fleet):
        each.submit(transfer())
    fleet.stream.available = False  # nothing committed by now is published
    worker = fleet.workers[0]
    fleet.stream.available = True
    worker.take()
    fleet.stream.available = False
    worker.tick()
    fleet.stream.available = True
    fleet.replace_worker("w2")
    fleet.sweep()
    fleet.advance(10)
    plain.advance(10)
    assert summary(fleet)["events"] == summary(plain)["events"]


def test_frames_of_a_tick_that_lost_its_first_partition_have_names_of_their_own(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intents = [fleet.submit(transfer(1_000)) for _ in range(8)]
    first = min(fleet.partition_of(intent) for intent in intents)
    fleet.run_until_idle()
    before = set(fleet.store.rows.outbox)
    fleet.store.lease_rows[first].version += 1
    more = [fleet.submit(transfer(1_000)) for _ in range(8)]
    fleet.run_until_idle()
    fresh = set(fleet.store.rows.outbox) - before - {f"f{intent[1:]}" for intent in more}
    assert fresh
    assert f"{first:04x}" not in {key[:4] for key in fresh}


# Configuration --------------------------------------------------------------------------------------------------------


def test_a_rail_that_was_taken_away_opens_a_case_instead_of_silence(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    intent = fleet.submit(transfer(scenario="never_answers"))
    fleet.run_until_idle()
    rails: dict[str, RailSettings] = {"beta": fleet.store.current.rails["beta"]}
    fleet.store.configure(structs.replace(fleet.store.current, rails=rails))
    fleet.advance(60)
    assert fleet.cases() == ["rail_unknown"]
    assert balances(fleet)["customer"][0] == 125_000
    assert fleet.transaction(intent).state is State.SUBMITTED


def test_memory_is_bounded_by_passivation(make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zentra.actors.memory.TRANSACTIONS_MAX", 3)
    fleet = make_fleet(events_max=4)
    intents = [fleet.submit(transfer(1_000, scenario="silent")) for _ in range(10)]
    fleet.run_until_idle()
    assert len(fleet.workers[0].engine.memory.transactions) <= 3
    for number, intent in enumerate(intents):
        fleet.report(outcome(intent, "succeeded", event=f"evt-{number}", minor=1_000))
    fleet.run_until_idle()
    assert [fleet.transaction(intent).state for intent in intents] == [State.SUCCESSFUL] * 10
    assert fleet.workers[0].engine.memory.transactions == {}  # sealed actors are passivated


def test_the_log_holds_each_packet_once_in_the_order_of_its_heads(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(repeats=2)
    intents = [fleet.submit(transfer(1_000, kind=IntentKind.BOOK_TRANSFER)) for _ in range(300)]
    fleet.run_until_idle()
    leaves = fleet.store.rows.leaves
    assert sorted(leaf[0] for leaf in leaves.values()) == sorted(intents)
    assert [index for _, index in sorted(leaves)] == list(range(300))
    assert ("acme", 8, 0) in fleet.store.rows.tiles
    assert at_once(fleet.store.logs(["acme"]))["acme"].size == 300
