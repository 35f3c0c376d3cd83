"""Which key signs follows from the time of the head; where it is lacking sealing stops, and money does not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from msgspec import structs

from tests.actors.world import MakeFleet, audited, transfer
from zentra.bench.twins.fleet import START, Fleet
from zentra.runtime.evidence.history import SigningKey
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.intents.vocabulary import IntentKind, State
from zentra.runtime.stream_ports import Outgoing


def book(fleet: Fleet, count: int) -> list[str]:
    return [fleet.submit(transfer(1_000, kind=IntentKind.BOOK_TRANSFER)) for _ in range(count)]


def holding(fleet: Fleet, *names: str) -> None:
    """Let every worker hold these keys and no other."""

    def signer(name: str) -> object:
        return lambda tenant, size, root, at: (name, name.encode())

    rules = structs.replace(fleet.rules, signers={name: signer(name) for name in names})
    fleet.rules = rules
    for worker in fleet.workers:
        worker.engine.rules = rules


def history(fleet: Fleet, *since: datetime) -> None:
    keys = tuple(SigningKey(f"key{number}", timestamp(at)) for number, at in enumerate(since))
    fleet.store.configure(structs.replace(fleet.store.current, evidence_keys=keys))


def signed(fleet: Fleet) -> list[str]:
    return [head.key_id for _, head in sorted(fleet.store.rows.heads.items())]


def test_heads_are_signed_by_the_key_in_force_at_their_time(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(events_max=4)
    holding(fleet, "key0", "key1")
    history(fleet, START, START + timedelta(seconds=60))
    book(fleet, 3)
    fleet.run_until_idle()
    fleet.advance(61)
    book(fleet, 3)
    fleet.run_until_idle()
    for head in fleet.store.rows.heads.values():
        assert head.key_id == ("key0" if head.at < START + timedelta(seconds=60) else "key1")
    assert set(signed(fleet)) == {"key0", "key1"}
    audited(fleet)


def test_without_the_key_in_force_money_goes_on_and_leaves_wait(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    holding(fleet, "key0")
    history(fleet, START - timedelta(days=1), START)
    intents = book(fleet, 5)
    fleet.run_until_idle()
    assert [fleet.transaction(intent).state for intent in intents] == [State.SUCCESSFUL] * 5
    assert fleet.store.rows.leaves == {} == fleet.store.rows.heads
    fleet.advance(300)
    assert fleet.store.rows.leaves == {}
    holding(fleet, "key0", "key1")
    fleet.advance(60)
    fleet.run_until_idle()
    assert sorted(leaf[0] for leaf in fleet.store.rows.leaves.values()) == sorted(intents)
    assert set(signed(fleet)) == {"key1"}
    audited(fleet)


def test_a_packet_and_its_addendum_that_both_waited_are_both_logged_in_their_order(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    holding(fleet)
    history(fleet, START)
    intent = book(fleet, 1)[0]
    fleet.run_until_idle()
    fleet.command("reverse", intent, {"amount": "full", "reason": "returned"})
    fleet.run_until_idle()
    assert fleet.transaction(intent).state is State.REVERSED
    assert len(fleet.transaction(intent).seals) == 2
    assert not fleet.store.rows.leaves
    holding(fleet, "key0")
    fleet.advance(60)
    fleet.run_until_idle()
    leaves = [data for _, (_, data, _) in sorted(fleet.store.rows.leaves.items())]
    assert [b'"kind":"packet"' in data for data in leaves] == [True, False]
    audited(fleet)


def test_an_addendum_that_overtakes_its_packet_is_logged_behind_it(
    make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = make_fleet()
    lost: list[Outgoing] = []
    publish = fleet.publish

    def lossy(messages: Sequence[Outgoing]) -> None:
        """Publish everything but the first leaf, as a stream does that has rolled back."""
        first = [one for one in messages if one.subject.endswith(".log") and not lost]
        lost.extend(first)
        publish([one for one in messages if one not in first])

    monkeypatch.setattr(fleet, "publish", lossy)
    intent = book(fleet, 1)[0]
    fleet.run_until_idle()
    fleet.command("reverse", intent, {"amount": "full", "reason": "returned"})
    fleet.run_until_idle()
    assert [len(lost), len(fleet.transaction(intent).seals)] == [1, 2]
    publish(lost)
    fleet.run_until_idle()
    fleet.advance(60)
    fleet.run_until_idle()
    leaves = [data for _, (_, data, _) in sorted(fleet.store.rows.leaves.items())]
    assert [b'"kind":"packet"' in data for data in leaves] == [True, False]
    audited(fleet)


def test_a_restart_while_leaves_wait_loses_none(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    holding(fleet)
    history(fleet, START)
    intents = book(fleet, 3)
    fleet.run_until_idle()
    for worker in list(fleet.workers):
        worker.engine.memory.transactions.clear()
    holding(fleet, "key0")
    fleet.advance(60)
    fleet.run_until_idle()
    assert sorted(leaf[0] for leaf in fleet.store.rows.leaves.values()) == sorted(intents)
