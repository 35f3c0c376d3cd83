"""Rails: what every payment rail is asked, what it may answer, and the port its adapters implement.

A rail's own words end at its adapter; the machines know only `OutcomeStatus`. The invariants kept here:

- An adapter never raises for the rail's failures. What is ambiguous is `unknown`, and an unknown outcome keeps the
  hold, forbids another rail and is settled by polling the same reference.
- Only `not_accepted` allows failover: either the rail said so itself, or not one byte of the request was sent.
- A callback changes nothing before its signature was verified over the raw bytes that arrived.
- Amounts are integer minor units; on the wire they are strings of digits, and nothing else is read as an amount.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from zentra.runtime.errors import Refusal

__all__ = [
    "UNKNOWN_CAUSE",
    "CallbackCode",
    "CallbackRejected",
    "Cause",
    "OutcomeStatus",
    "Rail",
    "RailKind",
    "RailMode",
    "RailOutcome",
    "RailSettings",
    "Submission",
    "Trust",
    "minor_from_text",
    "raw_digest",
]

RailKind = Literal["sandbox", "inline"]
RailMode = Literal["test", "live"]
Trust = Literal["body_signed", "polled", "direct"]

MINOR_MAX = 2**63 - 1  # what the ledger's signed 64-bit columns hold
DIGITS = re.compile(r"[0-9]{1,19}")  # 2**63 - 1 has 19 digits


class OutcomeStatus(StrEnum):
    """What a rail has told us about one reference."""

    PENDING = "pending"  # the rail took it; the result comes later
    SUCCEEDED = "succeeded"
    DECLINED = "declined"  # a final refusal after acceptance
    NOT_ACCEPTED = "not_accepted"  # refused before acceptance: the only one that allows failover
    UNKNOWN = "unknown"  # timeout, dropped connection, 5xx, anything ambiguous
    NOT_FOUND = "not_found"  # a poll's answer: the rail does not know the reference

    @property
    def final(self) -> bool:
        """Whether the rail will not change its mind about the money."""
        return self in _FINAL


_FINAL: Final = frozenset({OutcomeStatus.SUCCEEDED, OutcomeStatus.DECLINED, OutcomeStatus.NOT_ACCEPTED})


class RailOutcome(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One normalised statement of a rail about one reference, and how far it can be trusted."""

    rail: str
    reference: str
    status: OutcomeStatus
    minor: int | None = None  # None where the rail named no amount, or one that cannot be read
    currency: str | None = None
    provider_reference: str | None = None
    event_id: str | None = None  # callbacks only: unique per rail and event
    reason: str | None = None
    trust: Trust = "direct"
    raw_digest: str | None = None  # SHA-256 hex of the raw bytes this was read from


class Cause(NamedTuple):
    """The record that a poll follows from; nothing where nobody knows."""

    trace: str = ""
    tracestate: str = ""
    sequence: int = 0


UNKNOWN_CAUSE: Final = Cause()


class Submission(msgspec.Struct, frozen=True, gc=False):
    """One payment asked of one rail under one reference."""

    tenant: str
    rail: str
    reference: str
    minor: int
    currency: str
    destination: str
    scenario: str | None = None  # what a sandbox rail shall play; real rails never see it
    trace: str = ""
    tracestate: str = ""
    sequence: int = 0  # of the record that asks for it: the span that the call follows from


class RailSettings(msgspec.Struct, frozen=True):
    """What the routing layer knows of one rail before it asks anything."""

    name: str
    kind: RailKind
    base_url: str = ""
    secret: str = ""
    callback_url: str = ""
    idempotent_references: bool = True  # the same reference twice is one payment, so it may be submitted again
    not_found_lies_seconds: float = 0.0  # how long a poll may say "not found" of a payment that exists
    submit_timeout_seconds: float = 5.0
    poll_after_seconds: float = 2.0
    poll_interval_max_seconds: float = 60.0
    deadline_seconds: float = 900.0  # an outcome still unknown then opens a case
    concurrency_max: int = 64
    mode: RailMode = "test"  # of the tenants whose corridors may lead here; fixed once the rail is set up
    rate_per_second: float = 0.0  # calls of the whole installation, shared out over its workers; 0: no limit
    burst: int = 1  # calls that may come at once where a rate is set
    waiting_max: int = 0  # calls of a worker that wait for their turn; past it no intent is routed here. 0: no limit
    health_window_seconds: float = 30.0  # what calls have come to within this decides whether the circuit opens
    health_calls_min: int = 20  # of fewer calls nothing is concluded
    bad_percent_max: int = 50  # of the calls of the window; 0: the circuit never opens
    slow_seconds: float = 0.0  # a call that takes longer is a bad one; 0: none is
    open_seconds: float = 15.0  # that an open circuit rests before it is probed
    probes_max: int = 3  # submissions of a turn of probes, by each worker


class CallbackCode(StrEnum):
    """Why a callback was refused. The codes are stable: the gateway answers with them."""

    SIGNATURE_MISSING = "signature_missing"
    SIGNATURE_INVALID = "signature_invalid"
    TIMESTAMP_OUT_OF_TOLERANCE = "timestamp_out_of_tolerance"
    BODY_MALFORMED = "body_malformed"


class CallbackRejected(Refusal):
    """Raised for a callback that must change nothing; `reason` is the `CallbackCode`."""

    code = "callback_rejected"

    def __init__(self, rail: str, reason: CallbackCode) -> None:
        super().__init__(reason, f"a callback of rail {rail}")
        self.rail = rail


class Rail(Protocol):
    """The port to one rail."""

    @property
    def settings(self) -> RailSettings:
        """What this rail was configured with."""
        ...

    async def submit(self, submission: Submission) -> RailOutcome:
        """Ask the rail to pay; return what it answered. Ambiguity is `unknown`, never an exception."""
        ...

    async def poll(self, reference: str, cause: Cause = UNKNOWN_CAUSE) -> RailOutcome:
        """Ask the rail what became of a reference. Ambiguity is `unknown`, never an exception."""
        ...

    def verify_callback(self, raw: bytes, headers: Mapping[str, str], now: float) -> RailOutcome:
        """Return what an authentic callback says; `headers` have lower-case names, `now` is unix time.

        Raises `CallbackRejected` when the callback is not signed, not authentic, too old, too new or unreadable.
        """
        ...

    async def aclose(self) -> None:
        """Give back connections. Calling it twice does no harm."""
        ...


def minor_from_text(text: object) -> int | None:
    """Return the minor units that a rail wrote as a string of digits; None for anything else."""
    if not isinstance(text, str) or DIGITS.fullmatch(text) is None:
        return None
    minor = int(text)
    return minor if minor <= MINOR_MAX else None


def raw_digest(raw: bytes) -> str:
    """Return the SHA-256 hex digest under which raw bytes are kept as evidence."""
    return hashlib.sha256(raw).hexdigest()
