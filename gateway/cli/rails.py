"""The commands that set rails up: which adapter, where the partner is, and the secrets that both sides know.

- A secret comes from a file or a variable of the environment, never from the command line, and is never shown again.
- What the adapter says of its partner's ways is taken over; settings that are less careful are refused.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import typer

from zentra.gateway.cli.rail_secrets import put
from zentra.gateway.cli.support import JSON_OPTION, administered, converted, json_of, say, say_json, table, text_of
from zentra.gateway.settings import SettingsError

if TYPE_CHECKING:
    from zentra.runtime.rails.port import RailSettings

__all__ = ["rails_app"]

HIDDEN: Final = "***"

rails_app = typer.Typer(
    help="Rails: who carries money out of the installation.", no_args_is_help=True, rich_markup_mode=None
)


@rails_app.command("create")
@rails_app.command("add", hidden=True)
def create_rail(
    name: str = typer.Argument(metavar="NAME", help="The rail's name, unique in the installation."),
    kind: str = typer.Option("", help="Whose dialect it speaks, one of `zentra rails kinds`; sandbox by default."),
    base_url: str = typer.Option("", help="Where the partner is; the adapter's paths are below it."),
    callback_url: str = typer.Option("", help="Where it calls back: <gateway>/providers/<NAME>/callbacks."),
    secret_file: Path | None = typer.Option(None, help="Short for --secret callback=file:PATH."),
    secret: list[str] = typer.Option(
        [], metavar="NAME=SOURCE", help="A secret, from file:PATH or env:VARIABLE; NAME callback verifies callbacks."
    ),
    option: list[str] = typer.Option(
        [], metavar="NAME=VALUE", help="A setting of the adapter's own, such as client_id."
    ),
    network: list[str] = typer.Option([], metavar="CIDR", help="Whence callbacks may come; anywhere by default."),
    live: bool = typer.Option(False, help="For live tenants instead of test ones, for ever."),
    moved: bool = typer.Option(
        False, help="The same partner at another address: it knows of the payments that are under way."
    ),
    file: Path | None = typer.Option(None, help="JSON with further settings, such as deadline_seconds."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Set a rail up, or change it: then what is not given stays as it is.

    \b
    While payments are under way over a rail, its kind and its address are fixed (rail_in_use): drain it first with
    `zentra rails drain`, or set another rail up. Where the same partner has moved, say so with --moved.
    Examples:
      zentra rails create sandbox_a --base-url http://sandbox:8090 \\
        --callback-url https://pay.example/providers/sandbox_a/callbacks --secret-file sandbox_a.secret
      zentra rails create providus --kind providus --base-url https://bank.example/api \\
        --callback-url https://pay.example/providers/providus/callbacks \\
        --option client_id=zentra --secret callback=file:/run/secrets/providus
      zentra rails create gtbank --kind gtbank --base-url https://bank.example --option client_id=zentra \\
        --secret callback=file:/run/secrets/gtbank_hook --secret client_secret=env:GTBANK_CLIENT_SECRET
    """
    from zentra.gateway.outward.rail_secrets import CALLBACK

    further = json_of(file) if file else {}
    if "sealed" in further:
        raise SettingsError(f"{file}: sealed is no setting; give secrets with --secret NAME=file:PATH")
    secrets = {key: _secret(key, source) for key, source in _pairs(secret, "--secret").items()}
    if secret_file is not None:
        secrets[CALLBACK] = text_of(secret_file).strip()
    given: dict[str, Any] = {
        "kind": kind,
        "base_url": base_url,
        "callback_url": callback_url,
        "secret": secrets.pop(CALLBACK, ""),
        "secrets": secrets,
        "options": _pairs(option, "--option"),
        "callback_networks": network,
        "mode": "live" if live else "",
    }
    asked = further | {key: value for key, value in given.items() if value} | {"name": name}
    changed = put(_rail(_present(name, str(asked.get("kind", ""))) | asked), moved=moved)
    if as_json:
        say_json({"rail": name, "changed": changed})
    else:
        say(f"rail {name} is set up" if changed else f"rail {name} was set up like this before")


@rails_app.command("list")
def list_rails(as_json: bool = JSON_OPTION) -> None:
    """List all rails, without their secrets: zentra rails list"""
    from zentra.gateway.outward.rail_secrets import CALLBACK, at_rest

    known = administered(lambda administration: administration.rails())
    found = [msgspec.to_builtins(rail) | {"secrets_at_rest": at_rest(rail)} for rail in known]
    for rail in found:
        seals = rail.pop("sealed")
        rail["secret"] = HIDDEN if rail["secret"] or seals.pop(CALLBACK, "") else ""
        rail["secrets"] = dict.fromkeys(sorted(rail["secrets"] | seals), HIDDEN)
    if as_json:
        say_json(found)
    else:
        table(found, ("name", "kind", "mode", "base_url", "callback_url", "secrets_at_rest"), "no rails")


@rails_app.command("kinds")
def list_kinds(as_json: bool = JSON_OPTION) -> None:
    """List the adapters that are installed here, and what each demands and declares.

    \b
    A package plugs one in with an entry point of the group zentra.rails; docs/adapters.md says how. Listing them
    imports them. Example:
      zentra rails kinds
    """
    from zentra.gateway.outward.rail_kinds import AdapterRefused, known_kinds, rail_kind

    rows: list[dict[str, object]] = []
    for name in known_kinds():
        try:
            declaration = rail_kind(name).declaration
        except AdapterRefused as refused:
            rows.append({"kind": name, "refused": str(refused)})
        else:
            rows.append({"kind": name, **msgspec.to_builtins(declaration)})
    if as_json:
        say_json(rows)
        return
    shown = (
        "kind",
        "callback_trust",
        "idempotent_references",
        "not_found_lies_seconds",
        "options",
        "secrets",
        "refused",
    )
    table([_told(row) for row in rows], shown, "no kinds")


def _present(name: str, kind: str) -> dict[str, Any]:
    """Return what is set up under a name and stays so unless it is given; of another kind nothing does."""
    from zentra.gateway.outward.rail_kinds import rail_kind

    rail_kind(kind or "sandbox")  # refuses one that is not there
    rails = administered(lambda administration: administration.rails())
    known = next((rail for rail in rails if rail.name == name and kind in ("", rail.kind)), None)
    return {"kind": "sandbox"} if known is None else msgspec.to_builtins(known)


def _rail(asked: dict[str, Any]) -> RailSettings:
    """Return the settings that were asked for, on top of what the adapter declares. Raises SettingsError where the
    adapter cannot work with them, and AdapterRefused where there is none or it cannot be made with them."""
    from zentra.gateway.outward.rail_kinds import adapter_of, objections, rail_kind
    from zentra.runtime.rails.port import RailSettings

    declaration = rail_kind(str(asked["kind"])).declaration
    declared = {
        "idempotent_references": declaration.idempotent_references,
        "not_found_lies_seconds": declaration.not_found_lies_seconds,
    }
    rail: RailSettings = converted(declared | asked, RailSettings, "the rail's settings")
    wrong = objections(rail, declaration)
    if wrong:
        raise SettingsError(f"a rail of kind {rail.kind}: {'; '.join(wrong)}")
    adapter_of(rail)  # it opens nothing before its first call, so nothing is to be closed
    return rail


def _told(row: dict[str, object]) -> dict[str, object]:
    return {name: " ".join(value) if isinstance(value, tuple | list) else value for name, value in row.items()}


def _pairs(given: list[str], option: str) -> dict[str, str]:
    pairs = {}
    for one in given:
        name, separator, value = one.partition("=")
        if not separator or not name or not value:
            shown = one if option == "--option" else name  # whoever typed a secret there shall not read it in a log
            raise SettingsError(f"{option} {shown}: write NAME=…, such as client_id=zentra")
        pairs[name] = value
    return pairs


def _secret(name: str, source: str) -> str:
    """Return a secret by where it is. Raises SettingsError where it is nowhere, or was itself on the command line."""
    kind, _, place = source.partition(":")
    match kind:
        case "file" if place:
            return text_of(Path(place)).strip()
        case "env" if place:
            value = os.environ.get(place, "").strip()
            if not value:
                raise SettingsError(f"--secret {name}: the variable {place} is empty; export it first")
            return value
    raise SettingsError(f"--secret {name}: say where it is, as {name}=file:PATH or {name}=env:VARIABLE")
