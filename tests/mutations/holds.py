"""Faults of holds that are planted, and who has to notice each; a part of the table."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import Edit, Mutation

__all__ = ["HOLD_MUTATIONS"]

_HOLDS: Final = "runtime/ledger/holds.py"
_HOLDING: Final = "actors/holding.py"
_TESTS: Final = "tests/actors/test_holding.py::"

# fmt: off
HOLD_MUTATIONS: Final = (
    Mutation(
        "hold-outlives-its-instant", "a hold can still be captured at the very instant at which it expires", "K",
        (Edit(_HOLDS, "if now >= hold.expires_at else None", "if now > hold.expires_at else None"),),
        ("tests/actors/test_racing.py::test_of_a_capture_and_an_expiry_exactly_one_wins",
         f"{_TESTS}test_a_hold_has_expired_at_its_instant_however_late_its_timer_is"),
        "a clock of microseconds hardly ever meets the one of an expiry",
    ),
    Mutation(
        "hold-rest-kept", "the last capture leaves the rest of a hold pending", "E",
        (Edit(_HOLDS, "if last and held > minor:", "if last and held < minor:"),),
        (f"{_TESTS}test_several_captures_go_where_they_say_and_the_last_one_gives_back_the_rest",),
    ),
    Mutation(
        "hold-captured-beyond", "more is captured than is held", "E",
        (Edit(_HOLDS, "    if minor > held:\n", "    if minor > held + 1:\n"),),
        (f"{_TESTS}test_the_first_objection_to_a_capture_is_the_answer",),
    ),
    Mutation(
        "hold-captured-again", "a capture whose command comes again acts again", "G",
        (Edit(_HOLDING,
              "    if event.command in tx.commands:\n        return \"done\"\n    body",
              "    body"),
         Edit("actors/commands.py", "    if tick.is_answered(event.command):\n        return\n", "")),
        (f"{_TESTS}test_a_capture_acts_once",),
    ),
    Mutation(
        "hold-closed", "money is captured from or to an account that is closed", "F",
        (Edit(_HOLDS, 'if ref.status == "closed":', 'if ref.status == "shut":'),),
        (f"{_TESTS}test_the_first_objection_to_a_capture_is_the_answer",
         f"{_TESTS}test_a_freeze_stops_what_begins_and_a_close_what_moves"),
        "its auditor knows which accounts are closed and asks nothing about captures into them",
    ),
    Mutation(
        "hold-oldest-first", "a reversal takes from the oldest capture first", "L",
        (Edit(_HOLDS, "reversed(list(enumerate(captures)))", "list(enumerate(captures))"),),
        (f"{_TESTS}test_what_was_captured_comes_back_the_newest_capture_first",),
        "its clients hardly ever reverse a hold that was captured twice",
    ),
    Mutation(
        "hold-refuses-others", "a reserve is refused for what an expired hold still keeps", "K",
        (Edit("actors/expiring.py", 'if objection.code != "insufficient_funds"', 'if objection.code != "nothing"'),),
        (f"{_TESTS}test_nothing_is_refused_for_a_hold_that_has_expired",
         f"{_TESTS}test_a_reserve_waits_while_the_owner_of_an_expired_hold_is_away"),
        "few of its accounts are empty but for what an expired hold keeps",
    ),
    Mutation(
        "hold-goes-anywhere", "a capture goes where the policy lets nothing go", "R",
        (Edit(_HOLDS, "    if not permitted:\n", "    if False:\n"),),
        ("tests/actors/test_policy_stage.py::test_a_capture_goes_only_where_the_policy_lets_the_hold_go",),
        "its clients capture to nobody whom a policy denies",
    ),
    Mutation(
        "hold-velocity", "what was captured is given back as well when a hold ends", "R",
        (Edit("actors/tick.py", "rest, whole = tx.command.amount - tx.posted,", "rest, whole = tx.command.amount,"),),
        (f"{_TESTS}test_velocity_keeps_what_was_captured_and_gets_back_the_rest",),
    ),
    Mutation(
        "hold-projection", "the row of a hold does not follow its captures", "D",
        (Edit("storage/engine/journal.py",
              "do update set remaining = excluded.remaining, captured = excluded.captured,\n    status",
              "do update set status"),),
        ("tests/storage/test_holds.py::test_of_a_capture_and_an_expiry_exactly_one_wins_on_postgres_too",),
        "the simulator has no SQL",
    ),
)
# fmt: on
