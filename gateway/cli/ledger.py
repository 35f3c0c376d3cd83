"""`zentra ledger`: check the books, add them up, and verify the chains under them.

- Everything is read in one snapshot beside a running installation; nothing is written.
- The exit code is the answer: 0 clean, 1 a difference, 2 it could not be checked. A check that could not be made is
  never mistaken for a clean one.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import typer

from zentra.gateway.cli.progress import shown_progress
from zentra.gateway.cli.support import JSON_OPTION, explained, say, say_json, settings, table
from zentra.gateway.production import assert_production
from zentra.gateway.settings import Settings, SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from zentra.runtime.verification.differences import Difference
    from zentra.runtime.verification.trial import TrialBalance
    from zentra.storage.verification.checking import Check, Opening, Totals

__all__ = ["Answer", "add_ledger"]

T = TypeVar("T")


class Answer(IntEnum):
    """What a verification says to a script."""

    CLEAN = 0
    DIFFERS = 1
    UNCHECKED = 2


TENANT: Final = typer.Option(None, "--tenant", metavar="TENANT", help="Only this tenant; all by default.")
KEY: Final = typer.Option(
    [], "--key", metavar="PUB.pem", help="A public key to believe; that of ZENTRA_EVIDENCE_KEY by default."
)
EPILOG: Final = "Exit codes: 0 clean, 1 a difference, 2 it could not be checked."

ledger_app = typer.Typer(
    help="The books: check them, add them up, verify their chains.", no_args_is_help=True, rich_markup_mode=None
)


def add_ledger(app: typer.Typer) -> None:
    """Add the group of commands to `app`."""
    app.add_typer(ledger_app, name="ledger")


@ledger_app.command("check", epilog=EPILOG)
def check(
    tenant: str | None = TENANT,
    since: str | None = typer.Option(
        None, metavar="TIME|FILE", help="Look only at what was recorded since: a time, or a file that --save wrote."
    ),
    save: Path | None = typer.Option(
        None, metavar="FILE", help="Where nothing differs, keep the balances, signed, to start from next time."
    ),
    key: list[Path] = KEY,
    jobs: int = typer.Option(1, min=1, max=64, help="How many processes share the work."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Recompute every balance, hash, hold and record from the rows.

    \b
    Looked at: each counter of each account against the sum of its postings; each posting's hash, accounts and record;
    each record's hash, number, time and move; open holds against what is pending; floors; and that debits equal credits
    for every tenant and currency, posted and pending. Each difference is named with what was expected and found.
    \b
    --since TIME  takes the rows before TIME as they stand, summed by the server, and verifies all that came later.
    --since FILE  starts from balances that an earlier check verified and signed; rows from before are only counted.
    \b
    Examples:
      zentra ledger check --jobs 4
      zentra ledger check --save monday.point
      zentra ledger check --since monday.point --save tuesday.point
      zentra ledger check --tenant acme --since 2026-04-01T00:00Z --json
    """

    async def work(known: Settings) -> Check:
        from zentra.storage.verification.checking import Plan, check_ledger

        url = url_of(known)
        installation, now = await installation_of(known)
        signing = signing_key(known) if save is not None else None
        opening = None if since is None else _opening(known, since, key, tenant, installation)
        if save is not None and opening is not None and opening.accounts is None:
            raise SettingsError("--save needs all that came before to be verified: leave --since out, or name a file")
        plan = Plan(tenant, opening, jobs)
        if save is not None and signing is not None:
            plan = _keeping(plan, save, signing, installation, now)
        with shown_progress() as progress:
            return await check_ledger(url, plan, progress)

    found = asked(work)
    if as_json:
        say_json({"clean": found.clean, **msgspec.to_builtins(found)})
    else:
        say(*_told(found))
        if save is not None and found.clean:
            say(f"the balances were kept in {save}")
    raise typer.Exit(Answer.CLEAN if found.clean else Answer.DIFFERS)


@ledger_app.command("chain", epilog=EPILOG)
def chain(
    intents: list[str] | None = typer.Argument(None, metavar="[INTENT]…", help="Ids of intents; all by default."),
    tenant: str | None = TENANT,
    key: list[Path] = KEY,
    signatures: bool = typer.Option(True, help="Verify the signatures of the logs' heads as well."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Verify the hash chains of records, and the logs and signed heads over them.

    \b
    Each record must follow from the one before it; each leaf must seal what stands there; each subtree and head of a
    tenant's log must follow from its leaves, and each head must be signed. Of a record that was changed in one byte,
    that byte is named, and what it was.
    \b
    Examples:
      zentra ledger chain
      zentra ledger chain --tenant acme int-2041 int-2042
      zentra ledger chain --key evidence.pub.pem --json
    """

    async def work(known: Settings) -> Any:
        from zentra.storage.verification.chains import check_chains

        keys = await learned_keys(known, key) if signatures and not intents else None
        with shown_progress() as progress:
            return await check_chains(url_of(known), tenant=tenant, intents=intents or (), keys=keys, progress=progress)

    found = asked(work)
    if as_json:
        say_json({"clean": found.clean, **msgspec.to_builtins(found)})
    else:
        rate = f"{found.records / max(found.seconds, 0.001):,.0f} records/s"
        say(f"chains: {found.records:,} records of {found.intents:,} intents, {found.seconds:.1f} s, {rate}")
        if not intents:
            signed = "signatures verified" if found.signatures else "SIGNATURES NOT VERIFIED"
            say(f"logs: {found.leaves:,} leaves, {found.heads:,} heads, {signed}")
        say(*verdict(found.differences, found.differences_by_check))
    raise typer.Exit(Answer.CLEAN if found.clean else Answer.DIFFERS)


@ledger_app.command("trial-balance", epilog=EPILOG)
def trial_balance(
    tenant: str | None = TENANT,
    at: str | None = typer.Option(None, metavar="TIME", help="As of this time; as the books stand by default."),
    by: str = typer.Option("recorded", help="recorded or effective: which of its two times puts an entry before --at."),
    book: str | None = typer.Option(None, help="Only this book; all by default."),
    as_csv: bool = typer.Option(False, "--csv", help="Print CSV, for spreadsheets."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Add the books up: debits and credits by currency and type of account.

    \b
    Each account's balance stands in the column of its larger side; both columns, and both turnovers, have to come to
    the same sum. Without --at the counters are added up, as they stand; with --at the postings before that time are.
    Amounts are minor units.
    \b
    Examples:
      zentra ledger trial-balance --tenant acme
      zentra ledger trial-balance --at 2026-04-01T00:00Z --by effective --csv > march.csv
    """

    async def work(known: Settings) -> tuple[datetime, TrialBalance]:
        from zentra.storage.verification.trial import read_trial_balance

        if by not in ("recorded", "effective"):
            raise SettingsError(f"--by {by}: recorded or effective")
        time = None if at is None else moment(at, "--at")
        return await read_trial_balance(
            url_of(known), tenant=tenant, book=book, at=time, by="effective" if by == "effective" else "recorded"
        )

    time, found = asked(work)
    if as_json:
        say_json({"at": time, "agrees": found.agrees, **msgspec.to_builtins(found)})
    elif as_csv:
        say(*_csv(found))
    else:
        say(f"trial balance as of {time}")
        rows = [msgspec.structs.asdict(one) for one in found.lines]
        rows += [
            {**msgspec.structs.asdict(one), "type": "TOTAL" if one.agrees else "TOTAL, DIFFERS"} for one in found.totals
        ]
        order = sorted(
            rows, key=lambda row: (row["tenant"], row["book"], row["currency"], str(row["type"])[:5] == "TOTAL")
        )
        table(order, TRIAL_COLUMNS, "no accounts")
        say("the columns agree" if found.agrees else "THE COLUMNS DIFFER")
    raise typer.Exit(Answer.CLEAN if found.agrees else Answer.DIFFERS)


TRIAL_COLUMNS: Final = (
    "tenant", "book", "currency", "type", "accounts", "debits", "credits", "debit_balances", "credit_balances",
)  # fmt: skip


def _csv(found: TrialBalance) -> Iterator[str]:
    yield ",".join(TRIAL_COLUMNS)
    for one in found.lines:
        yield ",".join(str(getattr(one, column)) for column in TRIAL_COLUMNS)


# What verifications share --------------------------------------------------------------------------------------------


def asked(work: Callable[[Settings], Coroutine[Any, Any, T]]) -> T:
    """Return what `work` returns; whatever is expected to keep it from that is told, and leaves with 2."""
    from zentra.storage.verification.parts import GC_THRESHOLDS

    gc.set_threshold(*GC_THRESHOLDS)
    try:
        known = settings()
        assert_production(known)
        return asyncio.run(work(known))
    except Exception as error:
        told = explained(error)
        sentence = (
            str(error) if type(error).__name__ in ("PointFlaw", "ArchiveFlaw") else None if told is None else told[0]
        )
        if sentence is None:
            raise
        typer.echo(f"zentra: {sentence}", err=True)
        raise typer.Exit(Answer.UNCHECKED) from error


def url_of(known: Settings) -> str:
    """Return the URL of a role that sees every tenant; raise SettingsError where there is none."""
    url = known.postgres_writer_url or known.postgres_admin_url
    if not url:
        raise SettingsError("ZENTRA_POSTGRES_WRITER_URL is not set; that of an owner who sees all tenants does too")
    return url


def signing_key(known: Settings) -> Ed25519PrivateKey:
    """Return the key that the installation signs with; raise SettingsError."""
    from zentra.gateway.signing import evidence_keys_of

    if not known.evidence_key:
        raise SettingsError("ZENTRA_EVIDENCE_KEY is not set; what is kept has to be signed")
    return evidence_keys_of(known)[0]


def public_keys(known: Settings, files: Sequence[Path]) -> dict[str, Ed25519PublicKey]:
    """Return the keys to believe, by id; raise SettingsError where there is none."""
    from zentra.gateway.signing import evidence_keys_of
    from zentra.runtime.evidence.heads import key_id
    from zentra.runtime.evidence.key_files import key_ring_of_file

    keys = []
    for file in files:
        try:
            keys += [one.public for one in key_ring_of_file(file.read_bytes()).values()]
        except (OSError, ValueError) as error:
            raise SettingsError(f"{file}: {error}") from error
    if not files and known.evidence_key:
        keys += [one.public_key() for one in evidence_keys_of(known)]
    if not keys:
        raise SettingsError("no key to believe; give one with --key, or set ZENTRA_EVIDENCE_KEY")
    return {key_id(one): one for one in keys}


async def learned_keys(known: Settings, files: Sequence[Path]) -> dict[str, Ed25519PublicKey]:
    """Return the keys to believe, and those that the installation's history joins to them by signatures.

    Raises SettingsError, also where the history has another key of an id, Misconfigured for a history that was changed
    by hand, and Unavailable."""
    from zentra.runtime.evidence.history import HistoryFlaw, ring_with
    from zentra.runtime.evidence.keyring import ring_of
    from zentra.storage.intake.evidence_keys import key_history
    from zentra.storage.pool import open_pool

    keys = public_keys(known, files)
    async with await open_pool(url_of(known), name="zentra keys", connections_max=1) as pool:
        history = await key_history(pool)
    if any(entry.key_id in keys for entry in history.entries):
        try:
            keys = {kid: one.public for kid, one in ring_with(ring_of(keys.values()), history).items()}
        except HistoryFlaw as flaw:
            raise SettingsError(f"{flaw.code}: {flaw}") from flaw
    return keys


def moment(text: str, option: str) -> datetime:
    """Return the time that `text` says, with its zone; raise SettingsError."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(f"{option} {text}: no such file, and no time such as 2026-04-01T00:00Z") from error
    if at.tzinfo is None:
        raise SettingsError(f"{option} {text}: say the zone as well, such as {text}Z")
    return at


def verdict(differences: Sequence[Difference], counts: Mapping[str, int]) -> Iterator[str]:
    """Yield what was found, one line each."""
    if not counts:
        yield "clean: no difference"
        return
    yield f"{sum(counts.values())} DIFFERENCES"
    for one in differences:
        yield f"  {one.check}: {one.tenant} {one.where}: {one.what}: expected {one.expected}, found {one.found}"
    hidden = sum(counts.values()) - len(differences)
    if hidden:
        yield f"  and {hidden} more"


async def installation_of(known: Settings) -> tuple[str, datetime]:
    """Return what tells this installation from others, the moment it was made; and what time it is there."""
    from zentra.storage.verification.snapshot import taken_snapshot

    async with taken_snapshot(url_of(known)) as snapshot:
        made = await snapshot.connection.fetchval("select created_at from installation")
        return str(made.isoformat()), snapshot.at


def _opening(known: Settings, since: str, key: Sequence[Path], tenant: str | None, installation: str) -> Opening:
    from zentra.storage.verification.checking import Opening
    from zentra.storage.verification.pointfile import read_point

    path = Path(since)
    if path.is_file():
        return read_point(path, public_keys(known, key), tenant=tenant, installation=installation)
    return Opening(moment(since, "--since"))


def _keeping(plan: Any, save: Path, signing: Ed25519PrivateKey, installation: str, now: datetime) -> Any:
    """Return the plan with what keeps the balances that it verifies."""
    from zentra.storage.verification.checking import SETTLED_AFTER
    from zentra.storage.verification.pointfile import write_point

    until = now - SETTLED_AFTER

    def keep(taken_at: datetime, totals: Totals, accounts: Iterator[tuple[int, tuple[int, int, int, int]]]) -> None:
        write_point(
            save, signing, accounts, at=until, taken_at=taken_at, totals=totals, tenant=plan.tenant,
            installation=installation,
        )  # fmt: skip

    return msgspec.structs.replace(plan, until=until, keep=keep)


def _told(found: Check) -> Iterator[str]:
    counts = found.counts
    of = f"{found.counts.intents:,} intents" + (f" touched since {found.since}" if found.since else "")
    rate = counts.postings / max(found.seconds, 0.001)
    yield f"ledger of {found.tenant or 'all tenants'} as of {found.at}"
    yield f"  {counts.postings:,} postings ({2 * counts.postings:,} entries), {counts.records:,} records of {of}"
    yield f"  {found.accounts:,} accounts; {found.seconds:.1f} s, {rate:,.0f} postings/s ({2 * rate:,.0f} entries/s)"
    yield from verdict(found.differences, found.differences_by_check)
