"""The trial balance: what accounts stand at, by currency and type, in two columns that have to come to the same sum.

The balance of an account stands in the column of its larger side, as a book-keeper writes it, so a type of account may
have something in both. Turnover (all debits, all credits) comes to the same sum as well."""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

__all__ = ["AccountSums", "TrialBalance", "TrialLine", "TrialTotal", "trial_balance"]


class AccountSums(NamedTuple):
    """What the posted debits and credits of an account come to."""

    tenant: str
    book: str
    currency: str
    type: str
    debits: int
    credits: int


class TrialLine(Struct, frozen=True):
    """The accounts of a type: how many, what was debited and credited, and the balances on either side."""

    tenant: str
    book: str
    currency: str
    type: str
    accounts: int
    debits: int
    credits: int
    debit_balances: int
    credit_balances: int


class TrialTotal(Struct, frozen=True):
    """The sums of a tenant, book and currency; `agrees` says whether they are the same on both sides."""

    tenant: str
    book: str
    currency: str
    debits: int
    credits: int
    debit_balances: int
    credit_balances: int
    agrees: bool


class TrialBalance(Struct, frozen=True):
    """Lines and totals, by tenant, book, currency and type."""

    lines: tuple[TrialLine, ...]
    totals: tuple[TrialTotal, ...]

    @property
    def agrees(self) -> bool:
        """Return whether all totals agree."""
        return all(total.agrees for total in self.totals)


def trial_balance(accounts: Iterable[AccountSums]) -> TrialBalance:
    """Return the trial balance of these accounts; they may come in any order, and in parts."""
    lines: dict[tuple[str, str, str, str], list[int]] = {}
    for one in accounts:
        sums = lines.setdefault((one.tenant, one.book, one.currency, one.type), [0, 0, 0, 0, 0])
        excess = one.debits - one.credits
        for place, value in enumerate((1, one.debits, one.credits, max(excess, 0), max(-excess, 0))):
            sums[place] += value
    totals: dict[tuple[str, str, str], list[int]] = {}
    for (tenant, book, currency, _), sums in lines.items():
        total = totals.setdefault((tenant, book, currency), [0, 0, 0, 0])
        for place in range(4):
            total[place] += sums[place + 1]
    return TrialBalance(
        tuple(TrialLine(*key, *sums) for key, sums in sorted(lines.items())),
        tuple(
            TrialTotal(*key, dq, cq, db, cb, agrees=dq == cq and db == cb)
            for key, (dq, cq, db, cb) in sorted(totals.items())
        ),
    )
