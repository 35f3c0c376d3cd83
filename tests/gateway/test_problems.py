"""Problem details: one registry, one shape, nothing leaked."""

from __future__ import annotations

import msgspec
import pytest

from zentra.gateway.doors.pressure import Cause, Overloaded
from zentra.gateway.http.problems import Problem, document, of_error, of_outcome, of_violations
from zentra.runtime.codes import _ROWS, CODES, FIELD_CODES
from zentra.runtime.errors import Contended, DataError, InDoubt, Unavailable
from zentra.runtime.intents.command import Violation, parse_intent
from zentra.runtime.rails.port import CallbackCode


def test_a_code_stands_once_and_says_what_to_do() -> None:
    assert len(CODES) == len(_ROWS)
    assert not CODES.keys() & FIELD_CODES
    for row in CODES.values():
        assert 400 <= row.status <= 599
        assert row.title
        assert row.advice
        assert row.title == row.title.rstrip(".")
        assert row.code.replace("_", "").isalpha()
        assert row.code == row.code.lower()


def test_retryable_codes_are_those_that_may_pass_with_time() -> None:
    assert {row.code for row in CODES.values() if row.retryable} == {
        "body_too_slow", "idempotency_in_flight", "delivery_under_way", "evidence_not_sealed", "overloaded",
        "evidence_key_absent", "unavailable", "rate_limited", "streams_too_many", "nothing_to_claim", "review_taken",
        "recovery_under_way", "exports_too_many", "export_not_done",
    }  # fmt: skip


@pytest.mark.parametrize("code", list(CallbackCode))
def test_every_refusal_of_a_callback_is_in_the_registry(code: str) -> None:
    assert code in CODES


@pytest.mark.parametrize(
    "code",
    [
        "not_found", "not_cancellable", "already_reversed", "transaction_not_found", "exceeds_original",
        "insufficient_funds", "amount_zero", "amount_negative", "amount_overflow", "account_closed", "account_frozen",
        "accounts_must_be_different", "account_not_found", "currency_mismatch", "review_not_open", "self_approval",
        "case_not_open", "not_awaiting_provider", "nothing_to_retry", "delivery_under_way",
    ],
)  # fmt: skip
def test_every_outcome_of_a_command_is_in_the_registry(code: str) -> None:
    assert of_outcome(code).row.code == code


def test_an_outcome_nobody_knows_is_our_mistake() -> None:
    assert of_outcome("no_such_code").row.code == "internal"


def test_every_violation_of_an_intent_is_in_the_registry() -> None:
    bodies = [
        {"kind": "x", "amount": 1.5, "currency": "xyz", "source": "", "destination": 5, "scope": "A B", "country": "n",
         "intent_id": " ", "money_model": "x", "primitives": ["x"], "metadata": {"é": "x"}, "idempotency_key": "a b",
         "more": 1},
        {"metadata": {str(n): "" for n in range(40)}, "amount": 0},
        {"amount": -1}, {"amount": 2**70}, {"amount": True}, 5,
    ]  # fmt: skip
    codes = {violation.code for body in bodies for violation in parse_intent(body)[2]}
    assert codes <= FIELD_CODES | CODES.keys()
    assert len(codes) >= 16


def test_a_document_has_every_member() -> None:
    problem = of_violations(
        [Violation("/amount", "amount_zero", "at least one"), Violation("/x", "field_unknown", "no")]
    )
    body = msgspec.json.decode(document(problem, "req_1", "t" * 32))
    assert body == {
        "type": "/problems/validation_failed",
        "title": "the request breaks rules",
        "status": 422,
        "code": "validation_failed",
        "detail": "2 rules are broken",
        "instance": "urn:zentra:request:req_1",
        "retryable": False,
        "request_id": "req_1",
        "trace_id": "t" * 32,
        "errors": [
            {"pointer": "/amount", "code": "amount_zero", "detail": "at least one"},
            {"pointer": "/x", "code": "field_unknown", "detail": "no"},
        ],
    }


@pytest.mark.parametrize(
    ("error", "code", "status", "retry_after"),
    [
        (Overloaded(Cause.BACKLOG, 3), "overloaded", 503, b"3"),
        (Unavailable("db.internal"), "unavailable", 503, b"1"),
        (Contended("x"), "unavailable", 503, b"1"),
        (InDoubt("x"), "unavailable", 503, b"1"),
        (DataError("column secret"), "internal", 500, None),
        (KeyError("secret"), "internal", 500, None),
        (Problem("idempotency_in_flight", retry_after=2), "idempotency_in_flight", 409, b"2"),
    ],
)
def test_an_error_becomes_its_problem(error: Exception, code: str, status: int, retry_after: bytes | None) -> None:
    problem = of_error(error)
    assert (problem.row.code, problem.row.status) == (code, status)
    assert dict(problem.headers).get(b"retry-after") == retry_after
    body = document(problem, "r", "t")
    assert b"secret" not in body
    assert b"internal.db" not in body


@pytest.mark.parametrize(
    ("code", "denied"),
    [("key_invalid", True), ("permission_denied", True), ("self_approval", True), ("not_found", True),
     ("signature_invalid", True), ("route_not_found", False), ("validation_failed", False), ("internal", False)],
)  # fmt: skip
def test_denials_are_the_refusals_that_are_evidence(code: str, denied: bool) -> None:
    assert Problem(code).denied is denied
