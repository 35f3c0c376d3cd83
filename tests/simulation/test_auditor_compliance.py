"""The auditor objects to decisions that knew another world of people than there was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from zentra.actors import diligence
from zentra.bench.simulation.simulation import run_seed
from zentra.runtime.compliance.diligence import Diligence, PartyUsed
from zentra.runtime.compliance.rules import known_of

pytestmark = pytest.mark.slow
SEEDS = range(1, 16)

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


@pytest.mark.parametrize("wrong", [_approved, _blind, _unasked, _another_list])
def test_a_decision_on_the_wrong_people_is_found(monkeypatch: pytest.MonkeyPatch, wrong: Wrong) -> None:
    right = known_of

    def told(*args: Any, **given: Any) -> Diligence:
        return wrong(right(*args, **given))

    monkeypatch.setattr(diligence, "known_of", told)
    found = [failed for seed in SEEDS if (failed := run_seed(seed, 100).failed) is not None]
    assert found
    assert {failed.letter for failed in found} == {"R"}
