"""Faults of compliance: parties, names, lists and what is said of them."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import Edit, Mutation

__all__ = ["PEOPLE_MUTATIONS"]

_RULES: Final = "runtime/compliance/rules.py"
_PEOPLE: Final = "runtime/policy/people.py"
_PARTIES: Final = "storage/intake/parties.py"
_SCREENING: Final = "storage/screening.py"
_MIGRATION: Final = "storage/migrations/0016_parties.sql"
_RULE_TESTS: Final = "tests/runtime/test_compliance.py::"
_NAME_TESTS: Final = "tests/runtime/test_screening.py::"
_STORE_TESTS: Final = "tests/storage/test_screening.py::"
_SQL: Final = "the simulator has no SQL"
_LISTED: Final = "a counterparty of the simulator is listed word for word, or like nobody"

# A table is read down its columns.
# ruff: noqa: E501
# fmt: off
PEOPLE_MUTATIONS: Final = (
    Mutation(
        "true-match-passes", "money of somebody whom a list names is moved", "Q",
        (Edit(_RULES, "    if any(side.screening == Screening.TRUE_MATCH for side in parties):\n        return", "    if False:\n        return"),),
        (f"{_RULE_TESTS}test_what_is_known_of_the_people_decides",),
    ),
    Mutation(
        "unscreenable-passes", "a name that cannot be compared is clear", "R",
        (Edit(_RULES, '    if known.counterparty in ("unscreenable", "incomplete"):', '    if known.counterparty == "incomplete":'),),
        (f"{_RULE_TESTS}test_what_is_known_of_the_people_decides",),
        _LISTED,
    ),
    Mutation(
        "stale-list-clears", "an old list clears everybody", "R",
        (Edit(_RULES, '    state = "fresh" if info.fetched_at >= oldest else "stale"', '    state = "fresh"'),),
        (f"{_RULE_TESTS}test_what_is_known_of_the_people_decides",),
        "the simulator's list is young for as long as a run lasts",
    ),
    Mutation(
        "cleared-for-ever", "a cleared pair stays cleared whatever becomes of the entry", "R",
        (Edit(_RULES, "(digest, hit.list, hit.digest) in cleared)", "any(pair[:2] == (digest, hit.list) for pair in cleared))"),),
        (f"{_RULE_TESTS}test_what_is_known_of_the_people_decides",),
        "nobody clears a pair in the simulator",
    ),
    Mutation(
        "people-undigested", "what was known of people is no part of the digest", "R",
        (Edit(_PEOPLE, 'b"\\n" + canonical.encode(diligence)', 'b""'),),
        (f"{_RULE_TESTS}test_the_policy_explains_and_repeats_what_it_said_of_people",),
    ),
    Mutation(
        "accents-count", "accents and vowel signs of Cyrillic and Arabic make another name", "R",
        (Edit("runtime/compliance/names.py", '_MARKS.sub("", folded)', "folded"),),
        (f"{_NAME_TESTS}test_a_form_has_no_case_no_accents_no_order_and_one_script",),
        _LISTED,
    ),
    Mutation(
        "own-kyc", "whoever created a party approves it", "Q",
        (Edit(_PARTIES, 'row["created_by"] == actor or await', "await"),),
        (f"{_STORE_TESTS}test_a_decision_on_an_identity_is_not_its_creators_and_follows_the_table",),
        _SQL,
    ),
    Mutation(
        "own-amendment", "whoever gave a party another name takes back a true match of it", "Q",
        (Edit(_PARTIES, " or await connection.fetchval(_AMENDED, tenant, party_id, actor, what, SCREENER)", ""),),
        (f"{_STORE_TESTS}test_whoever_amended_a_party_neither_rescreens_it_nor_ends_its_case",
         f"{_STORE_TESTS}test_whoever_amended_a_party_since_the_last_decision_does_not_decide_on_its_identity"),
        _SQL,
    ),
    Mutation(
        "approval-of-another", "an approval of somebody is kept by whoever the party is said to be afterwards", "Q",
        (Edit(_PARTIES, "        if known is Kyc.APPROVED:", "        if False:"),),
        (f"{_STORE_TESTS}test_who_is_said_to_be_another_person_is_approved_and_screened_anew",),
        _SQL,
    ),
    Mutation(
        "approval-for-ever", "an approval that has run out is one until somebody has noted it", "R",
        (Edit("actors/tick.py", "party = ref.party.as_of(self.now)", "party = ref.party"),),
        ("tests/actors/test_compliance.py::test_an_approval_that_has_run_out_is_none_for_the_next_decision",),
    ),
    Mutation(
        "any-party-will-do", "a payee that has any party needs no name where nobody screens parties", "R",
        (Edit(_RULES, 'known.screen == "all" and isinstance', "isinstance"),),
        (f"{_RULE_TESTS}test_what_is_known_of_the_people_decides",),
    ),
    Mutation(
        "true-match-forgotten", "another list ends a true match", "Q",
        (Edit("runtime/compliance/parties.py", "    return current if current is Screening.TRUE_MATCH else found.state", "    return found.state"),),
        (f"{_RULE_TESTS}test_screening_moves_everybody_but_a_true_match",
         f"{_STORE_TESTS}test_a_true_match_is_ended_by_a_person_alone"),
        _SQL,
    ),
    Mutation(
        "half-a-list", "a staged version is asked like an active one", "R",
        (Edit(_SCREENING, 'await self._rows(("active",))', 'await self._rows(("staged", "active"))'),),
        (f"{_STORE_TESTS}test_a_list_is_in_force_whole_and_the_same_again_is_only_younger",),
        _SQL,
    ),
    Mutation(
        "party-unheard", "nobody hears that a party has changed", "R",
        (Edit(_MIGRATION, "        update zentra.configuration_version set version = version + 1;\n    end if;", "        null;\n    end if;"),),
        (f"{_STORE_TESTS}test_accounts_bring_the_state_of_their_party_and_a_change_is_in_force_at_once",),
        _SQL,
    ),
)
# fmt: on
