"""The commands of an operator: tenants, principals, keys, rails, corridors and policies of any installation.

- They connect as the owner (ZENTRA_POSTGRES_ADMIN_URL) and call the same functions as `zentra dev` does.
- Creating the same thing twice changes nothing; creating something else under its name is refused.
- The text of a key is printed once, when it is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from zentra.gateway.cli.polling import add_polling
from zentra.gateway.cli.rail_secrets import add_sealing
from zentra.gateway.cli.rails import rails_app
from zentra.gateway.cli.routes import add_rail_operations
from zentra.gateway.cli.support import JSON_OPTION, TENANT, administered, json_of, say, say_json, table

if TYPE_CHECKING:
    from zentra.storage.administration import Mode

__all__ = ["add_administration"]


def _group(help_text: str) -> typer.Typer:
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None)


tenants_app = _group("Tenants: whose money it is.")
principals_app = _group("Principals: the people and programs of a tenant.")
corridors_app = _group("Corridors: which rails carry a tenant's money where.")
policies_app = _group("Policies: a tenant's limits, in versions.")


def add_administration(app: typer.Typer) -> None:
    """Add the groups of commands to `app`."""
    add_polling(rails_app)
    add_sealing(rails_app)
    for name, group in (
        ("tenants", tenants_app),
        ("principals", principals_app),
        ("rails", rails_app),
        ("corridors", corridors_app),
        ("policies", policies_app),
    ):
        app.add_typer(group, name=name)
    add_rail_operations(rails_app)


@tenants_app.command("create")
def create_tenant(
    tenant: str = TENANT,
    name: str = typer.Option("", help="What people call it; its id where this is left out."),
    live: bool = typer.Option(False, help="Live instead of test, for ever: live keys, live rails, real money."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Create a tenant: zentra tenants create acme --name 'Acme Ltd'"""
    mode: Mode = "live" if live else "test"
    made = administered(lambda administration: administration.create_tenant(tenant, name or tenant, mode=mode))
    if as_json:
        say_json({"tenant": tenant, "mode": mode, "created": made})
        return
    say(_told(f"tenant {tenant}", made))
    say(
        "next:",
        f"  zentra principals create {tenant} dev --role developer",
        f"  zentra keys create {tenant} dev",
        "  zentra nats-config --output nats.conf   its account is new to NATS: write this, reload the server twice",
        "                                          (a running `zentra dev` does it all on SIGHUP)",
    )


@tenants_app.command("list")
def list_tenants(as_json: bool = JSON_OPTION) -> None:
    """List all tenants: zentra tenants list"""
    found = msgspec.to_builtins(administered(lambda administration: administration.tenants()))
    _listed(found, ("id", "name", "mode", "created_at"), "no tenants; create one: zentra tenants create acme", as_json)


@principals_app.command("create")
def create_principal(
    tenant: str = TENANT,
    principal: str = typer.Argument(metavar="ID", help="The principal's id, unique in its tenant."),
    role: str = typer.Option(help="developer, operator, support, finance, auditor or admin."),
    name: str = typer.Option("", help="What people call it; its id where this is left out."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Create a principal: zentra principals create acme dev --role developer"""
    made = administered(lambda a: a.create_principal(tenant, principal, name=name or principal, role=role))
    if as_json:
        say_json({"tenant": tenant, "principal": principal, "role": role, "created": made})
    else:
        say(_told(f"principal {principal} of {tenant}", made), f"next: zentra keys create {tenant} {principal}")


@principals_app.command("list")
def list_principals(tenant: str = TENANT, as_json: bool = JSON_OPTION) -> None:
    """List a tenant's principals: zentra principals list acme"""
    found = msgspec.to_builtins(administered(lambda administration: administration.principals(tenant)))
    _listed(found, ("id", "name", "role", "created_at", "disabled_at"), f"{tenant} has no principals", as_json)


@principals_app.command("disable")
def disable_principal(
    tenant: str = TENANT,
    principal: str = typer.Argument(metavar="ID", help="Whose keys, certificates and tokens shall open nothing."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Disable a principal: keys and certificates within five seconds, tokens within a minute."""
    disabled = administered(lambda administration: administration.disable_principal(tenant, principal))
    if as_json:
        say_json({"tenant": tenant, "principal": principal, "disabled": disabled})
    else:
        say(f"{principal} of {tenant} is disabled" if disabled else f"{principal} of {tenant} was disabled before")


@corridors_app.command("create")
def create_corridor(
    tenant: str = TENANT,
    name: str = typer.Argument(metavar="NAME", help="The corridor's name, unique in its tenant."),
    currency: str = typer.Option(help="An ISO 4217 code, such as NGN."),
    rail: list[str] = typer.Option(help="A rail, the first choice first; give it as often as there are rails."),
    kind: str = typer.Option("transfer", help="transfer or payment."),
    country: str | None = typer.Option(None, help="Only for this country, two capital letters; any by default."),
    minor_min: int = typer.Option(1, help="The least amount, in minor units."),
    minor_max: int | None = typer.Option(None, help="The greatest amount, in minor units; none by default."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Set a corridor up, or change it.

    \b
    Example:
      zentra corridors create acme ng-transfer --currency NGN --rail sandbox_a --rail sandbox_b
    """
    from zentra.runtime.rails.routing import Corridor

    corridor = Corridor(tenant, name, currency, kind, tuple(rail), country, minor_min, minor_max)
    changed = administered(lambda administration: administration.put_corridor(corridor))
    if as_json:
        say_json({"tenant": tenant, "corridor": name, "changed": changed})
    else:
        say(f"corridor {name} of {tenant} is set up" if changed else f"corridor {name} was set up like this before")


@corridors_app.command("list")
def list_corridors(tenant: str = TENANT, as_json: bool = JSON_OPTION) -> None:
    """List a tenant's corridors: zentra corridors list acme"""
    found = msgspec.to_builtins(administered(lambda administration: administration.corridors(tenant)))
    columns = ("name", "kind", "currency", "country", "minor_min", "minor_max", "rails")
    _listed(found, columns, f"{tenant} has no corridors: its transfers find no rail", as_json)


@policies_app.command("create")
def create_policy(
    tenant: str = TENANT,
    file: Path = typer.Option(metavar="FILE", help="The rules as JSON; - reads stdin."),
    by: str = typer.Option("operator", help="Who puts them in force, for the record."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Put a tenant's rules in force, as a new version.

    \b
    Limits are minor units by currency ("*": any other); what is left out is unlimited. Example:
      echo '{"limits": {"NGN": {"transaction_minor_max": 50000000, "review_minor_min": 10000000}}}' |
        zentra policies create acme --file -
    """
    from zentra.gateway.cli.policy import policy_in

    rules = policy_in(json_of(file))
    version = administered(lambda administration: administration.put_policy(tenant, rules, created_by=by))
    if as_json:
        say_json({"tenant": tenant, "version": version})
    else:
        say(f"version {version} of the rules of {tenant} is in force")


@policies_app.command("list")
def list_policies(tenant: str = TENANT, as_json: bool = JSON_OPTION) -> None:
    """List the versions of a tenant's rules; the last is in force: zentra policies list acme"""
    found = msgspec.to_builtins(administered(lambda administration: administration.policies(tenant)))
    if as_json:
        say_json(found)
        return
    rows = [
        {"version": rules["version"], "currency": currency, **limits}
        for rules in found
        for currency, limits in rules["limits"].items() or [("-", {})]
    ]
    columns = ("version", "currency", "transaction_minor_max", "daily_minor_max", "daily_count_max", "review_minor_min")
    table(rows, columns, f"{tenant} has no rules: everything is allowed")


def _listed(found: list[dict[str, Any]], columns: tuple[str, ...], empty: str, as_json: bool) -> None:
    if as_json:
        say_json(found)
    else:
        table(found, columns, empty)


def _told(what: str, made: bool) -> str:
    return f"{what} is created" if made else f"{what} exists already, nothing is changed"
