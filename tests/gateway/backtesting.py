"""How long a backtest over many past intents takes, and that decisions of the same version come out identical.

    .venv/bin/python -m tests.gateway.backtesting --intents 100000

The past is made up: intents in order of time, decided by the engine's own `decide` under a policy with conditions,
three windows and risk, one in nine failing later. It is written to an embedded Postgres and read back as
`zentra policy backtest` reads it."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import UNSET, structs

from zentra.gateway.backtesting import run_backtest
from zentra.gateway.devstack.stack import DevStack
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.command import IntentCommand, digest_of
from zentra.runtime.intents.transaction import Transition, advance, register, restore
from zentra.runtime.intents.vocabulary import Fact, IntentKind
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.policy import Judging, PolicyRules, Usage, VelocityKey, decide, velocity_keys
from zentra.runtime.policy.backtest import BacktestReport
from zentra.runtime.policy.document import parse_policy
from zentra.runtime.policy.windows import add
from zentra.storage.administration import Administration
from zentra.storage.copying import copy_transitions
from zentra.storage.migrate import migrate
from zentra.storage.pool import Pool, open_pool, transaction

__all__ = ["DOCUMENT", "STRICTER", "make_past", "write_past"]

TENANT: Final = "acme"
BEGAN: Final = datetime(2026, 4, 1, tzinfo=UTC)
PAYERS: Final = 2_000
CHUNK: Final = 5_000  # rows in a transaction
DOCUMENT: Final[Mapping[str, Any]] = {
    "windows": {
        "hour": {"by": "account", "rolling_seconds": 3600, "limits": {"NGN": {"count_max": 30}}},
        "day": {"by": "account", "calendar": "day", "limits": {"NGN": {"minor_max": 40_000_000}}},
        "month": {"by": "counterparty", "calendar": "month"},
    },
    "lists": {"embargoed": ["KP", "IR"], "trusted": ["shop-1", "shop-2"]},
    "rules": [
        {"name": "large", "when": {"field": "amount", "op": ">=", "value": 900_000}, "outcome": "review",
         "reason": "large"},
        {"name": "embargo", "when": {"field": "country", "op": "in", "list": "embargoed", "default": ""},
         "outcome": "deny", "reason": "country_embargoed"},
        {"name": "night", "when": {"all": [{"field": "hour", "op": "<", "value": 5},
                                           {"field": "amount", "op": ">", "value": 500_000}]},
         "outcome": "review", "reason": "at_night"},
        {"name": "trusted", "when": {"field": "destination.id", "op": "in", "list": "trusted"}, "outcome": "allow",
         "waives": ["large"]},
    ],
    "risk": {"review_min": 95},
}  # fmt: skip
STRICTER: Final[Mapping[str, Any]] = {
    **DOCUMENT,
    "windows": {**DOCUMENT["windows"], "hour": {**DOCUMENT["windows"]["hour"], "limits": {"NGN": {"count_max": 1}}}},
    "risk": {"review_min": 85},
}


def rules_in(document: Mapping[str, Any], version: int) -> PolicyRules:
    """Return a document as rules."""
    rules, violations = parse_policy(dict(document))
    assert rules is not None, violations
    return structs.replace(rules, version=version)


def account(name: str, type_: str) -> AccountRef:
    """Return an account as the engine knows it."""
    return AccountRef(0, TENANT, name, type_, "NGN", "credit", guarded=True)


def make_past(intents: int, rules: PolicyRules, seed: int = 1) -> list[Transition]:
    """Return the transitions of so many intents that were decided on under `rules`."""
    chance, usage, found = random.Random(seed), dict[VelocityKey, Usage](), list[Transition]()
    now = BEGAN
    for number in range(intents):
        now += timedelta(milliseconds=chance.randrange(1, 2_000))
        command = IntentCommand(
            kind=IntentKind.TRANSFER, minor=str(chance.randrange(100, 1_000_000)), currency="NGN",
            source=f"payer-{chance.randrange(PAYERS)}", destination=f"shop-{chance.randrange(50)}",
            country=chance.choice(("NG", "GH", None, "KP")), intent_id=f"past-{number}",
        )  # fmt: skip
        intent = f"{int(now.timestamp() * 1000):012x}{number:020x}"
        first = register(
            intent=intent, tenant=TENANT, intent_id=f"past-{number}", command=command,
            digest=digest_of("intent", command), key=f"key-{number}", principal="dev", role="developer",
            trace=f"{number:032x}", at=now, cause="past",
        )  # fmt: skip
        tx = restore([(first.record, first.hash)])
        at = now + timedelta(milliseconds=20)
        day = at.date().isoformat()
        for key in velocity_keys(rules, TENANT, command, day, at):
            usage.setdefault(key, Usage())
        judged = decide(
            rules, command, tenant=TENANT, role="developer", source=account(command.source, "customer"), usage=usage,
            day=day, judging=Judging(at, "dev", account(command.destination, "merchant")),
        )  # fmt: skip
        found.append(first)
        if judged.outcome == "accepted":
            _count(usage, judged, command, 1)
            found.append(advance(tx, Fact.POLICY_ACCEPTED, judged, actor="svc_policy", now=at, cause="past"))
            if chance.random() < 1 / 9:
                refused = f.Refused("insufficient_funds")
                found.append(advance(tx, Fact.LEDGER_REFUSED, refused, actor="svc_ledger", now=at, cause="past"))
                _count(usage, judged, command, -1)
        else:
            found.append(advance(tx, Fact.JUDGING_BEGUN, f.Noted(), actor="svc_policy", now=at, cause="past"))
            fact = Fact.POLICY_REFERRED if judged.outcome == "review" else Fact.POLICY_DENIED
            found.append(advance(tx, fact, judged, actor="svc_policy", now=at, cause="past"))
    return found


def _count(usage: dict[VelocityKey, Usage], judged: f.Judged, command: IntentCommand, sign: int) -> None:
    for use in judged.velocity:
        held = usage[VelocityKey(TENANT, use.counter, use.day, command.currency)]
        if use.bucket is not UNSET:
            add(held, use.counter, use.bucket, sign, sign * command.amount)
        else:
            held.count += sign
            held.minor += sign * command.amount


async def write_past(pool: Pool, past: list[Transition]) -> None:
    """Store made up intents, with the accounts that they name."""
    for first in range(0, len(past), CHUNK):
        chunk = past[first : first + CHUNK]
        async with transaction(pool) as connection:
            await copy_transitions(connection, chunk)
            await connection.executemany(
                "insert into intents (id, tenant, intent_id, digest, command, principal, role, key, trace, created_at)"
                " values ($1, $2, $3, '', '', 'dev', 'developer', $4, '', $5)",
                [
                    (t.intent, TENANT, f"past-{int(t.intent[12:], 16)}", t.intent, t.at)
                    for t in chunk
                    if t.sequence == 1
                ],
            )
    async with transaction(pool) as connection:
        for kind, names in (
            ("customer", [f"payer-{n}" for n in range(PAYERS)]),
            ("merchant", [f"shop-{n}" for n in range(50)]),
        ):
            await connection.execute(
                "insert into accounts (tenant, account_id, owner, type, currency, normal_side, guarded, created_by)"
                " select $1, unnest($2::text[]), 'o', $3, 'NGN', 'credit', true, 'dev'",
                TENANT, names, kind,
            )  # fmt: skip


async def _measure(stack: DevStack, intents: int) -> bool:
    rules = rules_in(DOCUMENT, 1)
    began = time.perf_counter()
    past = make_past(intents, rules)
    say(f"{intents} intents made up in {time.perf_counter() - began:.1f} s")
    await migrate(stack.postgres_url, writer_password="w", tenant_password="t")
    pool = await open_pool(stack.postgres_url, name="backtest", connections_max=2)
    try:
        await Administration(pool).create_tenant(TENANT, TENANT)
        await write_past(pool, past)
        del past
        same = await _timed(pool, rules, intents)
        other = await _timed(pool, rules_in(STRICTER, 2), intents)
    finally:
        await pool.close()
    return same.different == 0 and same.changed == 0 and same.identical == same.decisions and other.changed > 0


async def _timed(pool: Pool, rules: PolicyRules, intents: int) -> BacktestReport:
    began, cpu = time.perf_counter(), time.process_time()
    report = await run_backtest(pool, TENANT, rules, limit=intents, scorers={})
    took, used = time.perf_counter() - began, time.process_time() - cpu
    shown = {name: value for name, value in msgspec.to_builtins(report).items() if name != "examples"}
    say(f"version {rules.version}: {took:.1f} s ({used:.1f} s of CPU): {shown}")
    return report


def say(line: str) -> None:
    """Tell whoever watches."""
    sys.stdout.write(f"{line}\n")


def main() -> int:
    """Measure, and return 1 where a decision was not identical."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--intents", type=int, default=100_000)
    asked = parser.parse_args()
    with DevStack() as stack:
        return 0 if asyncio.run(_measure(stack, asked.intents)) else 1


if __name__ == "__main__":
    sys.exit(main())
