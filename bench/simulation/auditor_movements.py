"""The auditor's own reading of journals and captures under a policy: every movement is asked about, wherever it goes.

A journal is taken apart into what it moves between two accounts in one currency; each is asked about with its own sum
and with all of that currency. A capture to another destination than the hold's needs a decision that lets it go."""

from collections.abc import Iterator, Mapping
from typing import Any

from zentra.bench.simulation.auditor_windows import Answered, answers_under
from zentra.bench.simulation.auditor_words import Violation
from zentra.runtime.policy import PolicyRules

__all__ = ["allowed_capture", "journal_answers", "legs_kept"]

_KEPT = ("source.type", "destination.type")


def legs_kept(
    rules: PolicyRules, spelled: Mapping[str, Any], command: Mapping[str, Any], asked: set[str],
    types: Mapping[str, str | None],
) -> dict[str, dict[str, Any]] | None:  # fmt: skip
    """Return what a decision has to keep of the accounts in legs; None where there is one movement or no rule."""
    legs = command.get("legs") or []
    if not rules.rules or len({(leg["source"], leg["destination"], leg["currency"]) for leg in legs}) < 2:
        return None
    kept: dict[str, dict[str, Any]] = {}
    for leg, meant in zip(legs, spelled["legs"], strict=True):
        for side in ("source", "destination"):
            name, id_ = leg[side], meant[side]
            kept[name] = {"id": id_} if id_ != name and id_ in types else {}
            if asked & set(_KEPT):
                kept[name]["type"] = types.get(id_)
    return kept


def journal_answers(
    rules: PolicyRules, spelled: Mapping[str, Any], usage: Mapping[str, tuple[int, int]], values: Mapping[str, Any],
    types: Mapping[str, str | None],
) -> Iterator[Answered]:  # fmt: skip
    """Yield what windows, conditions and risk say of a journal of several movements; what allow rules take back of one
    movement is left out of what is said of it."""
    tenants = {rule.name for rule in rules.rules}
    whole = [answer for answer in answers_under(rules, spelled, usage, values) if answer.rule not in tenants]
    own: dict[tuple[str, str, str], int] = {}
    total: dict[str, int] = {}
    for leg in spelled["legs"]:
        key = leg["source"], leg["destination"], leg["currency"]
        own[key] = own.get(key, 0) + int(leg["minor"])
        total[leg["currency"]] = total.get(leg["currency"], 0) + int(leg["minor"])
    everywhere: set[str] | None = None
    for (source, destination, currency), minor in own.items():
        for amount in (minor, total[currency]):
            here = {
                **values, "source.id": source, "destination.id": destination, "currency": currency, "amount": amount,
                "source.type": types.get(source), "destination.type": types.get(destination),
                "corridor": f"{spelled['country'] or '*'}/{currency}/{spelled['kind']}",
            }  # fmt: skip
            said = [answer for answer in answers_under(rules, spelled, usage, here) if answer.rule in tenants]
            back = {name for answer in said if answer.outcome == "allows" for name in answer.waives}
            everywhere = back if everywhere is None else everywhere & back
            yield from (
                answer
                for answer in said
                if answer.outcome == "denied"
                or (answer.outcome == "review" and not (answer.answered and answer.rule in back))
            )
    yield from (answer for answer in whole if answer.outcome == "denied" or answer.rule not in (everywhere or set()))


def allowed_capture(
    where: str, rules: PolicyRules, command: Mapping[str, Any], facts: Mapping[str, Any], named: str, type_: str | None,
    values: Mapping[str, Any],
) -> None:  # fmt: skip
    """Object to a capture that no decision has let go where it went, or that a deny rule speaks against."""
    (went,) = {entry["credit"] for entry in facts["entries"] if entry["posting"] == "settle"}
    permitted = facts.get("permitted")
    if went == named:
        if permitted is not None:
            raise Violation("R", f"{where} was decided on again, it goes where the hold said")
        return
    if permitted is not None and (permitted["outcome"], permitted["version"]) != ("accepted", rules.version):
        raise Violation("R", f"{where} goes to {went} by {permitted} under {rules.version}")
    there = {**values, "destination.id": went, "destination.type": type_}
    for rule in rules.rules:
        looks = "destination." in str(rule.when)
        if looks and permitted is None:
            raise Violation("R", f"{where} goes to {went} and nobody has asked {rule.name}")
        if looks and rule.outcome == "deny":
            asked = {**command, "destination": went}
            denied = [one for one in answers_under(rules, asked, _Nothing(), there) if one.rule == rule.name]
            if denied:
                raise Violation("R", f"{where} goes to {went}, {rule.name} denies that")


class _Nothing(dict[str, tuple[int, int]]):
    def __missing__(self, key: str) -> tuple[int, int]:
        return 0, 0
