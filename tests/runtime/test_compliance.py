"""The compliance rules as a table: what is known of the people in an intent, and what follows from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import pytest
from msgspec import structs

from zentra.runtime.compliance.diligence import Compliance, Diligence
from zentra.runtime.compliance.lists import HITS_MAX, ListEntry, ListInfo, NameList, digest_of_list
from zentra.runtime.compliance.matching import ALGORITHM
from zentra.runtime.compliance.names import digest_of_names
from zentra.runtime.compliance.parties import next_screening, screen_names, screening_mark
from zentra.runtime.compliance.rules import COMPLIANCE_RULES, flaw_of, known_of
from zentra.runtime.compliance.states import KYC_MOVES, Kyc, PartyRef, Screening
from zentra.runtime.evidence import canonical
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.facts import Judged
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.policy import Limits, PolicyRules, Usage, decide, velocity_keys
from zentra.runtime.policy.document import document_of, parse_policy
from zentra.runtime.policy.people import demanded
from zentra.runtime.policy.replay import Past, explain

NOW: Final = datetime(2026, 4, 1, tzinfo=UTC)
HERON: Final = ListEntry("heron", "person", ("Jorunn Voransky",))


def a_list(*entries: ListEntry, name: str = "test", age_hours: float = 1) -> NameList:
    info = ListInfo(name, 7, digest_of_list(entries), NOW - timedelta(hours=age_hours), len(entries))
    return NameList(info, entries)


def account(party: PartyRef | None = None, type_: str = "customer") -> AccountRef:
    return AccountRef(1, "acme", "a", type_, "NGN", "credit", type_ != "settlement", party=party)


def party(kyc: str = "approved", screening: str = "clear") -> AccountRef:
    return account(PartyRef("p1", kyc, screening))


OK: Final = party()
BARE: Final = account()
SYSTEM: Final = account(type_="settlement")
FRESH: Final = {"test": a_list(HERON)}
STALE: Final = {"test": a_list(HERON, age_hours=49)}
PAIR: Final = (digest_of_names(["Jorunn Voransky"]), "test", HERON.digest)
KYC: Final = Compliance(kyc_required=True)
OUT: Final = Compliance(screen="counterparties")
ALL: Final = Compliance(screen="all")

# A table is read down its columns.
# ruff: noqa: E501
# fmt: off
CASES: list[tuple[str, Compliance, dict[str, Any], str, str]] = [
    # what                    rules            what is known                                          outcome     reason
    ("nothing is demanded",   Compliance(),    {"source": BARE},                                      "accepted", ""),
    ("denied all the same",   Compliance(),    {"source": party("denied")},                           "denied",   "kyc_denied"),
    ("matched all the same",  Compliance(),    {"source": party(screening="true_match")},             "denied",   "party_true_match"),
    ("payee matched",         Compliance(),    {"destination": party(screening="true_match")},        "denied",   "party_true_match"),
    ("known",                 KYC,             {},                                                    "accepted", ""),
    ("no party",              KYC,             {"source": BARE},                                      "review",   "party_missing"),
    ("no account",            KYC,             {"source": None},                                      "review",   "party_missing"),
    ("money of nobody",       KYC,             {"source": SYSTEM},                                    "accepted", ""),
    ("payee of ours",         KYC,             {"destination": BARE, "leaves": False},                "review",   "party_missing"),
    ("payee outside",         KYC,             {"destination": BARE},                                 "accepted", ""),
    *((f"{state}",            KYC,             {"source": party(state)},                              "review",   f"kyc_{state}")
      for state in ("not_started", "awaiting_documents", "pending_review", "expired")),
    ("payee unknown yet",     KYC,             {"destination": party("not_started")},                 "review",   "kyc_not_started"),
    ("another leg, denied",   KYC,             {"others": [OK, party("denied")]},                     "denied",   "kyc_denied"),
    ("another leg, matched",  Compliance(),    {"others": [party(screening="true_match")]},           "denied",   "party_true_match"),
    ("another leg, no party", KYC,             {"others": [BARE], "destination": OK, "leaves": False}, "review",  "party_missing"),
    ("another leg, of nobody", KYC,            {"others": [SYSTEM, OK]},                              "accepted", ""),
    ("another leg, likely",   ALL,             {"others": [party(screening="possible_match")]},       "review",   "party_possible_match"),
    ("denied before review",  KYC,             {"source": BARE, "destination": party("denied")},      "denied",   "kyc_denied"),
    ("nobody alike",          OUT,             {},                                                    "accepted", ""),
    ("listed",                OUT,             {"counterparty": "VORANSKY, jorunn"},                  "review",   "counterparty_possible_match"),
    ("nearly listed",         OUT,             {"counterparty": "Yorunn Voranski"},                   "review",   "counterparty_possible_match"),
    ("cleared",               OUT,             {"counterparty": "Voransky Jorunn", "cleared": {PAIR}}, "accepted", ""),
    ("cleared, other state",  OUT,             {"counterparty": "Voransky Jorunn", "cleared": {(*PAIR[:2], "0")}}, "review", "counterparty_possible_match"),
    ("not named",             OUT,             {"counterparty": None},                                "review",   "counterparty_missing"),
    ("not named, stays",      OUT,             {"counterparty": None, "leaves": False},               "accepted", ""),
    ("not named, a party",    OUT,             {"counterparty": None, "destination": OK},             "review",   "counterparty_missing"),
    ("not named, new party",  OUT,             {"counterparty": None, "destination": party("not_started", "not_screened")}, "review", "counterparty_missing"),
    ("a party, listed",       OUT,             {"counterparty": "Jorunn Voransky", "destination": OK}, "review",  "counterparty_possible_match"),
    ("a party, nobody alike", OUT,             {"destination": party(screening="not_screened")},      "accepted", ""),
    ("not named, screened",   ALL,             {"counterparty": None, "destination": OK},             "accepted", ""),
    ("not named, cleared",    ALL,             {"counterparty": None, "destination": party(screening="false_positive")}, "accepted", ""),
    ("not named, not yet",    ALL,             {"counterparty": None, "destination": party(screening="not_screened")}, "review", "party_not_screened"),
    ("not named, no party",   ALL,             {"counterparty": None},                                "review",   "counterparty_missing"),
    ("named, stays",          OUT,             {"counterparty": "Jorunn Voransky", "leaves": False},  "review",   "counterparty_possible_match"),
    ("no name at all",        OUT,             {"counterparty": "???"},                               "review",   "counterparty_unscreenable"),
    ("too long",              OUT,             {"counterparty": "a" * 301},                           "review",   "counterparty_unscreenable"),
    ("no list",               OUT,             {"lists": {}},                                         "review",   "list_absent"),
    ("another list",          Compliance(screen="counterparties", lists=("ofac",)), {},               "review",   "list_absent"),
    ("stale",                 OUT,             {"lists": STALE},                                      "review",   "list_stale"),
    ("stale is old enough",   Compliance(screen="counterparties", list_max_age_hours=50), {"lists": STALE}, "accepted", ""),
    ("parties are not asked", OUT,             {"source": party(screening="possible_match")},         "accepted", ""),
    ("screened",              ALL,             {},                                                    "accepted", ""),
    ("cleared by a person",   ALL,             {"source": party(screening="false_positive")},         "accepted", ""),
    ("possible match",        ALL,             {"source": party(screening="possible_match")},         "review",   "party_possible_match"),
    ("payee possible match",  ALL,             {"destination": party(screening="possible_match")},    "review",   "party_possible_match"),
    ("not screened",          ALL,             {"source": party(screening="not_screened")},           "review",   "party_not_screened"),
    ("payer without party",   ALL,             {"source": BARE},                                      "review",   "party_missing"),
    ("payee without party",   ALL,             {"destination": BARE, "leaves": False},                "review",   "party_missing"),
]
# fmt: on


def known(rules: Compliance, **given: Any) -> Diligence:
    inputs: dict[str, Any] = {
        "source": OK, "destination": BARE, "leaves": True, "counterparty": "Ulrika Denholm", "lists": FRESH,
        "cleared": frozenset(), "now": NOW,
    }  # fmt: skip
    return known_of(rules, **{**inputs, **given})


def judged(rules: Compliance, diligence: Diligence | None, **given: Any) -> Judged:
    command = IntentCommand(
        kind=IntentKind.TRANSFER, minor="1", currency="NGN", source="customer", destination="merchant"
    )
    inputs: dict[str, Any] = {"tenant": "acme", "role": "developer", "source": OK, "day": "2026-04-01", "usage": {}}
    return decide(PolicyRules(version=3, compliance=rules), command, diligence=diligence, **{**inputs, **given})


@pytest.mark.parametrize(("rules", "given", "outcome", "reason"), [row[1:] for row in CASES], ids=[r[0] for r in CASES])
def test_what_is_known_of_the_people_decides(
    rules: Compliance, given: dict[str, Any], outcome: str, reason: str
) -> None:
    decision = judged(rules, known(rules, **given))
    assert (decision.outcome, " ".join(decision.reasons)) == (outcome, reason)
    assert decision.results.keys() >= COMPLIANCE_RULES.keys()


@pytest.mark.parametrize(("rules", "given", "outcome", "reason"), [row[1:] for row in CASES], ids=[r[0] for r in CASES])
def test_a_decision_is_replayed_from_what_is_kept_of_it(
    rules: Compliance, given: dict[str, Any], outcome: str, reason: str
) -> None:
    first = judged(rules, known(rules, **given))
    kept = msgspec.json.decode(canonical.encode(first), type=Judged)
    assert isinstance(kept.diligence, Diligence)
    assert judged(rules, kept.diligence) == first == kept
    assert b"enholm" not in canonical.encode(first)
    assert b"oransk" not in canonical.encode(first).lower(), "ids, digests and scores, and no names"


def test_a_tenant_without_compliance_is_judged_as_ever() -> None:
    decision = judged(Compliance(), None)
    assert decision.diligence is msgspec.UNSET
    assert not COMPLIANCE_RULES.keys() & decision.results.keys()
    assert b"diligence" not in canonical.encode(decision)


def test_a_decision_names_list_version_algorithm_threshold_and_score() -> None:
    decision = judged(OUT, known(OUT, counterparty="Jorun Voransky"))
    found = decision.diligence
    assert isinstance(found, Diligence)
    assert (found.algorithm, found.threshold) == (ALGORITHM, 850)
    assert [(one.name, one.version, one.digest, one.state) for one in found.lists] == [
        ("test", 7, FRESH["test"].info.digest, "fresh")
    ]
    assert 850 <= found.score < 1000
    assert [(hit.entry, hit.digest, hit.score) for hit in found.hits] == [("heron", HERON.digest, found.score)]


def test_a_review_of_a_match_can_be_waived_and_a_denial_cannot() -> None:
    possible = known(ALL, source=party(screening="possible_match"))
    assert judged(ALL, possible, waives=("sanctions",)).outcome == "accepted"
    true = known(ALL, source=party(screening="true_match"))
    assert judged(ALL, true, waives=("sanctions", "kyc_state")).outcome == "denied"


def test_cleared_entries_hide_nobody_behind_them() -> None:
    entries = [ListEntry(f"e{n}", "person", ("Jorunn Voransky",), (f"X{n}",)) for n in range(HITS_MAX + 1)]
    name = digest_of_names(["Jorunn Voransky"])
    cleared = {(name, "test", entry.digest) for entry in entries[:HITS_MAX]}
    crowded = {"test": a_list(*entries)}
    found = known(OUT, counterparty="Jorunn Voransky", lists=crowded, cleared=cleared)
    assert judged(OUT, found).outcome == "review"
    seen = screen_names(["Jorunn Voransky"], list(crowded.values()), OUT, cleared)
    assert seen.state is Screening.POSSIBLE_MATCH


@pytest.mark.parametrize(
    ("rules", "sound"),
    [
        (Compliance(), True), (Compliance(threshold=600), True), (Compliance(threshold=1000), True),
        (Compliance(threshold=599), False), (Compliance(threshold=1001), False), (Compliance(screen="parties"), False),
        (Compliance(list_max_age_hours=0), False),
    ],
)  # fmt: skip
def test_demands_that_cannot_be_kept_are_told(rules: Compliance, sound: bool) -> None:
    assert (flaw_of(rules) is None) is sound


@pytest.mark.parametrize("current", list(Screening))
@pytest.mark.parametrize(
    ("names", "cleared", "found"),
    [
        (["Ulrika Denholm"], set(), Screening.CLEAR),
        (["Ulrika Denholm", "Jorunn Voransky"], set(), Screening.POSSIBLE_MATCH),
        (["Jorunn Voransky"], {PAIR}, Screening.FALSE_POSITIVE),
        (["Jorunn Voransky", "???"], {PAIR}, Screening.POSSIBLE_MATCH),
    ],
)
def test_screening_moves_everybody_but_a_true_match(
    current: Screening, names: list[str], cleared: set[tuple[str, str, str]], found: Screening
) -> None:
    finding = screen_names(names, list(FRESH.values()), ALL, cleared)
    assert finding.state is found
    assert next_screening(current, finding) is (current if current is Screening.TRUE_MATCH else found)


def test_what_somebody_was_screened_by_follows_lists_threshold_and_algorithm() -> None:
    marks = {
        screening_mark([a_list(HERON)], ALL),
        screening_mark([a_list(HERON)], structs.replace(ALL, threshold=900)),
        screening_mark([a_list(HERON, ListEntry("b", "person", ("B C",)))], ALL),
        screening_mark([a_list(HERON, name="other")], ALL),
    }
    assert len(marks) == 4
    assert screening_mark([a_list(HERON, age_hours=9)], ALL) in marks, "a list that is only younger finds nothing new"


def test_every_kyc_state_is_left_by_somebody_and_denied_is_not_approved_at_once() -> None:
    assert KYC_MOVES.keys() == set(Kyc)
    assert Kyc.APPROVED not in KYC_MOVES[Kyc.DENIED]
    assert all(state not in moves for state, moves in KYC_MOVES.items())


@pytest.mark.parametrize(
    ("kyc", "until", "said"),
    [
        ("approved", None, "approved"), ("approved", timedelta(microseconds=1), "approved"),
        ("approved", timedelta(0), "expired"), ("approved", timedelta(days=-1), "expired"),
        ("denied", timedelta(days=-1), "denied"), ("expired", timedelta(days=-1), "expired"),
    ],
)  # fmt: skip
def test_an_approval_ends_at_its_time(kyc: str, until: timedelta | None, said: str) -> None:
    ref = PartyRef("p1", kyc, "clear", None if until is None else NOW + until)
    assert ref.as_of(NOW).kyc == said


# As one part of a policy.


def past(judgement: Judged, command: IntentCommand, waives: tuple[str, ...] = ()) -> Past:
    return Past(
        "0" * 32, "i", "acme", "amara", "developer", command, 2, "2026-04-01T12:00:00.000000Z", waives, judgement
    )


@pytest.mark.parametrize("limits", [{}, {"NGN": Limits(daily_minor_max=10)}])
@pytest.mark.parametrize("counterparty", ["Jorunn Voransky", "Ulrika Denholm"])
def test_the_policy_explains_and_repeats_what_it_said_of_people(counterparty: str, limits: dict[str, Limits]) -> None:
    rules = PolicyRules(version=3, compliance=OUT, limits=limits)
    command = IntentCommand(
        kind=IntentKind.TRANSFER, minor="1", currency="NGN", source="customer", destination="merchant"
    )
    keys = velocity_keys(rules, "acme", command, "2026-04-01")
    said = decide(
        rules, command, tenant="acme", role="developer", source=OK, usage={key: Usage() for key in keys},
        day="2026-04-01", diligence=known(OUT, counterparty=counterparty),
    )  # fmt: skip
    told = explain(past(said, command), rules, source_type="customer")
    assert told.same
    looked_at = {answer.rule: answer.inputs for answer in told.answers}
    assert looked_at["sanctions"]["lists"][0]["digest"] == FRESH["test"].info.digest
    assert bool(said.velocity) is (said.outcome == "accepted" and bool(limits))
    blind = structs.replace(said, diligence=structs.replace(known(OUT), score=1, hits=()))
    changed = explain(past(blind, command), rules, source_type="customer")
    assert changed.same is False, "what was known is part of the digest"


def test_no_rule_of_a_tenant_takes_back_what_is_said_of_people() -> None:
    mine = {"when": {"field": "currency", "op": "==", "value": "NGN"}, "outcome": "allow", "reason": ""}
    for rule, code in (
        ({"name": "mine", "waives": ["sanctions"]}, "rule_not_waivable"),
        ({"name": "sanctions", "waives": ["review_threshold"]}, "rule_name_taken"),
    ):
        rules, wrong = parse_policy({"rules": [{**mine, **rule}], "compliance": {"screen": "counterparties"}})
        assert rules is None
        assert code in [one.code for one in wrong]


@pytest.mark.parametrize(
    ("compliance", "pointer"),
    [
        ({"screen": "all", "kyc_required": True, "threshold": 900, "lists": ["ofac"]}, None),
        ({"screen": "some"}, "/compliance/screen"),
        ({"threshold": 500}, "/compliance/threshold"),
        ({"threshold": "900"}, "/compliance/threshold"),
        ({"list_max_age_hours": 0}, "/compliance/list_max_age_hours"),
        ({"nothing": 1}, "/compliance/nothing"),
    ],
)
def test_a_policy_document_says_what_is_demanded(compliance: dict[str, Any], pointer: str | None) -> None:
    rules, wrong = parse_policy({"compliance": compliance})
    assert [one.pointer for one in wrong] == ([] if pointer is None else [pointer])
    if rules is not None:
        assert document_of(rules) == {"compliance": msgspec.to_builtins(rules.compliance)}
        assert parse_policy(document_of(rules)) == (rules, [])


def test_other_demands_are_tried_on_what_was_known() -> None:
    once = judged(OUT, known(OUT, counterparty="Jorun Voransky")).diligence
    assert isinstance(once, Diligence)
    stricter = demanded(once, Compliance(screen="counterparties", threshold=1000))
    assert stricter is not None
    assert (stricter.threshold, stricter.hits) == (1000, ())
    assert demanded(once, None) is None
    assert demanded(msgspec.UNSET, OUT) is None
