"""Differences: one place where what is stored is not what the rest of the store says it has to be.

- A difference names its place exactly, and what was expected beside what was found, so that nobody has to look twice.
- `CHECKS` is the closed list of what is looked for; the word of a check is stable, scripts branch on it.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

__all__ = ["CHECKS", "SHOWN_MAX", "Difference", "Findings"]

SHOWN_MAX: Final = 100  # differences kept per check; more of one kind say nothing new, and memory has to have an end

# fmt: off
CHECKS: Final[Mapping[str, str]] = {
    "balance":        "each counter of an account is the sum of its postings",
    "conservation":   "debits equal credits over all accounts of a tenant and currency, on either layer",
    "floor":          "no account with a floor stands below it",
    "holds":          "what is pending on an account is what its open holds say, and no settled intent holds anything",
    "pairing":        "a posting joins two accounts of its own tenant and currency, and moves something",
    "posting_hash":   "a posting's hash follows from its fields",
    "posting_record": "each posting stands in a record of its intent, field by field, and each entry of a record is a"
                      " posting",
    "reversal":       "no more is given back than was posted",
    "intent":         "an intent and its first record are about the same thing",
    "chain":          "a record's hash follows from its bytes and the record before it",
    "sequence":       "records are numbered without gaps and their times grow",
    "record":         "a record is readable, and its row says what it says",
    "transition":     "each record moves from where the one before it ended, as the table of the machine allows",
    "leaf":           "each leaf of a log seals what its intent's records were",
    "log":            "the leaves of a log are numbered without gaps, and its subtrees and heads follow from them",
    "signature":      "each head of a log is signed by a known key",
    "rows":           "what was read along an index is all that the tables hold",
    "archive_file":   "the files of an archive are those of its manifest, byte for byte",
    "archive_sum":    "the rows of an archive are of its period, and as many and as much as its manifest says",
    "opening":        "what lies before the point that was started from is as it was there",
}
# fmt: on
"""What is looked for, by the word that a difference carries."""


class Difference(Struct, frozen=True):
    """Something that is not as it has to be: which check, where, what of it, what was expected and what is there."""

    check: str
    tenant: str
    where: str
    what: str
    expected: str
    found: str


class Findings:
    """Differences as they are found: the first of each check whole, the rest counted."""

    def __init__(self) -> None:
        self.shown: list[Difference] = []
        self.counts: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(self.counts.values())

    def differ(self, check: str, tenant: str, where: str, what: str, expected: object, found: object) -> None:
        """Take note of a difference."""
        count = self.counts.get(check, 0)
        self.counts[check] = count + 1
        if count < SHOWN_MAX:
            self.shown.append(Difference(check, tenant, where, what, str(expected), str(found)))

    def add(self, other: "Findings") -> None:
        """Take note of what somebody else has found."""
        for difference in other.shown:
            if self.counts.get(difference.check, 0) < SHOWN_MAX:
                self.shown.append(difference)
                self.counts[difference.check] = self.counts.get(difference.check, 0) + 1
                other.counts[difference.check] -= 1
        for check, count in other.counts.items():
            if count:
                self.counts[check] = self.counts.get(check, 0) + count
