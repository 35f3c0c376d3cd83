"""Whether a capture may go where it says, where the decision on its hold has not judged that destination.

What the policy in force says of the destination is asked as if the hold had named it, with its whole amount, so that
captures in small pieces do not pass where one would not. The hold itself is left out of what windows have counted."""

from typing import Final

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from zentra.actors import deposits
from zentra.actors.diligence import diligence_of
from zentra.actors.tick import Tick
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.transaction import Transaction
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.policy import DEFAULT_RULES, Judging, Usage, VelocityKey, decide, is_plain, velocity_keys
from zentra.runtime.policy.destinations import about_destination, still_waived
from zentra.runtime.policy.windows import add

__all__ = ["ACTION", "NOT_PERMITTED", "permitted"]

ACTION: Final = "policy.capture"
NOT_PERMITTED: Final = "destination_not_permitted"


def permitted(tick: Tick, tx: Transaction, destination: AccountRef | None) -> f.Permitted | UnsetType:
    """Return the decision on a capture to `destination`; UNSET where there is nothing to be decided.

    Raises MissingGround where a counter or an account has not been looked up."""
    if destination is None or destination is _named(tick, tx):
        return UNSET
    in_force = tick.configuration.policies.get(tx.tenant, DEFAULT_RULES)
    rules = about_destination(in_force)
    if is_plain(rules) and rules.compliance is None:
        return UNSET
    command = replace(deposits.spelled(tick, tx), destination=destination.account_id)
    keys = velocity_keys(rules, tx.tenant, command, tick.day, tick.now)
    tick.counted(keys)
    waives = still_waived(in_force, tx.waives)
    decision = decide(
        rules, command, tenant=tx.tenant, role=tx.role, source=tick.account(tx.tenant, tx.command.source),
        usage=_without(tick, tx, keys), day=tick.day, waives=waives,
        judging=Judging(tick.now, tx.principal, destination, tick.rules.scorers),
        diligence=None if rules.compliance is None else diligence_of(tick, tx, rules.compliance, destination),
    )  # fmt: skip
    return f.Permitted(decision.outcome, decision.version, decision.input_digest, decision.results)


def _named(tick: Tick, tx: Transaction) -> AccountRef | None:
    return tick.account(tx.tenant, tx.command.destination) if tx.command.destination else None


def _without(tick: Tick, tx: Transaction, keys: tuple[VelocityKey, ...]) -> dict[VelocityKey, Usage]:
    """Return what these counters hold besides the hold itself."""
    usage = {key: replace(tick.usage[key]) for key in keys}
    for use in tx.velocity:
        held = usage.get(VelocityKey(tx.tenant, use.counter, use.day, tx.command.currency))
        if held is None:
            continue
        if use.bucket is not UNSET:
            add(held, use.counter, use.bucket, -1, -tx.command.amount)
        else:
            held.count -= 1
            held.minor -= tx.command.amount
    return usage
