"""Webhook deliveries: events fan out to endpoints, attempts end, and an endpoint that takes nothing is disabled.

The body is fixed in the commit of the transition that it tells of: in full, or in short where the endpoint wants it so
or it would be too large. Its number among all that the endpoint gets comes from the lane that takes it in: one over
the whole tenant would be a lock that every commit waits for. How a lane works `lanes` says."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from zentra.actors.lanes import endpoint_of, narrower, tell, wait
from zentra.actors.memory import Lane
from zentra.runtime.evidence import canonical
from zentra.runtime.intents.transaction import Transaction, Transition, timestamp
from zentra.runtime.ledger.holds import Hold
from zentra.runtime.messages import AttemptReported, DeliveryDue
from zentra.runtime.partitions import lane_key
from zentra.runtime.ports import Endpoint, EndpointDisabled
from zentra.runtime.webhooks.delivery import (
    ENDPOINT_DISABLED,
    OF_ENDPOINTS,
    Delivery,
    DeliveryFact,
    DeliveryState,
    is_told,
    move,
)
from zentra.runtime.webhooks.standard import (
    BODY_BYTES_MAX,
    OURS,
    AttemptResult,
    Verdict,
    is_throttled,
    matches,
    next_delay,
    verdict,
)
from zentra.runtime.webhooks.terms import HEALTHY, TERMS, THIN, failed_once_more, is_given_up

if TYPE_CHECKING:
    from zentra.actors.tick import Input, Tick

__all__ = ["attempt_ended", "body_of", "deliver", "fan_out", "make_late", "replay", "tells"]

GONE: Final = "gone"
FAILING: Final = "failing"


class Told(NamedTuple):
    """What a body says of a transition, of one that is read from its record too."""

    event: str
    sequence: int
    at: datetime
    record: bytes


def fan_out(tick: "Tick", tx: Transaction, transition: Transition) -> None:
    """Open one delivery for every endpoint of the tenant that wants to hear of this transition."""
    endpoints = tick.configuration.endpoints.get(tx.tenant)
    if not endpoints or not is_told(transition.event) or "events" not in tx.command.primitives:
        return
    bodies: dict[str, bytes] = {}
    for endpoint in endpoints:
        if not matches(endpoint.events, transition.event):
            continue
        mode = endpoint.terms.mode
        body = bodies.get(mode) or bodies.setdefault(mode, _body(tx, transition, mode))
        delivery = Delivery(
            id=_delivery_id(tx.id, transition.sequence, endpoint.id),
            tenant=tx.tenant,
            endpoint=endpoint.id,
            intent=tx.id,
            event=transition.event,
            body=body,
        )
        tx.deliveries_open = tx.deliveries_open | {delivery.id}
        tick.writes.deliveries.append((delivery, transition.sequence))
        due = DeliveryDue(delivery.id, tx.tenant, endpoint.id, tx.id, transition.event, body)
        tick.send(tick.place_of(lane_key(tx.tenant, endpoint.id)), "webhook", due)


def _delivery_id(intent: str, sequence: int, endpoint: str) -> str:
    return hashlib.sha256(f"delivery/{intent}/{sequence}/{endpoint}".encode()).hexdigest()[:32]


def _body(tx: Transaction, transition: Transition | Told, mode: str = "full") -> bytes:
    """Return the bytes that every endpoint of a mode gets for this transition, on each try."""
    data = _data(tx, transition)
    if transition.event in OF_ENDPOINTS:
        data["endpoint"] = _switched(transition)
    if mode != THIN:
        full: dict[str, Any] = {**data, "metadata": tx.command.metadata}
        if tx.tracestate:
            full["tracestate"] = tx.tracestate
        if tx.hold is not None:
            full["hold"] = _hold(tx, tx.hold)
        body = _encoded(transition, full)
        if len(body) <= BODY_BYTES_MAX:
            return body
    return _encoded(transition, {**data, "metadata": {}, "fetch": f"/runtime/intents/{tx.id}"})


def _encoded(transition: Transition | Told, data: Mapping[str, Any]) -> bytes:
    return canonical.encode({"type": str(transition.event), "timestamp": timestamp(transition.at), "data": data})


def _data(tx: Transaction, transition: Transition | Told) -> dict[str, Any]:
    """Return what is always told of an intent; every part of it is short."""
    command = tx.command
    return {
        "id": tx.id,
        "intent_id": tx.intent_id,
        "object_version": transition.sequence,
        "status": str(tx.state.lifecycle),
        "step": tx.state.step,
        "kind": str(command.kind),
        "amount": command.minor,
        "currency": command.currency,
        "source": command.source,
        "destination": command.destination,
        "scope": command.scope,
        "trace_id": tx.trace,
    }


def _switched(transition: Transition | Told) -> dict[str, Any]:
    """Return which endpoint was disabled or enabled, why, who has asked for it where somebody has, and what it last
    answered to which delivery."""
    facts = msgspec.json.decode(transition.record)["facts"]
    told = {name: facts.get(name) for name in ("delivery", "event", "attempts", "status_code", "error")}
    if "by" in facts:
        return {"id": facts["endpoint"], "reason": facts["reason"], "by": facts["by"], **told}
    return {"id": facts["endpoint"], "reason": GONE if told["status_code"] == 410 else FAILING, **told}


def _hold(tx: Transaction, hold: Hold) -> dict[str, str]:
    """Return how a hold stands after the transition: whoever hears of several captures need not add them up."""
    return {"captured": str(tx.posted), "expires_at": timestamp(hold.expires_at), "remaining": str(tx.held)}


def deliver(tick: "Tick", at: "Input", event: DeliveryDue) -> None:
    """Take a new delivery into its lane."""
    known = tick.begun(event.delivery)
    if known:
        return
    delivery = Delivery(
        id=event.delivery,
        tenant=event.tenant,
        endpoint=event.endpoint,
        intent=event.intent,
        event=event.event,
        body=event.body,
    )
    _begin(tick, delivery)


def _begin(tick: "Tick", delivery: Delivery) -> None:
    lane = tick.lane(delivery.tenant, delivery.endpoint)
    lane.row = replace(lane.row, sequence=lane.row.sequence + 1)
    tick.writes.lanes[delivery.tenant, delivery.endpoint] = lane.row
    delivery.sequence = lane.row.sequence
    tick.deliveries[delivery.id] = delivery
    tick.writes.deliveries_begun.add(delivery.id)
    tick.writes.delivery_states[delivery.id] = (delivery, None)
    wait(tick, delivery)


def attempt_ended(tick: "Tick", at: "Input", event: AttemptReported) -> None:
    """Apply what an attempt met: delivered, once more later, kept until its endpoint is enabled, or given up."""
    result = event.result
    lane = tick.lane(event.tenant, event.endpoint)
    delivery = tick.delivery(result.delivery)
    outcome = verdict(result)
    if delivery is None or not _is_open(delivery, result, outcome):
        return
    began = lane.in_flight.pop(delivery.id, None)
    endpoint = endpoint_of(tick, delivery.tenant, delivery.endpoint)
    if outcome is Verdict.DISABLE and endpoint is not None and endpoint.since and began and began < endpoint.since:
        outcome = Verdict.RETRY  # it was said before the endpoint was enabled, or where it is no more
    _learn(tick, lane, delivery, result, outcome)
    delays = (TERMS if endpoint is None else endpoint.terms).delays
    delay = None
    if outcome is Verdict.RETRY:
        delay = next_delay(delivery.tries, _jitter(delivery), result.retry_after_seconds, delays)
    if outcome is Verdict.DELIVERED:
        delivery.state, topic = move(delivery.state, DeliveryFact.ACKNOWLEDGED), "webhook.delivered"
    elif delay is None and outcome is not Verdict.DISABLE:
        delivery.state, topic = move(delivery.state, DeliveryFact.GIVEN_UP), "webhook.exhausted"
    else:
        delivery.state, topic = move(delivery.state, DeliveryFact.FAILED), "webhook.retrying"
    due_at = None if delay is None else tick.now + timedelta(seconds=delay)
    delivery.next_at = due_at
    if due_at is not None:
        tick.timer("delivery", delivery.id, "attempt", at.partition, delivery.tenant, due_at)
    tick.writes.delivery_states[delivery.id] = (delivery, due_at)
    tick.writes.delivery_attempts.append(_attempt_row(delivery, result, tick.now, due_at))
    tell(tick, delivery, topic, result)
    if delivery.state is DeliveryState.RETRYING and (due_at is None or endpoint is None or endpoint.terms.fifo):
        wait(tick, delivery)
    _judge_endpoint(tick, lane, delivery, result, outcome)


def _is_open(delivery: Delivery, result: AttemptResult, outcome: Verdict) -> bool:
    """Return whether a delivery waits for this result: that of its latest attempt, or the word that an earlier one of
    the same schedule was taken after all, although it was thought lost and the delivery was begun again."""
    if delivery.state is not DeliveryState.DELIVERING:
        return False  # a repeat
    earlier = delivery.attempts - delivery.tries < result.attempt < delivery.attempts
    return result.attempt == delivery.attempts or (earlier and outcome is Verdict.DELIVERED)


def _attempt_row(delivery: Delivery, result: AttemptResult, now: datetime, due_at: datetime | None) -> tuple[Any, ...]:
    """Return what is kept of an attempt, in the order of its columns."""
    return (
        delivery.id, result.attempt, delivery.tenant, delivery.trigger, now, result.status, result.error,
        result.latency_ms, result.response_excerpt, delivery.actor, result.request_headers, due_at,
    )  # fmt: skip


def _learn(tick: "Tick", lane: Lane, delivery: Delivery, result: AttemptResult, outcome: Verdict) -> None:
    """Let the lane follow what an attempt says of its endpoint: how wide it is, and for how long it has failed."""
    width, key = lane.width or tick.rules.lane_width, (delivery.tenant, delivery.endpoint)
    if outcome is Verdict.DELIVERED:
        lane.width = min(width + 1, tick.rules.lane_width_max)
        health = HEALTHY
    elif result.error in OURS:
        return
    else:
        if outcome is not Verdict.ABORT:
            lane.width = 1 if is_throttled(result) else narrower(tick, lane)
        health = failed_once_more(lane.row.health, tick.now)
    if health != lane.row.health:
        lane.row = replace(lane.row, health=health)
        tick.writes.lanes[key] = lane.row


def _judge_endpoint(tick: "Tick", lane: Lane, delivery: Delivery, result: AttemptResult, outcome: Verdict) -> None:
    """Disable an endpoint that says that it is gone, or has taken nothing for too long, and tell of it."""
    endpoint = endpoint_of(tick, delivery.tenant, delivery.endpoint)
    if endpoint is None:
        return
    if outcome is Verdict.DISABLE:
        reason = GONE
    elif outcome is not Verdict.DELIVERED and is_given_up(lane.row.health, endpoint.terms.disable_after_seconds):
        reason = FAILING
    else:
        return
    tick.writes.endpoints_disabled[endpoint.tenant, endpoint.id] = EndpointDisabled(
        endpoint.tenant, endpoint.id, reason, tick.now
    )
    lane.row = replace(lane.row, health=HEALTHY)  # enabled again, it has as long as any other
    tick.writes.lanes[endpoint.tenant, endpoint.id] = lane.row
    tell(tick, delivery, ENDPOINT_DISABLED, result)


def _jitter(delivery: Delivery) -> float:
    """Return a fraction in [0, 1) that differs between deliveries and tries and is the same when decided twice."""
    return hashlib.sha256(f"{delivery.id}/{delivery.tries}".encode()).digest()[0] / 256


def replay(tick: "Tick", tenant: str, delivery_id: str, *, trigger: str, actor: str) -> str:
    """Start the schedule of a tenant's delivery anew, for whoever has asked; return the code of the outcome."""
    delivery = tick.delivery(delivery_id)
    if delivery is None or delivery.tenant != tenant:
        return "not_found"
    if delivery.state is DeliveryState.DELIVERING:
        return "delivery_under_way"
    waited = delivery.state is DeliveryState.PENDING
    delivery.state = move(delivery.state, DeliveryFact.REPLAYED)
    delivery.tries, delivery.trigger, delivery.actor, delivery.next_at = 0, trigger, actor, None
    tick.clear_timer("delivery", delivery.id, "attempt")
    tick.writes.delivery_states[delivery.id] = (delivery, None)
    if not waited:
        wait(tick, delivery)
    return "done"


def tells(filters: Sequence[str], event: str) -> bool:
    """Return whether an endpoint with these filters is told of an event."""
    return is_told(event) and matches(filters, event)


def body_of(tx: Transaction, event: str, record: bytes, mode: str = "full") -> bytes:
    """Return the bytes that endpoints of a mode get of the event, by its record, that brought `tx` to where it is."""
    return _body(tx, Told(event, tx.sequence, tx.at, record), mode)


def make_late(tick: "Tick", tx: Transaction, event: str, record: bytes, endpoint: Endpoint, *, actor: str) -> bool:
    """Make the delivery of an event that had none when it happened, `tx` being as it was then; return if it is new.

    The owner of the lane makes it, where else the owner of the transaction does. Nothing else makes it any more: the
    event is committed, and its commit made every delivery that was due then."""
    delivery = Delivery(
        id=_delivery_id(tx.id, tx.sequence, endpoint.id), tenant=tx.tenant, endpoint=endpoint.id, intent=tx.id,
        event=event, body=body_of(tx, event, record, endpoint.terms.mode), trigger="replay", actor=actor,
    )  # fmt: skip
    if delivery.id in tick.deliveries:
        return False
    tick.writes.deliveries.append((delivery, tx.sequence))
    _begin(tick, delivery)
    return True
