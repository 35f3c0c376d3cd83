"""The commands for what a tenant keeps in versions: draft, list, show, validate, promote, roll back.

Exit code 1 where a document is refused, or there is no such version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import typer

from zentra.gateway.cli.support import (
    BY,
    JSON_OPTION,
    TENANT,
    ExitCode,
    found,
    json_of,
    pooled,
    say,
    say_json,
    table,
)

if TYPE_CHECKING:
    from zentra.runtime.intents.command import Violation
    from zentra.storage.pool import Pool
    from zentra.storage.versions import Shelf, Step

__all__ = ["FILE", "VERSION_MAX", "VersionCommands", "spelled"]

VERSION_MAX: Final = 999_999_999
VERSION: Final = typer.Argument(metavar="VERSION", min=1, max=VERSION_MAX, help="The version's number.")
FILE: Final = typer.Option(metavar="FILE", help="The document as JSON; - reads stdin.")


def spelled(violations: Sequence[Violation]) -> list[str]:
    """Return violations as sentences."""
    return [f"{one.pointer or '/'}: {one.detail} ({one.code})" for one in violations]


class VersionCommands:
    """The commands of one kind of document."""

    def __init__(self, name: str, shelf: Callable[[], Shelf], empty: str) -> None:
        """`name` is the group's name, and `empty` says what a tenant lacks that has no version. `shelf` is called when
        a command runs: it imports drivers."""
        self._name, self._shelf, self._empty = name, shelf, empty

    def add(self, app: typer.Typer, drafting: str) -> None:
        """Add the commands to `app`; `drafting` is the help of the first."""
        line = f"zentra {self._name}"
        for name, command, told in (
            ("draft", self._draft, drafting),
            ("list", self._list, f"List a tenant's versions, the newest first: {line} list acme"),
            ("show", self._show, f"Show a version, and who did what with it: {line} show acme 4"),
            ("validate", self._step("validate"), f"Check a draft as a whole: {line} validate acme 4"),
            (
                "promote", self._step("promote"),
                f"Put a validated version in force, by somebody else than its author: {line} promote acme 4 --by grace",
            ),
            (
                "rollback", self._step("rollback"),
                f"Put a version in force again that was so before: {line} rollback acme 3 --by grace",
            ),
        ):  # fmt: skip
            app.command(name, help=told)(command)

    def _draft(
        self,
        tenant: str = TENANT,
        file: Path = FILE,
        note: str = typer.Option("", help="What is new, for the record."),
        by: str = BY,
        as_json: bool = JSON_OPTION,
    ) -> None:
        document, shelf = json_of(file), self._shelf()
        view = pooled(lambda pool: shelf.draft(pool, tenant, document, note, by))
        if as_json:
            say_json(shelf.shown(view))
            return
        say(f"version {view.version} of the {self._name} of {tenant} is a draft, digest {view.digest}")
        say(*(f"  {one}" for one in spelled(view.violations)))
        say(f"next: zentra {self._name} validate {tenant} {view.version}")

    def _list(self, tenant: str = TENANT, as_json: bool = JSON_OPTION) -> None:
        rows = msgspec.to_builtins(pooled(lambda pool: self._shelf().rows(pool, tenant)))
        if as_json:
            say_json(rows)
        else:
            columns = ("version", "state", "created_by", "created_at", "digest", "note")
            table(rows, columns, f"{tenant} has {self._empty}")

    def _show(self, tenant: str = TENANT, version: int = VERSION, as_json: bool = JSON_OPTION) -> None:
        shelf = self._shelf()

        async def look(pool: Pool) -> dict[str, Any] | None:
            view = await shelf.show(pool, tenant, version)
            if view is None:
                return None
            return {**shelf.shown(view), "events": await shelf.events(pool, tenant, version)}

        shown = found(pooled(look), f"{tenant} has no version {version}")
        if as_json:
            say_json(shown)
            return
        say(f"version {version} of the {self._name} of {tenant}: {shown['state']}, digest {shown['digest']}")
        say_json(shown["document"])
        say(*(f"  {one}" for one in spelled(shown["violations"])))
        events = msgspec.to_builtins(shown["events"])
        table(events, ("at", "action", "principal"), "nothing is kept of what was done with it")

    def _step(self, step: Step) -> Callable[..., None]:
        def move(tenant: str = TENANT, version: int = VERSION, by: str = BY, as_json: bool = JSON_OPTION) -> None:
            from zentra.storage.versions import InvalidDocument

            shelf = self._shelf()
            try:
                moved = pooled(lambda pool: shelf.move(pool, tenant, version, step, by))
            except InvalidDocument as invalid:
                say(*(f"  {one}" for one in spelled(invalid.violations)))
                raise typer.Exit(ExitCode.REFUSED) from None
            view = found(moved, f"{tenant} has no version {version}")
            if as_json:
                say_json(shelf.shown(view))
            else:
                say(f"version {version} of the {self._name} of {tenant} is {view.state}")

        return move
