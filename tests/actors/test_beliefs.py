"""Beliefs: a tick that was decided on them is committed only where the rows prove that every decision stands."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec import structs

from tests.actors.world import ACCOUNTS, MakeFleet, account, configuration, transfer
from zentra.actors.beliefs import DOUBTING_TICKS, Beliefs
from zentra.actors.tick import Batch
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.ledger.book import Balance, Book, Objection
from zentra.runtime.ledger.money import MINOR_MAX
from zentra.runtime.policy import Usage, VelocityKey
from zentra.runtime.ports import Ground, TickPlan

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
    assert beliefs.on(plan(), seen) == ({1: Balance(1)}, {KEY: Usage(1, 1)})
    beliefs.follow({1: Balance(2)}, {KEY: Usage(2, 2)})
    assert beliefs.unknown(plan()) == ((), ())
    assert beliefs.on(plan(), seen) == ({1: Balance(2)}, {KEY: Usage(2, 2)})
    beliefs.correct({1: Balance(1)}, {1: Balance(11)})
    assert beliefs.on(plan(), seen) == ({1: Balance(12)}, {KEY: Usage(2, 2)})
    beliefs.forget(plan())
    assert beliefs.unknown(plan()) == ((KEY,), (PAYER,))


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
