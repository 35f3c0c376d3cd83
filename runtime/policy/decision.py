"""One decision: the rules of a tenant in one version, over one intent and the counters that it touches.

Every rule answers, and the worst answer is the outcome (denied before review before accepted), so a decision names all
that spoke against it. An allow rule takes back the reviews that it names, and never a denial. A decision is a function
of its inputs alone: the same inputs and version give the same decision, at any time.

What is looked at is gathered first, by value (`gather`), and evaluated then (`evaluation`); a decision under standard
rules alone, which is nearly every one, takes the short way."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from msgspec import UNSET, Struct

from zentra.runtime.compliance.diligence import Diligence
from zentra.runtime.evidence import canonical
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.facts import Judged, Seen, VelocityUse
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.intents.vocabulary import BOOKED
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.policy.evaluation import (
    DAILY,
    LANES,
    SOURCE_TYPE,
    Inputs,
    Scalar,
    evaluated,
    failed,
    read_field,
    usage_of,
)  # fmt: skip
from zentra.runtime.policy.fields import Subject
from zentra.runtime.policy.movements import accounts_seen
from zentra.runtime.policy.people import with_people
from zentra.runtime.policy.program import Program, program_of
from zentra.runtime.policy.rules import PolicyRules, is_plain
from zentra.runtime.policy.scoring import Scorer
from zentra.runtime.policy.standard import limits_of, standard
from zentra.runtime.policy.windows import Usage, VelocityKey, bucket_at, counter_of, counts, day_of, used

__all__ = ["NO_SCORERS", "Gathered", "Judging", "decide", "decide_again", "evaluate", "gather", "velocity_keys"]

NO_SCORERS: Final[Mapping[str, Scorer]] = {}


class Judging(Struct, frozen=True, gc=False):
    """What only conditions, windows and risk look at."""

    now: datetime
    principal: str
    destination: AccountRef | None
    scorers: Mapping[str, Scorer] = NO_SCORERS
    accounts: Mapping[str, AccountRef | None] | None = None  # of the legs of a journal, by the name in them


class _Seen(Struct, frozen=True, gc=False):
    """What a decision under the standard rules has seen, in canonical order: its digest stands in the decision."""

    command: IntentCommand
    day: str
    role: str
    source: str | None
    tenant: str
    usage: list[tuple[str, str] | None]
    version: int
    waives: tuple[str, ...]


def velocity_keys(
    rules: PolicyRules, tenant: str, command: IntentCommand, day: str, now: datetime | None = None
) -> tuple[VelocityKey, ...]:
    """Return the counters that a decision on `command` has to lock; `now` is needed where rules have windows."""
    limits = limits_of(rules, command.currency)
    keys: tuple[VelocityKey, ...] = ()
    if command.kind not in BOOKED and not (limits.daily_minor_max is None and limits.daily_count_max is None):
        keys = (VelocityKey(tenant, f"account/{command.source}", day, command.currency),)
    if now is None or is_plain(rules):
        return keys
    return tuple(dict.fromkeys((*keys, *_window_keys(program_of(rules), tenant, command, now).values())))


def decide(
    rules: PolicyRules,
    command: IntentCommand,
    *,
    tenant: str,
    role: str,
    source: AccountRef | None,
    usage: Mapping[VelocityKey, Usage],
    day: str,
    waives: tuple[str, ...] = (),
    judging: Judging | None = None,
    diligence: Diligence | None = None,
) -> Judged:
    """Return the decision on `command`.

    `usage` holds what the counters of `velocity_keys` had counted; a missing one denies. `waives` are rules that a
    person approved for this intent: their review becomes `waived`. `judging` is needed by all but standard rules,
    `diligence` is what is known of the people in it, where the rules ask for that."""
    if diligence is not None:
        judged = decide(
            rules, command, tenant=tenant, role=role, source=source, usage=usage, day=day, waives=waives,
            judging=judging,
        )  # fmt: skip
        return with_people(judged, diligence, waives)
    if not is_plain(rules):
        if judging is None:
            return failed(rules, b"")
        program = program_of(rules)
        subject = Subject(
            command, role, judging.principal, source, judging.destination, judging.now, program.zone, judging.accounts
        )  # fmt: skip
        return evaluate(program, gather(program, subject, tenant, usage, waives), judging.scorers)
    keys = velocity_keys(rules, tenant, command, day)
    counted = [usage.get(key) for key in keys]
    source_type = None if source is None else source.type
    results, reasons = standard(rules, command, role, source_type, counted, waives)
    answers = results.values() if reasons else ()
    outcome = "denied" if "denied" in answers else "review" if "review" in answers else "accepted"
    figures = [None if entry is None else (str(entry.count), str(entry.minor)) for entry in counted]
    seen = _Seen(command, day, role, source_type, tenant, figures, rules.version, waives)
    digest = hashlib.sha256(canonical.encode(seen)).hexdigest()
    if not keys:
        return Judged(outcome, rules.version, digest, LANES[outcome], results, tuple(reasons))
    taken = tuple([VelocityUse(key.counter, key.day) for key in keys]) if outcome == "accepted" else ()
    rested = Seen(day, {DAILY: figures[0]}, {SOURCE_TYPE: source_type})
    return Judged(outcome, rules.version, digest, LANES[outcome], results, tuple(reasons), taken, rested)


def decide_again(
    rules: PolicyRules, inputs: Inputs, *, source_type: str | None = None, scorers: Mapping[str, Scorer] = NO_SCORERS
) -> Judged:
    """Return the decision that these inputs lead to under these rules, without what it took from counters.

    Under standard rules without counters the inputs name no source type: it is the account's. A score of a scorer that
    is not there is believed."""
    if not is_plain(rules):
        return evaluated(program_of(rules), inputs, scorers, believe=True)
    day, usage = inputs.seen.at[:10], inputs.seen.usage
    counted = [usage_of(usage[DAILY])] if DAILY in usage else []
    given = inputs.seen.fields.get(SOURCE_TYPE, source_type)
    kind = None if given is None else str(given)
    results, reasons = standard(rules, inputs.command, inputs.role, kind, counted, inputs.waives)
    answers = results.values()
    outcome = "denied" if "denied" in answers else "review" if "review" in answers else "accepted"
    figures = [None if entry is None else (str(entry.count), str(entry.minor)) for entry in counted]
    seen = _Seen(inputs.command, day, inputs.role, kind, inputs.tenant, figures, rules.version, inputs.waives)
    digest = hashlib.sha256(canonical.encode(seen)).hexdigest()
    return Judged(outcome, rules.version, digest, LANES[outcome], results, tuple(reasons), (), inputs.seen)


# Windows, conditions and risk -----------------------------------------------------------------------------------------


def _window_keys(program: Program, tenant: str, command: IntentCommand, now: datetime) -> dict[str, VelocityKey]:
    """Return the counter of each window that counts such an intent."""
    zone = program.rules.time_zone
    return {
        name: VelocityKey(
            tenant, counter_of(window, zone, command), day_of(window, program.zone, now), command.currency
        )
        for name, window in program.windows.items()
        if counts(window, command)
    }


class Gathered(Struct, frozen=True, gc=False):
    """What rules look at, by value, and the counters that an accepted intent takes from, with their buckets."""

    inputs: Inputs
    uses: dict[VelocityKey, VelocityUse]


def gather(
    program: Program, subject: Subject, tenant: str, usage: Mapping[VelocityKey, Usage], waives: tuple[str, ...]
) -> Gathered:
    """Return what a decision about `subject` looks at; a counter that `usage` does not have is a figure that nobody
    knows."""
    rules, command, now = program.rules, subject.command, subject.now
    seconds, day = int(now.timestamp()), now.date().isoformat()
    figures: dict[str, tuple[str, str] | None] = {}
    uses: dict[VelocityKey, VelocityUse] = {}
    for name, key in _window_keys(program, tenant, command, now).items():
        found, window = usage.get(key), program.windows[name]
        if found is None:
            figures[name] = None
            continue
        count, minor = used(window, found, seconds)
        figures[name] = (str(count), str(minor))
        bucket = bucket_at(window, found, seconds)
        uses[key] = VelocityUse(key.counter, key.day, UNSET if bucket is None else bucket)
    for key in velocity_keys(rules, tenant, command, day):
        found = usage.get(key)
        figures[DAILY] = None if found is None else (str(found.count), str(found.minor))
        uses[key] = VelocityUse(key.counter, key.day)
    source = subject.source
    kept: dict[str, Scalar] = {SOURCE_TYPE: None if source is None else source.type}
    for name, field in program.fields.items():
        if field.kept:
            kept[name] = read_field(field.read, subject)
    accounts = accounts_seen(program, subject)
    seen = Seen(timestamp(now), figures, kept, UNSET if accounts is None else accounts)
    return Gathered(Inputs(command, subject.principal, subject.role, seen, tenant, rules.version, waives), uses)


def evaluate(program: Program, gathered: Gathered, scorers: Mapping[str, Scorer]) -> Judged:
    """Return the decision on what was gathered, with what an accepted intent takes from counters."""
    judged = evaluated(program, gathered.inputs, scorers, believe=False)
    if judged.outcome != "accepted":
        return judged
    return Judged(
        judged.outcome, judged.version, judged.input_digest, judged.lane, judged.results, judged.reasons,
        tuple(gathered.uses.values()), judged.seen,
    )  # fmt: skip
