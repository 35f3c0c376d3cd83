"""What a reader may see: of every account and every intent the row of its versions, each made by one commit.

- The rows of a guarded account are locked until their commit ends, so its versions follow each other as their commits
  do, and who sees one of them sees all before it. What is seen of one account or intent thereby proves commits, and
  these prove versions of other accounts and intents (`Seen`).
- An account without a floor is a sum over rows that nobody locks together: two commits that end at the same time may
  be seen the other way round. It proves nothing of others, and its neighbours may change places.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from zentra.bench.histories.model import NOTHING, Account, Commit, Counters, Ending, Model, Posting, Version
from zentra.bench.histories.recording import Place

__all__ = ["LONG_AGO", "AccountLine", "Entry", "Lines", "Seen", "counters_shown", "entry_key", "key_of"]

LONG_AGO: Final = -(2**63)
EntryKey = tuple[datetime, str, int]


class Entry:
    """One side of a posting as a page shows it; `place` is the version of the account that has it first."""

    __slots__ = ("key", "place", "shown")

    def __init__(self, posting: Posting, account: str, place: int) -> None:
        debit = posting.debit == account
        self.key = entry_key(posting.at, posting.intent, posting.ordinal)
        self.place = place
        self.shown: dict[str, Any] = {
            "intent": posting.intent, "ordinal": posting.ordinal, "posting": posting.kind,
            "side": "debit" if debit else "credit", "other": posting.credit if debit else posting.debit,
            "currency": posting.currency, "pending": str(posting.pending), "posted": str(posting.posted),
        }  # fmt: skip


class AccountLine:
    """The versions of one account: version 0 is the empty account, version n is what its n-th commit left."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.commits: list[int] = []
        self.born: list[int] = [LONG_AGO]  # before this, not even the last request behind the version had been made
        self.entries: list[Entry] = []
        self._versions: list[Counters] = [NOTHING]
        self._places: dict[Counters, list[int]] = {NOTHING: [0]}
        self._keys: list[EntryKey] = []

    def add(self, commit: int, counters: Counters, born: int) -> None:
        """Append the version that a commit leaves."""
        place = len(self._versions)
        self._versions.append(counters)
        insort(self._places.setdefault(counters, []), place)
        self.commits.append(commit)
        self.born.append(max(self.born[-1], born))
        if not self.account.guarded and place > 1:
            older, before = self._versions[place - 2], self._versions[place - 1]
            swapped = tuple(o + c - b for o, c, b in zip(older, counters, before, strict=True))
            places = self._places.setdefault((swapped[0], swapped[1], swapped[2], swapped[3]), [])
            if place not in places:
                insort(places, place)

    def close(self) -> None:
        """Sort the entries, once all are there."""
        self.entries.sort(key=lambda entry: entry.key)
        self._keys = [entry.key for entry in self.entries]

    def places_of(self, counters: Counters) -> Sequence[int]:
        """Return the versions with these counters, in order."""
        return self._places.get(counters, ())

    def first_of(self, counters: Counters, least: int) -> int | None:
        """Return the first version from `least` on that has these counters, or None."""
        places = self.places_of(counters)
        place = bisect_left(places, least)
        return places[place] if place < len(places) else None

    def between(self, oldest: EntryKey | None, behind: EntryKey | None) -> list[Entry]:
        """Return the entries from `oldest` up to, and without, `behind`, newest first; None is no bound."""
        start = bisect_left(self._keys, oldest) if oldest is not None else 0
        end = bisect_left(self._keys, behind) if behind is not None else len(self._keys)
        return self.entries[start:end][::-1]

    def born_by(self, moment: int) -> int:
        """Return the last version whose requests had all been made by `moment`."""
        return bisect_right(self.born, moment) - 1


class Lines:
    """Every account and intent of an ending, as the model steps through its commits; `faults` are its objections."""

    def __init__(self, ending: Ending, born: Mapping[str, int]) -> None:
        self.ending = ending
        self.accounts = {name: AccountLine(account) for name, account in ending.accounts.items()}
        self.born = [_born(commit, born) for commit in ending.commits]
        self.touched: list[list[tuple[str, int]]] = []
        self.made: list[list[tuple[str, int]]] = []
        self.faults: list[str] = []
        model = Model(ending)
        for position, commit in enumerate(ending.commits):
            self.faults += [f"commit {position}: {fault}" for fault in model.apply(position, commit)]
            self._note(position, commit, model.counters)
        for line in self.accounts.values():
            line.close()
        self.intents: Mapping[str, Sequence[Version]] = model.versions
        self.counters = model.counters

    def _note(self, position: int, commit: Commit, counters: Mapping[str, Counters]) -> None:
        touched: dict[str, int] = {}
        for posting in commit.postings:
            for name in (posting.debit, posting.credit):
                line = self.accounts.get(name)
                if line is None:
                    continue
                if name not in touched:
                    line.add(position, counters.get(name, NOTHING), self.born[position])
                    touched[name] = len(line.commits)
                line.entries.append(Entry(posting, name, touched[name]))
        guarded = {name for name in touched if self.accounts[name].account.guarded}
        self.touched.append([(name, place) for name, place in touched.items() if name in guarded])
        self.made.append([(event.intent, event.sequence) for event in commit.events])


class Seen:
    """What somebody has been shown so far, and all that this proves. Each commit is proved once: it stays linear."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.since: list[int | None] = [None] * len(lines.born)
        self.accounts: dict[str, int] = defaultdict(int)
        self.intents: dict[str, int] = defaultdict(int)

    def commit(self, position: int, moment: int) -> None:
        """A commit was seen by `moment`."""
        open_ = [position]
        while open_:
            place = open_.pop()
            if self.since[place] is not None:
                continue
            self.since[place] = moment
            for name, version in self._lines.touched[place]:
                open_ += self._reach(self.accounts, name, version, self._lines.accounts[name].commits)
            for intent, version in self._lines.made[place]:
                commits = [made.commit for made in self._lines.intents[intent][:version]]
                open_ += self._reach(self.intents, intent, version, commits)

    def account(self, name: str, version: int, moment: int) -> None:
        """A version of an account was seen by `moment`; with it, of a guarded one, the commit that made it."""
        line = self._lines.accounts[name]
        if line.account.guarded:
            if version:
                self.commit(line.commits[version - 1], moment)
        else:
            self.accounts[name] = max(self.accounts[name], version - 1)

    def intent(self, intent: str, version: int, moment: int) -> None:
        """A version of an intent was seen by `moment`."""
        self.commit(self._lines.intents[intent][version - 1].commit, moment)

    @staticmethod
    def _reach(known: dict[str, int], name: str, version: int, commits: Sequence[int]) -> Sequence[int]:
        """Note that `name` has at least this version, and return the commits that made it and those before it."""
        least = known[name]
        if version <= least:
            return ()
        known[name] = version
        return commits[least:version]


def entry_key(at: str, intent: str, ordinal: int) -> EntryKey:
    """Return the place of an entry in the order of pages."""
    return datetime.fromisoformat(at), intent.replace("-", ""), ordinal


def key_of(place: Place | None) -> EntryKey | None:
    """Return the place where a page begins."""
    return None if place is None else entry_key(place.at, place.intent, place.ordinal)


def _born(commit: Commit, born: Mapping[str, int]) -> int:
    return max((born.get(event.intent, LONG_AGO) for event in commit.events), default=LONG_AGO)


def counters_shown(shown: Mapping[str, Any]) -> Counters:
    """Return the counters of an account as it is shown. Raises KeyError or ValueError where they are not there."""
    counters = shown["counters"]
    return (
        int(counters["debits_pending"]), int(counters["credits_pending"]), int(counters["debits_posted"]),
        int(counters["credits_posted"]),
    )  # fmt: skip
