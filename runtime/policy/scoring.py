"""The risk of an intent as a number from 0 to 100: the default scorer, and the port for one of the user's own.

The default score is a sum of three parts, in integers, at most 100:

    new counterparty   its whole weight where this source has never paid this destination
    velocity           weight x min(n, full) / full,   n = what this source paid within the last hour
    amount             weight x (a - 100) / (full - 100), within 0 and the weight, a = the amount in percent of the
                       source's mean over 31 days; half the weight where it has paid fewer than `history_min` times

A scorer is a pure function. One that raises, or returns anything but an integer from 0 to 100, has no score: the
policy's `on_error` is the answer then, which is never accepted."""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.policy.rules import Risk, Window

__all__ = ["DEFAULT_SCORER", "RISK_WINDOWS", "SCORE_MAX", "RiskFacts", "Scorer", "default_score", "score_of"]

SCORE_MAX: Final = 100
DEFAULT_SCORER: Final = "default"
RISK_WINDOWS: Final[Mapping[str, Window]] = {
    "risk.hour": Window(by="account", rolling_seconds=3_600, buckets=12),
    "risk.month": Window(by="account", rolling_seconds=31 * 86_400, buckets=31),
    "risk.pair": Window(by="pair", calendar="ever"),
}
"""What is counted for a score. These windows have no limits."""


class RiskFacts(Struct, frozen=True):
    """What a scorer is told. Figures are of accepted intents in the intent's currency, this one not included."""

    command: IntentCommand
    tenant: str
    role: str
    principal: str
    hour_count: int
    month_count: int
    month_minor: int
    pair_count: int
    weights: Risk


Scorer = Callable[[RiskFacts], int]
"""The port: a pure function of the facts; the same facts have to give the same score for ever."""


def default_score(facts: RiskFacts) -> int:
    """Return the default score."""
    weights = facts.weights
    score = weights.new_counterparty_weight if facts.pair_count == 0 else 0
    score += weights.velocity_weight * min(facts.hour_count, weights.velocity_full) // weights.velocity_full
    if facts.month_count < weights.history_min:
        score += weights.amount_weight // 2
    else:
        mean = max(facts.month_minor // facts.month_count, 1)
        over = min(facts.command.amount * 100 // mean, weights.amount_full_percent) - 100
        score += weights.amount_weight * max(over, 0) // (weights.amount_full_percent - 100)
    return min(score, SCORE_MAX)


def score_of(scorer: Scorer, facts: RiskFacts) -> int:
    """Return the score of a scorer; raise ValueError where what it returns is none, or what it raises."""
    score = scorer(facts)
    if type(score) is not int or not 0 <= score <= SCORE_MAX:
        raise ValueError(f"not a score: {score!r}")
    return score
