"""A runtime in miniature, to make histories of: one thread, an order of commits, and clients that overlap.

What a client asks happens at one moment between its invocation and its answer. `World` does it right; the tests plant
the faults. It shares nothing with the model that checks it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from zentra.bench.histories.model import Account, Commit, Ending, Event, Intent, Limits, Posting, StoredKey
from zentra.bench.histories.recording import Call, Create, Operation, ReadAccount, ReadEntries, ReadIntent
from zentra.bench.histories.requests import complaints, content, differing

ACCOUNTS = [
    Account(account_id="alice", currency="NGN"),
    Account(account_id="bob", currency="NGN", limit=50),
    Account(account_id="shop", currency="NGN", type="merchant"),
    Account(account_id="dora", currency="USD"),
    Account(account_id="@settlement/NGN", currency="NGN", type="settlement", guarded=False),
    Account(account_id="@settlement/USD", currency="USD", type="settlement", guarded=False),
    Account(account_id="mint", currency="NGN", type="liquidity", guarded=False),
]
FUNDS = 1_000
START = datetime(2026, 4, 1, tzinfo=UTC)
Answer = tuple[int, bool, Any]


class World:
    """Accounts, keys and intents; `do` answers an operation at once, `work` takes intents one step further."""

    def __init__(self) -> None:
        self.accounts = {account.account_id: account for account in ACCOUNTS}
        self.counters = {name: [0, 0, 0, 0] for name in self.accounts}
        self.intents: list[Intent] = []
        self.keys: dict[str, StoredKey] = {}
        self.events: dict[str, list[Event]] = {}
        self.postings: dict[str, list[Posting]] = {}
        self.commits: list[Commit] = []
        self.declines: set[str] = set()
        for name in ("alice", "bob"):
            body = {"amount": FUNDS, "currency": "NGN", "source": "mint", "destination": name, "kind": "book_transfer"}
            self._register(f"fund-{name}", {**body, "intent_id": f"fund-{name}"}, role="operator")
            self.work([f"uuid-fund-{name}"])
            self.work([f"uuid-fund-{name}"])

    # What clients ask.

    def do(self, operation: Operation) -> Answer:
        """Return status, whether it is a replay, and the body."""
        match operation:
            case Create():
                return self._create(operation)
            case ReadIntent():
                found = [intent for intent in self.intents if intent.intent_id == operation.intent_id]
                return (200, False, self.view(found[0])) if found else (404, False, {"code": "not_found"})
            case ReadAccount():
                known = operation.account_id in self.accounts
                return (
                    (200, False, self.balance(operation.account_id)) if known else (404, False, {"code": "not_found"})
                )
            case ReadEntries():
                known = operation.account_id in self.accounts
                return (200, False, self.page(operation)) if known else (404, False, {"code": "not_found"})

    def _create(self, asked: Create) -> Answer:
        wrong = complaints(asked.body)
        if wrong:
            return 422, False, {"code": "validation_failed", "errors": [{"pointer": p, "code": c} for p, c in wrong]}
        bound = self.keys.get(asked.key)
        if bound is not None:
            first = next(intent for intent in self.intents if intent.id == bound.intent)
            fields = differing(content(first.command), content(asked.body))
            if fields:
                return 422, False, {"code": "idempotency_key_reused", "fields": fields}
            return 202, True, msgspec.Raw(bound.answer.encode())
        named = asked.body.get("intent_id")
        for intent in self.intents:
            if named is not None and intent.intent_id == named:
                if content(intent.command) != content(asked.body):
                    return 409, False, {"code": "intent_id_conflict"}
                self.keys[asked.key] = self.keys[intent.key]
                return 202, True, msgspec.Raw(self.keys[asked.key].answer.encode())
        return 202, False, msgspec.Raw(self._register(asked.key, asked.body).answer.encode())

    def _register(self, key: str, body: dict[str, Any], role: str = "developer") -> StoredKey:
        uuid, intent_id = f"uuid-{key}", body.get("intent_id", f"int-{key}")
        self.intents.append(Intent(id=uuid, intent_id=intent_id, key=key, command=content(body), role=role))
        self.events[uuid], self.postings[uuid] = [], []
        self._commit([(uuid, "ingress.accepted", "ACCEPTED", (), [])])
        answer = msgspec.json.encode({"intent_id": intent_id, "id": uuid, "status": "ACCEPTED"}).decode()
        self.keys[key] = StoredKey(uuid, answer)
        return self.keys[key]

    # What workers do.

    def work(self, intents: Sequence[str]) -> None:
        """Take each of these intents a step further, all in one commit; those that have ended stay where they are."""
        steps = [step for uuid in intents if (step := self._next(uuid)) is not None]
        if steps:
            self._commit(steps)

    def unsettled(self) -> list[str]:
        """Return the intents that go on."""
        return [intent.id for intent in self.intents if self._next(intent.id) is not None]

    def settle(self) -> None:
        """Take every intent to its end."""
        while left := self.unsettled():
            for uuid in left:
                self.work([uuid])

    def _next(self, uuid: str) -> tuple[str, str, str, tuple[str, ...], list[tuple[str, str, str, int, int]]] | None:
        intent = next(intent for intent in self.intents if intent.id == uuid)
        command, minor = intent.command, int(intent.command["minor"])
        source, destination, settlement = (
            command["source"],
            command["destination"],
            f"@settlement/{command['currency']}",
        )
        match self.events[uuid][-1].state:
            case "ACCEPTED":
                return uuid, "policy.accepted", "PROCESSING/reserving", (), []
            case "PROCESSING/reserving":
                code = self._objection(command, minor)
                if code:
                    return uuid, "ledger.refused", "FAILED", (code,), []
                if command["kind"] == "book_transfer":
                    return uuid, "ledger.posted", "SUCCESSFUL", (), [("book", source, destination, 0, minor)]
                return uuid, "ledger.reserved", "PROCESSING/routing", (), [("reserve", source, settlement, minor, 0)]
            case "PROCESSING/routing":
                return uuid, "provider.routed", "AWAITING_PROVIDER/submitted", (), []
            case "AWAITING_PROVIDER/submitted":
                ending = "refused" if uuid in self.declines else "confirmed"
                return uuid, "provider.callback", f"AWAITING_PROVIDER/{ending}", (), []
            case "AWAITING_PROVIDER/confirmed":
                legs = [("post", source, settlement, -minor, minor), ("settle", settlement, destination, 0, minor)]
                return uuid, "ledger.posted", "SUCCESSFUL", (), legs
            case "AWAITING_PROVIDER/refused":
                return uuid, "ledger.released", "FAILED", (), [("release", source, settlement, -minor, 0)]
        return None

    def _objection(self, command: dict[str, Any], minor: int) -> str:
        known = [self.accounts.get(command[end]) for end in ("source", "destination")]
        source = known[0]
        if source is not None and command["source"] == command["destination"]:
            return "accounts_must_be_different"
        if source is None or known[1] is None:
            return "account_not_found"
        if {known[1].currency, command["currency"]} != {source.currency}:
            return "currency_mismatch"
        room = self._available(command["source"]) + source.limit
        return "insufficient_funds" if source.guarded and room < minor else ""

    def _available(self, name: str) -> int:
        debits_pending, _, debits, credits = self.counters[name]
        return credits - debits - debits_pending

    def _commit(
        self, steps: Sequence[tuple[str, str, str, tuple[str, ...], list[tuple[str, str, str, int, int]]]]
    ) -> None:
        at = (START + timedelta(milliseconds=len(self.commits))).isoformat(timespec="milliseconds")
        events, rows = [], []
        for uuid, event, state, codes, legs in steps:
            if event == "ledger.reserved" or (event == "ledger.posted" and legs[0][0] == "book"):
                intent = next(intent for intent in self.intents if intent.id == uuid)
                code = self._objection(intent.command, int(intent.command["minor"]))
                if code:  # somebody else of this commit has taken it
                    event, state, codes, legs = "ledger.refused", "FAILED", (code,), []
            sequence = len(self.events[uuid]) + 1
            made = Event(intent=uuid, sequence=sequence, event=event, state=state, codes=codes)
            self.events[uuid].append(made)
            events.append(made)
            for kind, debit, credit, pending, posted in legs:
                row = Posting(
                    intent=uuid, ordinal=len(self.postings[uuid]), kind=kind, debit=debit, credit=credit,
                    currency=self.accounts[debit].currency, pending=pending, posted=posted, at=at,
                )  # fmt: skip
                self.postings[uuid].append(row)
                rows.append(row)
                for name, places in ((debit, (0, 2)), (credit, (1, 3))):
                    self.counters[name][places[0]] += pending
                    self.counters[name][places[1]] += posted
        self.commits.append(Commit(tuple(events), tuple(rows)))

    # What people see.

    def balance(self, name: str) -> dict[str, Any]:
        """Return an account as it is shown."""
        counters, account = self.counters[name], self.accounts[name]
        names = ("debits_pending", "credits_pending", "debits_posted", "credits_posted")
        return {
            "account_id": name, "currency": account.currency, "type": account.type,
            "posted": str(counters[3] - counters[2]), "pending": str(counters[1] - counters[0]),
            "available": str(counters[3] - counters[2] - counters[0]),
            "counters": {counter: str(value) for counter, value in zip(names, counters, strict=True)},
        }  # fmt: skip

    def view(self, intent: Intent) -> dict[str, Any]:
        """Return an intent as it is shown."""
        events, rows = self.events[intent.id], self.postings[intent.id]
        status, _, step = events[-1].state.partition("/")
        return {
            "id": intent.id, "intent_id": intent.intent_id, "status": status, "step": step or None,
            "amount": int(intent.command["minor"]),
            "version": len(events), "event_stream": [{"event": event.event} for event in events],
            "ledger_state": {
                "reversed": "0",
                "held": str(sum(row.pending for row in rows if not row.kind.startswith("fee"))),
                "posted": str(sum(row.posted for row in rows if row.kind in ("post", "book"))),
            },
        }  # fmt: skip

    def page(self, asked: ReadEntries) -> dict[str, Any]:
        """Return a page of entries as it is shown, by a scan of all postings."""
        rows = [row for rows in self.postings.values() for row in rows if asked.account_id in (row.debit, row.credit)]
        rows.sort(key=lambda row: (row.at, row.intent.replace("-", ""), row.ordinal), reverse=True)
        if asked.after is not None:
            after = (asked.after.at, asked.after.intent.replace("-", ""), asked.after.ordinal)
            rows = [row for row in rows if (row.at, row.intent.replace("-", ""), row.ordinal) < after]
        shown = [
            {
                "intent": row.intent, "ordinal": row.ordinal, "at": row.at, "posting": row.kind,
                "side": "debit" if row.debit == asked.account_id else "credit",
                "other": row.credit if row.debit == asked.account_id else row.debit, "currency": row.currency,
                "pending": str(row.pending), "posted": str(row.posted),
            }
            for row in rows
        ]  # fmt: skip
        return {"data": shown[: asked.limit], "has_more": len(shown) > asked.limit}

    def ending(self) -> Ending:
        """Return what the store holds."""
        return Ending(
            accounts=self.accounts, intents=list(self.intents), keys=dict(self.keys), commits=list(self.commits),
            balances={name: (a, b, c, d) for name, (a, b, c, d) in self.counters.items()},
            limits={"NGN": Limits(transaction_max=5_000)},
        )  # fmt: skip


class Crowd:
    """Clients of a world: each begins, is served and hears at moments of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: list[Call] = []
        self._clock = 0
        self._open: dict[int, tuple[int, Operation, Answer | None]] = {}

    def begin(self, client: int, operation: Operation) -> None:
        """A client asks; it is not yet served."""
        self._open[client] = (self._tick(), operation, None)

    def serve(self, client: int) -> None:
        """What a client asked for happens."""
        invoked, operation, answer = self._open[client]
        self._open[client] = (invoked, operation, answer or self.world.do(operation))

    def end(self, client: int, *, lose: bool = False) -> Call:
        """A client hears, or gives up: then it may never be served."""
        if not lose:
            self.serve(client)
        invoked, operation, answer = self._open.pop(client)
        known = None if lose else answer
        self.calls.append(call_of(len(self.calls), client, operation, invoked, self._tick(), known))
        return self.calls[-1]

    def ask(self, operation: Operation, client: int = 0) -> Call:
        """A client asks and hears, with nobody in between."""
        self.begin(client, operation)
        return self.end(client)

    def is_open(self, client: int) -> bool:
        """Whether a client waits."""
        return client in self._open

    def finish(self) -> None:
        """Let everybody hear and everything end."""
        for client in list(self._open):
            self.end(client)
        self.world.settle()

    def _tick(self) -> int:
        self._clock += 1_000
        return self._clock


def call_of(number: int, process: int, operation: Operation, invoked: int, moment: int, answer: Answer | None) -> Call:
    """Return a call that was answered at `moment`, or never."""
    if answer is None:
        return Call(number=number, process=process, operation=operation, invoked=invoked, why="TimeoutError")
    status, replayed, body = answer
    return Call(
        number=number, process=process, operation=operation, invoked=invoked, returned=moment, status=status,
        replayed=replayed, body=msgspec.json.encode(body).decode(),
    )  # fmt: skip


def transfer(key: str, amount: int = 100, **changes: Any) -> Create:
    """Return a request for a transfer from alice to the shop."""
    wait = changes.pop("wait", 0)
    body = {"intent_id": f"i-{key}", "amount": amount, "currency": "NGN", "source": "alice", "destination": "shop"}
    return Create(tenant="acme", key=key, body=body | changes, wait=wait)
