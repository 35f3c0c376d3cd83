"""The one map from what asyncpg raises to the errors of the runtime, and the errors that only the store has.

- No driver error leaves `storage`: every statement runs inside `translated()`.
- A connection that dies during a commit leaves its outcome unknown (InDoubt); dying at any other time means that
  nothing was written (Unavailable).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from zentra.runtime.errors import Contended, DataError, InDoubt, Refusal, Unavailable, ZentraError

__all__ = ["AlreadyDecided", "Misconfigured", "translate", "translated"]


class Misconfigured(ZentraError):
    """Raised when an installation is not as it has to be; `reason` is a stable code, the sentence names the fix."""

    code = "misconfigured"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class AlreadyDecided(Refusal):
    """Raised when somebody else decided this round of the review first."""

    code = "review_already_decided"

    def __init__(self, review: str, round_number: int) -> None:
        super().__init__(self.code, f"round {round_number} of review {review} has a decision")
        self.review, self.round = review, round_number


# Without a SQLSTATE: asyncpg raises InterfaceError for a connection it knows to be closed, and InternalClientError for
# one that the server ended while it lay idle in the pool.
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_CONTENDED = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)
_DATA = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
# Postgres ends what takes too long; nothing of it was written.
_TIMED_OUT = ("25P03", "25P04", "57014")


def translate(error: Exception, *, committing: bool = False) -> ZentraError | None:
    """Return the runtime's word for what a driver raised, or None for an error that is nobody's weather but a bug."""
    if isinstance(error, _CONTENDED):
        return Contended(str(error))
    if isinstance(error, _DATA):
        return DataError(str(error))
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate in _TIMED_OUT:
        return Unavailable(str(error))
    if isinstance(error, _LOST):
        return InDoubt(str(error)) if committing else Unavailable(str(error) or type(error).__name__)
    return None


@contextmanager
def translated(*, committing: bool = False) -> Iterator[None]:
    """Turn what asyncpg raises inside into Contended, DataError, InDoubt or Unavailable.

    `committing` says that a commit is on its way, so a lost connection leaves a doubt. Other errors pass unchanged."""
    try:
        yield
    except ZentraError:
        raise
    except Exception as error:
        ours = translate(error, committing=committing)
        if ours is None:
            raise
        raise ours from error
