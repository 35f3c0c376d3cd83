"""Faults of policies: windows, conditions and versions."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import Edit, Mutation

__all__ = ["POLICY_MUTATIONS"]

_WINDOWS: Final = "runtime/policy/windows.py"
_EVALUATION: Final = "runtime/policy/evaluation.py"
_CONDITIONS: Final = "runtime/policy/conditions.py"
_WINDOW_TESTS: Final = "tests/runtime/test_policy_windows.py::"
_DECISION_TESTS: Final = "tests/runtime/test_policy_decisions.py::"
_CONDITION_TESTS: Final = "tests/runtime/test_policy_conditions.py::"
_DOOR_TESTS: Final = "tests/gateway/http/test_policies.py::"
_STAGE_TESTS: Final = "tests/actors/test_policy_stage.py::"
_SQL: Final = "the simulator has no SQL"
_SOUND: Final = "nothing in the simulator is unknown"

# fmt: off
POLICY_MUTATIONS: Final = (
    Mutation(
        "window-counts-less", "a window leaves out its oldest bucket, a part of which lies within it", "R",
        (Edit(_WINDOWS, "    return (now - seconds) // width\n", "    return (now - seconds) // width + 1\n"),),
        (f"{_WINDOW_TESTS}test_a_window_never_counts_less_than_what_happened_within_it",),
    ),
    Mutation(
        "no-answer-passes", "a rule without an answer lets the intent pass", "R",
        (Edit(_EVALUATION, "        elif hit is False:", "        elif hit is not True:"),),
        (f"{_DECISION_TESTS}test_a_rule_whose_operator_raises_never_accepts",),
    ),
    Mutation(
        "not-makes-an-answer", "a value that is missing is compared like any other", "R",
        (Edit(_CONDITIONS, "        if type(value) is not kind:", "        if type(value) is bytes:"),),
        (f"{_CONDITION_TESTS}test_what_has_no_answer_raises_and_not_cannot_make_it_one",),
        "what the simulated rules do with a text raises by itself where there is none",
    ),
    Mutation(
        "allow-over-denial", "an allow rule takes back a denial that it names", "R",
        (Edit(_EVALUATION, 'objection[0] == "review" and objection[3]', "objection[3]"),),
        (f"{_DECISION_TESTS}test_an_allow_takes_back_no_denial_even_where_nobody_has_checked_the_document",),
        "a document that lets an allow name a denial is refused",
    ),
    Mutation(
        "unknown-figure-passes", "a counter that nobody knows counts as empty", "R",
        (Edit(_EVALUATION, "    if held is None:\n        tally.objected", "    if False:\n        tally.objected"),),
        (f"{_DECISION_TESTS}test_the_worst_answer_wins_and_an_allow_takes_back_only_the_reviews_that_it_names",),
        _SOUND,
    ),
    Mutation(
        "journal-first-leg", "a policy sees no more of a journal than its first leg", "R",
        (Edit("runtime/policy/movements.py", "    return seen\n", "    return None\n"),),
        (f"{_STAGE_TESTS}test_every_movement_of_a_journal_is_judged_and_the_worst_answer_wins",),
    ),
    Mutation(
        "journal-in-pieces", "a movement of a journal is asked about with its own sum alone", "R",
        (Edit("runtime/policy/movements.py", "dict.fromkeys((minor, whole[currency]))", "(minor,)"),),
        (f"{_STAGE_TESTS}test_every_movement_of_a_journal_is_judged_and_the_worst_answer_wins",),
        "its journals are not that large",
    ),
    Mutation(
        "own-promotion", "an author puts their own version in force", "Q",
        (Edit("storage/versions.py", "known.created_by == principal", "False"),),
        (f"{_DOOR_TESTS}test_nobody_promotes_their_own",),
        _SQL,
    ),
)
# fmt: on
