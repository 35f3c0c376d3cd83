"""Signed heads of one log held to each other: two that contradict each other prove fraud, whoever shows them.

- Of one size there is one root; a log of more leaves was not signed before one of fewer.
- This is asked before anything else, of every head that is at hand: it needs no leaf and no record.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

from zentra.runtime.evidence.heads import TreeHead

__all__ = ["CONTRADICTED", "contradictions", "uncovered"]

CONTRADICTED = "heads_contradict"


def contradictions(heads: Iterable[TreeHead]) -> Iterator[tuple[str, str, str]]:
    """Yield (stable code, where, sentence) of verified heads of one tenant that cannot both be of one log."""
    ordered = sorted(heads, key=lambda one: (one.tenant, one.size, one.at))
    for one, other in pairwise(ordered):
        if one.tenant != other.tenant:
            continue
        where = f"heads of {one.size} and {other.size}"
        if one.size == other.size and one.root != other.root:
            yield CONTRADICTED, where, f"of {one.size} leaves two roots were signed, at {one.at} and at {other.at}"
        elif one.size < other.size and one.at > other.at:
            detail = (
                f"{one.size} leaves were signed at {one.at}, after {other.size} at {other.at}: leaves were taken out"
            )
            yield CONTRADICTED, where, detail


def uncovered(anchors: Iterable[TreeHead], heads: Iterable[TreeHead]) -> tuple[int, ...]:
    """Return the sizes of anchors that are of none of the sizes of `heads`: that one is part of the other is unproven,
    and no objection."""
    sizes = {one.size for one in heads}
    return tuple(sorted({one.size for one in anchors} - sizes))
