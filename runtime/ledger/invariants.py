"""What must be true of the ledger at any time, each invariant once and named by its letter.

    A  debits equal credits: in each posting, and over all balances of a tenant and currency
    B  a balance is the fold of its postings
    C  no account with a floor is below it, but for what was forced
    D  open holds add up to the pending counters
    E  a hold is opened once and ended at most once, to the last unit
    F  a refused operation changes nothing
    L  what is given back was taken before: of fees as of amounts

Each is a plain predicate over rows and returns what breaks it; nothing is repaired and nothing is raised. Tests, demo,
load harness and reconciliation call the same functions."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from zentra.runtime.ledger.book import AccountRef, Balance, Posting, available

__all__ = [
    "Breach",
    "Hold",
    "audit",
    "balance_is_fold",
    "conservation",
    "fees_kept_apart",
    "floor_kept",
    "fold",
    "forced",
    "hold_ends_once",
    "holds_match_pending",
    "postings_paired",
    "refusal_changed_nothing",
]

FEE_POSTINGS: Final = frozenset({"fee", "fee_reserve", "fee_release", "fee_refund"})
_COUNTERS: Final = ("debits_pending", "credits_pending", "debits_posted", "credits_posted")


class Breach(Struct, frozen=True):
    """One place where an invariant does not hold: its letter, where, and what was found."""

    letter: str
    where: str
    detail: str


class Hold(Struct, frozen=True):
    """What an intent holds on an account now."""

    intent: str
    account: AccountRef
    minor: int


def audit(
    accounts: Iterable[AccountRef], balances: Mapping[int, Balance], postings: Sequence[Posting], holds: Iterable[Hold]
) -> list[Breach]:
    """Return every breach of A to E in a whole ledger: all accounts, their balances by id, all postings in order."""
    known = {ref.id: ref for ref in accounts}
    return [
        *postings_paired(postings),
        *conservation(known, balances),
        *balance_is_fold(known, balances, postings),
        *floor_kept(known, balances, forced(postings)),
        *holds_match_pending(known, balances, holds),
        *hold_ends_once(postings),
        *fees_kept_apart(postings),
    ]


def postings_paired(postings: Iterable[Posting]) -> list[Breach]:
    """A: return the postings that do not join two accounts of one tenant and currency, or that move nothing."""
    found = []
    for posting in postings:
        debit, credit = posting.debit, posting.credit
        where = f"posting {posting.intent}/{posting.ordinal}"
        if debit.id == credit.id:
            found.append(Breach("A", where, f"both sides are {debit.account_id}"))
        if {debit.tenant, credit.tenant} != {posting.tenant}:
            found.append(Breach("A", where, f"of {posting.tenant}, between {debit.tenant} and {credit.tenant}"))
        if debit.currency != credit.currency:
            found.append(Breach("A", where, f"between {debit.currency} and {credit.currency}"))
        if posting.pending == 0 == posting.posted:
            found.append(Breach("A", where, "moves nothing"))
    return found


def conservation(accounts: Mapping[int, AccountRef], balances: Mapping[int, Balance]) -> list[Breach]:
    """A: return the tenants and currencies whose balances do not sum to zero, on either layer."""
    sums: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for key, balance in balances.items():
        ref = accounts[key]
        sums[ref.tenant, ref.currency, "pending"] += balance.debits_pending - balance.credits_pending
        sums[ref.tenant, ref.currency, "posted"] += balance.debits_posted - balance.credits_posted
    return [
        Breach("A", f"{tenant} {currency}", f"{layer} debits exceed credits by {excess}")
        for (tenant, currency, layer), excess in sorted(sums.items())
        if excess
    ]


def fold(postings: Iterable[Posting]) -> dict[int, Balance]:
    """Return the balances that postings make, by account id, starting from nothing."""
    folded: defaultdict[int, Balance] = defaultdict(Balance)
    for posting in postings:
        debit, credit = folded[posting.debit.id], folded[posting.credit.id]
        debit.debits_pending += posting.pending
        debit.debits_posted += posting.posted
        credit.credits_pending += posting.pending
        credit.credits_posted += posting.posted
    return dict(folded)


def balance_is_fold(
    accounts: Mapping[int, AccountRef], balances: Mapping[int, Balance], postings: Iterable[Posting]
) -> list[Breach]:
    """B: return the accounts whose counters differ from the fold of their postings.

    For a past point give the balances and the postings as of that point."""
    folded = fold(postings)
    found = []
    for key in sorted({*folded, *balances}):
        stored, expected = balances.get(key, Balance()), folded.get(key, Balance())
        where = accounts[key].account_id if key in accounts else f"account {key}"
        for name in _COUNTERS:
            if getattr(stored, name) != getattr(expected, name):
                detail = f"{name} is {getattr(stored, name)}, its postings say {getattr(expected, name)}"
                found.append(Breach("B", where, detail))
    return found


def forced(postings: Iterable[Posting]) -> dict[int, int]:
    """Return what forced reversals have taken from accounts with a floor: by so much they may stand below it."""
    taken: defaultdict[int, int] = defaultdict(int)
    for posting in postings:
        if posting.kind == "forced_reversal":
            for ref, losing in ((posting.debit, "credit"), (posting.credit, "debit")):
                if ref.normal_side == losing:
                    taken[ref.id] += posting.posted
    return dict(taken)


def floor_kept(
    accounts: Mapping[int, AccountRef], balances: Mapping[int, Balance], forced: Mapping[int, int] = {}
) -> list[Breach]:
    """C: return the accounts with a floor that are below it, by more than was `forced`."""
    found = []
    for key, ref in accounts.items():
        left = available(ref, balances.get(key, Balance())) + forced.get(key, 0)
        if ref.guarded and left < -ref.overdraft_limit:
            found.append(Breach("C", ref.account_id, f"{left} is available, the limit is {-ref.overdraft_limit}"))
    return found


def holds_match_pending(
    accounts: Mapping[int, AccountRef], balances: Mapping[int, Balance], holds: Iterable[Hold]
) -> list[Breach]:
    """D: return the accounts whose pending debits are not the sum of the open holds on them."""
    sums: defaultdict[int, int] = defaultdict(int)
    for hold in holds:
        sums[hold.account.id] += hold.minor
    found = []
    for key in sorted({*sums, *balances}):
        pending = balances.get(key, Balance()).debits_pending
        if pending != sums[key]:
            where = accounts[key].account_id if key in accounts else f"account {key}"
            found.append(Breach("D", where, f"{pending} is pending, open holds say {sums[key]}"))
    return found


def hold_ends_once(postings: Iterable[Posting]) -> list[Breach]:
    """E: return the postings that open a second hold for an intent or end more of one than is open.

    What an intent holds for its fee is a hold of its own."""
    open_minor: dict[tuple[str, bool], int] = {}
    found = []
    for posting in postings:
        if posting.pending == 0:
            continue
        where = f"posting {posting.intent}/{posting.ordinal}"
        hold = posting.intent, posting.kind in FEE_POSTINGS
        left = open_minor.get(hold)
        if posting.pending > 0 and left is not None:
            found.append(Breach("E", where, "opens a second hold"))
        elif (left or 0) + posting.pending < 0:
            found.append(Breach("E", where, f"ends {-posting.pending} of a hold that has {left or 0} left"))
        open_minor[hold] = (left or 0) + posting.pending
    return found


def fees_kept_apart(postings: Iterable[Posting]) -> list[Breach]:
    """A, L: return the fee postings on no fee account, and those that give back more than an intent was charged.

    So what a fee account has earned is what was charged less what was given back."""
    charged: defaultdict[str, int] = defaultdict(int)
    found = []
    for posting in postings:
        if posting.kind not in FEE_POSTINGS:
            continue
        where = f"posting {posting.intent}/{posting.ordinal}"
        back = posting.kind == "fee_refund"
        house = posting.debit if back else posting.credit
        if house.type != "fee":
            found.append(Breach("A", where, f"a {posting.kind} on {house.account_id}, which takes no fees"))
        charged[posting.intent] += -posting.posted if back else posting.posted
        if charged[posting.intent] < 0:
            found.append(Breach("L", where, f"gives back {-charged[posting.intent]} more than was charged"))
    return found


def refusal_changed_nothing(where: str, before: Mapping[int, Balance], after: Mapping[int, Balance]) -> list[Breach]:
    """F: return the accounts that differ between just before and just after a refused operation."""
    return [
        Breach("F", where, f"account {key}: {before.get(key, Balance())} became {after.get(key, Balance())}")
        for key in sorted({*before, *after})
        if before.get(key, Balance()) != after.get(key, Balance())
    ]
