"""The errors of the runtime, one tree.

    ZentraError                     code, data; the sentence is made from the data
    ├── IllegalFact                 illegal_fact: the table holds no such pair
    ├── VersionGap                  version_gap: an event is ahead of its actor
    ├── Refusal                     a rule said no; the code says which (see zentra.runtime.codes)
    ├── Unavailable                 a store or stream cannot answer now; trying again may help
    │   ├── LeaseLost               lease_lost: another worker owns the partition
    │   ├── Contended               contended: serialization failure or deadlock, run it again
    │   └── InDoubt                 in_doubt: the connection died during a commit
    └── DataError                   data_error: the store refuses the data itself

Messages are lowercase without a full stop. Codes are stable and unique across the product."""

from typing import ClassVar

__all__ = [
    "Contended",
    "DataError",
    "IllegalFact",
    "InDoubt",
    "LeaseLost",
    "Refusal",
    "Unavailable",
    "VersionGap",
    "ZentraError",
]


class ZentraError(Exception):
    """The base of every error that the runtime raises itself."""

    code: ClassVar[str] = "internal"


class IllegalFact(ZentraError):
    """Raised when a fact has no row in the machine's table for the state."""

    code = "illegal_fact"

    def __init__(self, state: str, fact: str) -> None:
        super().__init__(f"no move from {state} by {fact}")
        self.state, self.fact = state, fact


class VersionGap(ZentraError):
    """Raised when an event carries a version that its actor has not reached."""

    code = "version_gap"

    def __init__(self, key: str, expected: int, got: int) -> None:
        super().__init__(f"actor {key} stands at version {expected}, the event expects {got}")
        self.key, self.expected, self.got = key, expected, got


class Refusal(ZentraError):
    """Raised or returned when a rule says no: `reason` is a stable code, `detail` what a person may read."""

    code = "refused"

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class Unavailable(ZentraError):
    """Raised when a store or stream cannot answer now; trying again may help."""

    code = "unavailable"


class LeaseLost(Unavailable):
    """Raised when another worker owns the partition by now."""

    code = "lease_lost"


class Contended(Unavailable):
    """Raised on a serialization failure or a deadlock: run the same work again."""

    code = "contended"


class InDoubt(Unavailable):
    """Raised when the connection died while a commit was on its way: read the lease to know."""

    code = "in_doubt"


class DataError(ZentraError):
    """Raised when the store refuses the data itself: running the same work again cannot help."""

    code = "data_error"
