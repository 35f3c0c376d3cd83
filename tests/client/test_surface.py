"""The client has all of the API: every operation, every parameter, every field; what it leaves out is named here."""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from msgspec import Struct

from tests.architecture import ROOT
from tests.client import servers
from tests.client.servers import Script
from zentra.client import (
    account_models,
    delivery_models,
    endpoints,
    holds,
    models,
    people,
    policies,
    proofs,
    routes,
    versions,
)
from zentra.client.api import AsyncZentra, Condition, Leg, NewDecision, NewIntent, Zentra
from zentra.client.asynchronous.transport import AsyncEventStream, AsyncPages
from zentra.client.blocking.transport import EventStream, Pages

API = json.loads((ROOT / "docs/openapi.json").read_text(encoding="utf-8"))
OVER_NATS = json.loads((ROOT / "docs/asyncapi.json").read_text(encoding="utf-8"))
OPERATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, methods in API["paths"].items()
    for method, operation in methods.items()
}

LEFT_OUT: Mapping[str, str] = {
    "live": "for whoever runs the gateway",
    "ready": "for whoever runs the gateway",
    "metrics": "for whoever runs the gateway",
    "openapi": "for tools that read the description",
    "asyncapi": "for tools that read the description",
    "show_key_history": "for verifiers, who need no API key",
    "take_callback": "for rails, which sign what they send",
    "show_webhook_keys": "for receivers, which have no key of the API",
}
"""Operations that the client does not have, each with the reason."""

ELSEWHERE: Mapping[str, frozenset[str]] = {
    name: frozenset({"legs", "corrects", "buy_currency", "quote"}) for name in ("create_intent", "create_intents")
}
"""Fields of the general doors that have a method of their own."""

FIELDS_LEFT_OUT: Mapping[str, str] = {
    "idempotency_key": "goes as a header",
    "money_model": "there is only one",
    "primitives": "all of them is the default, and the only choice that does anything",
}

AT = datetime(2026, 4, 1, tzinfo=UTC)
CREATED = {"created_from": AT, "created_before": "2026-05-01T00:00:00Z", "page_size": 2}
AMOUNTS = {"amount_min": 1, "amount_max": 2}
ORDER = {"reason": "why", "wait": 3, "idempotency_key": "k"}
WHY = {"reason": "why", "idempotency_key": "k"}
MONEY: dict[str, Any] = {
    "amount": 1, "currency": "NGN", "source": "a", "destination": "b", "intent_id": "i", "scope": "s", "country": "NG",
    "metadata": {"a": "b"}, "wait": 3,
}  # fmt: skip
LABELS = {name: MONEY[name] for name in ("intent_id", "scope", "country", "metadata", "wait")}
HOLDS = [Condition(account="a", of="available", min=0, max=1)]
CHARGED = {**MONEY, "fee_max": 5, "conditions": HOLDS, "counterparty": {"name": "n"}}
GENERAL = {**CHARGED, "hold": {"expires_in_seconds": 60}, "effective_at": AT}
SAID: dict[str, Any] = {
    "aliases": ["a"], "born": "1961-05-03", "countries": ["XA"], "identifiers": {"a": "b"}, "idempotency_key": "k",
}  # fmt: skip
TERMS: dict[str, Any] = {
    "mode": "thin", "api_version": "2026.04", "fifo": True, "signatures": ["v1"], "schedule": [0, 5], "concurrency": 3,
    "per_second": 4, "disable_after_seconds": 0, "idempotency_key": "k",
}  # fmt: skip
MANY = [NewIntent(kind="payment", **{name: value for name, value in GENERAL.items() if name != "wait"})]
# fmt: off
ASKED: dict[str, Callable[[Any], Any]] = {
    "list_accounts": lambda api: api.accounts.list(
        type="t", currency="c", owner="o", status="s", book="b", number="n", **CREATED).page("c"),
    "create_account": lambda api: api.accounts.create(
        account_id="a", owner="o", type="t", currency="c", book="b", party="p"),
    "freeze_account": lambda api: api.accounts.freeze("x", **WHY),
    "unfreeze_account": lambda api: api.accounts.unfreeze("x", **WHY),
    "close_account": lambda api: api.accounts.close("x", **WHY),
    "reopen_account": lambda api: api.accounts.reopen("x", **WHY),
    "limit_account": lambda api: api.accounts.limit("x", 5, **WHY),
    "list_account_changes": lambda api: api.accounts.changes("x", page_size=2).page("c"),
    "add_account_number": lambda api: api.accounts.add_number("x", "iban", "n", **WHY),
    "list_account_numbers": lambda api: api.accounts.numbers("x").page(),
    "retire_account_number": lambda api: api.accounts.retire_number("x", "x"),
    "add_account_monitor": lambda api: api.accounts.add_monitor("x", "posted", "above", 5, **WHY),
    "list_account_monitors": lambda api: api.accounts.monitors("x").page(),
    "remove_account_monitor": lambda api: api.accounts.remove_monitor("x", "x"),
    "show_balance": lambda api: api.accounts.balance("x", AT, "effective"),
    "show_statement": lambda api: api.accounts.statement(
        "x", since=AT, until=AT, by="recorded", cursor="c", page_size=2),
    "create_book": lambda api: api.books.create("b", "n"),
    "list_books": lambda api: api.books.list().page(),
    "show_chart": lambda api: api.books.chart(
        prefix="p", depth=2, currency="c", book="b", cursor="c", page_size=2),
    "create_deposit": lambda api: api.deposits.create(
        reference="r", amount=5, currency="c", number="n", account="a", wait=3, idempotency_key="k"),
    "show_account": lambda api: api.accounts.get("x"),
    "list_entries": lambda api: api.accounts.entries(
        "x", intent="i", kind="k", side="debit", **AMOUNTS, **CREATED).page("c"),
    "quote": lambda api: api.fees.quote(amount=1, currency="NGN", source="a", destination="b", country="NG"),
    "list_fee_schedules": lambda api: api.fees.list(page_size=2).page("c"),
    "show_fee_schedule": lambda api: api.fees.get("x"),
    "put_fee_schedule": lambda api: api.fees.put([{"name": "a", "model": "flat"}]),
    "list_cases": lambda api: api.cases.list(status="s", intent_id="i", kind="k", **CREATED).page("c"),
    "show_case": lambda api: api.cases.get("x"),
    "resolve_case": lambda api: api.cases.resolve("x", "dismissed", **ORDER),
    "list_denials": lambda api: api.denials.list(actor="a", action="b", reason="c", **CREATED).page("c"),
    "create_payment": lambda api: api.payments.create(**CHARGED),
    "create_transfer": lambda api: api.transfers.create(**CHARGED, effective_at=AT),
    "create_intent": lambda api: api.runtime.intents.create(**GENERAL),
    "create_journal": lambda api: api.journals.create(
        legs=[Leg(source="a", destination="b", amount=1)], currency="NGN", corrects="c", conditions=HOLDS,
        effective_at=AT, **LABELS),
    "create_conversion": lambda api: api.conversions.create(buy_currency="USD", quote="q", conditions=HOLDS, **MONEY),
    "quote_conversion": lambda api: api.conversions.quote(amount=1, currency="a", buy_currency="b", intent_id="i"),
    "put_rate": lambda api: api.rates.put(
        sell="a", buy="b", mid="1", spread_bps=1, fee_minor=1, max_age_seconds=1, source="s", as_of=AT),
    "list_rates": lambda api: api.rates.in_force(),
    "create_hold": lambda api: api.holds.create(
        expires_in_seconds=60, release_condition="r", conditions=HOLDS,
        counterparty={"name": "n"}, **MONEY),
    "list_holds": lambda api: api.holds.list(
        account="a", status="s", currency="c", expires_before=AT, **CREATED).page("c"),
    "show_hold": lambda api: api.holds.get("x"),
    "capture_hold": lambda api: api.holds.capture("x", 5, destination="d", final=True, **ORDER),
    "void_hold": lambda api: api.holds.void("x", **ORDER),
    "create_intents": lambda api: api.runtime.intents.create_many(MANY),
    "list_intents": lambda api: api.runtime.intents.list(
        state="s", intent_id="i", account="a", kind="k", currency="c", **AMOUNTS, **CREATED).page("c"),
    "show_intent": lambda api: api.runtime.intents.get("x", wait=3),
    "cancel_intent": lambda api: api.runtime.intents.cancel("x", **ORDER),
    "reverse_intent": lambda api: api.runtime.intents.reverse("x", 5, force=True, **ORDER),
    "show_evidence": lambda api: api.evidence.get("x", format="dsse", addenda=1, checkpoint=2),
    "show_checkpoint": lambda api: api.evidence.checkpoint(size=1),
    "show_consistency": lambda api: api.evidence.consistency(first=1, second=2),
    "show_inclusion": lambda api: api.evidence.inclusion("x", addenda=1, checkpoint=2),
    "list_evidence_keys": lambda api: api.evidence.keys(),
    "list_exports": lambda api: api.evidence.exports(
        actor="a", created_from=AT, created_before="2026-05-01T00:00:00Z", page_size=2).page("c"),
    "ask_export": lambda api: api.evidence.export(
        since=AT, until="2026-05-01T00:00:00Z", types=["hold"], idempotency_key="k"),
    "show_export": lambda api: api.evidence.get_export("x"),
    "download_export": lambda api: api.evidence.get_export_content("x"),
    "list_export_jobs": lambda api: api.evidence.export_jobs(state="s", actor="a", **CREATED).page("c"),
    "stream_intent_events": lambda api: api.runtime.intents.events("x", last_id="1"),
    "stream_events": lambda api: api.runtime.events.stream(last_id="1"),
    "show_command": lambda api: api.runtime.commands.get("x"),
    "draft_policy": lambda api: api.policies.draft({"limits": {}}, note="n", idempotency_key="k"),
    "list_policies": lambda api: api.policies.list(page_size=2).page("c"),
    "show_policy": lambda api: api.policies.get("x"),
    "validate_policy": lambda api: api.policies.validate("x", idempotency_key="k"),
    "backtest_policy": lambda api: api.policies.backtest("x", from_=AT, to="2026-05-01T00:00:00Z", limit=5),
    "promote_policy": lambda api: api.policies.promote("x", idempotency_key="k"),
    "roll_back_policy": lambda api: api.policies.roll_back("x", idempotency_key="k"),
    "draft_routes": lambda api: api.routes.draft({"corridors": []}, note="n", idempotency_key="k"),
    "list_routes": lambda api: api.routes.list(page_size=2).page("c"),
    "show_routes": lambda api: api.routes.get("x"),
    "validate_routes": lambda api: api.routes.validate("x", idempotency_key="k"),
    "promote_routes": lambda api: api.routes.promote("x", idempotency_key="k"),
    "roll_back_routes": lambda api: api.routes.roll_back("x", idempotency_key="k"),
    "explain_route": lambda api: api.routes.explain("x"),
    "list_rails": lambda api: api.rails.list().page(),
    "explain_intent": lambda api: api.policies.explain("x").page(),
    "list_reviews": lambda api: api.reviews.list(
        status="s", intent_id="i", assigned_to="me", overdue=True, rule="r", kind="k", currency="c", **AMOUNTS,
        **CREATED).page("c"),
    "count_reviews": lambda api: api.reviews.counts(),
    "show_review": lambda api: api.reviews.get("x"),
    "approve_review": lambda api: api.reviews.approve("x", request_hash="h", **ORDER),
    "reject_review": lambda api: api.reviews.reject("x", request_hash="h", **ORDER),
    "decide_reviews": lambda api: api.reviews.decide_many(
        [NewDecision(id="x", verdict="approved", reason="why", request_hash="h")], wait=3, idempotency_key="k"),
    "claim_review": lambda api: api.reviews.claim("age", wait=3, idempotency_key="k"),
    "assign_review": lambda api: api.reviews.assign("x", "me", wait=3, idempotency_key="k"),
    "comment_review": lambda api: api.reviews.comment("x", "text", wait=3, idempotency_key="k"),
    "escalate_review": lambda api: api.reviews.escalate("x", assignee="a", **ORDER),
    "list_approvals": lambda api: api.approvals.list(
        status="s", kind="k", subject="a", created_by="b", **CREATED).page("c"),
    "show_approval": lambda api: api.approvals.get("x"),
    "request_approval": lambda api: api.approvals.request("account_limit", "a", {"overdraft_limit": "1"}, reason="why"),
    "approve_approval": lambda api: api.approvals.approve("x", request_hash="h", **ORDER),
    "reject_approval": lambda api: api.approvals.reject("x", reason="why", request_hash="h"),
    "cancel_approval": lambda api: api.approvals.cancel("x", reason="why"),
    "list_endpoints": lambda api: api.webhooks.endpoints.list().page(),
    "create_endpoint": lambda api: api.webhooks.endpoints.create(url="http://x", events=["*"], **TERMS),
    "show_endpoint": lambda api: api.webhooks.endpoints.get("x"),
    "amend_endpoint": lambda api: api.webhooks.endpoints.amend("x", version=2, url="http://x", events=["*"], **TERMS),
    "disable_endpoint": lambda api: api.webhooks.endpoints.disable("x", idempotency_key="k"),
    "enable_endpoint": lambda api: api.webhooks.endpoints.enable("x", idempotency_key="k"),
    "rotate_endpoint": lambda api: api.webhooks.endpoints.rotate("x", overlap_seconds=5, idempotency_key="k"),
    "delete_endpoint": lambda api: api.webhooks.endpoints.delete("x"),
    "list_deliveries": lambda api: api.webhooks.deliveries.list(
        endpoint="e", intent="i", event="v", status="s", **CREATED).page("c"),
    "replay_delivery": lambda api: api.webhooks.deliveries.replay("x", wait=3, idempotency_key="k"),
    "show_delivery": lambda api: api.webhooks.deliveries.get("x"),
    "list_delivery_attempts": lambda api: api.webhooks.deliveries.attempts("x", page_size=2).page("c"),
    "recover_deliveries": lambda api: api.webhooks.recoveries.start(
        "x", since=AT, before=AT, which="any", events=["*"], dry_run=True, wait=3, idempotency_key="k"),
    "list_recoveries": lambda api: api.webhooks.recoveries.list(endpoint="e", status="s", **CREATED).page("c"),
    "show_recovery": lambda api: api.webhooks.recoveries.get("x"),
    "webhook_health": lambda api: api.webhooks.health(),
    "show_webhook_body": lambda api: api.webhooks.body("x", "x"),
    "create_party": lambda api: api.parties.create(party_id="p", kind="k", legal_name="n", **SAID),
    "show_party": lambda api: api.parties.get("x"),
    "list_parties": lambda api: api.parties.list(kind="k", kyc_state="a", screening_state="b", **CREATED).page("c"),
    "show_party_history": lambda api: api.parties.history("x"),
    "amend_party": lambda api: api.parties.amend("x", reason="why", legal_name="n", **SAID),
    "decide_kyc": lambda api: api.parties.decide_kyc("x", "approved", reason="why", expires_at=AT),
    "rescreen_party": lambda api: api.parties.rescreen("x", reason="why"),
    "list_screening_lists": lambda api: api.screening.lists(),
    "version": lambda api: api.meta.version(),
    "show_problem": lambda api: api.meta.error("x"),
}
# fmt: on


@pytest.fixture(params=["blocking", "awaiting"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """One of the two clients."""
    servers.no_pauses(monkeypatch)
    chosen: Callable[..., Any] = getattr(servers, request.param)
    return chosen


def test_no_operation_is_missing() -> None:
    assert sorted([*ASKED, *LEFT_OUT]) == sorted(OPERATIONS)


@pytest.mark.parametrize("name", ASKED)
def test_an_operation_is_asked_for_with_everything_that_it_takes(run: Callable[..., Any], name: str) -> None:
    method, path, operation = OPERATIONS[name]
    script = Script((200, b"", {}), (404, b"", {}))  # what comes back is not what is looked at
    run(script, ASKED[name], max_retries=0)
    request = script.requests[0]
    assert request.method == method
    assert re.fullmatch(re.sub(r"\{\w+\}", "x", path), request.url.path)
    query, headers = parameters(operation)
    assert dict(parse_qsl(request.url.query.decode())).keys() == query
    assert headers <= set(request.headers)
    left_out = FIELDS_LEFT_OUT.keys() - inside(operation) | ELSEWHERE.get(name, frozenset())
    assert sent(request.content) == taken(operation) - left_out


def parameters(operation: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Return the names of the query, and the headers that tell what is wanted."""
    given = [API["components"]["parameters"][one["$ref"].rsplit("/")[-1]] if "$ref" in one else one
             for one in operation["parameters"]]  # fmt: skip
    headers = {one["name"] for one in given if one["in"] == "header"}
    return {one["name"] for one in given if one["in"] == "query"}, headers - {"x-request-id", "traceparent"}


def taken(operation: dict[str, Any]) -> set[str]:
    """Return the fields of the body, or those of each where it is an array."""
    content = operation.get("requestBody", {"content": {}})["content"]
    if not content:
        return set()
    schema = resolved(content["application/json"]["schema"])
    return set(resolved(schema["items"] if schema["type"] == "array" else schema)["properties"])


def inside(operation: dict[str, Any]) -> set[str]:
    """Return what is sent in the body although it is elsewhere a header: the key of one intent of many."""
    return {"idempotency_key"} if operation["operationId"] == "create_intents" else set()


def sent(content: bytes) -> set[str]:
    body = msgspec.json.decode(content) if content else {}
    return set(body[0] if isinstance(body, list) else body)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = API["components"]["schemas"][schema["$ref"].rsplit("/")[-1]] if "$ref" in schema else schema
    return found


# Answers.

SCHEMAS: dict[type[Struct], list[str]] = {
    models.Account: ["Account", "AccountOpened"],
    models.AccountEntry: ["AccountEntry"],
    account_models.AccountChange: ["AccountChange"],
    account_models.AccountChanged: ["AccountChanged"],
    account_models.AccountMonitor: ["AccountMonitor"],
    account_models.AccountNumber: ["AccountNumber"],
    account_models.BalanceAt: ["BalanceAt"],
    account_models.Book: ["Book", "BookMade"],
    account_models.ChartNode: ["ChartNode"],
    account_models.ChartPage: ["Chart"],
    account_models.Figures: ["Figures"],
    account_models.RunningBalance: ["RunningBalance"],
    account_models.StatementLine: ["StatementLine"],
    account_models.StatementPage: ["StatementPage"],
    account_models.TakenAway: ["TakenAway"],
    models.Addendum: ["Addendum"],
    models.Approval: ["Approval", "ApprovalAnswer"],
    models.AuditPacket: ["AuditPacket"],
    models.Callback: ["CallbackShown"],
    models.Case: ["Case"],
    models.Command: ["CommandAnswer"],
    models.CommandRecord: ["Command"],
    models.Condition: ["ConditionShown"],
    models.Conversion: ["ConversionShown"],
    models.Delivery: ["Delivery"],
    models.DeliveryAttempt: ["Attempt"],
    delivery_models.AttemptDetail: ["AttemptDetail"],
    delivery_models.EndpointHealth: ["EndpointHealth"],
    delivery_models.RecoveryState: ["RecoveryState"],
    delivery_models.WebhookHealth: ["WebhookHealth"],
    models.Denial: ["Denial"],
    endpoints.Endpoint: ["Endpoint", "EndpointMade"],
    endpoints.LiveSecret: ["LiveSecret"],
    endpoints.PublicKey: ["PublicKey"],
    endpoints.Recovery: ["Recovery"],
    models.ErrorPage: ["ErrorPage"],
    proofs.EvidenceExport: ["Export"],
    proofs.EvidenceKey: ["EvidenceKey"],
    proofs.EvidenceKeys: ["EvidenceKeys"],
    models.Event: ["EventShown"],
    models.FeeLine: ["FeeLine"],
    models.FeeSchedule: ["Schedule", "FeeSchedulePut"],
    models.Fees: ["FeesShown"],
    holds.Hold: ["Hold", "HoldShown"],
    holds.HoldCapture: ["HoldCapture"],
    models.Intent: ["Intent", "Accepted", "IntentShown"],
    models.LedgerEntry: ["LedgerEntry"],
    models.LedgerState: ["LedgerState"],
    models.Leg: ["LegShown"],
    models.Links: [
        "IntentLinks",
        "AccountLinks",
        "CommandLinks",
        "SelfLink",
        "IntentLink",
        "HoldLinks",
        "EndpointLinks",
    ],
    models.Page: [
        "Intents",
        "Accounts",
        "Entries",
        "Reviews",
        "Cases",
        "Denials",
        "Endpoints",
        "Deliveries",
        "DeliveryAttempts",
        "Recoveries",
        "Approvals",
        "Holds",
        "FeeSchedules",
        "Books",
        "Changes",
        "Monitors",
        "Numbers",
        "Parties",
        "Policies",
        "RoutesVersions",
        "Rails",
        "Decisions",
        "Exports",
    ],
    policies.BacktestReport: ["BacktestReport"],
    policies.ChangedDecision: ["Changed"],
    policies.Explanation: ["Explanation"],
    policies.PolicyVersion: ["PolicySummary", "PolicyVersion", "PolicyShown"],
    policies.RuleAnswer: ["Answer"],
    routes.RoutesVersion: ["PolicySummary", "RoutesVersion", "RoutesShown"],
    versions.DocumentEvent: ["PolicyEvent", "VersionEvent"],
    routes.Route: ["RouteShown"],
    routes.RouteDecision: ["RouteDecision"],
    routes.RouteRail: ["Considered"],
    routes.RouteCorridor: ["CorridorShown"],
    routes.RouteAttempt: ["AttemptShown"],
    routes.Rail: ["RailShown"],
    routes.RailLimits: ["RailLimits"],
    routes.Maintenance: ["Maintenance"],
    models.Price: ["PriceShown"],
    models.Quote: ["QuoteShown"],
    models.ConversionQuote: ["QuoteGiven"],
    models.Rate: ["Rate", "RatePut"],
    models.Rates: ["Rates"],
    models.Reason: ["Reason"],
    models.Record: ["RecordShown"],
    models.Review: ["Review", "ReviewShown"],
    models.ReviewCounts: ["ReviewCounts"],
    models.ReviewStep: ["ReviewStep"],
    models.Stage: ["StageShown"],
    models.Version: ["VersionShown"],
    models.WebhookIntent: ["WebhookData"],
    people.Party: ["Party", "PartyCreated"],
    people.PartyChange: ["PartyChange"],
    people.PartyDone: ["PartyDone"],
    people.ScreeningList: ["List"],
}


def test_every_answer_is_compared() -> None:
    known = [*vars(models).values(), *vars(account_models).values()]
    kinds = {kind for kind in known if isinstance(kind, type) and issubclass(kind, Struct)}
    assert kinds - SCHEMAS.keys() == {Struct, models.StreamEvent, models.WebhookEvent}


@pytest.mark.parametrize("kind", SCHEMAS, ids=lambda kind: kind.__name__)
def test_an_answer_has_every_field_and_what_may_be_absent_has_a_default(kind: type[Struct]) -> None:
    known = OVER_NATS["components"]["schemas"] | API["components"]["schemas"]
    shapes = [known[name] for name in SCHEMAS[kind]]
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    assert fields.keys() == {name for shape in shapes for name in shape["properties"]}
    required = {name for name, field in fields.items() if field.required}
    assert all(required <= set(shape["required"]) for shape in shapes)


# Two clients, one surface.


def methods(owner: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every public method below a client, by its path."""
    for name, value in inspect.getmembers(owner):
        if name.startswith("_"):
            continue
        if inspect.isroutine(value):
            yield prefix + name, value
        elif type(value).__module__.startswith("zentra.client"):
            yield from methods(value, f"{prefix}{name}.")


def test_both_clients_have_one_surface() -> None:
    def surface(client: Any) -> dict[str, str]:
        return {
            name.replace("aclose", "close"): re.sub(r"Async|Awaitable\[(\w+)\]", r"\1", str(inspect.signature(method)))
            for name, method in methods(client)
        }

    one, other = surface(Zentra("k", "http://x.test")), surface(AsyncZentra("k", "http://x.test"))
    assert one == other
    assert len(one) > len(ASKED)


def test_every_method_says_what_it_returns() -> None:
    for client, kinds in ((Zentra("k", "http://x.test"), (Pages, EventStream)),
                          (AsyncZentra("k", "http://x.test"), (AsyncPages, AsyncEventStream))):  # fmt: skip
        for name, method in methods(client):
            given = typing.get_type_hints(inspect.unwrap(getattr(method, "__func__", method)))["return"]
            assert given is not Any, name
            assert inspect.getdoc(method), name
            if name.endswith(".list"):
                assert typing.get_origin(given) in kinds
