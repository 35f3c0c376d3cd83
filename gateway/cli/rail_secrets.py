"""`zentra rails seal`, and how every command stores a rail: never with a secret in plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from zentra.gateway.cli.support import JSON_OPTION, ExitCode, administered, need, say, say_json, settings, table

if TYPE_CHECKING:
    from zentra.gateway.outward.rail_secrets import RailSecrets
    from zentra.runtime.rails.port import RailSettings

__all__ = ["add_sealing", "put"]


def add_sealing(rails_app: typer.Typer) -> None:
    """Add the command to the group of rails."""
    rails_app.command("seal")(seal)


def put(rail: RailSettings, *, moved: bool = False) -> bool:
    """Store a rail, sealed; return whether anything is different now. Raises SettingsError without ZENTRA_SECRET where
    there is a secret to seal, and as the store does."""
    from zentra.gateway.outward.rail_secrets import at_rest, put_rail

    secrets = _secrets() if at_rest(rail) == "plain" else None
    return administered(lambda administration: put_rail(administration, rail, secrets, moved=moved))


def seal(as_json: bool = JSON_OPTION) -> None:
    """Seal the secrets of rails that are stored in plain text.

    \b
    Rails that were set up by a version before are, until this is run. Run it when every gateway and worker is of this
    version: one of the version before cannot read sealed secrets. Doing it again does no harm. Example:
      zentra rails seal
    """
    from zentra.gateway.outward.rail_secrets import seal_rails

    secrets = _secrets()
    done = administered(lambda administration: seal_rails(administration, secrets))
    if as_json:
        say_json(done)
    else:
        table([{"rail": rail, "secrets": word} for rail, word in done.items()], ("rail", "secrets"), "all are sealed")
    if "changed" in done.values():
        say("somebody else was changing a rail: run it again")
        raise typer.Exit(ExitCode.REFUSED)


def _secrets() -> RailSecrets:
    from zentra.gateway.outward.rail_secrets import RailSecrets

    known = settings()
    need(known, "secret")
    return RailSecrets(known.secret_bytes())
