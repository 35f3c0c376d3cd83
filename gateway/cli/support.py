"""What every command of `zentra` shares: exit codes, one way to fail, and one way to print.

- Exit codes are stable: scripts branch on them.
- An expected error is one or two lines on stderr, what is wrong and what to do, and never a traceback.
- Nothing heavy is imported here, because `zentra --help` has to be instant.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import typer

from zentra.gateway.production import assert_production
from zentra.gateway.settings import Settings, SettingsError, read_settings

if TYPE_CHECKING:
    from zentra.storage.administration import Administration
    from zentra.storage.pool import Pool

__all__ = [
    "BY",
    "JSON_OPTION",
    "TENANT",
    "ExitCode",
    "InputError",
    "administered",
    "converted",
    "explained",
    "found",
    "json_of",
    "need",
    "opened_pool",
    "pooled",
    "say",
    "say_json",
    "settings",
    "table",
    "text_of",
    "utc",
]

T = TypeVar("T")


class ExitCode(IntEnum):
    """What a command says to a script; `zentra evidence` has codes of its own."""

    DONE = 0
    REFUSED = 1  # a rule said no, or what was checked is not as it has to be
    USAGE = 2  # wrong arguments
    CONFIGURATION = 3  # a setting or the installation is not as it has to be
    UNAVAILABLE = 4  # a server does not answer; trying again may help
    INTERNAL = 70  # a bug


class InputError(Exception):
    """Raised for what somebody gave a command; the sentence names the file or the option, and the fix."""


TENANT: Final = typer.Argument(metavar="TENANT", help="The tenant's id, such as acme.")
BY: Final = typer.Option("operator", help="Who does it, for the record.")
JSON_OPTION: Final = typer.Option(False, "--json", help="Print JSON, for scripts.")


def settings() -> Settings:
    """Return the settings of the environment; raise SettingsError."""
    return read_settings(os.environ)


def need(known: Settings, *names: str) -> None:
    """Raise SettingsError, naming the fix, unless every one of these settings has a value."""
    for name in names:
        if not getattr(known, name):
            variable = f"ZENTRA_{name.upper()}"
            raise SettingsError(
                f"{variable} is not set; export it, or {variable}_FILE with the name of a file that holds it"
            )


def text_of(path: Path) -> str:
    """Return what a file says, or stdin for -; raise SettingsError where it cannot be read, and InputError where it is
    no text."""
    shown = "stdin" if str(path) == "-" else str(path)
    try:
        if str(path) != "-":
            return path.read_bytes().decode()
        stream = getattr(sys.stdin, "buffer", None)  # a stdin that was put in its place may have none
        return sys.stdin.read() if stream is None else stream.read().decode()
    except OSError as error:
        raise SettingsError(f"{shown}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{shown}: byte {error.start} is no UTF-8; save it as UTF-8, for instance: iconv -t UTF-8 {shown}"
        ) from error


def json_of(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, or of stdin for -; raise SettingsError and InputError."""
    try:
        return msgspec.json.decode(text_of(path).strip(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path}: {error}; it has to hold one JSON object") from error


def converted(value: dict[str, Any], kind: Any, what: str) -> Any:
    """Return `value` as `kind`; raise SettingsError for a field that is wrong or unknown, which a typing error is."""
    try:
        made = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{what}: {error}") from error
    unknown = sorted(_names(value) - _names(msgspec.to_builtins(made)))
    if unknown:
        raise SettingsError(f"{what}: there is no field {', '.join(unknown)}")
    return made


def _names(value: object, path: str = "") -> set[str]:
    if not isinstance(value, dict):
        return set()
    return {f"{path}{name}" for name in value} | {
        inner for name, below in value.items() for inner in _names(below, f"{path}{name}.")
    }


@asynccontextmanager
async def opened_pool(known: Settings, url: str = "postgres_admin_url") -> AsyncIterator[Pool]:
    """Yield a pool of the store behind a setting; raise SettingsError where it has no value, and as the store does."""
    need(known, url)
    assert_production(known)
    from zentra.storage.pool import open_pool

    async with await open_pool(getattr(known, url), name="zentra cli", connections_max=2) as pool:
        yield pool


def pooled(work: Callable[[Pool], Coroutine[Any, Any, T]], url: str = "postgres_admin_url") -> T:
    """Return what `work` returns of the store behind a setting, over the owner's connection by default; raise as
    `opened_pool`."""
    known = settings()

    async def run() -> T:
        async with opened_pool(known, url) as pool:
            return await work(pool)

    return asyncio.run(run())


def administered(work: Callable[[Administration], Coroutine[Any, Any, T]]) -> T:
    """Return what `work` returns of the installation behind ZENTRA_POSTGRES_ADMIN_URL; raise as `opened_pool`."""

    async def run(pool: Pool) -> T:
        from zentra.storage.administration import Administration

        return await work(Administration(pool))

    return pooled(run)


def found(value: T | None, otherwise: str) -> T:
    """Return what was looked for; where there is none, say `otherwise` and exit as refused."""
    if value is None:
        say(otherwise)
        raise typer.Exit(ExitCode.REFUSED)
    return value


def utc(at: datetime | None) -> datetime | None:
    """Return a time that somebody wrote; without a zone it is one of UTC."""
    return None if at is None else at.replace(tzinfo=at.tzinfo or UTC)


def say(*lines: str) -> None:
    """Print lines for people."""
    for line in lines:
        typer.echo(line)


def say_json(value: object) -> None:
    """Print a value as JSON."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[str], empty: str) -> None:
    """Print rows in columns, or the sentence `empty` where there is none."""
    if not rows:
        say(empty)
        return
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(column), *(len(row[place]) for row in cells)) for place, column in enumerate(columns)]
    for line in [[column.replace("_", " ").upper() for column in columns], *cells]:
        say("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def explained(error: BaseException) -> tuple[str, ExitCode] | None:
    """Return what to tell of an expected error and the exit code, or None for an error that is a bug.

    The classes of our own layers are found by name: importing them here would import drivers for `--help`."""
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        return explained(error.exceptions[0])
    if isinstance(error, InputError):
        return str(error), ExitCode.USAGE
    if isinstance(error, SettingsError):
        return str(error), ExitCode.CONFIGURATION
    names = {one.__name__ for one in type(error).__mro__}
    if names & {"Misconfigured", "DevStackError", "SeedFailed"}:
        return str(error), ExitCode.CONFIGURATION
    if "APIError" in names:  # of the client
        away = names & {"APIConnectionError", "APITimeoutError", "InternalServerError"}
        return str(error), ExitCode.UNAVAILABLE if away else ExitCode.REFUSED
    if "Refusal" in names:
        return str(error), ExitCode.REFUSED
    if names & {"Unavailable", "StreamUnavailable"}:
        return f"{error}; is the server running, and is its URL right?", ExitCode.UNAVAILABLE
    if "StreamError" in names:
        return str(error), ExitCode.UNAVAILABLE
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        return _of_postgres(str(error), state)
    if isinstance(error, OSError):
        return str(error), ExitCode.UNAVAILABLE
    return None


def _of_postgres(sentence: str, state: str) -> tuple[str, ExitCode] | None:
    fixes = {
        "28P01": "the password in the URL is not the role's; `zentra migrate` sets those of writer and tenant",
        "28000": "the role in the URL may not log in",
        "3D000": "create the database, or correct the URL",
        "3F000": "run `zentra migrate` first",
        "42P01": "run `zentra migrate` first",
        "42501": "this takes the owner's connection: check ZENTRA_POSTGRES_ADMIN_URL",
    }
    fix = fixes.get(state)
    return None if fix is None else (f"{sentence}; {fix}", ExitCode.CONFIGURATION)
