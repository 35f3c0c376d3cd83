"""Copies of a finished intent: the rows that the runtime wrote for it, as they would stand for another one.

- Copying an intent onto itself gives its own rows, byte for byte; a template for which this does not hold is refused.
- Everything that depends on content is computed anew by the runtime's own functions: the digest of the command, the
  hashes of the postings, the chain of the records, and the leaf.
- A copy differs in its names and in its day, a whole number of days earlier, so that its times keep their order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from zentra.gateway.doors.intake import digest_of_intent
from zentra.runtime.evidence.chain import GENESIS, chain

__all__ = ["CannotCopy", "Copied", "Names", "Template"]

Row = Mapping[str, Any]

_DAY: Final = re.compile(rb"\d{4}-\d\d-\d\d(?=[T\"])")
_INTENT, _INTENT_ID, _DIGEST, _TRACE, _CHAIN = b"intent", b"intent_id", b"digest", b"trace", b"chain"


class CannotCopy(Exception):
    """Raised where the rows of an intent do not follow from its content in the way that copies are made."""


class Names(NamedTuple):
    """What sets a copy apart: its uuid as 32 hex digits, its intent id and key, its trace, how many days earlier."""

    intent: str
    intent_id: str
    trace: str
    days: int


class Copied(Struct):
    """The rows of one intent, in the columns of its template, and its leaf."""

    intent: tuple[Any, ...]
    idempotency: tuple[Any, ...]
    postings: list[tuple[Any, ...]]
    transitions: list[tuple[Any, ...]]
    leaf: bytes


class _Words:
    """Bytes or a text with gaps where the names of a copy stand."""

    def __init__(self, value: bytes | str, gaps: Mapping[bytes, bytes]) -> None:
        self._text = isinstance(value, str)
        raw = (value.encode() if isinstance(value, str) else value).replace(b"%", b"%%")
        for mark, gap in gaps.items():
            raw = raw.replace(mark, b"%%(%b)b" % gap)
        self._format = _DAY.sub(lambda found: b"%%(%b)b" % found[0], raw)
        self.has_gaps = b"%(" in self._format

    def filled(self, words: Mapping[bytes, bytes]) -> Any:
        """Return the value of a copy, of the type that the template's has."""
        raw = self._format % words
        return raw.decode() if self._text else raw


class _Row:
    """A row of the template. `given` columns are told with every copy; of the others, most are as they were."""

    def __init__(self, row: Row, gaps: Mapping[bytes, bytes], *given: str) -> None:
        self._values = list(row.values())
        self._given = [place for place, name in enumerate(row) if name in given]
        self._moments = [place for place, value in enumerate(self._values) if isinstance(value, datetime)]
        self._words: list[tuple[int, _Words]] = []
        for place, value in enumerate(self._values):
            if isinstance(value, bytes | str) and place not in self._given:
                words = _Words(value, gaps)
                if words.has_gaps:
                    self._words.append((place, words))

    def filled(self, words: Mapping[bytes, bytes], earlier: timedelta, *given: Any) -> tuple[Any, ...]:
        """Return the row of a copy."""
        values = self._values.copy()
        for place, value in zip(self._given, given, strict=True):
            values[place] = value
        for place in self._moments:
            values[place] -= earlier
        for place, filler in self._words:
            values[place] = filler.filled(words)
        return tuple(values)


class Template:
    """A finished intent that can be copied. `columns` are those of each table, in order; `effects` are (debit, credit,
    pending, posted) of its postings; `velocity` are the counters that it used, with their day."""

    def __init__(
        self, intent: Row, idempotency: Row, postings: Sequence[Row], transitions: Sequence[Row], leaf: bytes,
        accounts: Mapping[int, str],
    ) -> None:  # fmt: skip
        """`accounts` are the names of the accounts by number. Raises CannotCopy."""
        self.names = Names(intent["id"], intent["intent_id"], intent["trace"], 0)
        self.created_at: datetime = intent["created_at"]
        self.columns = {
            "intents": tuple(intent), "idempotency": tuple(idempotency), "postings": tuple(postings[0]),
            "transitions": tuple(transitions[0]),
        }  # fmt: skip
        self.effects = [(row["debit"], row["credit"], row["pending"], row["posted"]) for row in postings]
        self.velocity = [use for row in transitions for use in _velocity(row["record"])]
        command = msgspec.json.decode(intent["command"])
        self.minor, self.currency = int(command["minor"]), str(command["currency"])
        gaps = {
            self.names.intent.encode(): _INTENT, self.names.intent_id.encode(): _INTENT_ID,
            self.names.trace.encode(): _TRACE, intent["digest"].hex().encode(): _DIGEST,
        }  # fmt: skip
        sealed = {row["hash"].hex().encode(): b"posting%d" % row["ordinal"] for row in postings}
        links = {row["hash"].hex().encode(): _CHAIN for row in transitions}
        every = [row["record"] for row in transitions] + [idempotency["answer"]]
        self._days = {found: date.fromisoformat(found.decode()) for text in every for found in _DAY.findall(text)}
        self._command = _Words(intent["command"], gaps)
        self._intent, self._idempotency = _Row(intent, gaps, "digest"), _Row(idempotency, gaps, "digest")
        self._postings = [(_Words(_sealed(row, accounts), gaps), _Row(row, gaps, "hash")) for row in postings]
        self._transitions = [
            (_Words(row["record"], gaps | sealed | links), _Row(row, gaps, "record", "hash")) for row in transitions
        ]
        self._leaf = _Words(leaf, gaps | links)
        own = Copied(
            tuple(intent.values()), tuple(idempotency.values()), [tuple(row.values()) for row in postings],
            [tuple(row.values()) for row in transitions], leaf,
        )  # fmt: skip
        if self.copy(self.names) != own:
            raise CannotCopy(f"the rows of {self.names.intent_id} do not follow from what it asks for")

    def copy(self, names: Names) -> Copied:
        """Return the rows of the copy with these names."""
        earlier = timedelta(days=names.days)
        words = {day: (value - earlier).isoformat().encode() for day, value in self._days.items()}
        words[_INTENT], words[_INTENT_ID] = names.intent.encode(), names.intent_id.encode()
        words[_TRACE] = names.trace.encode()
        digest = digest_of_intent(self._command.filled(words))
        words[_DIGEST] = digest.hex().encode()
        postings = []
        for number, (sealed, row) in enumerate(self._postings):
            link = sha256(sealed.filled(words)).digest()
            words[b"posting%d" % number] = link.hex().encode()
            postings.append(row.filled(words, earlier, link))
        transitions, link = [], GENESIS
        for written, row in self._transitions:
            words[_CHAIN] = link.hex().encode()  # a record that names a link names that of the record before it
            record = written.filled(words)
            link = chain(link, record)
            transitions.append(row.filled(words, earlier, record, link))
        words[_CHAIN] = link.hex().encode()
        return Copied(
            self._intent.filled(words, earlier, digest), self._idempotency.filled(words, earlier, digest), postings,
            transitions, self._leaf.filled(words),
        )  # fmt: skip


def _sealed(row: Row, accounts: Mapping[int, str]) -> bytes:
    """Return what the hash of a posting is over."""
    names = (row["tenant"], row["intent"], row["ordinal"], row["kind"], accounts[row["debit"]], accounts[row["credit"]])
    return "|".join(str(field) for field in (*names, row["currency"], row["pending"], row["posted"])).encode()


def _velocity(record: bytes) -> Iterator[tuple[str, date]]:
    for use in msgspec.json.decode(record)["facts"].get("velocity", ()):
        yield use["counter"], date.fromisoformat(use["day"])
