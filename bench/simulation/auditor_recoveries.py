"""The auditor's own book of recoveries: who has asked for one, what it may make, and that it leaves nothing out."""

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from zentra.bench.simulation.auditor_histories import History
from zentra.bench.simulation.auditor_outside import Given
from zentra.bench.simulation.auditor_words import Violation, matches_filter
from zentra.runtime.ports import Endpoint
from zentra.runtime.webhooks.recovery import Recovery

__all__ = ["OF_ENDPOINTS", "AuditedRecoveries", "Place", "untold"]

Place = tuple[str, str, int]
"""An endpoint, an intent, and the version that it is told of."""
_UNTOLD: Final = ("webhook.", "money_runtime.", "evidence.", "review.closed", "ingress.")
OF_ENDPOINTS: Final = ("webhook.endpoint_disabled", "webhook.endpoint_enabled")
_COUNTS: Final = ("found", "replayed", "made", "skipped")


def untold(event: str) -> bool:
    """Return whether no endpoint ever hears of an event."""
    return event.startswith(_UNTOLD) and event not in OF_ENDPOINTS


class AuditedRecoveries:
    """Every recovery, as it stands, and the deliveries that had been given up when it began."""

    def __init__(self) -> None:
        self.given_up: dict[str, set[str]] = {}  # by recovery: what it has still to start anew
        self._stands: dict[str, Recovery] = {}

    def started(self, delivery: str) -> None:
        """Note that a delivery moves again."""
        for waiting in self.given_up.values():
            waiting.discard(delivery)

    def wrote(
        self,
        written: Iterable[Recovery],
        commands: Mapping[str, Given],
        given_up: Mapping[str, tuple[str, datetime]],
        now: datetime,
    ) -> None:
        """Object to a recovery that nobody has asked for, or that goes back. `given_up` are the deliveries that stand
        so before this commit, each with its endpoint and when it was made."""
        for recovery in written:
            before = self._stands.get(recovery.id)
            if before is None:
                self._begins(recovery, commands, now)
                wanted = recovery.which in ("failed", "undelivered") and not recovery.events and not recovery.dry_run
                self.given_up[recovery.id] = {
                    key
                    for key, (endpoint, made) in given_up.items()
                    if wanted and endpoint == recovery.endpoint and recovery.since <= made < recovery.before
                }
            elif before.status != "running" or any(getattr(recovery, c) < getattr(before, c) for c in _COUNTS):
                raise Violation("J", f"recovery {recovery.id} was {before} and is {recovery}")
            if recovery.dry_run and (recovery.made or recovery.replayed):
                raise Violation("F", f"recovery {recovery.id} was to count, and has sent something")
            self._stands[recovery.id] = recovery

    def _begins(self, recovery: Recovery, commands: Mapping[str, Given], now: datetime) -> None:
        given = commands.get(recovery.id)
        if given is None or given.kind != "recover_deliveries":
            raise Violation("O", f"nobody has asked for recovery {recovery.id}")
        lane = recovery.tenant, recovery.endpoint
        if any(one.status == "running" and (one.tenant, one.endpoint) == lane for one in self._stands.values()):
            raise Violation("J", f"recovery {recovery.id} begins while another one of {lane} is under way")
        body = json.loads(given.body)
        limit = datetime.fromisoformat(body["before"]) if body.get("before") else now
        asked: dict[str, Any] = {
            "tenant": given.tenant, "endpoint": given.subject, "principal": given.principal, "which": body["which"],
            "since": datetime.fromisoformat(body["since"]), "before": min(limit, now),
            "events": tuple(body.get("events", ())), "dry_run": body.get("dry_run", False),
        }  # fmt: skip
        for name, value in asked.items():
            if getattr(recovery, name) != value:
                raise Violation("H", f"recovery {recovery.id} has {name} {getattr(recovery, name)}, not {value}")

    def lets(self, place: Place, history: History, written: Collection[Recovery]) -> bool:
        """Return whether a recovery of this commit may make this delivery."""
        endpoint, _, sequence = place
        if not 0 < sequence <= len(history.records):
            return False
        record = json.loads(history.records[sequence - 1])
        at = datetime.fromisoformat(record["at"])
        return any(
            recovery.endpoint == endpoint
            and recovery.tenant == history.tenant
            and recovery.which in ("missing", "undelivered")
            and not recovery.dry_run
            and recovery.since <= at < recovery.before
            and (not recovery.events or matches_filter(recovery.events, record["event"]))
            for recovery in written
        )

    def ended(
        self,
        written: Iterable[Recovery],
        places: Collection[Place],
        histories: Iterable[History],
        endpoints: Mapping[str, Collection[Endpoint]],
    ) -> None:
        """Object where a recovery is done and something is missing that it was asked for."""
        for recovery in written:
            if recovery.status != "done" or recovery.dry_run:
                continue
            left = self.given_up.pop(recovery.id, set())
            if left and not recovery.skipped:
                raise Violation("P", f"recovery {recovery.id} is done and has left {sorted(left)[:3]}")
            if recovery.which in ("failed", "any"):
                continue
            endpoint = next(e for e in endpoints[recovery.tenant] if e.id == recovery.endpoint)
            for place in _due(recovery, endpoint, histories):
                if place not in places:
                    raise Violation("P", f"recovery {recovery.id} is done and nobody is told of {place}")


def _due(recovery: Recovery, endpoint: Endpoint, histories: Iterable[History]) -> Iterable[Place]:
    for history in histories:
        if history.tenant != recovery.tenant or "events" not in history.command["primitives"]:
            continue
        for number, data in enumerate(history.records, 1):
            record = json.loads(data)
            wanted = matches_filter(endpoint.events, record["event"]) and not untold(record["event"])
            if not wanted or (recovery.events and not matches_filter(recovery.events, record["event"])):
                continue
            if recovery.since <= datetime.fromisoformat(record["at"]) < recovery.before:
                yield endpoint.id, history.id, number
