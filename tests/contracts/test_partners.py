"""Each bank's adapter against its simulated bank: every story, over real HTTP, and what only one dialect can show."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import NamedTuple

import pytest

from zentra.gateway.listening import Receive, Scope, Send, answer, listening, read_body
from zentra.gateway.outward.rail_gtbank import GtbankRail
from zentra.gateway.outward.rail_kinds import rail_kind
from zentra.gateway.partners.gtbank import GtbankBank
from zentra.gateway.partners.partner import Partner, PartnerProfile
from zentra.gateway.partners.server import PartnerServer
from zentra.gateway.sandbox.crew import Errand
from zentra.gateway.sandbox.scenarios import Timings
from zentra.runtime.rails.port import (
    CallbackRejected,
    OutcomeStatus,
    Rail,
    RailOutcome,
    RailSettings,
    Submission,
    Verdict,
)

S = OutcomeStatus
TIMINGS = Timings(soon_seconds=0.02, echo_seconds=0.04, last_seconds=0.06, late_seconds=0.4, hang_seconds=20.0)
TRUST = {"providus": "shared_secret", "gtbank": "body_signed"}


class Door:
    """Takes callbacks as the gateway does: verified, and answered in the partner's words."""

    def __init__(self) -> None:
        self.rail: Rail | None = None
        self.verdicts: list[Verdict] = []  # for the next callbacks, whatever they say; then they are judged
        self.told: asyncio.Queue[RailOutcome] = asyncio.Queue()
        self._known: set[str | None] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await read_body(receive, 65536)
        assert raw is not None
        assert self.rail is not None
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        outcome = self.rail.verify_callback(raw, headers, time.time())
        if self.verdicts:
            verdict = self.verdicts.pop(0)
        else:
            verdict = Verdict.DUPLICATE if outcome.event_id in self._known else Verdict.TAKEN
            self._known.add(outcome.event_id)
        self.told.put_nowait(outcome)
        ack = self.rail.ack(verdict)
        assert ack is not None
        await answer(send, ack.status, ack.body)


class Stage(NamedTuple):
    kind: str
    rail: Rail
    bank: Partner
    door: Door
    server: PartnerServer
    ended: asyncio.Queue[Errand]  # the callbacks that the bank is done with, whatever came of them

    async def submit(self, scenario: str | None = None, reference: str = "ref-1", minor: int = 125_050) -> RailOutcome:
        return await self.rail.submit(
            Submission("acme", self.kind, reference, minor, "NGN", "0123456789", scenario=scenario)
        )

    async def callbacks(self, count: int) -> list[RailOutcome]:
        told = [await self.door.told.get() for _ in range(count)]
        assert self.door.told.empty()
        return told

    def end(self) -> None:
        """Let every payment come to its end by now."""
        for payment in self.bank.book:
            payment.ends_at = min(payment.ends_at, time.time())


def settings(kind: str, url: str = "", door: str = "", **changes: object) -> RailSettings:
    values: dict[str, object] = {
        "base_url": f"{url}/partners/{kind}",
        "secret": "hook-secret" if kind == "gtbank" else "client-secret",
        "secrets": {"client_secret": "client-secret"} if kind == "gtbank" else {},
        "options": {"client_id": "zentra", "simulator": "true"},
        "callback_url": f"{door}/callbacks",
        "submit_timeout_seconds": 0.5,
    }
    return RailSettings(kind, kind, **{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(params=["providus", "gtbank"])
async def stage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    kind, door = request.param, Door()
    profile = PartnerProfile(kind, "zentra", "client-secret", "hook-secret", timings=TIMINGS)
    server = PartnerServer({kind: profile})
    plan, ended = server.crew.plan, asyncio.Queue[Errand]()

    def planned(errand: Errand) -> None:
        plan(errand)
        if errand.position:
            ended.put_nowait(errand)

    monkeypatch.setattr(server.crew, "plan", planned)

    async def street(scope: Scope, receive: Receive, send: Send) -> None:
        await (door if scope.get("path") == "/callbacks" else server)(scope, receive, send)

    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(listening(street))
        rail = rail_kind(kind).make(settings(kind, url, url), None, None)
        stack.push_async_callback(rail.aclose)
        door.rail = rail
        yield Stage(kind, rail, server.partners[kind], door, server, ended)


# fmt: off
STORIES = [
    # scenario                submit           callbacks: status, minor above the order's                  poll
    (None,                    S.PENDING,       [(S.SUCCEEDED, 0)],                                  S.SUCCEEDED),
    ("decline",               S.PENDING,       [(S.DECLINED, 0)],                                   S.DECLINED),
    ("timeout_then_success",  S.UNKNOWN,       [(S.SUCCEEDED, 0)],                                  S.SUCCEEDED),
    ("late_success",          S.PENDING,       [(S.SUCCEEDED, 0)],                                  S.SUCCEEDED),
    ("never_answers",         S.UNKNOWN,       [],                                                  S.PENDING),
    ("silent",                S.PENDING,       [],                                                  S.PENDING),
    ("duplicate_callback",    S.PENDING,       [(S.SUCCEEDED, 0), (S.SUCCEEDED, 0), (S.SUCCEEDED, 0)],    S.SUCCEEDED),
    ("out_of_order",          S.PENDING,       [(S.SUCCEEDED, 0), (S.PENDING, 0)],                  S.SUCCEEDED),
    ("contradictory_amount",  S.PENDING,       [(S.SUCCEEDED, 1)],                                  S.SUCCEEDED),
    ("contradictory_status",  S.PENDING,       [(S.SUCCEEDED, 0), (S.DECLINED, 0)],                 S.SUCCEEDED),
    ("unknown_reference",     S.PENDING,       [(S.SUCCEEDED, 0), (S.SUCCEEDED, 0)],                S.SUCCEEDED),
    ("error_after_taking",    S.UNKNOWN,       [(S.SUCCEEDED, 0)],                                  S.SUCCEEDED),
]
# fmt: on


async def test_each_scenario_answers_calls_back_and_is_polled_as_its_table_says(stage: Stage) -> None:
    answered = await asyncio.gather(*(stage.submit(row[0], f"ref-{place:02}") for place, row in enumerate(STORIES)))
    callbacks = await stage.callbacks(sum(len(told) for _, _, told, _ in STORIES))
    assert {one.trust for one in callbacks} == {TRUST[stage.kind]}
    stage.end()
    for place, (scenario, submitted, told, polled) in enumerate(STORIES):
        reference, seen = f"ref-{place:02}", answered[place]
        assert (scenario, seen.status, seen.trust) == (scenario, submitted, "direct")
        heard = [(one.status, (one.minor or 0) - 125_050) for one in callbacks if one.reference.endswith(reference)]
        assert (scenario, heard) == (scenario, told)
        found = await stage.rail.poll(reference)
        assert (scenario, found.status, found.trust) == (scenario, polled, "polled")
        assert (found.minor, found.currency) == (125_050, "NGN")
    (stranger,) = [one.reference for one in callbacks if one.reference.startswith("stranger-")]
    assert (await stage.rail.poll(stranger)).status is S.NOT_FOUND


async def test_a_refusal_before_anything_was_taken_allows_another_rail(stage: Stage) -> None:
    assert (await stage.submit("reject")).status is S.NOT_ACCEPTED
    stage.bank.book.available = False
    assert (await stage.submit("success", "ref-2")).status is S.NOT_ACCEPTED
    assert (await stage.submit("no_such_story", "ref-3")).status is S.NOT_ACCEPTED
    assert [payment.order.reference for payment in stage.bank.book] == ["ref-1"]
    assert (await stage.rail.poll("ref-2")).status is S.NOT_FOUND


async def test_duplicates_share_an_event_id_and_a_new_event_does_not(stage: Stage) -> None:
    await stage.submit("duplicate_callback")
    first, second, third = await stage.callbacks(3)
    assert (first.event_id, first.raw_digest) == (second.event_id, second.raw_digest)
    assert third.event_id != first.event_id


@pytest.mark.parametrize(
    ("verdicts", "arrivals", "delivered", "given_up"),
    [
        ([Verdict.TRY_AGAIN, Verdict.TAKEN], 2, 1, 0),
        ([Verdict.DUPLICATE], 1, 1, 0),
        ([Verdict.REJECTED], 1, 0, 1),
    ],
)
async def test_the_bank_understands_what_it_is_told_of_its_callback(
    stage: Stage, verdicts: list[Verdict], arrivals: int, delivered: int, given_up: int
) -> None:
    stage.door.verdicts = list(verdicts)
    await stage.submit()
    told = [await stage.door.told.get() for _ in range(arrivals)]
    await stage.ended.get()
    crew = stage.server.crew
    assert (crew.delivered[stage.kind], crew.given_up[stage.kind]) == (delivered, given_up)
    assert stage.door.told.empty()
    assert len({one.event_id for one in told}) == 1


async def test_a_reference_submitted_again_is_one_payment_only_where_the_adapter_says_so(stage: Stage) -> None:
    await stage.submit("silent")
    assert (await stage.submit("silent")).status is S.PENDING
    (payment,) = stage.bank.book
    assert (payment.payouts == 1) is rail_kind(stage.kind).declaration.idempotent_references


async def test_another_body_under_a_reference_is_unknown(stage: Stage) -> None:
    await stage.submit("silent")
    assert (await stage.submit("silent", minor=1)).status is S.UNKNOWN
    assert (await stage.rail.poll("ref-1")).minor == 125_050


async def test_wrong_credentials_take_nothing(stage: Stage) -> None:
    changed = settings(stage.kind, options={"client_id": "somebody-else"})
    changed = RailSettings(
        changed.name, changed.kind, stage.rail.settings.base_url, changed.secret, secrets=changed.secrets,
        options=changed.options,
    )  # fmt: skip
    stranger = rail_kind(stage.kind).make(changed, None, None)
    refused = await stranger.submit(Submission("acme", stage.kind, "ref-1", 1, "NGN", "0123456789"))
    assert (refused.status, (await stranger.poll("ref-1")).status) == (S.NOT_ACCEPTED, S.UNKNOWN)
    assert len(stage.bank.book) == 0
    await stranger.aclose()


@pytest.mark.parametrize("stage", ["gtbank"], indirect=True)
async def test_one_token_serves_all_and_a_dead_one_is_renewed_once(stage: Stage) -> None:
    assert isinstance(stage.bank, GtbankBank)
    await asyncio.gather(*(stage.submit("silent", f"ref-{number}") for number in range(8)))
    assert (stage.bank.tokens_granted, len(stage.bank.book)) == (1, 8)
    assert (await stage.submit("token_expired", "ref-9")).status is S.PENDING
    assert stage.bank.tokens_granted == 2
    stage.bank.expire_tokens()
    polled = await asyncio.gather(*(stage.rail.poll(f"ref-{number}") for number in range(8)))
    assert ({one.status for one in polled}, stage.bank.tokens_granted) == ({S.PENDING}, 3)


@pytest.mark.parametrize("stage", ["gtbank"], indirect=True)
async def test_a_token_that_is_refused_again_is_no_outcome_and_no_loop(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(stage.bank, GtbankBank)
    monkeypatch.setattr(stage.bank, "tokens", _Forgetful())
    assert (await stage.submit()).status is S.NOT_ACCEPTED
    assert stage.bank.tokens_granted == 2
    assert (await stage.rail.poll("ref-1")).status is S.UNKNOWN
    assert len(stage.bank.book) == 0


class _Forgetful(dict[str, float]):
    """Tokens that are good nowhere."""

    def get(self, key: str, default: float = 0.0) -> float:  # type: ignore[override]
        return 0.0


@pytest.mark.parametrize("stage", ["gtbank"], indirect=True)
async def test_a_token_is_renewed_before_it_runs_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(GtbankRail, "clock", staticmethod(lambda: now))
    assert isinstance(stage.bank, GtbankBank)
    for at, granted in ((1000.0, 1), (1269.0, 1), (1270.0, 2), (1271.0, 2)):
        now = at
        await stage.submit("silent", f"ref-{at}")
        assert stage.bank.tokens_granted == granted


@pytest.mark.parametrize("stage", ["gtbank"], indirect=True)
async def test_a_signature_binds_every_byte(stage: Stage) -> None:
    raw, headers = await _callback_of(stage)
    assert stage.rail.verify_callback(raw, headers, 0.0).status is S.SUCCEEDED
    for place in range(len(raw)):
        with pytest.raises(CallbackRejected, match="signature_invalid"):
            stage.rail.verify_callback(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :], headers, 0.0)


@pytest.mark.parametrize("stage", ["providus"], indirect=True)
async def test_a_secret_that_binds_no_body_is_trusted_no_further_than_that(stage: Stage) -> None:
    raw, headers = await _callback_of(stage)
    forged = stage.rail.verify_callback(raw.replace(b"1250.50", b"9250.50"), headers, 0.0)
    assert (forged.minor, forged.trust) == (925_050, "shared_secret")
    with pytest.raises(CallbackRejected, match="signature_invalid"):
        stage.rail.verify_callback(raw, {"x-auth-signature": "0" * 128}, 0.0)


async def _callback_of(stage: Stage) -> tuple[bytes, Mapping[str, str]]:
    await stage.submit()
    await stage.callbacks(1)
    (payment,) = stage.bank.book
    return stage.bank.callback(Errand(stage.bank.book, payment, stage.bank.book.notices(payment), 0, 0))
