"""What a schedule charges on one movement of money: exact integers, the same for the same facts and schedule.

Everything is worked out as a fraction of whole numbers and rounded once per rule: to the nearest unit, a half to the
even one, so that nobody gains by it in the long run; or as the rule says, `up` for who takes the fee, `down` for who
pays it. Then the rule's least and greatest amount bound it, and a split takes the payee's share, rounded down.

What payees bear never exceeds the amount: later rules get what earlier ones left. Lines of nothing are left out. The
digest of a quote is that of what is charged and not of the version: a new version that charges the same is no other
fee."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from zentra.runtime.evidence import canonical
from zentra.runtime.fees.schedule import RATE_UNIT, FeeMatch, FeeRule, FeeSchedule, scaled_rate
from zentra.runtime.intents.facts import FeeLine

__all__ = ["NO_FEES", "FeeFacts", "FeeQuote", "quote", "refund_due"]


class FeeFacts(Struct, frozen=True, gc=False):
    """What a fee can depend on. `corridor` is the name of the one that would carry it, empty where there is none."""

    kind: str
    minor: int
    currency: str
    country: str | None = None
    corridor: str = ""
    source_type: str = ""
    destination_type: str = ""


class FeeQuote(Struct, frozen=True, gc=False):
    """What is charged: the payer's lines are on top of the amount, the payee's come out of it."""

    minor: int
    currency: str
    lines: tuple[FeeLine, ...] = ()
    version: int = 0
    total_payer: int = 0
    total_payee: int = 0

    @property
    def digest(self) -> str:
        """Return the SHA-256 of amount, currency and lines in hex: equal digests, equal fees."""
        seen: dict[str, canonical.Value] = {
            "currency": self.currency, "lines": self.lines, "minor": str(self.minor),
        }  # fmt: skip
        return hashlib.sha256(canonical.encode(seen)).hexdigest()


NO_FEES: Final = FeeSchedule(())


def quote(schedule: FeeSchedule, facts: FeeFacts) -> FeeQuote:
    """Return what `schedule`, which has no violations, charges on `facts`.

    Money that comes from a fee account or goes to one is the house's own: it is charged nothing."""
    if "fee" in (facts.source_type, facts.destination_type):
        return FeeQuote(facts.minor, facts.currency, (), schedule.version)
    lines: list[FeeLine] = []
    charged: dict[str, int] = {}
    groups: set[str] = set()
    total_payer = total_payee = 0
    for rule in schedule.rules:
        if (rule.group and rule.group in groups) or not _fits(rule.applies, facts):
            continue
        groups.add(rule.group)
        base = sum([charged.get(name, 0) for name in rule.of]) if rule.of else facts.minor
        fee = _fee(rule, base)
        payee = fee if rule.payer == "payee" else fee * rule.payee_share_bps // 10_000 if rule.payer == "split" else 0
        payer, payee = fee - payee, min(payee, facts.minor - total_payee)
        charged[rule.name] = payer + payee
        total_payer, total_payee = total_payer + payer, total_payee + payee
        for who, minor in (("payer", payer), ("payee", payee)):
            if minor:
                lines.append(FeeLine(rule.name, who, str(minor), rule.charged, rule.on_failure, rule.on_reversal))
    return FeeQuote(facts.minor, facts.currency, tuple(lines), schedule.version, total_payer, total_payee)


def refund_due(lines: Sequence[FeeLine], payer: str, given_back: int, posted: int) -> int:
    """Return what is to have been given back of the fees that `payer` bore, once `given_back` of `posted` has been.

    A line that is kept gives nothing; a full one all of it with the last unit; a pro rata one its share, rounded down,
    so that parts add up and the last of them brings the rest."""
    due = 0
    for line in lines:
        if line.payer != payer or line.on_reversal == "keep":
            continue
        if line.on_reversal == "pro_rata":
            due += int(line.minor) * given_back // posted
        elif given_back == posted:
            due += int(line.minor)
    return due


def _fits(match: FeeMatch, facts: FeeFacts) -> bool:
    return (
        (not match.kinds or facts.kind in match.kinds)
        and (not match.currencies or facts.currency in match.currencies)
        and match.minor_min <= facts.minor
        and (match.minor_max is None or facts.minor <= match.minor_max)
        and (not match.countries or facts.country in match.countries)
        and (not match.corridors or facts.corridor in match.corridors)
        and (not match.source_types or facts.source_type in match.source_types)
        and (not match.destination_types or facts.destination_type in match.destination_types)
    )


def _fee(rule: FeeRule, base: int) -> int:
    """Return what one rule charges on `base`, from both sides together."""
    if base == 0:  # a tax on a fee that is not charged
        return 0
    fee = rule.flat_minor
    if rule.model != "flat":
        scaled, flat = _MODELS[rule.model](rule, base)
        fee, rest = divmod(scaled + (fee + flat) * RATE_UNIT, RATE_UNIT)
        if rest:
            nearest = 2 * rest > RATE_UNIT or (2 * rest == RATE_UNIT and fee % 2 == 1)
            fee += rule.rounding == "up" or (rule.rounding == "half_even" and nearest)
    if fee < rule.min_minor:
        fee = rule.min_minor
    return fee if rule.max_minor is None or fee <= rule.max_minor else rule.max_minor


def _percentage(rule: FeeRule, base: int) -> tuple[int, int]:
    return base * scaled_rate(rule.rate_bps), 0


def _graduated(rule: FeeRule, base: int) -> tuple[int, int]:
    scaled = flat = floor = 0
    for tier in rule.tiers:
        if base <= floor:
            break
        end = base if tier.up_to is None else min(base, tier.up_to)
        scaled += (end - floor) * scaled_rate(tier.rate_bps)
        flat += tier.flat_minor
        floor = end if tier.up_to is None else tier.up_to
    return scaled, flat


def _volume(rule: FeeRule, base: int) -> tuple[int, int]:
    tier = next(tier for tier in rule.tiers if tier.up_to is None or base <= tier.up_to)
    return base * scaled_rate(tier.rate_bps), tier.flat_minor


_MODELS: Final[Mapping[str, Callable[[FeeRule, int], tuple[int, int]]]] = {
    "percentage": _percentage,
    "graduated": _graduated,
    "volume": _volume,
}
