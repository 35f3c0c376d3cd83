"""What a planted fault is: where it goes, what it breaks, and who has to notice it."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Edit", "Mutation"]


class Edit(Struct, frozen=True):
    """A text that stands exactly once in a file of the repository, and what takes its place."""

    file: str
    old: str
    new: str


class Mutation(Struct, frozen=True):
    """One fault. With it each of `tests` has to fail, and so has the simulator, except where `unseen` says why not."""

    name: str
    breaks: str
    letter: str  # of the invariant in DOMAIN.md 10
    edits: tuple[Edit, ...]
    tests: tuple[str, ...] = ()  # pytest node ids; one without parameters stands for all of its cases
    unseen: str = ""
