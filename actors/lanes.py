"""Lanes: what waits for an endpoint, how much of it is under way at once, and in which order.

A lane is the partition of (tenant, endpoint): limits and fairness have one place. An attempt is committed as under way
before its socket opens; at most the lane's width are, and the rest of the lane waits. The width grows by one with each
attempt that is acknowledged and halves with each that is not (AIMD, as congestion windows do); above it stand the
endpoint's own bounds.

An endpoint that asked for its events in order has one under way, the open one with the lowest number; while that waits
for its next try everything behind it waits too. The lane of an endpoint that is disabled stands still and keeps what it
has; that of one that was deleted ends it."""

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from zentra.actors.memory import LANE_WAITING_MAX, Lane, Missing, MissingGround
from zentra.runtime.intents.facts import Delivered
from zentra.runtime.messages import DeliverySettled, LaneOpened, TimerFired
from zentra.runtime.ports import Configuration, Endpoint
from zentra.runtime.webhooks.delivery import OPEN, Delivery, DeliveryFact, DeliveryState, move
from zentra.runtime.webhooks.standard import AttemptResult, WebhookCall
from zentra.runtime.webhooks.terms import live, width_of

if TYPE_CHECKING:
    from zentra.actors.tick import Tick

__all__ = [
    "ATTEMPT_LOST_AFTER",
    "ask_together",
    "endpoint_of",
    "finish_lanes",
    "fire",
    "narrower",
    "open_lane",
    "renewed",
    "tell",
    "wait",
]

# From the commit that starts an attempt: it waits up to 40 s for its place and 15 s for its answer, or is not made.
# A report that comes still later counts where it says that the endpoint has taken it.
ATTEMPT_LOST_AFTER: Final = timedelta(seconds=60)

Opened = Callable[[bytes], bytes]
"""Returns what was sealed, as it is used."""


def endpoint_of(tick: "Tick", tenant: str, endpoint: str) -> Endpoint | None:
    """Return an endpoint that is enabled, or None for one that is not, or is no more."""
    known = tick.endpoints.get(tenant)
    if known is None:
        known = tick.endpoints[tenant] = {one.id: one for one in tick.configuration.endpoints.get(tenant, ())}
    return None if (tenant, endpoint) in tick.writes.endpoints_disabled else known.get(endpoint)


def open_lane(tick: "Tick", event: LaneOpened) -> None:
    """Look after what an endpoint has open: after its partition came to this worker, and now and then.

    An attempt that has not reported for so long was lost on its way; its delivery waits again."""
    lane = tick.lane(event.tenant, event.endpoint)
    lost = [key for key, since in lane.in_flight.items() if tick.now - since >= ATTEMPT_LOST_AFTER]
    ask_together(tick, lost)
    if lost:
        lane.width = narrower(tick, lane)
    for delivery_id in lost:
        del lane.in_flight[delivery_id]
        delivery = tick.delivery(delivery_id)
        if delivery is not None and delivery.state is DeliveryState.DELIVERING:
            wait(tick, delivery)


def fire(tick: "Tick", event: TimerFired) -> None:
    """Put a delivery whose pause is over back into its lane."""
    tick.clear_timer("delivery", event.key, event.name)
    delivery = tick.delivery(event.key)
    if delivery is not None and delivery.state is DeliveryState.RETRYING:
        # without a next time it waits for its lane, also where another worker has to look after it
        delivery.next_at = None
        tick.writes.delivery_states[delivery.id] = (delivery, None)
        wait(tick, delivery)


def wait(tick: "Tick", delivery: Delivery) -> None:
    """Let a delivery wait for its turn."""
    lane = tick.lane(delivery.tenant, delivery.endpoint)
    if delivery.id in lane.in_flight or delivery.id in lane.waiting:
        return
    endpoint = endpoint_of(tick, delivery.tenant, delivery.endpoint)
    if endpoint is None or endpoint.terms.fifo:  # of one that is disabled nobody knows here how it will be enabled
        _wait_in_order(lane, delivery)
    elif len(lane.waiting) < LANE_WAITING_MAX:
        lane.waiting[delivery.id] = delivery.sequence
    else:
        lane.more = True


def _wait_in_order(lane: Lane, delivery: Delivery) -> None:
    """Let a delivery wait by its number. Once the store holds some that memory does not, what comes behind them is left
    to the store too."""
    last = next(reversed(lane.waiting.values()), 0)
    if delivery.sequence > last and (lane.more or len(lane.waiting) >= LANE_WAITING_MAX):
        lane.more = True
        return
    lane.waiting[delivery.id] = delivery.sequence
    if delivery.sequence < last:
        lane.waiting = dict(sorted(lane.waiting.items(), key=lambda entry: entry[1]))
    if len(lane.waiting) > LANE_WAITING_MAX:
        lane.waiting.popitem()
        lane.more = True


def narrower(tick: "Tick", lane: Lane) -> int:
    """Return the width of a lane after an attempt that was not acknowledged."""
    width = lane.width or tick.rules.lane_width
    return max(width // 2, min(width, tick.rules.lane_width))


def ask_together(tick: "Tick", deliveries: Iterable[str]) -> None:
    """Raise MissingGround for those that memory does not have: one by one a whole lane would take a round for each."""
    known = tick.memory.deliveries
    absent = {key for key in deliveries if key not in tick.deliveries and key not in known}
    if absent:
        raise MissingGround(Missing(deliveries=absent))


def finish_lanes(tick: "Tick") -> None:
    """Start what the width of each touched lane allows; an endpoint that is gone ends its deliveries."""
    held = tick.configuration.endpoints_held
    for (tenant, endpoint_id), lane in tick.lanes.items():
        endpoint = endpoint_of(tick, tenant, endpoint_id)
        if endpoint is not None:
            _start(tick, lane, endpoint)
        elif (tenant, endpoint_id) not in held and (tenant, endpoint_id) not in tick.writes.endpoints_disabled:
            _give_up(tick, lane)


def _start(tick: "Tick", lane: Lane, endpoint: Endpoint) -> None:
    width = width_of(endpoint.terms, lane.width or tick.rules.lane_width)
    ask_together(tick, islice(lane.waiting, max(0, width - len(lane.in_flight))))
    while lane.waiting and len(lane.in_flight) < width:
        key = next(iter(lane.waiting))
        delivery = tick.delivery(key)
        timed = delivery is not None and delivery.next_at is not None and delivery.next_at > tick.now
        if timed and endpoint.terms.fifo:
            return  # its timer wakes the lane
        del lane.waiting[key]
        if delivery is None or delivery.state not in OPEN or timed:
            continue
        delivery.state, delivery.next_at = move(delivery.state, DeliveryFact.STARTED), None
        delivery.attempts += 1
        delivery.tries += 1
        lane.in_flight[delivery.id] = tick.now
        tick.calls.append((endpoint.tenant, endpoint.id, _call(tick, endpoint, delivery)))
        tick.writes.delivery_states[delivery.id] = (delivery, None)


def _give_up(tick: "Tick", lane: Lane) -> None:
    """End what waits for an endpoint that is no more; what is under way there has still to report."""
    ask_together(tick, lane.waiting)
    for key in lane.waiting:
        delivery = tick.delivery(key)
        if delivery is None or delivery.state not in OPEN:
            continue
        tick.clear_timer("delivery", delivery.id, "attempt")
        delivery.state, delivery.next_at = move(delivery.state, DeliveryFact.STARTED), None
        delivery.attempts += 1  # the record that tells of the end is another one than that of the attempt before
        delivery.tries += 1
        delivery.state = move(delivery.state, DeliveryFact.GIVEN_UP)
        tell(tick, delivery, "webhook.exhausted", None)
        tick.writes.delivery_states[delivery.id] = (delivery, None)
    lane.waiting.clear()


def _call(tick: "Tick", endpoint: Endpoint, delivery: Delivery) -> WebhookCall:
    """Return the attempt to be made, with what signs it now."""
    secrets, keys = _signing(endpoint, tick.rules.open_secret, tick.now)
    return WebhookCall(
        endpoint.url,
        f"msg_{delivery.id}",
        delivery.body,
        secrets,
        delivery.attempts,
        delivery.id,
        endpoint.id,
        keys=keys,
        version=endpoint.terms.version,
        sequence=delivery.sequence,
        per_second=endpoint.terms.per_second,
        tenant=endpoint.tenant,
    )


def _signing(endpoint: Endpoint, opened: Opened, now: datetime) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the secrets and the keys that sign for an endpoint `now`."""
    secrets = live(endpoint.secrets, endpoint.secrets_until, now)
    keys = live(endpoint.keys, endpoint.keys_until, now) if endpoint.terms.asymmetric else ()
    return tuple(map(opened, secrets)), tuple(map(opened, keys))


def renewed(call: WebhookCall, configuration: Configuration, opened: Opened, now: datetime) -> WebhookCall | None:
    """Return an attempt that has waited, as its endpoint is set up `now`: where it goes to, and what signs it; None
    where the endpoint is disabled or is no more."""
    endpoints = configuration.endpoints.get(call.tenant, ())
    endpoint = next((one for one in endpoints if one.id == call.endpoint), None)
    if endpoint is None:
        return None
    secrets, keys = _signing(endpoint, opened, now)
    return replace(call, url=endpoint.url, secrets=secrets, keys=keys)


def tell(tick: "Tick", delivery: Delivery, topic: str, result: AttemptResult | None) -> None:
    """Let the transaction know how its delivery stands; without a result its endpoint was deleted."""
    facts = Delivered(
        delivery=delivery.id,
        endpoint=delivery.endpoint,
        event=delivery.event,
        attempts=delivery.attempts,
        status_code=result.status if result else None,
        error=str(result.error) if result and result.error else None if result else "endpoint_deleted",
        body_digest=hashlib.sha256(delivery.body).hexdigest(),
        signature=dict(result.request_headers).get("webhook-signature", "") if result else "",
    )
    settled = DeliverySettled(delivery.intent, delivery.tenant, topic, facts)
    tick.send(tick.rules.partition_of(delivery.intent), "sync", settled)
