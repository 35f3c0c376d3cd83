"""`zentra screening`: lists of names, what they say of a name, and parties held against them.

- `load` and `list` connect as the owner (ZENTRA_POSTGRES_ADMIN_URL), `rescreen` as a worker does
  (ZENTRA_POSTGRES_WRITER_URL); `check --file` needs no server.
- A list is loaded whole or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import typer

from zentra.gateway.cli.support import JSON_OPTION, ExitCode, pooled, say, say_json, table
from zentra.gateway.settings import SettingsError

if TYPE_CHECKING:
    from zentra.runtime.compliance.lists import ListEntry, NameList
    from zentra.storage.pool import Pool

__all__ = ["add_screening"]

T = TypeVar("T")
COLUMNS: Final = ("name", "version", "status", "entries", "names", "fetched_at", "loaded_at", "digest")
_NAMES: Final[Mapping[str, str]] = {
    "sdn.csv": "ofac-csv", "sdn.xml": "ofac-xml", "entities.ftm.json": "ftm", "targets.simple.csv": "targets",
}  # fmt: skip
FORMAT: Final = typer.Option(
    "", "--format", help="ofac-csv, ofac-xml, ftm or targets; told from the name of the file where it says so."
)
ALT: Final = typer.Option(None, "--alt", help="alt.csv, for ofac-csv: the other names. Beside sdn.csv it is found.")
ENCODING: Final = typer.Option("utf-8-sig", help="Of the file, should it not be UTF-8.")

screening_app = typer.Typer(
    help="Sanctions screening: lists of names, and who is alike.", no_args_is_help=True, rich_markup_mode=None
)


def add_screening(app: typer.Typer) -> None:
    """Add the group of commands to `app`."""
    app.add_typer(screening_app, name="screening")


@screening_app.command("load")
def load(
    file: Path | None = typer.Argument(None, metavar="[FILE]", help="The file as its publisher gives it."),
    name: str = typer.Option(..., help="What the list is called here, such as ofac-sdn; rules name it so."),
    form: str = FORMAT,
    alt: Path | None = ALT,
    synthetic: int = typer.Option(0, min=0, max=1_000_000, help="Instead of a file: so many people who do not exist."),
    fetched_at: str = typer.Option("", help="When it was fetched, RFC 3339; the file's own time where left out."),
    settle: float = typer.Option(5.0, min=0, max=600, help="Seconds that workers have to make it ready."),
    encoding: str = ENCODING,
    as_json: bool = JSON_OPTION,
) -> None:
    """Load a version of a list and put it in force: every party is screened anew, by the workers.

    \b
    The same list again is no new version, only a younger one: load it whenever it was fetched.
      zentra screening load sdn.csv --name ofac-sdn
      zentra screening load targets.simple.csv --name opensanctions
      zentra screening load --synthetic 2000 --name synthetic     to try it
    """
    entries, told, source = _entries(file, form, alt, encoding, synthetic)
    at = _fetched(file, fetched_at)

    async def work(pool: Pool) -> tuple[Any, bool]:
        from zentra.storage.screening import activate_list, stage_list

        version, new = await stage_list(pool, name, told, source, at, entries)
        if new:
            with _Bar(f"workers make {name} ready", settle, quiet=as_json) as step:
                for _ in range(round(settle * 10)):
                    await asyncio.sleep(0.1)
                    step(0.1)
            await activate_list(pool, name, version.version)
        return version, new

    version, new = pooled(work)
    if as_json:
        say_json({**msgspec.to_builtins(version), "status": "active", "new": new})
    elif new:
        say(
            f"version {version.version} of {name} is in force: {version.entries:,} entries, {version.names:,} names",
            "parties are screened anew; see how far: zentra screening rescreen --wait",
        )
    else:
        say(f"version {version.version} of {name} is the same list; it counts as fetched {at.isoformat()}")


@screening_app.command("list")
def show(as_json: bool = JSON_OPTION) -> None:
    """List the versions that are kept: zentra screening list"""

    async def work(pool: Pool) -> list[Any]:
        from zentra.storage.screening import list_versions

        return await list_versions(pool)

    found = msgspec.to_builtins(pooled(work))
    if as_json:
        say_json(found)
        return
    for row in found:
        row["digest"] = row["digest"][:12]
    table(found, COLUMNS, "no lists; load one: zentra screening load FILE --name NAME")


@screening_app.command("check")
def check(
    name: str = typer.Argument(metavar="NAME", help="In any script, in any order."),
    threshold: int = typer.Option(850, min=600, max=1000, help="From which score on it is a hit, in thousandths."),
    file: Path | None = typer.Option(None, "--file", help="Ask this file instead of the lists that are loaded."),
    form: str = FORMAT,
    alt: Path | None = ALT,
    encoding: str = ENCODING,
    as_json: bool = JSON_OPTION,
) -> None:
    """Say what the lists say of a name, and how alike it is; leaves with 1 where somebody is.

    \b
    Everything from 600 is shown. Examples:
      zentra screening check 'Kasimir Vorkelansky'
      zentra screening check 'Владимир' --file sdn.csv
    """
    from zentra.runtime.compliance.lists import ListInfo, NameList, answer_of_names, digest_of_list
    from zentra.runtime.compliance.matching import ALGORITHM

    if file is not None:
        entries, _, source = _entries(file, form, alt, encoding, 0)
        info = ListInfo(source, 0, digest_of_list(entries), _fetched(file, ""), len(entries))
        lists: list[NameList] = [NameList(info, entries)]
    else:

        async def work(pool: Pool) -> dict[str, NameList]:
            from zentra.storage.screening import ListShelf

            return await ListShelf(pool).active()

        lists = list(pooled(work).values())
    if not lists:
        raise SettingsError("no list is loaded; load one first: zentra screening load FILE --name NAME")
    answer = answer_of_names(lists, (name,))
    rows = [
        {"score": hit.score, "hit": "yes" if hit.score >= threshold else "no", "list": hit.list, "entry": hit.entry}
        for hit in answer.hits
    ]
    if as_json:
        told = [msgspec.structs.asdict(one.info) for one in lists]
        asked = {"algorithm": ALGORITHM, "threshold": threshold, "lists": told}
        say_json({**asked, "complete": answer.complete, "hits": rows})
    else:
        table(rows, ("score", "hit", "list", "entry"), "nobody is alike")
        if not answer.complete:
            say("more names would have had to be compared than one search may: for a person, this counts as a hit")
    if answer.score >= threshold or not answer.complete:
        raise typer.Exit(ExitCode.REFUSED)


@screening_app.command("rescreen")
def rescreen(
    tenant: str = typer.Option("", help="Only this tenant's parties."),
    wait: bool = typer.Option(False, help="Only watch the workers do it."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Screen every party that the lists and rules in force have not seen yet, and show how far it is.

    \b
    Workers do this by themselves within seconds; this is for a run of one's own, or to watch them.
      zentra screening rescreen
      zentra screening rescreen --wait

    Asked are the rules in force. A tenant whose rules cannot be used is named, and the exit code is 1.
    """
    looked_at, changed, unusable = pooled(lambda pool: _rescreen(pool, tenant, wait, as_json), "postgres_writer_url")
    if as_json:
        say_json({"looked_at": looked_at, "changed": changed, "unusable": unusable})
    else:
        say(f"{looked_at:,} parties were screened, {changed:,} of them changed their state")
    for name, why in unusable.items():
        typer.echo(f"the rules of {name} cannot be used, so nobody of it was screened: {why}", err=True)
    if unusable:
        raise typer.Exit(ExitCode.REFUSED)


async def _rescreen(pool: Pool, only: str, wait: bool, quiet: bool) -> tuple[int, int, dict[str, str]]:
    from zentra.storage.screening import ListShelf, cleared_pairs, parties_due, screen_batch, screened_tenants

    asked = await screened_tenants(pool)
    tenants = {name: rules for name, rules in asked.rules.items() if only in ("", name)}
    lists = await ListShelf(pool).active()
    if not lists:
        raise SettingsError("no list is loaded; load one first: zentra screening load FILE --name NAME")
    cleared = await cleared_pairs(pool)
    looked_at = changed = 0
    for name, rules in tenants.items():
        due = await parties_due(pool, name, rules, lists)
        with _Bar(f"parties of {name}", due, quiet=quiet) as step:
            while due:
                if wait:
                    await asyncio.sleep(0.2)
                    left = await parties_due(pool, name, rules, lists)
                    done = due - left
                    due = left
                else:
                    batch = await screen_batch(pool, name, rules, lists, cleared.get(name, frozenset()))
                    done, changed = batch.looked_at, changed + batch.changed
                    due = due - done if done else 0
                looked_at += max(0, done)
                step(done)
    return looked_at, changed, {name: why for name, why in asked.unusable.items() if only in ("", name)}


def _entries(
    file: Path | None, form: str, alt: Path | None, encoding: str, synthetic: int
) -> tuple[list[ListEntry], str, str]:
    """Return the entries of a file, its format, and what it is called."""
    from zentra.storage.list_formats import read_list

    if (file is None) is not bool(synthetic):
        raise typer.BadParameter("name one file, or say --synthetic N")
    if file is None:
        from zentra.runtime.compliance.synthetic import synthetic_entries

        return synthetic_entries(synthetic), "synthetic", f"synthetic {synthetic}"
    told = form or _NAMES.get(file.name, "")
    if not told:
        raise typer.BadParameter(f"{file.name} does not tell its format: say --format")
    beside = file.with_name("alt.csv")
    other = alt or (beside if told == "ofac-csv" and beside.is_file() else None)
    try:
        files = {"main": _lines(file, encoding)}
        if other is not None:
            files["alt"] = _lines(other, encoding)
    except OSError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}") from error
    except (UnicodeDecodeError, LookupError) as error:
        raise SettingsError(f"{file}: {error}; say --encoding") from error
    return read_list(told, files), told, file.name


def _lines(file: Path, encoding: str) -> list[str]:
    with file.open(encoding=encoding, newline="") as lines:
        return list(lines)


def _fetched(file: Path | None, given: str) -> datetime:
    if given:
        try:
            at = datetime.fromisoformat(given)
        except ValueError as error:
            raise typer.BadParameter(f"{given}: a time like 2026-04-01T12:00:00Z") from error
        return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return datetime.now(UTC) if file is None else datetime.fromtimestamp(file.stat().st_mtime, UTC)


class _Bar:
    """A progress bar on stderr, for as long as it takes; silent for scripts."""

    def __init__(self, what: str, total: float, *, quiet: bool) -> None:
        self._what, self._total, self._quiet = what, total, quiet

    def __enter__(self) -> Callable[[float], None]:
        if self._quiet or not self._total:
            return lambda done: None
        from rich.console import Console
        from rich.progress import Progress

        self._progress = Progress(console=Console(stderr=True), transient=True)
        task = self._progress.add_task(self._what, total=self._total)
        self._progress.start()
        return lambda done: self._progress.advance(task, done)

    def __exit__(self, *_: object) -> None:
        if not self._quiet and self._total:
            self._progress.stop()
