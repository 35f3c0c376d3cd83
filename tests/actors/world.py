"""A small world for engine tests: one tenant, its accounts, two rails, one corridor, and what to look at afterwards."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import msgspec
from msgspec import structs

from tests.auditor import AccountFile, Claim, Row, audit
from zentra.bench.twins.fleet import Fleet, at_once
from zentra.runtime.evidence.chain import GENESIS, chain
from zentra.runtime.evidence.merkle import Frontier
from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.vocabulary import IntentKind
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.policy import Limits, PolicyRules
from zentra.runtime.ports import Configuration, Endpoint
from zentra.runtime.rails.port import OutcomeStatus, RailOutcome, RailSettings
from zentra.runtime.rails.routing import Corridor, reference_of

MakeFleet = Callable[..., Fleet]
SECRET = "s" * 32
LIMITS = Limits(transaction_minor_max=10_000_000, daily_minor_max=2_000_000, review_minor_min=1_000_000)

__all__ = [
    "ACCOUNTS",
    "LIMITS",
    "MakeFleet",
    "account",
    "audited",
    "balances",
    "configuration",
    "endpoint",
    "facts_of",
    "hook",
    "last_facts",
    "outcome",
    "summary",
    "transfer",
    "verdict",
]


def transfer(minor: int = 125_000, *, scenario: str | None = None, **changes: Any) -> IntentCommand:
    """Return a transfer from the customer to the merchant."""
    command = IntentCommand(
        kind=IntentKind.TRANSFER,
        minor=str(minor),
        currency="NGN",
        source="customer",
        destination="merchant",
        metadata={"sandbox_scenario": scenario} if scenario else {},
    )
    return structs.replace(command, **changes)


def configuration(*, endpoints: tuple[Endpoint, ...] = (), limits: Limits | None = LIMITS) -> Configuration:
    """Return what is set up: rails alpha, then beta, for transfers in NGN."""
    rails = {
        name: RailSettings(
            name=name,
            kind="sandbox",
            secret=SECRET,
            poll_after_seconds=2,
            poll_interval_max_seconds=60,
            deadline_seconds=300,
        )
        for name in ("alpha", "beta")
    }
    return Configuration(
        version=1,
        policies={"acme": PolicyRules(version=3, limits={"NGN": limits} if limits else {})},
        corridors={"acme": (Corridor("acme", "ng", "NGN", "transfer", ("alpha", "beta")),)},
        endpoints={"acme": endpoints},
        rails=rails,
    )


def account(number: int, name: str, type_: str, **changes: Any) -> AccountRef:
    """Return an account in NGN; those without a floor are known by their type."""
    guarded = type_ not in ("settlement", "liquidity", "fee")
    return AccountRef(number, "acme", name, type_, "NGN", "credit", guarded, **changes)


ACCOUNTS = (
    account(1, "customer", "customer"),
    account(2, "merchant", "merchant"),
    account(3, "settlement-ngn", "settlement"),
    account(4, "liquidity-ngn", "liquidity"),
    account(5, "poor", "customer"),
    account(6, "frozen", "customer", status="frozen"),
    account(7, "fee-ngn", "fee"),
)


def audited(fleet: Fleet) -> None:
    """Fail where the ledger, the chains or the logs of a fleet do not hold together."""
    store = fleet.store
    files = [
        AccountFile(ref.id, ref.tenant, ref.currency, ref.normal_side, -ref.overdraft_limit if ref.guarded else None)
        for ref in store.refs.values()
    ]
    rows = [
        Row(
            p.intent, p.tenant, p.debit.currency, p.debit.id, p.credit.id, p.pending, p.posted,
            "/fee" if p.kind.startswith("fee") else "", p.kind == "forced_reversal",
        )
        for p in store.rows.postings.values()
    ]  # fmt: skip
    claims = {}
    for ref in store.refs.values():
        total = store.balance(ref.id)
        claims[ref.id] = Claim(total.debits_pending, total.credits_pending, total.debits_posted, total.credits_posted)
    holds = {}
    for intent, transitions in store.rows.transitions.items():
        tx = fleet.transaction(intent)
        if tx.held:
            holds[intent, store.refs[tx.tenant, tx.command.source].id] = tx.held
        if tx.fee_held:
            holds[f"{intent}/fee", store.refs[tx.tenant, tx.command.source].id] = tx.fee_held
        records = [t.record for t in transitions]
        assert [t.hash for t in transitions] == list(accumulate(records, chain, initial=GENESIS))[1:], "S broken chain"
        assert [t.sequence for t in transitions] == list(range(1, len(transitions) + 1)), "P a version is missing"
        assert all(a.at < b.at for a, b in pairwise(transitions)), "J time stands still"
    # a settlement account sees its holds from the other side, so only accounts that give can hold
    for key in (ref.id for ref in store.refs.values() if not ref.guarded):
        assert claims[key].debits_pending == 0
    assert audit(files, rows, claims, holds) == []
    for (tenant, size), head in store.rows.heads.items():
        hashes = [store.rows.leaves[tenant, index][2] for index in range(size)]
        assert Frontier().append(hashes)[0].root() == head.root, "S a head does not fit its log"
    assert at_once(store.statistics())["ledger_imbalance_minor_units"] == 0


def facts_of(fleet: Fleet) -> dict[str, Any]:
    """Return everything that must not change when nothing new happens."""
    rows = fleet.store.rows
    return {
        "records": {intent: [t.record for t in found] for intent, found in rows.transitions.items()},
        "postings": dict(rows.postings),
        "balances": {ref.id: fleet.store.balance(ref.id) for ref in fleet.store.refs.values()},
        "velocity": {key: (usage.count, usage.minor) for key, usage in rows.velocity.items() if usage.count},
        "log": dict(rows.leaves),
        "cases": {key: (case.status, case.row.kind) for key, case in rows.cases.items()},
        "reviews": {key: review["status"] for key, review in rows.reviews.items()},
        "attempts": dict(rows.delivery_attempts),
        "outcomes": dict(rows.command_outcomes),
    }


def summary(fleet: Fleet) -> dict[str, Any]:
    """Return what must be equal however the same events were cut into ticks."""
    rows = fleet.store.rows
    return {
        "events": {intent: [str(t.event) for t in found] for intent, found in rows.transitions.items()},
        "states": {intent: str(found[-1].state) for intent, found in rows.transitions.items()},
        "balances": balances(fleet),
        "velocity": sorted((key.counter, usage.count, usage.minor) for key, usage in rows.velocity.items()),
        "log": len(rows.leaves),
        "cases": sorted((case.row.kind, case.status) for case in rows.cases.values()),
        "deliveries": sorted((str(s.state), s.attempts) for s in rows.delivery_states.values()),
        "outcomes": sorted(row[2] for row in rows.command_outcomes.values()),
    }


def balances(fleet: Fleet) -> dict[str, tuple[int, int, int, int]]:
    """Return by account: debits and credits pending, debits and credits posted."""
    found = {}
    for ref in fleet.store.refs.values():
        total = fleet.store.balance(ref.id)
        found[ref.account_id] = (
            total.debits_pending, total.credits_pending, total.debits_posted, total.credits_posted,
        )  # fmt: skip
    return found


def last_facts(fleet: Fleet, intent: str, event: str) -> dict[str, Any]:
    """Return the facts of an intent's latest record of this topic."""
    found = [t.record for t in fleet.store.rows.transitions[intent] if t.event == event]
    return dict(msgspec.json.decode(found[-1])["facts"])


def verdict(fleet: Fleet, command: str) -> str:
    """Return the code that a command was answered with."""
    return str(fleet.store.rows.command_outcomes[command][2])


def outcome(intent: str, status: str, *, event: str | None = None, attempt: int = 1, **changes: Any) -> RailOutcome:
    """Return what rail alpha says of an attempt of an intent over 125000."""
    said = RailOutcome(
        rail="alpha", reference=reference_of(intent, attempt), status=OutcomeStatus(status), minor=125_000,
        currency="NGN", event_id=event, trust="body_signed" if event else "direct",
    )  # fmt: skip
    return structs.replace(said, **changes)


def endpoint(name: str = "hook", *events: str) -> Endpoint:
    """Return an endpoint that wants these events, by default that money was posted."""
    return Endpoint("acme", name, f"https://{name}.test/in", events or ("ledger.posted",), (b"k" * 32,))


def hook(name: str = "hook") -> str:
    """Return the URL of an endpoint."""
    return f"https://{name}.test/in"
