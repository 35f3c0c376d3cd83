"""What an idempotency key has to survive, row by row, and the test that proves each."""

from __future__ import annotations

import ast

import pytest

from tests.architecture import ROOT

STORIES, DOOR, HTTP = "scenarios/test_exactly_once.py", "gateway/test_killed_doors.py", "gateway/http/test_intents.py"
# ruff: noqa: E501
# fmt: off
MATRIX = {
    "the same key twice":                      (HTTP, "test_a_replay_is_the_first_answer_again"),
    "two hundred at once":                     (STORIES, "test_two_hundred_requests_at_once_are_one_intent"),
    "another body":                            (STORIES, "test_a_key_used_for_something_else_is_refused_naming_what_differs"),
    "another route":                           (HTTP, "test_a_key_of_one_route_is_no_key_of_another"),
    "another tenant":                          (HTTP, "test_tenants_do_not_share_keys_or_ids"),
    "kill -9 before the commit":               (DOOR, "test_a_door_that_was_killed_has_made_an_intent_or_none_and_the_key_makes_one"),
    "kill -9 after it, before Redis knows":    (DOOR, "test_a_door_that_was_killed_has_made_an_intent_or_none_and_the_key_makes_one"),
    "kill -9 under load":                      ("scenarios/test_crash.py", "test_a_killed_gateway_has_kept_every_intent_that_it_acknowledged"),
    "FLUSHALL between":                        (STORIES, "test_the_first_answer_is_the_answer_whatever_was_lost"),
    "FLUSHALL while a crowd asks":             (STORIES, "test_redis_emptied_under_a_crowd_changes_nothing"),
    "Redis is gone":                           (STORIES, "test_without_redis_a_crowd_is_one_intent"),
    "a lock that ends before its slow holder": (DOOR, "test_a_lock_that_ends_before_its_slow_holder_lets_nobody_in_twice"),
    "25 hours later":                          (DOOR, "test_a_day_later_the_first_answer_is_still_the_answer"),
    "a quoted and a bare header":              (HTTP, "test_a_replay_is_the_first_answer_again"),
    "in the body and in a header":             (HTTP, "test_a_replay_is_the_first_answer_again"),
    "over HTTP and over NATS":                 (STORIES, "test_both_doors_lead_to_one_intent"),
    "a 5xx first":                             ("gateway/test_intake.py", "test_a_store_that_does_not_answer_is_said_so_and_the_key_stays_free"),
    "a refused body first":                    (HTTP, "test_nothing_refused_is_kept_with_its_key"),
    "the API key was revoked":                 ("gateway/http/test_access.py", "test_a_revoked_key_gets_no_answer_again"),
}
# fmt: on


@pytest.mark.parametrize("row", MATRIX)
def test_every_row_of_the_matrix_has_its_test(row: str) -> None:
    path, name = MATRIX[row]
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
