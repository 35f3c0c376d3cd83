"""The setting of a simulated run: tenants, their accounts, rails, corridors, policies and endpoints.

Every tenant has an account that nearly everything touches and others that hardly anything does, some without funds,
some that are frozen or closed; rails with and without idempotent references; corridors with one rail, two, or none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from msgspec import structs

from zentra.bench.twins.fleet import START
from zentra.bench.twins.store import StoreTwin
from zentra.gateway.sandbox.scenarios import RailProfile, Timings
from zentra.runtime.compliance.diligence import Compliance
from zentra.runtime.compliance.lists import ListInfo, NameList, digest_of_list
from zentra.runtime.compliance.states import PartyRef
from zentra.runtime.compliance.synthetic import synthetic_entries
from zentra.runtime.evidence.history import SigningKey
from zentra.runtime.fees.schedule import FeeMatch, FeeRule, FeeSchedule, FeeTier
from zentra.runtime.intents.transaction import timestamp
from zentra.runtime.ledger.book import AccountRef
from zentra.runtime.ledger.conversion import FxRate
from zentra.runtime.ledger.monitors import Monitor
from zentra.runtime.policy import Limits, PolicyRules
from zentra.runtime.policy.rules import Risk, Rule, Window, WindowLimits
from zentra.runtime.ports import Configuration, Endpoint
from zentra.runtime.rails.port import RailSettings, Trust
from zentra.runtime.rails.routing import Corridor, RailRoute
from zentra.runtime.reviews import Approvals, Member, ReviewRules
from zentra.runtime.webhooks.terms import EndpointTerms

__all__ = [
    "APPROVED_SECONDS", "COLD_ACCOUNTS", "CURRENCY", "FIRST_KEY", "GLOBEX", "LISTED", "MEMBERS", "MONITORS", "NUMBERS",
    "PARTIES", "PARTITIONS", "SECRET", "TENANTS", "UNLISTED", "UNTRUSTED", "configuration", "fees", "open_books",
    "profiles", "rates",
]  # fmt: skip

PARTITIONS: Final = 8
TENANTS: Final = ("acme", "globex", "initech")
CURRENCY: Final = "NGN"
FIRST_KEY: Final = "key0"
COLD_ACCOUNTS: Final = 6
UNTRUSTED: Final[dict[str, Trust]] = {"delta": "shared_secret"}
"""The rails whose callbacks anybody could have made who knows what they share with us."""
SECRET: Final = "s" * 32
_DOLLARS: Final = ("dollars", "liquidity-usd", "fee-usd")
OPENING_MINOR: Final = 5_000_000
NUMBERS: Final = {"100": "hot", "200": "shop", "300": "closed", "400": "eu-shop"}
MONITORS: Final = {
    "hot": (Monitor("1" * 32, "available", "below", 49_900_000), Monitor("2" * 32, "pending", "at_most", -100_000)),
    "shop": (Monitor("3" * 32, "posted", "at_least", 100_000), Monitor("4" * 32, "posted", "above", 400_000)),
    "credit": (Monitor("5" * 32, "available", "below", -100_000),),
    "eu-shop": (Monitor("6" * 32, "posted", "above", 0),),
}
LISTED: Final = synthetic_entries(40)
LIST_FETCHED_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
UNLISTED: Final = ("Ulrika Denholm", "Pavel Orlov", "Amara Okafor")
PARTIES: Final = (*(("approved", "clear"),) * 6, ("denied", "clear"), ("pending_review", "clear"),
                  ("approved", "true_match"), ("approved", "possible_match"))  # fmt: skip
"""States of parties as they come and go: KYC and screening."""
APPROVED_SECONDS: Final = (None, 5, 60)
"""For how long identities are approved."""
# What globex promotes in turn, each under a version of its own: windows and conditions, then risk, then limits alone.
_WHEN_LARGE: Final = {"all": [{"field": "amount", "op": ">=", "value": 170_000},
                              {"not": {"field": "kind", "op": "==", "value": "book_transfer"}}]}  # fmt: skip
_WHEN_ODD: Final = {"field": "metadata.sandbox_scenario", "op": "starts_with", "value": "contra"}
_WHEN_FAST: Final = {"any": [{"field": "velocity.minute.count", "op": ">", "value": 1},
                             {"field": "velocity.month.minor", "op": ">", "value": 9_000_000}]}  # fmt: skip
_WINDOWS: Final = {
    "minute": Window(by="account", rolling_seconds=60, buckets=6, limits={"NGN": WindowLimits(count_max=3)}),
    "payees": Window(by="counterparty", rolling_seconds=900, buckets=7, limits={
        "*": WindowLimits(minor_max=600_000, outcome="review")}),
    "month": Window(by="tenant", calendar="month"),
}  # fmt: skip
GLOBEX: Final = (
    PolicyRules(
        version=1, limits={"*": Limits(daily_count_max=60)}, scopes=("default",), windows=_WINDOWS,
        time_zone="Africa/Lagos", lists={"payees": ("shop",), "never": ("poor",)},
        rules=(
            Rule("large", _WHEN_LARGE, "review", "large_amount"),
            Rule("fast", _WHEN_FAST, "review", "too_fast", lane="fraud_desk"),
            Rule("blocked", {"field": "source.id", "op": "in", "list": "never"}, "deny", "account_denied"),
            Rule("known", {"field": "destination.id", "op": "in", "list": "payees"}, "allow", waives=("large",)),
        ),
    ),
    PolicyRules(
        version=2, windows={"minute": _WINDOWS["minute"]}, risk=Risk(review_min=45, deny_min=95, velocity_full=4),
        rules=(
            Rule("odd", _WHEN_ODD, "review", "odd_scenario"),
            Rule("night", {"field": "hour", "op": "<", "value": 6}, "review", "at_night"),
            Rule("safe", {"field": "destination.type", "op": "==", "value": "merchant"}, "allow", waives=("risk",)),
        ),
    ),
    PolicyRules(version=3, limits={"*": Limits(daily_count_max=40)}, scopes=("default",)),
)  # fmt: skip
_SYSTEM: Final = ("settlement", "liquidity", "fee", "suspense")
MEMBERS: Final = {
    "ops": Member("operator"), "amara": Member("operator"), "bisi": Member("admin"), "dele": Member("developer"),
    "eze": Member("operator"),
}  # fmt: skip
_NGN: Final = FeeMatch(currencies=(CURRENCY,))
_RAILS: Final = FeeMatch(kinds=("transfer", "payment"), currencies=(CURRENCY,))
_TIERS: Final = (FeeTier(1_000, "200"), FeeTier(50_000, "75.5", 3), FeeTier(None, "25"))


def fees() -> dict[str, FeeSchedule]:
    """Return what tenants charge: every model, every payer, all that can become of a fee; the last one charges none."""
    acme = (
        FeeRule(name="transfer", model="percentage", rate_bps="150", min_minor=20, max_minor=2_500, applies=_RAILS),
        FeeRule(name="vat", model="percentage", rate_bps="750", of=("transfer",), on_reversal="full"),
        FeeRule(name="desk", model="flat", flat_minor=15, charged="on_submission", applies=_RAILS),
        FeeRule(name="book", model="flat", flat_minor=5, on_reversal="keep",
                applies=FeeMatch(kinds=("book_transfer",), currencies=(CURRENCY,))),
    )  # fmt: skip
    globex = (
        FeeRule(name="discount", model="graduated", tiers=_TIERS, payer="payee", applies=_NGN),
        FeeRule(name="shared", model="volume", tiers=_TIERS, payer="split", payee_share_bps=3_333, rounding="up",
                on_reversal="full", applies=_NGN, group="one"),
        FeeRule(name="never", model="flat", flat_minor=1, applies=_NGN, group="one"),
        FeeRule(name="stamp", model="flat", flat_minor=50, charged="on_submission", on_failure="keep",
                applies=FeeMatch(currencies=(CURRENCY,), corridors=("any",), minor_min=10_000)),
    )  # fmt: skip
    return {"acme": FeeSchedule(acme, 1), "globex": FeeSchedule(globex, 1)}


def configuration() -> Configuration:
    """Return what is set up when a run begins."""
    rails = {
        name: RailSettings(
            name=name, kind="sandbox", secret=SECRET, idempotent_references=idempotent, not_found_lies_seconds=lies,
            poll_after_seconds=2, poll_interval_max_seconds=60, deadline_seconds=300, health_window_seconds=60,
            health_calls_min=3, bad_percent_max=34, slow_seconds=1, open_seconds=6, probes_max=2,
        )
        for name, idempotent, lies in (
            ("alpha", True, 0.0), ("beta", False, 0.0), ("gamma", True, 20.0), ("delta", True, 0.0),
        )
    }  # fmt: skip
    limits = Limits(transaction_minor_max=400_000, daily_minor_max=3_000_000, review_minor_min=150_000)
    rules = {
        "acme": PolicyRules(version=1, limits={CURRENCY: limits}),
        "globex": GLOBEX[0],
    }
    rules["initech"] = PolicyRules(
        version=1, compliance=Compliance(kyc_required=True, screen="counterparties", list_max_age_hours=720)
    )
    wanted = {
        "acme": (
            ("all", ("*",), EndpointTerms(disable_after_seconds=400)),
            ("money", ("ledger.*",), EndpointTerms(concurrency=2)),
        ),
        "globex": (
            ("posted", ("ledger.posted", "webhook.*"), EndpointTerms(mode="thin")),
            ("ordered", ("ledger.*",), EndpointTerms(fifo=True, schedule=(0, 5, 60, 300))),
        ),
    }
    endpoints = {
        tenant: tuple(
            Endpoint(tenant, name, f"https://{name}.{tenant}.test/in", events, (b"k" * 32,), terms)
            for name, events, terms in rows
        )
        for tenant, rows in wanted.items()
    }
    wants = ReviewRules(due_seconds=40, expires_seconds=3_000, approvals={CURRENCY: Approvals(minor_min=200_000)})
    lists = {"listed": NameList(ListInfo("listed", 1, digest_of_list(LISTED), LIST_FETCHED_AT, len(LISTED)), LISTED)}
    return Configuration(
        version=1, policies=rules, corridors=corridors(), endpoints=endpoints, rails=rails, reviews={"acme": wants},
        members={"acme": dict(MEMBERS), "globex": dict(MEMBERS)}, fees=fees(), lists=lists,
        evidence_keys=(SigningKey(FIRST_KEY, timestamp(START)),),
        rates={tenant: rates(tenant, 1, START) for tenant in ("acme", "globex")},
    )  # fmt: skip


def corridors() -> dict[str, tuple[Corridor, ...]]:
    """Return where money can go when a run begins: by lot, by price, in order; with rails that take only some of it."""
    alpha, beta, gamma = RailRoute("alpha", 1, 3, 10, 25), RailRoute("beta", 1, 1, 40), RailRoute("gamma", 2)
    some, delta = structs.replace(gamma, priority=1, minor_max=300_000), RailRoute("delta", 1, 2, 5)

    def corridor(tenant: str, name: str, kind: str, *routes: RailRoute, **rest: Any) -> Corridor:
        rails = tuple(route.rail for route in routes)
        return Corridor(tenant, name, CURRENCY, kind, rails, routes=routes, version=1, **rest)

    return {
        "acme": (
            corridor("acme", "any", "transfer", alpha, beta, gamma, wait_seconds=60),
            corridor("acme", "small", "payment", delta, gamma, minor_max=100_000, wait_seconds=5),
        ),
        "globex": (
            corridor("globex", "any", "transfer", beta, alpha, prefer="cost"),
            corridor("globex", "pay", "payment", delta, structs.replace(beta, priority=2), wait_seconds=0),
        ),
        "initech": (corridor("initech", "any", "transfer", delta, some, structs.replace(alpha, priority=2)),),
    }


def rates(tenant: str, version: int, as_of: datetime) -> tuple[FxRate, ...]:
    """Return the rates of a tenant in one version: a fee one way, a wide spread the other, which is soon too old."""
    shift = version % 7
    return (
        FxRate(tenant, CURRENCY, "USD", f"0.00065{shift}", 50, 100, as_of, 3 * 3600, "desk", version),
        FxRate(tenant, "USD", CURRENCY, f"1530.2{shift}", 125, 0, as_of, 60, "desk", version),
    )


def profiles() -> dict[str, RailProfile]:
    """Return how each rail behaves where an intent does not say otherwise."""
    timings = Timings(soon_seconds=0.3, echo_seconds=0.6, last_seconds=2.5, late_seconds=8)
    return {
        "alpha": RailProfile(SECRET, timings=timings),
        "beta": RailProfile(SECRET, idempotent=False, timings=timings),
        "gamma": RailProfile(SECRET, not_found_seconds=15, timings=timings),
        "delta": RailProfile(SECRET, timings=timings),
    }


def open_books(store: StoreTwin) -> None:
    """Open every account and bring money into those that shall have some."""
    number = 0
    for tenant in TENANTS:
        rows = [("hot", "customer"), *((f"cold-{n}", "customer") for n in range(COLD_ACCOUNTS)), ("poor", "customer")]
        rows += [("shop", "merchant"), ("out", "payout"), ("spare", "merchant"), ("credit", "customer")]
        rows += [("settlement-ngn", "settlement"), ("liquidity-ngn", "liquidity"), ("closed", "customer")]
        rows += [("fee-ngn", "fee"), ("suspense-ngn", "suspense"), ("idle", "payout")]
        rows += [("dollars", "customer"), ("liquidity-usd", "liquidity"), ("fee-usd", "fee")]
        rows += [("eu-hot", "customer"), ("eu-shop", "merchant"), *((f"eu:{kind}-ngn", kind) for kind in _SYSTEM)]
        refs = {}
        for name, type_ in rows:
            number += 1
            known = tenant == "initech" and type_ not in _SYSTEM and name not in ("shop", "spare")
            refs[name] = store.open_account(
                AccountRef(
                    number, tenant, name, type_, "USD" if name in _DOLLARS else CURRENCY, "credit",
                    type_ not in _SYSTEM,
                    overdraft_limit=200_000 if name == "credit" else 0, status="closed" if name == "closed" else "open",
                    book="eu" if name.startswith("eu") else "default", monitors=MONITORS.get(name, ()),
                    party=PartyRef(f"p-{name}", "approved", "clear") if known else None,
                )
            )  # fmt: skip
        for name in ("hot", *(f"cold-{n}" for n in range(COLD_ACCOUNTS)), "spare"):
            store.book(refs["liquidity-ngn"], refs[name], OPENING_MINOR * (10 if name == "hot" else 1))
        store.book(refs["liquidity-ngn"], refs["poor"], 1_000)
        store.book(refs["liquidity-usd"], refs["dollars"], 300_000)
        store.book(refs["eu:liquidity-ngn"], refs["eu-hot"], OPENING_MINOR)
        for digits, name in NUMBERS.items():
            store.numbers[tenant, "virtual", digits] = name
