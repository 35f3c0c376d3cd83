"""The stages of a transaction: judge, ledger, route, settle, seal. One handler per stage, each a plain function.

A handler takes the tick, the place of the event and the event; it moves the transaction and asks the tick for what
follows. Which handler runs is read off `HANDLERS`, by the stage of the subject."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from zentra.actors import asking, deposits, holding, journaling, ledgering, monitoring, reviewing, routes
from zentra.actors.diligence import diligence_of
from zentra.actors.tick import Input, Tick
from zentra.runtime.evidence.packet import LeafKind, leaf_data
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.machine import TIMEOUTS
from zentra.runtime.intents.transaction import Transaction, told_as
from zentra.runtime.intents.vocabulary import SETTLED, Fact, IntentKind, State, Topic
from zentra.runtime.messages import DeliverySettled, Due, LeafDue, TimerFired
from zentra.runtime.partitions import log_key
from zentra.runtime.policy import DEFAULT_RULES, Judging, VelocityKey, decide, is_plain, velocity_keys
from zentra.runtime.rails import routing
from zentra.runtime.reviews import asks_of, standing

__all__ = ["HANDLERS", "LEAF_WAITS", "REGISTERED_TIMER", "close", "due", "fire"]


# The gateway sets the first state timer when it registers an intent.
REGISTERED_TIMER: Final = timedelta(seconds=TIMEOUTS[State.ACCEPTED].seconds)

# What a state asks for is asked for again in pauses that double: what is poison each time must not spin.
ASKED_AGAIN_SECONDS_MAX: Final = 3_600.0

# The log could not take the leaf of an intent, because whoever has the log lacks the key that signs now.
LEAF_WAITS: Final = 0  # as the version of what is due: no actor ever stands there
LEAF_AGAIN: Final = timedelta(seconds=20)

_UNJUDGED: Final = frozenset({State.ACCEPTED, State.JUDGING})


def judge(tick: Tick, at: Input, event: Due) -> None:
    """Decide under the tenant's policy; what it accepts is counted under the counter's lock, in this commit."""
    tx = tick.arrived(event)
    if tx is None or tx.state not in _UNJUDGED:
        return
    rules = tick.configuration.policies.get(tx.tenant, DEFAULT_RULES)
    command = deposits.spelled(tick, tx)
    judging = None
    if not is_plain(rules):
        destination = tick.account(tx.tenant, tx.command.destination)
        judging = Judging(tick.now, tx.principal, destination, tick.rules.scorers, journaling.parties(tick, tx))
    keys = velocity_keys(rules, tx.tenant, command, tick.day, None if judging is None else tick.now)
    tick.counted(keys)
    decided = partial(
        decide,
        rules,
        command,
        tenant=tx.tenant,
        role=tx.role,
        source=journaling.payer(tick, tx),
        usage=tick.usage,
        day=tick.day,
        judging=judging,
        diligence=None if rules.compliance is None else diligence_of(tick, tx, rules.compliance),
    )
    decision = decided()
    if tx.waives:
        decision = decided(waives=standing(tx.waives, tx.bound, decision))
    if decision.outcome == "review":
        decision = replace(decision, asks=asks_of(decision))
    if command is not tx.command:
        decision = replace(decision, named=(command.source, command.destination))
    if decision.outcome == "accepted":
        for use in decision.velocity:
            tick.count(
                VelocityKey(tx.tenant, use.counter, use.day, tx.command.currency), 1, tx.command.amount, use.bucket
            )
        tick.move(tx, Fact.POLICY_ACCEPTED, decision, at, actor="svc_policy")
        return
    if tx.state is State.ACCEPTED:  # what passes at once needs no row for having been judged
        tick.move(tx, Fact.JUDGING_BEGUN, f.Noted("the policy does not let it pass at once"), at, actor="svc_policy")
    tick.move(
        tx,
        Fact.POLICY_REFERRED if decision.outcome == "review" else Fact.POLICY_DENIED,
        decision,
        at,
        actor="svc_policy",
    )


def ledger(tick: Tick, at: Input, event: Due) -> None:
    """Do what the state asks of the ledger: what the kind begins with, post a confirmed hold, release a refused one."""
    tx = tick.arrived(event)
    if tx is None:
        return
    if tx.state is State.RESERVING:
        _BEGINNINGS[tx.command.kind](tick, at, tx)
    elif tx.state is State.CONFIRMED:
        ledgering.post(tick, at, tx)
    elif tx.state is State.REFUSED:
        attempt = tx.attempts[-1]
        reason = f"rail {attempt.rail}: {attempt.status}"
        if tx.unchosen == routing.NO_RAIL_NOW:
            reason = f"{reason}, {routing.NO_RAIL_NOW}"
        ledgering.release(tick, at, tx, Fact.RELEASED, reason, actor="svc_ledger")


# What each kind of intent begins with once the policy has let it pass.
_BEGINNINGS: Final[Mapping[IntentKind, Callable[[Tick, Input, Transaction], None]]] = {
    IntentKind.TRANSFER: ledgering.reserve,
    IntentKind.PAYMENT: ledgering.reserve,
    IntentKind.BOOK_TRANSFER: ledgering.book,
    IntentKind.JOURNAL: journaling.book,
    IntentKind.CONVERSION: journaling.convert,
    IntentKind.HOLD: holding.place,
}


def due(tx: Transaction) -> Due:
    """Return the event that asks a transaction for what its state asks for."""
    return Due(tx.id, tx.tenant, tx.sequence)


def sync(tick: Tick, at: Input, event: DeliverySettled) -> None:
    """Keep how a delivery stands with its transaction; when the last one is drained, the packet can be sealed."""
    tx = tick.transaction(event.intent)
    if tx is None or tx.deliveries_told.get(told_as(event.topic, event.facts), 0) >= event.facts.attempts:
        return
    tick.move(tx, _DELIVERY_FACTS[event.topic], event.facts, at, actor="svc_events")
    if event.topic == Topic.ENDPOINT_DISABLED:
        monitoring.seal_later(tick, tx, at)  # the other endpoints hear of it
    elif tx.state in SETTLED and not tx.deliveries_open and not tx.sealed:
        tick.move(tx, Fact.SYNCHRONIZED, f.Noted("every delivery has ended"), at, actor="svc_events")
        tick.clear_timer("intent", tx.id, "seal")
        tick.send(at.partition, "evidence", Due(tx.id, tx.tenant, tx.sequence))


_DELIVERY_FACTS: Final = {
    "webhook.delivered": Fact.DELIVERED,
    "webhook.retrying": Fact.DELIVERY_RETRYING,
    "webhook.exhausted": Fact.DELIVERY_EXHAUSTED,
    "webhook.endpoint_disabled": Fact.ENDPOINT_DISABLED,
}


def evidence(tick: Tick, at: Input, event: Due) -> None:
    """Seal the packet of a settled transaction, or open an addendum for what came after the seal."""
    tx = tick.transaction(event.intent)
    if tx is None:
        tick.arrived(event)  # reloads, then refuses
    elif event.version == LEAF_WAITS:
        tick.timer("intent", tx.id, "seal", at.partition, tx.tenant, tick.now + LEAF_AGAIN)
    elif tx.state in SETTLED and (tx.sealed or not tx.deliveries_open):
        close(tick, at, tx)


def close(tick: Tick, at: Input, tx: Transaction) -> None:
    """Write the closing record of what stands so far and hand its leaf to the tenant's log."""
    if tx.sealed == tx.sequence:
        return
    fact = Fact.AMENDED if tx.sealed else Fact.SEALED
    facts = f.Closed(tx.sequence, tx.hash.hex(), len(tx.deliveries_open))
    tick.move(tx, fact, facts, at, actor="svc_evidence")
    _hand_over(tick, tx)


def _hand_over(tick: Tick, tx: Transaction) -> None:
    """Hand every leaf of a transaction to the log, which takes none twice: the frame of an earlier one may have been
    lost, and whoever verifies the log reads them in their order."""
    place = tick.place_of(log_key(tx.tenant))
    for number, (records, link) in enumerate(tx.seals):
        kind: LeafKind = "addendum" if number else "packet"
        leaf = leaf_data(tenant=tx.tenant, intent=tx.id, kind=kind, chain=link, records=records)
        tick.send(place, "log", LeafDue(tx.tenant, tx.id, leaf, again=number < len(tx.seals) - 1))


def log(tick: Tick, at: Input, event: LeafDue) -> None:
    """Append a leaf to the tenant's log; heads are signed once, at the end of the tick."""
    if tick.is_logged(event):
        return
    tick.log_head(event.tenant)
    tick.leaves[event.tenant].append(event)


def fire(tick: Tick, at: Input, event: TimerFired) -> None:
    """Do what a timer of a transaction was for; one that fires early looks and arms itself again."""
    tx = tick.transaction(event.key)
    tick.clear_timer("intent", event.key, event.name)
    if tx is None:
        return
    if event.name == asking.BESIDE:
        asking.ask_beside(tick, at, tx)
        return
    if event.name == "seal":
        if tx.state in SETTLED:
            _hand_over(tick, tx)  # what waited
            close(tick, at, tx)
        return
    tx.timer_due = None
    timeout = TIMEOUTS.get(tx.state)
    if timeout is not None:
        deadline = tx.at + timedelta(seconds=timeout.seconds)
        if tx.retry_at is not None:
            deadline = min(deadline, tx.retry_at)
        if tick.now < deadline:
            tick.rearm(tx, at.partition, deadline)
        else:
            tx.retry_at = None
            tick.effect(timeout.effect, tx, f.Noted(), at)
            again = min(max((tick.now - tx.at).total_seconds(), timeout.seconds), ASKED_AGAIN_SECONDS_MAX)
            tick.rearm(tx, at.partition, tick.now + timedelta(seconds=again))
    elif tx.state is State.SUBMITTED:
        tick.rearm(tx, at.partition, asking.look_after(tick, at, tx))
    elif tx.state is State.HELD:
        holding.run_out(tick, at, tx)
    elif tx.state is State.REVIEW:
        reviewing.fire(tick, at, tx)
    elif journaling.debt_waits(tx):
        journaling.settle_debt(tick, at, tx)


HANDLERS: Final[Mapping[str, Callable[[Tick, Input, Any], None]]] = {
    "policy": judge,
    "ledger": ledger,
    "route": routes.route,
    "sync": sync,
    "evidence": evidence,
    "log": log,
}
