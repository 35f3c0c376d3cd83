"""What a fresh installation on one machine comes with: two tenants, their people, accounts, money, rails and rules.

- Configuration is made by the same functions as `zentra … create`; accounts and money come through the public doors.
- Doing it again changes nothing: every request has a fixed idempotency key and every funding a fixed intent_id.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from zentra.gateway.outward.rail_secrets import RailSecrets, put_rail
from zentra.runtime.policy import Limits, PolicyRules
from zentra.runtime.rails.port import RailSettings
from zentra.runtime.rails.routing import Corridor
from zentra.storage.administration import Administration

__all__ = ["CURRENCY", "PRINCIPALS", "TENANTS", "Keys", "SeedFailed", "SeedPlan", "seed_books", "seed_configuration"]

TENANTS: Final = {"acme": "Acme", "globex": "Globex"}
PRINCIPALS: Final = {"dev": ("Developer", "developer"), "ops": ("Operator", "operator")}
CURRENCY: Final = "NGN"
ACCOUNTS: Final = {"customer-1": "customer", "customer-2": "customer", "merchant-1": "merchant", "payout-1": "payout"}
FUNDED_MINOR: Final = 1_000_000_000
POLICY: Final = PolicyRules(
    limits={
        CURRENCY: Limits(
            transaction_minor_max=50_000_000, daily_minor_max=200_000_000, review_minor_min=10_000_000
        )
    }
)  # fmt: skip
CORRIDOR_KINDS: Final = ("transfer", "payment")
BANK_CORRIDOR: Final = "ng-banks"
BANK_COUNTRY: Final = "NG"
ANSWER_SECONDS_MAX: Final = 30  # the first commit of a cold worker; anything longer is a fault

Keys = dict[str, dict[str, str]]
"""By tenant and principal: the text of an API key."""


class SeedFailed(Exception):
    """Raised when a public door did not do what seeding asked of it; the sentence quotes its answer."""


class SeedPlan(Struct, frozen=True):
    """What differs between installations: their rails, and which of them the corridors use, the first choice first."""

    rails: Sequence[RailSettings]
    corridor_rails: Sequence[str]
    bank_rails: Sequence[str] = ()  # of the transfers that name the country of these banks


async def seed_configuration(
    administration: Administration, plan: SeedPlan, known: Mapping[str, Any], secrets: RailSecrets
) -> Keys:
    """Set up tenants, principals, rails, corridors and rules; return every key, those `known` and those made now.

    What somebody has changed since it was seeded stays as it is: only rails, whose addresses may differ from start to
    start, are put as planned. Raises Refusal and Unavailable as the store does."""
    keys: Keys = {tenant: dict(known.get(tenant, {})) for tenant in TENANTS}
    for rail in plan.rails:
        await put_rail(administration, rail, secrets, moved=True)
    present = {tenant.id for tenant in await administration.tenants()}
    for tenant, name in TENANTS.items():
        if tenant not in present:
            await administration.create_tenant(tenant, name)
        people = {principal.id for principal in await administration.principals(tenant)}
        for principal, (title, role) in PRINCIPALS.items():
            if principal not in people:
                await administration.create_principal(tenant, principal, name=title, role=role)
            if principal not in keys[tenant]:
                keys[tenant][principal] = (await administration.create_api_key(tenant, principal)).text
        corridors = {corridor.name for corridor in await administration.corridors(tenant)}
        for kind in CORRIDOR_KINDS:
            name = f"ng-{kind}"
            if name not in corridors:
                await administration.put_corridor(Corridor(tenant, name, CURRENCY, kind, tuple(plan.corridor_rails)))
        if plan.bank_rails and BANK_CORRIDOR not in corridors:
            banks = Corridor(tenant, BANK_CORRIDOR, CURRENCY, "transfer", tuple(plan.bank_rails), country=BANK_COUNTRY)
            await administration.put_corridor(banks)
        if not await administration.policies(tenant):
            await administration.put_policy(tenant, POLICY, created_by="ops")
    return keys


def seed_books(base_url: str, keys: Keys) -> None:
    """Open each tenant's accounts as `dev` and fund its customers as `ops`, over HTTP.

    Raises SeedFailed where the gateway refuses, and OSError where it does not answer."""
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=ANSWER_SECONDS_MAX + 5)
    try:
        for tenant in TENANTS:
            _open_accounts(connection, tenant, keys[tenant]["dev"])
            _fund_customers(connection, tenant, keys[tenant]["ops"])
    finally:
        connection.close()


def _open_accounts(connection: http.client.HTTPConnection, tenant: str, key: str) -> None:
    for account, kind in ACCOUNTS.items():
        body = {"account_id": account, "owner": f"{tenant}-{account}", "type": kind, "currency": CURRENCY}
        status, answer = _ask(connection, "POST", "/accounts", key, f"seed-account-{account}", body)
        # The key may have been forgotten by now, the account never is.
        if status not in (200, 201) and answer.get("code") != "account_exists":
            raise SeedFailed(f"account {account} of {tenant} was refused: {status} {json.dumps(answer)}")


def _fund_customers(connection: http.client.HTTPConnection, tenant: str, key: str) -> None:
    for account in (account for account, kind in ACCOUNTS.items() if kind == "customer"):
        body = {
            "kind": "book_transfer",
            "intent_id": f"seed-funding-{account}",
            "amount": FUNDED_MINOR,
            "currency": CURRENCY,
            "source": f"liquidity-{CURRENCY.lower()}",
            "destination": account,
        }
        status, answer = _ask(connection, "POST", "/runtime/intents", key, f"seed-funding-{account}", body)
        if status in (200, 202) and answer.get("status") != "SUCCESSFUL":
            # A replay gives the first answer again, which may have been that of a start that was broken off.
            status, answer = _ask(connection, "GET", f"/runtime/intents/{body['intent_id']}", key)
        if answer.get("status") != "SUCCESSFUL":
            raise SeedFailed(f"funding {account} of {tenant} did not succeed: {status} {json.dumps(answer)[:2000]}")


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, key: str, idempotency_key: str = "",
    body: object = None,
) -> tuple[int, dict[str, Any]]:  # fmt: skip
    headers = {"authorization": f"Bearer {key}", "prefer": f"wait={ANSWER_SECONDS_MAX}"}
    if body is not None:
        headers |= {"content-type": "application/json", "x-idempotency-key": idempotency_key}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    answer = json.loads(response.read())
    return response.status, answer if isinstance(answer, dict) else {"answer": answer}
