"""What the store's twin tells of deliveries, and of recoveries: small pages of what an endpoint has not had.

Walking intents it finds all of them at once: that the store's three walks miss none is for the contract to show."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Final

from zentra.bench.twins.store_rows import Rows
from zentra.runtime.ports import Endpoint
from zentra.runtime.webhooks.delivery import Delivery, DeliveryState, is_told
from zentra.runtime.webhooks.recovery import MissedIntent, Phase, Recovery, RecoveryPage, RecoveryStatus, states_of
from zentra.runtime.webhooks.standard import matches

__all__ = ["delivery_of", "page_of", "running_by"]

DELIVERIES_MAX: Final = 5
INTENTS_MAX: Final = 3


def delivery_of(rows: Rows, key: str) -> Delivery:
    """Return a delivery with its mutable half."""
    found, state = copy.copy(rows.deliveries[key]), rows.delivery_states.get(key)
    found.begun = state is not None
    found.state = state.state if state else DeliveryState.PENDING
    if state is not None:
        found.attempts, found.tries, found.trigger = state.attempts, state.tries, state.trigger
        found.actor, found.sequence, found.next_at = state.actor, state.sequence, state.next_at
    return found


def running_by(rows: Rows, tenants: Collection[str]) -> dict[str, dict[str, str]]:
    """Return the endpoint of each recovery that is under way, by tenant and id."""
    found: dict[str, dict[str, str]] = {}
    for one in rows.recoveries.values():
        if one.tenant in tenants and one.status is RecoveryStatus.RUNNING:
            found.setdefault(one.tenant, {})[one.id] = one.endpoint
    return found


def page_of(rows: Rows, recovery: Recovery, endpoints: Sequence[Endpoint]) -> RecoveryPage:
    """Return what lies behind the place of a recovery to one of a tenant's endpoints."""
    filters = next((one.events for one in endpoints if one.id == recovery.endpoint), ("*",))
    if recovery.phase is Phase.DELIVERIES:
        return _deliveries(rows, recovery)
    if recovery.phase is not Phase.BEGUN:
        return RecoveryPage(recovery.place, True)
    found = [missed for intent in sorted(rows.transitions) if (missed := _missed(rows, recovery, intent, filters))]
    behind = [missed for missed in found if missed.intent > recovery.place]
    page = tuple(behind[:INTENTS_MAX])
    place = page[-1].intent if page else recovery.place
    return RecoveryPage(place, len(behind) <= INTENTS_MAX, missed=page)


def _deliveries(rows: Rows, recovery: Recovery) -> RecoveryPage:
    states = states_of(recovery.which)
    walk = sorted(
        (f"{rows.delivery_places[key][1].isoformat()} {key}", key)
        for key, made in rows.deliveries.items()
        if (made.tenant, made.endpoint) == (recovery.tenant, recovery.endpoint)
        and recovery.since <= rows.delivery_places[key][1] < recovery.before
    )
    behind = [(place, key) for place, key in walk if place > recovery.place]
    page = behind[:DELIVERIES_MAX]
    found = tuple((key, rows.deliveries[key].event) for _, key in page if _state(rows, key) in states)
    place = page[-1][0] if page else recovery.place
    return RecoveryPage(place, len(behind) <= DELIVERIES_MAX, deliveries=found)


def _state(rows: Rows, key: str) -> DeliveryState:
    row = rows.delivery_states.get(key)
    return DeliveryState.PENDING if row is None else row.state


def _missed(rows: Rows, recovery: Recovery, intent: str, filters: Sequence[str]) -> MissedIntent | None:
    """Return the events of an intent within the time that the endpoint wants and has no delivery of."""
    transitions = rows.transitions[intent]
    if transitions[0].tenant != recovery.tenant:
        return None
    told = {
        rows.delivery_places[key][0]
        for key in rows.deliveries_made.get(intent, ())
        if rows.deliveries[key].endpoint == recovery.endpoint
    }
    sequences = tuple(
        one.sequence
        for one in transitions
        if recovery.since <= one.at < recovery.before and one.sequence not in told and is_told(one.event)
        and recovery.wants(one.event) and matches(filters, one.event)
    )  # fmt: skip
    if not sequences:
        return None
    return MissedIntent(intent, sequences, tuple((one.record, one.hash) for one in transitions[: sequences[-1]]))
