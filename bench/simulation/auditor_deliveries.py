"""The auditor's own book of webhook deliveries: who is to hear of what, in which order, and what was called."""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from zentra.bench.simulation.auditor_endpoints import AuditedEndpoints
from zentra.bench.simulation.auditor_histories import History, Record
from zentra.bench.simulation.auditor_outside import Given
from zentra.bench.simulation.auditor_recoveries import OF_ENDPOINTS, AuditedRecoveries, Place, untold
from zentra.bench.simulation.auditor_words import Violation, matches_filter
from zentra.bench.twins.store import StoreTwin
from zentra.runtime.ports import Configuration, Endpoint, TickWrites
from zentra.runtime.webhooks.delivery import Delivery
from zentra.runtime.webhooks.recovery import Recovery
from zentra.runtime.webhooks.standard import WebhookCall

__all__ = ["AuditedDeliveries"]

_ENDED: Final = ("delivered", "exhausted")


class AuditedDeliveries:
    """Every delivery that was made, and how it stands."""

    def __init__(self) -> None:
        self._made: dict[str, Delivery] = {}
        self.places: set[Place] = set()
        self.recoveries = AuditedRecoveries()
        self._made_at: dict[str, datetime] = {}
        self._stands: dict[str, tuple[str, int]] = {}  # state, attempts
        self._attempts: set[tuple[str, int]] = set()
        self._due: set[Place] = set()
        self._began: dict[str, datetime] = {}  # when the last attempt was committed as started
        self._numbers: dict[str, int] = {}
        self._open: dict[tuple[str, str], dict[str, int]] = {}  # by endpoint: what has not ended, with its number
        self.endpoints = AuditedEndpoints()

    def moved(
        self, history: History, record: Record, endpoints: Collection[Endpoint], commands: Mapping[str, Given]
    ) -> None:
        """Note who is to hear of a record."""
        if record.event in OF_ENDPOINTS:
            self.endpoints.told(history.tenant, record, commands)
        elif untold(record.event):
            return
        if "events" not in history.command["primitives"]:
            return
        for endpoint in endpoints:
            if matches_filter(endpoint.events, record.event):
                self._due.add((endpoint.id, history.id, record.sequence))

    def recovered(self, written: Collection[Recovery], commands: Mapping[str, Given], now: datetime) -> None:
        """Follow the recoveries of a commit, before what it has made."""
        given_up = {
            key: (self._made[key].endpoint, self._made_at[key])
            for key, (state, _) in (self._stands.items() if written else ())
            if state == "exhausted"
        }
        self.recoveries.wrote(written, commands, given_up, now)

    def wrote(
        self,
        made: Collection[tuple[Delivery, int]],
        histories: Mapping[str, History],
        recoveries: Collection[Recovery],
        now: datetime,
    ) -> None:
        """Object where a commit has not made exactly the deliveries that are due, or that a recovery finds."""
        due, self._due = self._due, set()
        for delivery, sequence in made:
            place = delivery.endpoint, delivery.intent, sequence
            where = f"the delivery of {delivery.intent}/{sequence} to {delivery.endpoint}"
            if delivery.tenant != histories[delivery.intent].tenant:
                raise Violation("M", f"{where} is of {delivery.tenant}")
            if place in self.places or delivery.id in self._made:
                raise Violation("P", f"{where} is made twice")
            late = place not in due
            if late and not self.recoveries.lets(place, histories[delivery.intent], recoveries):
                raise Violation("P", f"{where} is one that nobody asked for")
            body = json.loads(delivery.body)
            told = body["type"], body["data"]["id"], body["data"]["object_version"]
            if told != (delivery.event, delivery.intent, sequence):
                raise Violation("P", f"{where} tells of {told}")
            if body["data"]["status"] != json.loads(histories[delivery.intent].records[sequence - 1])["to"]:
                raise Violation("P", f"{where} tells of {body['data']['status']}")
            due.discard(place)
            self.places.add(place)
            self._made_at[delivery.id] = now
            self._made[delivery.id] = Delivery(
                id=delivery.id, tenant=delivery.tenant, endpoint=delivery.endpoint, intent=delivery.intent,
                event=delivery.event, body=delivery.body,
            )  # fmt: skip
        if due:
            raise Violation("P", f"nobody is told of what {sorted(due)[:3]} asked for")

    def stand(self, writes: TickWrites, configuration: Configuration, now: datetime) -> None:
        """Follow how deliveries stand after a commit that was decided on this configuration."""
        for key in writes.deliveries_begun:
            if key not in self._made or key in self._stands:
                raise Violation("O", f"delivery {key} begins without having been made, or twice")
            self._stands[key] = ("pending", 0)
        self._number(writes)
        for row in writes.delivery_attempts:
            if row[:2] in self._attempts or row[1] > self._stands[row[0]][1]:
                raise Violation("G", f"attempt {row[1]} of delivery {row[0]} was never started, or has ended twice")
            self._attempts.add((row[0], row[1]))
            self.endpoints.attempted(self._made[row[0]], row, self._began[row[0]], now)
        taken = {row[0]: row[1] for row in writes.delivery_attempts if 200 <= (row[5] or 0) < 300}
        begins = {}
        for key, (delivery, _) in writes.delivery_states.items():
            before, started = self._stands.get(key, ("", 0))
            if delivery.state == "delivered" != before and taken.get(key, 0) <= delivery.attempts - delivery.tries:
                raise Violation("J", f"delivery {key} is delivered without an attempt that was taken")
            self._follow(key, delivery)
            if delivery.state == "delivering" and delivery.attempts > started:
                begins[key] = before
            elif delivery.state == "exhausted" and delivery.attempts > started:
                self.endpoints.abandoned(delivery, configuration)
        self._began |= dict.fromkeys(begins, now)
        self._in_order(begins, configuration)
        self.endpoints.disabled(writes.endpoints_disabled, configuration, now)
        for lane, stands in writes.lanes.items():
            if stands.sequence != self._numbers.get("/".join(lane), 0):
                raise Violation("P", f"the lane of {lane} says that {stands.sequence} was its last number")

    def _number(self, writes: TickWrites) -> None:
        """Object where what begins does not have the next numbers of its endpoint."""
        begun = [writes.delivery_states[key][0] for key in writes.deliveries_begun if key in writes.delivery_states]
        for delivery in sorted(begun, key=lambda one: one.sequence):
            lane = self._made[delivery.id].tenant, self._made[delivery.id].endpoint
            number = self._numbers.get("/".join(lane), 0) + 1
            if delivery.sequence != number:
                raise Violation("P", f"delivery {delivery.id} is number {delivery.sequence} of {lane}, not {number}")
            self._numbers["/".join(lane)] = number
            self._open.setdefault(lane, {})[delivery.id] = number

    def _follow(self, key: str, delivery: Delivery) -> None:
        before, started = self._stands.get(key, ("", 0))
        if not before:
            raise Violation("O", f"delivery {key} is {delivery.state} and has not begun")
        replayed = delivery.trigger != "automatic"
        self.recoveries.started(key)
        if before in _ENDED and delivery.state != before and not replayed:
            raise Violation("J", f"delivery {key} has ended {before} and is {delivery.state}")
        if delivery.attempts < started:
            raise Violation("P", f"delivery {key} goes back from attempt {started} to {delivery.attempts}")
        self._stands[key] = (str(delivery.state), delivery.attempts)
        made = self._made[key]
        still = self._open.setdefault((made.tenant, made.endpoint), {})
        if delivery.state in _ENDED:
            still.pop(key, None)
        else:
            still[key] = delivery.sequence

    def _in_order(self, begins: Mapping[str, str], configuration: Configuration) -> None:
        """Object to attempts that an endpoint does not want: while it is disabled, too many at once, out of order."""
        started: Counter[tuple[str, str]] = Counter()
        for key in begins:
            made = self._made[key]
            lane = made.tenant, made.endpoint
            endpoint = next((e for e in configuration.endpoints.get(made.tenant, ()) if e.id == made.endpoint), None)
            if endpoint is None:
                raise Violation("J", f"delivery {key} was begun for {lane}, which is not enabled")
            started[lane] += 1
            terms = endpoint.terms
            if terms.concurrency and started[lane] > terms.concurrency:
                raise Violation("J", f"{started[lane]} attempts were begun at once for {lane}")
            if not terms.fifo:
                continue
            mine = self._open[lane][key]
            for other, number in self._open[lane].items():
                if number < mine:
                    state = self._stands[other][0]
                    raise Violation("P", f"number {mine} of {lane} was begun while {number} is {state}")

    def called(self, tenant: str, endpoint: str, call: WebhookCall) -> None:
        """Follow one call: it needs an attempt that was committed as started, and bytes that never change."""
        made = self._made.get(call.delivery)
        where = f"delivery {call.delivery}, attempt {call.attempt}"
        if made is None or call.attempt > self._stands.get(call.delivery, ("", 0))[1]:
            raise Violation("O", f"{where} was called and never committed as started")
        if (tenant, endpoint) != (made.tenant, made.endpoint):
            raise Violation("M", f"{where} of {made.tenant} {made.endpoint} went to {tenant} {endpoint}")
        if (call.id, call.body) != (f"msg_{made.id}", made.body):
            raise Violation("P", f"{where} went out with other bytes or another id")

    def rebuild(self, store: StoreTwin) -> None:
        """Object where the stored deliveries are not those that were committed."""
        rows = store.rows
        if {key: row.body for key, row in rows.deliveries.items()} != {k: made.body for k, made in self._made.items()}:
            raise Violation("P", "the stored deliveries are not those that were committed")
        stored = {key: (str(row.state), row.attempts) for key, row in rows.delivery_states.items()}
        if stored != self._stands or rows.delivery_attempts.keys() != self._attempts:
            raise Violation("P", "the stored states or attempts of deliveries are not those that were committed")

    def finish(self, held: Collection[tuple[str, str]], commands: Mapping[str, Given]) -> None:
        """Object where a delivery has not ended: none is lost, whatever was disabled in between. What is for an
        endpoint that is disabled in the end is kept."""
        for key, made in self._made.items():
            if self._stands.get(key, ("", 0))[0] not in _ENDED and (made.tenant, made.endpoint) not in held:
                raise Violation("T", f"delivery {key} has not ended: {self._stands.get(key)}")
        self.endpoints.finish(commands)
