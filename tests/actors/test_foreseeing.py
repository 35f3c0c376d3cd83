"""Commands and timers in crowds: what they lock is foreseen, so that a batch of them takes a few commits to decide."""

from __future__ import annotations

from typing import Any

import pytest

from tests.actors.world import MakeFleet, account, audited, balances, transfer, verdict
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.terms import HoldTerms, Leg
from zentra.runtime.intents.vocabulary import IntentKind, State

CROWD = 200
WIDE = 100
ATTEMPTS_MAX = 12  # of a crowd: some for each stage that its events go through, however many they are


def hold(minor: int = 10, **changes: Any) -> IntentCommand:
    """Return a hold for a minute."""
    return transfer(minor, kind=IntentKind.HOLD, hold=HoldTerms(60), **changes)


def with_accounts(fleet: Fleet, names: list[str]) -> None:
    """Open these accounts, each with some money."""
    funds = next(ref for ref in fleet.store.refs.values() if ref.account_id == "liquidity-ngn")
    for number, name in enumerate(names):
        fleet.store.book(funds, fleet.store.open_account(account(1_000 + number, name, "customer")), 1_000)


def counted(fleet: Fleet, patched: pytest.MonkeyPatch) -> list[int]:
    """Return a list whose only number is how often a commit is tried from now on."""
    attempts, real = [0], fleet.store.commit

    async def commit(*named: Any, **more: Any) -> Any:
        attempts[0] += 1
        return await real(*named, **more)

    patched.setattr(fleet.store, "commit", commit)
    return attempts


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("way", ["capture_hold", "void_hold", "expiry", "reverse", "reverse_hold", "cancel"])
def test_a_crowd_of_commands_or_timers_takes_a_few_commits(
    make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch, way: str, cold: bool
) -> None:
    fleet = make_fleet()
    names = [f"c{number}" for number in range(CROWD)]
    with_accounts(fleet, names)
    kind = IntentKind.BOOK_TRANSFER
    ids = [fleet.submit(transfer(10, kind=kind, source=n) if way == "reverse" else hold(source=n)) for n in names]
    if way == "cancel":
        ids = [fleet.submit(transfer(1_500_000)) for _ in names]
    fleet.run_until_idle()
    if way == "reverse_hold":
        for intent in ids:
            fleet.command("capture_hold", intent, {"amount": "full"})
        fleet.run_until_idle()
    if cold:
        fleet.replace_worker("fresh")
        fleet.run_until_idle()
    attempts = counted(fleet, monkeypatch)
    if way == "expiry":
        fleet.advance(61)
    else:
        given = [fleet.command(way.removesuffix("_hold") if way == "reverse_hold" else way, i, {}) for i in ids]
        fleet.run_until_idle()
        assert {verdict(fleet, command) for command in given} == {"done"}
    assert fleet.cases() == []
    assert len({fleet.transaction(intent).state for intent in ids}) == 1
    assert fleet.transaction(ids[0]).state is not State.HELD
    assert attempts[0] <= ATTEMPTS_MAX, attempts
    audited(fleet)


def test_what_is_wide_is_given_back_by_a_worker_that_knows_none_of_its_accounts(
    make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = make_fleet()
    names = [f"c{number}" for number in range(2 * WIDE)]
    with_accounts(fleet, names)
    legs = tuple([Leg(source=names[n], destination=names[n + WIDE], minor="5", currency="NGN") for n in range(WIDE)])
    before = balances(fleet)
    journal = fleet.submit(transfer(5, kind=IntentKind.JOURNAL, source=names[0], destination=names[WIDE], legs=legs))
    spread = fleet.submit(hold(WIDE))
    fleet.run_until_idle()
    for name in names[:WIDE]:
        fleet.command("capture_hold", spread, {"amount": "1", "destination": name})
    fleet.run_until_idle()
    fleet.replace_worker("fresh")
    given = [fleet.command("reverse", intent, {}) for intent in (journal, spread)]
    attempts = counted(fleet, monkeypatch)
    fleet.run_until_idle()
    assert [verdict(fleet, command) for command in given] == ["done", "done"]
    assert fleet.cases() == []
    assert attempts[0] <= ATTEMPTS_MAX, attempts
    assert {name: row[3] - row[2] for name, row in balances(fleet).items()} == {
        name: row[3] - row[2] for name, row in before.items()
    }
    audited(fleet)
