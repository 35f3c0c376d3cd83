"""Rails: what every payment rail is asked, what it may answer, and the port its adapters implement.

A rail's own words end at its adapter; the machines know only `OutcomeStatus`, and the gateway only `Verdict`.
`docs/adapters.md` says how an adapter is written and checked. The invariants kept here:

- An adapter never raises for the rail's failures. What is ambiguous is `unknown`, and an unknown outcome keeps the
  hold, forbids another rail and is settled by polling the same reference.
- Only `not_accepted` allows failover: either the rail said so itself, or not one byte of the request was sent.
- A callback changes nothing before its proof was verified on the raw bytes that arrived, and it is believed no further
  than that proof goes: where the body is not bound to it (`requires_requery`), money is final only after a poll.
- Amounts are integer minor units; on the wire they are strings of digits, and nothing else is read as an amount.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from zentra.runtime.errors import Refusal

__all__ = [
    "UNKNOWN_CAUSE",
    "UNRECOGNISED",
    "Ack",
    "Backoff",
    "CallbackCode",
    "CallbackRejected",
    "CallbackUnreadable",
    "Cause",
    "Declaration",
    "OutcomeStatus",
    "Rail",
    "RailKind",
    "RailMode",
    "RailOutcome",
    "RailSettings",
    "Submission",
    "Trust",
    "Verdict",
    "is_network",
    "minor_from_text",
    "plain_text",
    "raw_digest",
    "require_network",
    "requires_requery",
]

RailKind = str
"""The word by which a rail's adapter is found: `sandbox`, `inline`, `providus`, `gtbank`, or one plugged in."""

RailMode = Literal["test", "live"]
Trust = Literal["body_signed", "polled", "direct", "shared_secret", "none"]
"""What stands behind a statement: the answer to a submit (`direct`) or to a poll (`polled`), a callback whose bytes are
signed (`body_signed`), one that only shows a secret we share (`shared_secret`), or one that shows nothing (`none`)."""

MINOR_MAX = 2**63 - 1  # what the ledger's signed 64-bit columns hold
UNRECOGNISED: Final = "status_unrecognised"
"""The reason of what is `unknown` because the adapter does not know the partner's word for it."""
TEXT_MAX = 200  # of ids that partners give; what is longer is no id
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
    first: bool = False  # nothing was ever asked under this reference before
    epoch: int = 0  # of the lease of its partition when it was committed


class Backoff(msgspec.Struct, frozen=True):
    """How the pauses between two questions grow: the first, by which factor, up to which, and the share of each that
    chance may take away. A zero leaves it to the rail's other settings."""

    after_seconds: float = 0.0
    factor: float = 2.0
    max_seconds: float = 0.0
    jitter: float = 0.1


class RailSettings(msgspec.Struct, frozen=True):
    """What the routing layer knows of one rail before it asks anything."""

    name: str
    kind: RailKind
    base_url: str = ""
    secret: str = ""  # what callbacks are verified with; where secrets are named it is "callback"
    callback_url: str = ""
    idempotent_references: bool = True  # the same reference twice is one payment, so it may be submitted again
    not_found_lies_seconds: float = 0.0  # how long a poll may say "not found" of a payment that exists
    submit_timeout_seconds: float = 5.0
    poll_after_seconds: float = 2.0
    poll_interval_max_seconds: float = 60.0
    deadline_seconds: float = 900.0  # an outcome still unknown then opens a case
    concurrency_max: int = 64
    mode: RailMode = "test"  # of the tenants whose corridors may lead here; fixed once the rail is set up
    callback_networks: tuple[str, ...] = ()  # CIDR: whence callbacks may come; empty is from anywhere
    options: dict[str, str] = {}  # further settings of the adapter's own, none of them secret
    secrets: dict[str, str] = {}  # further secrets of the adapter's own, by name
    polling: dict[str, Backoff] = {}  # by what the rail said last: see `zentra.runtime.rails.polling`
    stranger_wait_seconds: float = 30.0  # how long a callback of an unknown reference waits before it is a case
    rate_per_second: float = 0.0  # calls of the whole installation, shared out over its workers; 0: no limit
    burst: int = 1  # calls that may come at once where a rate is set
    waiting_max: int = 0  # calls of a worker that wait for their turn; past it no intent is routed here. 0: no limit
    health_window_seconds: float = 30.0  # what calls have come to within this decides whether the circuit opens
    health_calls_min: int = 20  # of fewer calls nothing is concluded
    bad_percent_max: int = 50  # of the calls of the window; 0: the circuit never opens
    slow_seconds: float = 0.0  # a call that takes longer is a bad one; 0: none is
    open_seconds: float = 15.0  # that an open circuit rests before it is probed
    probes_max: int = 3  # submissions of a turn of probes, by each worker
    sealed: dict[str, str] = {}  # the secrets as they are stored, base64 by name; `secret` and `secrets` are empty then

    def __repr__(self) -> str:
        """Return which rail it is: whoever logs or compares settings shall not read a secret there."""
        return f"RailSettings({self.name!r}, {self.kind!r})"


class Declaration(msgspec.Struct, frozen=True):
    """What the adapter of one kind of rail knows of its ways; the settings of a rail may only be more careful."""

    callback_trust: Trust  # of an authentic callback; an adapter never gives an outcome more
    idempotent_references: bool = False  # the same reference twice is one payment
    not_found_lies_seconds: float = 0.0  # how long a poll may at worst deny a payment that exists
    secrets: tuple[str, ...] = ()  # without which it cannot work: names in `RailSettings.secrets`, and "callback"
    options: tuple[str, ...] = ()  # without which it cannot work: names in `RailSettings.options`


class Verdict(StrEnum):
    """What the gateway made of a callback, before the partner is answered in its own words."""

    TAKEN = "taken"  # verified, new, and committed
    DUPLICATE = "duplicate"  # verified, and known already; the partner may rest
    REJECTED = "rejected"  # not authentic; to send it again is of no use
    TRY_AGAIN = "try_again"  # nothing was kept: the partner has to send it again


class Ack(NamedTuple):
    """The answer that a partner understands."""

    status: int
    body: bytes
    content_type: str = "application/json"


class CallbackCode(StrEnum):
    """Why a callback was refused. The codes are stable: the gateway answers with them."""

    SIGNATURE_MISSING = "signature_missing"
    SIGNATURE_INVALID = "signature_invalid"
    TIMESTAMP_OUT_OF_TOLERANCE = "timestamp_out_of_tolerance"
    BODY_MALFORMED = "body_malformed"
    NETWORK_REFUSED = "network_refused"


class CallbackRejected(Refusal):
    """Raised for a callback that must change nothing; `reason` is the `CallbackCode`."""

    code = "callback_rejected"

    def __init__(self, rail: str, reason: CallbackCode) -> None:
        super().__init__(reason, f"a callback of rail {rail}")
        self.rail = rail


class CallbackUnreadable(CallbackRejected):
    """Raised for an authentic callback that cannot be read: its bytes are kept all the same, and say nothing of money.

    `reference` is the one that it is about, where that much could be made out: that attempt is asked about at the rail.
    Without it a person has to look."""

    def __init__(self, rail: str, reference: str | None = None) -> None:
        super().__init__(rail, CallbackCode.BODY_MALFORMED)
        self.reference = reference


class Rail(Protocol):
    """The port to one rail."""

    @property
    def settings(self) -> RailSettings:
        """What this rail was configured with."""
        ...

    @property
    def declaration(self) -> Declaration:
        """What the adapter knows of the rail's ways."""
        ...

    async def submit(self, submission: Submission) -> RailOutcome:
        """Ask the rail to pay; return what it answered. Ambiguity is `unknown`, never an exception."""
        ...

    async def poll(self, reference: str, cause: Cause = UNKNOWN_CAUSE) -> RailOutcome:
        """Ask the rail what became of a reference. Ambiguity is `unknown`, never an exception."""
        ...

    def verify_callback(
        self, raw: bytes, headers: Mapping[str, str], now: float, peer: str | None = None
    ) -> RailOutcome:
        """Return what an authentic callback says, with `event_id` and with no more `trust` than its proof carries.

        `raw` are the bytes that arrived, `headers` have lower-case names, `now` is unix time, `peer` the address that
        the connection came from (None where nobody knows). The event id is the partner's own; where the partner gives
        none it is None, and the digest of the raw bytes takes its place. It is pure: no I/O, and the same answer for
        the same arguments. Raises `CallbackRejected` when the callback shows no proof, a wrong one, is too old, too
        new, or from a network that is not the partner's; and `CallbackUnreadable` when all of that is in order and what
        it says cannot be read.
        """
        ...

    def ack(self, verdict: Verdict) -> Ack | None:
        """Return how the partner is told what became of its callback; None where it reads the status alone.

        None has the gateway answer as it would anybody: 200 for `taken` and `duplicate`, 4xx with a problem document
        for `rejected`, 503 with retry-after for `try_again`. `try_again` must be an answer after which the partner
        sends the callback again, and it is given only when nothing was kept.
        """
        ...

    async def aclose(self) -> None:
        """Give back connections. Calling it twice does no harm."""
        ...


def requires_requery(trust: Trust) -> bool:
    """Return whether a statement may only make us ask the rail, because its body is not bound to its proof."""
    return trust in ("shared_secret", "none")


def is_network(text: str) -> bool:
    """Return whether `text` is a network in CIDR notation, or an address."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def require_network(settings: RailSettings, peer: str | None) -> None:
    """Return where a callback may come from `peer`.

    Raises `CallbackRejected` where the rail's callbacks are confined to networks and `peer` is in none of them."""
    if not settings.callback_networks:
        return
    try:
        address = ip_address(peer or "")
    except ValueError:
        raise CallbackRejected(settings.name, CallbackCode.NETWORK_REFUSED) from None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if not any(address in ip_network(network, strict=False) for network in settings.callback_networks):
        raise CallbackRejected(settings.name, CallbackCode.NETWORK_REFUSED)


def minor_from_text(text: object) -> int | None:
    """Return the minor units that a rail wrote as a string of digits; None for anything else."""
    if not isinstance(text, str) or DIGITS.fullmatch(text) is None:
        return None
    minor = int(text)
    return minor if minor <= MINOR_MAX else None


def plain_text(text: str | None) -> str | None:
    """Return a partner's id or word where it is one: 1 to 200 printable characters; None for anything else."""
    return text if text and len(text) <= TEXT_MAX and text.isprintable() else None


def raw_digest(raw: bytes) -> str:
    """Return the SHA-256 hex digest under which raw bytes are kept as evidence."""
    return hashlib.sha256(raw).hexdigest()
