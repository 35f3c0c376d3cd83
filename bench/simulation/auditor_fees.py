"""The auditor's own fees: what a schedule charges in fractions, what was agreed to, and what fee accounts have earned.

It takes the rules of a schedule as values and works everything out anew, as the documentation says it: nothing of the
product's arithmetic is shared."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, Final

from zentra.bench.simulation.auditor_histories import FeeLine, History, Record
from zentra.bench.simulation.auditor_words import RESERVING, Violation
from zentra.runtime.fees.schedule import FeeRule
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.ports import Configuration
from zentra.runtime.rails.routing import Corridor

__all__ = ["AuditedFees"]

_CHARGED: Final = ("transfer", "payment", "book_transfer")
_BEGINNINGS: Final = ("ledger.reserved", "ledger.posted", "ledger.refused")


class AuditedFees:
    """What intents were charged, held against the schedules that were in force."""

    def moved(
        self,
        history: History,
        record: Record,
        configuration: Configuration,
        source: AccountRef | None,
        destination: AccountRef | None,
    ) -> None:
        """Follow a record; only the first answer of the ledger says anything of fees."""
        where = f"{history.id}/{record.sequence} ({record.event})"
        if history.before != RESERVING or record.event not in _BEGINNINGS:
            if record.facts.get("fees"):
                raise Violation("R", f"{where} charges what was charged before")
            return
        if source is None or destination is None:
            return  # refused for that
        if history.path is not None and history.path[1] == history.names.suspense:
            return  # money that came in for nobody is charged nothing
        schedule = configuration.fees.get(history.tenant)
        rules = () if schedule is None else schedule.rules
        due = list(_lines(rules, history.command, configuration.corridors.get(history.tenant, ()), source, destination))
        history.fee_due = sum(minor for _, side, minor, *_ in due if side == "payer")
        agreed = _agreed(history, due)
        if record.event == "ledger.refused":
            if record.facts["code"] == "fee_changed" and agreed:
                raise Violation("R", f"{where} refuses a fee that was agreed to: {due}")
            return
        if not agreed:
            raise Violation("R", f"{where} charges {due}, which nobody agreed to")
        if history.fees != due:
            raise Violation("R", f"{where} charges {history.fees} where {due} is due")
        said = record.facts.get("fees", {}).get("version", 0)
        if due and (schedule is None or said != schedule.version):
            raise Violation("R", f"{where} charges by version {said} of the fees")

    def rebuild(self, histories: Iterable[History], earned: Mapping[tuple[str, str], int]) -> None:
        """Object where a fee account has not earned what intents were charged, less what they got back; `earned` is by
        tenant and account."""
        charged: Counter[tuple[str, str]] = Counter()
        for history in histories:
            charged[history.tenant, history.names.fee] += history.fee_posted - history.fee_given_back
        for place, minor in earned.items():
            if charged[place] != minor:
                raise Violation("B", f"{place} has earned {minor}, intents were charged {charged[place]}")


def _lines(
    rules: Iterable[FeeRule], command: Mapping[str, Any], corridors: Iterable[Corridor], source: AccountRef,
    destination: AccountRef,
) -> Iterable[FeeLine]:  # fmt: skip
    """Yield what is charged, line by line."""
    minor, left = int(command["minor"]), int(command["minor"])
    if "fee" in (source.type, destination.type) or command["kind"] not in _CHARGED:
        return
    worth: dict[str, int] = {}
    taken: set[str] = set()
    for rule in rules:
        wanted = rule.applies
        facts = {
            "kinds": command["kind"], "currencies": command["currency"], "countries": command.get("country"),
            "corridors": _corridor(corridors, command), "source_types": source.type,
            "destination_types": destination.type,
        }  # fmt: skip
        fits = all(not getattr(wanted, name) or fact in getattr(wanted, name) for name, fact in facts.items())
        inside = wanted.minor_min <= minor <= (minor if wanted.minor_max is None else wanted.minor_max)
        if not fits or not inside or rule.group in taken:
            continue
        taken |= {rule.group} - {""}
        base = sum(worth.get(name, 0) for name in rule.of) if rule.of else minor
        due = _charge(rule, base) if base else 0
        theirs = {"payer": Fraction(0), "payee": Fraction(1), "split": Fraction(rule.payee_share_bps, 10_000)}
        payee = due * theirs[rule.payer] // 1
        payer, payee = due - payee, min(payee, left)
        left -= payee
        worth[rule.name] = payer + payee
        for side, part in (("payer", payer), ("payee", payee)):
            if part:
                yield rule.name, side, part, rule.charged, rule.on_failure, rule.on_reversal


def _charge(rule: FeeRule, base: int) -> int:
    """Return what a rule makes of a base, rounded once and bounded."""
    exact = Fraction(rule.flat_minor)
    if rule.model == "percentage":
        exact += base * Fraction(rule.rate_bps) / 10_000
    floor = 0
    for tier in rule.tiers:
        ceiling = base if tier.up_to is None else tier.up_to
        part = max(0, min(base, ceiling) - floor)
        if rule.model == "graduated" and part:
            exact += part * Fraction(tier.rate_bps) / 10_000 + tier.flat_minor
        if rule.model == "volume" and floor < base <= ceiling:
            exact += base * Fraction(tier.rate_bps) / 10_000 + tier.flat_minor
        floor = ceiling
    whole = {"half_even": round(exact), "up": -(-exact // 1), "down": exact // 1}[rule.rounding]
    whole = max(whole, rule.min_minor)
    return whole if rule.max_minor is None else min(whole, rule.max_minor)


def _corridor(corridors: Iterable[Corridor], command: Mapping[str, Any]) -> str:
    """Return the corridor that would carry a command: of those that fit the one of its country, then by name."""
    minor, country = int(command["minor"]), command.get("country")
    fitting = [
        (corridor.country is None, corridor.name)
        for corridor in corridors
        if (corridor.currency, corridor.kind) == (command["currency"], command["kind"])
        and corridor.country in (None, country)
        and corridor.minor_min <= minor <= (minor if corridor.minor_max is None else corridor.minor_max)
    ]
    return min(fitting)[1] if fitting else ""


def _agreed(history: History, due: list[FeeLine]) -> bool:
    """Return whether the client would have it: not above its most, and the very quote that it names."""
    terms = history.command.get("fee", {})
    if "max" in terms and history.fee_due > int(terms["max"]):
        return False
    names = ("rule", "payer", "minor", "charged", "on_failure", "on_reversal")
    lines = [dict(zip(names, (line[0], line[1], str(line[2]), *line[3:]), strict=True)) for line in due]
    told = {"currency": history.currency, "lines": lines, "minor": str(history.amount)}
    spelled = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    return "quote_digest" not in terms or bool(terms["quote_digest"] == hashlib.sha256(spelled).hexdigest())
