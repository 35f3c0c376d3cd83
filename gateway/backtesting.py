"""Testing a version of a policy on a tenant's past: read the decisions, put them in order of time, ask the version.

The work is cut into slices, so that whoever shares the loop gets their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from msgspec import UNSET

from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.policy.backtest import Backtest, BacktestReport
from zentra.runtime.policy.replay import Past
from zentra.runtime.policy.rules import PolicyRules
from zentra.runtime.policy.scoring import Scorer
from zentra.storage.pool import Pool
from zentra.storage.reads.decisions import accounts_named, past_intents

__all__ = ["BACKTEST_LIMIT", "BACKTEST_LIMIT_MAX", "run_backtest"]

BACKTEST_LIMIT: Final = 100_000
BACKTEST_LIMIT_MAX: Final = 1_000_000  # some 2 KiB each are held until they are in order
SLICE: Final = 100  # a few milliseconds


async def run_backtest(
    pool: Pool,
    tenant: str,
    rules: PolicyRules,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = BACKTEST_LIMIT,
    scorers: Mapping[str, Scorer],
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> BacktestReport:
    """Return what `rules` would have said of the latest `limit` intents in that time.

    `progress` is told what is done ("read", "decide"), how much of it, and of how much (0: nobody knows). Raises
    Unavailable as the store does."""
    decisions: list[tuple[Past, str | None]] = []
    read = 0
    async for page in past_intents(pool, tenant, since=since, until=until, limit=limit):
        decisions += [(past, intent.failed_at) for intent in page for past in intent.decisions]
        read += len(page)
        progress("read", read, 0)
    names = {name for past, _ in decisions for name in _names(past.command)}
    accounts = await accounts_named(pool, tenant, names)
    decisions.sort(key=lambda one: (one[0].at, one[0].intent, one[0].sequence))
    backtest = Backtest(rules, accounts, scorers)
    for number, (past, failed_at) in enumerate(decisions, 1):
        backtest.take(past, failed_at)
        if number % SLICE == 0:
            progress("decide", number, len(decisions))
            await asyncio.sleep(0)
    progress("decide", len(decisions), len(decisions))
    return backtest.report()


def _names(command: IntentCommand) -> list[str]:
    legs = () if command.legs is UNSET else command.legs
    return [command.source, command.destination, *(name for leg in legs for name in (leg.source, leg.destination))]
