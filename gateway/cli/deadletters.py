"""`zentra deadletters`: what the engine set aside because it could not be decided, and one more try of it.

- It needs the store and the stream as a worker does: ZENTRA_POSTGRES_WRITER_URL and ZENTRA_NATS_URL.
- A retry is recorded with who asked and why; retrying a letter twice does nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import typer

from zentra.gateway.cli.support import JSON_OPTION, need, say, say_json, settings, table

if TYPE_CHECKING:
    from zentra.gateway.dead_letters import DeadLetters

__all__ = ["add_deadletters"]

T = TypeVar("T")
COLUMNS: Final = ("id", "at", "status", "stage", "partition", "tenant", "event", "reason")
REASON_SHOWN_MAX: Final = 60

deadletters_app = typer.Typer(
    help="Dead letters: events that could not be decided.", no_args_is_help=True, rich_markup_mode=None
)


def add_deadletters(app: typer.Typer) -> None:
    """Add the group of commands to `app`."""
    app.add_typer(deadletters_app, name="deadletters")


@deadletters_app.command("list")
def list_letters(
    limit: int = typer.Option(100, min=1, max=10_000, help="At most so many, the oldest first."),
    only_open: bool = typer.Option(False, "--open", help="Only those that nobody has dealt with."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List what was set aside, with the reason: zentra deadletters list --open"""
    found = msgspec.to_builtins(_with_letters(lambda letters: letters.oldest(limit, only_open=only_open)))
    if as_json:
        say_json(found)
        return
    for row in found:
        row["reason"] = " ".join(row["reason"].split())[:REASON_SHOWN_MAX]
    table(found, COLUMNS, "no dead letters")


@deadletters_app.command("retry")
def retry_letter(
    letter: int | None = typer.Argument(None, metavar="[ID]", min=1, help="The id, as `list` shows it."),
    everything: bool = typer.Option(False, "--all", help="Every letter that is open."),
    reason: str = typer.Option("retried by an operator", help="Why it should work now, for the record."),
    by: str = typer.Option("", help="Who asks for it; the user of this shell where this is left out."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Try a letter once more, after what broke it was repaired.

    \b
    Its case is resolved by the retry; what fails again leaves a new letter and a new case. Example:
      zentra deadletters retry 17 --reason 'the rail is configured now'
    """
    if (letter is None) is not everything:
        raise typer.BadParameter("name one letter, or say --all")
    from zentra.gateway.dead_letters import operator_name

    who = by or operator_name()
    if letter is None:
        retried = list(_with_letters(lambda letters: letters.retry_all(by=who, reason=reason)))
    else:
        one = letter
        new = _with_letters(lambda letters: letters.retry(one, by=who, reason=reason))
        retried = [letter] if new else []
    if as_json:
        say_json({"retried": retried, "by": who, "reason": reason})
    elif retried:
        say(*(f"letter {number} is tried again" for number in retried))
    else:
        say("no letter is open" if letter is None else f"letter {letter} was retried before")


def _with_letters(work: Callable[[DeadLetters], Coroutine[Any, Any, T]]) -> T:
    """Return what `work` returns of the installation's dead letters; raise as it does."""
    known = settings()
    need(known, "postgres_writer_url", "nats_url")
    from zentra.gateway.dead_letters import DeadLetters

    async def run() -> T:
        async with DeadLetters.opened(known) as letters:
            return await work(letters)

    return asyncio.run(run())
