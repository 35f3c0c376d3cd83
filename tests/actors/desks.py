"""A tenant's people and its reviews in the engine: what the tests of both say and ask."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from tests.actors.world import MakeFleet, transfer, verdict
from zentra.actors.reviewing import seen_of
from zentra.bench.twins.fleet import Fleet
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.reviews import Member, ReviewRules

HIGH = 1_500_000  # above the review threshold
HOUR = 3600
MEMBERS = {
    "dev": Member("developer"), "ada": Member("developer"), "ola": Member("operator"), "ops": Member("operator"),
    "boss": Member("admin"), "gone": Member("operator", disabled=True),
}  # fmt: skip
DUE = ["policy.review", "review.assigned"]


def staffed(make_fleet: MakeFleet, rules: ReviewRules | None = None, **changes: Any) -> Fleet:
    """Return a fleet whose tenant has people, and these rules for its reviews."""
    fleet = make_fleet(**changes)
    staff(fleet, MEMBERS, rules)
    return fleet


def staff(fleet: Fleet, members: dict[str, Member], rules: ReviewRules | None = None) -> None:
    given = {"acme": rules} if rules else {}
    fleet.store.configure(structs.replace(fleet.store.current, members={"acme": members}, reviews=given))


def referred(fleet: Fleet, *, principal: str = "dev", minor: int = HIGH) -> str:
    """Return an intent that waits for a person."""
    intent = fleet.submit(transfer(minor, scenario="silent"), principal=principal)
    fleet.run_until_idle()
    assert fleet.transaction(intent).state is State.REVIEW
    return intent


def seen(fleet: Fleet, intent: str) -> str:
    return seen_of(fleet.transaction(intent))


def decided(fleet: Fleet, intent: str, who: str, word: str = "approved", role: str = "operator", **changes: Any) -> str:
    body = {"verdict": word, "round": 1, "reason": "seen", "request_hash": seen(fleet, intent), **changes}
    return asked(fleet, "decide_review", intent, body, who, role)


def asked(fleet: Fleet, kind: str, intent: str, body: object, who: str = "ops", role: str = "operator") -> str:
    """Return the code that a command is answered with."""
    command = fleet.command(kind, intent, body, principal=who, role=role)
    fleet.run_until_idle()
    return verdict(fleet, command)


def told(fleet: Fleet, intent: str, *topics: str) -> list[str]:
    return [event for event in fleet.events(intent) if event in topics or event.startswith("review.")]


def denials(fleet: Fleet) -> list[tuple[str, str, str]]:
    return [(row.actor, row.action, row.reason) for row in fleet.store.rows.denials]
