"""A list of names in one version, in memory: what it is made of, how old it is, and what it says of a name.

Invariants. The digest covers every entry, so equal digests are equal lists. What a list says of a name depends on the
name and the digest alone; it is remembered for as long as the list is, for a bounded number of names."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from zentra.runtime.compliance.matching import NameIndex
from zentra.runtime.compliance.names import NameForm, Unscreenable, form_of

__all__ = ["HITS_MAX", "Answer", "ListEntry", "ListHit", "ListInfo", "NameList", "answer_of_names", "digest_of_list"]

REMEMBERED_MAX: Final = 20_000  # names; some 200 bytes each
HITS_MAX: Final = 10


class ListEntry(Struct, frozen=True, gc=False):
    """One person, organisation, vessel or the like of a list, with every name that it goes by."""

    id: str
    kind: str  # person, organisation, other
    names: tuple[str, ...]
    countries: tuple[str, ...] = ()
    birth_dates: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Return the SHA-256 over everything that the entry says."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()


class ListInfo(Struct, frozen=True, gc=False):
    """What is told of a list: which it is, and since when it is what it is."""

    name: str
    version: int
    digest: str
    fetched_at: datetime
    entries: int = 0
    names: int = 0


class ListHit(Struct, frozen=True, gc=False):
    """An entry that a name is like. The entry's digest says which state of it that was."""

    list: str
    entry: str
    digest: str
    score: int


class Answer(Struct, frozen=True, gc=False):
    """What a list says of a name: the best hits of at least `CUTOFF`, one per entry; `complete` unless more names
    would have had to be compared than one search may."""

    hits: tuple[ListHit, ...] = ()
    complete: bool = True

    @property
    def score(self) -> int:
        """Return the best score, 0 where nothing is alike."""
        return self.hits[0].score if self.hits else 0


class NameList:
    """A version of a list, ready to be asked. What cannot be compared in it is counted in `skipped`."""

    def __init__(self, info: ListInfo, entries: Iterable[ListEntry]) -> None:
        self.info = info
        forms: list[NameForm] = []
        self._owners: list[int] = []
        self._entries: list[tuple[str, str]] = []  # id and digest
        self._answers: dict[tuple[str, ...], Answer] = {}
        self.skipped = 0
        for number, entry in enumerate(entries):
            self._entries.append((entry.id, entry.digest))
            seen: set[tuple[str, ...]] = set()
            for name in entry.names:
                try:
                    form = form_of(name)
                except Unscreenable:
                    self.skipped += 1
                    continue
                if form.parts not in seen:
                    seen.add(form.parts)
                    forms.append(form)
                    self._owners.append(number)
        self._index = NameIndex(forms)

    def as_of(self, info: ListInfo) -> "NameList":
        """Return the same list with other facts told of it: the time at which it was fetched."""
        other = NameList.__new__(NameList)
        other.__dict__.update(self.__dict__)
        other.info = info
        return other

    def ask(self, name: str) -> Answer:
        """Return what the list says of a name; raise Unscreenable as `form_of` does."""
        form = form_of(name)
        known = self._answers.get(form.parts)
        if known is None:
            if len(self._answers) >= REMEMBERED_MAX:
                self._answers.clear()
            known = self._answers[form.parts] = self._search(form)
        return known

    def _search(self, form: NameForm) -> Answer:
        found, complete = self._index.search(form)
        best: dict[int, int] = {}
        for one in found:
            best.setdefault(self._owners[one.number], one.score)  # best first
            if len(best) == HITS_MAX:
                break
        hits = [ListHit(self.info.name, *self._entries[number], score) for number, score in best.items()]
        return Answer(tuple(hits), complete)


def answer_of_names(lists: Sequence[NameList], names: Iterable[str]) -> Answer:
    """Return the best hits of several names on several lists, the best of each entry; raise Unscreenable."""
    best: dict[tuple[str, str], ListHit] = {}
    complete = True
    for name in names:
        for one in lists:
            answer = one.ask(name)
            complete = complete and answer.complete
            for hit in answer.hits:
                known = best.get((hit.list, hit.entry))
                if known is None or known.score < hit.score:
                    best[hit.list, hit.entry] = hit
    hits = sorted(best.values(), key=lambda hit: (-hit.score, hit.list, hit.entry))
    return Answer(tuple(hits[:HITS_MAX]), complete)


def digest_of_list(entries: Iterable[ListEntry]) -> str:
    """Return the digest of a list: the SHA-256 over its entries' digests in order of id."""
    lines = sorted(f"{entry.id}\x00{entry.digest}" for entry in entries)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
