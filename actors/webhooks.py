"""Webhook deliveries: events fan out to endpoints, and each endpoint has one lane with one owner.

A lane is the partition of (tenant, endpoint): limits and fairness have one place. An attempt is committed as under way
before its socket opens; at most the lane's width are, and the rest of the lane waits. The width grows by one with each
attempt that is acknowledged and halves with each that is not (AIMD, as congestion windows do). The body is fixed in the
commit of the transition that it tells of."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from zentra.actors.memory import LANE_WAITING_MAX, Missing, MissingGround
from zentra.runtime.evidence import canonical
from zentra.runtime.intents.facts import Delivered
from zentra.runtime.intents.transaction import Transaction, Transition, timestamp
from zentra.runtime.ledger.holds import Hold
from zentra.runtime.messages import AttemptReported, DeliveryDue, DeliverySettled, LaneOpened, TimerFired
from zentra.runtime.partitions import lane_key
from zentra.runtime.webhooks.delivery import NEVER_DELIVERED, OPEN, Delivery, DeliveryFact, DeliveryState, move
from zentra.runtime.webhooks.standard import AttemptResult, Verdict, WebhookCall, matches, next_delay, verdict

if TYPE_CHECKING:
    from zentra.actors.tick import Input, Tick

__all__ = [
    "OPEN", "ask_together", "attempt_ended", "body_of", "deliver", "fan_out", "finish_lanes", "fire", "make_late",
    "open_lane", "replay", "tells",
]  # fmt: skip

# A transport waits 15 s, a worker that is stopped 10 s until it knows its lease; the rest is for the way of the report.
# One that comes still later is ignored, and the endpoint is called once more than it had to be.
ATTEMPT_LOST_AFTER: Final = timedelta(seconds=60)


def fan_out(tick: "Tick", tx: Transaction, transition: Transition) -> None:
    """Open one delivery for every endpoint of the tenant that wants to hear of this transition."""
    endpoints = tick.configuration.endpoints.get(tx.tenant)
    if not endpoints or transition.event.startswith(NEVER_DELIVERED) or "events" not in tx.command.primitives:
        return
    body = b""
    for endpoint in endpoints:
        if not matches(endpoint.events, transition.event):
            continue
        body = body or _body(tx, transition.event)
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


def _body(tx: Transaction, event: str) -> bytes:
    """Return the bytes that every endpoint gets for the event that brought `tx` to where it is, on each try."""
    command = tx.command
    return canonical.encode(
        {
            "type": str(event),
            "timestamp": timestamp(tx.at),
            "data": {
                "id": tx.id,
                "intent_id": tx.intent_id,
                "object_version": tx.sequence,
                "status": str(tx.state.lifecycle),
                "step": tx.state.step,
                "kind": str(command.kind),
                "amount": command.minor,
                "currency": command.currency,
                "source": command.source,
                "destination": command.destination,
                "scope": command.scope,
                "metadata": command.metadata,
                "trace_id": tx.trace,
                **({"tracestate": tx.tracestate} if tx.tracestate else {}),
                **({} if tx.hold is None else {"hold": _hold(tx, tx.hold)}),
            },
        }
    )


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
    tick.deliveries[delivery.id] = delivery
    tick.writes.deliveries_begun.add(delivery.id)
    tick.writes.delivery_states[delivery.id] = (delivery, None)
    _wait(tick, delivery)


def attempt_ended(tick: "Tick", at: "Input", event: AttemptReported) -> None:
    """Apply what an attempt met: delivered, once more later, or given up."""
    result = event.result
    lane = tick.lane(event.tenant, event.endpoint)
    delivery = tick.delivery(result.delivery)
    if delivery is None or delivery.state is not DeliveryState.DELIVERING or delivery.attempts != result.attempt:
        return  # a repeat, or an attempt that was started again since and is still under way
    lane.in_flight.pop(delivery.id, None)
    width = lane.width or tick.rules.lane_width
    outcome = verdict(result)
    delay = None
    if outcome is Verdict.RETRY:
        delay = next_delay(delivery.tries, _jitter(delivery), result.retry_after_seconds)
    if outcome is Verdict.DELIVERED:
        lane.width = min(width + 1, tick.rules.lane_width_max)
        delivery.state, topic = move(delivery.state, DeliveryFact.ACKNOWLEDGED), "webhook.delivered"
    elif delay is None:
        delivery.state, topic = move(delivery.state, DeliveryFact.GIVEN_UP), "webhook.exhausted"
        if outcome is Verdict.DISABLE:
            tick.writes.endpoints_disabled.append((delivery.tenant, delivery.endpoint))
    else:
        lane.width = max(width // 2, tick.rules.lane_width)
        delivery.state, topic = move(delivery.state, DeliveryFact.FAILED), "webhook.retrying"
    due_at = None if delay is None or outcome is Verdict.DELIVERED else tick.now + timedelta(seconds=delay)
    if due_at is not None:
        tick.timer("delivery", delivery.id, "attempt", at.partition, delivery.tenant, due_at)
    tick.writes.delivery_states[delivery.id] = (delivery, due_at)
    tick.writes.delivery_attempts.append(_attempt_row(delivery, result, tick.now, due_at))
    _tell(tick, delivery, topic, result)


def _attempt_row(delivery: Delivery, result: AttemptResult, now: datetime, due_at: datetime | None) -> tuple[Any, ...]:
    """Return what is kept of an attempt, in the order of its columns."""
    return (
        delivery.id, result.attempt, delivery.tenant, delivery.trigger, now, result.status, result.error,
        result.latency_ms, result.response_excerpt, delivery.actor, result.request_headers, due_at,
    )  # fmt: skip


def _tell(tick: "Tick", delivery: Delivery, topic: str, result: AttemptResult | None) -> None:
    """Let the transaction know how its delivery stands."""
    facts = Delivered(
        delivery=delivery.id,
        endpoint=delivery.endpoint,
        event=delivery.event,
        attempts=delivery.attempts,
        status_code=result.status if result else None,
        error=str(result.error) if result and result.error else None if result else "endpoint_disabled",
        body_digest=hashlib.sha256(delivery.body).hexdigest(),
    )
    settled = DeliverySettled(delivery.intent, delivery.tenant, topic, facts)
    tick.send(tick.rules.partition_of(delivery.intent), "sync", settled)


def _jitter(delivery: Delivery) -> float:
    """Return a fraction in [0, 1) that differs between deliveries and tries and is the same when decided twice."""
    return hashlib.sha256(f"{delivery.id}/{delivery.tries}".encode()).digest()[0] / 256


def open_lane(tick: "Tick", event: LaneOpened) -> None:
    """Look after what an endpoint has open: after its partition came to this worker, and now and then.

    An attempt that has not reported for so long was lost on its way; its delivery waits again."""
    lane = tick.lane(event.tenant, event.endpoint)
    lost = [key for key, since in lane.in_flight.items() if tick.now - since >= ATTEMPT_LOST_AFTER]
    ask_together(tick, lost)
    for delivery_id in lost:
        del lane.in_flight[delivery_id]
        delivery = tick.delivery(delivery_id)
        if delivery is not None and delivery.state is DeliveryState.DELIVERING:
            _wait(tick, delivery)


def fire(tick: "Tick", event: TimerFired) -> None:
    """Put a delivery whose pause is over back into its lane."""
    tick.clear_timer("delivery", event.key, event.name)
    delivery = tick.delivery(event.key)
    if delivery is not None and delivery.state is DeliveryState.RETRYING:
        # without a next time it waits for its lane, also where another worker has to look after it
        tick.writes.delivery_states[delivery.id] = (delivery, None)
        _wait(tick, delivery)


def replay(tick: "Tick", tenant: str, delivery_id: str, *, trigger: str, actor: str) -> str:
    """Start the schedule of a tenant's delivery anew, for whoever has asked; return the code of the outcome."""
    delivery = tick.delivery(delivery_id)
    if delivery is None or delivery.tenant != tenant:
        return "not_found"
    if delivery.state is DeliveryState.DELIVERING:
        return "delivery_under_way"
    waited = delivery.state is DeliveryState.PENDING
    delivery.state = move(delivery.state, DeliveryFact.REPLAYED)
    delivery.tries, delivery.trigger, delivery.actor = 0, trigger, actor
    tick.clear_timer("delivery", delivery.id, "attempt")
    tick.writes.delivery_states[delivery.id] = (delivery, None)
    if not waited:
        _wait(tick, delivery)
    return "done"


def tells(filters: Sequence[str], event: str) -> bool:
    """Return whether an endpoint with these filters is told of an event."""
    return not event.startswith(NEVER_DELIVERED) and matches(filters, event)


def body_of(tx: Transaction, event: str) -> bytes:
    """Return the bytes that endpoints get of the event that brought a transaction to where it is."""
    return _body(tx, event)


def make_late(tick: "Tick", tx: Transaction, event: str, endpoint: str, *, actor: str) -> bool:
    """Make the delivery of an event that had none when it happened, `tx` being as it was then; return if it is new.

    The owner of the lane makes it, where else the owner of the transaction does. Nothing else makes it any more: the
    event is committed, and its commit made every delivery that was due then."""
    delivery = Delivery(
        id=_delivery_id(tx.id, tx.sequence, endpoint), tenant=tx.tenant, endpoint=endpoint, intent=tx.id, event=event,
        body=_body(tx, event), trigger="replay", actor=actor,
    )  # fmt: skip
    if delivery.id in tick.deliveries:
        return False
    tick.deliveries[delivery.id] = delivery
    tick.writes.deliveries.append((delivery, tx.sequence))
    tick.writes.deliveries_begun.add(delivery.id)
    tick.writes.delivery_states[delivery.id] = (delivery, None)
    _wait(tick, delivery)
    return True


def _wait(tick: "Tick", delivery: Delivery) -> None:
    lane = tick.lane(delivery.tenant, delivery.endpoint)
    if delivery.id in lane.in_flight or delivery.id in lane.waiting:
        return
    if len(lane.waiting) < LANE_WAITING_MAX:
        lane.waiting[delivery.id] = None
    else:
        lane.more = True


def ask_together(tick: "Tick", deliveries: Iterable[str]) -> None:
    """Raise MissingGround for those that memory does not have: one by one a whole lane would take a round for each."""
    known = tick.memory.deliveries
    absent = {key for key in deliveries if key not in tick.deliveries and key not in known}
    if absent:
        raise MissingGround(Missing(deliveries=absent))


def finish_lanes(tick: "Tick") -> None:
    """Start what the width of each touched lane allows; an endpoint that is gone ends its deliveries."""
    for (tenant, endpoint_id), lane in tick.lanes.items():
        endpoints = tick.configuration.endpoints.get(tenant, ())
        gone = (tenant, endpoint_id) in tick.writes.endpoints_disabled
        endpoint = None if gone else next((e for e in endpoints if e.id == endpoint_id), None)
        width = lane.width or tick.rules.lane_width
        room = None if endpoint is None else max(0, width - len(lane.in_flight))
        ask_together(tick, islice(lane.waiting, room))
        while lane.waiting and (endpoint is None or len(lane.in_flight) < width):
            key = next(iter(lane.waiting))
            del lane.waiting[key]
            delivery = tick.delivery(key)
            if delivery is None or delivery.state not in OPEN:
                continue
            delivery.state = move(delivery.state, DeliveryFact.STARTED)
            delivery.attempts += 1
            delivery.tries += 1
            if endpoint is None:
                delivery.state = move(delivery.state, DeliveryFact.GIVEN_UP)
                _tell(tick, delivery, "webhook.exhausted", None)
            else:
                lane.in_flight[delivery.id] = tick.now
                secrets = tuple(tick.rules.open_secret(secret) for secret in endpoint.secrets)
                call = WebhookCall(
                    endpoint.url,
                    f"msg_{delivery.id}",
                    delivery.body,
                    secrets,
                    delivery.attempts,
                    delivery.id,
                    endpoint_id,
                )
                tick.calls.append((tenant, endpoint_id, call))
            tick.writes.delivery_states[delivery.id] = (delivery, None)
