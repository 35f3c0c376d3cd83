"""The store port: what a tick needs from the store and what it writes, as values.

A tick is one transaction: the store locks what the plan names, hands the ground to a plain function, and writes what
that returns, or nothing at all. Everything is in the plan's order of locks: leases by partition, velocity counters by
key, accounts by id."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from msgspec import Struct, field

from zentra.runtime.compliance.lists import NameList
from zentra.runtime.compliance.rules import ClearedPair
from zentra.runtime.evidence.history import SigningKey
from zentra.runtime.evidence.merkle import Frontier
from zentra.runtime.fees.schedule import FeeSchedule
from zentra.runtime.intents.transaction import Transition
from zentra.runtime.ledger.book import AccountRef, Balance, Posting
from zentra.runtime.ledger.conversion import FxRate
from zentra.runtime.policy import PolicyRules, Usage, VelocityKey
from zentra.runtime.rails.health import Counts
from zentra.runtime.rails.operating import RailOperation
from zentra.runtime.rails.port import RailOutcome, RailSettings
from zentra.runtime.rails.routing import Corridor
from zentra.runtime.reviews import Desk, Member, ReviewRules, Workload
from zentra.runtime.stream_ports import Outgoing, Position
from zentra.runtime.webhooks.delivery import Delivery
from zentra.runtime.webhooks.recovery import Recovery, RecoveryPage
from zentra.runtime.webhooks.terms import HEALTHY, TERMS, EndpointTerms, Health

__all__ = [
    "EXPIRING_MAX",
    "STRANGERS_MORE",
    "STRANGERS_OPEN_MAX",
    "WAITING_MAX",
    "CaseRow",
    "Claim",
    "Configuration",
    "DenialRow",
    "Endpoint",
    "EndpointDisabled",
    "Expiring",
    "ExpiringHold",
    "Fence",
    "Ground",
    "HoldRow",
    "LaneRow",
    "Lease",
    "LogHead",
    "RailCounts",
    "Store",
    "StoredIntent",
    "TickPlan",
    "TickWrites",
    "Timer",
    "WaitingCallback",
]

EXPIRING_MAX: Final = 200  # holds of one account that are told of at once
STRANGERS_OPEN_MAX: Final = 100  # open cases of a rail about references that nobody knows; one more stands for the rest
STRANGERS_MORE: Final = "*"  # what that one names in the place of a reference
WAITING_MAX: Final = 100  # callbacks of one reference that are told of at once: no rail has more to say of a payment


class Endpoint(Struct, frozen=True):
    """Where a tenant wants its events, and how.

    `secrets` and `keys` (seeds of Ed25519) are sealed, the newest first; `*_until` says when each stops signing."""

    tenant: str
    id: str
    url: str
    events: tuple[str, ...]
    secrets: tuple[bytes, ...]
    terms: EndpointTerms = TERMS
    secrets_until: tuple[datetime | None, ...] = ()
    keys: tuple[bytes, ...] = ()
    keys_until: tuple[datetime | None, ...] = ()
    since: datetime | None = None  # it has been enabled, and where it is, for so long


class EndpointDisabled(Struct, frozen=True):
    """An endpoint that the runtime disables: because it is `gone` (410), or has been `failing` for too long."""

    tenant: str
    endpoint: str
    reason: str
    at: datetime


class LaneRow(Struct, frozen=True):
    """What is known of an endpoint's lane: the number of the last delivery that it took in, and its failures."""

    sequence: int = 0
    health: Health = HEALTHY


class Configuration(Struct, frozen=True):
    """What tenants and operators have set up, as of one version."""

    version: int
    policies: dict[str, PolicyRules]
    corridors: dict[str, tuple[Corridor, ...]]
    endpoints: dict[str, tuple[Endpoint, ...]]
    rails: dict[str, RailSettings]
    rates: dict[str, tuple[FxRate, ...]] = {}  # by tenant; one for each pair
    closed_until: dict[tuple[str, str], datetime] = {}  # by tenant and book: nothing may count before that any more
    reviews: dict[str, ReviewRules] = {}
    members: dict[str, dict[str, Member]] = {}  # by tenant and principal
    fees: dict[str, FeeSchedule] = {}
    lists: Mapping[str, NameList] = {}
    cleared: Mapping[str, frozenset[ClearedPair]] = {}
    operations: Mapping[str, RailOperation] = {}  # by rail: what operators have said of it, where they have
    endpoints_held: frozenset[tuple[str, str]] = frozenset()  # (tenant, endpoint) of those that are disabled
    evidence_keys: tuple[SigningKey, ...] = ()  # in their order; none: whichever key a worker has


class Lease(Struct, frozen=True, gc=False):
    """A partition that a worker owns, and where the owner before it stopped."""

    partition: int
    epoch: int
    version: int
    position: Position


class Claim(Struct, frozen=True):
    """What a worker owns, by partition; which of that another live worker should own; and how many others own still
    of what it should."""

    owned: dict[int, Lease]
    leaving: frozenset[int] = frozenset()
    awaited: int = 0


class Fence(Struct, frozen=True, gc=False):
    """What a lease row has to hold for a tick to commit, and what it holds afterwards (version grows by one)."""

    partition: int
    epoch: int
    version: int
    position: Position


class TickPlan(Struct):
    """What a tick wants locked. `stripe` is the writer's own place in accounts without a floor.

    `consumed` names the outbox rows (partition, id) of the frames that it takes: whoever consumes a frame deletes its
    row in the same commit, so that a row which is still there is a frame still to be consumed. `unknown` are those of
    its counters and accounts with a floor that are read before they are locked, for a draft to stand on."""

    fences: tuple[Fence, ...]
    velocity: tuple[VelocityKey, ...]
    accounts: tuple[AccountRef, ...]
    stripe: int
    consumed: tuple[tuple[int, str], ...] = ()
    unknown_velocity: tuple[VelocityKey, ...] = ()
    unknown_accounts: tuple[AccountRef, ...] = ()


class Ground(Struct):
    """What a tick decides on: values that nobody else changes until it has committed."""

    now: datetime
    configuration_version: int
    lost: frozenset[int]
    balances: dict[int, Balance]
    usage: dict[VelocityKey, Usage]


class Timer(Struct, frozen=True, gc=False):
    """One named timer of one actor; setting it again replaces it."""

    kind: str
    key: str
    name: str
    partition: int
    tenant: str
    due_at: datetime


class CaseRow(Struct, frozen=True):
    """A case to open."""

    id: str
    tenant: str
    intent: str | None
    intent_id: str | None
    kind: str
    detail: dict[str, str]
    opened_at: datetime
    deadline: datetime


class DenialRow(Struct, frozen=True):
    """A refusal that is evidence by itself."""

    tenant: str
    actor: str
    role: str
    action: str
    reason: str
    at: datetime
    request_id: str


class HoldRow(Struct, frozen=True, kw_only=True):
    """A hold as it stands: the projection that lists and refusals look at. `account` is the number of its account."""

    intent: str
    tenant: str
    intent_id: str
    account: int
    account_id: str
    currency: str
    minor: int
    remaining: int
    captured: int
    status: str  # open, captured, voided, expired
    placed_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None


class ExpiringHold(Struct, frozen=True):
    """A hold whose end is not booked: its intent, what it keeps, and until when it may."""

    intent: str
    remaining: int
    expires_at: datetime


class Expiring(Struct, frozen=True):
    """The holds on one account that have expired, or will within the shortest time that a hold can last, as of `at`:
    the first to expire first, and at most EXPIRING_MAX of them."""

    at: datetime
    holds: tuple[ExpiringHold, ...] = ()


class WaitingCallback(Struct, frozen=True):
    """A callback that no intent has claimed, and when it arrived."""

    outcome: RailOutcome
    at: datetime


class LogHead(Struct, frozen=True):
    """A signed head of a tenant's log and the frontier to append to."""

    tenant: str
    size: int
    frontier: Frontier
    root: bytes
    at: datetime
    key_id: str
    signature: bytes


class TickWrites(Struct):
    """Everything one tick writes, in one commit. Rows are tuples in the order of their table's columns."""

    transitions: list[Transition] = field(default_factory=list)
    drafted: int = 0  # so many of the transitions, the first ones, were handed over by a draft of some events already
    postings: list[Posting] = field(default_factory=list)
    balance_changes: dict[int, tuple[AccountRef, Balance]] = field(default_factory=dict)
    velocity_changes: dict[VelocityKey, Usage] = field(default_factory=dict)  # what is added
    velocity_windows: dict[VelocityKey, Usage] = field(default_factory=dict)  # rolling counters as they are now
    outbox: list[tuple[int, Outgoing]] = field(default_factory=list)
    timers_set: dict[tuple[str, str, str], Timer] = field(default_factory=dict)
    timers_cleared: set[tuple[str, str, str]] = field(default_factory=set)
    reviews_opened: list[tuple[Any, ...]] = field(default_factory=list)
    reviews_closed: list[tuple[Any, ...]] = field(default_factory=list)
    reviews_changed: dict[str, Desk] = field(default_factory=dict)  # what an open review has come to, by intent
    decisions_refused: list[tuple[str, str]] = field(default_factory=list)  # command and code: their seat is free
    cases_opened: list[CaseRow] = field(default_factory=list)
    cases_resolved: list[tuple[Any, ...]] = field(default_factory=list)
    deliveries: list[tuple[Delivery, int]] = field(default_factory=list)
    deliveries_begun: set[str] = field(default_factory=set)
    delivery_states: dict[str, tuple[Delivery, datetime | None]] = field(default_factory=dict)
    delivery_attempts: list[tuple[Any, ...]] = field(default_factory=list)
    holds: dict[str, HoldRow] = field(default_factory=dict)  # by intent, as they stand after the tick
    command_outcomes: list[tuple[Any, ...]] = field(default_factory=list)
    callbacks_claimed: list[tuple[str, str, str, str]] = field(default_factory=list)
    recoveries: dict[str, Recovery] = field(default_factory=dict)  # as they stand after the tick
    endpoints_disabled: dict[tuple[str, str], EndpointDisabled] = field(default_factory=dict)
    leaves: list[tuple[str, int, str, bytes, bytes]] = field(default_factory=list)
    tiles: list[tuple[str, int, int, bytes]] = field(default_factory=list)
    heads: list[LogHead] = field(default_factory=list)
    denials: list[DenialRow] = field(default_factory=list)
    corrections: list[tuple[str, str, str, datetime]] = field(default_factory=list)  # tenant, original, correction, at
    lanes: dict[tuple[str, str], LaneRow] = field(default_factory=dict)  # by tenant and endpoint, as they stand now


class RailCounts(Struct, frozen=True):
    """What one worker has counted of a rail within its window, and how its circuit stands."""

    worker: str
    rail: str
    counts: Counts
    circuit: str
    waiting: int


class StoredIntent(Struct, frozen=True):
    """An intent as stored: (record, hash) in order of sequence, and the deliveries that were ever made for it."""

    records: tuple[tuple[bytes, bytes], ...]
    deliveries: frozenset[str]


class Store(Protocol):
    """What the engine asks of the store. Every method raises Unavailable where the store cannot answer now."""

    async def claim(self, worker: str, lease_seconds: float) -> Claim:
        """Renew the worker's membership and leases, take what is free and its own.

        Returns what the worker owns now, where an epoch that has grown is a new ownership. What is `leaving` stays its
        own until it gives it up."""
        ...

    async def give_up(self, worker: str, partitions: Collection[int]) -> None:
        """Release leases of the worker; those of others are left alone. Waits for a commit that is on its way."""
        ...

    async def release(self, worker: str) -> None:
        """Give up every lease and the membership at once."""
        ...

    async def leases(self, partitions: Collection[int]) -> dict[int, Lease]:
        """Return the lease rows as they stand, whoever owns them."""
        ...

    async def configuration(self) -> Configuration:
        """Return what is set up now."""
        ...

    async def accounts(self, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], AccountRef]:
        """Return the accounts that (tenant, name) mean; a name that means none is absent.

        A name is an account's id, a number of `ledger.names` that was given to one, or `@<type>/<currency>[/<book>]`:
        the tenant's system account of that type, currency and book."""
        ...

    async def intent_ids(self, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Return the uuids of the intents that (tenant, intent_id) name; one that does not exist is absent."""
        ...

    async def intents(self, ids: Collection[str]) -> dict[str, StoredIntent]:
        """Return the intents that exist."""
        ...

    async def deliveries(self, ids: Collection[str]) -> dict[str, Delivery]:
        """Return the deliveries that exist."""
        ...

    async def open_deliveries(self, tenant: str, endpoint: str, *, timed: bool = False) -> list[Delivery]:
        """Return what an endpoint has not settled, in the order in which its lane took it in; what waits for the time
        of its next try only where `timed`."""
        ...

    async def lane(self, tenant: str, endpoint: str) -> LaneRow:
        """Return what is known of an endpoint's lane; of one that never took anything in, the beginning."""
        ...

    async def recoveries(self, ids: Collection[str]) -> dict[str, Recovery]:
        """Return the recoveries that exist, as they stand."""
        ...

    async def running_recoveries(self, tenants: Collection[str]) -> dict[str, dict[str, str]]:
        """Return the endpoint of each recovery that is under way, by tenant and id."""
        ...

    async def recovery_page(self, recovery: Recovery) -> RecoveryPage:
        """Return what lies behind the place of a recovery in its phase, in the order of the walk."""
        ...

    async def open_lanes(self) -> set[tuple[str, str]]:
        """Return each (tenant, endpoint) that has not settled everything, whether or not it is set up still."""
        ...

    async def logs(self, tenants: Collection[str]) -> dict[str, LogHead]:
        """Return the latest head of each tenant's log that has one."""
        ...

    async def leaves(self, names: Collection[tuple[str, bytes]]) -> set[tuple[str, bytes]]:
        """Return which of these leaves, (intent, hash), some log holds already."""
        ...

    async def workloads(self, tenants: Collection[str]) -> dict[str, Workload]:
        """Return how many open reviews each principal of these tenants has, as of now."""
        ...

    async def answered(self, commands: Collection[str]) -> set[str]:
        """Return which of these commands have an outcome."""
        ...

    async def expiring_holds(self, accounts: Collection[int]) -> dict[int, Expiring]:
        """Return for each of these accounts which open holds have expired by the store's clock, or are about to."""
        ...

    async def waiting_callbacks(
        self, names: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[WaitingCallback, ...]]:
        """Return for each (rail, reference) the callbacks that no intent has claimed, in the order of their arrival;
        one without any is absent. At most WAITING_MAX of each."""
        ...

    async def open_strangers(self, rails: Collection[str]) -> dict[str, frozenset[str]]:
        """Return for each of these rails the references whose case `unknown_reference` is open: at most
        STRANGERS_OPEN_MAX of each, and STRANGERS_MORE besides where that one is open."""
        ...

    async def due_timers(
        self, partitions: Collection[int], until_seconds: float, limit: int
    ) -> list[tuple[Timer, float]]:
        """Return timers due within `until_seconds`, soonest first, each with the seconds left by the store's clock."""
        ...

    async def started_attempts(
        self, partitions: Collection[int], until_seconds: float, limit: int
    ) -> list[tuple[Timer, float]]:
        """Return the state timers, due within `until_seconds`, of intents that wait for a rail, soonest first, each
        with the seconds since the intent's last record, by the store's clock."""
        ...

    async def commit(
        self,
        plan: TickPlan,
        decide: Callable[[Ground], TickWrites],
        draft: Callable[[Ground], Awaitable[TickWrites]] | None = None,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> Ground:
        """Lock what the plan names, write what `decide` returns, commit; return the ground.

        `draft` runs between the fences and the locks on counters and balances, on a ground that has only what the plan
        calls unknown, as it was a moment ago: what it decides, and the rows that it returns, keep nobody waiting. What
        only the owner of a partition writes is written at once, the rest under the locks where `decide` returns the
        very same writes. Where it returns others, all of these are written behind what is there already, but for the
        first transitions that they say were `drafted`. `turn` returns when it may lock counters and balances. Raises
        what the three raise with nothing written; Contended on a deadlock or serialization failure; InDoubt where
        nobody knows whether the commit happened; DataError where the store refuses the data."""
        ...

    async def unsent(
        self, partitions: Collection[int], older_seconds: float, limit: int, *, commands: bool | None = None
    ) -> list[Outgoing]:
        """Return outbox rows that nobody has marked as sent for that long, oldest first: those of command frames, all
        but these, or both."""
        ...

    async def unsend(self, from_seconds: float, to_seconds: float, kept: Collection[int]) -> int:
        """Take back that rows were sent, in every partition; return how many: a stream lost some of them.

        Of what was sent until `to_seconds` ago: of commands whatever is there, but for partitions that are `kept`; of
        the rest what was sent within the last `from_seconds`."""
        ...

    async def outstanding(self, partitions: Collection[int]) -> list[str]:
        """Return the ids of the rows of these partitions' command frames, sent or not, oldest first: what was committed
        and is not consumed."""
        ...

    async def frames(self, rows: Sequence[str]) -> list[Outgoing]:
        """Return what these outbox rows hold, in this order, but for those that are gone."""
        ...

    async def unconsumed(self, partitions: Collection[int], sent_seconds: float, limit: int) -> list[Outgoing]:
        """Return command frames of these partitions that were sent that long ago and are not consumed, oldest first.

        They count as sent now, because whoever asks for them sends them."""
        ...

    async def exchange_health(
        self, worker: str, counts: Sequence[RailCounts], lease_seconds: float
    ) -> tuple[int, list[RailCounts]]:
        """Replace what a worker says of rails, which are its own `counts`; return how many workers are alive, this one
        among them, and what the others of them say."""
        ...

    async def mark_sent(self, ids: Sequence[str]) -> None:
        """Mark outbox rows as sent."""
        ...

    async def trim_outbox(self, partitions: Collection[int], sent_before: datetime) -> int:
        """Delete rows sent before a time, but for those of command frames; return how many."""
        ...

    async def statistics(self) -> Mapping[str, float]:
        """Return gauges: imbalance, outbox lag and so on, by metric name."""
        ...
