"""The commands for fees: what a tenant charges, in versions, and what a schedule would charge on an amount.

- `check` and `quote` with a file need no installation: a schedule can be tried before it is in force.
- Putting the same schedule twice changes nothing. An old version is put back by putting what `show` prints of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import typer

from zentra.gateway.cli.support import JSON_OPTION, TENANT, pooled, say, say_json, table, text_of
from zentra.gateway.settings import SettingsError

if TYPE_CHECKING:
    from zentra.runtime.fees.schedule import FeeSchedule
    from zentra.storage.reads.fees import ScheduleView

__all__ = ["add_fees"]

FILE: Final = typer.Argument(metavar="FILE", help="The schedule as JSON; - reads stdin.")
_COLUMNS: Final = ("name", "model", "payer", "charges", "applies", "charged", "on_failure", "on_reversal")

fees_app = typer.Typer(help="Fees: what a tenant charges, in versions.", no_args_is_help=True, rich_markup_mode=None)


def add_fees(app: typer.Typer) -> None:
    """Add the group of commands to `app`."""
    app.add_typer(fees_app, name="fees")


@fees_app.command("put")
def put(
    tenant: str = TENANT,
    file: Path = FILE,
    by: str = typer.Option("operator", help="Who puts it in force, for the record."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Put a schedule in force, as a new version.

    \b
    Amounts are minor units, rates basis points as text. Example: 1.5 %, at most 2,000.00, and 7.5 % tax on it:
      echo '{"rules": [
        {"name": "transfer", "model": "percentage", "rate_bps": "150", "max_minor": 200000,
         "applies": {"kinds": ["transfer"], "currencies": ["NGN"]}},
        {"name": "vat", "model": "percentage", "rate_bps": "750", "of": ["transfer"]}]}' | zentra fees put acme -
    \b
    Models: flat, percentage, graduated and volume (tiers). Payer: payer (on top), payee (out of it), split.
    See docs/fees.md for all of it, with worked examples.
    """
    from zentra.storage.intake.fees import put_schedule

    schedule = _schedule(file)
    done = pooled(lambda pool: put_schedule(pool, tenant, schedule, created_by=by))
    if as_json:
        say_json({"tenant": tenant, "version": done.version, "new": done.new})
    else:
        state = "in force" if done.new else "in force already, nothing is changed"
        say(f"version {done.version} of the fees of {tenant} is {state}")


@fees_app.command("show")
def show(
    tenant: str = TENANT,
    version: int | None = typer.Option(None, help="The version to show; the one in force where this is left out."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show a version of a tenant's fees: zentra fees show acme

    \b
    What --json prints can be put in force again:
      zentra fees show acme --version 3 --json | zentra fees put acme -
    """
    found = _schedules(tenant, version)
    if not found:
        raise SettingsError(f"{tenant} has no such version of fees" if version else f"{tenant} charges no fees")
    if as_json:
        say_json({"version": found[0].version, "rules": found[0].rules})
        return
    say(f"version {found[0].version}, put in force by {found[0].created_by} at {found[0].created_at:%Y-%m-%d %H:%M}")
    table([_row(rule) for rule in msgspec.to_builtins(found[0].rules)], _COLUMNS, "no rules: nothing is charged")


@fees_app.command("list")
def list_schedules(tenant: str = TENANT, as_json: bool = JSON_OPTION) -> None:
    """List the versions of a tenant's fees; the first is in force: zentra fees list acme"""
    rows = [
        {**row, "rules": ", ".join(rule["name"] for rule in row["rules"])}
        for row in msgspec.to_builtins(_schedules(tenant, None))
    ]
    if as_json:
        say_json(rows)
    else:
        table(rows, ("version", "active", "created_by", "created_at", "rules"), f"{tenant} charges no fees")


@fees_app.command("check")
def check(file: Path = FILE, as_json: bool = JSON_OPTION) -> None:
    """Say what is wrong with a schedule, without putting it in force: zentra fees check fees.json"""
    schedule = _schedule(file)
    if as_json:
        say_json({"rules": len(schedule.rules), "sound": True})
    else:
        say(f"{len(schedule.rules)} rules, nothing is wrong with them")


@fees_app.command("quote")
def quote_from(
    file: Path = FILE,
    amount: int = typer.Option(help="The amount, in minor units."),
    currency: str = typer.Option(help="An ISO 4217 code, such as NGN."),
    kind: str = typer.Option("transfer", help="transfer, payment or book_transfer."),
    country: str | None = typer.Option(None, help="Two capital letters; none by default."),
    corridor: str = typer.Option("", help="The corridor that would carry it."),
    source_type: str = typer.Option("customer", help="The type of the account that gives."),
    destination_type: str = typer.Option("merchant", help="The type of the account that gets."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Say what a schedule would charge: zentra fees quote fees.json --amount 125000 --currency NGN

    What is in force is quoted by POST /quotes, for the very accounts of an intent.
    """
    from zentra.runtime.fees.quoting import FeeFacts, quote

    facts = FeeFacts(kind, amount, currency, country, corridor, source_type, destination_type)
    quoted = quote(_schedule(file), facts)
    totals = {"payer_pays": str(amount + quoted.total_payer), "payee_gets": str(amount - quoted.total_payee)}
    if as_json:
        say_json({"lines": quoted.lines, "digest": quoted.digest, **totals})
        return
    table(msgspec.to_builtins(quoted.lines), ("rule", "payer", "minor", "charged", "on_reversal"), "nothing is charged")
    say(f"the payer pays {totals['payer_pays']}, the payee gets {totals['payee_gets']}")


def _schedules(tenant: str, version: int | None) -> list[ScheduleView]:
    from zentra.storage.reads.fees import schedule, schedules

    if version is None:
        return pooled(lambda pool: schedules(pool, tenant))
    found = pooled(lambda pool: schedule(pool, tenant, version))
    return [] if found is None else [found]


def _schedule(path: Path) -> FeeSchedule:
    """Return the schedule in a file; raise SettingsError naming everything that is wrong with it."""
    from zentra.runtime.fees.schedule import parse_schedule

    try:
        body = msgspec.json.decode(text_of(path))
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path}: {error}; it has to hold one JSON object") from error
    schedule, violations = parse_schedule(body)
    if schedule is None:
        raise SettingsError("; ".join(f"{path}: {one.pointer or '/'}: {one.detail}" for one in violations))
    return schedule


def _row(rule: dict[str, Any]) -> dict[str, Any]:
    """Return a rule as a line of the table."""
    named = {"flat_minor": "{}", "rate_bps": "{} bps", "min_minor": "min {}", "max_minor": "max {}", "of": "of {}"}
    tiers = [f"{len(rule['tiers'])} tiers"] if "tiers" in rule else []
    charges = [text.format(_text(rule[name])) for name, text in named.items() if name in rule]
    applies = [f"{name} {_text(value)}" for name, value in rule.get("applies", {}).items()]
    defaults = {
        "payer": "payer", "charged": "on_success", "on_failure": "refund", "on_reversal": "pro_rata",
    }  # fmt: skip
    return {**defaults, **rule, "charges": " ".join(tiers + charges), "applies": "; ".join(applies) or "anything"}


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
