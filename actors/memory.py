"""What a worker remembers between ticks: actors, accounts, lanes and logs, each a copy of what the store holds.

Nothing in here is the truth. A tick works on copies and the copies replace the originals after its commit; losing any
of it costs a read. Actors are loaded on their first event, passivated when they are sealed or idle, and bounded in
number; those of a lost partition are dropped at once."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from msgspec import Struct, field

from zentra.actors.beliefs import Beliefs
from zentra.actors.health import RailBoard
from zentra.runtime.intents.transaction import Transaction
from zentra.runtime.intents.vocabulary import State
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.partitions import lane_key, log_key
from zentra.runtime.policy import VelocityKey
from zentra.runtime.ports import Configuration, LaneRow, LogHead
from zentra.runtime.rails.routing import parse_reference
from zentra.runtime.reviews import Workload
from zentra.runtime.webhooks.delivery import OPEN, Delivery
from zentra.runtime.webhooks.recovery import Recovery, RecoveryPage

__all__ = ["Lane", "LeafName", "Memory", "Missing", "MissingGround", "Needs", "Recovered"]

TRANSACTIONS_MAX: Final = 50_000  # about 3 KiB each, so some 150 MiB at the most
ACCOUNTS_MAX: Final = 200_000
NAMES_MAX: Final = 10_000  # only corrections ask for them
LANE_WAITING_MAX: Final = 1_000  # deliveries kept in memory per endpoint; the rest waits in the store
DELIVERIES_MAX: Final = 20_000  # with their bodies: of an endpoint that is down there may be a million


LeafName = tuple[str, bytes]
"""The intent that a leaf is of, and its hash."""


class Missing(Struct):
    """What a tick cannot decide without."""

    intents: set[str] = field(default_factory=set)
    accounts: set[tuple[str, str]] = field(default_factory=set)
    balances: dict[int, AccountRef] = field(default_factory=dict)
    velocity: set[VelocityKey] = field(default_factory=set)
    deliveries: set[str] = field(default_factory=set)
    lanes: set[tuple[str, str]] = field(default_factory=set)
    logs: set[str] = field(default_factory=set)
    leaves: set[LeafName] = field(default_factory=set)
    commands: set[str] = field(default_factory=set)
    names: set[tuple[str, str]] = field(default_factory=set)  # (tenant, intent_id) whose uuid is asked for
    workloads: set[str] = field(default_factory=set)
    expiring: set[int] = field(default_factory=set)  # accounts whose holds may have expired
    recoveries: set[str] = field(default_factory=set)
    running: set[str] = field(default_factory=set)  # tenants whose recoveries that are under way are asked for
    pages: dict[str, Recovery] = field(default_factory=dict)  # by id: the recoveries whose next page is asked for
    waiting: set[tuple[str, str]] = field(
        default_factory=set
    )  # (rail, reference) whose unclaimed callbacks are asked for
    strangers: set[str] = field(default_factory=set)  # rails whose open cases about strangers are asked for
    configuration: bool = False

    def __bool__(self) -> bool:
        return bool(
            self.intents
            or self.accounts
            or self.balances
            or self.velocity
            or self.deliveries
            or self.lanes
            or self.logs
            or self.leaves
            or self.commands
            or self.names
            or self.workloads
            or self.expiring
            or self.recoveries
            or self.running
            or self.pages
            or self.waiting
            or self.strangers
            or self.configuration
        )


class Recovered(Struct):
    """What a batch was told of recoveries: how they stand, and what lies behind their places."""

    stored: dict[str, Recovery | None] = field(default_factory=dict)
    running: dict[str, dict[str, str]] = field(default_factory=dict)  # by tenant: the endpoint of each under way, by id
    pages: dict[str, RecoveryPage] = field(default_factory=dict)
    unasked: dict[str, Recovery] = field(default_factory=dict)  # by id: those that wait for their page


class Needs(Struct):
    """What the events of a batch usually lock: accounts by id, and velocity counters."""

    accounts: dict[int, AccountRef] = field(default_factory=dict)
    velocity: set[VelocityKey] = field(default_factory=set)


class MissingGround(Exception):
    """Raised by a tick that meets something it did not plan for: load or lock it, and decide again."""

    def __init__(self, missing: Missing) -> None:
        super().__init__("the tick needs more than it planned for")
        self.missing = missing


class Lane(Struct):
    """The deliveries of one endpoint: those under way since when, those that wait, and whether the store holds more."""

    in_flight: dict[str, datetime] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)  # each with its number, in the order in which they are sent
    more: bool = False
    width: int = 0  # attempts that may be under way at once; 0 where nothing was learnt of the endpoint
    row: LaneRow = LaneRow()

    def copy(self) -> "Lane":
        """Return a lane that can be changed without touching this one."""
        return Lane(dict(self.in_flight), dict(self.waiting), self.more, self.width, self.row)


class Memory:
    """The actors and look-ups of one worker. Unknown keys are None where the store was asked and had nothing."""

    def __init__(self, configuration: Configuration, partition_of: Callable[[str], int]) -> None:
        self.configuration = configuration
        self.transactions: dict[str, Transaction | None] = {}
        self.accounts: dict[tuple[str, str], AccountRef | None] = {}
        self.deliveries: dict[str, Delivery | None] = {}
        self.lanes: dict[tuple[str, str], Lane] = {}
        self.logs: dict[str, LogHead | None] = {}
        self.names: dict[tuple[str, str], str | None] = {}
        self.workloads: dict[str, Workload] = {}
        self.beliefs = Beliefs()
        self.rails = RailBoard(lambda: self.configuration.rails)
        self._partition_of = partition_of
        self._absent: list[tuple[str, Any]] = []  # (kind, key) of what the store was asked for and did not have

    def configure(self, configuration: Configuration) -> None:
        """Take a new configuration; accounts carry status and limits, so they are looked up again."""
        self.configuration = configuration
        self.accounts.clear()

    def keep(self, transactions: Iterable[Transaction]) -> None:
        """Replace actors by what a committed tick made of them; a sealed one is passivated, and past the limit the
        oldest, which are the least likely to be asked for."""
        held = self.transactions
        for tx in transactions:
            if tx.sealed != tx.sequence or tx.sequence == 0:
                held[tx.id] = tx
            else:
                held.pop(tx.id, None)
        for _ in range(len(held) - TRANSACTIONS_MAX):
            del held[next(iter(held))]
        if len(self.accounts) > ACCOUNTS_MAX:
            self.accounts.clear()
        if len(self.names) > NAMES_MAX:
            self.names.clear()

    def awaits(self, reference: str) -> bool | None:
        """Return whether an attempt is the latest of its transaction, and waits for its rail; None where nothing is
        remembered of it: it may have ended."""
        named = parse_reference(reference)
        tx = self.transactions.get(named[0]) if named else None
        if tx is None or named is None:
            return None
        return tx.state is State.SUBMITTED and named[1] == len(tx.attempts)

    def keep_deliveries(self, deliveries: Iterable[Delivery]) -> None:
        """Replace deliveries by what a committed tick made of them. One that has ended, or waits for a time, is read
        again when it is asked for; so are the oldest past the limit."""
        held = self.deliveries
        for delivery in deliveries:
            if delivery.state in OPEN and delivery.next_at is None:
                held[delivery.id] = delivery
            else:
                held.pop(delivery.id, None)
        for _ in range(len(held) - DELIVERIES_MAX):
            del held[next(iter(held))]

    def learn(self, kind: str, asked: Iterable[Any], found: Mapping[Any, Any]) -> None:
        """Remember what the store answered when asked for `kind` (accounts, transactions, deliveries, names)."""
        known = getattr(self, kind)
        for key in asked:
            known[key] = found.get(key)
            if known[key] is None:
                self._absent.append((kind, key))

    def forget_absent(self) -> None:
        """Drop what the store did not have: it may by now."""
        for kind, key in self._absent:
            known = getattr(self, kind)
            if key in known and known[key] is None:
                del known[key]
        self._absent.clear()

    def distrust(self) -> None:
        """Forget what a commit that the store refused may have been built on."""
        self.transactions.clear()
        self.logs.clear()

    def drop_partitions(self, partitions: frozenset[int]) -> None:
        """Forget every actor of partitions that somebody else owns now."""
        place = self._partition_of
        self.transactions = {key: tx for key, tx in self.transactions.items() if place(key) not in partitions}
        self.lanes = {key: lane for key, lane in self.lanes.items() if place(lane_key(*key)) not in partitions}
        self.deliveries = {
            key: d
            for key, d in self.deliveries.items()
            if d and place(lane_key(d.tenant, d.endpoint)) not in partitions
        }
        self.logs = {tenant: head for tenant, head in self.logs.items() if place(log_key(tenant)) not in partitions}
