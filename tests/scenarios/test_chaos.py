"""`zentra chaos`: the schedule is a function of its seed, the verdict finds what is planted, and a short run holds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from zentra.bench.chaos.bank import Readings, Row, account_wrongs, snapshot_wrongs
from zentra.bench.chaos.cli import chaos_app
from zentra.bench.chaos.consumer import Arrived
from zentra.bench.chaos.doors import Answer, Unanswered
from zentra.bench.chaos.ground import Command, Delivered, FeedRead, Ground, Intent, Step
from zentra.bench.chaos.load import REVIEWED_MINOR, Asked, Load, outcome_of
from zentra.bench.chaos.moods import RailMood
from zentra.bench.chaos.plan import KINDS, Fault, make_plan, parse_kinds
from zentra.bench.chaos.rail import RailPayment
from zentra.bench.chaos.report import Injected, as_text, make_report
from zentra.bench.chaos.run import Options, run_chaos
from zentra.bench.chaos.verdict import judge
from zentra.gateway.http.endpoint_fields import EVENTS_DEFAULT
from zentra.runtime.ledger.invariants import Breach
from zentra.storage.audit import Audit

SEEDS = range(200)

# The schedule.


def test_a_seed_is_one_schedule() -> None:
    assert make_plan(7, 120) == make_plan(7, 120)
    assert len({make_plan(seed, 120) for seed in SEEDS}) == len(SEEDS)


def test_three_hundred_seconds_hold_every_fault_whatever_the_seed() -> None:
    assert {frozenset(planned.fault for planned in make_plan(seed, 300)) for seed in SEEDS} == {frozenset(Fault)}


def test_sixty_seconds_hold_a_part_that_the_seed_draws() -> None:
    parts = {frozenset(planned.fault for planned in make_plan(seed, 60)) for seed in SEEDS}
    assert len(parts) > 20
    assert frozenset.union(*parts) == frozenset(Fault)


@pytest.mark.parametrize("seconds", [20, 60, 300, 1_000])
def test_faults_come_one_after_another_and_end_in_time(seconds: float) -> None:
    for seed in SEEDS:
        free = 0.0
        for planned in make_plan(seed, seconds):
            kind = KINDS[planned.fault]
            assert planned.at >= free
            assert kind.shortest - 0.001 <= planned.lasts <= kind.longest + 0.001
            assert planned.victim in (1, 2)
            free = planned.at + planned.lasts + kind.calm - 0.01
        assert free <= seconds


def test_no_fault_comes_twice_before_every_fault_came_once() -> None:
    for seed in SEEDS:
        faults = [planned.fault for planned in make_plan(seed, 600)]
        assert len(set(faults[: len(Fault)])) == len(Fault)


def test_only_what_was_asked_for_is_planned() -> None:
    wanted = parse_kinds("redis-emptied, worker-killed")
    assert {planned.fault for planned in make_plan(1, 120, wanted)} == set(wanted)


def test_a_schedule_without_a_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="too few for any of worker-stopped"):
        make_plan(1, 10, [Fault.WORKER_STOPPED])


@pytest.mark.parametrize("text", ["worker-eaten", "", "worker-killed,nats"])
def test_an_unknown_fault_is_refused_with_those_that_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="there are gateway-killed, worker-killed"):
        parse_kinds(text)


# The load.


class Door:
    """A door that answers with what it is given in turn, and then accepts."""

    def __init__(self, *answers: Answer | None) -> None:
        self.answers = list(answers)
        self.bodies: list[Mapping[str, Any]] = []

    async def create(self, tenant: str, key: str, body: Mapping[str, Any]) -> Answer:
        self.bodies.append(body)
        answer = self.answers.pop(0) if self.answers else Answer(202, b"{}")
        if answer is None:
            raise Unanswered
        return answer


async def loaded(seed: int, requests: int, door: Door) -> list[Asked]:
    load = Load(seed, 5_000.0, {"http": door})
    running = asyncio.create_task(load.run())
    while len(load.asked) < requests:
        await asyncio.sleep(0)
    load.stop()
    await running
    return load.asked


async def test_the_same_seed_asks_for_the_same() -> None:
    first, second = [[one.body for one in await loaded(3, 200, Door())][:200] for _ in range(2)]
    assert first == second


async def test_some_requests_are_repeats_and_some_of_those_are_changed() -> None:
    asked = await loaded(3, 3_000, Door())
    repeats = [one for one in asked if one.original is not None]
    assert 0.03 < len(repeats) / len(asked) < 0.09
    assert 0 < sum(one.changed for one in repeats) < len(repeats) / 2
    for one in repeats:
        first = asked[one.original or 0]
        assert (one.tenant, one.key, one.intent_id) == (first.tenant, first.key, first.intent_id)
        assert (one.body != first.body) is one.changed


async def test_only_what_was_accepted_is_asked_for_with_changed_content() -> None:
    door = Door(*[None] * 10_000)
    asked = await loaded(3, 2_000, door)
    assert any(one.original is not None for one in asked)
    assert not any(one.changed for one in asked)
    assert {one.outcome for one in asked} == {"unanswered"}


OUTCOMES = [
    (Answer(202, b""), "accepted"),
    (Answer(202, b"", replayed=True), "replayed"),
    (Answer(409, b"", "idempotency_in_flight"), "in_flight"),
    (Answer(409, b"", "intent_id_conflict"), "409 intent_id_conflict"),
    (Answer(422, b"", "idempotency_key_reused"), "reused"),
    (Answer(503, b"", "unavailable"), "shed"),
    (Answer(429, b""), "shed"),
    (Answer(500, b"", "internal"), "500 internal"),
]


@pytest.mark.parametrize(("answer", "outcome"), OUTCOMES)
def test_every_answer_has_a_word(answer: Answer, outcome: str) -> None:
    assert outcome_of(answer) == outcome


# The readings.


def row(account: str, *counters: int, guarded: bool = True, credit: bool = True, limit: int = 0) -> Row:
    return Row("acme", "NGN", account, guarded, limit, credit, *counters)


SNAPSHOTS = [
    ("balanced", [row("a", 10, 0, 5, 20), row("s", 0, 10, 20, 5, guarded=False)], []),
    ("posted does not balance", [row("a", 0, 0, 5, 20), row("s", 0, 0, 20, 6, guarded=False)], ["A"]),
    ("pending does not balance", [row("a", 3, 0, 0, 5), row("s", 0, 2, 5, 0, guarded=False)], ["A"]),
    ("below the floor by what is held", [row("a", 6, 0, 0, 5), row("s", 0, 6, 5, 0, guarded=False)], ["C"]),
    ("within the overdraft", [row("a", 6, 0, 0, 5, limit=1), row("s", 0, 6, 5, 0, guarded=False)], []),
    ("a debit account below its floor", [row("a", 0, 0, 0, 5, credit=False), row("s", 0, 0, 5, 0)], ["C", "C"]),
]


@pytest.mark.parametrize(("rows", "letters"), [case[1:] for case in SNAPSHOTS], ids=[case[0] for case in SNAPSHOTS])
def test_a_snapshot_shows_money_that_is_not_there(rows: list[Row], letters: list[str]) -> None:
    assert [letter for letter, _ in snapshot_wrongs(rows)] == letters


def shown(available: int, debits: int, credits: int) -> dict[str, Any]:
    counters = {"debits_posted": str(debits), "credits_posted": str(credits)}
    return {"available": str(available), "overdraft_limit": "0", "counters": counters}


@pytest.mark.parametrize(
    ("now", "before", "letters"),
    [
        (shown(5, 5, 10), None, []),
        (shown(5, 5, 10), shown(5, 5, 10), []),
        (shown(5, 4, 10), shown(5, 5, 10), ["B"]),
        (shown(5, 5, 9), shown(5, 5, 10), ["B"]),
        (shown(-1, 5, 10), None, ["C"]),
    ],
)
def test_what_the_api_shows_neither_falls_nor_goes_below_the_floor(
    now: dict[str, Any], before: dict[str, Any] | None, letters: list[str]
) -> None:
    assert [letter for letter, _ in account_wrongs("acme a", now, before)] == letters


# The verdict.

UUIDS = {name: f"{number:032x}" for number, name in enumerate(("paid", "booked", "declined", "referred", "silent"), 1)}
RAIL_STEPS = [
    ("ACCEPTED", "ingress.accepted"),
    ("PROCESSING/reserving", "policy.accepted"),
    ("PROCESSING/routing", "ledger.reserved"),
    ("AWAITING_PROVIDER/submitted", "provider.routed"),
]
PATHS = {
    "paid": [*RAIL_STEPS, ("AWAITING_PROVIDER/confirmed", "provider.callback"), ("SUCCESSFUL", "ledger.posted")],
    "booked": [*RAIL_STEPS[:2], ("SUCCESSFUL", "ledger.posted")],
    "declined": [*RAIL_STEPS, ("AWAITING_PROVIDER/refused", "provider.callback"), ("FAILED", "ledger.released")],
    "referred": [RAIL_STEPS[0], ("PROCESSING/judging", "policy.started"), ("REVIEW", "policy.review")],
    "silent": [*RAIL_STEPS, ("AWAITING_PROVIDER/submitted", "case.opened")],
}
POSTINGS = {
    "paid": [("reserve", 500, 0), ("post", -500, 500), ("settle", 0, 500)],
    "booked": [("book", 0, 500)],
    "declined": [("reserve", 500, 0), ("release", -500, 0)],
    "referred": [],
    "silent": [("reserve", 500, 0)],
}


def wanted(intents: list[Intent]) -> list[tuple[Intent, Step]]:
    return [(intent, step) for intent in intents for step in intent.steps if step.event in EVENTS_DEFAULT]


def good_ground() -> Ground:
    """A run in which everything held, as small as it can show everything."""
    intents, asked = [], []
    for number, (name, uuid) in enumerate(UUIDS.items()):
        minor = REVIEWED_MINOR if name == "referred" else 500
        kind = "book_transfer" if name == "booked" else "transfer"
        steps = [Step(place, *path, True, float(place)) for place, path in enumerate(PATHS[name], 1)]
        intents.append(
            Intent(
                id=uuid, tenant="acme", intent_id=name, key=f"key-{name}", created_at=0.5, steps=steps,
                command={"minor": str(minor), "currency": "NGN", "kind": kind}, postings=list(POSTINGS[name]),
                cases=[("provider_outcome_unknown", "open")] if name == "silent" else [],
                review="open" if name == "referred" else "",
                sealed=int(steps[-1].state in ("SUCCESSFUL", "FAILED")),
            )
        )  # fmt: skip
        asked.append(
            Asked(
                number=number, tenant="acme", door="http", key=f"key-{name}", intent_id=name, body={"amount": minor},
                at=0.4, outcome="accepted", answer=name.encode(),
            )
        )  # fmt: skip
    asked.append(Asked(**{**_fields(asked[0]), "number": 5, "original": 0, "outcome": "replayed"}))
    return Ground(
        asked=asked,
        intents=intents,
        payments=[
            RailPayment("chaos_1", f"{UUIDS['paid']}01", 500, "success", 2.0, 1, 1),
            RailPayment("chaos_2", f"{UUIDS['declined']}01", 500, "decline", 2.0, 1, 0),
            RailPayment("chaos_1", f"{UUIDS['silent']}01", 500, "silent", 2.0, 1, 0),
        ],
        commands=[],
        deliveries=[
            Delivered(f"d{number}", intent.id, step.event, "delivered")
            for number, (intent, step) in enumerate(wanted(intents), 1)
        ],
        arrived={f"msg_d{number}": Arrived(calls=2, accepted=1) for number, _ in enumerate(wanted(intents), 1)},
        feed=FeedRead(Counter((one.id, step.sequence) for one in intents for step in one.steps), whole=True),
        audit=Audit((), 5, 7, 24, 2),
        readings=Readings(),
        plain_rails=frozenset({"chaos_2"}),
        unsettled_seconds=1.0,
    )


def _fields(asked: Asked) -> dict[str, Any]:
    return {name: getattr(asked, name) for name in Asked.__struct_fields__}


def test_a_good_run_violates_nothing_and_names_every_invariant() -> None:
    verdicts = judge(good_ground())
    assert {verdict.letter: verdict.wrongs for verdict in verdicts if verdict.verdict == "violated"} == {}
    assert "".join(verdict.letter for verdict in verdicts) == "ABCDEFGHIJKLMNOPQRST"
    assert {verdict.letter for verdict in verdicts if verdict.verdict == "not_checked"} == {"K", "R"}


def of(ground: Ground, name: str) -> Intent:
    return next(one for one in ground.intents if one.intent_id == name)


def drop_intent(ground: Ground) -> None:
    gone = of(ground, "booked")
    ground.intents.remove(gone)
    ground.feed.told = Counter({key: count for key, count in ground.feed.told.items() if key[0] != gone.id})


def give_back(ground: Ground, *minors: int, state: str = "SUCCESSFUL", accepted: int = 1) -> None:
    intent = of(ground, "booked")
    intent.postings += [("reversal", 0, minor) for minor in minors]
    ground.commands += [Command(f"c{number}", "reverse", intent.id, True) for number in range(accepted)]
    intent.steps.append(Step(len(intent.steps) + 1, state, "ledger.reversal", True, 9.0))
    ground.deliveries.append(Delivered("d1", intent.id, "ledger.reversal", "delivered"))
    ground.feed.told[intent.id, len(intent.steps)] = 1


def open_cases(ground: Ground, scenario: str, count: int) -> None:
    of(ground, "paid").command["metadata"] = {"sandbox_scenario": scenario}
    of(ground, "paid").cases += [("provider_contradiction", "open")] * count


def belie(ground: Ground, *cases: str) -> None:
    """Have a bank call failed what it has paid."""
    payment = ground.payments[1]
    payment.rail, payment.scenario, payment.mood, payment.paid = "chaos_gtbank", "success", RailMood.CONTRADICTS, 1
    of(ground, "declined").cases = [("provider_contradiction", status) for status in cases]


def forge(ground: Ground) -> None:
    """Have somebody speak in the name of a bank, and be believed."""
    ground.payments[0].mood = RailMood.FORGES
    of(ground, "paid").command["metadata"] = {"sandbox_scenario": "success"}
    of(ground, "paid").cases = [("provider_contradiction", "resolved")]


def test_what_a_bank_itself_called_failed_may_stand_released_where_a_case_says_so() -> None:
    ground = good_ground()
    belie(ground, "resolved")
    assert {verdict.letter for verdict in judge(ground) if verdict.verdict == "violated"} == set()


def replace_step(ground: Ground, name: str, place: int, **changes: Any) -> None:
    steps = of(ground, name).steps
    old = {field: getattr(steps[place], field) for field in Step.__struct_fields__}
    steps[place] = Step(**{**old, **changes})


# What is planted, and the letters that find it.
PLANTED: list[tuple[str, Callable[[Ground], object], str]] = [
    ("the audit found money", lambda g: setattr(g, "audit", Audit((Breach("A", "acme", "x"),), 5, 7, 24, 2)), "A"),
    ("a reading found money", lambda g: g.readings.add([("A", "sums to 1")]), "A"),
    *(
        (f"the audit found {letter}", lambda g, letter=letter: setattr(
            g, "audit", Audit((Breach(letter, "acme", "x"),), 5, 7, 24, 2)), letter)
        for letter in "BCDEGLPS"
    ),
    ("a posting too many", lambda g: of(g, "paid").postings.append(("settle", 0, 500)), "E"),
    ("a release is missing", lambda g: of(g, "declined").postings.pop(), "E"),
    ("a failure posted", lambda g: of(g, "declined").postings.append(("post", 0, 500)), "EF"),
    ("a refused request made an intent", lambda g: setattr(g.asked[1], "outcome", "422 amount_zero"), "F"),
    ("a replay with other bytes", lambda g: setattr(g.asked[5], "answer", b"else"), "G"),
    ("the same key accepted as new twice", lambda g: setattr(g.asked[5], "outcome", "accepted"), "G"),
    ("two intents of one key", lambda g: setattr(of(g, "booked"), "key", "key-paid"), "G"),
    ("changed content was accepted", lambda g: setattr(g.asked[5], "changed", True), "H"),
    ("another amount than asked for", lambda g: of(g, "booked").command.update(minor="501"), "H"),
    ("success without a payment", lambda g: setattr(g.payments[0], "paid", 0), "IN"),
    ("failure of what was paid", lambda g: setattr(g.payments[1], "paid", 1), "IN"),
    ("a bank's record has a second payment", lambda g: setattr(g.payments[0], "paid", 2), "NO"),
    ("two rails paid", lambda g: g.payments.append(
        RailPayment("chaos_gtbank", f"{UUIDS['paid']}02", 500, "success", 3.0, 1, 1)), "NO"),
    ("a book transfer was paid out", lambda g: g.payments.append(
        RailPayment("chaos_gtbank", f"{UUIDS['booked']}01", 500, "success", 3.0, 1, 1)), "N"),
    ("a release of what was called failed and paid, without a case", lambda g: belie(g), "IN"),
    ("a contradiction that nobody resolved", lambda g: belie(g, "open"), "I"),
    ("two cases for one that contradicts itself", lambda g: belie(g, "resolved", "resolved"), "I"),
    ("a forged callback made a case", lambda g: forge(g), "I"),
    ("another currency than asked for", lambda g: setattr(g.payments[0], "currency", "KES"), "O"),
    ("an event without its delivery", lambda g: g.deliveries.pop(), "T"),
    ("a case for a repeated callback", lambda g: open_cases(g, "duplicate_callback", 1), "I"),
    ("two cases for one contradiction", lambda g: open_cases(g, "contradictory_amount", 2), "I"),
    ("a move that no table holds", lambda g: replace_step(g, "booked", 1, state="SUCCESSFUL"), "J"),
    ("a record without a cause", lambda g: replace_step(g, "booked", 1, known=False), "J"),
    ("given back twice", lambda g: give_back(g, 300, 300), "L"),
    ("more given back than taken", lambda g: give_back(g, 300, 300, accepted=2), "L"),
    ("all given back and still successful", lambda g: give_back(g, 500), "L"),
    ("an accepted reversal did nothing", lambda g: give_back(g, 100, accepted=2), "L"),
    ("another tenant saw it", lambda g: g.readings.add([("M", "globex got 200")]), "M"),
    ("a second rail took it", lambda g: g.payments.append(
        RailPayment("chaos_2", f"{UUIDS['silent']}02", 500, "silent", 3.0)), "N"),
    ("an acknowledged intent is lost", drop_intent, "O"),
    ("read over the API and not stored", lambda g: g.read_back.update(ghost=True), "O"),
    ("paid under two references", lambda g: g.payments.append(
        RailPayment("chaos_1", f"{UUIDS['paid']}02", 500, "success", 3.0, 1, 1)), "O"),
    ("a payment that nobody asked for", lambda g: g.payments.append(
        RailPayment("chaos_1", f"{9:032x}01", 500, "success", 3.0, 1, 1)), "O"),
    ("a payment of another amount", lambda g: setattr(g.payments[0], "amount", 501), "O"),
    ("a rail that pays twice was asked twice", lambda g: setattr(g.payments[1], "submits", 2), "O"),
    ("a history that nothing explains", lambda g: g.history_wrongs.append("answers: x"), "O"),
    ("a record that was never told", lambda g: g.feed.told.pop((UUIDS["paid"], 3)), "P"),
    ("an event without its commit", lambda g: g.feed.told.update([(UUIDS["paid"], 7)]), "P"),
    ("a gap in the versions", lambda g: replace_step(g, "booked", 2, sequence=4), "P"),
    ("a feed that breaks off", lambda g: setattr(g.feed, "whole", False), "P"),
    ("reserved before approval", lambda g: of(g, "referred").postings.append(("reserve", REVIEWED_MINOR, 0)), "EQ"),
    ("a head that does not verify", lambda g: g.evidence_flaws.append("another root"), "S"),
    ("a packet logged twice", lambda g: setattr(of(g, "paid"), "sealed", 2), "S"),
    ("an intent that nobody looks after", lambda g: of(g, "silent").cases.clear(), "T"),
    ("a delivery that waits", lambda g: g.deliveries.append(Delivered("d2", UUIDS["paid"], "x", "retrying")), "T"),
    ("a delivery that never arrived", lambda g: g.arrived.clear(), "T"),
    ("a webhook with other bytes", lambda g: setattr(g.arrived["msg_d1"], "differing", 1), "T"),
    ("a command without an outcome", lambda g: g.commands.append(Command("c", "reverse", UUIDS["paid"], None)), "T"),
    ("patience ran out", lambda g: setattr(g, "unsettled_seconds", None), "T"),
    ("a process was given up", lambda g: setattr(g, "given_up", "worker-1"), "T"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("plant", "letters"), [case[1:] for case in PLANTED], ids=[case[0].replace(" ", "-") for case in PLANTED]
)
def test_what_is_planted_is_found(plant: Callable[[Ground], object], letters: str) -> None:
    ground = good_ground()
    plant(ground)
    found = "".join(verdict.letter for verdict in judge(ground) if verdict.verdict == "violated")
    assert set(letters) <= set(found), found


def test_a_long_list_of_wrongs_is_cut_and_counted() -> None:
    ground = good_ground()
    ground.evidence_flaws += [f"flaw {number}" for number in range(40)]
    (verdict,) = (one for one in judge(ground) if one.letter == "S")
    assert (len(verdict.wrongs), verdict.count) == (10, 40)


# The report.


def injected(recovery: float | None) -> Injected:
    return Injected(
        fault="worker-killed", victim="worker-1", at=1.0, lasted=2.0, recovery_seconds=recovery,
        recovery_seconds_max=10.0, note="", hit_at=1.0, ended_at=3.0,
    )  # fmt: skip


@pytest.mark.parametrize(("recovery", "ok"), [(0.5, True), (10.0, True), (10.1, False), (None, False)])
def test_a_run_that_recovers_too_late_is_not_well(recovery: float | None, ok: bool) -> None:
    report = make_report(1, 60.0, [injected(recovery)], good_ground())
    assert report.ok is ok
    assert ("OVER ITS BOUND" in as_text(report)) is not ok


def test_a_violation_is_not_well_and_is_told() -> None:
    ground = good_ground()
    ground.evidence_flaws.append("the root is another")
    report = make_report(1, 60.0, [injected(0.5)], ground)
    assert not report.ok
    assert "S  violated" in as_text(report)
    assert "the root is another" in as_text(report)


def test_a_fault_shows_what_its_clients_felt() -> None:
    ground = good_ground()  # the intents end 3, 6 and 6 seconds after the start
    (fault,) = make_report(1, 60.0, [injected(4.0)], ground).faults
    assert fault.silent_seconds == 3.0
    of(ground, "paid").created_at = 2.0
    (fault,) = make_report(1, 60.0, [injected(4.0)], ground).faults
    assert fault.caught_up_seconds == 3.0


# The command.


def test_help_names_every_fault() -> None:
    said = CliRunner().invoke(chaos_app, ["--help"]).output
    assert all(f"{fault} " in said for fault in Fault)
    assert "--faults" in said


@pytest.mark.parametrize("arguments", [["--faults", "worker-eaten"], ["--seconds", "8", "--faults", "worker-stopped"]])
def test_wrong_usage_starts_nothing(arguments: list[str]) -> None:
    assert CliRunner().invoke(chaos_app, arguments).exit_code == 2


@pytest.mark.service
@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_short_run_holds_every_invariant(tmp_path: Path) -> None:
    faults = (Fault.GATEWAY_KILLED, Fault.BANK_HANGS, Fault.CALLBACKS_CONTRADICT, Fault.BANK_REFUSES)
    said: list[str] = []
    options = Options(seed=1, seconds=25, faults=faults, history=tmp_path / "history.jsonl")
    report = run_chaos(options, said.append)
    assert report.ok, "\n".join([*said, as_text(report)])
    struck = {fault.fault for fault in report.faults}  # on a slow machine the last one finds no time any more
    assert struck <= set(faults)
    assert len(struck) >= 2
    assert report.requests["http accepted"] > 50
    assert report.requests["nats accepted"] > 50
    assert report.readings["snapshots"] > 10
    assert report.packets_verified > 0
    assert report.history_calls > 100
    assert report.rail_payments > 50
    assert report.exports_verified >= 2
    assert report.cases.get("provider_contradiction resolved", 0) > 0 or Fault.CALLBACKS_CONTRADICT not in struck
    assert report.operators["evidence key rotated"] == 1
