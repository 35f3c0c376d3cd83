"""What an intent is charged, at each step of its way: the schedule's fees as legs beside those of its money.

    reserved   what the payer pays on success is held with the amount; what is charged on submission is posted at once
    posted     what was held is posted, and what the payee pays is taken out of what arrived
    released   what was held no longer is; what was charged on submission goes back, unless its rule keeps it
    reversed   each line goes back as its rule said when it was charged: in full, pro rata, or not at all

The schedule is asked once, when the ledger is first asked to move anything: the lines that it gives stand in that
record with its version, and everything after reads them from there. A tenant without a schedule costs two look-ups."""

from typing import Final

from msgspec import UNSET, UnsetType

from zentra.actors.tick import Tick
from zentra.runtime.fees.quoting import NO_FEES, FeeFacts, FeeQuote, quote, refund_due
from zentra.runtime.fees.schedule import FeeSchedule
from zentra.runtime.intents import facts as f
from zentra.runtime.intents.transaction import Transaction
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.ledger.book import NO_CHARGES, AccountRef, Charges, Leg, Objection
from zentra.runtime.ledger.money import MINOR_MAX
from zentra.runtime.ledger.names import book_of, system_name
from zentra.runtime.rails import routing

__all__ = ["NO_QUOTE", "at_post", "at_release", "at_reserve", "at_reversal", "charged"]

NO_QUOTE: Final = FeeQuote(0, "")
_NOTHING: Final[tuple[tuple[Leg, ...], int]] = ((), 0)


def at_reserve(
    tick: Tick, tx: Transaction, source: AccountRef | None, destination: AccountRef | None
) -> tuple[FeeQuote, Charges]:
    """Return what an intent is charged now, and how that is held or booked beside its amount."""
    schedule, terms = tick.configuration.fees.get(tx.tenant), tx.command.fee
    if (schedule is None and terms is UNSET) or source is None or destination is None:
        return NO_QUOTE, NO_CHARGES  # without an account there is an objection to the movement itself
    quoted = quote(schedule or NO_FEES, _facts(tick, tx, schedule or NO_FEES, source, destination))
    objection = _disagreement(tx, quoted)
    if objection is not None or not quoted.lines:
        return quoted, Charges(objection=objection)
    fee = tick.account(tx.tenant, system_name("fee", tx.command.currency, source.book))
    if fee is None or fee.status != "open":
        code = "account_not_found" if fee is None else f"account_{fee.status}"
        return quoted, Charges(objection=Objection(code, "fee"))
    if quoted.total_payer > MINOR_MAX - quoted.minor:
        return quoted, Charges(objection=Objection("amount_overflow", "amount and fee"))
    tick.lock(source, fee)
    legs: list[Leg] = []
    if tx.command.kind is IntentKind.BOOK_TRANSFER:
        now, later, payee = quoted.total_payer, 0, quoted.total_payee
    else:
        now = sum([int(line.minor) for line in quoted.lines if line.charged == "on_submission"])
        later, payee = quoted.total_payer - now, 0
    if later:
        legs.append(("fee_reserve", source, fee, later, 0))
    if now:
        legs.append(("fee", source, fee, 0, now))
    if payee:
        legs.append(("fee", destination, fee, 0, payee))
    return quoted, Charges(tuple(legs), quoted.total_payer)


def charged(quoted: FeeQuote) -> f.FeesCharged | UnsetType:
    """Return what the record of a reserve says of its fees: nothing where there are none."""
    return f.FeesCharged(quoted.version, quoted.lines) if quoted.lines else UNSET


def at_post(tick: Tick, tx: Transaction, source: AccountRef, destination: AccountRef) -> tuple[Leg, ...]:
    """Return how the fees of an intent are posted whose rail has confirmed."""
    if not tx.fees:
        return ()
    fee = _locked_fee_account(tick, tx)
    payee = sum([int(line.minor) for line in tx.fees if line.payer == "payee"])
    legs: tuple[Leg, ...] = ()
    if tx.fee_held:
        legs = (("fee", source, fee, -tx.fee_held, tx.fee_held),)
    return (*legs, ("fee", destination, fee, 0, payee)) if payee else legs


def at_release(tick: Tick, tx: Transaction, source: AccountRef) -> tuple[Leg, ...]:
    """Return how the fees of an intent end that moves nothing after all."""
    if not tx.fees:
        return ()
    fee = _locked_fee_account(tick, tx)
    refund = sum(
        [int(line.minor) for line in tx.fees if line.charged == "on_submission" and line.on_failure == "refund"]
    )
    legs: tuple[Leg, ...] = ()
    if tx.fee_held:
        legs = (("fee_release", source, fee, -tx.fee_held, 0),)
    return (*legs, ("fee_refund", fee, source, 0, refund)) if refund else legs


def at_reversal(tick: Tick, tx: Transaction, path: tuple[AccountRef, ...], minor: int) -> tuple[tuple[Leg, ...], int]:
    """Return how fees are given back with `minor` more of an intent's amount, and what of them its payee gets.

    `path` is that of the reversal, destination first."""
    if not tx.fees or not 0 < minor <= tx.posted - tx.given_back:
        return _NOTHING
    due = {
        payer: refund_due(tx.fees, payer, tx.given_back + minor, tx.posted)
        - refund_due(tx.fees, payer, tx.given_back, tx.posted)
        for payer in ("payer", "payee")
    }
    fee = _locked_fee_account(tick, tx)
    back = (("payee", path[0]), ("payer", path[-1]))
    return tuple([("fee_refund", fee, ref, 0, due[payer]) for payer, ref in back if due[payer]]), due["payee"]


def _facts(tick: Tick, tx: Transaction, schedule: FeeSchedule, source: AccountRef, destination: AccountRef) -> FeeFacts:
    command = tx.command
    corridor = None
    if any(rule.applies.corridors for rule in schedule.rules):
        corridor = routing.find_corridor(tick.configuration.corridors.get(tx.tenant, ()), command)
    return FeeFacts(
        str(command.kind), command.amount, command.currency, command.country, corridor.name if corridor else "",
        source.type, destination.type,
    )  # fmt: skip


def _disagreement(tx: Transaction, quoted: FeeQuote) -> Objection | None:
    """Return an objection where the fee is not what the client has agreed to."""
    terms = tx.command.fee
    if terms is UNSET:
        return None
    if terms.max is not UNSET and quoted.total_payer > int(terms.max):
        return Objection("fee_changed", f"{quoted.total_payer} on top of the amount, at most {terms.max} is agreed to")
    if terms.quote_digest is not UNSET and terms.quote_digest != quoted.digest:
        return Objection("fee_changed", f"{quoted.total_payer} on top of the amount, {quoted.total_payee} out of it")
    return None


def _locked_fee_account(tick: Tick, tx: Transaction) -> AccountRef:
    """Return the account that took the fees of an intent, locked: that of the book that its money is in."""
    source = tick.account(tx.tenant, tx.command.source if tx.went is None else tx.went[1])
    fee = tick.account(tx.tenant, system_name("fee", tx.command.currency, book_of(source)))
    if fee is None:
        raise LookupError("an account that a reserve found is gone")
    tick.lock(fee)
    return fee
