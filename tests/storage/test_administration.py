"""Setting things up twice is setting them up once; what cannot be is refused with the way out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import msgspec
import pytest

from zentra.runtime.errors import Refusal
from zentra.runtime.idempotency import StoredKey
from zentra.runtime.intents.command import digest_of
from zentra.runtime.limits import Per, Quota, RouteClass
from zentra.runtime.policy import Limits, PolicyRules
from zentra.runtime.rails.port import Backoff, RailSettings
from zentra.runtime.rails.routing import Corridor
from zentra.storage.administration import Administration
from zentra.storage.intake.accounts import open_book
from zentra.storage.intake.commands import KeyedAnswer
from zentra.storage.intake.configuration import NewAccount, NewEndpoint, create_account, create_endpoint
from zentra.storage.intake.endpoints import delete_endpoint
from zentra.storage.policies import POLICIES
from zentra.storage.pool import Pool

LIMITS = {"NGN": Limits(review_minor_min=5)}
CORRIDOR = Corridor("acme", "ngn", "NGN", "payment", ("sandbox",))


@pytest.fixture
async def administration(admin_pool: Pool) -> Administration:
    made = Administration(admin_pool)
    await made.create_tenant("acme", "Acme")
    await made.create_principal("acme", "ada", name="Ada", role="developer")
    await made.put_rail(RailSettings("sandbox", "sandbox"))
    return made


async def test_the_same_again_changes_nothing(administration: Administration) -> None:
    assert not await administration.create_tenant("acme", "Acme")
    assert not await administration.create_principal("acme", "ada", name="Ada", role="developer")
    assert not await administration.put_rail(RailSettings("sandbox", "sandbox"))
    await administration.put_corridor(CORRIDOR)
    assert not await administration.put_corridor(CORRIDOR)
    assert await administration.put_corridor(msgspec.structs.replace(CORRIDOR, minor_max=10))
    assert await administration.corridors("acme") == [msgspec.structs.replace(CORRIDOR, minor_max=10)]
    assert [one.id for one in await administration.tenants()] == ["acme"]
    assert [one.id for one in await administration.principals("acme")] == ["ada"]
    assert await administration.rails() == [RailSettings("sandbox", "sandbox")]


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (lambda a: a.create_tenant("Acme", ""), "tenant_malformed"),
        (lambda a: a.create_tenant("acme", "Other"), "tenant_exists"),
        (lambda a: a.create_principal("acme", "Ada!", name="", role="developer"), "principal_malformed"),
        (lambda a: a.create_principal("acme", "eve", name="", role="king"), "role_unknown"),
        (lambda a: a.create_principal("nobody", "eve", name="", role="developer"), "tenant_unknown"),
        (lambda a: a.create_principal("acme", "ada", name="Ada", role="operator"), "principal_exists"),
        (lambda a: a.create_tenant("acme", "Acme", mode="live"), "tenant_exists"),
        (lambda a: a.disable_principal("acme", "eve"), "principal_unknown"),
        (lambda a: a.create_api_key("acme", "eve"), "principal_unknown"),
        (lambda a: a.create_api_key("acme", "ada", scopes=["intents:write"]), "scope_unknown"),
        (lambda a: a.create_api_key("acme", "ada", scopes=[]), "scope_unknown"),
        (lambda a: a.create_api_key("acme", "ada", networks=["192.0.2.1/24"]), "network_malformed"),
        (lambda a: a.create_api_key("acme", "ada", name="x" * 101), "key_malformed"),
        (lambda a: a.rotate_api_key("acme", "0" * 12, overlap=timedelta()), "api_key_unknown"),
        (lambda a: a.rotate_api_key("acme", "0" * 12, overlap=timedelta(days=31)), "overlap_malformed"),
        (lambda a: a.put_certificate("acme", "eve", "spiffe://acme/x"), "principal_unknown"),
        (lambda a: a.put_certificate("acme", "ada", ""), "identity_malformed"),
        (lambda a: a.put_certificate("acme", "ada", "spiffe://acme/x", scopes=["root"]), "scope_unknown"),
        (lambda a: a.revoke_certificate("acme", "spiffe://nobody"), "identity_unknown"),
        (lambda a: a.put_rate_limit("acme", RouteClass.READ, Per.KEY, Quota(0, 60)), "limit_malformed"),
        (lambda a: a.put_rate_limit("nobody", RouteClass.READ, Per.KEY, Quota(1, 60)), "tenant_unknown"),
        (lambda a: a.put_rail(RailSettings("sandbox", "sandbox", mode="live")), "rail_mode_fixed"),
        (lambda a: a.revoke_api_key("acme", "0" * 12), "api_key_unknown"),
        (lambda a: a.put_rail(RailSettings("Sand Box", "sandbox")), "rail_malformed"),
        (lambda a: a.put_rail(RailSettings("sandbox", "sandbox", deadline_seconds=1e13)), "rail_malformed"),
        (lambda a: a.put_rail(RailSettings("sandbox", "sandbox", poll_after_seconds=float("nan"))), "rail_malformed"),
        (lambda a: a.put_rail(RailSettings("sandbox", "sandbox", concurrency_max=0)), "rail_malformed"),
        (lambda a: a.put_rail(RailSettings("sandbox", "sandbox", polling={"asleep": Backoff()})), "rail_malformed"),
        (lambda a: a.put_rail(RailSettings("sandbox", "sandbox", callback_networks=("here",))), "rail_malformed"),
        (lambda a: a.put_corridor(msgspec.structs.replace(CORRIDOR, name="N G")), "corridor_malformed"),
        (lambda a: a.put_corridor(msgspec.structs.replace(CORRIDOR, currency="NGX")), "currency_unknown"),
        (lambda a: a.put_corridor(msgspec.structs.replace(CORRIDOR, kind="gift")), "kind_unknown"),
        (lambda a: a.put_corridor(msgspec.structs.replace(CORRIDOR, minor_min=5, minor_max=4)), "band_empty"),
        (lambda a: a.put_corridor(msgspec.structs.replace(CORRIDOR, rails=())), "rails_missing"),
        (lambda a: a.put_corridor(msgspec.structs.replace(CORRIDOR, rails=("x",))), "rail_unknown"),
        (lambda a: a.put_corridor(msgspec.structs.replace(CORRIDOR, tenant="nobody")), "tenant_unknown"),
        (lambda a: a.put_policy("nobody", PolicyRules(), created_by="root"), "tenant_unknown"),
    ],
)
async def test_what_cannot_be_is_refused(
    administration: Administration, attempt: Callable[[Administration], Awaitable[object]], reason: str
) -> None:
    with pytest.raises(Refusal) as refused:
        await attempt(administration)
    assert refused.value.reason == reason
    assert refused.value.detail


async def test_rules_get_a_version_only_when_they_change(administration: Administration) -> None:
    rules = PolicyRules(limits=LIMITS)
    first = await administration.put_policy("acme", rules, created_by="root")
    assert await administration.put_policy("acme", rules, created_by="root") == first
    assert await administration.put_policy("acme", PolicyRules(), created_by="root") == first + 1
    assert [one.version for one in await administration.policies("acme")] == [first, first + 1]


async def test_the_history_says_when_a_policy_was_replaced(administration: Administration, tenant_pool: Pool) -> None:
    first = await administration.put_policy("acme", PolicyRules(), created_by="root")
    second = await administration.put_policy("acme", PolicyRules(limits=LIMITS), created_by="grace")
    told = [(one.version, one.action, one.principal) for one in await POLICIES.events(tenant_pool, "acme")]
    assert told[:3] == [(second, "installed", "grace"), (first, "retired", "grace"), (first, "installed", "root")]


async def test_system_accounts_come_once_with_the_first_account_of_a_book_and_currency(
    administration: Administration, admin_pool: Pool, tenant_pool: Pool
) -> None:
    assert await open_book(tenant_pool, _keyed("b", "book/eu", 1), "eu", "Europe", "ada") is None
    for number, book in enumerate(("default", "default", "eu", "eu")):
        account = NewAccount(
            account_id=f"sys-{number}", owner="o", type="customer", currency="EUR", created_by="ada", book=book
        )
        assert await create_account(tenant_pool, _keyed(f"sys-{number}", "x", number), account) is None
    rows = await admin_pool.fetch(
        "select book, account_id, type, normal_side, guarded, owner, stripe"
        " from accounts a join balances b on b.account = a.id"
        " where currency = 'EUR' and type <> 'customer' order by book, type"
    )
    kinds = ["fee", "liquidity", "settlement", "suspense"]
    assert [tuple(row) for row in rows] == [
        (book, f"{before}{kind}-eur", kind, "credit", False, "system", 0)
        for book, before in (("default", ""), ("eu", "eu:"))
        for kind in kinds
    ]


async def test_a_book_whose_system_accounts_cannot_be_named_is_not_begun(
    administration: Administration, tenant_pool: Pool
) -> None:
    taken = NewAccount(account_id="us:fee-usd", owner="o", type="customer", currency="GBP", created_by="ada")
    assert await create_account(tenant_pool, _keyed("taken", "x", 1), taken) is None
    assert await open_book(tenant_pool, _keyed("us", "book/us", 1), "us", "America", "ada") is None
    for account_id, book, reason in (("u-1", "us", "account_exists"), ("u-2", "nowhere", "book_not_found")):
        wanted = NewAccount(
            account_id=account_id, owner="o", type="customer", currency="USD", created_by="ada", book=book
        )
        with pytest.raises(Refusal, match=reason):
            await create_account(tenant_pool, _keyed(account_id, "x", 1), wanted)


def _keyed(key: str, subject: str, body: object) -> KeyedAnswer:
    return KeyedAnswer(
        tenant="acme", key=key, digest=digest_of("x", {"body": str(body)}), subject=subject, status=201,
        answer=b"{}", request_id="req_1",
    )  # fmt: skip


async def test_a_tenant_opens_an_account_once_per_key(administration: Administration, tenant_pool: Pool) -> None:
    account = NewAccount(account_id="c-1", owner="cust-1", type="customer", currency="NGN", created_by="ada")
    keyed = _keyed("open-1", "account/c-1", account)
    assert await create_account(tenant_pool, keyed, account) is None
    again = await create_account(tenant_pool, keyed, account)
    assert isinstance(again, StoredKey)
    assert (again.subject, again.answer, again.digest) == ("account/c-1", b"{}", keyed.digest)
    with pytest.raises(Refusal, match="account_exists"):
        await create_account(tenant_pool, _keyed("open-2", "account/c-1", account), account)
    other = msgspec.structs.replace(account, account_id="c-2")
    assert await create_account(tenant_pool, _keyed("open-2", "account/c-2", other), other) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"type": "settlement"}, "account_type_unknown"),
        ({"currency": "ngn"}, "currency_unknown"),
        ({"overdraft_limit": -1}, "overdraft_limit_negative"),
    ],
)
async def test_a_tenant_opens_no_account_of_its_own_making(
    administration: Administration, tenant_pool: Pool, change: dict[str, object], reason: str
) -> None:
    account = NewAccount(account_id="c-9", owner="cust-1", type="customer", currency="NGN", created_by="ada")
    with pytest.raises(Refusal, match=reason):
        await create_account(tenant_pool, _keyed("k", "account/c-9", 1), msgspec.structs.replace(account, **change))


async def test_a_tenant_sets_up_an_endpoint_once(administration: Administration, tenant_pool: Pool) -> None:
    endpoint = NewEndpoint(id="we_1", url="https://example.com", events=("*",), secret=b"sealed", created_by="ada")
    keyed = _keyed("hook", "endpoint/we_1", endpoint)
    assert await create_endpoint(tenant_pool, keyed, endpoint, endpoints_max=1) is None
    assert await create_endpoint(tenant_pool, keyed, endpoint, endpoints_max=1) is not None
    with pytest.raises(Refusal, match="endpoint_exists"):
        await create_endpoint(tenant_pool, _keyed("hook-2", "endpoint/we_1", endpoint), endpoint, endpoints_max=2)


async def test_a_tenant_has_so_many_endpoints_and_no_more_however_many_are_set_up_at_once(
    administration: Administration, tenant_pool: Pool
) -> None:
    def one(number: int) -> NewEndpoint:
        return NewEndpoint(id=f"we_{number}", url="https://example.com", events=("*",), secret=b"s", created_by="ada")

    def keyed(number: int) -> KeyedAnswer:
        return msgspec.structs.replace(_keyed(f"many-{number}", f"endpoint/we_{number}", one(number)), tenant="crowd")

    async def set_up(number: int) -> StoredKey | None:
        return await create_endpoint(tenant_pool, keyed(number), one(number), endpoints_max=5)

    await administration.create_tenant("crowd", "Crowd")
    await administration.create_principal("crowd", "ada", name="Ada", role="developer")

    answers = await asyncio.gather(*(set_up(number) for number in range(20)), return_exceptions=True)
    refused = [answer for answer in answers if answer is not None]
    assert len(refused) == 15
    assert {getattr(answer, "reason", answer) for answer in refused} == {"endpoints_too_many"}
    assert "5 may be" in str(refused[0])
    assert "ZENTRA_ENDPOINTS_MAX" in str(refused[0])

    taken = next(number for number, answer in enumerate(answers) if answer is None)
    assert await set_up(taken) is not None  # what a key has done stands
    with pytest.raises(Refusal, match="endpoints_too_many"):
        await set_up(20)
    assert await delete_endpoint(tenant_pool, "crowd", f"we_{taken}")  # one that is deleted has no place
    assert await set_up(20) is None
    with pytest.raises(Refusal, match="endpoints_too_many"):
        await set_up(21)
