"""An auditor that trusts nobody: it rebuilds every balance from postings alone, in its own few lines of arithmetic.

It takes what a ledger stores and what it claims, shares no arithmetic with it, and returns complaints, each beginning
with the letter of the invariant that is broken; an empty list is a clean bill."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

__all__ = ["AccountFile", "Claim", "Row", "audit"]


class AccountFile(NamedTuple):
    """An account as it was opened."""

    id: int
    tenant: str
    currency: str
    normal_side: str
    floor: int | None  # the least that may be available; None where there is no floor


class Row(NamedTuple):
    """One posting: two accounts and the signed effect on each layer. One that is `forced` may go below a floor."""

    intent: str
    tenant: str
    currency: str
    debit: int
    credit: int
    pending: int
    posted: int
    purpose: str = ""  # what an intent may hold besides its amount: its fee
    forced: bool = False


class Claim(NamedTuple):
    """The four counters that the ledger claims for an account."""

    debits_pending: int
    credits_pending: int
    debits_posted: int
    credits_posted: int


NOTHING = Claim(0, 0, 0, 0)


def audit(
    accounts: Iterable[AccountFile],
    rows: Sequence[Row],
    claims: Mapping[int, Claim],
    holds: Mapping[tuple[str, int], int],
) -> list[str]:
    """Return what is wrong; `holds` says what each (intent and purpose, account) is believed to hold now."""
    files = {account.id: account for account in accounts}
    tally: Counter[tuple[int, str]] = Counter()  # (account, counter) -> units
    open_holds: Counter[tuple[str, int]] = Counter()
    opened: Counter[tuple[str, int]] = Counter()
    complaints = []
    before: dict[int, int] = {}  # what was left on the accounts of a transaction: of rows in a row of one intent
    for number, row in enumerate(rows):
        if number == 0 or rows[number - 1].intent != row.intent:
            before.clear()
        for key in (row.debit, row.credit):
            before.setdefault(key, _left(files[key], tally))
        sides = {(files[key].tenant, files[key].currency) for key in (row.debit, row.credit)}
        if row.debit == row.credit or sides != {(row.tenant, row.currency)}:
            complaints.append(f"A row {number} joins what must not be joined: {row}")
        for layer, units in (("pending", row.pending), ("posted", row.posted)):
            tally[row.debit, f"debits_{layer}"] += units
            tally[row.credit, f"credits_{layer}"] += units
        if row.pending:
            hold = (row.intent + row.purpose, row.debit)
            open_holds[hold] += row.pending
            opened[hold] += row.pending > 0
            if open_holds[hold] < 0 or opened[hold] > 1:
                complaints.append(f"E row {number} ends a hold twice or opens a second one: {row}")
        whole = number + 1 == len(rows) or rows[number + 1].intent != row.intent
        for key, was in before.items() if whole and not row.forced else ():
            file, left = files[key], _left(files[key], tally)
            if file.floor is not None and left < min(was, file.floor):
                complaints.append(f"C row {number} leaves {left} on account {key}, its floor is {file.floor}")
    for key in files:
        rebuilt = Claim(*(tally[key, name] for name in Claim._fields))
        if rebuilt != claims.get(key, NOTHING):
            complaints.append(f"B account {key} claims {claims.get(key, NOTHING)}, its rows say {rebuilt}")
        held = sum(units for (_, account), units in holds.items() if account == key)
        if held != claims.get(key, NOTHING).debits_pending:
            complaints.append(
                f"D account {key} has {claims.get(key, NOTHING).debits_pending} pending, holds say {held}"
            )
    if +open_holds != Counter({hold: units for hold, units in holds.items() if units}):
        complaints.append(f"D the rows leave {dict(+open_holds)} held, the intents believe {dict(holds)}")
    for book in {(file.tenant, file.currency) for file in files.values()}:
        for layer in ("pending", "posted"):
            members = [key for key, file in files.items() if (file.tenant, file.currency) == book]
            claimed = [claims.get(key, NOTHING)._asdict() for key in members]
            excess = sum(claim[f"debits_{layer}"] - claim[f"credits_{layer}"] for claim in claimed)
            if excess:
                complaints.append(f"A {book} does not sum to zero on the {layer} layer: {excess}")
    return complaints


def _left(file: AccountFile, tally: Counter[tuple[int, str]]) -> int:
    """Return what can be taken out of an account: what is there without what is spoken for."""
    losing, gaining = ("debits", "credits") if file.normal_side == "credit" else ("credits", "debits")
    return (
        tally[file.id, f"{gaining}_posted"] - tally[file.id, f"{losing}_posted"] - tally[file.id, f"{losing}_pending"]
    )
