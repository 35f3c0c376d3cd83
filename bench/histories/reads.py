"""Is everything that was read some prefix of what was committed, and in step with real time?

The calls are walked in the order of their beginnings and ends. When a call begins, what others have been shown until
then is the least that it may show; when it ends, it is explained by the earliest version that this allows, which is the
choice that binds later reads least. So a history is refused only where no choice explains it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from zentra.bench.histories.answers import ACCEPTED, WEATHER, Answers, code_of, decoded
from zentra.bench.histories.model import Intent, available
from zentra.bench.histories.prefixes import AccountLine, Entry, Lines, Seen, counters_shown, entry_key, key_of
from zentra.bench.histories.recording import Call, Create, ReadAccount, ReadEntries, ReadIntent
from zentra.bench.histories.violations import Violation, violation

__all__ = ["check_reads"]

OK: Final = 200
NOT_FOUND: Final = 404
FOREVER: Final = 2**63


def check_reads(history: Sequence[Call], lines: Lines, answers: Answers) -> Iterator[Violation]:
    """Yield every read that no prefix explains, and every commit that stands before one seen earlier."""
    seen = Seen(lines)
    walk = _Walk(lines, answers, seen)
    answered = [call for call in history if call.known and call.status not in WEATHER]
    ends = [(call.invoked, 0, place) for place, call in enumerate(answered)]
    ends += [(call.returned or 0, 1, place) for place, call in enumerate(answered)]
    for _, end, place in sorted(ends):
        if end:
            yield from walk.ended(answered[place])
        else:
            walk.begun(answered[place])
    yield from _real_time(lines, seen)


def _real_time(lines: Lines, seen: Seen) -> Iterator[Violation]:
    """Yield each commit whose requests were made after somebody had seen a commit that stands behind it."""
    first, culprit = FOREVER, 0  # of what stands behind: when it was first seen
    for position in range(len(lines.born) - 1, -1, -1):
        if lines.born[position] > first:
            yield violation(
                "real_time",
                f"commit {position} stands before commit {culprit}, which was seen"
                f" {(lines.born[position] - first) / 1e6:.3f} ms before the first was asked for",
            )
        since = seen.since[position]
        if since is not None and since < first:
            first, culprit = since, position


class _Walk:
    def __init__(self, lines: Lines, answers: Answers, seen: Seen) -> None:
        self._lines, self._answers, self._seen = lines, answers, seen
        self._least: dict[int, int] = {}
        self._shown: set[str] = set()
        self._known: dict[int, bool] = {}

    def begun(self, call: Call) -> None:
        """Keep what a call has to show at least."""
        match call.operation:
            case ReadAccount(account_id=name) | ReadEntries(account_id=name):
                self._least[call.number] = self._seen.accounts.get(name, 0)
                self._known[call.number] = name in self._shown or self._least[call.number] > 0
            case ReadIntent(intent_id=name):
                intent = self._answers.by_intent_id.get(name)
                self._least[call.number] = self._seen.intents.get(intent.id, 0) if intent is not None else 0
            case Create() as asked if asked.wait and (intent := self._answers.asked_for(asked)) is not None:
                self._least[call.number] = self._seen.intents.get(intent.id, 0)

    def ended(self, call: Call) -> Iterator[Violation]:
        """Explain what a call showed, and keep what it proves."""
        match call.operation:
            case ReadAccount():
                yield from self._balance(call, call.operation)
            case ReadEntries():
                yield from self._page(call, call.operation)
            case ReadIntent():
                yield from self._view(call, self._answers.by_intent_id.get(call.operation.intent_id))
            case Create():
                intent = self._answers.told_of(call)
                if intent is not None and call.operation.wait and call.status in ACCEPTED:
                    yield from self._view(call, intent)
                elif intent is not None and self._lines.intents[intent.id]:
                    self._seen.intent(intent.id, 1, call.returned or 0)

    def _line(self, call: Call, name: str) -> AccountLine | Violation | None:
        """Return the account that was asked for, what is wrong with the answer, or None where there is nothing more."""
        line = self._lines.accounts.get(name)
        if call.status == NOT_FOUND:
            if line is not None and self._known.get(call.number):
                return violation("stale", f"account {name} had been seen before", call)
            return None
        if call.status != OK:
            return violation("unexpected", f"status {call.status}, code {code_of(call) or 'none'}", call)
        if line is None:
            return violation("balance_read", f"there is no account {name}", call)
        self._shown.add(name)
        return line

    def _balance(self, call: Call, asked: ReadAccount) -> Iterator[Violation]:
        line = self._line(call, asked.account_id)
        if isinstance(line, Violation):
            yield line
        if not isinstance(line, AccountLine):
            return
        shown, account = decoded(call), line.account
        try:
            counters = counters_shown(shown)
        except (KeyError, TypeError, ValueError):
            yield violation("balance_read", "the answer shows no counters", call)
            return
        sign = 1 if account.side == "credit" else -1
        expected = {
            "account_id": account.account_id, "currency": account.currency, "type": account.type,
            "posted": str(sign * (counters[3] - counters[2])), "pending": str(sign * (counters[1] - counters[0])),
            "available": str(available(account, counters)),
        }  # fmt: skip
        wrong = {name: shown.get(name) for name, value in expected.items() if shown.get(name) != value}
        if wrong:
            yield violation("balance_read", f"it shows {wrong}, by its counters it is {expected}", call)
        version = line.first_of(counters, self._least[call.number])
        if version is None:
            places = line.places_of(counters)
            if places:
                yield violation(
                    "stale",
                    f"the balance is that of version {places[-1]}; version {self._least[call.number]} had been seen",
                    call,
                )
            else:
                yield violation("balance_read", f"account {asked.account_id} never stood at {counters}", call)
            return
        if version > (last := line.born_by(call.returned or 0)):
            yield violation(
                "future", f"it shows version {version}; by then only version {last} had been asked for", call
            )
            return
        self._seen.account(asked.account_id, version, call.returned or 0)

    def _view(self, call: Call, intent: Intent | None) -> Iterator[Violation]:
        least = self._least.get(call.number, 0)
        versions = self._lines.intents[intent.id] if intent is not None else ()
        if call.status == NOT_FOUND:
            if least:
                yield violation("stale", f"version {least} of the intent had been seen before", call)
            return
        if call.status not in ACCEPTED:
            yield violation("unexpected", f"status {call.status}, code {code_of(call) or 'none'}", call)
            return
        shown = decoded(call)
        version = shown.get("version")
        if intent is None or not isinstance(version, int) or not 0 < version <= len(versions):
            yield violation("intent_read", f"it shows version {version}, of which the store knows nothing", call)
            return
        made = versions[version - 1]
        status, _, step = made.state.partition("/")
        events = [event.event for event in versions[:version]]
        expected = {"id": intent.id, "status": status, "step": step or None, "amount": int(intent.command["minor"])}
        ledger = {"held": str(made.held), "posted": str(made.posted), "reversed": str(made.reversed)}
        found = shown.get("ledger_state") or {}
        stream = [event.get("event") for event in shown.get("event_stream") or ()]
        if (
            {name: shown.get(name) for name in expected} != expected
            or {name: found.get(name) for name in ledger} != ledger
            or stream != events
        ):
            yield violation("intent_read", f"version {version} is {expected}, {ledger}, after {events}", call)
        if version < least:
            yield violation("stale", f"it shows version {version}; version {least} had been seen before", call)
        if (call.returned or 0) < self._answers.born.get(intent.id, -FOREVER):
            yield violation("future", "nobody had asked for the intent yet", call)
            return
        self._seen.intent(intent.id, version, call.returned or 0)

    def _page(self, call: Call, asked: ReadEntries) -> Iterator[Violation]:
        line = self._line(call, asked.account_id)
        if isinstance(line, Violation):
            yield line
        if not isinstance(line, AccountLine):
            return
        shown = decoded(call)
        rows, more = shown.get("data"), shown.get("has_more")
        behind = key_of(asked.after)
        if not isinstance(rows, list) or len(rows) > asked.limit or (more and len(rows) < asked.limit):
            yield violation("entries_read", "it is no page of the size that was asked for", call)
            return
        oldest = entry_key(rows[-1]["at"], rows[-1]["intent"], rows[-1]["ordinal"]) if rows and more else None
        scanned = line.between(oldest, behind)
        given = {(row["intent"].replace("-", ""), row["ordinal"], row["side"]): row for row in rows}
        found = [entry for entry in scanned if _name(entry) in given]
        if [_shown(row) for row in rows] != [entry.shown for entry in found]:
            yield violation("entries_read", "a scan of the postings finds other entries, or in another order", call)
            return
        missing = [entry.place for entry in scanned if _name(entry) not in given]
        if not line.account.guarded:
            return
        least = max([self._least[call.number], *(entry.place for entry in found)])
        if least > (last := line.born_by(call.returned or 0)):
            yield violation("future", f"it shows version {least}; by then only {last} had been asked for", call)
            return
        if missing and least >= min(missing):
            torn = min(missing) <= max((entry.place for entry in found), default=0)
            yield violation(
                "entries_read" if torn else "stale",
                f"it shows version {least} of the account, and leaves out an entry of version {min(missing)}",
                call,
            )
            return
        if more and not line.between(None, oldest):
            yield violation("entries_read", "it says that there are more, and there are none", call)
        self._seen.account(asked.account_id, least, call.returned or 0)


def _name(entry: Entry) -> tuple[str, int, str]:
    return entry.shown["intent"].replace("-", ""), entry.shown["ordinal"], entry.shown["side"]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    names = ("intent", "ordinal", "posting", "side", "other", "currency", "pending", "posted")
    return {name: row.get(name) for name in names}
