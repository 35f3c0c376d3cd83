"""What the auditor knows of transactions of several postings, by arithmetic of its own: prices as fractions.

It says which postings a journal or a conversion has to have, whether the price of a conversion was one that could be
had, and which corrections a commit has to tell of."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Any, Final

import msgspec

from zentra.bench.simulation.auditor_words import Violation
from zentra.runtime.ports import Configuration

__all__ = ["COMPOSED", "booked_together", "corrections", "dated", "given_back", "priced"]

COMPOSED: Final = ("journal", "conversion")
Leg = tuple[str, str, str, int, int]  # kind, debit, credit, pending, posted
_DIGITS: Final = {"NGN": 2, "USD": 2}
_AHEAD: Final = timedelta(seconds=60)


def booked_together(command: Mapping[str, Any], facts: Mapping[str, Any], system: Mapping[str, str]) -> list[Leg]:
    """Return the postings of a journal or a conversion; `system` names accounts as type/currency."""
    if command["kind"] == "journal":
        return [("book", leg["source"], leg["destination"], 0, int(leg["minor"])) for leg in command["legs"]]
    sell, buy, sold, said = command["currency"], command["conversion"]["buy"], int(command["minor"]), facts["priced"]
    fee = int(said["fee"])
    at_mid = (sold - fee) * Fraction(said["mid"]) * Fraction(10) ** (_DIGITS[buy] - _DIGITS[sell])
    bought = floor(at_mid * (1 - Fraction(said["spread_bps"], 10_000)))
    legs: list[Leg] = [
        ("book", command["source"], system[f"liquidity/{sell}"], 0, sold - fee),
        ("conversion_fee", command["source"], system[f"fee/{sell}"], 0, fee),
        ("book", system[f"liquidity/{buy}"], command["destination"], 0, bought),
        ("spread", system[f"liquidity/{buy}"], system[f"fee/{buy}"], 0, floor(at_mid) - bought),
    ]
    return [leg for leg in legs if leg[4]]


def given_back(booked: list[Leg], kind: str, minor: int) -> list[Leg]:
    """Return the postings that take these back: all of each, or `minor` of a lone one."""
    if len(booked) == 1:
        return [(kind, booked[0][2], booked[0][1], 0, minor)]
    return [(kind, credit, debit, 0, posted) for _, debit, credit, _, posted in reversed(booked)]


def priced(
    command: Mapping[str, Any], facts: Mapping[str, Any], where: str, tenant: str, intent_id: str,
    configuration: Configuration, now: datetime,
) -> None:  # fmt: skip
    """Object to a price that could not be had: by no rate in force that is fresh, and by no quote that holds."""
    said, terms = facts["priced"], command["conversion"]
    if "quote" in terms:
        quote = msgspec.json.decode(bytes.fromhex(terms["quote"]))
        for_this = (quote["tenant"], quote["intent_id"], quote["sell"], quote["buy"], quote["minor"]) == (
            tenant, intent_id, command["currency"], terms["buy"], command["minor"]
        )  # fmt: skip
        terms_of_it: Any = (quote["mid"], quote["spread_bps"], str(quote["fee_minor"]), quote["version"])
        good = for_this and datetime.fromisoformat(quote["expires_at"]) > now
    else:
        found = [
            r for r in configuration.rates.get(tenant, ()) if (r.sell, r.buy) == (command["currency"], terms["buy"])
        ]
        good = bool(found) and now <= found[0].as_of + timedelta(seconds=found[0].max_age_seconds)
        terms_of_it = (found[0].mid, found[0].spread_bps, str(found[0].fee_minor), found[0].version) if good else None
    if not good or terms_of_it != (said["mid"], said["spread_bps"], said["fee"], said["rate_version"]):
        raise Violation("R", f"{where} converts at {said}, which nobody offered")


def dated(command: Mapping[str, Any], facts: Mapping[str, Any], event: str, where: str, now: datetime) -> None:
    """Object to entries that count from another time than was asked for, or from the future."""
    due = command.get("effective_at") if event == "ledger.posted" else None
    if {entry.get("effective_at") for entry in facts.get("entries", ())} - {due}:
        raise Violation("B", f"{where} counts from another time than {due}")
    if due is not None and event == "ledger.posted" and datetime.fromisoformat(due) > now + _AHEAD:
        raise Violation("B", f"{where} counts from {due}, it is {now}")


def corrections(
    told: Iterable[tuple[str, str, str, datetime]],
    moved: Iterable[tuple[str, str, Mapping[str, Any], str]],
    names: Mapping[tuple[str, str, str], str],
) -> None:
    """Object where a commit links other intents than its records say; `moved` are (tenant, intent, command, event)."""
    due = sorted(
        (tenant, names.get((tenant, "id", command["corrects"]), ""), intent)
        for tenant, intent, command, event in moved
        if event == "ledger.posted" and "corrects" in command
    )
    if sorted(row[:3] for row in told) != due or any(original in ("", intent) for _, original, intent in due):
        raise Violation("M", f"the corrections {due} are told of as {list(told)}")
