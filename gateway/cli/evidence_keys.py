"""`zentra evidence keys`: which keys sign evidence, from when to when, and how one follows another.

- Private keys are read from files and settings, never stored and never printed.
- A rotation is signed by the old key and the new one, and is evidence itself; nobody has to be stopped for it.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from zentra.gateway.cli.evidence import EPILOG, Group, OwnCommand, evidence_app, read_file, refused
from zentra.gateway.cli.evidence_export import asked_of
from zentra.gateway.cli.support import JSON_OPTION, say, say_json, table
from zentra.gateway.settings import Settings, SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from zentra.runtime.evidence.history import KeyHistory
    from zentra.storage.intake.evidence_keys import Signers
    from zentra.storage.pool import Pool

__all__ = ["keys_app"]

LEAD_SECONDS: Final = 60

keys_app = typer.Typer(
    help="The keys that sign evidence: their history, and how one follows another.", cls=Group, no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip
evidence_app.add_typer(keys_app, name="keys")


@keys_app.command("list", cls=OwnCommand, epilog=EPILOG)
def list_keys(as_json: bool = JSON_OPTION) -> None:
    """Show which key signs from when to when, and which workers hold it.

    \b
    Example:
      zentra evidence keys list
    """

    async def work(known: Settings, url: str, pool: Pool) -> tuple[KeyHistory, Signers]:
        from zentra.storage.intake.evidence_keys import key_history, signers

        return await key_history(pool), await signers(pool)

    history, here = asked_of(work)
    rows = [
        {
            "key_id": entry.key_id, "since": entry.since, "until": history.ring()[entry.key_id].until,
            "in_force": "yes" if entry.key_id == here.key_id else "no", "by": entry.by, "reason": entry.reason,
            "workers": sorted(worker for worker, held in here.held.items() if entry.key_id in held),
        }
        for entry in history.entries
    ]  # fmt: skip
    if as_json:
        say_json({"keys": rows, "stopped": here.lacking(here.key_id) if history.entries else []})
        return
    table(
        rows, ("key_id", "since", "until", "in_force", "by", "reason", "workers"),
        "no key yet: the first worker that starts begins the history with its key",
    )  # fmt: skip
    for worker in here.lacking(here.key_id) if history.entries else ():
        say(f"{worker} lacks the key in force and SEALS NOTHING: put {here.key_id} into its ZENTRA_EVIDENCE_KEY")


@keys_app.command("rotate", cls=OwnCommand, epilog=EPILOG)
def rotate(
    new: Path | None = typer.Option(
        None, metavar="NEW.pem", help="The private key that is to follow; the one of ZENTRA_EVIDENCE_KEY that is new."
    ),
    old: Path | None = typer.Option(
        None, metavar="OLD.pem", help="The private key that signs now; that of ZENTRA_EVIDENCE_KEY by default."
    ),
    reason: str = typer.Option("rotation", help="Why, for the record."),
    lead: int = typer.Option(LEAD_SECONDS, "--in", min=15, max=30 * 86_400, help="In how many seconds."),
    restart: bool = typer.Option(
        False, "--restart", help="Do not ask whether the workers hold the new key: they are restarted with it then."
    ),
    by: str = typer.Option("", help="Who does it, for the record; the user of this shell where this is left out."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Let a new key follow the one that signs; the entry is signed by both.

    \b
    Without a restart at that moment: put the new key into ZENTRA_EVIDENCE_KEY behind the old one (PEM behind PEM),
    restart the workers one by one whenever you like, then rotate. All of them change over at the same moment.
    With one key at a time: rotate with --restart, and restart each worker with the new key once it is in force; until
    then it seals nothing, says so, and catches up.
    \b
    Examples:
      openssl genpkey -algorithm ed25519 -out new.pem && cat old.pem new.pem > evidence.pem
      zentra evidence keys rotate --new new.pem --reason "yearly"
      zentra evidence keys rotate --new new.pem --restart
    """

    async def work(known: Settings, url: str, pool: Pool) -> KeyHistory:
        from zentra.gateway.cli.periods import somebody
        from zentra.storage.intake.evidence_keys import key_history, rotate_key

        held = _private(old, known)
        fresh = _fresh(new, held, await key_history(pool))
        return await rotate_key(
            pool, held, fresh, by=by or somebody(), reason=reason, lead=timedelta(seconds=lead), needed=not restart
        )

    entry = asked_of(work).entries[-1]
    if as_json:
        say_json(entry)
        return
    say(
        f"key {entry.key_id} signs from {entry.since} on; the entry is signed by it and by the key before it",
        "give it to whoever verifies: zentra evidence keys export --out evidence-keys.json",
        "keep the old private key until every worker has been restarted without it",
    )


@keys_app.command("export", cls=OwnCommand, epilog=EPILOG)
def export_keys(
    out: Path | None = typer.Option(None, metavar="FILE", help="The file to write; stdout by default."),
    form: str = typer.Option("jwk", "--as", help="jwk: a JWK set with the signed history; or pem."),
) -> None:
    """Write the public keys with their times, for whoever verifies.

    \b
    As jwk it is the answer of GET /.well-known/zentra-evidence-keys. It has the signed entries too, so somebody who
    trusts one of the keys learns the others from it: zentra evidence verify … --key first.pem --history FILE.
    \b
    Examples:
      zentra evidence keys export --out evidence-keys.json
      zentra evidence keys export --as pem --out evidence-keys.pem
    """
    if form not in ("jwk", "pem"):
        raise refused(f"--as {form}: jwk or pem")

    async def work(known: Settings, url: str, pool: Pool) -> KeyHistory:
        from zentra.storage.intake.evidence_keys import key_history

        history = await key_history(pool)
        if not history.entries:
            raise SettingsError("no key yet: the first worker that starts begins the history with its key")
        return history

    text = _exported(asked_of(work), form)
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text)
    except OSError as error:
        raise refused(f"{out}: {error.strerror or error}") from error


def _exported(history: Any, form: str) -> str:
    import msgspec

    from zentra.runtime.evidence.key_files import history_file, pem_bundle

    if form == "pem":
        return pem_bundle(history.ring())
    return msgspec.json.encode(history_file(history)).decode() + "\n"


def _private(file: Path | None, known: Settings) -> list[Ed25519PrivateKey]:
    from zentra.gateway.signing import evidence_keys_of
    from zentra.runtime.evidence.key_files import load_private_keys

    if file is None:
        if not known.evidence_key:
            raise SettingsError("ZENTRA_EVIDENCE_KEY is not set; give the key that signs now with --old OLD.pem")
        return evidence_keys_of(known)
    try:
        return load_private_keys(read_file(file))
    except ValueError as error:
        raise SettingsError(f"{file}: {error}") from error


def _fresh(file: Path | None, held: list[Ed25519PrivateKey], history: KeyHistory) -> Ed25519PrivateKey:
    from zentra.runtime.evidence.heads import key_id
    from zentra.runtime.evidence.key_files import load_private_keys

    if file is not None:
        try:
            keys = load_private_keys(read_file(file))
        except ValueError as error:
            raise SettingsError(f"{file}: {error}") from error
    else:
        told = {entry.key_id for entry in history.entries}
        keys = [key for key in held if key_id(key.public_key()) not in told]
    if len(keys) != 1:
        raise SettingsError(f"there are {len(keys)} keys that could follow; name the one with --new NEW.pem")
    return keys[0]
