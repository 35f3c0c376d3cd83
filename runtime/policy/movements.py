"""The movements of a journal: what its legs move between two accounts in one currency, each asked about by itself.

The tenant's rules are asked about every movement twice: with the sum of its own legs, and with all that the journal
moves in that currency. The worst answer wins, so neither the order of the legs nor a split of an amount helps. An allow
rule takes back the reviews of the movements that it speaks of; what was said of the journal as a whole (windows,
corrections, risk) only where it speaks of all of them. Each reason is kept once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec import UNSET

from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.facts import Seen
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.policy.fields import FIELDS, Scalar, Subject
from zentra.runtime.policy.program import CompiledRule, Program
from zentra.runtime.policy.rules import Rule

__all__ = ["ID", "SIDES", "Said", "accounts_seen", "answers", "asked_values"]

ID: Final = "id"
SIDES: Final = ("source", "destination")
Accounts = Mapping[str, Mapping[str, Scalar]]


class Said(NamedTuple):
    """What one rule says of all movements: "passed", "against", "taken_back" by allow rules, "allows" some movements or
    "allows_all"; `answered` is False where it is against one for want of an answer."""

    rule: Rule
    said: str
    answered: bool = True


def accounts_seen(program: Program, subject: Subject) -> dict[str, dict[str, Scalar]] | None:
    """Return what rules look at of each account that legs name, by that name, or None where the journal is one movement
    and says all about it itself. An id is kept only where the name is another one."""
    command, refs = subject.command, subject.accounts
    if command.legs is UNSET or refs is None or not program.tests:
        return None
    if len({(leg.source, leg.destination, leg.currency) for leg in command.legs}) == 1:
        return None
    wanted = sorted({name.partition(".")[2] for name, field in program.fields.items() if field.kept and _sided(name)})
    seen: dict[str, dict[str, Scalar]] = {}
    for leg in command.legs:
        for name in (leg.source, leg.destination):
            if name not in seen:
                ref = refs.get(name)
                told: dict[str, Scalar] = {} if ref is None or ref.account_id == name else {ID: ref.account_id}
                seen[name] = told | {one: _read(one, subject, ref) for one in wanted}
    return seen


def asked_values(
    program: Program, command: IntentCommand, seen: Seen, values: Mapping[str, Scalar]
) -> list[dict[str, Scalar]]:
    """Return the values of the fields for everything that is asked about a journal, in the order of its legs; nothing
    where the decision saw no accounts of legs. `values` are those of the journal as a whole."""
    if seen.accounts is UNSET or command.legs is UNSET:
        return []
    own: dict[tuple[str, str, str], int] = {}
    whole: dict[str, int] = {}
    for leg in command.legs:
        names = [str(seen.accounts.get(name, {}).get(ID, name)) for name in (leg.source, leg.destination)]
        key = names[0], names[1], leg.currency
        own[key] = own.get(key, 0) + int(leg.minor)
        whole[leg.currency] = whole.get(leg.currency, 0) + int(leg.minor)
    named: dict[str, dict[str, str | int | bool | None]] = {
        str(told.get(ID, name)): told for name, told in seen.accounts.items()
    }
    sided = [(name, *name.split(".", 1)) for name in program.fields if _sided(name)]
    asked = []
    for (source, destination, currency), minor in own.items():
        ids = {"source": source, "destination": destination}
        about = dict(values)
        for name, side, part in sided:
            about[name] = ids[side] if part == ID else named.get(ids[side], {}).get(part)
        about["currency"] = currency
        about["corridor"] = f"{command.country or '*'}/{currency}/{command.kind}"
        for amount in dict.fromkeys((minor, whole[currency])):
            asked.append({**about, "amount": amount})
    return asked


def answers(tests: Sequence[CompiledRule], asked: Sequence[Mapping[str, Any]]) -> Iterator[Said]:
    """Yield what each rule says of everything that was asked, in order."""
    hits = [[_hit(test, values) for test in tests] for values in asked]
    allowing = [(place, test.rule.waives) for place, test in enumerate(tests) if test.rule.outcome == "allow"]
    allowed = [{name for place, waives in allowing if row[place] for name in waives} for row in hits]
    for place, test in enumerate(tests):
        rule, said = test.rule, [row[place] for row in hits]
        if rule.outcome == "allow":
            yield Said(rule, "allows_all" if all(said) else "allows" if any(said) else "passed")
            continue
        against = [(hit, rule.name in waived) for hit, waived in zip(said, allowed, strict=True) if hit is not False]
        standing = [hit for hit, waived in against if not (hit and waived and rule.outcome == "review")]
        if not against:
            yield Said(rule, "passed")
        else:
            yield Said(rule, "against" if standing else "taken_back", None not in standing)


def _hit(test: CompiledRule, values: Mapping[str, Any]) -> bool | None:
    try:
        hit: object = test.test(values)
    except Exception:  # it has no answer, which counts against the journal
        return None
    return hit if isinstance(hit, bool) else None


def _sided(name: str) -> bool:
    return name.partition(".")[0] in SIDES


def _read(part: str, subject: Subject, ref: AccountRef | None) -> Scalar:
    """Return a part of an account as the fields of a source read it."""
    return FIELDS[f"source.{part}"].read(Subject(subject.command, "", "", ref, None, subject.now, None))
