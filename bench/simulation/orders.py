"""What clients of the simulation ask for beside plain transfers: journals, conversions, conditions, corrections.

Every kind of thing that can be wrong with them is asked for now and then. They go through the parser, so that a run has
what a gateway would let in and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

import msgspec
from msgspec import structs

from zentra.bench.simulation.setting import COLD_ACCOUNTS, CURRENCY
from zentra.runtime.intents.command import IntentCommand, parse_intent
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.ledger.conversion import FxRate, Quote

__all__ = ["conversion", "forced", "journal", "open_quote", "with_conditions"]

OTHER: Final = "USD"
_MINORS: Final = (1, 100, 2_500, 40_000, 180_000)
_NAMES: Final = (
    "hot", "cold", "poor", "spare", "shop", "out", "credit", "closed", "nobody", "liquidity-ngn", "virtual:100",
    "virtual:200", "eu-hot", "eu-shop",
)  # fmt: skip
_NAME_WEIGHTS: Final = (8, 8, 3, 4, 3, 2, 2, 0.1, 0.1, 0.2, 0.5, 0.5, 0.2, 0.2)
_AGES: Final = (1.0, 3_600.0, 40 * 86_400.0, -30.0, -120.0)  # seconds before now


def journal(random: Random, known: Sequence[str], now: datetime) -> IntentCommand:
    """Return a journal of one to six legs; `known` are intent_ids of its tenant that it may correct."""
    legs = [_leg(random) for _ in range(random.randrange(1, 7))]
    body: dict[str, Any] = {"kind": "journal", "legs": legs, "currency": legs[0]["currency"]}
    if random.random() < 0.2:
        body["effective_at"] = timestamp(now - timedelta(seconds=random.choice(_AGES)))
    if random.random() < 0.15:
        body["corrects"] = random.choice([*known[-20:], "nothing"])
    return with_conditions(random, _asked(body))


def conversion(random: Random, tenant: str, intent_id: str, rates: Sequence[FxRate], now: datetime) -> IntentCommand:
    """Return the sale of one currency for the other, with a quote now and then, good or not."""
    sell, buy = (CURRENCY, OTHER) if random.random() < 0.6 else (OTHER, CURRENCY)
    source, destination = ("dollars", _name(random)) if sell == OTHER else (_name(random), "dollars")
    minor = random.choice((*_MINORS, 1_500, 900_000))
    body: dict[str, Any] = {
        "kind": "conversion", "amount": minor, "currency": sell, "source": source, "destination": destination,
        "buy_currency": buy,
    }  # fmt: skip
    if rates and random.random() < 0.4:
        rate = random.choice(rates)
        quote = Quote(
            tenant, intent_id if random.random() < 0.9 else "another", sell, buy,
            str(minor if random.random() < 0.9 else 5), rate.mid, rate.spread_bps, rate.fee_minor, rate.version,
            now + timedelta(seconds=random.choice((-1, 5, 30, 30, 600))),
        )  # fmt: skip
        body["quote"] = msgspec.json.encode(quote).hex()
    return with_conditions(random, _asked(body))


def with_conditions(random: Random, command: IntentCommand) -> IntentCommand:
    """Return the command, sometimes with conditions on balances, that hold or not."""
    if random.random() > 0.25:
        return command
    given = []
    for _ in range(random.randrange(1, 3)):
        bound = random.choice((0, 1_000, 50_000, 2_000_000, -200_000))
        bounds = random.choice(({"min": bound}, {"max": bound}, {"min": bound, "max": bound + 40_000_000}))
        of = random.choice(("available", "available", "posted", "pending"))
        given.append(
            {"account": random.choice((command.source, command.destination, _name(random))), "of": of, **bounds}
        )
    accounts = {"source": "a", "destination": "b"}
    asked = _asked({"kind": "transfer", "amount": 1, "currency": CURRENCY, "conditions": given, **accounts})
    return structs.replace(command, conditions=asked.conditions)


def forced(random: Random, people: Sequence[str]) -> dict[str, Any]:
    """Return what makes some reversals forced: with an approval, or with none that counts."""
    if random.random() > 0.25:
        return {}
    return {"force": True, "approved_by": random.choice((*people, ""))}


def open_quote(sealed: str) -> Quote | None:
    """Return the quote that a client was given."""
    try:
        return msgspec.json.decode(bytes.fromhex(sealed), type=Quote)
    except (ValueError, msgspec.MsgspecError):
        return None


def _leg(random: Random) -> dict[str, Any]:
    if random.random() < 0.08:
        return {
            "source": "dollars",
            "destination": _name(random),
            "amount": 5,
            "currency": random.choice((OTHER, CURRENCY)),
        }
    source, destination = _name(random), _name(random)
    if source == destination and random.random() < 0.9:
        destination = "shop" if source != "shop" else "hot"
    minor = random.choice((*_MINORS, random.randrange(1, 300_000)))
    return {"source": source, "destination": destination, "amount": minor, "currency": CURRENCY}


def _name(random: Random) -> str:
    name = random.choices(_NAMES, _NAME_WEIGHTS)[0]
    return f"cold-{random.randrange(COLD_ACCOUNTS)}" if name == "cold" else name


def _asked(body: dict[str, Any]) -> IntentCommand:
    command, _, violations = parse_intent(body)
    if command is None:
        raise ValueError(f"the parser takes no {body}: {violations}")
    return command
