"""`zentra routes`: a tenant's corridors from draft to force and back, and why an intent went where it went; and what
operators say of rails: drained, in maintenance, and how they do.

Exit code 1 where a decision does not come out the same again, or a document is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import typer

from zentra.gateway.cli.support import (
    BY,
    JSON_OPTION,
    TENANT,
    ExitCode,
    found,
    json_of,
    pooled,
    say,
    say_json,
    settings,
    table,
    utc,
)
from zentra.gateway.cli.versions import FILE, VersionCommands, spelled
from zentra.gateway.settings import SettingsError

if TYPE_CHECKING:
    from zentra.runtime.rails.explaining import RouteDecision, RouteShown
    from zentra.storage.versions import Shelf

__all__ = ["add_rail_operations", "add_routes"]

RAIL: Final = typer.Argument(metavar="RAIL", help="The rail's name; see: zentra rails list")

routes_app = typer.Typer(
    help="A tenant's corridors: draft, check, validate, promote, roll back; and why an intent went by a rail.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def add_routes(app: typer.Typer) -> None:
    """Add the group of commands to `app`."""
    app.add_typer(routes_app, name="routes")


def _shelf() -> Shelf:
    from zentra.storage.routes import ROUTES

    return ROUTES


VersionCommands("routes", _shelf, "no corridors: its transfers find no rail").add(
    routes_app,
    """Write the next version of a tenant's corridors, as a draft; see docs/routing.md.

    \b
    Example, from what is in force now:
      zentra routes show acme 1 --json | jq .document > routes.json
      zentra routes draft acme --file routes.json --by ada
      zentra routes validate acme 2 --by ada
      zentra routes promote acme 2 --by grace
    """,
)


@routes_app.command("check")
def check(tenant: str = TENANT, file: Path = FILE, as_json: bool = JSON_OPTION) -> None:
    """Say what is wrong with a document, and store nothing: zentra routes check acme --file routes.json

    \b
    Exit code 1 where something is.
    """
    from zentra.storage.routes import check_routes

    document = json_of(file)
    violations = pooled(lambda pool: check_routes(pool, tenant, document))
    if as_json:
        say_json({"violations": violations})
    elif not violations:
        say(f"the document is sound: {len(document.get('corridors', ()))} corridors")
    else:
        say(*(f"  {one}" for one in spelled(violations)))
    if violations:
        raise typer.Exit(ExitCode.REFUSED)


@routes_app.command("explain")
def explain(
    tenant: str = TENANT,
    intent: str = typer.Argument(metavar="INTENT", help="Its intent_id, or its id."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show why an intent went by its rail, and make each decision again: zentra routes explain acme payout-17

    \b
    Exit code 1 where a decision does not come out the same.
    """
    from zentra.gateway.routing import route_of

    route = found(pooled(lambda pool: route_of(pool, tenant, intent)), f"{tenant} has no intent {intent!r}")
    if as_json:
        say_json(route)
    else:
        _say_route(route)
    if any(one.same is False for one in route.decisions):
        raise typer.Exit(ExitCode.REFUSED)


def _say_route(route: RouteShown) -> None:
    say(f"{route.intent_id} is {route.status}")
    for decision in route.decisions:
        _say_decision(decision)
    if route.attempts:
        say("", "attempts:")
        columns = ("attempt", "rail", "outcome", "started_at", "ended_at", "reference")
        table([msgspec.to_builtins(one) for one in route.attempts], columns, "")
    elif not route.decisions:
        say("no rail was looked for")
    if route.ended is not None:
        say(f"the hold was released: {route.ended}")


def _say_decision(decision: RouteDecision) -> None:
    version = f"version {decision.version}" if decision.version else "no version"
    chose = f"chose {decision.rail}" if decision.rail else f"waits until {decision.until}"
    say("", f"{decision.at}  {decision.event}: {chose} ({decision.reason}), corridor {decision.corridor}, {version}")
    rows = [{**msgspec.to_builtins(one), "why": one.means} for one in decision.rails]
    table(rows, ("rail", "word", "priority", "weight", "cost", "circuit", "why"), "")
    others = ", ".join(f"{one.name}: {one.word}" for one in decision.corridors if one.word != "chosen")
    if others:
        say(f"other corridors: {others}")
    if decision.same is not None:
        say(f"same answer: {'yes' if decision.same else 'NO'}")


def add_rail_operations(rails: typer.Typer) -> None:
    """Add to `zentra rails` what operators say of a rail, and how rails do."""
    rails.command("drain")(drain)
    rails.command("resume")(resume)
    rails.command("maintain")(maintain)
    rails.command("health")(health)


def drain(
    rail: str = RAIL, reason: str = typer.Option("", help="Why, for the record."), by: str = BY,
    as_json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """Send nothing new to a rail; what was sent is polled as ever: zentra rails drain sandbox_a --reason migration"""
    _drain(rail, True, reason, by, as_json)


def resume(
    rail: str = RAIL, reason: str = typer.Option("", help="Why, for the record."), by: str = BY,
    as_json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """Send to a drained rail again: zentra rails resume sandbox_a"""
    _drain(rail, False, reason, by, as_json)


def maintain(
    rail: str = RAIL,
    since: datetime | None = typer.Option(None, "--from", help="From this time on (UTC); now by default."),
    until: datetime | None = typer.Option(None, "--until", help="Before this time (UTC)."),
    reason: str = typer.Option("", help="Why, for the record."),
    lift: bool = typer.Option(False, help="Take back every window that was planned."),
    by: str = BY,
    as_json: bool = JSON_OPTION,
) -> None:
    """Plan a time in which a rail is not asked.

    \b
    Example:
      zentra rails maintain gtbank --from 2026-12-01T01:00:00 --until 2026-12-01T03:00:00 --reason 'core upgrade'
      zentra rails maintain gtbank --lift
    """
    from zentra.runtime.rails.operating import Maintenance
    from zentra.storage.operations import lift_maintenance, set_maintenance

    if lift:
        lifted = pooled(lambda pool: lift_maintenance(pool, rail, by=by))
        said: dict[str, Any] = {"rail": rail, "lifted": lifted}
        sentence = f"{lifted} windows of rail {rail} are taken back"
    elif until is None:
        raise SettingsError("--until is missing: until when is the rail not to be asked? or --lift")
    else:
        window = Maintenance(utc(since) or datetime.now(UTC), utc(until) or until, reason)
        pooled(lambda pool: set_maintenance(pool, rail, window, by=by))
        said = {"rail": rail, "maintenance": msgspec.to_builtins(window)}
        sentence = f"rail {rail} is not asked from {window.from_:%F %T} to {window.until:%F %T} UTC"
    if as_json:
        say_json(said)
    else:
        say(sentence)


def health(as_json: bool = JSON_OPTION) -> None:
    """Show how all rails do, over all workers: zentra rails health"""
    from zentra.gateway.routing import rails_shown

    lease_seconds = settings().lease_seconds
    rails = pooled(lambda pool: rails_shown(pool, lease_seconds, datetime.now(UTC)))
    if as_json:
        say_json(rails)
        return
    columns = ("name", "mode", "circuit", "bad_percent", "latency_ms", "waiting", "resting", "reason")
    table(msgspec.to_builtins(rails), columns, "no rails")


def _drain(rail: str, draining: bool, reason: str, by: str, as_json: bool) -> None:
    from zentra.storage.operations import drain_rail

    changed = pooled(lambda pool: drain_rail(pool, rail, draining=draining, reason=reason, by=by))
    if as_json:
        say_json({"rail": rail, "draining": draining, "changed": changed})
    else:
        way = "gets nothing new" if draining else "is asked again"
        say(f"rail {rail} {way}" if changed else f"rail {rail} {way}, as before")
