"""Commands on what exists: cancel, reverse, capture or void a hold, decide a review, resolve a case, replay a delivery,
tell of what was done to an endpoint.

A command was committed as a fact before it came here and is answered by one outcome row, accepted or refused with a
code. It acts at most once: what it did is part of the fold of its object."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec import UNSET, Struct

from zentra.actors import holding, journaling, ledgering, monitoring, recovering, resolving, reviewing, webhooks
from zentra.actors.tick import Input, Tick
from zentra.runtime.errors import Refusal
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.transaction import Transaction
from zentra.runtime.intents.vocabulary import Fact, IntentKind, State
from zentra.runtime.ledger.book import Objection
from zentra.runtime.ledger.money import parse_minor
from zentra.runtime.messages import CommandGiven
from zentra.runtime.webhooks.delivery import TELL_OF_ENDPOINT, EndpointSwitched

__all__ = ["COMMAND_CODES", "ON_TRANSACTION", "Reversal", "command"]


class Reversal(Struct, frozen=True):
    """The body of a reversal: digits, or "full" for all that is left."""

    amount: str = "full"
    reason: str = ""
    force: bool = False  # let the payee go below its limit
    approved_by: str = ""  # who has let it; never whoever asks


def command(tick: Tick, at: Input, event: CommandGiven) -> None:
    """Carry out one command and write its outcome; one that has an outcome is a repeat."""
    if tick.is_answered(event.command):
        return
    detail: dict[str, object] = {}
    if event.kind == "replay_delivery":
        code = webhooks.replay(tick, event.tenant, event.subject, trigger="manual", actor=event.principal)
    elif event.kind == "recover_deliveries":
        code, detail = recovering.begin(tick, event)
    elif event.kind == "resolve_case":
        code = resolving.resolve(tick, at, event)
    else:
        tx = tick.transaction(event.subject)
        foreign = tx is None or tx.tenant != event.tenant
        code = "not_found" if tx is None or foreign else ON_TRANSACTION[event.kind](tick, at, event, tx)
    accepted = code == "done"
    tick.writes.command_outcomes.append((event.command, event.tenant, accepted, code, detail, tick.now))


def _cancel(tick: Tick, at: Input, event: CommandGiven, tx: Transaction) -> str:
    reason = f"cancelled by {event.principal}"
    if tx.state is State.ROUTING:
        ledgering.release(tick, at, tx, Fact.CANCELLED, reason, actor=event.principal, cause=event.command)
        return "done"
    if tx.state is State.REVIEW and (code := reviewing.may_cancel(tick, event, tx)) is not None:
        return code
    if tx.state in (State.ACCEPTED, State.JUDGING, State.REVIEW, State.RESERVING):
        tick.counted(ledgering.counters(tx))
        tick.move(tx, Fact.CANCELLED, f.Noted(reason), at, actor=event.principal, cause=event.command)
        return "done"
    return "not_cancellable"


def _reverse(tick: Tick, at: Input, event: CommandGiven, tx: Transaction) -> str:
    if event.command in tx.commands:
        return "done"
    if tx.state is State.REVERSED:
        return "already_reversed"
    if tx.state not in (State.SUCCESSFUL, State.RECONCILED) and not (tx.state is State.FAILED and tx.posted):
        return "transaction_not_found"
    if tx.command.corrects is not UNSET:
        return "reversal_of_reversal"
    body = msgspec.json.decode(event.body, type=Reversal)
    if body.force and body.approved_by in ("", event.principal):
        return "force_not_approved"
    left = tx.posted - tx.given_back
    try:
        minor = left if body.amount == "full" else parse_minor(body.amount)
    except Refusal as refusal:
        return refusal.reason
    if tx.command.kind is IntentKind.HOLD:
        forced_by = body.approved_by if body.force else ""
        return holding.reverse(tick, at, event, tx, minor, body.reason, forced_by=forced_by)
    if tx.state is State.FAILED and 0 < minor < left:
        return "reversal_indivisible"  # what failed is given back as a whole
    done = journaling.reverse(tick, tx, minor, forced=body.force)
    if isinstance(done, Objection):
        return done.code
    fact = Fact.REVERSED_IN_FULL if minor == left else Fact.REVERSED_IN_PART
    approved = body.approved_by if body.force else UNSET
    facts = f.Booked(tuple(posting.entry() for posting in done), body.reason, event.command, approved_by=approved)
    tick.move(tx, fact, facts, at, actor=event.principal, cause=event.command)
    return "done"


def _tell_of_endpoint(tick: Tick, at: Input, event: CommandGiven, tx: Transaction) -> str:
    """Tell of an endpoint that somebody disabled or enabled: it was done in the commit of the command."""
    body = msgspec.json.decode(event.body, type=EndpointSwitched)
    facts = f.Delivered(
        body.delivery, body.endpoint, body.event, body.attempts, body.status_code, body.error, reason="asked",
        by=event.principal,
    )  # fmt: skip
    fact = Fact.ENDPOINT_ENABLED if body.enabled else Fact.ENDPOINT_DISABLED
    tick.move(tx, fact, facts, at, actor=event.principal, cause=event.command)
    monitoring.seal_later(tick, tx, at)  # the other endpoints hear of it
    return "done"


COMMAND_CODES: Final[Mapping[str, tuple[str, ...]]] = {
    "cancel": ("not_cancellable", "permission_denied"),
    "reverse": (
        "already_reversed", "transaction_not_found", "reversal_of_reversal", "force_not_approved", "exceeds_original",
        "reversal_indivisible", "amount_zero", "amount_negative", "amount_overflow", "account_not_found",
        "account_closed", "account_frozen", "currency_mismatch", "insufficient_funds",
    ),
    **reviewing.REVIEW_CODES,
    "resolve_case": resolving.RESOLUTION_CODES,
    "replay_delivery": ("delivery_under_way",),
    "recover_deliveries": recovering.RECOVERY_CODES,
    TELL_OF_ENDPOINT: (),
    "capture_hold": holding.CAPTURE_CODES,
    "void_hold": holding.VOID_CODES,
}  # fmt: skip
"""What each kind of command can be refused for, beside `not_found`."""

ON_TRANSACTION: Final[Mapping[str, Callable[[Tick, Input, CommandGiven, Transaction], str]]] = {
    "cancel": _cancel,
    "reverse": _reverse,
    **reviewing.ON_REVIEW,
    "capture_hold": holding.capture,
    "void_hold": holding.void,
    TELL_OF_ENDPOINT: _tell_of_endpoint,
}
