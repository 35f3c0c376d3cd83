"""Errors as clients see them: problem details (RFC 9457) with a code from the registry.

- A code's status, title and advice come from `runtime.codes` and from nowhere else; the sentence is about this request.
- What went wrong inside leaves as `internal` or `unavailable` and tells nothing more; the request id leads to the log.
- A refusal for who is asking, how often, or for an id that is not theirs, is a denial; unknown and foreign ids answer
  alike.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from zentra.gateway.doors.pressure import Overloaded
from zentra.runtime.codes import CODES, ErrorCode
from zentra.runtime.errors import Refusal, Unavailable
from zentra.runtime.intents.command import Violation

__all__ = [
    "DOCUMENT_TYPE", "Caller", "Problem", "document", "of_error", "of_outcome", "of_violations", "refusals_answered",
]  # fmt: skip

_log = logging.getLogger(__name__)

DOCUMENT_TYPE: Final = b"application/problem+json"
TYPE_PREFIX: Final = "/problems/"
INSTANCE_PREFIX: Final = "urn:zentra:request:"  # this very occurrence, and nothing that a path would give away
RETRY_AFTER_SECONDS: Final = 1
_NOTHING: Final[Mapping[str, Any]] = {}

_encode: Final = msgspec.json.Encoder().encode


class Caller(msgspec.Struct, frozen=True):
    """Who is asking, as far as is known; `-` where it is not."""

    tenant: str = "-"
    actor: str = "-"
    role: str = "-"


class Problem(Exception):
    """Raised to answer a request with an error; `caller` names who was refused where authentication could tell."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        errors: Sequence[Violation] = (),
        retry_after: int | None = None,
        headers: Iterable[tuple[bytes, bytes]] = (),
        members: Mapping[str, Any] = _NOTHING,
        caller: Caller | None = None,
    ) -> None:
        super().__init__(code)
        self.row: ErrorCode = CODES[code]
        self.detail = detail
        self.errors = errors
        self.headers = list(headers)
        self.members = members
        self.caller = caller
        if retry_after is not None:
            self.headers.append((b"retry-after", str(retry_after).encode()))

    @property
    def denied(self) -> bool:
        """Whether this is evidence: a refusal for who is asking, how often, or for an id that is not theirs."""
        return self.row.status in (401, 403, 429) or self.row.code in ("not_found", "party_not_found")


def document(problem: Problem, request_id: str, trace_id: str) -> bytes:
    """Return the body of a problem."""
    row = problem.row
    body: dict[str, Any] = {
        "type": TYPE_PREFIX + row.code,
        "title": row.title,
        "status": row.status,
        "code": row.code,
        "detail": problem.detail or row.advice,
        "instance": INSTANCE_PREFIX + request_id,
        "retryable": row.retryable,
        "request_id": request_id,
        "trace_id": trace_id,
        **problem.members,
    }
    if problem.errors:
        body["errors"] = problem.errors
    return _encode(body)


def of_violations(violations: Sequence[Violation]) -> Problem:
    """Return the problem that names everything that is wrong with a body."""
    count = len(violations)
    return Problem("validation_failed", f"{count} {'rules are' if count > 1 else 'rule is'} broken", errors=violations)


def of_outcome(code: str, members: Mapping[str, Any] = _NOTHING) -> Problem:
    """Return the problem that a refused command is answered with; a code of no table is a bug and says so."""
    if code not in CODES:
        _log.error("outcome code is not in the registry", extra={"code": code})
        code = "internal"
    return Problem(code, retry_after=RETRY_AFTER_SECONDS if CODES[code].retryable else None, members=members)


@contextmanager
def refusals_answered() -> Iterator[None]:
    """Raise what the body refuses as the Problem of its code and sentence."""
    try:
        yield
    except Refusal as refusal:
        raise Problem(refusal.reason, refusal.detail) from None


def of_error(error: Exception) -> Problem:
    """Return the problem for whatever a handler raised; what nobody foresaw is logged and leaks nothing."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Overloaded):
        # Also in the body: an answer over NATS has no headers.
        members = {"cause": error.cause, "retry_after_seconds": error.retry_after_seconds}
        return Problem("overloaded", str(error), retry_after=error.retry_after_seconds, members=members)
    if isinstance(error, Unavailable):
        _log.warning("store unavailable", extra={"error": str(error)})
        return Problem("unavailable", retry_after=RETRY_AFTER_SECONDS)
    _log.error("request failed", exc_info=error)
    return Problem("internal")
