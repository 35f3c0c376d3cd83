"""`zentra routes`: a tenant's corridors from draft to force and back, and why an intent went where it went; and what
operators say of rails: drained, in maintenance, and how they do.

Exit code 1 where a decision does not come out the same again, or a document is refused."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import typer

from zentra.gateway.cli.support import JSON_OPTION, ExitCode, administered, say, say_json, settings, table, text_of
from zentra.gateway.settings import SettingsError

if TYPE_CHECKING:
    from zentra.runtime.rails.explaining import RouteDecision, RouteShown
    from zentra.storage.pool import Pool
    from zentra.storage.versions import Step

__all__ = ["add_rail_operations", "add_routes"]

T = TypeVar("T")
TENANT: Final = typer.Argument(metavar="TENANT", help="The tenant's id, such as acme.")
VERSION: Final = typer.Argument(metavar="VERSION", min=1, max=999_999_999, help="The version's number.")
BY: Final = typer.Option("operator", help="Who does it, for the record.")
RAIL: Final = typer.Argument(metavar="RAIL", help="The rail's name; see: zentra rails list")
FILE: Final = typer.Option(metavar="FILE", help="The document as JSON; - reads stdin. See docs/routing.md.")

routes_app = typer.Typer(
    help="A tenant's corridors: draft, check, validate, promote, roll back; and why an intent went by a rail.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def add_routes(app: typer.Typer) -> None:
    """Add the group of commands to `app`."""
    app.add_typer(routes_app, name="routes")


def _pooled(work: Callable[[Pool], Coroutine[Any, Any, T]]) -> T:
    """Return what `work` returns, over the owner's connection."""
    return administered(lambda administration: work(administration.pool))


@routes_app.command("draft")
def draft(
    tenant: str = TENANT,
    file: Path = FILE,
    note: str = typer.Option("", help="What is new, for the record."),
    by: str = BY,
    as_json: bool = JSON_OPTION,
) -> None:
    """Write the next version of a tenant's corridors, as a draft.

    \b
    Example, from what is in force now:
      zentra routes show acme 1 --json | jq .document > routes.json
      zentra routes draft acme --file routes.json --by ada
      zentra routes validate acme 2 --by ada
      zentra routes promote acme 2 --by grace
    """
    from zentra.storage.routes import ROUTES, draft_routes

    document = _document(file)
    view = _pooled(lambda pool: draft_routes(pool, tenant, document, note, by))
    shown = msgspec.to_builtins(ROUTES.shown(view))
    if as_json:
        say_json(shown)
        return
    say(f"version {shown['version']} of the routes of {tenant} is a draft, digest {shown['digest']}")
    _say_violations(shown["violations"])
    say(f"next: zentra routes validate {tenant} {shown['version']}")


@routes_app.command("check")
def check(tenant: str = TENANT, file: Path = FILE, as_json: bool = JSON_OPTION) -> None:
    """Say what is wrong with a document, and store nothing: zentra routes check acme --file routes.json

    \b
    Exit code 1 where something is.
    """
    from zentra.storage.routes import check_routes

    document = _document(file)
    found = msgspec.to_builtins(_pooled(lambda pool: check_routes(pool, tenant, document)))
    if as_json:
        say_json({"violations": found})
    elif not found:
        say(f"the document is sound: {len(document.get('corridors', ()))} corridors")
    else:
        _say_violations(found)
    if found:
        raise typer.Exit(ExitCode.REFUSED)


@routes_app.command("list")
def list_versions(tenant: str = TENANT, as_json: bool = JSON_OPTION) -> None:
    """List the versions of a tenant's corridors, the newest first: zentra routes list acme"""
    from zentra.storage.routes import ROUTES

    found = msgspec.to_builtins(_pooled(lambda pool: ROUTES.rows(pool, tenant)))
    if as_json:
        say_json(found)
    else:
        columns = ("version", "state", "created_by", "created_at", "digest", "note")
        table(found, columns, f"{tenant} has no corridors: its transfers find no rail")


@routes_app.command("show")
def show(tenant: str = TENANT, version: int = VERSION, as_json: bool = JSON_OPTION) -> None:
    """Show a version, and who did what with it: zentra routes show acme 2"""
    from zentra.storage.routes import ROUTES

    async def look(pool: Pool) -> dict[str, Any] | None:
        view = await ROUTES.show(pool, tenant, version)
        if view is None:
            return None
        return {**ROUTES.shown(view), "events": await ROUTES.events(pool, tenant, version)}

    shown = msgspec.to_builtins(_found(_pooled(look), tenant, version))
    if as_json:
        say_json(shown)
        return
    say(f"version {version} of the routes of {tenant}: {shown['state']}, digest {shown['digest']}")
    say_json(shown["document"])
    _say_violations(shown["violations"])
    table(shown["events"], ("at", "action", "principal"), "nothing is kept of what was done with it")


@routes_app.command("validate")
def validate(tenant: str = TENANT, version: int = VERSION, by: str = BY, as_json: bool = JSON_OPTION) -> None:
    """Check a draft as a whole: zentra routes validate acme 2"""
    _move(tenant, version, "validate", by, as_json)


@routes_app.command("promote")
def promote(tenant: str = TENANT, version: int = VERSION, by: str = BY, as_json: bool = JSON_OPTION) -> None:
    """Put a validated version in force, by somebody else than its author: zentra routes promote acme 2 --by grace"""
    _move(tenant, version, "promote", by, as_json)


@routes_app.command("rollback")
def rollback(tenant: str = TENANT, version: int = VERSION, by: str = BY, as_json: bool = JSON_OPTION) -> None:
    """Put a version in force again that was so before: zentra routes rollback acme 1 --by grace"""
    _move(tenant, version, "rollback", by, as_json)


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

    found = _pooled(lambda pool: route_of(pool, tenant, intent))
    if found is None:
        say(f"{tenant} has no intent {intent!r}")
        raise typer.Exit(ExitCode.REFUSED)
    if as_json:
        say_json(found)
    else:
        _say_route(found)
    if any(one.same is False for one in found.decisions):
        raise typer.Exit(ExitCode.REFUSED)


def _say_route(found: RouteShown) -> None:
    say(f"{found.intent_id} is {found.status}")
    for decision in found.decisions:
        _say_decision(decision)
    if found.attempts:
        say("", "attempts:")
        columns = ("attempt", "rail", "outcome", "started_at", "ended_at", "reference")
        table([msgspec.to_builtins(one) for one in found.attempts], columns, "")
    elif not found.decisions:
        say("no rail was looked for")
    if found.ended is not None:
        say(f"the hold was released: {found.ended}")


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
        lifted = _pooled(lambda pool: lift_maintenance(pool, rail, by=by))
        said: dict[str, Any] = {"rail": rail, "lifted": lifted}
        sentence = f"{lifted} windows of rail {rail} are taken back"
    elif until is None:
        raise SettingsError("--until is missing: until when is the rail not to be asked? or --lift")
    else:
        window = Maintenance(_utc(since) or datetime.now(UTC), _utc(until) or until, reason)
        _pooled(lambda pool: set_maintenance(pool, rail, window, by=by))
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
    found = msgspec.to_builtins(_pooled(lambda pool: rails_shown(pool, lease_seconds, datetime.now(UTC))))
    if as_json:
        say_json(found)
        return
    columns = ("name", "mode", "circuit", "bad_percent", "latency_ms", "waiting", "resting", "reason")
    table(found, columns, "no rails")


def _drain(rail: str, draining: bool, reason: str, by: str, as_json: bool) -> None:
    from zentra.storage.operations import drain_rail

    changed = _pooled(lambda pool: drain_rail(pool, rail, draining=draining, reason=reason, by=by))
    if as_json:
        say_json({"rail": rail, "draining": draining, "changed": changed})
    else:
        way = "gets nothing new" if draining else "is asked again"
        say(f"rail {rail} {way}" if changed else f"rail {rail} {way}, as before")


def _move(tenant: str, version: int, step: Step, by: str, as_json: bool) -> None:
    from zentra.storage.routes import ROUTES, move_routes
    from zentra.storage.versions import InvalidDocument

    try:
        view = _found(_pooled(lambda pool: move_routes(pool, tenant, version, step, by)), tenant, version)
    except InvalidDocument as invalid:
        _say_violations(msgspec.to_builtins(invalid.violations))
        raise typer.Exit(ExitCode.REFUSED) from None
    shown = msgspec.to_builtins(ROUTES.shown(view))
    if as_json:
        say_json(shown)
    else:
        say(f"version {version} of the routes of {tenant} is {shown['state']}")


def _say_violations(violations: list[dict[str, Any]]) -> None:
    for one in violations:
        say(f"  {one['pointer'] or '/'}: {one['detail']} ({one['code']})")


def _found(value: T | None, tenant: str, version: int) -> T:
    if value is None:
        say(f"{tenant} has no version {version}")
        raise typer.Exit(ExitCode.REFUSED)
    return value


def _document(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text_of(path), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path}: {error}; it has to hold one JSON object") from error


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.replace(tzinfo=at.tzinfo or UTC)
