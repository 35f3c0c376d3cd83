"""The auditor objects to decisions that knew another world of people than there was.

In the simulator's own world few intents are of the tenant that screens, and few of those are of somebody who was not
approved. Here most are, so that a wrong decision shows within few seeds whatever else a seed draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from zentra.actors import diligence
from zentra.bench.simulation import border, mischief, setting, simulation
from zentra.bench.simulation.simulation import Failed, run_seed
from zentra.bench.twins.store import StoreTwin
from zentra.runtime.compliance.diligence import Diligence, PartyUsed
from zentra.runtime.compliance.rules import known_of

pytestmark = pytest.mark.slow
SEEDS = range(1, 16)
INTENTS = 100

Wrong = Callable[[Diligence], Diligence]


def _approved(known: Diligence) -> Diligence:
    """A worker that did not hear of a change."""
    if not isinstance(known.source, PartyUsed):
        return known
    return structs.replace(known, source=structs.replace(known.source, kyc="approved", screening="clear"))


def _blind(known: Diligence) -> Diligence:
    """A search that finds nobody."""
    return structs.replace(known, hits=(), score=0)


def _unasked(known: Diligence) -> Diligence:
    """An intent that names nobody and is not asked why."""
    return structs.replace(known, counterparty="not_asked")


def _another_list(known: Diligence) -> Diligence:
    return structs.replace(known, lists=())


@pytest.fixture(autouse=True)
def screened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let most intents be of the tenant that screens, and its busiest account be of somebody who is not approved."""

    def open_books(store: StoreTwin) -> None:
        setting.open_books(store)
        ref = store.refs["initech", "hot"]
        assert ref.party is not None
        store.refs["initech", "hot"] = structs.replace(ref, party=structs.replace(ref.party, kyc="pending_review"))

    assert set(setting.TENANTS) == {"initech", "globex", "acme"}
    monkeypatch.setattr(border, "TENANTS", ("initech", "globex", "acme"))  # by falling weight
    monkeypatch.setattr(mischief, "PARTIES", [one for one in setting.PARTIES if one != ("approved", "clear")])
    monkeypatch.setattr(simulation, "open_books", open_books)


def _first_found() -> Failed | None:
    found = (run_seed(seed, INTENTS).failed for seed in SEEDS)
    return next((failed for failed in found if failed is not None), None)


@pytest.mark.parametrize("wrong", [_approved, _blind, _unasked, _another_list])
def test_a_decision_on_the_wrong_people_is_found(monkeypatch: pytest.MonkeyPatch, wrong: Wrong) -> None:
    right = known_of

    def told(*args: Any, **given: Any) -> Diligence:
        return wrong(right(*args, **given))

    monkeypatch.setattr(diligence, "known_of", told)
    failed = _first_found()
    assert failed is not None
    assert failed.letter == "R"


def test_decisions_on_the_people_that_there_are_stand() -> None:
    assert [run_seed(seed, INTENTS).failed for seed in SEEDS[:3]] == [None] * 3
