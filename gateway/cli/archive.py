"""`zentra archive`: write the postings of closed periods to files that anybody can verify with the public key.

- `make` verifies what it wrote before it says that the period is archived; `verify` reads nothing but the directory and
  the keys: no network, no database.
- The exit code of both is the answer: 0 whole, 1 something differs, 2 it could not be checked.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import typer

from zentra.gateway.cli.ledger import (
    EPILOG,
    KEY,
    Answer,
    asked,
    installation_of,
    learned_keys,
    moment,
    public_keys,
    signing_key,
    url_of,
    verdict,
)
from zentra.gateway.cli.periods import BOOK
from zentra.gateway.cli.progress import shown_progress
from zentra.gateway.cli.support import JSON_OPTION, TENANT, opened_pool, say, say_json
from zentra.gateway.settings import Settings, SettingsError

if TYPE_CHECKING:
    from zentra.storage.verification.archived import ArchiveCheck

__all__ = ["add_archive"]

FORMATS: Final = ("csv", "parquet")

archive_app = typer.Typer(
    help="Archives: postings of closed periods in files.", no_args_is_help=True, rich_markup_mode=None
)


def add_archive(app: typer.Typer) -> None:
    """Add the group of commands to `app`."""
    app.add_typer(archive_app, name="archive")


@archive_app.command("make", epilog=EPILOG)
def make(
    tenant: str = TENANT,
    until: str = typer.Option(metavar="TIME", help="The end of the period, as it was closed."),
    output: Path = typer.Option(metavar="DIR", help="A new directory."),
    format: str = typer.Option("csv", help="csv or parquet; the latter takes pip install 'zentra[archive]'."),
    book: str = BOOK,
    as_json: bool = JSON_OPTION,
) -> None:
    """Write a closed period to files, verify them, and note that it is archived.

    \b
    Written are the postings that count in the period, their intents with all records, what each account opened and
    closed with, the part of the log that seals it, and a manifest with digests and sums, signed by the key of the
    installation (ZENTRA_EVIDENCE_KEY). Nothing is removed from the database.
    \b
    Example:
      zentra archive make acme --until 2026-04-01T00:00Z --output acme-2026-q1 --format parquet
    """

    async def work(known: Settings) -> ArchiveCheck:
        from zentra.storage.verification.archived import verify_archive
        from zentra.storage.verification.archiving import make_archive, mark_archived

        if format not in FORMATS:
            raise SettingsError(f"--format {format}: {' or '.join(FORMATS)}")
        time, signing = moment(until, "--until"), signing_key(known)
        async with opened_pool(known) as pool:
            with shown_progress() as progress:
                await make_archive(
                    url_of(known), output, signing, tenant=tenant, book=book, until=time,
                    format="csv" if format == "csv" else "parquet", installation=(await installation_of(known))[0],
                    progress=progress,
                )  # fmt: skip
                found = await asyncio.to_thread(verify_archive, output, await learned_keys(known, []), progress)
            if found.clean:
                await mark_archived(pool, found.manifest, found.digest)
        return found

    found = asked(work)
    _tell(found, as_json)
    if found.clean and not as_json:
        say(f"the period is archived in {output}")
    raise typer.Exit(Answer.CLEAN if found.clean else Answer.DIFFERS)


@archive_app.command("verify", epilog=EPILOG)
def verify(
    directory: Path = typer.Argument(metavar="DIR", help="The archive."),
    key: list[Path] = KEY,
    as_json: bool = JSON_OPTION,
) -> None:
    """Verify an archive offline, by its files and the public key.

    \b
    Each file has to be the one that the signed manifest names; opening balances and postings have to come to the
    closing balances; each posting has to have its hash and stand in a record, each record to follow from the one before
    it, and each seal to be in the log between its two signed heads.
    \b
    Example:
      zentra archive verify acme-2026-q1 --key evidence.pub.pem
    """

    async def work(known: Settings) -> ArchiveCheck:
        from zentra.storage.verification.archived import verify_archive

        with shown_progress() as progress:
            return await asyncio.to_thread(verify_archive, directory, public_keys(known, key), progress)

    found = asked(work)
    _tell(found, as_json)
    raise typer.Exit(Answer.CLEAN if found.clean else Answer.DIFFERS)


def _tell(found: ArchiveCheck, as_json: bool) -> None:
    if as_json:
        say_json({"clean": found.clean, **msgspec.to_builtins(found)})
        return
    manifest, counts = found.manifest, found.counts
    start = manifest.start or "the beginning"
    say(
        f"archive of {manifest.tenant}, book {manifest.book}, from {start} until {manifest.until}",
        f"  {counts.postings:,} postings, {counts.records:,} records of {counts.intents:,} intents,"
        f" {found.accounts:,} accounts in {len(manifest.files)} files ({manifest.kind})",
        f"  manifest {found.digest}, signed by key {manifest.key_id}",
        *verdict(found.differences, found.differences_by_check),
    )
