"""The auditor's own ledger: four counters per account, summed from postings in its own few lines.

It is told of every posting and of every change of a balance, and objects where the two differ, where a posting joins
what must not be joined, where a hold ends twice, or where an account with a floor falls below it."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC
from itertools import groupby
from typing import Any

from zentra.bench.simulation.auditor_accounts import Step
from zentra.bench.simulation.auditor_words import SIGNS, Violation
from zentra.bench.twins.store import StoreTwin
from zentra.runtime.ledger.book import AccountRef, Balance, Posting

__all__ = ["AuditedLedger"]

_NAMES = ("debits_pending", "credits_pending", "debits_posted", "credits_posted")


class AuditedLedger:
    """Balances and open holds as the postings alone say."""

    def __init__(
        self, accounts: Iterable[AccountRef], opening: Iterable[Posting],
        numbers: Mapping[tuple[str, str, str], str] | None = None,
    ) -> None:  # fmt: skip
        """`numbers` has account ids by tenant, scheme and number."""
        self.accounts = {ref.id: ref for ref in accounts}
        self._names = {(ref.tenant, ref.account_id): ref for ref in self.accounts.values()}
        for (tenant, scheme, number), name in (numbers or {}).items():
            self._names.setdefault((tenant, f"{scheme}:{number}"), self._names[tenant, name])
        self._systems = {
            (ref.tenant, ref.type, ref.currency, ref.book): ref.account_id
            for ref in self.accounts.values() if not ref.guarded
        }  # fmt: skip
        self.steps: dict[tuple[str, int], Step] = {}  # of the last commit, by posting
        self._counters: dict[int, list[int]] = {key: [0, 0, 0, 0] for key in self.accounts}
        self._held: dict[tuple[str, bool], int] = {}  # by intent, for a fee or not: spoken for and not ended
        self._ordinals: Counter[str] = Counter()
        self._rows: dict[tuple[str, int], Posting] = {}
        for posting in opening:
            self._rows[posting.intent, posting.ordinal] = posting
            self._add(self._counters, posting)

    def named(self, tenant: str, account: str) -> AccountRef | None:
        """Return the account of a tenant that an id or a number means, or None where there is none."""
        return self._names.get((tenant, account))

    def system(self, tenant: str, type_: str, currency: str, book: str) -> str:
        """Return the id of a tenant's system account of this type, currency and book, empty where there is none."""
        return self._systems.get((tenant, type_, currency, book), "")

    def earned(self, store: StoreTwin) -> dict[tuple[str, str], int]:
        """Return what every fee account has earned as it is stored, by tenant and name: what others moved into it or
        out of it is not earned."""
        fees = {key: ref for key, ref in self.accounts.items() if ref.type == "fee"}
        earned = dict.fromkeys(fees, 0)
        for (key, _), stripe in store.rows.balances.items():
            if key in earned:
                earned[key] += stripe.credits_posted - stripe.debits_posted
        for posting in self._rows.values():
            if not posting.kind.startswith("fee"):
                for ref, minor in ((posting.credit, -posting.posted), (posting.debit, posting.posted)):
                    earned[ref.id] = earned.get(ref.id, 0) + minor
        return {(ref.tenant, ref.account_id): earned[key] for key, ref in fees.items()}

    def systems(self, tenant: str, book: str) -> dict[str, str]:
        """Return the names of the accounts without a floor of a tenant's book, as type/currency."""
        refs = [ref for ref in self.accounts.values() if (ref.tenant, ref.book) == (tenant, book) and not ref.guarded]
        return {f"{ref.type}/{ref.currency}": ref.account_id for ref in refs}

    def read(self, balances: Mapping[int, Balance]) -> None:
        """Object where a commit was decided on a balance that is not the sum of the postings before it."""
        for key, balance in balances.items():
            mine = self._counters[key]
            if [getattr(balance, name) for name in _NAMES] != mine:
                raise Violation("B", f"account {key} was read as {balance}, its postings say {mine}")

    def wrote(
        self,
        postings: Iterable[Posting],
        changes: Mapping[int, tuple[AccountRef, Balance]],
        commands: Mapping[str, Mapping[str, Any]],
        known: Mapping[int, AccountRef],
    ) -> None:
        """Follow what a commit wrote; `commands` says by intent what was asked for, `known` how the commit knew
        accounts: limits change."""
        self.steps = {}
        summed: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for intent, rows in groupby(postings, key=lambda posting: posting.intent):
            before: dict[int, int] = {}
            kinds = set()
            for posting in rows:
                self._post(posting, before)
                self._add(summed, posting)
                kinds.add(posting.kind)
            if "forced_reversal" not in kinds:
                self._floors(before, intent, known)
            if kinds & {"book", "reserve"}:
                self._conditions(commands.get(intent, {}), posting.tenant, intent)
        for key in summed.keys() | changes.keys():
            told = [getattr(changes[key][1], name) for name in _NAMES] if key in changes else [0, 0, 0, 0]
            if told != summed[key]:
                raise Violation("B", f"account {key} changes by {told}, the postings say {summed[key]}")

    def _floors(self, before: Mapping[int, int], intent: str, known: Mapping[int, AccountRef]) -> None:
        """Object where a transaction leaves less than there was, and less than may be, on an account."""
        for key, had in before.items():
            ref = self.accounts[key]
            left, limit = self.left(ref), known.get(key, ref).overdraft_limit
            if ref.guarded and left < min(had, -limit):
                raise Violation("C", f"{intent} leaves {left} on {ref.account_id}, its limit is {-limit}")

    def _conditions(self, command: Mapping[str, Any], tenant: str, intent: str) -> None:
        for condition in command.get("conditions", ()):
            ref = self._names[tenant, condition["account"]]
            debits_pending, credits_pending, debits_posted, credits_posted = self._counters[ref.id]
            sign = -1 if ref.normal_side == "debit" else 1
            left = {
                "available": self.left(ref), "posted": sign * (credits_posted - debits_posted),
                "pending": sign * (credits_pending - debits_pending),
            }[condition["of"]]  # fmt: skip
            if not int(condition.get("min", left)) <= left <= int(condition.get("max", left)):
                raise Violation("C", f"{intent} leaves {left} on {ref.account_id}, against {condition}")

    def _post(self, posting: Posting, had: dict[int, int]) -> None:
        where = f"posting {posting.intent}/{posting.ordinal} ({posting.kind})"
        debit, credit = self.accounts.get(posting.debit.id), self.accounts.get(posting.credit.id)
        if debit is None or credit is None:
            raise Violation("A", f"{where} names an account that nobody opened")
        if debit.id == credit.id or debit.currency != credit.currency:
            raise Violation("A", f"{where} joins {debit.account_id} and {credit.account_id}")
        if debit.book != credit.book:
            raise Violation("A", f"{where} leads out of the book {debit.book} into {credit.book}")
        if {debit.tenant, credit.tenant} != {posting.tenant}:
            raise Violation("M", f"{where} of {posting.tenant} joins {debit.tenant} and {credit.tenant}")
        signs = tuple((amount > 0) - (amount < 0) for amount in (posting.pending, posting.posted))
        if signs not in SIGNS.get(posting.kind, ()):
            raise Violation("A", f"{where} has the effects {posting.pending} pending and {posting.posted} posted")
        house = debit if posting.kind == "fee_refund" else credit
        if posting.kind.startswith("fee") and house.type != "fee":
            raise Violation("A", f"{where} is on {house.account_id}, which takes no fees")
        if posting.ordinal != self._ordinals[posting.intent]:
            raise Violation("B", f"{where} is not the next posting of its intent")
        if posting.hash != _hash(posting, debit, credit):
            raise Violation("S", f"{where} does not have the hash of its fields")
        for ref in (debit, credit):
            had.setdefault(ref.id, self.left(ref))
        self._ordinals[posting.intent] += 1
        self._hold(posting, where)
        self._rows[posting.intent, posting.ordinal] = posting
        before = self._both(posting)
        self._add(self._counters, posting)
        after = self._both(posting)
        self.steps[posting.intent, posting.ordinal] = {key: (before[key], after[key]) for key in after}

    def _both(self, posting: Posting) -> dict[int, tuple[int, int, int, int]]:
        found = {}
        for key in (posting.debit.id, posting.credit.id):
            one, two, three, four = self._counters[key]
            found[key] = (one, two, three, four)
        return found

    def _hold(self, posting: Posting, where: str) -> None:
        hold = posting.intent, posting.kind.startswith("fee")
        held = self._held.get(hold)
        if posting.pending > 0 and held is not None:
            raise Violation("E", f"{where} opens a second hold")
        if posting.pending < 0 and (held or 0) + posting.pending < 0:
            raise Violation("E", f"{where} ends {-posting.pending} of a hold that has {held or 0} left")
        if posting.pending:
            self._held[hold] = (held or 0) + posting.pending

    def left(self, ref: AccountRef) -> int:
        """Return what can be taken out of an account."""
        debits_pending, credits_pending, debits_posted, credits_posted = self._counters[ref.id]
        if ref.normal_side == "debit":
            return debits_posted - credits_posted - credits_pending
        return credits_posted - debits_posted - debits_pending

    def rebuild(self, store: StoreTwin, held: Mapping[tuple[str, str], int]) -> None:
        """Sum every stored posting anew and compare; `held` is what intents hold by (tenant, account), as their states
        say."""
        stored: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for (key, _), stripe in store.rows.balances.items():
            counters = stored[key]
            for place, name in enumerate(_NAMES):
                counters[place] += getattr(stripe, name)
        for key, ref in self.accounts.items():
            if ref.guarded and stored[key][0] != held.get((ref.tenant, ref.account_id), 0):
                intents = held.get((ref.tenant, ref.account_id), 0)
                raise Violation("D", f"{ref.account_id} has {stored[key][0]} pending, its intents hold {intents}")
        sums: Counter[tuple[str, str, str, str]] = Counter()
        for key, (debits_pending, credits_pending, debits_posted, credits_posted) in stored.items():
            ref = self.accounts[key]
            sums[ref.tenant, ref.book, ref.currency, "pending"] += debits_pending - credits_pending
            sums[ref.tenant, ref.book, ref.currency, "posted"] += debits_posted - credits_posted
        for book, excess in sums.items():
            if excess:
                raise Violation("A", f"the balances of {book} do not sum to zero: {excess}")
        summed: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for posting in store.rows.postings.values():
            self._add(summed, posting)
        if store.rows.postings != self._rows:
            odd = [key for key in store.rows.postings.keys() | self._rows.keys()
                   if store.rows.postings.get(key) != self._rows.get(key)]  # fmt: skip
            raise Violation("B", f"the stored postings are not those that were committed: {sorted(odd)[:3]}")
        for key in self.accounts:
            if not stored[key] == summed[key] == self._counters[key]:
                raise Violation(
                    "B", f"account {key} stores {stored[key]}, its postings say {summed[key]}, {self._counters[key]}"
                )

    @staticmethod
    def _add(counters: dict[int, list[int]], posting: Posting) -> None:
        debit, credit = counters[posting.debit.id], counters[posting.credit.id]
        debit[0] += posting.pending
        debit[2] += posting.posted
        credit[1] += posting.pending
        credit[3] += posting.posted


def _hash(posting: Posting, debit: AccountRef, credit: AccountRef) -> bytes:
    fields = (
        posting.tenant, posting.intent, posting.ordinal, posting.kind, debit.account_id, credit.account_id,
        debit.currency, posting.pending, posting.posted,
    )  # fmt: skip
    if posting.effective_at is not None:
        counts = posting.effective_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        fields = ("2", *fields, counts)  # type: ignore[assignment]
    return hashlib.sha256("|".join(str(field) for field in fields).encode()).digest()
