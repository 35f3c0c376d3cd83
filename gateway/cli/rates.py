"""The commands for exchange rates: put the rate of a pair in force, list those that are.

They connect as the owner (ZENTRA_POSTGRES_ADMIN_URL), like the commands for corridors and policies."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import typer

from zentra.gateway.cli.support import JSON_OPTION, TENANT, pooled, say, say_json, table
from zentra.gateway.settings import SettingsError

__all__ = ["add_rates"]

rates_app = typer.Typer(help="Exchange rates of a tenant.", no_args_is_help=True, rich_markup_mode=None)


def add_rates(app: typer.Typer) -> None:
    """Add the group of commands to `app`."""
    app.add_typer(rates_app, name="rates")


@rates_app.command("put")
def put(
    tenant: str = TENANT,
    sell: str = typer.Argument(metavar="SELL", help="The currency that clients sell, such as USD."),
    buy: str = typer.Argument(metavar="BUY", help="The currency that they buy, such as NGN."),
    mid: str = typer.Option(help="The mid rate: units of BUY for one unit of SELL, as a decimal."),
    spread_bps: int = typer.Option(0, help="What clients get less than that, in hundredths of a percent."),
    fee_minor: int = typer.Option(0, help="What each conversion costs, in minor units of SELL."),
    max_age: int = typer.Option(300, help="For how many seconds it is good."),
    source: str = typer.Option("operator", help="Where it comes from, for the record."),
    as_of: str = typer.Option("", help="When it was so, with offset; now where this is left out."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Put the rate of a pair in force.

    \b
    The other direction is a pair of its own. Principals move a rate over the API by 20 % in a day at most; the first
    rate of a pair, and a larger move, are put here. Example:
      zentra rates put acme USD NGN --mid 1530.25 --spread-bps 50 --max-age 300 --source desk
    """
    from zentra.runtime.ledger.conversion import FxRate
    from zentra.storage.intake.rates import put_rate

    rate = FxRate(tenant, sell, buy, mid, spread_bps, fee_minor, _moment(as_of), max_age, source)
    version = pooled(lambda pool: put_rate(pool, rate))
    if as_json:
        say_json({"tenant": tenant, "sell": sell, "buy": buy, "version": version})
    else:
        say(f"version {version} of the rate of {sell} for {buy} is in force for {tenant}")


@rates_app.command("list")
def show(tenant: str = TENANT, as_json: bool = JSON_OPTION) -> None:
    """List the rates in force: zentra rates list acme"""
    from zentra.storage.reads.rates import rates

    found = msgspec.to_builtins(pooled(lambda pool: rates(pool, tenant)))
    if as_json:
        say_json(found)
        return
    columns = ("sell", "buy", "mid", "spread_bps", "fee_minor", "as_of", "max_age_seconds", "source", "version")
    table(found, columns, f"{tenant} has no rates: it converts nothing")


def _moment(text: str) -> datetime:
    if not text:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(f"--as-of: {text!r} is no time such as 2026-04-01T09:00:00Z") from error
    if moment.tzinfo is None:
        raise SettingsError("--as-of: the time needs its offset, such as Z or +01:00")
    return moment
