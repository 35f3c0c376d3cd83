"""What screening finds of a party, and what that makes of its state.

Invariants. A name that cannot be compared and a search that was cut short are possible matches. A pair that a person
has cleared is no match until the party's names or the entry change. A true match is ended by a person alone."""

from collections.abc import Collection, Sequence

from msgspec import Struct

from zentra.runtime.compliance.diligence import Compliance
from zentra.runtime.compliance.lists import HITS_MAX, ListHit, NameList, answer_of_names
from zentra.runtime.compliance.matching import ALGORITHM
from zentra.runtime.compliance.names import Unscreenable, digest_of_names
from zentra.runtime.compliance.rules import ClearedPair
from zentra.runtime.compliance.states import Screening

__all__ = ["Finding", "next_screening", "screen_names", "screening_mark"]


class Finding(Struct, frozen=True):
    """What the lists say of a party's names: the state that follows, the hits that nobody cleared, and the reason."""

    state: Screening
    name_digest: str
    score: int
    hits: tuple[ListHit, ...]
    reason: str


def screening_mark(lists: Sequence[NameList], rules: Compliance) -> str:
    """Return the text that says by what somebody was screened: while it is the same, there is nothing new to find."""
    parts = [f"{one.info.name}:{one.info.digest}" for one in sorted(lists, key=lambda one: one.info.name)]
    return "/".join([ALGORITHM, str(rules.threshold), *parts])


def screen_names(
    names: Sequence[str], lists: Sequence[NameList], rules: Compliance, cleared: Collection[ClearedPair]
) -> Finding:
    """Return what the lists say of everything that a party is called."""
    try:
        answer, digest = answer_of_names(lists, names), digest_of_names(names)
    except Unscreenable as refusal:
        return Finding(Screening.POSSIBLE_MATCH, "", 0, (), f"a name cannot be compared: {refusal.detail}")
    alike = [hit for hit in answer.hits if hit.score >= rules.threshold]
    open_hits = tuple([hit for hit in alike if (digest, hit.list, hit.digest) not in cleared])
    if open_hits:
        return Finding(Screening.POSSIBLE_MATCH, digest, answer.score, open_hits, "a list names somebody alike")
    if not answer.complete or len(alike) == HITS_MAX:
        return Finding(Screening.POSSIBLE_MATCH, digest, answer.score, (), "too many entries are alike to see them all")
    if alike:
        return Finding(Screening.FALSE_POSITIVE, digest, answer.score, (), "every entry alike was cleared")
    return Finding(Screening.CLEAR, digest, answer.score, (), "no list names anybody alike")


def next_screening(current: Screening, found: Finding) -> Screening:
    """Return the state after a screening."""
    return current if current is Screening.TRUE_MATCH else found.state
