"""What a waiver is worth: it holds for the rule, the reason and the people that were approved, and for nothing else."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest
from msgspec import structs

from tests.actors.desks import decided, seen
from tests.actors.test_compliance import HERON, give_party, screened
from tests.actors.test_reviewing import SEEN
from tests.actors.world import MakeFleet, last_facts, transfer
from zentra.actors.reviewing import seen_of
from zentra.runtime import reviews
from zentra.runtime.compliance.diligence import Compliance, Diligence, ListUsed
from zentra.runtime.compliance.rules import COMPLIANCE_RULES
from zentra.runtime.evidence import canonical
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.transaction import restore
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.policy.replay import again, decisions_in, same


def test_the_rules_about_people_are_those_that_there_are() -> None:
    assert frozenset(COMPLIANCE_RULES) == reviews.PEOPLE_RULES


JUDGED = f.Judged("review", 3, "", "manual", {"a": "passed", "b": "review", "c": "review"}, ("r", "s"))
KNOWN = Diligence(True, "all", "system", "unknown", False, lists=(ListUsed("x", 1, "d", "t", "fresh"),))
OTHER = structs.replace(KNOWN, destination="system")
AGAIN = structs.replace(KNOWN, lists=(ListUsed("x", 2, "e", "u", "fresh"),))
SAME = reviews.known_digest(structs.replace(JUDGED, diligence=KNOWN))
PEOPLE = structs.replace(JUDGED, results={"sanctions": "review"}, reasons=("r",))
# What was waived on which grounds, the decision now, and what is waived still.
# fmt: off
STANDING: list[tuple[str, tuple[str, ...], dict[str, tuple[str, str]], f.Judged, tuple[str, ...]]] = [
    ("the same",               ("b", "c"),     {"b": ("r", ""), "c": ("s", "")}, JUDGED, ("b", "c")),
    ("another reason",         ("b", "c"),     {"b": ("s", ""), "c": ("s", "")}, JUDGED, ("c",)),
    ("asks no more",           ("a",),         {"a": ("r", "")},                 JUDGED, ()),
    ("by name, from before",   ("a", "b"),     {},                               JUDGED, ("a", "b")),
    ("not about people",       ("b",),         {"b": ("r", SAME)}, structs.replace(JUDGED, diligence=OTHER), ("b",)),
    ("the same people",        ("sanctions",), {"sanctions": ("r", SAME)}, structs.replace(PEOPLE, diligence=KNOWN),
                               ("sanctions",)),
    ("a newer, equal list",    ("sanctions",), {"sanctions": ("r", SAME)}, structs.replace(PEOPLE, diligence=AGAIN),
                               ("sanctions",)),
    ("other people",           ("sanctions",), {"sanctions": ("r", SAME)}, structs.replace(PEOPLE, diligence=OTHER),
                               ()),
]
# fmt: on


@pytest.mark.parametrize(
    ("waives", "bound", "now", "still"), [row[1:] for row in STANDING], ids=[row[0] for row in STANDING]
)
def test_a_waiver_stands_on_its_grounds(
    waives: tuple[str, ...], bound: dict[str, tuple[str, str]], now: f.Judged, still: tuple[str, ...]
) -> None:
    assert reviews.standing(waives, bound, now) == still


def test_a_reason_that_changed_since_is_asked_about_anew(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(screened(Compliance(kyc_required=True), HERON))
    give_party(fleet, "customer", "pending_review", "clear")
    intent = fleet.submit(transfer(1_000))
    fleet.run_until_idle()
    assert last_facts(fleet, intent, "policy.review")["asks"] == {"kyc_state": "kyc_pending_review"}
    first = seen(fleet, intent)
    give_party(fleet, "customer", "expired", "clear")
    assert decided(fleet, intent, "ops") == "done"
    assert fleet.transaction(intent).state is State.REVIEW
    facts = last_facts(fleet, intent, "policy.review")
    assert (facts["asks"], facts["results"]["kyc_state"]) == ({"kyc_state": "kyc_expired"}, "review")
    rows = [(t.record, t.hash) for t in fleet.store.rows.transitions[intent]]
    assert seen_of(restore(rows)) == seen(fleet, intent) != first
    assert decided(fleet, intent, "ops", round=2) == "done"
    fleet.advance(30)
    assert last_facts(fleet, intent, "policy.accepted")["results"]["kyc_state"] == "waived"
    for past in decisions_in([t.record for t in fleet.store.rows.transitions[intent]]):
        assert same(past.judged, again(past, fleet.store.current.policies["acme"], source_type="customer"))


def test_a_referral_from_before_reasons_were_kept_is_waived_by_name(make_fleet: MakeFleet) -> None:
    record = json.loads(json.dumps(msgspec.to_builtins(JUDGED)))
    assert "asks" not in record
    assert msgspec.convert(record, f.Judged).asks is msgspec.UNSET
    old = reviews.request_hash(**SEEN)
    text = canonical.encode(dict(SEEN, rules=["a", "b"]))
    assert old == hashlib.sha256(b"review\n" + text).hexdigest()
