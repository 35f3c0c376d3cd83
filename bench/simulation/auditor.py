"""The independent auditor of the simulator: it follows what happens and objects to the first thing that must not.

It is told of every commit, message, call and payment, keeps its own account of all of it, and raises Violation with the
letter of the invariant (A to T) that is broken. It takes values from the product and no rule: its ledger, table of
moves, policy, hash chain and Merkle tree are its own. After a Violation its own account is of no more use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from zentra.bench.simulation.auditor_accounts import AuditedAccounts
from zentra.bench.simulation.auditor_callbacks import AuditedCallbacks
from zentra.bench.simulation.auditor_deliveries import AuditedDeliveries
from zentra.bench.simulation.auditor_desk import AuditedDesk
from zentra.bench.simulation.auditor_evidence import AuditedLogs
from zentra.bench.simulation.auditor_fees import AuditedFees
from zentra.bench.simulation.auditor_histories import History, Named, Record
from zentra.bench.simulation.auditor_holds import AuditedHolds, captured
from zentra.bench.simulation.auditor_journals import corrections, dated, priced
from zentra.bench.simulation.auditor_ledger import AuditedLedger
from zentra.bench.simulation.auditor_outside import AuditedMessages, AuditedRails
from zentra.bench.simulation.auditor_policy import AuditedPolicy
from zentra.bench.simulation.auditor_reviews import AuditedReviews
from zentra.bench.simulation.auditor_routes import AuditedRoutes
from zentra.bench.simulation.auditor_words import HELD, Violation
from zentra.bench.twins.store import StoreTwin
from zentra.runtime.compliance.states import PartyRef
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.transaction import Transaction, Transition, restore
from zentra.runtime.ledger.book import Posting
from zentra.runtime.ports import Configuration, Ground, TickPlan, TickWrites
from zentra.runtime.rails.port import RailOutcome, Submission
from zentra.runtime.stream_ports import Outgoing
from zentra.runtime.webhooks.standard import WebhookCall

__all__ = ["Auditor", "Violation"]

_MICROSECOND: Final = timedelta(microseconds=1)
_FOLDED: Final = tuple(sorted({*Transaction.__struct_fields__} - {"timer_due", "retry_at", "heard", "resubmitted"}))


class Auditor:
    """Follows one run. Every method raises Violation for what must not be."""

    def __init__(self, store: StoreTwin) -> None:
        """`store` has accounts, funded or not, and nothing else has happened in it."""
        self.ledger = AuditedLedger(store.refs.values(), store.rows.postings.values(), store.numbers)
        self.accounts = AuditedAccounts()
        self.histories: dict[str, History] = {}
        self.policy, self.logs, self.rails = AuditedPolicy(), AuditedLogs(), AuditedRails()
        self.fees, self.routes = AuditedFees(), AuditedRoutes()
        self.deliveries, self.desk, self.reviews = AuditedDeliveries(), AuditedDesk(), AuditedReviews()
        self.holds = AuditedHolds(self.ledger)
        self.callbacks = AuditedCallbacks()
        self.messages = AuditedMessages(self.heard)
        self._store = store
        self._fences = {partition: row.version for partition, row in store.lease_rows.items()}
        self._keys: dict[tuple[str, str, str], str] = {}
        self._configurations: dict[int, Configuration] = {}
        self._parties: dict[int, dict[str, dict[str, PartyRef | None]]] = {}  # by version, tenant and account
        self._touched: set[str] = set()
        self.configured()

    def configured(self) -> None:
        """Take note of what is set up now; to be called whenever somebody changes it outside of a commit."""
        self._configurations[self._store.current.version] = self._store.current
        self.accounts.configured(self._store.current.version, self._store.refs.values())
        parties = self._parties[self._store.current.version] = {}
        for (tenant, name), ref in self._store.refs.items():
            if ref.guarded:
                parties.setdefault(tenant, {})[name] = ref.party

    def registered(self, transition: Transition, command: IntentCommand) -> None:
        """Follow an intent that was acknowledged, also where it is one that was acknowledged before."""
        asked = json.loads(msgspec.json.encode(command))
        spelled = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        digest = hashlib.sha256(b"intent\n" + spelled).hexdigest()
        known = self.histories.get(transition.intent)
        history = known or History(transition.record, transition.hash)
        facts = history.first.facts
        where = f"intent {history.first.intent_id} of {history.tenant}"
        if facts["digest"] != digest or facts["command"] != asked:
            raise Violation("H", f"{where} was acknowledged for another command than was asked for")
        for kind, key in (("key", facts["idempotency_key"]), ("id", history.first.intent_id)):
            if self._keys.setdefault((history.tenant, kind, key), history.id) != history.id:
                raise Violation("G", f"{where} is a second effect of the {kind} {key}")
        if transition.tenant != history.tenant:
            raise Violation("M", f"{where} was registered for {transition.tenant}")
        if known is None:
            history.names = self._named(history)
            self.histories[history.id] = history
            self.desk.timers.add(("intent", history.id, "state"))

    def committed(self, worker: str, plan: TickPlan, writes: TickWrites, ground: Ground) -> None:
        """Follow a commit that has happened."""
        self._fenced(worker, plan, ground)
        self.rails.now = ground.now
        held = {fence.partition for fence in plan.fences} - ground.lost
        self.messages.consumed(plan.consumed, held, self._store.rows.outbox)
        self.ledger.read(ground.balances)
        self.policy.read(ground.usage)
        version = ground.configuration_version
        lowest = self.holds.lowest(writes.postings)
        asked = {key: history.command for key, history in self.histories.items()}
        self.ledger.wrote(writes.postings, writes.balance_changes, asked, self.accounts.known(version))
        self.accounts.stood(version, writes.postings)
        moved = [self._moved(transition, ground) for transition in writes.transitions]
        corrections(writes.corrections, [(h.tenant, h.id, h.command, r.event) for h, r in moved], self._keys)
        self._booked(writes.postings, moved)
        self.accounts.crossed(version, self.ledger.steps, moved)
        self.policy.wrote(writes.velocity_changes, writes.velocity_windows)
        told = {history.records[record.sequence - 1]: record for history, record in moved}
        self.messages.wrote(writes.outbox, told)
        self._delivered(writes, ground)
        self.desk.wrote(writes, moved, self.messages.commands)
        self.holds.wrote(writes, moved, self.messages.commands, lowest, ground.now)
        self.logs.wrote(writes.leaves, writes.tiles, writes.heads, self.histories)
        self.configured()

    def _delivered(self, writes: TickWrites, ground: Ground) -> None:
        recoveries = tuple(writes.recoveries.values())
        self.deliveries.recovered(recoveries, self.messages.commands, ground.now)
        self.deliveries.wrote(writes.deliveries, self.histories, recoveries, ground.now)
        configuration = self._configurations[ground.configuration_version]
        self.deliveries.stand(writes, configuration, ground.now)
        if recoveries:
            told, histories = self.deliveries.places, self.histories.values()
            self.deliveries.recoveries.ended(recoveries, told, histories, configuration.endpoints)

    def published(self, message: Outgoing) -> None:
        """Follow what was appended to a stream, repeats too."""
        row = self._store.rows.outbox.get(message.id)
        self.messages.published(message, None if row is None else row.message)

    def asked(self, submission: Submission) -> None:
        """Follow a call to a rail that has left its worker."""
        settings = self._store.current.rails.get(submission.rail)
        self.rails.asked(submission, self.histories.get(submission.reference[:32]), settings)

    def paid(self, rail: str, reference: str, minor: int) -> None:
        """Follow money that has moved outside."""
        self.rails.paid(rail, reference, minor, self.histories.get(reference[:32]))

    def called(self, tenant: str, endpoint: str, call: WebhookCall) -> None:
        """Follow a call to an endpoint that has left its worker."""
        self.deliveries.called(tenant, endpoint, call)

    def remembered(self, worker: str, tx: Transaction) -> None:
        """Object where what a worker remembers of an intent is not what its records say, as far as it has read."""
        history = self.histories[tx.id]
        rows = zip(history.records[: tx.sequence], history.links, strict=False)
        stored = restore(list(rows), tx.deliveries_open)
        for name in _FOLDED:
            if (said := getattr(stored, name)) != (held := getattr(tx, name)):
                raise Violation("O", f"{worker} remembers {name} of {tx.id} as {held}, its records say {said}")

    def rebuild(self, store: StoreTwin) -> None:
        """Recompute everything from what the store holds, and object where it is not what was committed."""
        for intent, rows in store.rows.transitions.items():
            history = self.histories.get(intent)
            if history is None:
                raise Violation("O", f"the store has intent {intent}, which was not registered")
            if [row.record for row in rows] != history.records or [row.hash for row in rows] != history.links:
                raise Violation("S", f"the stored records of {intent} are not those that were committed")
        lost = self.histories.keys() - store.rows.transitions.keys()
        if lost:
            raise Violation("O", f"the store has lost {len(lost)} intents: {sorted(lost)[:3]}")
        for intent in self._touched:
            self._fold_again(self.histories[intent])
        self._touched.clear()
        held: dict[tuple[str, str], int] = {}
        for history in self.histories.values():
            place = history.tenant, history.names.source
            held[place] = held.get(place, 0) + history.held + history.fee_held
        self.fees.rebuild(self.histories.values(), self.ledger.earned(store))
        self.ledger.rebuild(store, held)
        self.policy.rebuild(store.rows.velocity, self.histories)
        self.deliveries.rebuild(store)
        self.desk.rebuild(store, self.histories)
        self.reviews.rebuild(store)
        self.holds.rebuild(store.rows.holds)
        self.logs.rebuild(store)

    def finish(self, store: StoreTwin, now: datetime) -> None:
        """Object to what is left undone when faults have stopped and everybody has had the time to finish."""
        self.rebuild(store)
        self.messages.consumed((), (), store.rows.outbox)
        self.messages.finish([key for key, row in store.rows.outbox.items() if row.sent_at is None])
        self.deliveries.finish(store.current.endpoints_held, self.messages.commands)
        self.reviews.finish(now)
        self.desk.finish(store, self.histories, now)
        self.callbacks.finish(store, self.histories, self.desk.claimed, now)
        ignored = self.callbacks.ignored(self.desk.claimed)
        for history in self.histories.values():
            diverted = history.path is not None and history.path[1] == history.names.suspense
            if diverted and "deposit_unmatched" not in history.opened:
                raise Violation("T", f"{history.id} waits in suspense without a case")
            self.rails.finish(history, ignored)
            self.rails.truth(history)
        self.logs.finish(self.histories)

    def _named(self, history: History) -> Named:
        """Return what accounts an intent is about, by the ids and numbers in its command."""
        ledger, tenant, command, currency = self.ledger, history.tenant, history.command, history.currency
        source, destination = (ledger.named(tenant, command[side]) for side in ("source", "destination"))
        suspense = ""
        if "deposit" in command:
            book = destination.book if destination is not None else "default"
            named = ledger.system(tenant, "settlement", currency, book) or command["source"]
            source, suspense = ledger.named(tenant, named), ledger.system(tenant, "suspense", currency, book)
        book = "default" if source is None else source.book
        in_legs = {leg[side] for leg in command.get("legs", ()) for side in ("source", "destination")}
        refs = {name: ledger.named(tenant, name) for name in in_legs}
        meant = {name: ref.account_id for name, ref in refs.items() if ref is not None and ref.account_id != name}
        return Named(
            command["source"] if source is None else source.account_id,
            command["destination"] if destination is None else destination.account_id,
            ledger.system(tenant, "settlement", currency, book), ledger.system(tenant, "fee", currency, book), suspense,
            ledger.systems(tenant, book), meant,
        )  # fmt: skip

    def heard(self, outcome: RailOutcome) -> None:
        """Follow what was said of a payment: a callback when it is kept, the rest when it is on its way to a worker."""
        self.rails.said(outcome)
        self.callbacks.said(outcome)

    # One commit ---------------------------------------------------------------------------------------------------

    def _fenced(self, worker: str, plan: TickPlan, ground: Ground) -> None:
        for fence in plan.fences:
            if fence.partition in ground.lost:
                continue
            expected = self._fences.get(fence.partition, 0)
            if fence.version != expected:
                raise Violation(
                    "O", f"{worker} committed partition {fence.partition} at {fence.version}, it stood at {expected}"
                )
            self._fences[fence.partition] = expected + 1

    def _moved(self, transition: Transition, ground: Ground) -> tuple[History, Record]:
        history = self.histories.get(transition.intent)
        if history is None:
            raise Violation("O", f"a record of {transition.intent}, which nobody has registered")
        last, left = history.moment, history.held
        record = history.step(transition.record, transition.hash)
        if record.event == "hold.captured":
            minor, destination, final = captured(history, self.messages.commands.get(record.cause), left)
            if (history.captures[-1][:2], history.state != HELD) != ([destination, minor], final):
                raise Violation(
                    "E", f"{history.id}/{record.sequence} captures {history.captures[-1]}, asked for was {minor}"
                )
        self._touched.add(history.id)
        where = f"{history.id}/{record.sequence} ({record.event})"
        if history.moment != max(ground.now, last + _MICROSECOND):
            raise Violation("J", f"{where} is of {history.moment}, committed at {ground.now} after {last}")
        row = transition.sequence, transition.tenant, transition.at, transition.state, transition.event
        if row != (record.sequence, record.tenant, history.moment, history.state, record.event):
            raise Violation("J", f"{where} is stored under other columns than it says: {row}")
        configuration = self._configurations.get(ground.configuration_version)
        if configuration is None:
            raise LookupError(f"nobody has told the auditor of configuration {ground.configuration_version}")
        dated(history.command, record.facts, record.event, where, ground.now)
        if record.event == "ledger.posted" and "conversion" in history.command:
            priced(
                history.command, record.facts, where, history.tenant, history.first.intent_id, configuration, ground.now
            )
        payer, payee = (self.ledger.named(history.tenant, history.command[side]) for side in ("source", "destination"))
        types = self._source_type(history), payee.type if payee else None
        parties = self._parties[ground.configuration_version].get(history.tenant, {})
        known = {ref.account_id: ref.type for ref in self.ledger.accounts.values() if ref.tenant == history.tenant}
        self.policy.moved(history, record, configuration, ground.now, types, parties, known)
        self.reviews.moved(history, record, configuration, ground.now, self.messages.commands)
        self.fees.moved(history, record, configuration, payer, payee)
        self.callbacks.moved(history, record)
        self.rails.grounds(history, record, self.messages.commands)
        self.routes.moved(history, record, configuration, ground.now)
        self.deliveries.moved(history, record, configuration.endpoints.get(history.tenant, ()), self.messages.commands)
        return history, record

    def _source_type(self, history: History) -> str | None:
        """Return the type of the account that gives; of several, one without a floor before any other."""
        names = [history.command["source"], *(leg["source"] for leg in history.command.get("legs", ()))]
        types = [ref.type if (ref := self.ledger.named(history.tenant, name)) else None for name in names]
        return next((type_ for type_ in types[1:] if type_ in ("settlement", "fee", "suspense", "liquidity")), types[0])

    def _booked(self, postings: Iterable[Posting], moved: Iterable[tuple[History, Record]]) -> None:
        """Object where the postings of a commit are not the entries of its records."""
        rows = {(posting.intent, posting.ordinal): posting for posting in postings}
        refused = set()
        for history, record in moved:
            if record.event == "ledger.refused":
                refused.add(history.id)
            for entry in record.facts.get("entries", ()):
                posting = rows.pop((history.id, entry["ordinal"]), None)
                if posting is None or _entry(posting) != entry:
                    raise Violation(
                        "B", f"{history.id}/{record.sequence} tells of an entry that was not posted: {entry}"
                    )
                if posting.tenant != history.tenant:
                    raise Violation("M", f"{history.id} of {history.tenant} posts for {posting.tenant}")
        for intent, ordinal in rows:
            letter = "F" if intent in refused else "B"
            raise Violation(letter, f"no record tells of posting {intent}/{ordinal}")

    def _fold_again(self, history: History) -> None:
        again = History(history.records[0], history.links[0], history.names)
        for record, link in zip(history.records[1:], history.links[1:], strict=True):
            again.step(record, link)
        kept = ("state", "posted", "given_back", "cases", "captures", "fee_held", "fee_posted", "fee_given_back")
        if any(getattr(again, name) != getattr(history, name) for name in kept):
            raise Violation("J", f"{history.id} folds to {again.state}, it stood at {history.state}")


def _entry(posting: Posting) -> dict[str, object]:
    counts = posting.effective_at
    dated_ = {} if counts is None else {"effective_at": counts.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
    return {
        **dated_, "ordinal": posting.ordinal, "posting": posting.kind, "debit": posting.debit.account_id,
        "credit": posting.credit.account_id, "currency": posting.debit.currency, "pending": str(posting.pending),
        "posted": str(posting.posted), "hash": posting.hash.hex(),
    }  # fmt: skip
