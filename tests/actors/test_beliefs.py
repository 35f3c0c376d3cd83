"""Beliefs: a tick that was decided on them is committed only where the rows prove that every decision stands."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec import structs

from tests.actors.world import ACCOUNTS, MakeFleet, account, configuration, transfer
from zentra.actors import beliefs as module
from zentra.actors.beliefs import DOUBTING_TICKS, Beliefs, Believed
from zentra.actors.tick import Batch, Tick
from zentra.bench.twins.fleet import at_once
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.ledger.book import Balance, Book, Objection
from zentra.runtime.ledger.money import MINOR_MAX
from zentra.runtime.policy import Usage, VelocityKey
from zentra.runtime.ports import Ground, TickPlan, TickWrites

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
PAYER, PAYEE, SETTLEMENT, HOLDER = (
    account(1, "payer", "customer"),
    account(2, "payee", "merchant"),
    account(3, "settlement-ngn", "settlement"),
    account(4, "holder", "customer"),
)
BELIEVED = {1: Balance(credits_posted=100), 2: Balance(), 4: Balance(debits_pending=50, credits_posted=80)}
KEY = VelocityKey("acme", "account/payer", "2026-01-05", "NGN")


def decided() -> Book:
    """A book that has reserved 40 from the payer, and posted the holder's 50 to the payee."""
    book = Book({key: Balance(b.debits_pending, 0, 0, b.credits_posted) for key, b in BELIEVED.items()})
    assert not isinstance(book.reserve(PAYER, SETTLEMENT, PAYEE, 40, NOW, intent="a" * 32, ordinal=0), Objection)
    assert not isinstance(book.post(HOLDER, SETTLEMENT, PAYEE, 50, 50, NOW, intent="b" * 32, ordinal=1), Objection)
    return book


# fmt: off
ACTUAL = [  # what the rows hold instead, and whether every decision stands
    ("nothing else",                              {},                                                        True),
    ("the payer has more",                        {1: Balance(credits_posted=101)},                          True),
    ("the payer has less, if still enough",       {1: Balance(credits_posted=99)},                           False),
    ("the payer has held more",                   {1: Balance(debits_pending=1, credits_posted=100)},        False),
    ("the payee was paid by somebody else",       {2: Balance(credits_posted=7)},                            True),
    ("the payee has spent",                       {2: Balance(debits_posted=7)},                             True),
    ("the payee has nearly all there is",         {2: Balance(credits_posted=MINOR_MAX - 1)},                False),
    ("the hold that was ended is smaller",        {4: Balance(debits_pending=49, credits_posted=80)},        False),
    ("the holder has more, and holds as much",    {4: Balance(debits_pending=50, credits_posted=81)},        True),
]
# fmt: on


@pytest.mark.parametrize(("actual", "stands"), [row[1:] for row in ACTUAL], ids=[row[0] for row in ACTUAL])
def test_a_decision_stands_where_it_would_have_been_the_same(actual: dict[int, Balance], stands: bool) -> None:
    assert decided().stands(BELIEVED, {**BELIEVED, **actual}) is stands


def test_a_refusal_stands_on_nothing_but_what_was_believed() -> None:
    book = Book({1: Balance(credits_posted=100)})
    assert isinstance(book.reserve(PAYER, SETTLEMENT, PAYEE, 101, NOW, intent="a" * 32, ordinal=0), Objection)
    believed = {1: Balance(credits_posted=100)}
    assert book.stands(believed, {1: Balance(credits_posted=100)})
    assert not book.stands(believed, {1: Balance(credits_posted=500)})


def plan() -> TickPlan:
    return TickPlan((), (KEY,), (PAYER, SETTLEMENT), 1)


def test_what_is_not_known_is_read_and_what_was_left_behind_is_believed() -> None:
    beliefs, seen = Beliefs(), Ground(NOW, 1, frozenset(), {1: Balance(1)}, {KEY: Usage(1, 1)})
    assert beliefs.unknown(plan()) == ((KEY,), (PAYER,))
    assert beliefs.on(plan(), Ground(NOW, 1, frozenset(), {}, {})) is None
    first = beliefs.on(plan(), seen)
    assert first == Believed({1: Balance(1)}, {KEY: Usage(1, 1)}, {}, 0)
    beliefs.follow({1: Balance(2)}, {KEY: Usage(2, 2)})
    assert beliefs.unknown(plan()) == ((), ())
    assert beliefs.on(plan(), seen) == Believed({1: Balance(2)}, {KEY: Usage(2, 2)}, {}, 0)
    beliefs.correct(first, {1: Balance(11)})
    assert beliefs.on(plan(), seen) == Believed({1: Balance(12)}, {KEY: Usage(2, 2)}, {1: Balance(10)}, 0)
    beliefs.forget(plan())
    assert beliefs.unknown(plan()) == ((KEY,), (PAYER,))


# fmt: off
TAPES = [  # capitals draft a tick that adds 1, small letters lock its rows; +7 is what others add
    ("both find it",                                "A B +7 a b"),
    ("each finds something",                        "A B +7 a +5 b"),
    ("it is taken back in between",                 "A B +7 a -7 b"),
    ("the third was drafted after the first found", "A B +7 a C b c"),
    ("three at once",                               "A B +3 C a +4 b c"),
    ("many laps",                                   "A B +7 a C b D c +2 E d F e f"),
    ("it was forgotten in between",                 "A B +7 a forget C b c"),
    ("all was forgotten in between",                "A B +7 a clear C b +5 c D d"),
]
# fmt: on


@pytest.mark.parametrize("tape", [row[1] for row in TAPES], ids=[row[0] for row in TAPES])
def test_what_others_have_added_is_believed_once_however_many_find_it(
    tape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    beliefs, drafts, true, places = Beliefs(), dict[str, Believed](), 0, TickPlan((), (), (PAYER,), 1)

    def believed() -> Believed:
        found = beliefs.on(places, Ground(NOW, 1, frozenset(), {1: Balance(credits_posted=true)}, {}))
        assert found is not None
        return found

    for step in tape.split():
        if step == "forget":
            beliefs.forget(places)
        elif step == "clear":
            monkeypatch.setattr(module, "BELIEFS_MAX", 0)
        elif step.isupper():
            drafts[step.lower()] = on = believed()
            beliefs.follow({1: Balance(credits_posted=on.balances[1].credits_posted + 1)}, {})
            monkeypatch.undo()
        elif step in drafts:
            beliefs.correct(drafts[step], {1: Balance(credits_posted=true)})
            true += 1
        else:
            true += int(step)
    assert believed().balances == {1: Balance(credits_posted=true)}


def test_two_ticks_on_their_way_count_what_others_have_added_once(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(configuration(limits=None))
    fleet.submit(transfer(1_000))
    fleet.run_until_idle()  # from here on the balances are known
    worker = fleet.workers[0]
    for _ in range(8):
        fleet.submit(transfer(1_000))
    worker.take()
    worker.tick()  # judged
    worker.take()
    engine, beliefs = worker.engine, worker.engine.memory.beliefs
    of_partition = {entry.partition: entry for entry, _ in worker.inbox if entry.stage == "ledger"}
    drafted = []
    for entry in list(of_partition.values())[:2]:
        batch = Batch([entry], {})
        missing, needs = engine.look(batch)
        assert not missing
        locks = engine.plan(batch, needs, worker.leases, 1)
        ground = Ground(fleet.now, fleet.store.current.version, frozenset(), {}, {})
        tick = Tick(engine.memory, engine.rules, batch, ground)
        tick.believed = beliefs.on(locks, ground)
        assert tick.believed is not None
        assert False not in engine.draft(batch, locks, tick)
        drafted.append((batch, locks, tick))
    customer, liquidity = fleet.store.refs["acme", "customer"], fleet.store.refs["acme", "liquidity-ngn"]
    fleet.store.book(liquidity, customer, 7)
    for batch, locks, tick in drafted:

        def decide(ground: Ground, batch: Batch = batch, locks: TickPlan = locks, tick: Tick = tick) -> TickWrites:
            return engine.decide(batch, locks, ground, tick).writes

        at_once(fleet.store.commit(locks, decide))
    after = beliefs.on(drafted[0][1], Ground(fleet.now, 1, frozenset(), {}, {}))
    assert after is not None
    assert after[0][customer.id] == fleet.store.balance(customer.id)


def test_whoever_is_deceived_believes_nothing_for_a_while() -> None:
    beliefs, seen = Beliefs(), Ground(NOW, 1, frozenset(), {1: Balance(1)}, {KEY: Usage(1, 1)})
    beliefs.deceived()
    assert beliefs.doubted
    assert beliefs.unknown(plan()) == ((), ())
    assert [beliefs.on(plan(), seen) for _ in range(DOUBTING_TICKS)] == [None] * DOUBTING_TICKS
    assert beliefs.on(plan(), seen) is not None


@pytest.mark.parametrize(
    ("taken", "state", "doubted"),
    [(90_000, State.FAILED, True), (50_000, State.SUCCESSFUL, True), (-90_000, State.SUCCESSFUL, False)],
    ids=["less than needed is there", "less is there", "more is there"],
)
def test_what_somebody_else_took_was_not_spent_again(
    make_fleet: MakeFleet, taken: int, state: State, doubted: bool
) -> None:
    fleet = make_fleet(configuration(limits=None), funds=200_000)
    fleet.submit(transfer(100_000))
    fleet.run_until_idle()
    customer, liquidity = ACCOUNTS[0], ACCOUNTS[3]
    refs = {ref.account_id: ref for ref in fleet.store.refs.values()}
    pair = (refs[customer.account_id], refs[liquidity.account_id])
    fleet.store.book(*(pair if taken > 0 else pair[::-1]), abs(taken))
    intent = fleet.submit(transfer(50_000))
    fleet.run_until_idle()
    assert fleet.workers[0].engine.memory.beliefs.doubted is doubted
    fleet.advance(30)
    assert fleet.transaction(intent).state is state


def test_a_refusal_that_was_not_foreseen_gives_back_what_was_counted(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(funds=150_000)
    warm = fleet.submit(transfer(50_000))
    fleet.run_until_idle()  # from here on the balance is known, and enough for either but not for both
    either = [fleet.submit(transfer(80_000)) for _ in range(2)]
    fleet.run_until_idle()
    states = [fleet.transaction(intent).state for intent in (warm, *either)]
    assert states == [State.SUBMITTED, State.SUBMITTED, State.FAILED]
    assert [(usage.count, usage.minor) for usage in fleet.store.rows.velocity.values()] == [(2, 130_000)]


@pytest.mark.parametrize(
    ("funds", "status", "locked"),
    [(100, "open", False), (99, "open", True), (None, "open", True), (100, "frozen", True)],
)
def test_a_reserve_locks_counters_where_a_refusal_is_foreseen(
    make_fleet: MakeFleet, funds: int | None, status: str, locked: bool
) -> None:
    fleet = make_fleet()
    fleet.submit(transfer(100))
    fleet.workers[0].take()
    fleet.workers[0].tick()  # judged and counted
    fleet.workers[0].take()
    engine, batch = fleet.workers[0].engine, Batch([entry for entry, _ in fleet.workers[0].inbox], {})
    payer = engine.memory.accounts["acme", "customer"]
    assert payer is not None
    engine.look(batch)
    for name in ("merchant", "@settlement/NGN"):
        engine.memory.accounts["acme", name] = structs.replace(payer, id=payer.id + len(name), account_id=name)
    engine.memory.accounts["acme", "customer"] = structs.replace(payer, status=status)
    engine.memory.beliefs = Beliefs()
    if funds is not None:
        engine.memory.beliefs.follow({payer.id: Balance(credits_posted=funds)}, {})
    missing, needs = engine.look(batch)
    assert not missing
    assert bool(needs.velocity) is locked
