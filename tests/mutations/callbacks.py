"""Faults to plant in what becomes of callbacks: claims, strangers, cases about rails, what the door keeps."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import Edit, Mutation

__all__ = ["CALLBACK_MUTATIONS"]

_RULING: Final = "runtime/rails/ruling.py"
_STRANGERS: Final = "actors/strangers.py"
_OUTCOMES: Final = "actors/outcomes.py"
_RESOLVING: Final = "actors/resolving.py"
_INTAKE: Final = "storage/intake/callbacks.py"
_TRUST_TESTS: Final = "tests/actors/test_trust.py::"
_STRANGER_TESTS: Final = "tests/actors/test_strangers.py::"
_POLLING_TESTS: Final = "tests/actors/test_polling.py::"
_CASE_TESTS: Final = "tests/actors/test_cases.py::"
_RARE: Final = "a rail that says later that it paid, while the next is unknown and somebody resolves it, is rare there"
_DOOR_TESTS: Final = "tests/gateway/http/test_callbacks.py::"
_SQL: Final = "the simulator has no SQL"

CALLBACK_MUTATIONS: Final = (
    Mutation(
        "claim-decides",
        "what anybody could have said who knows a shared secret moves money",
        "N",
        (Edit(_RULING, "    if said.trust not in DECIDES or said.second:\n        return Ruling.CLAIMS\n", ""),),
        (f"{_TRUST_TESTS}test_only_the_rails_own_answer_moves_money",),
    ),
    Mutation(
        "claim-forgotten",
        "that the rail gives the lie to a claim is no contradiction",
        "I",
        (
            Edit(
                _RULING,
                "return any((claim == _PAID) != (status == _PAID) for claim in claimed if claim in ENDS)",
                "return False",
            ),
        ),
        (f"{_TRUST_TESTS}test_only_the_rails_own_answer_moves_money",),
    ),
    Mutation(
        "claim-not-asked",
        "nobody asks the rail when somebody has spoken in its name",
        "T",
        (
            Edit(
                _RULING,
                "return (said.trust not in DECIDES or said.second) and ruling in (Ruling.CLAIMS, Ruling.CONTRADICTS)",
                "return False",
            ),
        ),
        (f"{_TRUST_TESTS}test_a_claim_is_recorded_with_its_digest_and_the_rail_is_asked_at_once",),
        "the timer asks as well, only later",
    ),
    Mutation(
        "stranger-forgotten",
        "a callback of an unknown reference is dropped",
        "T",
        (
            Edit(
                _STRANGERS,
                'tick.timer(KIND, key, f"{outcome.rail}/{outcome.reference}", at.partition, "-", due)',
                "del key, due",
            ),
        ),
        (
            f"{_STRANGER_TESTS}test_a_callback_that_outruns_the_intent_is_applied_when_it_is_there",
            f"{_STRANGER_TESTS}test_a_stranger_waits_a_bounded_time_and_is_one_case",
        ),
    ),
    Mutation(
        "stranger-for-ever",
        "a callback of an unknown reference waits without end",
        "T",
        (Edit(_STRANGERS, "if waited >= lasts:", "lasts += waited\n    if waited < 0:"),),
        (f"{_STRANGER_TESTS}test_a_stranger_waits_a_bounded_time_and_is_one_case",),
    ),
    Mutation(
        "superseded-case-open",
        "a contradiction leaves the case of the outcome that nobody knows open beside its own",
        "I",
        (Edit(_OUTCOMES, 'asking.end_case(tick, at, tx, asking.UNKNOWN_OUTCOME, "superseded", cause)', "pass"),),
        (f"{_POLLING_TESTS}test_a_contradiction_takes_the_place_of_the_case_that_nobody_answered",),
        "the rail answers in the end, which closes it as well",
    ),
    Mutation(
        "answered-case-open",
        "an answer after the deadline leaves its case to a person",
        "T",
        (Edit(_OUTCOMES, "    if tx.cases_open:\n", "    if not tx:\n"),),
        (f"{_POLLING_TESTS}test_a_late_answer_settles_the_payment_and_closes_the_case",),
        "a person who looks at it finds it settled",
    ),
    Mutation(
        "word-on-the-latest",
        "a person's word about a rail that was left is taken for one on the latest",
        "N",
        (Edit(_RESOLVING, "number = tx.cases_about.get(case, len(tx.attempts))", "number = len(tx.attempts)"),),
        (f"{_CASE_TESTS}test_the_rail_that_was_left_has_paid_and_the_other_is_asked_on",),
        _RARE,
    ),
    Mutation(
        "release-beside-the-unknown",
        "a person's word that one rail did not pay releases the hold while another one is unknown",
        "N",
        (Edit(_RESOLVING, "if all(asking.is_unpaid(other) for", "if all(other for"),),
        (f"{_CASE_TESTS}test_the_rail_that_was_left_has_not_paid_and_nothing_is_released_while_the_other_is_open",),
        _RARE,
    ),
    Mutation(
        "other-rail-not-asked-on",
        "once a person has said that one rail paid, the other is not asked any more",
        "I",
        (Edit("actors/asking.py", "        ask_beside(tick, at, tx)\n", "        pass\n"),),
        (f"{_CASE_TESTS}test_a_rail_that_never_says_whether_it_paid_as_well_is_a_case_that_a_person_can_end",),
        _RARE,
    ),
    Mutation(
        "other-bytes-dropped-sql",
        "a known event id over other bytes is taken for a repeat",
        "I",
        (Edit(_INTAKE, "if stored.get(_name(callback), digest) == digest:", "if stored is not None:"),),
        (f"{_DOOR_TESTS}test_a_known_event_id_over_other_bytes_is_no_repeat",),
        _SQL,
    ),
)
