"""`zentra periods`: close the books of a tenant until a time, see what is closed, open the latest again.

- Closing connects as the owner, and reads as a check does; it keeps only balances that the check has verified.
- The exit code of `close` is that of a check: 0 closed, 1 a difference, 2 it was refused or could not be
  checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import typer

from zentra.gateway.cli.ledger import EPILOG, Answer, asked, moment, url_of, verdict
from zentra.gateway.cli.progress import shown_progress
from zentra.gateway.cli.support import JSON_OPTION, TENANT, opened_pool, pooled, say, say_json, table
from zentra.gateway.settings import Settings

if TYPE_CHECKING:
    from zentra.storage.pool import Pool
    from zentra.storage.verification.checking import Check
    from zentra.storage.verification.periods import Period

__all__ = ["add_periods", "somebody"]

T = TypeVar("T")

BOOK: Final = typer.Option("default", help="The book.")
BY: Final = typer.Option("", help="Who does it, for the record; the user of this shell where this is left out.")

periods_app = typer.Typer(help="Periods: until when the books are closed.", no_args_is_help=True, rich_markup_mode=None)


def add_periods(app: typer.Typer) -> None:
    """Add the group of commands to `app`."""
    app.add_typer(periods_app, name="periods")


@periods_app.command("close", epilog=EPILOG)
def close(
    tenant: str = TENANT,
    until: str = typer.Option(metavar="TIME", help="Nothing may count before this time any more."),
    book: str = BOOK,
    by: str = BY,
    jobs: int = typer.Option(1, min=1, max=64, help="How many processes share the check."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Close the books of a tenant until a time, once they were checked.

    \b
    From the moment on that this is in force, what is booked with an effective date before TIME is refused with
    period_closed. The whole ledger of the tenant is checked, and what each account stood at is kept. Where the check
    finds something, the period is opened again. What is booked without an effective date counts from now, and goes on.
    \b
    Example:
      zentra periods close acme --until 2026-04-01T00:00Z
    """

    async def work(known: Settings) -> tuple[Period, Check]:
        from zentra.storage.verification.periods import close_period

        time = moment(until, "--until")
        async with opened_pool(known) as pool:
            with shown_progress() as progress:
                return await close_period(
                    pool, url_of(known), tenant, time, book=book, by=by or somebody(), jobs=jobs, progress=progress
                )

    period, found = asked(work)
    if as_json:
        say_json({"clean": found.clean, "period": msgspec.to_builtins(period), "check": msgspec.to_builtins(found)})
    elif found.clean:
        say(f"book {book} of {tenant} is closed until {period.until}: {period.postings:,} postings before it, verified")
        say(f"the closing balances of {period.accounts:,} accounts were kept")
    else:
        say(f"book {book} of {tenant} was not closed: {period.reason}")
        say(*verdict(found.differences, found.differences_by_check))
    raise typer.Exit(Answer.CLEAN if found.clean else Answer.DIFFERS)


@periods_app.command("list")
def list_all(
    tenant: str = TENANT,
    book: str | None = typer.Option(None, help="Only this book; all by default."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List every closing of a tenant, the latest first, reopened ones among them: zentra periods list acme"""

    async def work(pool: Pool) -> list[Period]:
        from zentra.storage.verification.periods import list_periods

        return await list_periods(pool, tenant, book=book)

    found = msgspec.to_builtins(pooled(work))
    if as_json:
        say_json(found)
        return
    for row in found:
        row["state"] = "reopened" if row["reopened_at"] else "closed" if row["verified_at"] else "being checked"
    columns = ("book", "until", "state", "closed_by", "accounts", "postings", "archived_at", "reopened_by", "reason")
    table(found, columns, f"nothing of {tenant} was ever closed")


@periods_app.command("reopen")
def reopen(
    tenant: str = TENANT,
    reason: str = typer.Option(help="Why, for the record."),
    book: str = BOOK,
    by: str = BY,
    as_json: bool = JSON_OPTION,
) -> None:
    """Open the latest period again, so that something may count in it.

    \b
    Its closing balances are dropped; close it again when it is put right. What was archived stays closed. Example:
      zentra periods reopen acme --reason 'the fees of March were booked twice'
    """

    async def work(pool: Pool) -> Period:
        from zentra.storage.verification.periods import reopen_period

        return await reopen_period(pool, tenant, book=book, by=by or somebody(), reason=reason)

    period = pooled(work)
    if as_json:
        say_json(msgspec.to_builtins(period))
    else:
        say(f"book {book} of {tenant} is open again from the closing before {period.until} on")


def somebody() -> str:
    """Return who is at the keyboard, for the record."""
    from zentra.gateway.dead_letters import operator_name

    return operator_name()
