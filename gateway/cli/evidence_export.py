"""`zentra evidence export`, `consistency`, `checkpoint` and `render`: evidence taken out of an installation, and made
readable.

- An export is itself on record: who, when, which range; later exports have that record in them.
- Everything is read in one snapshot beside a running installation; nothing else is written.
- What is rendered proves nothing, and says so.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import typer

from zentra.gateway.bundle_texts import bundle_texts
from zentra.gateway.cli.evidence import EPILOG, OwnCommand, evidence_app, is_tar, read_file, refused
from zentra.gateway.cli.progress import shown_progress
from zentra.gateway.cli.support import JSON_OPTION, explained, say, say_json, settings
from zentra.gateway.production import assert_production
from zentra.gateway.settings import Settings, SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from zentra.runtime.evidence.keyring import KeyRing
    from zentra.storage.pool import Pool
    from zentra.storage.verification.bundling import BundleMade

__all__ = ["asked_of", "signing_now"]

T = TypeVar("T")

TENANT: Final = typer.Option(..., "--tenant", metavar="TENANT", help="The tenant's id, such as acme.")
OUT: Final = typer.Option(..., "--out", metavar="FILE", help="The file to write.")
KEYS: Final = typer.Option(
    [], "--key", metavar="PUB.pem", help="A public key of earlier heads that the installation has forgotten."
)


@evidence_app.command(cls=OwnCommand, epilog=EPILOG)
def export(
    tenant: str = TENANT,
    out: Path = OUT,
    since: str | None = typer.Option(None, metavar="TIME", help="From this time on; from the beginning by default."),
    until: str | None = typer.Option(None, metavar="TIME", help="Before this time; up to now by default."),
    type: list[str] = typer.Option([], metavar="KIND", help="Only entries of intents of this kind; may come again."),
    key: list[Path] = KEYS,
    by: str = typer.Option("", help="Who does it, for the record; the user of this shell where this is left out."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Write a range of a tenant's evidence into one file that anybody can verify.

    \b
    It is a tar file with records, leaves, signed checkpoints, refusals, a signed manifest and a verifier. The range is
    cut at checkpoints: from the last one before --since to the last one before --until. A range that ended two minutes
    ago comes out the same byte for byte however often it is made. That you export is itself kept as evidence.
    \b
    It takes ZENTRA_POSTGRES_WRITER_URL, or that of the owner, and ZENTRA_EVIDENCE_KEY, which signs the manifest.
    \b
    Examples:
      zentra evidence export --tenant acme --out acme.tar
      zentra evidence export --tenant acme --since 2026-10-01T00:00Z --until 2026-11-01T00:00Z --out october.tar
      zentra evidence export --tenant acme --type payment --out payments.tar
    """

    async def work(known: Settings, url: str, pool: Pool) -> BundleMade:
        from zentra.gateway.cli.ledger import moment
        from zentra.gateway.cli.periods import somebody
        from zentra.storage.intake.evidence_keys import key_history
        from zentra.storage.verification.bundling import BundleAsked, make_bundle

        asked = BundleAsked(
            tenant=tenant, actor=by or somebody(), role="shell", types=type or None,
            since=None if since is None else moment(since, "--since"),
            until=None if until is None else moment(until, "--until"),
        )  # fmt: skip
        _assert_kinds(type)
        with shown_progress() as progress:
            return await make_bundle(
                url, pool, out, asked, key=await signing_now(pool, known), ring=await _ring(pool, known, key),
                texts=bundle_texts(), progress=progress, history=await key_history(pool),
            )  # fmt: skip

    made = asked_of(work)
    if as_json:
        say_json(made)
        return
    counts = made.counts
    say(
        f"leaves {made.first} to {made.size} of the log of {tenant}: {counts.entries:,} entries, {counts.denials:,}"
        f" refusals, {counts.exports:,} earlier exports",
        f"{out}: {made.bytes:,} bytes, SHA-256 {made.sha256}",
        f"verify it: zentra evidence verify {out} --key PUB.pem --anchor CHECKPOINT",
    )


@evidence_app.command(cls=OwnCommand, epilog=EPILOG)
def checkpoint(
    tenant: str = TENANT,
    size: int | None = typer.Option(None, min=0, help="Of this size; the latest by default."),
    key: list[Path] = KEYS,
) -> None:
    """Print a checkpoint of a tenant's log, to keep where nobody can change it: a C2SP signed note.

    \b
    Example:
      zentra evidence checkpoint --tenant acme > acme-2026-11-21.checkpoint
    """

    async def work(known: Settings, url: str, pool: Pool) -> str:
        from zentra.storage.reads.proofs import checkpoint as read_checkpoint

        head = await read_checkpoint(pool, tenant, size)
        if head is None:
            raise SettingsError(f"the log of {tenant} has no checkpoint of this size")
        return _note(head, await _ring(pool, known, key))

    typer.echo(asked_of(work), nl=False)


@evidence_app.command(cls=OwnCommand, epilog=EPILOG)
def consistency(
    tenant: str = TENANT,
    first: int = typer.Option(0, "--from", min=0, help="A size of the log."),
    second: int | None = typer.Option(None, "--to", min=0, help="A later size; the latest by default."),
    key: list[Path] = KEYS,
) -> None:
    """Print the proof that a tenant's log only grew between two sizes, with both checkpoints; `verify` takes it.

    \b
    Example:
      zentra evidence consistency --tenant acme --from 1400 --to 20852 > grown.json
      zentra evidence verify grown.json --key pub.pem --anchor of-1400.checkpoint
    """

    async def work(known: Settings, url: str, pool: Pool) -> Any:
        from zentra.runtime.evidence.proofs import CONSISTENCY_FORMAT, ConsistencyProof, Edge
        from zentra.storage.reads.proofs import consistency as read_consistency

        found = await read_consistency(pool, tenant, first, second)
        if found is None:
            raise SettingsError(f"the log of {tenant} never had these sizes, in this order")
        ring = await _ring(pool, known, key)
        notes = [None if head is None else _note(head, ring) for head in (found.first_head, found.second_head)]
        return ConsistencyProof(
            first=Edge(notes[0], found.first), format=CONSISTENCY_FORMAT, proof=[node.hex() for node in found.proof],
            second=Edge(notes[1], found.second), tenant=tenant,
        )  # fmt: skip

    say_json(asked_of(work))


@evidence_app.command(cls=OwnCommand, epilog=EPILOG)
def render(
    file: Path = typer.Argument(metavar="FILE", help="A packet, its envelope, or a bundle."),
    out: Path = OUT,
    form: str = typer.Option("html", "--as", help="html, to print; or csv, one row per ledger entry."),
) -> None:
    """Make evidence readable, offline: one printable page, or a table. Nothing is verified, and it proves nothing.

    \b
    In CSV, text that a spreadsheet would take for a formula (= + - @, tab or line end first) gets an apostrophe before
    it; numbers stay numbers. Amounts are whole minor units.
    \b
    Examples:
      zentra evidence render packet.json --out packet.html
      zentra evidence render october.tar --as csv --out october.csv
    """
    if form not in ("html", "csv"):
        raise refused(f"--as {form}: html or csv")
    try:
        parts = _rendered(file, form)
        with out.open("w", encoding="utf-8", newline="") as written:
            written.writelines(parts)
    except (ValueError, KeyError, TypeError) as error:
        raise refused(f"{file}: no packet and no bundle: {error}") from error
    except OSError as error:
        raise refused(f"{out}: {error.strerror or error}") from error


def _rendered(file: Path, form: str) -> Iterator[str]:
    from zentra.runtime.evidence.renderings import csv_of, entry_rows, packet_html, packet_records
    from zentra.runtime.evidence.verifying import packet_of_envelope

    if not is_tar(file):
        packet = packet_of_envelope(read_file(file))
        if form == "html":
            return iter([packet_html(packet).decode()])
        return csv_of(entry_rows(packet_records(json.loads(packet))))
    from zentra.gateway.cli.bundle_pages import bundle_entries, bundle_html

    return bundle_html(file) if form == "html" else csv_of(entry_rows(bundle_entries(file)))


def _assert_kinds(kinds: list[str]) -> None:
    from zentra.runtime.intents.vocabulary import IntentKind

    known = {one.value for one in IntentKind}
    for kind in kinds:
        if kind not in known:
            raise SettingsError(f"--type {kind}: one of {', '.join(sorted(known))}")


def _note(head: Any, ring: KeyRing) -> str:
    from zentra.runtime.evidence.heads import signed_note

    if head.key_id not in ring:
        raise SettingsError(f"nobody has told the public half of key {head.key_id}; give it with --key")
    return signed_note(ring[head.key_id].public, head)


async def _ring(pool: Pool, known: Settings, given: list[Path]) -> KeyRing:
    """Return the keys of the installation, and those that were given."""
    from zentra.gateway.cli.ledger import public_keys
    from zentra.runtime.evidence.keyring import RingKey
    from zentra.storage.intake.evidence_keys import key_history

    ring = dict((await key_history(pool)).ring())
    if given or known.evidence_key:
        ring = {kid: RingKey(one) for kid, one in public_keys(known, given).items()} | ring
    return ring


async def signing_now(pool: Pool, known: Settings) -> Ed25519PrivateKey:
    """Return the key that signs now; raise SettingsError where this installation's settings lack it."""
    from zentra.gateway.cli.ledger import signing_key
    from zentra.gateway.signing import evidence_keys_of, key_for
    from zentra.storage.intake.evidence_keys import key_history, signing_keys

    signing_key(known)
    key = key_for(evidence_keys_of(known), signing_keys(await key_history(pool)))
    if key is None:
        raise SettingsError("ZENTRA_EVIDENCE_KEY lacks the key in force; see: zentra evidence keys list")
    return key


def asked_of(work: Callable[[Settings, str, Pool], Coroutine[Any, Any, T]]) -> T:
    """Return what `work` returns; whatever is expected to keep it from that is told, and leaves with 3."""
    from zentra.gateway.cli.ledger import url_of
    from zentra.storage.pool import open_pool
    from zentra.storage.verification.parts import GC_THRESHOLDS

    gc.set_threshold(*GC_THRESHOLDS)

    async def run() -> T:
        known = settings()
        assert_production(known)
        url = url_of(known)
        pool = await open_pool(url, name="zentra evidence", connections_max=1)
        try:
            return await work(known, url, pool)
        finally:
            await pool.close()

    try:
        return asyncio.run(run())
    except Exception as error:
        told = explained(error)
        if told is None:
            raise
        raise refused(told[0]) from error
