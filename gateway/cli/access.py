"""The commands of an operator for who may come in: API keys, certificates of services, rate limits.

- They connect as the owner (ZENTRA_POSTGRES_ADMIN_URL), like the commands for tenants and principals.
- The text of a key is printed once, when it is made; only it goes to stdout, so it can be piped into a file.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
import typer

from zentra.gateway.cli.support import JSON_OPTION, TENANT, administered, say, say_json, table
from zentra.gateway.settings import SettingsError

if TYPE_CHECKING:
    from zentra.storage.administration import Administration, IssuedKey

__all__ = ["add_access"]

SCOPE: Final = typer.Option(None, help="Narrow the role to this permission, such as intents:read; give it repeatedly.")

keys_app = typer.Typer(help="API keys of a tenant's principals.", no_args_is_help=True, rich_markup_mode=None)
certificates_app = typer.Typer(
    help="Certificates: which service is which principal.", no_args_is_help=True, rich_markup_mode=None
)
limits_app = typer.Typer(help="Rate limits of a tenant.", no_args_is_help=True, rich_markup_mode=None)


def add_access(app: typer.Typer) -> None:
    """Add the groups of commands to `app`."""
    for name, group in (("keys", keys_app), ("certificates", certificates_app), ("limits", limits_app)):
        app.add_typer(group, name=name)


@keys_app.command("create")
def create_key(
    tenant: str = TENANT,
    principal: str = typer.Argument(metavar="PRINCIPAL", help="Whose key it is."),
    name: str = typer.Option("", help="What it is for, such as 'settlement job'."),
    scope: list[str] | None = SCOPE,
    network: list[str] | None = typer.Option(
        None, help="Let it work only from here, such as 192.0.2.0/24; repeatable."
    ),
    expires_days: int | None = typer.Option(None, min=1, help="Let it expire; it lasts until revoked otherwise."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Make an API key of the tenant's world and print it, once: zentra keys create acme dev --expires-days 90"""
    expires_at = None if expires_days is None else datetime.now(UTC) + timedelta(days=expires_days)

    def make(administration: Administration) -> Coroutine[Any, Any, IssuedKey]:
        return administration.create_api_key(
            tenant, principal, name=name, scopes=scope or None, networks=network or None, expires_at=expires_at
        )

    _issued(make, {"tenant": tenant, "principal": principal, "expires_at": expires_at}, as_json)


@keys_app.command("rotate")
def rotate_key(
    tenant: str = TENANT,
    key: str = typer.Argument(metavar="KEY_ID", help="The id, as `zentra keys list` shows it."),
    overlap_hours: float = typer.Option(24.0, min=0, help="For how long the old key goes on working."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Make a key that may do the same, and let the old one end: zentra keys rotate acme 0AbC… --overlap-hours 24"""
    overlap = timedelta(hours=overlap_hours)
    _issued(
        lambda a: a.rotate_api_key(tenant, key, overlap=overlap), {"tenant": tenant, "replaces": key}, as_json
    )  # fmt: skip


@keys_app.command("list")
def list_keys(tenant: str = TENANT, as_json: bool = JSON_OPTION) -> None:
    """List a tenant's keys, without their secrets: zentra keys list acme"""
    found = msgspec.to_builtins(administered(lambda administration: administration.api_keys(tenant)))
    columns = ("id", "name", "principal", "scopes", "networks", "created_at", "expires_at", "revoked_at",
               "last_used_at", "replaces")  # fmt: skip
    _listed(found, columns, f"{tenant} has no keys; make one: zentra keys create {tenant} PRINCIPAL", as_json)


@keys_app.command("revoke")
def revoke_key(
    tenant: str = TENANT,
    key: str = typer.Argument(metavar="KEY_ID", help="The id, as `zentra keys list` shows it."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Revoke a key, in force everywhere within five seconds: zentra keys revoke acme 0AbC…"""
    revoked = administered(lambda administration: administration.revoke_api_key(tenant, key))
    if as_json:
        say_json({"tenant": tenant, "id": key, "revoked": revoked})
    else:
        say(f"key {key} is revoked" if revoked else f"key {key} was revoked before")


@certificates_app.command("add")
def add_certificate(
    tenant: str = TENANT,
    principal: str = typer.Argument(metavar="PRINCIPAL", help="Who the service is; its role holds."),
    identity: str = typer.Argument(metavar="IDENTITY", help="The certificate's only URI, else its common name."),
    scope: list[str] | None = SCOPE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Let a service in by its certificate: zentra certificates add acme payroll spiffe://acme/payroll"""
    made = administered(lambda a: a.put_certificate(tenant, principal, identity, scopes=scope or None))
    if as_json:
        say_json({"tenant": tenant, "principal": principal, "identity": identity, "created": made})
    else:
        say(f"{identity} is {principal} of {tenant}" + ("" if made else ", as before"))


@certificates_app.command("list")
def list_certificates(tenant: str = TENANT, as_json: bool = JSON_OPTION) -> None:
    """List a tenant's identities: zentra certificates list acme"""
    found = msgspec.to_builtins(administered(lambda administration: administration.certificates(tenant)))
    columns = ("identity", "principal", "scopes", "created_at", "revoked_at")
    _listed(found, columns, f"no service comes in to {tenant} by a certificate", as_json)


@certificates_app.command("revoke")
def revoke_certificate(
    tenant: str = TENANT,
    identity: str = typer.Argument(metavar="IDENTITY", help="As `zentra certificates list` shows it."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Let an identity in no more, in force everywhere within five seconds."""
    revoked = administered(lambda administration: administration.revoke_certificate(tenant, identity))
    if as_json:
        say_json({"tenant": tenant, "identity": identity, "revoked": revoked})
    else:
        say(f"{identity} is revoked" if revoked else f"{identity} was revoked before")


@limits_app.command("set")
def set_limit(
    tenant: str = TENANT,
    route_class: str = typer.Argument(metavar="CLASS", help="money, write or read."),
    quota: str = typer.Argument(metavar="QUOTA", help="Requests/seconds, such as 6000/60."),
    per: str = typer.Option("tenant", help="tenant, or key: for each key of the tenant."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Give a tenant a limit of its own, in force within ten seconds: zentra limits set acme money 6000/60"""
    from zentra.runtime.limits import Per, RouteClass, parse_quota

    parsed = parse_quota(quota)
    if parsed is None or route_class not in list(RouteClass) or per not in list(Per):
        raise SettingsError("a limit is CLASS (money, write, read), QUOTA (6000/60), and --per tenant or key")
    changed = administered(lambda a: a.put_rate_limit(tenant, RouteClass(route_class), Per(per), parsed))
    if as_json:
        say_json({"tenant": tenant, "class": route_class, "per": per, "quota": quota, "changed": changed})
    else:
        say(f"{route_class} of {tenant}, per {per}: {quota}" + ("" if changed else ", as before"))


@limits_app.command("list")
def list_limits(tenant: str = TENANT, as_json: bool = JSON_OPTION) -> None:
    """List a tenant's own limits: zentra limits list acme"""
    found = msgspec.to_builtins(administered(lambda administration: administration.rate_limits(tenant)))
    columns = ("route_class", "per", "quota", "window_seconds")
    _listed(found, columns, f"{tenant} has no limits of its own: those of ZENTRA_RATE_… hold", as_json)


def _issued(
    work: Callable[[Administration], Coroutine[Any, Any, IssuedKey]], facts: dict[str, object], as_json: bool
) -> None:
    made = administered(work)
    if as_json:
        say_json({**facts, "id": made.id, "key": made.text})
        return
    say(made.text)
    typer.echo(f"this is key {made.id}; keep its text now, it is stored nowhere and cannot be shown again", err=True)


def _listed(found: list[dict[str, Any]], columns: tuple[str, ...], empty: str, as_json: bool) -> None:
    if as_json:
        say_json(found)
    else:
        table(found, columns, empty)
