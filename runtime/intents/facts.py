"""What a transition record carries besides its envelope: one frozen, tagged Struct per family of facts.

They are stored in sealed records for ever: new fields come last and have defaults, no field changes its type. Amounts
are strings. `kind` says which Struct it is."""

from msgspec import UNSET, Struct, UnsetType

from zentra.runtime.compliance.diligence import Diligence
from zentra.runtime.intents.command import IntentCommand

__all__ = [
    "Assigned",
    "Booked",
    "CaseNoted",
    "Closed",
    "Commented",
    "Crossed",
    "Decided",
    "Delivered",
    "Entry",
    "Escalated",
    "Facts",
    "FeeLine",
    "FeesCharged",
    "HoldMoved",
    "Judged",
    "Noted",
    "Permitted",
    "Priced",
    "Refused",
    "Registered",
    "Reported",
    "ReviewTerms",
    "Routed",
    "Seen",
    "Unchosen",
    "Unrouted",
    "VelocityUse",
    "Weighed",
]


class Entry(Struct, frozen=True, gc=False):
    """One posting as people see it: `pending` and `posted` are its signed effects on each layer."""

    ordinal: int
    posting: str  # the kind of posting: see `runtime/ledger/book.py`
    debit: str
    credit: str
    currency: str
    pending: str
    posted: str
    hash: str
    effective_at: str | UnsetType = UNSET  # where it counts from another time than that of its record


class Registered(Struct, frozen=True, gc=False, tag_field="kind", tag="registered"):
    """The command as it was accepted; `tracestate` is what others carry along the trace, where they do."""

    command: IntentCommand
    digest: str
    idempotency_key: str
    role: str
    tracestate: str | UnsetType = UNSET


class VelocityUse(Struct, frozen=True, gc=False):
    """What an intent took from one counter, to be given back to the same window."""

    counter: str
    day: str
    bucket: int | UnsetType = UNSET  # of a rolling window


class Seen(Struct, frozen=True, gc=False):
    """What a decision rested on and no other record tells: with it the decision can be made again.

    `usage` is what each window held before, as (count, minor units), None where nobody knew; `fields` are values of
    fields that may be another by now; `accounts` the same of the accounts in the legs of a journal of more than one
    movement, by the name in the leg: each movement was asked about by itself."""

    at: str
    usage: dict[str, tuple[str, str] | None] = {}
    fields: dict[str, str | int | bool | None] = {}
    accounts: dict[str, dict[str, str | int | bool | None]] | UnsetType = UNSET


class Judged(Struct, frozen=True, gc=False, tag_field="kind", tag="judged"):
    """A policy decision: enough to run it again and get the same answer."""

    outcome: str
    version: int
    input_digest: str
    lane: str
    results: dict[str, str]  # rule -> passed, review, denied, waived (by a person), allowed (by a rule that `allows`)
    reasons: tuple[str, ...] = ()
    velocity: tuple[VelocityUse, ...] = ()
    seen: Seen | UnsetType = UNSET  # not where the intent and its account say it all
    named: tuple[str, str] | UnsetType = UNSET  # source and destination, where the command names them by numbers
    diligence: Diligence | UnsetType = UNSET
    asks: dict[str, str] | UnsetType = UNSET  # of a referral: each rule that wants a person, and why


class Noted(Struct, frozen=True, gc=False, tag_field="kind", tag="noted"):
    """A fact that needs no more than a reason."""

    reason: str = ""


class FeeLine(Struct, frozen=True, gc=False):
    """What one rule of a schedule charges one side, and what becomes of it, as was said when it was charged."""

    rule: str
    payer: str  # payer: on top of the amount; payee: out of it
    minor: str
    charged: str  # on_success, on_submission
    on_failure: str  # of what was charged on submission: refund, keep
    on_reversal: str  # full, pro_rata, keep


class FeesCharged(Struct, frozen=True, gc=False):
    """The fees of an intent, by the version of the schedule that they come from."""

    version: int
    lines: tuple[FeeLine, ...]


class Priced(Struct, frozen=True, gc=False):
    """At what price a conversion was booked: enough to compute it again. Amounts are minor units of their currency."""

    sold: str
    bought: str
    fee: str  # of what is sold
    spread: str  # of what is bought
    mid: str
    spread_bps: int
    rate_version: int
    quote: str | UnsetType = UNSET  # the id of the quote that held the price


class Booked(Struct, frozen=True, gc=False, tag_field="kind", tag="booked"):
    """Ledger entries; `reason` where the ledger acted on a refusal or a cancellation."""

    entries: tuple[Entry, ...]
    reason: str = ""
    command: str = ""  # of the client's command, where there was one: it acts once
    fees: FeesCharged | UnsetType = UNSET  # with the first entries of an intent that pays some
    priced: Priced | UnsetType = UNSET  # of a conversion
    approved_by: str | UnsetType = UNSET  # who let a reversal take the payee below its limit
    unchosen: "Unchosen | UnsetType" = UNSET  # of a release because no rail could be asked


class Refused(Struct, frozen=True, gc=False, tag_field="kind", tag="refused"):
    """The ledger said no; nothing was written."""

    code: str
    detail: str = ""


class Weighed(Struct, frozen=True, gc=False):
    """A rail as a routing decision saw it: why it was chosen or not, and what the choice was made by.

    `circuit` is left out where it was closed; else `calls` and `bad` are those that were counted of the window."""

    rail: str
    word: str
    priority: int
    weight: int
    cost: str  # of this amount, in minor units
    circuit: str | UnsetType = UNSET
    calls: int | UnsetType = UNSET
    bad: int | UnsetType = UNSET


class Routed(Struct, frozen=True, gc=False, tag_field="kind", tag="routed"):
    """The corridor decision and the attempt it started."""

    corridor: str
    rail: str
    attempt: int
    reference: str
    deadline: str
    considered: dict[str, str]  # rail -> chosen, not_needed, why it cannot be asked, or what became of its attempt
    reason: str = ""
    version: int | UnsetType = UNSET  # of the routing document; left out where the corridor is of none
    weighed: tuple[Weighed, ...] | UnsetType = UNSET
    unsent: bool | UnsetType = (
        UNSET  # nothing was sent under the attempt before this one, so its rail counts as not asked
    )


class Unrouted(Struct, frozen=True, gc=False, tag_field="kind", tag="unrouted"):
    """No rail of the corridor can be asked now; the intent waits for one until `until` at the latest."""

    corridor: str
    until: str
    reason: str
    considered: dict[str, str]
    version: int | UnsetType = UNSET
    weighed: tuple[Weighed, ...] | UnsetType = UNSET


class Unchosen(Struct, frozen=True, gc=False):
    """Why no rail was asked, at all or after one that did not accept: what is known of each, as where one is."""

    corridor: str
    reason: str
    considered: dict[str, str]
    version: int | UnsetType = UNSET
    weighed: tuple[Weighed, ...] | UnsetType = UNSET


class Reported(Struct, frozen=True, gc=False, tag_field="kind", tag="reported"):
    """What a rail said, and how far it can be trusted."""

    rail: str
    attempt: int
    reference: str
    status: str
    trust: str
    minor: str | None = None
    currency: str | None = None
    provider_reference: str | None = None
    event_id: str | None = None
    digest: str | None = None
    reason: str | None = None
    repeats: int = 0  # how often this outcome had been reported before
    said: str | None = None  # the words of this report, where `status` keeps what is known of the attempt
    unchosen: Unchosen | UnsetType = UNSET  # where the intent fails because of it, and no other rail was asked
    ruled: str | UnsetType = (
        UNSET  # "claims", "waits": where that does not follow from what it says and whose word it is
    )


class Decided(Struct, frozen=True, gc=False, tag_field="kind", tag="decided"):
    """A person's decision on a review."""

    verdict: str
    round: int
    reason: str
    waives: tuple[str, ...] = ()
    decided_by: str = ""
    request_hash: str | UnsetType = UNSET  # of what was decided on: `zentra.runtime.reviews.request_hash`
    approved_by: tuple[str, ...] | UnsetType = UNSET  # where more than one has to approve: all who have, in order


class ReviewTerms(Struct, frozen=True, gc=False):
    """What a round of a review begins with: times as records spell them, and how many have to approve."""

    due_at: str
    expires_at: str
    approvals: int


class Assigned(Struct, frozen=True, gc=False, tag_field="kind", tag="assigned"):
    """Whose a review is from now on; None is nobody's. The record that opens a round has its terms."""

    round: int
    to: str | None
    how: str  # opened, assigned, claimed
    terms: ReviewTerms | UnsetType = UNSET


class Commented(Struct, frozen=True, gc=False, tag_field="kind", tag="commented"):
    """Somebody said something about a review; the text is kept beside, and its digest here."""

    round: int
    digest: str


class Escalated(Struct, frozen=True, gc=False, tag_field="kind", tag="escalated"):
    """A review was passed on, because it is overdue or because somebody asked for it; None: there was nobody."""

    round: int
    level: int
    to: str | None
    overdue: bool
    reason: str = ""


class CaseNoted(Struct, frozen=True, gc=False, tag_field="kind", tag="case"):
    """A case that was opened or resolved beside the intent; one about a rail names the attempt. One that was opened
    before cases did is about the latest."""

    case: str
    reason: str
    detail: dict[str, str] = {}
    resolution: str | None = None
    rail: str | UnsetType = UNSET
    attempt: int | UnsetType = UNSET


class Delivered(Struct, frozen=True, gc=False, tag_field="kind", tag="delivery"):
    """How a webhook delivery stands; `signature` is the one that was sent with the attempt, `webhook-signature`."""

    delivery: str
    endpoint: str
    event: str
    attempts: int
    status_code: int | None = None
    error: str | None = None
    body_digest: str = ""
    signature: str = ""
    reason: str | UnsetType = UNSET  # of an endpoint that was disabled or enabled: `asked`
    by: str | UnsetType = UNSET  # who has asked for it


class Closed(Struct, frozen=True, gc=False, tag_field="kind", tag="closed"):
    """The packet is sealed over the records before this one."""

    records: int
    chain: str
    deliveries_open: int = 0


class Permitted(Struct, frozen=True, gc=False):
    """The decision that let a capture go to its destination."""

    outcome: str
    version: int
    input_digest: str
    results: dict[str, str]


class HoldMoved(Struct, frozen=True, gc=False, tag_field="kind", tag="hold"):
    """What became of a hold, and its entries. `code` is the way of it: hold_placed, hold_captured, hold_voided,
    hold_expired or hold_reversed; `detail` the reason that somebody gave."""

    entries: tuple[Entry, ...]
    code: str
    detail: str = ""
    command: str = ""  # of the client's command, where there was one: it acts once
    approved_by: str | UnsetType = UNSET  # who let a reversal take a payee below its limit
    permitted: Permitted | UnsetType = UNSET  # of a capture to somewhere that the hold's decision did not judge


class Crossed(Struct, frozen=True, gc=False, tag_field="kind", tag="crossed"):
    """A balance monitor tripped on what the intent did to an account; `balance` is the figure `of` after it."""

    monitor: str
    account: str
    currency: str
    of: str
    when: str
    minor: str
    balance: str


Facts = (
    Registered | Judged | Noted | Booked | Refused | Routed | Reported | Decided | CaseNoted | Delivered | Closed
    | HoldMoved | Crossed | Assigned | Commented | Escalated | Unrouted
)  # fmt: skip
