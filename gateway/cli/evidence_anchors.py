"""`zentra evidence anchors`: where checkpoints are kept besides the installation, and how that goes.

- A sink gets every checkpoint that is due, of one tenant or of all. Nothing in a sink is ever read back.
- What a sink has not taken is tried again; why not stands in the list.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from zentra.gateway.cli.evidence import EPILOG, Group, OwnCommand, evidence_app
from zentra.gateway.cli.evidence_export import asked_of
from zentra.gateway.cli.support import JSON_OPTION, say, say_json, table
from zentra.gateway.settings import Settings, SettingsError

if TYPE_CHECKING:
    from zentra.storage.intake.anchors import SinkStanding
    from zentra.storage.pool import Pool

__all__ = ["anchors_app"]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z", re.ASCII)
NAME: Final = typer.Argument(metavar="NAME", help="The sink's name.")

anchors_app = typer.Typer(
    help="Anchors: checkpoints kept elsewhere, so that a log cannot be cut off or made anew.", cls=Group,
    no_args_is_help=True, rich_markup_mode=None,
)  # fmt: skip
evidence_app.add_typer(anchors_app, name="anchors")


@anchors_app.command("add", cls=OwnCommand, epilog=EPILOG)
def add(
    name: str = NAME,
    file: Path | None = typer.Option(None, metavar="FILE", help="Append to this file of the worker's machine."),
    url: str | None = typer.Option(None, metavar="URL", help="Post to this address; any 2xx answer is a receipt."),
    tenant: str | None = typer.Option(None, metavar="TENANT", help="Of this tenant alone; of all by default."),
    leaves: int = typer.Option(64, min=1, max=1_000_000, help="After so many leaves,"),
    seconds: int = typer.Option(60, min=1, max=86_400, help="or once the first of them is so old."),
    by: str = typer.Option("", help="Who does it, for the record; the user of this shell where this is left out."),
) -> None:
    """Keep checkpoints in a file or at an address from now on.

    \b
    A file should lie where nobody who runs the installation can change it: an append-only file (chattr +a), a volume
    under object lock. An address should be the tenant's own, or an auditor's.
    \b
    Examples:
      zentra evidence anchors add worm --file /var/lib/zentra/anchors.jsonl
      zentra evidence anchors add auditor --url https://auditor.example/zentra --tenant acme
    """

    async def work(known: Settings, database: str, pool: Pool) -> None:
        from zentra.gateway.cli.periods import somebody
        from zentra.gateway.outward.http import AddressGuard, webhook_policy_of
        from zentra.storage.intake.anchors import Sink, add_sink

        if not _NAME.match(name):
            raise SettingsError(f"{name}: a name has small letters, digits, - and _")
        if (file is None) == (url is None):
            raise SettingsError("say where: either --file FILE or --url URL")
        if file is not None and not file.is_absolute():
            raise SettingsError(f"--file {file}: name it from the root; a worker may run in another folder")
        if url is not None:
            AddressGuard(webhook_policy_of(known)).vet_url(url)
        await add_sink(pool, Sink(
            name=name, kind="file" if url is None else "webhook", target=str(file) if url is None else url,
            tenant=tenant, leaves=leaves, seconds=seconds, created_by=by or somebody(),
        ))  # fmt: skip

    asked_of(work)
    say(f"{name} gets checkpoints from now on; see how it goes: zentra evidence anchors list")


@anchors_app.command("list", cls=OwnCommand, epilog=EPILOG)
def list_sinks(as_json: bool = JSON_OPTION) -> None:
    """Show every sink: what it keeps, what waits and why.

    \b
    Example:
      zentra evidence anchors list
    """

    async def work(known: Settings, url: str, pool: Pool) -> list[SinkStanding]:
        from zentra.storage.intake.anchors import sinks

        return await sinks(pool)

    found = asked_of(work)
    if as_json:
        say_json(found)
        return
    import msgspec

    rows = [{**msgspec.structs.asdict(one), "tenant": one.tenant or "all"} for one in found]
    columns = (
        "name",
        "kind",
        "target",
        "tenant",
        "kept",
        "last_kept_at",
        "pending",
        "pending_since",
        "attempts",
        "error",
    )
    table(rows, columns, "no sink: what nobody keeps elsewhere could be cut off; zentra evidence anchors add --help")


@anchors_app.command("remove", cls=OwnCommand, epilog=EPILOG)
def remove(name: str = NAME) -> None:
    """Give a sink nothing more; what it has stays, and stays on record.

    \b
    Example:
      zentra evidence anchors remove worm
    """

    async def work(known: Settings, url: str, pool: Pool) -> None:
        from zentra.storage.intake.anchors import remove_sink

        await remove_sink(pool, name)

    asked_of(work)
    say(f"{name} gets nothing more")


@anchors_app.command("retry", cls=OwnCommand, epilog=EPILOG)
def retry(name: str = NAME) -> None:
    """Try what waits for a sink now, instead of at its time.

    \b
    Example:
      zentra evidence anchors retry auditor
    """

    async def work(known: Settings, url: str, pool: Pool) -> None:
        from zentra.storage.intake.anchors import retry_sink

        await retry_sink(pool, name)

    asked_of(work)
    say(f"what waits for {name} is tried within seconds")
