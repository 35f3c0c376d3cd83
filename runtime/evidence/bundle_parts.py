"""A part of a bundle, which is a pair of files, verified by itself; so parts can be shared out.

- Of a record that was changed that very record is named, and not all of those behind it.
- The first problems are kept, and every code: a long list of one kind hides no other, and who judges by codes judges
  by all of them. What says that something was changed is told before what says that something is missing.
"""

from hashlib import sha256
from typing import Final

import msgspec

from zentra.runtime.evidence import merkle
from zentra.runtime.evidence.bundle import LeafLine, numbered
from zentra.runtime.evidence.chain import GENESIS
from zentra.runtime.evidence.packet import Problem
from zentra.runtime.evidence.seals import Link, Seal, Sealed, Seals, decode_sealed

__all__ = ["INCOMPLETE", "UNREADABLE", "Part", "PartJob", "Problems", "check_part", "first_index"]

UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""Whatever bytes can do to a decoder."""
PROBLEMS_MAX: Final = 100  # kept of one part; the count says how many there are, the codes which
INCOMPLETE: Final = frozenset({"not_sealed", "anchor_beyond", "beginning_missing", "history_short"})
"""What says that something is missing, and nothing of what is there."""


class PartJob(msgspec.Struct, frozen=True):
    """A pair of files to verify: what is known before they are read. `first` is the index of the first leaf."""

    tenant: str
    number: int
    first: int
    filtered: bool


class Part(msgspec.Struct, frozen=True):
    """What a pair of files holds. `hashes` are those of the leaves, one behind the other; `seals` joins parts.

    `problems` are the first ones; `codes` are those of all."""

    hashes: bytes
    entries: int
    left_out: int
    problems: list[Problem]
    codes: frozenset[str]
    problems_in_all: int
    seals: Seals


class Problems:
    """Problems of a part or a bundle: the first ones, the codes of all, and how many there are."""

    def __init__(self) -> None:
        self.codes: set[str] = set()
        self.count = 0
        self._changed: list[Problem] = []
        self._missing: list[Problem] = []

    @property
    def kept(self) -> list[Problem]:
        """The first problems: those that say that something was changed before those that say what is missing."""
        return (self._changed + self._missing)[:PROBLEMS_MAX]

    def add(self, code: str, where: str, detail: object) -> None:
        """Add a problem."""
        self.count += 1
        self.codes.add(code)
        kept = self._missing if code in INCOMPLETE else self._changed
        if len(kept) < PROBLEMS_MAX:
            kept.append(Problem(code, where, str(detail)))

    def take(self, part: Part) -> None:
        """Add all problems of a part."""
        for one in part.problems:
            self.add(one.code, one.where, one.detail)
        self.codes |= part.codes
        self.count += part.problems_in_all - len(part.problems)


class _Record(msgspec.Struct, frozen=True, gc=False, rename={"from_": "from"}):
    at: str
    event: str
    from_: str | None
    intent: str
    sequence: int
    tenant: str
    to: str


_decode_leaf: Final = msgspec.json.Decoder(LeafLine).decode
_decode_record: Final = msgspec.json.Decoder(_Record).decode


def check_part(job: PartJob, leaves: bytes, entries: bytes) -> Part:
    """Return what a pair of files holds and what is wrong with it; never raises for what they hold."""
    problems, hashes, left_out, seals = Problems(), bytearray(), 0, Seals()
    lines = entries.split(b"\n")
    if lines.pop():
        problems.add("records_malformed", numbered("entries", job.number), "its last line does not end")
    rows, place, index = leaves.split(b"\n"), 0, job.first
    if rows.pop():
        problems.add("leaf_malformed", numbered("leaves", job.number), "its last line does not end")
    for row in rows:
        try:
            line = _decode_leaf(row)
            sealed = decode_sealed(line.data)
            link = bytes.fromhex(line.after) if line.after else GENESIS
        except UNREADABLE as error:
            problems.add("leaf_malformed", f"leaf {index}", error)
            hashes += merkle.leaf_hash(row)
            index += 1
            continue
        if line.index != index:
            missing = "leaf_missing" if line.index > index else "leaf_repeated"
            problems.add(missing, f"leaf {index}", f"the next one in the file is leaf {line.index}")
        hashes += merkle.leaf_hash(line.data.encode())
        index += 1
        if sealed.tenant != job.tenant:
            problems.add("tenant_differs", f"leaf {line.index}", f"it is of {sealed.tenant!r}, not {job.tenant!r}")
        if (sealed.kind == "addendum") != bool(line.after):
            problems.add("leaf_differs", f"leaf {line.index}", f"it is of kind {sealed.kind!r}")
        count = len(line.hashes)
        after = Seal(sealed.records - count, line.after, not count)
        seal, link_to = Seal(sealed.records, sealed.chain, not count), Link(line.index, after, sealed.records)
        if (flaw := seals.add(sealed.intent, seal, link_to)) is not None:
            problems.add(flaw[0], f"leaf {line.index}", flaw[1])
        if not count:
            left_out += 1
            if not job.filtered:
                problems.add("records_missing", f"leaf {line.index}", "its records are not here")
            continue
        _check_records(problems, line, sealed, link, lines[place : place + count])
        place += count
        if line.hashes[-1] != sealed.chain:
            problems.add("leaf_differs", f"leaf {line.index}", "it does not seal the records that stand here")
    if place < len(lines):
        problems.add(
            "records_unsealed", numbered("entries", job.number), f"{len(lines) - place} lines belong to no leaf"
        )
    return Part(
        bytes(hashes), min(place, len(lines)), left_out, problems.kept, frozenset(problems.codes), problems.count, seals
    )


def _check_records(problems: Problems, line: LeafLine, sealed: Sealed, link: bytes, records: list[bytes]) -> None:
    """Verify the records of one leaf: each follows the one before it."""
    sequence = sealed.records - len(line.hashes)
    intent, tenant = sealed.intent, sealed.tenant
    state: str | None = None
    at = ""
    known = sequence == 0
    if known is bool(line.after):
        problems.add("sequence_broken", f"leaf {line.index}", f"it has {len(line.hashes)} of {sealed.records} records")
    if len(records) < len(line.hashes):
        missing = len(line.hashes) - len(records)
        problems.add("records_missing", f"leaf {line.index}", f"{missing} of its records are not here")
    for claimed, data in zip(line.hashes, records, strict=False):
        sequence += 1
        link = sha256(link + data).digest()
        if link.hex() != claimed:
            where = f"leaf {line.index}, intent {intent} record {sequence}"
            problems.add("chain_broken", where, "its hash does not follow from its bytes and the record before it")
            # Going on from the claimed hash names the record that was changed, and not all of those behind it.
            link = bytes.fromhex(claimed) if len(claimed) == 64 and not claimed.strip("0123456789abcdef") else link
        try:
            record = _decode_record(data)
        except UNREADABLE as error:
            problems.add("record_malformed", f"leaf {line.index}, intent {intent} record {sequence}", error)
            continue
        if (record.sequence, record.intent, record.tenant) != (sequence, intent, tenant):
            where = f"leaf {line.index}, intent {intent} record {sequence}"
            detail = f"it is record {record.sequence} of intent {record.intent} of {record.tenant}"
            problems.add("sequence_broken", where, detail)
        if known and record.from_ != state:
            where = f"leaf {line.index}, intent {intent} record {sequence} ({record.event})"
            problems.add("state_broken", where, f"it moves from {record.from_!r}, the intent stood at {state!r}")
        if record.at <= at:
            where = f"leaf {line.index}, intent {intent} record {sequence} ({record.event})"
            problems.add("time_broken", where, f"its time {record.at} is not after {at}")
        state, at, known = record.to, record.at, True


def first_index(rows: bytes) -> int:
    """Return the index on the first of the lines of leaves, 0 where it is none."""
    try:
        return _decode_leaf(rows.partition(b"\n")[0]).index
    except UNREADABLE:
        return 0
