"""One intent, verified: its records against themselves, against its postings, and against its row.

- Records are read as they stand, by shapes of this module: a record of any version of the runtime has these fields.
- A broken record is named once: what stands behind it is verified from what is stored, not from what should be.
- What postings do to accounts is added up on the way, in `Verifier.fold`; nothing of it is taken from a counter.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from zentra.runtime.evidence.chain import GENESIS, chain
from zentra.runtime.intents.machine import INITIAL, MOVES
from zentra.runtime.intents.vocabulary import SETTLED, State
from zentra.runtime.verification.breaks import explain_break
from zentra.runtime.verification.differences import Findings
from zentra.runtime.verification.postings import AccountFacts, PostingRow, hash_of, spelled

__all__ = ["SUMS", "Counts", "EntryFacts", "HoldRow", "IntentRow", "RecordRow", "Sums", "Verifier"]

EXPLAINED_MAX: Final = 5  # broken records whose byte is looked for: that costs up to a second each
CLOCK_STEP_MAX: Final = timedelta(minutes=1)  # by which the database's clock may be set back
_MICROSECOND: Final = timedelta(microseconds=1)
_SETTLED: Final = frozenset(map(str, SETTLED))
_MOVES: Final = frozenset(
    {(None, str(INITIAL.to), str(INITIAL.topic))}
    | {(str(before), str(move.to), str(move.topic)) for (before, _), move in MOVES.items()}
)


class IntentRow(NamedTuple):
    """A row of the intents."""

    id: str
    tenant: str
    intent_id: str
    digest: bytes


class RecordRow(NamedTuple):
    """A row of the transitions."""

    intent: str
    sequence: int
    tenant: str
    at: datetime
    state: str
    event: str
    record: bytes
    hash: bytes


class HoldRow(NamedTuple):
    """A row of the holds: where money is held and how much of it, as lists show it."""

    intent: str
    tenant: str
    account: int
    minor: int
    remaining: int
    captured: int
    status: str


class Counts(Struct):
    """How much was looked at."""

    intents: int = 0
    records: int = 0
    postings: int = 0

    def add(self, other: "Counts") -> None:
        """Add what somebody else has looked at."""
        self.intents += other.intents
        self.records += other.records
        self.postings += other.postings


class EntryFacts(Struct, frozen=True, gc=False):
    """What a record says of one posting."""

    ordinal: int
    posting: str
    debit: str
    credit: str
    currency: str
    pending: str
    posted: str
    hash: str
    effective_at: str | UnsetType = UNSET


class _Facts(Struct, frozen=True, gc=False):
    entries: tuple[EntryFacts, ...] = ()
    digest: str | UnsetType | None = UNSET


class _Record(Struct, frozen=True, gc=False, rename={"from_": "from"}):
    at: str
    event: str
    facts: _Facts
    from_: str | None
    intent: str
    intent_id: str
    sequence: int
    step: str | None
    tenant: str
    to: str


SUMS: Final = 7
_HELD: Final = str(State.HELD)
_OF_A_HOLD: Final = frozenset({"reserve", "post", "release"})
_HOLD_FIELDS: Final = ("account", "minor", "remaining", "captured", "stands")
_decode: Final = msgspec.json.Decoder(_Record).decode
Sums = list[int]
"""Counters of an account as they are added up: the four of `COUNTERS`, what its open holds hold, and what it was
debited and credited by force, below its floor."""


class Verifier:
    """Verifies intents one after the other, and keeps what it found.

    `counted` says which postings are added up in `fold`; the others are behind the point that is started from. `early`
    says which are added up a second time, in `early_fold`: those before the point that is to be kept."""

    def __init__(
        self,
        *,
        counted: Callable[[PostingRow], bool] | None = None,
        early: Callable[[PostingRow], bool] | None = None,
        ledger: bool = True,
        whole: bool = True,
        expected: Callable[[RecordRow, EntryFacts], bool] | None = None,
    ) -> None:
        """Without `ledger` records are verified alone, and no postings are expected. Where not the `whole` of
        an intent's postings is given, what they leave is not judged, and `expected` says which entries have one."""
        self._counted, self._early, self._ledger = counted, early, ledger
        self._whole, self._expected = whole, expected
        self.fold: dict[int, Sums] = {}
        self.early_fold: dict[int, Sums] = {}
        self.counts = Counts()
        self.findings = Findings()
        self._explained = 0

    def intent(
        self,
        row: IntentRow | None,
        records: Sequence[RecordRow],
        postings: Sequence[PostingRow],
        accounts: Mapping[int, AccountFacts],
        hold: HoldRow | None = None,
    ) -> None:
        """Verify an intent by all of its rows, in the order of their numbers; at least one of them has to be there."""
        counts = self.counts
        counts.intents += row is not None
        counts.records += len(records)
        counts.postings += len(postings)
        entries = self._records(row, records)
        if self._ledger and (postings or entries):
            settled = bool(records) and records[-1].state in _SETTLED
            self._postings(records, entries, postings, accounts, settled)
        if self._ledger and self._whole:
            self._projected(records, postings, hold)

    # Records --------------------------------------------------------------------------------------------------------

    def _records(self, row: IntentRow | None, records: Sequence[RecordRow]) -> list[tuple[int, EntryFacts]]:
        """Verify the chain; return the entries that stand in it, each with the place of its record."""
        entries: list[tuple[int, EntryFacts]] = []
        if not records:
            if row is not None:
                self.findings.differ("intent", row.tenant, row.id, "records", "at least one", "none")
            return entries
        if row is None:
            self.findings.differ(
                "intent", records[0].tenant, records[0].intent, "row of the intent", "there is one", "none"
            )
        previous, before = GENESIS, None
        last_at: datetime | None = None
        expected = 1
        for place, stored in enumerate(records):
            intent, sequence, tenant, at, state, event, data, link = stored
            if chain(previous, data) != link:
                self._broken(previous, records, place)
            previous = link
            if sequence != expected:
                self.findings.differ("sequence", tenant, _record(intent, sequence), "number", expected, sequence)
            expected = sequence + 1
            if last_at is not None and at <= last_at:
                self.findings.differ("sequence", tenant, _record(intent, sequence), "time", f"after {last_at}", at)
            last_at = at
            if (before, state, event) not in _MOVES:
                found = f"{before} -> {state} by {event}"
                self.findings.differ("transition", tenant, _record(intent, sequence), "move", "one of the table", found)
            before_word, before = before, state
            try:
                record = _decode(data)
            except msgspec.MsgspecError as error:
                self.findings.differ("record", tenant, _record(intent, sequence), "bytes", "a record", error)
                continue
            self._told(stored, record, before_word)
            if place == 0 and row is not None:
                self._about(row, record)
            if record.facts.entries:
                entries += [(place, entry) for entry in record.facts.entries]
        return entries

    def _broken(self, previous: bytes, records: Sequence[RecordRow], place: int) -> None:
        stored = records[place]
        said = "the hash does not follow from the record"
        if self._explained < EXPLAINED_MAX:
            self._explained += 1
            behind = records[place + 1] if place + 1 < len(records) else None
            following = None if behind is None else (behind.record, behind.hash)
            said = explain_break(previous, stored.record, stored.hash, following)
        where = _record(stored.intent, stored.sequence)
        self.findings.differ(
            "chain", stored.tenant, where, said, chain(previous, stored.record).hex(), stored.hash.hex()
        )

    def _told(self, stored: RecordRow, record: _Record, before: str | None) -> None:
        """Compare the columns of a row with what its record says."""
        intent, sequence, tenant, at, state, event, _, _ = stored
        to = record.to if record.step is None else f"{record.to}/{record.step}"
        from_ = None if before is None else before.partition("/")[0]
        told = (record.intent, record.sequence, record.tenant, to, record.event, record.from_)
        if told == (intent, sequence, tenant, state, event, from_) and _moment(record.at) == at:
            return
        columns = ("intent", "sequence", "tenant", "state", "event", "state before", "at")
        kept = (intent, sequence, tenant, state, event, from_, at)
        for name, column, said in zip(columns, kept, (*told, _moment(record.at)), strict=True):
            if column != said:
                self.findings.differ("record", tenant, _record(intent, sequence), name, said, column)

    def _about(self, row: IntentRow, record: _Record) -> None:
        told = (record.intent, record.tenant, record.intent_id, record.facts.digest)
        kept = (row.id, row.tenant, row.intent_id, row.digest.hex())
        if told == kept:
            return
        for name, said, column in zip(("id", "tenant", "intent_id", "digest"), told, kept, strict=True):
            if said != column:
                self.findings.differ("intent", row.tenant, row.id, name, said, column)

    # Postings -------------------------------------------------------------------------------------------------------

    def _postings(
        self,
        records: Sequence[RecordRow],
        entries: Sequence[tuple[int, EntryFacts]],
        postings: Sequence[PostingRow],
        accounts: Mapping[int, AccountFacts],
        settled: bool,
    ) -> None:
        told = {entry.ordinal: (place, entry) for place, entry in entries}
        if len(told) < len(entries):
            first = records[entries[0][0]]
            self.findings.differ(
                "posting_record", first.tenant, first.intent, "entries", "each number once", "one came twice"
            )
        holds: dict[tuple[int, int], int] = {}
        moved: dict[tuple[int, int], int] = {}
        for posting in postings:
            debit, credit = accounts.get(posting.debit), accounts.get(posting.credit)
            where = f"{posting.intent}/{posting.ordinal}"
            if debit is None or credit is None:
                number = posting.debit if debit is None else posting.credit
                self.findings.differ(
                    "pairing", posting.tenant, where, "account", "there is one", f"none with number {number}"
                )
            else:
                self._one(where, posting, debit, credit)
                self._stands(
                    where, records, told.pop(posting.ordinal, None), posting, debit.account_id, credit.account_id
                )
            self._add(posting)
            if not self._whole:
                continue
            pair = (posting.debit, posting.credit)
            if posting.pending:
                holds[pair] = left = holds.get(pair, 0) + posting.pending
                if left < 0:
                    self.findings.differ("holds", posting.tenant, where, "pending", "no more than is held", left)
            if posting.posted:
                if posting.kind in _WAYS_BACK:
                    back = (posting.credit, posting.debit)
                    moved[back] = left = moved.get(back, 0) - posting.posted
                    if left < 0:
                        self.findings.differ(
                            "reversal", posting.tenant, where, "posted", "no more than was posted", left
                        )
                else:
                    moved[pair] = moved.get(pair, 0) + posting.posted
        for place, entry in told.values():
            record = records[place]
            if self._expected is not None and not self._expected(record, entry):
                continue
            where = f"{record.intent}/{entry.ordinal}"
            self.findings.differ(
                "posting_record", record.tenant, where, "posting", f"as in record {record.sequence}", "none"
            )
        for (debit_id, _), left in holds.items():
            if left:
                self._held(postings[0], debit_id, left, settled)

    def _one(self, where: str, posting: PostingRow, debit: AccountFacts, credit: AccountFacts) -> None:
        """Verify what a posting is by itself."""
        tenant, currency = posting.tenant, posting.currency
        for side, account in (("debit", debit), ("credit", credit)):
            if account.tenant != tenant:
                self.findings.differ("pairing", tenant, where, f"tenant of the {side} account", tenant, account.tenant)
            if account.currency != currency:
                self.findings.differ(
                    "pairing", tenant, where, f"currency of the {side} account", currency, account.currency
                )
        if posting.debit == posting.credit:
            self.findings.differ("pairing", tenant, where, "accounts", "two", f"{debit.account_id} twice")
        if posting.pending == 0 == posting.posted:
            self.findings.differ("pairing", tenant, where, "amount", "something", "nothing")
        link = hash_of(posting, debit.account_id, credit.account_id)
        if link != posting.hash:
            self.findings.differ("posting_hash", tenant, where, "hash", link.hex(), posting.hash.hex())

    def _stands(
        self,
        where: str,
        records: Sequence[RecordRow],
        told: tuple[int, EntryFacts] | None,
        posting: PostingRow,
        debit: str,
        credit: str,
    ) -> None:
        """Compare a posting with the entry that tells of it."""
        if told is None:
            self.findings.differ("posting_record", posting.tenant, where, "entry", "in a record", "none")
            return
        place, entry = told
        _, _, tenant, kind, _, _, currency, pending, posted, at, link, effective_at = posting
        said = (
            entry.posting,
            entry.debit,
            entry.credit,
            entry.currency,
            entry.pending,
            entry.posted,
            entry.hash,
            entry.effective_at,
        )
        effective = UNSET if effective_at is None else spelled(effective_at)
        kept = (kind, debit, credit, currency, str(pending), str(posted), link.hex(), effective)
        if said != kept:
            for name, one, other in zip(_ENTRY_FIELDS, said, kept, strict=True):
                if one != other:
                    self.findings.differ("posting_record", tenant, where, name, one, other)
        recorded = records[place].at
        if at != recorded and not _pushed(records, place, at):
            self.findings.differ("posting_record", tenant, where, "at", recorded, at)

    def _add(self, posting: PostingRow) -> None:
        if self._counted is not None and not self._counted(posting):
            return
        _fold(self.fold, posting)
        if self._early is not None and self._early(posting):
            _fold(self.early_fold, posting)

    def _projected(self, records: Sequence[RecordRow], postings: Sequence[PostingRow], hold: HoldRow | None) -> None:
        """Compare the row of a hold with what its postings come to."""
        standing = bool(records) and records[-1].state == _HELD
        if hold is None:
            if standing:
                self.findings.differ("holds", records[0].tenant, records[0].intent, "row of the hold", "one", "none")
            return
        own = [one for one in postings if one.kind in _OF_A_HOLD]
        reserved = next((one for one in own if one.kind == "reserve"), None)
        told = (
            0 if reserved is None else reserved.debit, 0 if reserved is None else reserved.pending,
            sum(one.pending for one in own), sum(one.posted for one in own), standing,
        )  # fmt: skip
        kept = (hold.account, hold.minor, hold.remaining, hold.captured, hold.status == "open")
        for name, expected, found in zip(_HOLD_FIELDS, told, kept, strict=True):
            if expected != found:
                self.findings.differ("holds", hold.tenant, f"hold {hold.intent}", name, expected, found)

    def _held(self, posting: PostingRow, account: int, left: int, settled: bool) -> None:
        if settled:
            self.findings.differ("holds", posting.tenant, posting.intent, "pending of a settled intent", 0, left)
        self.fold.setdefault(account, [0] * SUMS)[4] += left


_WAYS_BACK: Final = frozenset({"reversal", "forced_reversal", "fee_refund"})
_ENTRY_FIELDS: Final = ("kind", "debit", "credit", "currency", "pending", "posted", "hash", "effective_at")


def _fold(fold: dict[int, Sums], posting: PostingRow) -> None:
    pending, posted = posting.pending, posting.posted
    sums = fold.get(posting.debit)
    if sums is None:
        sums = fold[posting.debit] = [0] * SUMS
    sums[0] += pending
    sums[2] += posted
    sums = fold.get(posting.credit)
    if sums is None:
        sums = fold[posting.credit] = [0] * SUMS
    sums[1] += pending
    sums[3] += posted
    if posting.kind == "forced_reversal":
        fold[posting.debit][5] += posted
        sums[6] += posted


def _pushed(records: Sequence[RecordRow], place: int, at: datetime) -> bool:
    """Return whether a record may be later than its posting, made `at`: the records of one moment follow one another
    by a microsecond, and so do those that were made after the clock was set back."""
    recorded = records[place].at
    while place and records[place].at - records[place - 1].at == _MICROSECOND:
        place -= 1
    return records[place].at - CLOCK_STEP_MAX < at < recorded


def _record(intent: str, sequence: int) -> str:
    return f"{intent} record {sequence}"


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
