"""`zentra cases`: the cases that belong to no tenant, callbacks of unknown references above all, and an end to them.

- It takes the owner's connection, ZENTRA_POSTGRES_ADMIN_URL: no key of a tenant reads or ends them.
- Who resolves a case says why, and both are kept. It moves no money and tries nothing again.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
import typer

from zentra.gateway.cli.support import JSON_OPTION, pooled, say, say_json, table

__all__ = ["add_cases"]

COLUMNS: Final = ("id", "opened_at", "status", "kind", "rail", "reference", "said", "operator")
_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)

cases_app = typer.Typer(
    help="Cases of the installation: what belongs to no tenant.", no_args_is_help=True, rich_markup_mode=None
)


def add_cases(app: typer.Typer) -> None:
    """Add the group of commands to `app`."""
    app.add_typer(cases_app, name="cases")


@cases_app.command("list")
def list_cases(
    limit: int = typer.Option(100, min=1, max=10_000, help="At most so many, the oldest first."),
    only_open: bool = typer.Option(False, "--open", help="Only those that nobody has resolved."),
    kind: str | None = typer.Option(None, help="Only these: unknown_reference, poison_message."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List cases that belong to no tenant: zentra cases list --open --kind unknown_reference"""
    from zentra.storage import installation_cases

    found = pooled(lambda pool: installation_cases.list_cases(pool, limit, only_open=only_open, kind=kind))
    rows = msgspec.to_builtins(found)
    if as_json:
        say_json(rows)
        return
    for row in rows:
        detail = row["detail"]
        row["status"] = "overdue" if row["overdue"] else row["status"]
        row |= {name: detail.get(name, "-") for name in ("rail", "reference")}
        row["said"] = detail.get("status") or " ".join(detail.get("reason", "-").split())[:40]
    table(rows, COLUMNS, "no cases")


@cases_app.command("resolve")
def resolve_cases(
    ids: list[str] = typer.Argument(metavar="ID…", help="The ids, as `list` shows them."),
    reason: str = typer.Option(..., "--reason", help="What became of it, for the record."),
    by: str = typer.Option("", help="Who says so; the user of this shell where this is left out."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Resolve cases that belong to no tenant, after somebody has looked.

    \b
    A callback of the same reference that comes afterwards opens a fresh case. Example:
      zentra cases resolve 5f0c…  --reason 'the bank sent a file of another customer'
    """
    wanted = tuple(one.replace("-", "").lower() for one in ids)
    for one in wanted:
        if not _ID.fullmatch(one):
            raise typer.BadParameter(f"{one}: the id of a case is 32 hex digits; see: zentra cases list")
    if not reason.strip():
        raise typer.BadParameter("--reason: say what became of it")
    from zentra.gateway.dead_letters import operator_name
    from zentra.storage import installation_cases

    who = by or operator_name()
    done = pooled(lambda pool: installation_cases.resolve_cases(pool, wanted, by=who, reason=reason))
    if as_json:
        say_json({"resolved": list(done), "by": who, "reason": reason})
        return
    for one in dict.fromkeys(wanted):
        say(f"case {one} is resolved" if one in done else f"case {one} was resolved before")
