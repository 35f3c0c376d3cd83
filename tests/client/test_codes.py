"""The client knows every code of the server: its class, whether to try again, and its name."""

from __future__ import annotations

import pytest

from zentra.client import errors
from zentra.client.codes import RETRYABLE, Code
from zentra.client.errors import ProblemDocument, status_error
from zentra.runtime.codes import CODES

BY_STATUS = {
    400: errors.BadRequestError, 401: errors.AuthenticationError, 403: errors.PermissionDeniedError,
    404: errors.NotFoundError, 405: errors.APIStatusError, 408: errors.APIStatusError, 409: errors.ConflictError,
    410: errors.APIStatusError,
    413: errors.APIStatusError, 415: errors.APIStatusError, 422: errors.UnprocessableEntityError,
    428: errors.APIStatusError, 429: errors.RateLimitError,
    500: errors.InternalServerError, 503: errors.InternalServerError,
}  # fmt: skip
OF_THEIR_OWN = {
    "idempotency_in_flight": errors.IdempotencyInFlightError,
    "idempotency_key_reused": errors.IdempotencyMismatchError,
}


def test_the_client_has_the_codes_of_the_registry() -> None:
    assert [code.value for code in Code] == list(CODES)
    assert {code.value for code in RETRYABLE} == {row.code for row in CODES.values() if row.retryable}


@pytest.mark.parametrize("code", CODES)
def test_a_code_has_its_class(code: str) -> None:
    row = CODES[code]
    problem = ProblemDocument(code=code, title=row.title, retryable=row.retryable, request_id="req_1")
    error = status_error(row.status, problem, idempotency_key="k")
    assert type(error) is OF_THEIR_OWN.get(code, BY_STATUS[row.status])
    assert (error.code, error.status, error.retryable, error.request_id) == (code, row.status, row.retryable, "req_1")
    assert error.code == Code(code)
    assert row.title in str(error)
