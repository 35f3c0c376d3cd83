"""What goes wrong in the client, one tree; `error.code` is the product's stable code and the thing to branch on.

    ZentraError                               anything that this package raises on purpose
    ├── WebhookVerificationError              a webhook is not authentic, or not readable
    ├── MissingExtraError                     this needs a library that was not installed
    └── APIError                              a call failed
        ├── APIConnectionError                no answer: the request may or may not have been carried out
        │   └── APITimeoutError               no answer in time
        ├── APIResponseError                  a success that cannot be read
        └── APIStatusError                    the answer is an error
            ├── BadRequestError               400
            ├── AuthenticationError           401
            ├── PermissionDeniedError         403
            ├── NotFoundError                 404: there is no such id, or it is not yours
            ├── ConflictError                 409
            │   └── IdempotencyInFlightError  409 `idempotency_in_flight`
            ├── UnprocessableEntityError      422
            │   └── IdempotencyMismatchError  422 `idempotency_key_reused`
            ├── RateLimitError                429
            └── InternalServerError           500 and above

`code` is one of `zentra.client.codes.Code`, which is made from the server's registry; so is what may be tried again.
Every failed call carries the idempotency key that it used: whoever goes on with the same request goes on with that key,
so that it happens once whatever became of the first try."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from zentra.client.answers import Answer

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "ConflictError",
    "FieldError",
    "IdempotencyInFlightError",
    "IdempotencyMismatchError",
    "InternalServerError",
    "MissingExtraError",
    "NotFoundError",
    "PermissionDeniedError",
    "ProblemDocument",
    "RateLimitError",
    "UnprocessableEntityError",
    "WebhookVerificationError",
    "ZentraError",
    "status_error",
]


class FieldError(Struct, frozen=True):
    """One thing that is wrong with a request: where (a JSON pointer), a stable code, and a sentence."""

    pointer: str = ""
    code: str = ""
    detail: str = ""


class ProblemDocument(Struct, frozen=True, kw_only=True):
    """The body of an error (RFC 9457), as far as the client needs it."""

    code: str = ""
    status: int = 0
    title: str = ""
    detail: str = ""
    retryable: bool | None = None
    retry_after_seconds: float | None = None
    request_id: str = ""
    trace_id: str = ""
    errors: tuple[FieldError, ...] = ()


class ZentraError(Exception):
    """The base of everything that this package raises on purpose."""


class WebhookVerificationError(ZentraError):
    """Raised for a webhook that is not authentic; `code` says why and holds nothing of the secret."""

    def __init__(self, code: str) -> None:
        super().__init__(f"webhook refused: {code}")
        self.code = code


class MissingExtraError(ZentraError, ImportError):
    """Raised when a library is missing that only this needs; the message says what to install."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs more than the plain client: pip install 'zentra[client,{extra}]'")


class APIError(ZentraError):
    """The base of failed calls. `retryable` says whether the very same request may succeed later.

    `response` is the answer where there was one: its `status`, `headers` and `body`."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        status: int | None = None,
        request_id: str = "",
        trace_id: str = "",
        idempotency_key: str | None = None,
        errors: tuple[FieldError, ...] = (),
        retryable: bool = False,
        retry_after_seconds: float | None = None,
        response: Answer | None = None,
    ) -> None:
        super().__init__(message)
        self.trace_id, self.response = trace_id, response
        self.code, self.status, self.request_id = code, status, request_id
        self.idempotency_key, self.errors = idempotency_key, errors
        self.retryable, self.retry_after_seconds = retryable, retry_after_seconds


class APIConnectionError(APIError):
    """Raised when there was no answer; whether the request was carried out is not known."""


class APITimeoutError(APIConnectionError):
    """Raised when there was no answer in time."""


class APIResponseError(APIError):
    """Raised for a success whose body is not what was asked for: something else than Zentra may have answered."""


class APIStatusError(APIError):
    """Raised for an answer that is an error; of this very class where no other fits the status."""


class BadRequestError(APIStatusError):
    """Raised for a request that cannot be read."""


class AuthenticationError(APIStatusError):
    """Raised when the API key is missing, wrong, revoked or expired."""


class PermissionDeniedError(APIStatusError):
    """Raised when the role of the key does not allow this."""


class NotFoundError(APIStatusError):
    """Raised for an id that nobody of this tenant has."""


class ConflictError(APIStatusError):
    """Raised when the state of things does not allow this; `code` says what stands in the way."""


class IdempotencyInFlightError(ConflictError):
    """Raised when the first request with this key was still under way after every try."""


class UnprocessableEntityError(APIStatusError):
    """Raised for a request that breaks rules; where they are about fields, `errors` names each."""


class IdempotencyMismatchError(UnprocessableEntityError):
    """Raised when the idempotency key was used with another request."""


class RateLimitError(APIStatusError):
    """Raised when too much was asked for."""


class InternalServerError(APIStatusError):
    """Raised when the server failed or cannot answer now."""


_BY_CODE: Final[Mapping[str, type[APIStatusError]]] = {
    "idempotency_in_flight": IdempotencyInFlightError,
    "idempotency_key_reused": IdempotencyMismatchError,
}
_BY_STATUS: Final[Mapping[int, type[APIStatusError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}
_RETRYABLE: Final = frozenset({408, 429})


def status_error(
    status: int,
    problem: ProblemDocument,
    *,
    request_id: str = "",
    idempotency_key: str | None = None,
    retry_after_seconds: float | None = None,
    response: Answer | None = None,
) -> APIStatusError:
    """Return the error for an answer; what its problem says of trying again counts before what its status says."""
    kind = _BY_CODE.get(problem.code) or _BY_STATUS.get(status)
    if kind is None:
        kind = InternalServerError if status >= 500 else APIStatusError
    said = ": ".join(part for part in (problem.code, problem.title, problem.detail) if part)
    fields = "; ".join(": ".join(filter(None, (f"{one.pointer} {one.code}", one.detail))) for one in problem.errors)
    retryable = problem.retryable
    if retryable is None:
        retryable = status in _RETRYABLE or status >= 500
    return kind(
        f"{status} {said or 'without a problem document'}{f' ({fields})' if fields else ''}",
        code=problem.code,
        status=status,
        request_id=problem.request_id or request_id,
        trace_id=problem.trace_id,
        idempotency_key=idempotency_key,
        errors=problem.errors,
        retryable=retryable,
        retry_after_seconds=retry_after_seconds,
        response=response,
    )
