"""The rows of the store's twin: what its tables hold, what they refuse, and how the writes of a tick change them."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec import Struct, field
from msgspec.structs import replace

from zentra.runtime.errors import DataError
from zentra.runtime.intents.terms import HOLD_SECONDS_MIN
from zentra.runtime.intents.transaction import Transition
from zentra.runtime.ledger.book import Balance, Posting
from zentra.runtime.ledger.money import MINOR_MAX
from zentra.runtime.policy import Usage, VelocityKey
from zentra.runtime.ports import (
    EXPIRING_MAX,
    STRANGERS_MORE,
    STRANGERS_OPEN_MAX,
    WAITING_MAX,
    CaseRow,
    Configuration,
    DenialRow,
    Expiring,
    ExpiringHold,
    HoldRow,
    LaneRow,
    LogHead,
    TickPlan,
    TickWrites,
    Timer,
    WaitingCallback,
)
from zentra.runtime.stream_ports import Outgoing
from zentra.runtime.webhooks.delivery import OPEN, Delivery, DeliveryState
from zentra.runtime.webhooks.recovery import Recovery

__all__ = [
    "CaseFile",
    "DeliveryRow",
    "OutboxRow",
    "Rows",
    "add",
    "apply",
    "balance_of",
    "behind",
    "check",
    "expiring",
    "open_keys",
    "open_strangers",
    "owned",
    "refuse_non_uuids",
    "waiting",
    "without",
]

_UUID: Final = re.compile(r"[0-9a-f]{32}\Z", re.ASCII)
_TimerKey = tuple[str, str, str]
_COUNTERS: Final = ("debits_pending", "credits_pending", "debits_posted", "credits_posted")


class CaseFile(Struct):
    """A case as stored."""

    row: CaseRow
    status: str = "open"
    operator: str | None = None
    resolution: dict[str, str] | None = None


class OutboxRow(Struct):
    """A message as stored."""

    partition: int
    message: Outgoing
    created_at: datetime
    sent_at: datetime | None = None


class DeliveryRow(Struct):
    """The mutable half of a delivery as stored."""

    state: DeliveryState
    attempts: int
    tries: int
    trigger: str
    next_at: datetime | None
    sequence: int = 0
    actor: str = ""


class Rows(Struct):
    """Everything that a commit writes. It is checked as a whole before the first row, so a refusal leaves no trace."""

    transitions: dict[str, list[Transition]] = field(default_factory=dict)
    postings: dict[tuple[str, int], Posting] = field(default_factory=dict)
    balances: dict[tuple[int, int], Balance] = field(default_factory=dict)  # by account and stripe
    velocity: dict[VelocityKey, Usage] = field(default_factory=dict)
    outbox: dict[str, OutboxRow] = field(default_factory=dict)
    timers: dict[tuple[str, str, str], Timer] = field(default_factory=dict)
    reviews: dict[str, dict[str, Any]] = field(default_factory=dict)
    decisions_refused: dict[str, str] = field(default_factory=dict)
    cases: dict[str, CaseFile] = field(default_factory=dict)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    deliveries_made: dict[str, set[str]] = field(default_factory=dict)  # by intent
    delivery_states: dict[str, DeliveryRow] = field(default_factory=dict)
    delivery_attempts: dict[tuple[str, int], tuple[Any, ...]] = field(default_factory=dict)
    command_outcomes: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    callbacks: dict[tuple[str, str], WaitingCallback] = field(default_factory=dict)  # by rail and event id
    callbacks_claimed: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    leaves: dict[tuple[str, int], tuple[str, bytes, bytes]] = field(default_factory=dict)  # intent, data, hash
    leaf_names: set[tuple[str, bytes]] = field(default_factory=set)  # of an intent, by hash
    tiles: dict[tuple[str, int, int], bytes] = field(default_factory=dict)
    heads: dict[tuple[str, int], LogHead] = field(default_factory=dict)
    denials: list[DenialRow] = field(default_factory=list)
    corrections: dict[tuple[str, str], str] = field(default_factory=dict)  # (original, correction) -> tenant
    holds: dict[str, HoldRow] = field(default_factory=dict)  # by intent
    recoveries: dict[str, Recovery] = field(default_factory=dict)
    delivery_places: dict[str, tuple[int, datetime]] = field(
        default_factory=dict
    )  # the sequence told of, and since when
    lanes: dict[tuple[str, str], LaneRow] = field(default_factory=dict)  # by tenant and endpoint


def add(target: Balance, change: Balance) -> None:
    """Add the counters of `change` to those of `target`."""
    for name in _COUNTERS:
        setattr(target, name, getattr(target, name) + getattr(change, name))


def refuse_non_uuids(*keys: str | None) -> None:
    """Refuse what a uuid column would."""
    for key in keys:
        if key is not None and not _UUID.match(key):
            raise DataError(f"not a uuid: {key!r}")


def _once(table: str, taken: Collection[Any], keys: Sequence[Any]) -> None:
    """Refuse a key that is there already or comes twice."""
    seen: set[Any] = set()
    for key in keys:
        if key in taken or key in seen:
            raise DataError(f"duplicate key: {table} {key}")
        seen.add(key)


def owned(writes: TickWrites) -> TickWrites:
    """Return what only the owner of a partition writes, as it stands now, without what a draft has handed over."""
    return TickWrites(
        transitions=writes.transitions[writes.drafted :],
        postings=writes.postings[:],
        outbox=writes.outbox[:],
        timers_set=dict(writes.timers_set),
        timers_cleared=set(writes.timers_cleared),
        deliveries=[(copy.copy(delivery), number) for delivery, number in writes.deliveries],
        deliveries_begun=set(writes.deliveries_begun),
        delivery_states={key: (copy.copy(row), at) for key, (row, at) in writes.delivery_states.items()},
        delivery_attempts=writes.delivery_attempts[:],
        leaves=writes.leaves[:],
        tiles=writes.tiles[:],
        heads=writes.heads[:],
        lanes=dict(writes.lanes),
    )


def behind(staged: TickWrites, writes: TickWrites, *, same: bool) -> TickWrites:
    """Return what is stored in the end where rows were `staged` before: of the same writes nothing that an owner writes
    is written again, of others all is. Raises DataError for a delivery that both begin."""
    later = TickWrites() if same else owned(writes)
    _once("delivery_states", staged.deliveries_begun, sorted(later.deliveries_begun))
    return replace(
        writes,
        drafted=0,
        transitions=staged.transitions + later.transitions,
        postings=staged.postings + later.postings,
        outbox=staged.outbox + later.outbox,
        timers_set=_without(staged.timers_set, staged.timers_cleared) | later.timers_set,
        timers_cleared=(staged.timers_cleared - later.timers_set.keys()) | later.timers_cleared,
        deliveries=staged.deliveries + later.deliveries,
        deliveries_begun=staged.deliveries_begun | later.deliveries_begun,
        delivery_states=staged.delivery_states | later.delivery_states,
        delivery_attempts=staged.delivery_attempts + later.delivery_attempts,
        leaves=staged.leaves + later.leaves,
        tiles=staged.tiles + later.tiles,
        heads=staged.heads + later.heads,
        lanes=staged.lanes | later.lanes,
    )


def _without(timers: Mapping[_TimerKey, Timer], cleared: Collection[_TimerKey]) -> dict[_TimerKey, Timer]:
    return {key: timer for key, timer in timers.items() if key not in cleared}


def check(rows: Rows, plan: TickPlan, writes: TickWrites) -> None:
    """Raise DataError for what the tables would refuse."""
    known = {(key, t.sequence) for key in {t.intent for t in writes.transitions} for t in rows.transitions.get(key, ())}
    _once("transitions", known, [(t.intent, t.sequence) for t in writes.transitions])
    _once("postings", rows.postings, [(p.intent, p.ordinal) for p in writes.postings])
    _once("outbox", rows.outbox, [message.id for _, message in writes.outbox])
    _once("deliveries", rows.deliveries, [delivery.id for delivery, _ in writes.deliveries])
    _once("delivery_states", rows.delivery_states, sorted(writes.deliveries_begun))
    _once("delivery_attempts", rows.delivery_attempts, [row[:2] for row in writes.delivery_attempts])
    _once("log_leaves", rows.leaves, [row[:2] for row in writes.leaves])
    _once("log_leaves_once", rows.leaf_names, [(row[2], row[4]) for row in writes.leaves])
    _once("command_outcomes", rows.command_outcomes, [row[0] for row in writes.command_outcomes])
    _once("log_tiles", rows.tiles, [row[:3] for row in writes.tiles])
    _once("log_heads", rows.heads, [(head.tenant, head.size) for head in writes.heads])
    refuse_non_uuids(*(key for _, key, _ in writes.timers_set), *(d.id for d, _ in writes.deliveries))
    refuse_non_uuids(*(row[0] for row in writes.command_outcomes), *(row[0] for row in writes.cases_resolved))
    for hold in writes.holds.values():
        if min(hold.remaining, hold.captured) < 0 or (hold.status == "open") != (hold.ended_at is None):
            raise DataError(f"check constraint: holds of {hold.intent}")
    for case in writes.cases_opened:
        refuse_non_uuids(case.id, case.intent)
        if any("\x00" in text for text in (case.tenant, case.kind, *case.detail, *case.detail.values())):
            raise DataError("text holds a zero byte")
    for key, (ref, change) in writes.balance_changes.items():
        after = copy.copy(rows.balances.get((key, 0), Balance()))
        add(after, change)
        if ref.guarded and min(getattr(after, name) for name in _COUNTERS) < 0:
            raise DataError(f"check constraint: balances of {ref.account_id}")
    for counter, used in writes.velocity_changes.items():
        before = rows.velocity.get(counter, Usage())
        if before.count + used.count < 0 or before.minor + used.minor < 0:
            raise DataError(f"check constraint: velocity of {counter.counter}")
    for counter, used in writes.velocity_windows.items():
        if min(used.count, used.minor) < 0 or max(used.count, used.minor) > MINOR_MAX:
            raise DataError(f"check constraint: velocity of {counter.counter}")


def apply(rows: Rows, plan: TickPlan, writes: TickWrites, now: datetime) -> None:
    """Write what was checked."""
    for transition in writes.transitions:
        rows.transitions.setdefault(transition.intent, []).append(transition)
    rows.postings.update({(p.intent, p.ordinal): p for p in writes.postings})
    for ref in plan.accounts:
        rows.balances.setdefault((ref.id, 0 if ref.guarded else plan.stripe), Balance())
    for key, (ref, change) in writes.balance_changes.items():
        stripe = rows.balances.get((key, 0 if ref.guarded else plan.stripe))
        if stripe is not None:  # what the plan did not lock is not there to be updated
            add(stripe, change)
    for counter in plan.velocity:
        rows.velocity.setdefault(counter, Usage())
    for counter, used in writes.velocity_changes.items():
        usage = rows.velocity.setdefault(counter, Usage())
        usage.count, usage.minor = usage.count + used.count, usage.minor + used.minor
    for counter, used in writes.velocity_windows.items():
        rows.velocity[counter] = copy.copy(used)
    rows.outbox.update({message.id: OutboxRow(p, message, now) for p, message in writes.outbox})
    rows.timers.update(writes.timers_set)
    for timer in writes.timers_cleared:
        rows.timers.pop(timer, None)
    _apply_deliveries(rows, writes, now)
    rows.leaves.update({(row[0], row[1]): row[2:] for row in writes.leaves})
    rows.leaf_names.update((row[2], row[4]) for row in writes.leaves)
    rows.tiles.update({row[:3]: row[3] for row in writes.tiles})
    rows.heads.update({(head.tenant, head.size): head for head in writes.heads})
    _apply_desk(rows, writes)


def without(current: Configuration, endpoints: Collection[tuple[str, str]]) -> Configuration:
    """Return a configuration in which these (tenant, endpoint) are disabled."""
    left = {
        tenant: tuple(one for one in members if (tenant, one.id) not in endpoints)
        for tenant, members in current.endpoints.items()
    }
    return replace(current, endpoints=left, endpoints_held=current.endpoints_held.union(endpoints))


def open_keys(rows: Rows, tenant: str, endpoint: str, timed: bool) -> list[str]:
    """Return the ids of what an endpoint has not settled, in the order of its lane; what waits for the time of its next
    try only where `timed`."""
    found = []
    for key, made in rows.deliveries.items():
        row = rows.delivery_states.get(key)
        if row is None or row.state not in OPEN or (made.tenant, made.endpoint) != (tenant, endpoint):
            continue
        if timed or row.state is not DeliveryState.RETRYING or row.next_at is None:
            found.append((row.sequence, key))
    return [key for _, key in sorted(found)]


def _apply_deliveries(rows: Rows, writes: TickWrites, now: datetime) -> None:
    for delivery, sequence in writes.deliveries:
        rows.deliveries[delivery.id] = copy.copy(delivery)
        rows.delivery_places[delivery.id] = (sequence, now)
        rows.deliveries_made.setdefault(delivery.intent, set()).add(delivery.id)
    for key, (delivery, next_at) in writes.delivery_states.items():
        known = rows.delivery_states.get(key)
        if known is not None or key in writes.deliveries_begun:
            rows.delivery_states[key] = DeliveryRow(
                delivery.state, delivery.attempts, delivery.tries, delivery.trigger, next_at,
                delivery.sequence if known is None else known.sequence, delivery.actor,
            )  # fmt: skip
    rows.lanes.update(writes.lanes)
    rows.delivery_attempts.update({(row[0], row[1]): row[2:] for row in writes.delivery_attempts})


_REVIEW: Final = (
    "round", "tenant", "intent_id", "created_by", "rules", "version", "opened_at", "expires_at", "due_at", "approvals",
    "kind", "currency", "minor",
)  # fmt: skip


def _apply_desk(rows: Rows, writes: TickWrites) -> None:
    """Write what people work on."""
    for key, *opened in writes.reviews_opened:
        rows.reviews[key] = {**dict(zip(_REVIEW, opened, strict=True)), "status": "open", "assigned_to": None}
    for key, desk in writes.reviews_changed.items():
        rows.reviews[key] |= {
            "assigned_to": desk.assigned_to, "level": desk.level, "breached": desk.breached,
            "approved_by": list(desk.approved_by), "comments": desk.comments,
        }  # fmt: skip
    rows.decisions_refused.update(writes.decisions_refused)
    for key, status, decided_by, decided_at, reason in writes.reviews_closed:
        if key in rows.reviews:
            rows.reviews[key] |= {
                "status": status, "decided_by": decided_by, "decided_at": decided_at, "reason": reason,
            }  # fmt: skip
    for case in writes.cases_opened:
        rows.cases.setdefault(case.id, CaseFile(case))
    for key, operator, resolution, _, tenant in writes.cases_resolved:
        file = rows.cases.get(key)
        if file is not None and file.status == "open" and file.row.tenant == tenant:
            file.status, file.operator, file.resolution = "resolved", operator, resolution
    for outcome in writes.command_outcomes:
        rows.command_outcomes.setdefault(outcome[0], outcome[1:])
    for rail, event, tenant, intent in writes.callbacks_claimed:
        rows.callbacks_claimed.setdefault((rail, event), (tenant, intent))
    rows.recoveries.update(writes.recoveries)
    rows.denials += writes.denials
    for tenant, original, correction, _ in writes.corrections:
        rows.corrections.setdefault((original, correction), tenant)
    for hold in writes.holds.values():
        known = rows.holds.get(hold.intent, hold)
        rows.holds[hold.intent] = replace(
            known, remaining=hold.remaining, captured=hold.captured, status=hold.status, ended_at=hold.ended_at
        )


def expiring(rows: Rows, accounts: Collection[int], now: datetime) -> dict[int, Expiring]:
    """Return the open holds on these accounts that have expired, or will within the shortest time one can last."""
    until = now + timedelta(seconds=HOLD_SECONDS_MIN)
    found: dict[int, list[ExpiringHold]] = {account: [] for account in accounts}
    for row in sorted(rows.holds.values(), key=lambda row: row.expires_at):
        if row.account in found and row.status == "open" and row.expires_at <= until:
            found[row.account].append(ExpiringHold(row.intent, row.remaining, row.expires_at))
    return {account: Expiring(now, tuple(holds[:EXPIRING_MAX])) for account, holds in found.items()}


def waiting(rows: Rows, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], tuple[WaitingCallback, ...]]:
    """Return the callbacks of these rails and references that no intent has claimed, in the order of their arrival."""
    found: dict[tuple[str, str], list[WaitingCallback]] = {}
    for name, kept in rows.callbacks.items():
        place = (kept.outcome.rail, kept.outcome.reference)
        if place in names and name not in rows.callbacks_claimed:
            found.setdefault(place, []).append(kept)
    return {
        place: tuple(sorted(kept, key=lambda one: (one.at, one.outcome.event_id or ""))[:WAITING_MAX])
        for place, kept in found.items()
    }


def open_strangers(rows: Rows, rails: Collection[str]) -> dict[str, frozenset[str]]:
    """Return the references whose case is open, by rail."""
    found: dict[str, list[str]] = {rail: [] for rail in rails}
    for file in rows.cases.values():
        row = file.row
        if file.status == "open" and row.kind == "unknown_reference" and row.detail["rail"] in found:
            found[row.detail["rail"]].append(row.detail["reference"])
    return {
        rail: frozenset(sorted(names, key=lambda name: name != STRANGERS_MORE)[: STRANGERS_OPEN_MAX + 1])
        for rail, names in found.items()
    }


def balance_of(rows: Rows, account: int) -> Balance:
    """Return the counters of an account over all stripes."""
    total = Balance()
    for (key, _), stripe in rows.balances.items():
        if key == account:
            add(total, stripe)
    return total
