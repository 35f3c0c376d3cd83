"""`zentra evidence erase` and `erasures`: personal data taken back, the evidence left whole.

- Erasing needs the owner of the database, because nobody else may remove anything; and the evidence key, because that
  it was done is itself evidence.
- Nothing can bring back what was erased, older backups of the database and its log aside: the files are written anew.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
import typer

from zentra.gateway.cli.evidence import EPILOG, OwnCommand, evidence_app, refused
from zentra.gateway.cli.evidence_export import asked_of
from zentra.gateway.cli.support import JSON_OPTION, explained, need, say, say_json, settings, table
from zentra.gateway.production import assert_production
from zentra.gateway.settings import Settings
from zentra.runtime.errors import ZentraError

if TYPE_CHECKING:
    from zentra.storage.intake.personal import ErasureRow
    from zentra.storage.pool import Pool

__all__ = ["erase", "erasures"]

TENANT: Final = typer.Option(..., "--tenant", metavar="TENANT", help="The tenant's id, such as acme.")


@evidence_app.command(cls=OwnCommand, epilog=EPILOG)
def erase(
    tenant: str = TENANT,
    subject: str = typer.Option(..., "--subject", metavar="SUBJECT", help="As requests said in personal.subject."),
    reason: str = typer.Option(..., "--reason", metavar="TEXT", help="Why, for the record; without personal data."),
    by: str = typer.Option("", help="Who does it, for the record; the user of this shell where this is left out."),
    yes: bool = typer.Option(False, "--yes", help="Do not ask whether it is meant."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Erase the personal data of a subject for good; every packet, proof and signature stays valid.

    \b
    It takes what requests gave as metadata personal.*: the values, and the key of their salts. Records keep digests
    that nobody can open or try out any more. A signed statement of who erased which digests, when and why is kept.
    Then the two tables are written anew, so that no file of them has it; requests with personal data wait meanwhile.
    Where that cannot be done in two seconds it is said, with the statement to run later: the erasure stands either way.
    It needs ZENTRA_POSTGRES_ADMIN_URL and ZENTRA_EVIDENCE_KEY.
    \b
    Example:
      zentra evidence erase --tenant acme --subject cust-42 --reason "request of 2026-11-20"
    """
    if not yes and not typer.confirm(f"Erase the personal data of {subject} for good?"):
        raise refused("nothing was erased")

    async def work(known: Settings) -> tuple[ErasureRow, bool]:
        from zentra.gateway.cli.evidence_export import signing_now
        from zentra.gateway.cli.periods import somebody
        from zentra.runtime.evidence.envelopes import envelope_of, sign_payload
        from zentra.runtime.evidence.personal import ERASURE_TYPE
        from zentra.storage.intake.personal import erase_subject
        from zentra.storage.pool import open_pool

        pool = await open_pool(known.postgres_admin_url, name="zentra evidence", connections_max=1)
        try:
            key = await signing_now(pool, known)

            def signed(statement: bytes) -> bytes:
                return envelope_of(ERASURE_TYPE, statement, [sign_payload(key, ERASURE_TYPE, statement)])

            row = await erase_subject(pool, tenant, subject, actor=by or somebody(), reason=reason, sign=signed)
            return row, await _rewritten(pool)
        finally:
            await pool.close()

    from zentra.storage.intake.personal import REWRITE

    row, rewritten = _owned(work)
    if as_json:
        say_json({**_shown(row), "files_rewritten": rewritten, "to_do": "" if rewritten else REWRITE})
        return
    say(f"erased: {row.erased} values; erasure {row.id} is on record: zentra evidence erasures --tenant {tenant}")
    if rewritten:
        say("the files of the database were written anew; backups and WAL from before have it as long as you keep them")
    else:
        say(f"STILL TO BE DONE, the files have it yet: something was reading them; as the owner, later: {REWRITE}")


@evidence_app.command(cls=OwnCommand, epilog=EPILOG)
def erasures(tenant: str = TENANT, as_json: bool = JSON_OPTION) -> None:
    """Show what was erased of a tenant's personal data: who, when, why, and with --json the signed statements.

    \b
    Example:
      zentra evidence erasures --tenant acme --json
    """

    async def work(known: Settings, url: str, pool: Pool) -> list[ErasureRow]:
        from zentra.storage.intake.personal import erasures as read_erasures

        return await read_erasures(pool, tenant)

    rows = [_shown(row) for row in asked_of(work)]
    if as_json:
        say_json(rows)
        return
    table(rows, ("id", "at", "actor", "erased", "reason"), f"nothing was erased of {tenant}")


def _shown(row: ErasureRow) -> dict[str, Any]:
    return {**msgspec.structs.asdict(row), "envelope": msgspec.Raw(row.envelope)}


async def _rewritten(pool: Pool) -> bool:
    """Return whether the files were written anew: what was erased is erased, whatever becomes of that."""
    from zentra.storage.intake.personal import rewrite_files

    try:
        return await rewrite_files(pool)
    except ZentraError as error:
        say(f"the files could not be written anew: {error}")
        return False


def _owned(work: Any) -> tuple[ErasureRow, bool]:
    async def run() -> Any:
        known = settings()
        need(known, "postgres_admin_url", "evidence_key")
        assert_production(known)
        return await work(known)

    try:
        found: tuple[ErasureRow, bool] = asyncio.run(run())
    except Exception as error:
        told = explained(error)
        if told is None:
            raise
        raise refused(told[0]) from error
    return found
