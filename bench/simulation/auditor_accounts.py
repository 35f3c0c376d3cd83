"""The auditor's own knowledge of accounts: how each stood under every configuration, and what its monitors watch.

It objects where a commit books on an account that was frozen or closed under the configuration that the commit knew,
where a crossing is told that there was not, and where one is not told."""

from collections.abc import Iterable, Mapping
from typing import Final

from zentra.bench.simulation.auditor_histories import History, Record
from zentra.bench.simulation.auditor_words import Violation
from zentra.runtime.ledger.book import AccountRef, Posting

__all__ = ["AuditedAccounts", "Step", "Steps"]

Counters = tuple[int, int, int, int]  # debits and credits pending, debits and credits posted
Step = dict[int, tuple[Counters, Counters]]  # of each account that a posting touches: before and after it
Steps = Mapping[tuple[str, int], Step]
_REFUSED: Final[Mapping[str, tuple[str, ...]]] = {
    "reserve": ("frozen", "closed"), "book": ("frozen", "closed"), "post": ("closed",), "settle": ("closed",),
}  # fmt: skip
"""The accounts that a posting must not touch, by its kind."""


class AuditedAccounts:
    """Accounts as they were set up, by configuration version."""

    def __init__(self) -> None:
        self._refs: dict[int, dict[int, AccountRef]] = {}

    def configured(self, version: int, refs: Iterable[AccountRef]) -> None:
        """Take note of how accounts stand under a version."""
        if version not in self._refs:
            self._refs[version] = {ref.id: ref for ref in refs}

    def known(self, version: int) -> Mapping[int, AccountRef]:
        """Return the accounts as they stood under a version."""
        return self._refs[version]

    def stood(self, version: int, postings: Iterable[Posting]) -> None:
        """Object where a commit that knew this version books on an account that does not take it."""
        refs = self._refs[version]
        for posting in postings:
            refused = _REFUSED.get(posting.kind, ())
            for side in (posting.debit, posting.credit):
                ref = refs.get(side.id)
                if ref is not None and ref.status in refused:
                    raise Violation("F", f"{posting.intent}/{posting.ordinal} books on {ref.account_id}: {ref.status}")

    def crossed(self, version: int, steps: Steps, moved: Iterable[tuple[History, Record]]) -> None:
        """Object where the records of a commit tell of other crossings than its postings made."""
        refs, due = self._refs[version], dict[str, list[tuple[str, str, str]]]()
        for history, record in moved:
            waiting = due.setdefault(history.id, [])
            if record.event == "balance.crossed":
                facts = record.facts
                told = facts["account"], facts["monitor"], facts["balance"]
                if told not in waiting:
                    raise Violation("B", f"{history.id}/{record.sequence} tells of a crossing that was none: {told}")
                waiting.remove(told)
                continue
            if waiting:
                raise Violation("B", f"{history.id}/{record.sequence} follows crossings that nobody told of: {waiting}")
            waiting += _crossings(refs, [steps[history.id, entry["ordinal"]]
                                         for entry in record.facts.get("entries", ())])  # fmt: skip
        left = [told for waiting in due.values() for told in waiting]
        if left:
            raise Violation("B", f"nobody tells of the crossings {left}")


def _crossings(refs: Mapping[int, AccountRef], steps: list[Step]) -> list[tuple[str, str, str]]:
    """Return what monitors have to tell of the postings of one record, taken together."""
    first: dict[int, Counters] = {}
    last: dict[int, Counters] = {}
    for step in steps:
        for key, (before, after) in step.items():
            first.setdefault(key, before)
            last[key] = after
    found = []
    for key, after in last.items():
        ref = refs.get(key)
        for monitor in ref.monitors if ref is not None and ref.guarded else ():
            assert ref is not None
            was, stands = _figure(monitor.of, ref, first[key]), _figure(monitor.of, ref, after)
            if _holds(monitor.when, stands, monitor.minor) and not _holds(monitor.when, was, monitor.minor):
                found.append((ref.account_id, monitor.id, str(stands)))
    return found


def _figure(of: str, ref: AccountRef, counters: Counters) -> int:
    debits_pending, credits_pending, debits_posted, credits_posted = counters
    if ref.normal_side == "debit":
        debits_pending, credits_pending = credits_pending, debits_pending
        debits_posted, credits_posted = credits_posted, debits_posted
    return {
        "posted": credits_posted - debits_posted,
        "pending": credits_pending - debits_pending,
        "available": credits_posted - debits_posted - debits_pending,
    }[of]


def _holds(when: str, minor: int, limit: int) -> bool:
    if when == "below":
        return minor < limit
    if when == "above":
        return minor > limit
    return minor == limit or minor < limit if when == "at_most" else minor >= limit
