"""`zentra rehearse`: play the failures a money runtime has to survive, and read the evidence of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer

from zentra.gateway.cli.support import JSON_OPTION, InputError, say, say_json, text_of

if TYPE_CHECKING:
    from zentra.gateway.rehearsals.incidents import Incident
    from zentra.gateway.rehearsals.site import Site
    from zentra.runtime.evidence.keyring import KeyRing, RingKey

__all__ = ["add_rehearse"]


def add_rehearse(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("rehearse", no_args_is_help=True)(rehearse)


def rehearse(
    names: list[str] = typer.Argument(None, metavar="INCIDENT…|all", help="What to play; --list shows what there is."),
    url: str = typer.Option("", help="The gateway of an installation that runs."),
    data_dir: Path | None = typer.Option(None, help="The directory of a running `zentra dev --data-dir`."),
    creator_key: Path | None = typer.Option(None, help="A file with the API key of who asks for money to move."),
    operator_key: Path | None = typer.Option(None, help="A file with the key of an operator of the same tenant."),
    stranger_key: Path | None = typer.Option(None, help="A file with the key of an operator of another tenant."),
    key: list[Path] = typer.Option([], metavar="PUB.pem", help="A public key that checks evidence; may be repeated."),
    sandbox_url: str = typer.Option("", help="The sandbox rail's address, to take a rail away."),
    currency: str = typer.Option("NGN", help="Of the accounts that are opened."),
    review_minor: int = typer.Option(15_000_000, min=1, help="An amount that a limit refers to a person."),
    hook_listen: str = typer.Option("127.0.0.1:0", metavar="HOST:PORT", help="Where the webhook consumer listens."),
    hook_url: str = typer.Option("", help="The URL under which the installation reaches it, where it is another."),
    patience: float = typer.Option(90.0, min=1, help="Seconds that one incident may take."),
    list_all: bool = typer.Option(False, "--list", help="Show every incident and leave."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Play failures through the public doors and print the evidence each leaves.

    \b
    Without --url and --data-dir it starts an installation of its own, plays there and recomputes the books.
    A running installation gets two accounts, a webhook endpoint and some transfers of its own; live keys are refused.
    Exit code 0: everything that was played ended as it has to; what was left out is counted and named.
    Examples:
      zentra rehearse --list
      zentra rehearse all
      zentra rehearse worker-kill redis-loss --data-dir ./zentra-data
      zentra rehearse late-callback --url https://zentra.test --creator-key dev.key --operator-key ops.key --key pub.pem
    """
    from zentra.gateway.rehearsals.incidents import INCIDENTS

    if list_all:
        _list(list(INCIDENTS.values()), as_json=as_json)
        return
    chosen = _chosen(names or [], INCIDENTS)
    if not url and data_dir is None:
        from zentra.gateway.rehearsals.rehearsal import rehearse_embedded

        raise typer.Exit(rehearse_embedded(chosen, title="Zentra rehearsal", json_output=as_json))
    from zentra.gateway.rehearsals.rehearsal import rehearse_site
    from zentra.gateway.rehearsals.site import Cast, Site, SiteRefused, refuse_live, running_site
    from zentra.gateway.rehearsals.story import StoryFailed

    try:
        if data_dir is not None:
            site: Site = running_site(data_dir)
        else:
            cast = Cast(_key(creator_key), _key(operator_key), _key(stranger_key))
            if not cast.creator or not cast.operator:
                raise InputError("--url needs --creator-key and --operator-key, two people of one tenant")
            site = Site(url.rstrip("/"), cast, _ring(key), sandbox_url.rstrip("/"), None, currency, review_minor)
        refuse_live(site.cast)
        raise typer.Exit(
            rehearse_site(site, chosen, patience=patience, hook=(*_listen(hook_listen), hook_url), json_output=as_json)
        )
    except (SiteRefused, StoryFailed) as refused:
        raise InputError(str(refused)) from None


def _chosen(names: list[str], known: dict[str, Incident]) -> list[Incident]:
    """Return the incidents of these names in the order given; raise InputError for one that is not there."""
    if names == ["all"]:
        return list(known.values())
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        said = f"no incident {', '.join(unknown)}" if unknown else "name an incident, or all"
        raise InputError(f"{said}; there are: {', '.join(known)}")
    return [known[name] for name in names]


def _key(file: Path | None) -> str:
    """Return the key in a file; empty where none is named."""
    return "" if file is None else text_of(file).strip()


def _ring(files: list[Path]) -> KeyRing | None:
    """Return all keys of some files, or None where there is no file; raise InputError for one without a key."""
    from zentra.runtime.evidence.key_files import key_ring_of_file

    ring: dict[str, RingKey] = {}
    for file in files:
        try:
            ring |= key_ring_of_file(text_of(file).encode())
        except ValueError as error:
            raise InputError(f"{file}: {error}") from None
    return ring or None


def _listen(text: str) -> tuple[str, int]:
    """Return host and port; raise InputError for what is neither."""
    parts = urlsplit(f"//{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None:
        raise InputError(f"--hook-listen {text}: give HOST:PORT, such as 0.0.0.0:9100")
    return host, port


def _list(incidents: list[Incident], *, as_json: bool) -> None:
    if as_json:
        say_json([{"name": one.name, "title": one.title, "summary": one.summary} for one in incidents])
        return
    width = max(len(one.name) for one in incidents)
    say(*(f"{one.name.ljust(width)}  {one.summary}" for one in incidents))
