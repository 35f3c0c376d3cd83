"""The compliance rules over a decision: what is known of the people in an intent is asked last and weighs the same.

The worst answer of all rules is the outcome, and no rule of a tenant's own takes back what these say: only a person
does, by a review. What was known is kept in the decision and in the digest of its inputs, and is all that is looked at,
so the decision can be made again."""

import hashlib
from collections.abc import Collection

from msgspec import UNSET, Struct

from zentra.runtime.compliance.diligence import Compliance, Diligence
from zentra.runtime.compliance.rules import COMPLIANCE_RULES
from zentra.runtime.evidence import canonical
from zentra.runtime.intents.facts import Judged
from zentra.runtime.policy.evaluation import LANES

__all__ = ["demanded", "with_people"]

_RANK = {"accepted": 0, "review": 1, "denied": 2}


class _Case(Struct, frozen=True, gc=False):
    diligence: Diligence


def with_people(judged: Judged, diligence: Diligence, waives: Collection[str]) -> Judged:
    """Return a decision with the answers of the compliance rules; `waives` are rules that a person approved."""
    case = _Case(diligence)
    results, reasons, worst = dict(judged.results), list(judged.reasons), judged.outcome
    for name, rule in COMPLIANCE_RULES.items():
        objection = rule(case)
        if objection is None:
            results[name] = "passed"
            continue
        outcome, reason = objection
        if outcome == "review" and name in waives:
            results[name] = "waived"
            continue
        results[name] = outcome
        reasons.append(reason)
        if _RANK[outcome] > _RANK[worst]:
            worst = outcome
    digest = hashlib.sha256(judged.input_digest.encode() + b"\n" + canonical.encode(diligence)).hexdigest()
    lane = judged.lane if worst == judged.outcome else LANES[worst]
    taken = judged.velocity if worst == "accepted" else ()
    return Judged(
        worst, judged.version, digest, lane, results, tuple(reasons), taken, judged.seen, judged.named, diligence
    )


def demanded(diligence: object, rules: Compliance | None) -> Diligence | None:
    """Return what a decision knew, under what other rules demand of it: for trying those on past decisions.

    None where they demand nothing, or where the decision knew nothing. Lists and names are not asked again."""
    if rules is None or diligence is UNSET or not isinstance(diligence, Diligence):
        return None
    return Diligence(
        rules.kyc_required, rules.screen, diligence.source, diligence.destination, diligence.leaves,
        diligence.counterparty, diligence.algorithm, rules.threshold, diligence.lists, diligence.missing,
        diligence.name_digest, diligence.score, tuple(hit for hit in diligence.hits if hit.score >= rules.threshold),
        diligence.others,
    )  # fmt: skip
