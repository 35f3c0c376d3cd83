"""The auditor's own book of endpoints: for how long each has failed, which were disabled and why, and who was told."""

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from zentra.bench.simulation.auditor_histories import Record
from zentra.bench.simulation.auditor_outside import Given
from zentra.bench.simulation.auditor_words import Violation
from zentra.runtime.ports import Configuration, EndpointDisabled
from zentra.runtime.webhooks.delivery import Delivery

__all__ = ["AuditedEndpoints"]

Lane = tuple[str, str]
_FAILURES_MIN: Final = 5
_GAP_MAX: Final = timedelta(hours=36)


class AuditedEndpoints:
    """What attempts have met at each endpoint since its last success, and what came of it."""

    def __init__(self) -> None:
        self._failed: dict[Lane, list[datetime]] = {}
        self._gone: dict[Lane, datetime] = {}  # by the attempts of this commit, with when the latest was begun
        self._lasted: dict[Lane, float] = {}  # seconds of nothing but failures, seen in this commit
        self._disabled: Counter[Lane] = Counter()
        self._told: Counter[Lane] = Counter()
        self._switches: set[str] = set()  # commands by which somebody had it told that they did it

    def attempted(self, made: Delivery, row: tuple[Any, ...], began: datetime, now: datetime) -> None:
        """Follow an attempt that has ended: (delivery, number, tenant, trigger, at, status, error, ...)."""
        lane, status = (made.tenant, made.endpoint), row[5]
        if status is not None and 200 <= status < 300:
            self._failed.pop(lane, None)
            return
        failed = self._failed.setdefault(lane, [])
        if failed and now - failed[-1] > _GAP_MAX:
            failed.clear()
        failed.append(now)
        if len(failed) >= _FAILURES_MIN:
            self._lasted[lane] = max(self._lasted.get(lane, 0.0), (now - failed[0]).total_seconds())
        if status == 410:
            self._gone[lane] = max(began, self._gone.get(lane, began))

    def abandoned(self, delivery: Delivery, configuration: Configuration) -> None:
        """Object where a delivery was given up without an attempt although its endpoint is still there."""
        lane = delivery.tenant, delivery.endpoint
        there = lane in configuration.endpoints_held or any(
            one.id == lane[1] for one in configuration.endpoints.get(lane[0], ())
        )
        if there:
            raise Violation("P", f"delivery {delivery.id} was given up without an attempt, and {lane} is still there")

    def disabled(
        self, rows: Mapping[Lane, EndpointDisabled], configuration: Configuration, now: datetime
    ) -> None:  # fmt: skip
        """Object where an endpoint was disabled without a cause, or was not although it said that it is gone."""
        enabled = {(tenant, one.id): one for tenant, some in configuration.endpoints.items() for one in some}
        for lane, row in rows.items():
            endpoint = enabled.get(lane)
            if endpoint is None:
                raise Violation("J", f"{lane} was disabled and is not enabled")
            after, lasted = endpoint.terms.disable_after_seconds, self._lasted.get(lane, -1.0)
            if lane not in self._gone if row.reason == "gone" else not after or lasted < after:
                raise Violation("J", f"{lane} was disabled as {row.reason} after {lasted} s of failures")
            self._failed[lane] = [at for at in self._failed.get(lane, ()) if at == now]  # what is enabled begins anew
            self._disabled[lane] += 1
        spared = {
            lane
            for lane, began in self._gone.items()
            if lane in enabled and lane not in rows and ((since := enabled[lane].since) is None or began >= since)
        }
        self._gone.clear()
        self._lasted.clear()
        if spared:
            raise Violation("J", f"{sorted(spared)} said that they are gone and are called still")

    def told(self, tenant: str, record: Record, commands: Mapping[str, Given]) -> None:
        """Follow a record that tells of an endpoint that was disabled or enabled: by the runtime, or by somebody."""
        lane = tenant, record.facts["endpoint"]
        by = record.facts.get("by")
        if by is not None or record.event != "webhook.endpoint_disabled":
            given = commands.get(record.cause)
            said = {} if given is None or given.kind != "tell_of_endpoint" else json.loads(given.body)
            if given is None or said.get("endpoint") != lane[1] or {by, record.actor} != {given.principal}:
                raise Violation("P", f"it was told that {by} did {record.event} to {lane}, which nobody has said")
            if said["enabled"] is not (record.event == "webhook.endpoint_enabled") or record.cause in self._switches:
                raise Violation("P", f"{record.event} of {lane} is told again, or the other way round")
            self._switches.add(record.cause)
            return
        self._told[lane] += 1
        if self._told[lane] > self._disabled[lane]:
            raise Violation("P", f"it was told that {lane} was disabled once more than it was")

    def finish(self, commands: Mapping[str, Given]) -> None:
        """Object where nobody was told that an endpoint was disabled, or what somebody did to it."""
        silent = {key for key, given in commands.items() if given.kind == "tell_of_endpoint"} - self._switches
        if silent:
            raise Violation("P", f"what the commands {sorted(silent)[:3]} did to endpoints was not told of")
        if self._told != self._disabled:
            raise Violation("P", f"told of as disabled {dict(self._told)}, disabled {dict(self._disabled)}")
