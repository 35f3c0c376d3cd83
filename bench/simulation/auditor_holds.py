"""The auditor's own arithmetic of holds: what is left of one, when its time is over, which answer a command deserves.

It follows from three things alone: when a hold was placed and for how long, what its captures took, and the clock of
each commit. What the projection says, what a command was answered, and that nobody is refused for what an expired hold
still keeps, is held against that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from zentra.bench.simulation.auditor_histories import History, Record
from zentra.bench.simulation.auditor_ledger import AuditedLedger
from zentra.bench.simulation.auditor_outside import Given
from zentra.bench.simulation.auditor_words import HELD, Violation
from zentra.runtime.ledger.book import Posting
from zentra.runtime.ports import HoldRow, TickWrites

__all__ = ["AuditedHolds"]

_ENDS: Final = {"hold.captured": "captured", "hold.voided": "voided", "hold.expired": "expired"}
_LATE: Final = {"captured": "hold_already_posted", "voided": "hold_already_voided", "expired": "hold_expired"}
_KNOWN: Final = ("hold_not_found", "hold_already_posted", "hold_already_voided", "hold_expired", "exceeds_hold")


class Standing:
    """One hold: where it stands by its records."""

    def __init__(self, history: History, placed: datetime) -> None:
        self.history = history
        self.expires = placed + timedelta(seconds=history.command["hold"]["expires_in_seconds"])
        self.end, self.ended = "", placed


class AuditedHolds:
    """Every hold that was ever placed, by its intent."""

    def __init__(self, ledger: AuditedLedger) -> None:
        self._ledger = ledger
        self._holds: dict[str, Standing] = {}

    def lowest(self, postings: Iterable[Posting]) -> Counter[int]:
        """Return how little each account may have had left at some moment of a commit, before it is followed."""
        left = Counter({key: self._ledger.left(ref) for key, ref in self._ledger.accounts.items()})
        for posting in postings:
            for ref, effect in ((posting.debit, -posting.pending - posting.posted), (posting.credit, posting.posted)):
                sign = 1 if ref.normal_side == "credit" else -1
                left[ref.id] += min(sign * effect, 0)
        return left

    def wrote(
        self, writes: TickWrites, moved: Collection[tuple[History, Record]], commands: Mapping[str, Given],
        lowest: Mapping[int, int], now: datetime,
    ) -> None:  # fmt: skip
        """Follow what a commit wrote; `lowest` is what this said before it."""
        known = set(self._holds)
        touched = {history.id for history, record in moved if self._moved(history, record)}
        if touched != writes.holds.keys():
            raise Violation(
                "D", f"the holds {sorted(touched)} have moved, and rows were written of {sorted(writes.holds)}"
            )
        for intent in touched:
            self._compare(writes.holds[intent])
        for history, record in moved:
            if record.event == "ledger.refused" and record.facts.get("code") == "insufficient_funds":
                self._refused(history, record, lowest, now)
        causes = {record.cause for _, record in moved}
        for key, _, accepted, code, *_ in writes.command_outcomes:
            given = commands.get(key)
            if given is not None and given.kind in ("capture_hold", "void_hold"):
                self._answered(key, given, accepted, code, given.subject in known, causes, now)

    def _moved(self, history: History, record: Record) -> bool:
        """Follow a record; return whether it is one of a hold."""
        if history.command["kind"] != "hold":
            return False
        at = datetime.fromisoformat(record.at)
        if record.event == "ledger.reserved":
            self._holds[history.id] = Standing(history, at)
            return True
        if record.event not in _ENDS:
            return False
        stands = self._holds[history.id]
        if (at >= stands.expires) != (record.event == "hold.expired"):
            where = f"{history.id}/{record.sequence} ({record.event})"
            raise Violation("K", f"{where} is of {at}, its time is over at {stands.expires}")
        if record.state != HELD:
            stands.end, stands.ended = _ENDS[record.event], at
        return True

    def _compare(self, row: HoldRow | None) -> None:
        """Object where the row of a hold is not what its records say."""
        stands = None if row is None else self._holds.get(row.intent)
        if row is None or stands is None:
            raise Violation("D", f"a row of a hold that was not placed: {row}")
        history = stands.history
        source = self._ledger.named(history.tenant, history.names.source)
        seconds = history.command["hold"]["expires_in_seconds"]
        due = (
            history.tenant, history.first.intent_id, None if source is None else source.id, history.names.source,
            history.currency, history.amount, history.held, history.posted, stands.end or "open",
            stands.expires - timedelta(seconds=seconds), stands.expires, stands.ended if stands.end else None,
        )  # fmt: skip
        if msgspec.structs.astuple(row)[1:] != due:
            raise Violation("D", f"the row of hold {row.intent} says {row}, its records say {due}")

    def _refused(self, history: History, record: Record, lowest: Mapping[int, int], now: datetime) -> None:
        """Object where a reserve was refused for what holds keep whose time was over."""
        ref = self._ledger.named(history.tenant, record.facts["detail"])
        assert ref is not None
        over = [
            stands.history.held
            for stands in self._holds.values()
            if not stands.end and stands.expires <= now and stands.history.tenant == history.tenant
            and stands.history.names.source == ref.account_id
        ]  # fmt: skip
        due = taken(history, ref.account_id) + history.fee_due
        if over and lowest[ref.id] + sum(over) + ref.overdraft_limit >= due:
            raise Violation(
                "K", f"{history.id}/{record.sequence} is refused while holds that are over keep {sum(over)}"
            )

    def _answered(
        self, key: str, given: Given, accepted: bool, code: str, known: bool, causes: Collection[str], now: datetime
    ) -> None:
        """Object where a command on a hold was answered what its records do not say."""
        stands = self._holds.get(given.subject)
        if stands is not None and stands.history.tenant != given.tenant:
            return  # not theirs: they are told so, and that nothing is done for them is followed elsewhere
        if accepted:
            if key not in causes:
                raise Violation("G", f"command {key} on hold {given.subject} is done, and no record tells of it")
            return
        right = True
        if code == "hold_not_found":
            right = not known
        elif code == "hold_expired":
            right = stands is not None and (stands.end == "expired" or now >= stands.expires)
        elif code == "exceeds_hold":
            asked = msgspec.json.decode(given.body)["amount"]
            right = stands is not None and asked != "full" and int(asked) > stands.history.held
        elif code in _KNOWN:
            right = stands is not None and _LATE.get(stands.end) == code
        if not right:
            raise Violation("E", f"command {key} on hold {given.subject} is answered {code}")

    def rebuild(self, stored: Mapping[str, HoldRow]) -> None:
        """Object where the stored rows are not those that the records make."""
        for intent in stored.keys() | self._holds.keys():
            self._compare(stored.get(intent))


def captured(history: History, given: Given | None, left: int) -> tuple[int, str, bool]:
    """Return what a capture that was given has to take of what is `left`, where to, and whether it is the last."""
    if given is None or given.kind != "capture_hold":
        raise Violation("E", f"{history.id} is captured, and nobody asked for it")
    body = msgspec.json.decode(given.body)
    minor = left if body["amount"] == "full" else int(body["amount"])
    return minor, body.get("destination") or history.names.destination, bool(body.get("final")) or minor == left


def taken(history: History, account_id: str) -> int:
    """Return what an intent would have taken from an account: of a journal, what all its legs take together."""
    legs = history.spelled.get("legs")
    if legs is None:
        return history.amount
    out = sum(int(leg["minor"]) for leg in legs if leg["source"] == account_id)
    return out - sum(int(leg["minor"]) for leg in legs if leg["destination"] == account_id)
