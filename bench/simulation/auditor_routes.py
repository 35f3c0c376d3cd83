"""What the auditor knows of routing: each decision is made again from its own record and from what is configured.

Its arithmetic is its own: which corridor fits, which rails rest, what each costs, whose lot it is. What no one else can
know, how a rail's circuit stood, it takes from the record and holds the choice to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import msgspec

from zentra.bench.simulation.auditor_histories import History, Record
from zentra.bench.simulation.auditor_words import FAILED, ROUTING, Violation
from zentra.runtime.ports import Configuration
from zentra.runtime.rails.operating import RailOperation
from zentra.runtime.rails.routing import Corridor, RailRoute

__all__ = ["AuditedRoutes"]

_FREE: Final = ("chosen", "not_needed")
_BY_HEALTH: Final = ("circuit_open", "no_capacity")
_PASSING: Final = ("draining", "maintenance", *_BY_HEALTH)


class AuditedRoutes:
    """Every decision on a rail: chosen, waited for, given up."""

    def __init__(self) -> None:
        self._awaited: set[str] = set()

    def moved(self, history: History, record: Record, configuration: Configuration, now: datetime) -> None:
        """Follow a record. Raises Violation where a rail was chosen, waited for or given up against the rules."""
        if record.event in ("provider.routed", "provider.failover", "provider.awaited"):
            self._decided(history, record, configuration, now)
        elif record.event == "ledger.released" and (history.before, history.state) == (ROUTING, FAILED):
            self._given_up(history, record, configuration, now)

    def _decided(self, history: History, record: Record, configuration: Configuration, now: datetime) -> None:
        where, facts = f"{history.id}/{record.sequence} ({record.event})", record.facts
        corridor = _fitting(configuration.corridors.get(history.tenant, ()), history.command)
        if corridor is None or corridor.name != facts["corridor"]:
            raise Violation("R", f"{where} goes by corridor {facts['corridor']}, which does not carry it")
        if facts.get("version", 0) != corridor.version:
            raise Violation("R", f"{where} names version {facts.get('version')}, {corridor.version} was in force")
        weighed = {row["rail"]: row for row in facts.get("weighed", ())}
        if corridor.version and list(weighed) != [route.rail for route in corridor.routes]:
            raise Violation("R", f"{where} does not say what it weighed: {sorted(weighed)}")
        before = history.attempts if record.event == "provider.awaited" else history.attempts[:-1]
        tried = [attempt.rail for attempt in before if not attempt.unsent]
        words = facts["considered"]
        if words.keys() != {*tried, *(route.rail for route in _routes(corridor))}:
            raise Violation("R", f"{where} has words for {sorted(words)}, {tried} were tried before")
        if left := [rail for rail in tried if words[rail] != "not_accepted"]:
            raise Violation("N", f"{where} leaves {left}, which are {[words[rail] for rail in left]}")
        for route in _routes(corridor):
            word = words[route.rail]
            row = weighed.get(route.rail) or _unweighed(route, word)
            due = self._word(route, tried, configuration, history.command, now)
            circuit = row.get("circuit", "closed")
            if row["word"] != word or not (word == due or (due == "free" and word in (*_FREE, *_BY_HEALTH))):
                raise Violation("R", f"{where} says {word} of rail {route.rail}, which is {due}")
            if word == "chosen" and circuit == "open":
                raise Violation("R", f"{where} chooses rail {route.rail}, whose circuit is open")
            if word == "circuit_open" and circuit == "closed":
                raise Violation("R", f"{where} leaves out rail {route.rail}, whose circuit is closed")
            told = (row["priority"], row["weight"], int(row["cost"]))
            if told != (route.priority, route.weight, _cost(route, history.amount)):
                raise Violation("R", f"{where} weighs rail {route.rail} as {told}")
        free = [route for route in _routes(corridor) if words[route.rail] in _FREE]
        if record.event == "provider.awaited":
            self._waits(history, record, corridor, words, free)
            return
        lot = f"{history.id}/{len(set(tried))}"
        due = _drawn(corridor, free, history.amount, lot) if free else ""
        if facts["rail"] != due or [rail for rail, word in words.items() if word == "chosen"] != [due]:
            raise Violation("R", f"{where} chooses rail {facts['rail']}, and {due} is to be asked")

    def _word(
        self, route: Any, tried: Sequence[str], configuration: Configuration, command: Mapping[str, Any], now: datetime
    ) -> str:
        minor, country = int(command["minor"]), command["country"]
        if route.rail in tried:
            return "not_accepted"
        if route.rail not in configuration.rails:
            return "unavailable"
        if minor < route.minor_min or (route.minor_max is not None and route.minor_max < minor):
            return "amount_mismatch"
        if len(route.countries) and country not in route.countries:
            return "country_mismatch"
        return _resting(configuration.operations.get(route.rail), now) or "free"

    def _waits(
        self, history: History, record: Record, corridor: Corridor, words: Mapping[str, str], free: Sequence[Any]
    ) -> None:
        where = f"{history.id}/{record.sequence} ({record.event})"
        if free or not set(words.values()) & set(_PASSING):
            raise Violation("R", f"{where} waits, and its rails are {words}")
        if history.id in self._awaited:
            raise Violation("R", f"{where} tells of its waiting once more")
        self._awaited.add(history.id)
        until = datetime.fromisoformat(record.facts["until"])
        if until != _since(history) + timedelta(seconds=corridor.wait_seconds):
            raise Violation("R", f"{where} waits until {until}")

    def _given_up(self, history: History, record: Record, configuration: Configuration, now: datetime) -> None:
        where, reason = f"{history.id}/{record.sequence} ({record.event})", record.facts["reason"]
        corridor = _fitting(configuration.corridors.get(history.tenant, ()), history.command)
        if reason == "no_corridor" and corridor is not None:
            raise Violation("R", f"{where} finds no corridor, and {corridor.name} carries it")
        if reason not in ("no_rail_now", "no_rail_left"):
            return
        if corridor is None:
            raise Violation("R", f"{where} finds no rail of no corridor")
        words = {route.rail: self._word(route, (), configuration, history.command, now) for route in _routes(corridor)}
        due = set(words.values())
        if reason == "no_rail_now" and history.moment < _since(history) + timedelta(seconds=corridor.wait_seconds):
            raise Violation("T", f"{where} gives up before its time")
        if reason == "no_rail_left" and due & {"free", "draining", "maintenance"}:
            raise Violation("R", f"{where} gives up, and its rails are {sorted(due)}")
        told = record.facts.get("unchosen", {}).get("considered", {})
        for rail, word in words.items():
            if told.get(rail) != word and not (word == "free" and told.get(rail) in _BY_HEALTH):
                raise Violation("R", f"{where} says {told.get(rail)} of rail {rail}, which is {word}")


def _resting(operation: RailOperation | None, now: datetime) -> str:
    if operation is None:
        return ""
    if operation.draining:
        return "draining"
    inside = [one for one in operation.maintenance if one.from_ <= now and not one.until <= now]
    return "maintenance" if inside else ""


def _since(history: History) -> datetime:
    """Return when a rail was begun to be looked for: with the reserve."""
    records = map(msgspec.json.decode, history.records)
    return datetime.fromisoformat(next(record["at"] for record in records if record["event"] == "ledger.reserved"))


def _fitting(corridors: Sequence[Corridor], command: Mapping[str, Any]) -> Corridor | None:
    minor, country = int(command["minor"]), command["country"]
    fitting = [
        (one.country is None, one.name, one)
        for one in corridors
        if (one.currency, one.kind) == (command["currency"], command["kind"])
        and one.country in (None, country)
        and one.minor_min <= minor <= (minor if one.minor_max is None else one.minor_max)
    ]
    return min(fitting, key=lambda row: row[:2])[2] if fitting else None


def _routes(corridor: Corridor) -> Sequence[Any]:
    """Return what a corridor says of its rails; one without a document only names them, in order."""
    if corridor.version:
        return corridor.routes
    return [RailRoute(rail, priority=place + 1) for place, rail in enumerate(corridor.rails)]


def _unweighed(route: Any, word: str) -> Mapping[str, Any]:
    """Return the row of a rail that a corridor without a document names, where nothing was told of its health."""
    return {"word": word, "priority": route.priority, "weight": 1, "cost": "0"}


def _cost(route: Any, minor: int) -> int:
    return int(route.cost_minor) + (minor * int(route.cost_bps)) // 10**4


def _drawn(corridor: Corridor, free: Sequence[Any], minor: int, lot: str) -> str:
    """Return the rail that is to be asked: each has its stretch of a line, and the lot is a point on it."""
    rest = [route for route in free if route.priority == min(one.priority for one in free)]
    if corridor.prefer == "cost":
        rest = [route for route in rest if _cost(route, minor) == min(_cost(one, minor) for one in rest)]
    line = [route.rail for route in rest for _ in range(route.weight)]
    if not line:
        return str(rest[0].rail)
    return str(line[int(sha256(lot.encode()).hexdigest()[:16], 16) % len(line)])
