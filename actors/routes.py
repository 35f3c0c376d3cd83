"""Choosing rails: the stage that finds a corridor, and the attempt that it starts.

An intent whose corridor has rails, but none that can be asked now (circuits are open, rails are in maintenance or
full), waits: a record says so once, and it looks again every AGAIN_SECONDS. After the corridor's time it gives up, and
since nothing was sent the hold is released. A rail that did not accept is left only for one that can be asked at once.
Where no rail is left, the record of the refusal or of the release says what was known of each.

Every decision keeps what it was made by, so it can be made again from its record."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from msgspec import UNSET

from zentra.actors import ledgering
from zentra.actors.tick import Input, Tick
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.transaction import Transaction, timestamp
from zentra.runtime.intents.vocabulary import Fact, State
from zentra.runtime.messages import Due
from zentra.runtime.rails import routing

__all__ = ["AGAIN_SECONDS", "looks_again_at", "route", "try_next_rail", "word_against"]

AGAIN_SECONDS: Final = 2.0
_NOTHING: Final[Mapping[str, str]] = {}


def route(tick: Tick, at: Input, event: Due) -> None:
    """Choose a corridor and a rail of it; the attempt is committed as started before anything is sent."""
    tx = tick.arrived(event)
    if tx is None or tx.state is not State.ROUTING:
        return
    corridor = routing.find_corridor(tick.configuration.corridors.get(tx.tenant, ()), tx.command)
    if corridor is None:
        ledgering.release(tick, at, tx, Fact.UNROUTABLE, "no_corridor", actor="svc_routes")
        return
    choice = _chosen(tick, tx, corridor)
    if choice.rail is not None:
        _start(tick, at, tx, corridor, choice, Fact.ROUTED)
        return
    until = (tx.routing_at or tx.at) + timedelta(seconds=corridor.wait_seconds)
    if choice.reason == routing.NO_RAIL_NOW and max(tick.now, tx.at) < until:
        _wait(tick, at, tx, corridor, choice, until)
    else:
        unchosen = _unchosen(tick, tx, corridor, choice)
        ledgering.release(tick, at, tx, Fact.UNROUTABLE, choice.reason, actor="svc_routes", unchosen=unchosen)


def try_next_rail(tick: Tick, at: Input, tx: Transaction, told: f.Reported, cause: str) -> f.Unchosen | None:
    """Start an attempt on the next rail after one that did not accept, and record before it what that one has `told`;
    where none can be asked now, return why."""
    corridor = routing.find_corridor(tick.configuration.corridors.get(tx.tenant, ()), tx.command)
    if corridor is None:
        return f.Unchosen("", "no_corridor", {one.rail: one.status for one in tx.attempts})
    choice = _chosen(tick, tx, corridor)
    if choice.rail is not None:
        tick.move(tx, Fact.RAIL_NOTED, told, at, actor="svc_routes", cause=cause)
        _start(tick, at, tx, corridor, choice, Fact.FAILED_OVER)
        return None
    return _unchosen(tick, tx, corridor, choice)


def _unchosen(tick: Tick, tx: Transaction, corridor: routing.Corridor, choice: routing.Choice) -> f.Unchosen:
    weighed = _weighed(tick, tx, corridor, choice)
    return f.Unchosen(corridor.name, choice.reason, choice.considered, corridor.version or UNSET, weighed)


def looks_again_at(tick: Tick, tx: Transaction, reason: str) -> datetime | None:
    """Return when a rail is looked for again for what no attempt has sent, `reason` being why none is asked now; None
    where that is of no use, or has lasted as long as it may."""
    corridor = routing.find_corridor(tick.configuration.corridors.get(tx.tenant, ()), tx.command)
    if corridor is None or reason != routing.NO_RAIL_NOW:
        return None
    until = (tx.routing_at or tx.at) + timedelta(seconds=corridor.wait_seconds)
    return None if max(tick.now, tx.at) >= until else min(until, tick.now + timedelta(seconds=AGAIN_SECONDS))


def _chosen(tick: Tick, tx: Transaction, corridor: routing.Corridor) -> routing.Choice:
    command = tx.command
    return routing.choose(
        corridor, tx.attempts, tick.configuration.rails, intent=tx.id, minor=command.amount, country=command.country,
        blocked=_blocked(tick, corridor),
    )  # fmt: skip


def _blocked(tick: Tick, corridor: routing.Corridor) -> Mapping[str, str]:
    """Return the rails of a corridor that are not asked now, each with the reason."""
    if not tick.standings and not tick.configuration.operations and not tick.rooms:
        return _NOTHING
    return {rail: word for rail in corridor.rails if (word := word_against(tick, rail))}


def word_against(tick: Tick, rail: str) -> str:
    """Return why nothing more is submitted to a rail now, one of `routing.NOT_NOW`; "" where something may be. What
    this tick submits counts."""
    word = tick.resting(rail)
    if word:
        return word
    standing, room = tick.standings.get(rail), tick.rooms.get(rail)
    if standing is not None and tick.chosen[rail] >= standing.probes:
        return standing.blocked
    return "no_capacity" if room is not None and tick.chosen[rail] >= room else ""


def _deadline(tick: Tick, tx: Transaction, seconds: float) -> str:
    """Return the time that many seconds after the record that is made now: its time is never before the last one's."""
    return tick.deadline(seconds) if tx.at <= tick.now else timestamp(tx.at + timedelta(seconds=seconds))


def _start(
    tick: Tick, at: Input, tx: Transaction, corridor: routing.Corridor, choice: routing.Choice, fact: Fact
) -> None:
    rail = choice.rail
    assert rail is not None
    number = len(tx.attempts) + 1
    facts = f.Routed(
        corridor=corridor.name,
        rail=rail,
        attempt=number,
        reference=routing.reference_of(tx.id, number),
        deadline=_deadline(tick, tx, tick.configuration.rails[rail].deadline_seconds),
        considered=choice.considered,
        reason=choice.reason,
        version=corridor.version or UNSET,
        weighed=_weighed(tick, tx, corridor, choice) if corridor.version or tick.standings else UNSET,
        unsent=True if tx.attempts and tx.attempts[-1].unsent else UNSET,
    )
    tick.move(tx, fact, facts, at, actor="svc_routes")
    tx.resubmitted = False


def _wait(
    tick: Tick, at: Input, tx: Transaction, corridor: routing.Corridor, choice: routing.Choice, until: datetime
) -> None:
    if not tx.awaits_rail:
        facts = f.Unrouted(
            corridor.name, timestamp(until), choice.reason, choice.considered, corridor.version or UNSET,
            _weighed(tick, tx, corridor, choice),
        )  # fmt: skip
        tick.move(tx, Fact.ROUTE_AWAITED, facts, at, actor="svc_routes")  # the move asks for the route once more
        return
    tx.retry_at = min(until, tick.now + timedelta(seconds=AGAIN_SECONDS))
    tick.rearm(tx, at.partition, tx.retry_at)


def _weighed(tick: Tick, tx: Transaction, corridor: routing.Corridor, choice: routing.Choice) -> tuple[f.Weighed, ...]:
    """Return what the choice was made by, rail by rail."""
    minor, standings = tx.command.amount, tick.standings
    weighed = []
    for route_ in routing.routes_of(corridor):
        word, standing = choice.considered[route_.rail], standings.get(route_.rail)
        cost = str(routing.cost_of(route_, minor))
        if standing is None:
            weighed.append(f.Weighed(route_.rail, word, route_.priority, route_.weight, cost))
        else:
            counts = standing.counts
            weighed.append(
                f.Weighed(
                    route_.rail, word, route_.priority, route_.weight, cost, str(standing.circuit), counts.calls,
                    counts.bad,
                )
            )  # fmt: skip
    return tuple(weighed)
