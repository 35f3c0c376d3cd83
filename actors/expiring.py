"""Funds that a hold keeps although it has expired: whoever is short of them waits until its end is booked.

A hold has expired at its instant, whether or not a timer has booked it. So a reserve that finds too little, or less
than one of its conditions asks for, asks the store, and only then, which holds on that account have expired. Where they make
up for what is missing, nothing is refused: the owners of those holds are asked to look at their timers now, and the
reserve is tried again shortly. So is what has failed and is to be given back. A reversal that somebody asks for is
refused: it may be asked for again.

Bounded: a question names an account and answers with so many holds at most; the pauses double up to some seconds; once
every expired hold is booked the next answer is empty, and the refusal stands."""

from datetime import timedelta
from typing import Final

from zentra.actors.tick import Input, Tick
from zentra.runtime.intents.terms import HOLD_SECONDS_MIN
from zentra.runtime.intents.transaction import Transaction
from zentra.runtime.ledger.book import Objection, available
from zentra.runtime.messages import TimerFired
from zentra.runtime.ports import EXPIRING_MAX

__all__ = ["put_off"]

PAUSE_SECONDS_MIN: Final = 0.05  # a commit of the owner, and its frame on the way
PAUSE_SECONDS_MAX: Final = 5.0
ASKED_MAX: Final = 8  # a store that needs a second each time would otherwise be asked for ever


def put_off(tick: Tick, at: Input, tx: Transaction, objection: Objection, minor: int) -> bool:
    """Return whether a reserve of `minor` that met `objection` is to wait for holds that have expired; then they are
    asked to end, and the transaction will be asked for its reserve again.

    Where that is not known yet the answer is False, and the end of the tick asks for it: see `Tick.unasked`."""
    if objection.code != "insufficient_funds" and not objection.account:
        return False
    ref = tick.account(tx.tenant, objection.account or objection.detail)
    if ref is None or ref.normal_side != "credit" or ref.id not in tick.book.balances:
        return False
    answer = tick.batch.expiring.get(ref.id)
    # what was placed since the question cannot have expired within the shortest time that a hold lasts
    if answer is None or (
        tick.now - answer.at >= timedelta(seconds=HOLD_SECONDS_MIN) and tick.batch.expiring_asked[ref.id] < ASKED_MAX
    ):
        tick.unasked.add(ref.id)
        return False
    expired = [hold for hold in answer.holds if hold.expires_at <= tick.now]
    missing = objection.missing or minor - available(ref, tick.book.balances[ref.id]) - ref.overdraft_limit
    if len(expired) < EXPIRING_MAX and sum(hold.remaining for hold in expired) < missing:
        return False
    for hold in expired:
        if hold.intent not in tick.poked:
            tick.poked.add(hold.intent)
            look = TimerFired("intent", hold.intent, "state", tx.tenant)
            tick.send(tick.rules.partition_of(hold.intent), "ledger", look)
    waited = (tick.now - tx.at).total_seconds()
    tx.retry_at = tick.now + timedelta(seconds=min(max(waited, PAUSE_SECONDS_MIN), PAUSE_SECONDS_MAX))
    tick.rearm(tx, at.partition, tx.retry_at)
    return True
