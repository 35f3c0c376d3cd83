"""Lists and parties in the real store: versions, screening in batches, and what a change of a party sets off."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from zentra.gateway.screening import ScreeningService
from zentra.runtime.compliance.diligence import Compliance
from zentra.runtime.compliance.lists import ListEntry, NameList
from zentra.runtime.compliance.states import Kyc, PartyRef, Screening
from zentra.runtime.errors import Refusal
from zentra.runtime.instruments import Silence
from zentra.runtime.policy import PolicyRules
from zentra.runtime.ports import Configuration
from zentra.storage.administration import Administration
from zentra.storage.engine.store import PostgresStore
from zentra.storage.intake.commands import KeyedAnswer
from zentra.storage.intake.configuration import NewAccount, create_account
from zentra.storage.intake.parties import (
    KycDecision,
    MatchWord,
    NewParty,
    amend_party,
    create_party,
    decide_kyc,
    rescreen_party,
    resolve_match,
)
from zentra.storage.pool import Pool
from zentra.storage.reads import parties as reads
from zentra.storage.reads.decisions import accounts_named
from zentra.storage.screening import (
    ListShelf,
    activate_list,
    cleared_pairs,
    expire_identities,
    list_versions,
    parties_due,
    screen_batch,
    screened_tenants,
    stage_list,
)

pytestmark = pytest.mark.service

NOW = datetime(2026, 4, 1, tzinfo=UTC)
HERON = ListEntry("heron", "person", ("Jorunn Voransky", "Йорунн Воранский"))
CRANE = ListEntry("crane", "person", ("Kasimir Thalmond",))
RULES = Compliance(kyc_required=True, screen="all", threshold=850)


class World:
    """A tenant that screens everybody, and what is done in it."""

    def __init__(self, admin: Pool, writer: Pool, tenant: Pool, name: str) -> None:
        self.admin, self.writer, self.pool, self.name = admin, writer, tenant, name
        self.list = f"list-{name}"
        self.rules = Compliance(kyc_required=True, screen="all", threshold=850, lists=(self.list,))

    def keyed(self) -> KeyedAnswer:
        return KeyedAnswer(
            tenant=self.name, key=uuid.uuid4().hex, digest=b"d", subject="s", status=200, answer=b"{}", request_id="r"
        )

    async def party(self, legal_name: str, mode: str = "test", **more: Any) -> str:
        party = f"p-{uuid.uuid4().hex[:8]}"
        made = NewParty(party_id=party, kind="person", legal_name=legal_name, created_by="dev", **more)
        await create_party(self.pool, self.keyed(), made, mode)
        return party

    async def account(self, party: str | None) -> str:
        account = f"a-{uuid.uuid4().hex[:8]}"
        new = NewAccount(account_id=account, owner="o", type="customer", currency="NGN", created_by="dev", party=party)
        await create_account(self.pool, self.keyed(), new)
        return account

    async def load(self, *entries: ListEntry, at: datetime = NOW) -> bool:
        version, new = await stage_list(self.admin, self.list, "ftm", "file", at, entries)
        if new:
            await activate_list(self.admin, self.list, version.version)
        return new

    async def lists(self) -> dict[str, NameList]:
        return await ListShelf(self.writer).active()

    async def screen(self) -> tuple[int, int]:
        cleared = (await cleared_pairs(self.writer)).get(self.name, frozenset())
        done = await screen_batch(self.writer, self.name, self.rules, await self.lists(), cleared)
        return done.looked_at, done.changed

    async def state(self, party: str) -> tuple[str, str]:
        seen = await reads.party(self.pool, self.name, party, names=True)
        assert seen is not None
        return seen.kyc_state, seen.screening_state

    async def resolve(self, case: str | None, word: Screening, reason: str, actor: str = "operator") -> None:
        assert case is not None
        given = MatchWord(case, uuid.uuid4().hex, actor, "operator", word, reason)
        await resolve_match(self.pool, self.keyed(), given)

    async def word(self, party: str, state: Kyc, actor: str, until: datetime | None = None) -> None:
        said = KycDecision(party_id=party, state=state, actor=actor, reason="seen", expires_at=until)
        await decide_kyc(self.pool, self.keyed(), said)

    async def case(self, party: str, status: str = "open") -> str | None:
        found: str | None = await self.admin.fetchval(
            "select id from zentra.cases where tenant = $1 and detail->>'party' = $2 and status = $3",
            self.name, party, status,
        )  # fmt: skip
        return found

    async def version(self) -> int:
        return int(await self.admin.fetchval("select version from zentra.configuration_version"))


@pytest.fixture
async def world(admin_pool: Pool, writer_pool: Pool, tenant_pool: Pool) -> World:
    world = World(admin_pool, writer_pool, tenant_pool, f"t{uuid.uuid4().hex[:10]}")
    administration = Administration(admin_pool)
    await administration.create_tenant(world.name, "T")
    for role in ("operator", "developer"):
        await administration.create_principal(world.name, role, name=role, role=role)
    await administration.put_policy(world.name, PolicyRules(compliance=world.rules), created_by="ops")
    return world


async def test_a_list_is_in_force_whole_and_the_same_again_is_only_younger(world: World) -> None:
    before = await world.version()
    version, new = await stage_list(world.admin, world.list, "ftm", "file", NOW, [HERON, CRANE])
    assert (version.version, version.entries, version.names, version.status, new) == (1, 2, 3, "staged", True)
    assert world.list not in await world.lists(), "what is staged is asked by nobody"
    await activate_list(world.admin, world.list, 1)
    assert await world.version() > before
    assert (await world.lists())[world.list].ask("voransky jorunn").score == 1000

    shelf = ListShelf(world.writer)
    first = (await shelf.active())[world.list]
    assert not await world.load(CRANE, HERON, at=NOW + timedelta(hours=5)), "their order is no difference"
    again = (await shelf.active())[world.list]
    assert (again.info.version, again.info.fetched_at) == (1, NOW + timedelta(hours=5))
    assert again._index is first._index, "nothing is put together anew"
    with pytest.raises(Refusal, match="fetched later"):
        await world.load(HERON, at=NOW)
    with pytest.raises(Refusal, match="no staged version"):
        await activate_list(world.admin, world.list, 1)


async def test_few_versions_are_kept(world: World) -> None:
    for number in range(5):
        await world.load(ListEntry(f"e{number}", "person", (f"Heron {number}",)), at=NOW + timedelta(hours=number))
    kept = [(one.version, one.status) for one in await list_versions(world.admin) if one.name == world.list]
    assert kept == [(5, "active"), (4, "retired"), (3, "retired")]


async def test_parties_are_screened_once_by_a_list_and_rules(world: World) -> None:
    alike, other = await world.party("VORANSKY, Jorunn"), await world.party("Ulrika Denholm")
    assert await world.screen() == (0, 0), "nobody is cleared by a list that is not there"
    await world.load(HERON)
    assert await parties_due(world.writer, world.name, world.rules, await world.lists()) == 2
    assert await world.screen() == (2, 2)
    assert [(await world.state(party))[1] for party in (alike, other)] == ["possible_match", "clear"]
    assert await world.screen() == (0, 0)
    case = await world.case(alike)
    assert case is not None
    assert await world.case(other) is None
    detail = await world.admin.fetchval("select detail::text || operator from zentra.cases where id = $1", case)
    assert "oransky" not in detail.lower(), "a case holds no name"
    assert detail.endswith("operator")

    await world.load(HERON, ListEntry("denholm", "person", ("Ulrika Denholm",)), at=NOW + timedelta(days=1))
    assert await world.screen() == (2, 1)
    assert (await world.state(other))[1] == "possible_match"
    await world.load(CRANE, at=NOW + timedelta(days=2))
    assert await world.screen() == (2, 2)
    assert [(await world.state(party))[1] for party in (alike, other)] == ["clear", "clear"]
    assert await world.case(alike) is None, "what nobody asks any more is closed"


async def test_a_cleared_pair_stays_cleared_until_name_or_entry_change(world: World) -> None:
    party = await world.party("Jorunn Voransky")
    await world.load(HERON)
    await world.screen()
    case = await world.case(party)
    assert case is not None
    with pytest.raises(Refusal, match="created or amended a party"):
        await world.resolve(case, Screening.FALSE_POSITIVE, "not her", "dev")
    await world.resolve(case, Screening.FALSE_POSITIVE, "not her", "operator")
    with pytest.raises(Refusal, match="resolved it already"):
        await world.resolve(case, Screening.TRUE_MATCH, "it is", "operator")
    assert (await world.state(party))[1] == "false_positive"
    assert await world.screen() == (1, 0)
    await world.load(HERON, CRANE, at=NOW + timedelta(days=1))
    assert await world.screen() == (1, 0)
    assert (await world.state(party))[1] == "false_positive"

    moved = ListEntry("heron", "person", HERON.names, ("XA",))
    await world.load(moved, CRANE, at=NOW + timedelta(days=2))
    await world.screen()
    assert (await world.state(party))[1] == "possible_match", "another state of the entry is another pair"
    second = await world.case(party)
    assert second not in (None, case)
    await world.resolve(str(second), Screening.FALSE_POSITIVE, "still not", "operator")
    await amend_party(world.pool, world.keyed(), party, "dev", "married", {"aliases": ("Jorunn Voranski",)})
    assert (await world.state(party))[1] == "not_screened"
    await world.screen()
    assert (await world.state(party))[1] == "possible_match", "another name is another pair"


async def test_a_true_match_is_ended_by_a_person_alone(world: World) -> None:
    party = await world.party("Jorunn Voransky")
    await world.load(HERON)
    await world.screen()
    await world.resolve(str(await world.case(party)), Screening.TRUE_MATCH, "her", "operator")
    await world.load(CRANE, at=NOW + timedelta(days=1))
    await world.screen()
    await amend_party(world.pool, world.keyed(), party, "dev", "typo", {"legal_name": "Somebody Else"})
    await world.screen()
    assert (await world.state(party))[1] == "true_match"
    with pytest.raises(Refusal, match="created or amended a party"):
        await rescreen_party(world.pool, world.keyed(), party, "dev", "let me")
    await rescreen_party(world.pool, world.keyed(), party, "operator", "the court said so")
    await world.screen()
    assert (await world.state(party))[1] == "clear"
    told = await reads.history(world.pool, world.name, party)
    assert told is not None
    assert [(one.what, one.before, one.after, one.actor) for one in reversed(told)] == [
        ("created", None, "not_started/not_screened", "dev"),
        ("screening", "not_screened", "possible_match", "svc_screening"),
        ("screening", "possible_match", "true_match", "operator"),
        ("amended", None, "legal_name", "dev"),
        ("screening", "true_match", "not_screened", "operator"),
        ("screening", "not_screened", "clear", "svc_screening"),
    ]
    assert not any(b"oransky" in bytes(one.detail) for one in told)


async def test_a_decision_on_an_identity_is_not_its_creators_and_follows_the_table(world: World) -> None:
    party = await world.party("Ulrika Denholm")

    async def decide(state: Kyc, actor: str = "operator", until: datetime | None = None) -> None:
        word = KycDecision(party_id=party, state=state, actor=actor, reason="seen", expires_at=until)
        await decide_kyc(world.pool, world.keyed(), word)

    with pytest.raises(Refusal, match="created or amended a party"):
        await decide(Kyc.APPROVED, "dev")
    await decide(Kyc.AWAITING_DOCUMENTS, "dev")
    with pytest.raises(Refusal, match="run out already"):
        await decide(Kyc.APPROVED, until=datetime.now(UTC) - timedelta(seconds=1))
    until = datetime.now(UTC) + timedelta(hours=1)
    await decide(Kyc.APPROVED, until=until)
    with pytest.raises(Refusal, match="does not become"):
        await decide(Kyc.AWAITING_DOCUMENTS)
    account = world.name, await world.account(party)
    ref = (await PostgresStore(world.writer).accounts([account]))[account].party
    assert ref == PartyRef(party, "approved", "not_screened", until)
    assert (await accounts_named(world.pool, world.name, [account[1]]))[account[1]].party == ref
    past = "update zentra.parties set kyc_expires_at = now() - interval '1 second' where tenant = $1"
    await world.admin.execute(past, world.name)
    over = (await accounts_named(world.pool, world.name, [account[1]]))[account[1]].party
    assert over is not None
    assert (over.kyc, (await world.state(party))[0]) == ("expired", "approved"), "over, though nobody has noted it"
    assert await expire_identities(world.writer) >= 1
    assert (await world.state(party))[0] == "expired"


@pytest.mark.parametrize(
    "changes",
    [
        {"legal_name": "Somebody Else"}, {"aliases": ("Somebody",)}, {"born": date(1961, 5, 3)}, {"countries": ("XA",)},
        {"identifiers": {"passport": "X1"}},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Kyc.APPROVED, "pending_review"), (Kyc.DENIED, "denied"), (Kyc.AWAITING_DOCUMENTS, "awaiting_documents"),
        (None, "not_started"),
    ],
)  # fmt: skip
async def test_who_is_said_to_be_another_person_is_approved_and_screened_anew(
    world: World, changes: dict[str, Any], before: Kyc | None, after: str
) -> None:
    party = await world.party("Ulrika Denholm")
    await world.load(HERON)
    await world.screen()
    if before is not None:
        await world.word(party, before, "operator", datetime.now(UTC) + timedelta(days=1))
    await amend_party(world.pool, world.keyed(), party, "dev", "told us", changes)
    assert await world.state(party) == (after, "not_screened")
    seen = await reads.party(world.pool, world.name, party, names=True)
    told = await reads.history(world.pool, world.name, party)
    assert seen is not None
    assert told is not None
    assert seen.kyc_expires_at is None
    assert msgspec.json.decode(told[0].detail) == {
        "fields": list(changes), "kyc": [before or "not_started", after], "screening": ["clear", "not_screened"],
    }  # fmt: skip
    await world.screen()
    assert (await world.state(party))[1] == "clear"


async def test_an_amended_party_of_the_sandbox_is_one_like_any_other(world: World) -> None:
    party = await world.party("Sandbox Approved")
    await amend_party(world.pool, world.keyed(), party, "dev", "told us", {"born": date(1961, 5, 3)})
    assert await world.state(party) == ("pending_review", "not_screened")
    await world.load(HERON)
    assert await world.screen() == (1, 1)


async def test_whoever_amended_a_party_neither_rescreens_it_nor_ends_its_case(world: World) -> None:
    party = await world.party("Jorunn Voransky")
    await world.load(HERON)
    await world.screen()
    await amend_party(world.pool, world.keyed(), party, "second", "seen", {"countries": ("XA",)})
    await world.screen()
    with pytest.raises(Refusal, match="created or amended a party"):
        await world.resolve(await world.case(party), Screening.FALSE_POSITIVE, "not her", "second")
    await world.resolve(await world.case(party), Screening.TRUE_MATCH, "her", "operator")
    await rescreen_party(world.pool, world.keyed(), party, "second", "a case was decided since")
    await world.screen()
    await world.resolve(await world.case(party), Screening.TRUE_MATCH, "still her", "operator")

    await amend_party(world.pool, world.keyed(), party, "second", "typo", {"legal_name": "Somebody Else"})
    with pytest.raises(Refusal, match="created or amended a party"):
        await rescreen_party(world.pool, world.keyed(), party, "second", "another name")
    await world.word(party, Kyc.PENDING_REVIEW, "operator")
    await world.word(party, Kyc.APPROVED, "operator")
    with pytest.raises(Refusal, match="created or amended a party"):
        await rescreen_party(world.pool, world.keyed(), party, "second", "its identity is another question")
    assert (await world.state(party))[1] == "true_match"
    await rescreen_party(world.pool, world.keyed(), party, "operator", "seen")
    await world.screen()
    assert (await world.state(party))[1] == "clear"


async def test_whoever_amended_a_party_since_the_last_decision_does_not_decide_on_its_identity(world: World) -> None:
    party = await world.party("Ulrika Denholm")
    await amend_party(world.pool, world.keyed(), party, "second", "typo", {"legal_name": "Ulrika Denholt"})
    for state in (Kyc.APPROVED, Kyc.DENIED):
        with pytest.raises(Refusal, match="created or amended a party"):
            await world.word(party, state, "second")
    await world.word(party, Kyc.DENIED, "operator")
    await world.word(party, Kyc.PENDING_REVIEW, "second")
    await world.word(party, Kyc.APPROVED, "second")
    await amend_party(world.pool, world.keyed(), party, "operator", "moved", {"countries": ("XA",)})
    with pytest.raises(Refusal, match="created or amended a party"):
        await world.word(party, Kyc.DENIED, "operator")
    await world.word(party, Kyc.DENIED, "second")
    await amend_party(world.pool, world.keyed(), party, "second", "moved", {"countries": ("XB",)})
    for actor in ("dev", "second"):
        with pytest.raises(Refusal, match="created or amended a party"):
            await world.word(party, Kyc.PENDING_REVIEW, actor)
    assert (await world.state(party))[0] == "denied", "that ends a denial, so it is a decision"


async def test_a_case_is_for_an_operator_who_neither_created_nor_amended_the_party(world: World) -> None:
    await Administration(world.admin).create_principal(world.name, "second", name="second", role="operator")
    party = await world.party("Jorunn Voransky")
    await amend_party(world.pool, world.keyed(), party, "operator", "seen", {"countries": ("XA",)})
    await world.load(HERON)
    await world.screen()
    case = await world.case(party)
    assert await world.admin.fetchval("select operator from zentra.cases where id = $1", case) == "second"


async def test_approvals_run_out_where_nobody_asks_for_compliance(world: World) -> None:
    party = await world.party("Ulrika Denholm")
    await world.word(party, Kyc.APPROVED, "operator", datetime.now(UTC) + timedelta(hours=1))
    past = "update zentra.parties set kyc_expires_at = now() - interval '1 second' where tenant = $1"
    await world.admin.execute(past, world.name)
    nothing = Configuration(version=1, policies={}, corridors={}, endpoints={}, rails={})
    for first, state in (([], "approved"), ([0], "expired")):
        service = ScreeningService(
            world.writer, ListShelf(world.writer), lambda: nothing, partial(bool, first), Silence()
        )
        assert await service.look() == 0
        assert (await world.state(party))[0] == state


async def test_accounts_bring_the_state_of_their_party_and_a_change_is_in_force_at_once(world: World) -> None:
    party = await world.party("Ulrika Denholm")
    with_party, without = await world.account(party), await world.account(None)
    with pytest.raises(Refusal, match="no party"):
        await world.account("nobody")
    store = PostgresStore(world.writer)
    names = [(world.name, with_party), (world.name, without), (world.name, "@settlement/NGN")]
    found = await store.accounts(names)
    assert [found[name].party for name in names] == [PartyRef(party, "not_started", "not_screened"), None, None]

    before = await world.version()
    unnamed = await world.party("Somebody Else")
    await decide_kyc(
        world.pool, world.keyed(), KycDecision(party_id=unnamed, state=Kyc.DENIED, actor="operator", reason="x")
    )
    assert await world.version() == before, "no account names it"
    await decide_kyc(
        world.pool, world.keyed(), KycDecision(party_id=party, state=Kyc.APPROVED, actor="operator", reason="x")
    )
    assert await world.version() == before + 1
    ref = (await store.accounts(names))[names[0]].party
    assert ref == PartyRef(party, "approved", "not_screened")


async def test_the_configuration_holds_lists_where_rules_ask_for_them(world: World) -> None:
    await world.load(HERON)
    store = PostgresStore(world.writer)
    configuration = await store.configuration()
    assert world.list in configuration.lists
    assert configuration.policies[world.name].compliance == world.rules
    assert (await screened_tenants(world.writer)).rules[world.name] == world.rules
    party = await world.party("Jorunn Voransky")
    await world.screen()
    before = await world.version()
    await world.resolve(str(await world.case(party)), Screening.FALSE_POSITIVE, "x", "operator")
    assert await world.version() > before
    cleared = (await store.configuration()).cleared[world.name]
    assert [(pair[1], pair[2]) for pair in cleared] == [(world.list, HERON.digest)]


@pytest.mark.parametrize(
    ("name", "mode", "states"),
    [
        ("Sandbox Denied", "test", ("denied", "clear")),
        ("  sandbox   TRUE match ", "test", ("approved", "true_match")),
        ("Sandbox Possible Match", "test", ("approved", "possible_match")),
        ("Sandbox Denied", "live", ("not_started", "not_screened")),
        ("Sandbox Denied Too", "test", ("not_started", "not_screened")),
    ],
)
async def test_a_sandbox_name_forces_states_in_test_tenants_alone(
    world: World, name: str, mode: str, states: tuple[str, str]
) -> None:
    party = await world.party(name, mode)
    assert await world.state(party) == states
    assert (await world.case(party) is not None) is (states[1] == "possible_match")
    if states[1] != "not_screened":
        await world.load(CRANE)
        await world.screen()
        assert await world.state(party) == states, "no list is asked about it"


async def test_rules_that_cannot_be_kept_are_refused(world: World) -> None:
    for wrong in (Compliance(screen="some"), Compliance(threshold=599), Compliance(list_max_age_hours=0)):
        with pytest.raises(Refusal, match="compliance_malformed"):
            await Administration(world.admin).put_policy(world.name, PolicyRules(compliance=wrong), created_by="ops")


async def test_parties_are_screened_by_the_rules_in_force_and_a_broken_document_is_its_tenants_alone(
    world: World, admin_pool: Pool
) -> None:
    insert = (
        "insert into zentra.policies (tenant, version, rules, created_by, state) values ($1, $2, $3, 'ops', 'draft')"
    )
    await admin_pool.execute(insert, world.name, 2, '{"compliance": {"screen": "off"}}')
    await admin_pool.execute(insert, world.name, 3, '{"compliance": {"screen": "whatever", "nothing": 1}}')
    asked = await screened_tenants(world.writer)
    assert asked.rules[world.name] == world.rules, "a draft is in force for nobody"
    assert world.name not in asked.unusable

    other = f"t{uuid.uuid4().hex[:10]}"
    await Administration(admin_pool).create_tenant(other, "T")
    await admin_pool.execute("update zentra.policies set state = 'retired' where tenant = $1", other)
    broken = insert.replace("'draft'", "'active'")
    await admin_pool.execute(broken, other, 9, '{"compliance": {"screen": "all", "nothing": 1}}')
    asked = await screened_tenants(world.writer)
    assert asked.rules[world.name] == world.rules
    assert other not in asked.rules
    assert "/compliance/nothing" in asked.unusable[other]


async def test_another_tenant_sees_nobody(world: World, admin_pool: Pool) -> None:
    party = await world.party("Ulrika Denholm")
    assert await reads.party(world.pool, "globex", party, names=True) is None
    assert await reads.history(world.pool, "globex", party) is None
    assert (await reads.parties(world.pool, "globex", {}, after=None, limit=10, names=True)).rows == []
    hidden = await reads.party(world.pool, world.name, party, names=False)
    assert hidden is not None
    assert (hidden.legal_name, hidden.aliases, hidden.identifiers, hidden.born) == (None, None, None, None)
