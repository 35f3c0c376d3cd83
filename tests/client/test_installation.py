"""Both clients against a whole installation: from the request to the packet that a verifier accepts."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.architecture import ROOT
from zentra.client.api import (
    AsyncZentra,
    Code,
    ConflictError,
    IdempotencyMismatchError,
    Intent,
    NatsZentra,
    NewIntent,
    NotFoundError,
    PermissionDeniedError,
    Status,
    UnprocessableEntityError,
    Zentra,
)
from zentra.client.blocking.transport import Pages
from zentra.client.models import Delivery
from zentra.gateway.installation.installation import Installation
from zentra.runtime.evidence.heads import load_public_key
from zentra.runtime.evidence.packet import verify_packet
from zentra.runtime.webhooks.standard import generate_secret

pytestmark = pytest.mark.service
BOOK: dict[str, Any] = {"currency": "NGN", "source": "customer-2", "destination": "merchant-1"}
SEALED_RETRIES_MAX = 20  # each is at least as far from the last as Retry-After asks


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """Servers, a gateway and a worker; the inline rail answers at once."""
    with Installation(sandbox=False) as running:
        yield running


@pytest.fixture
def api(installation: Installation) -> Iterator[Zentra]:
    """The developer of acme."""
    key = installation.keys["acme"]["dev"]
    with Zentra(key, installation.base_url, max_retries=SEALED_RETRIES_MAX) as opened:
        yield opened


@pytest.fixture
def ops(installation: Installation) -> Iterator[Zentra]:
    """The operator of acme."""
    with Zentra(installation.keys["acme"]["ops"], installation.base_url) as opened:
        yield opened


def pay(api: Zentra, key: str, amount: int = 125_000) -> Intent:
    """Pay a merchant from customer-1."""
    return api.runtime.intents.create(
        amount=amount, currency="NGN", source="customer-1", destination="merchant-1", metadata={"order": "7"},
        idempotency_key=key, wait=20,
    )  # fmt: skip


def test_an_intent_is_made_once_reversed_and_evidenced(api: Zentra, installation: Installation) -> None:
    key = f"order-{uuid.uuid4()}"
    made = pay(api, key)
    assert (made.status, made.amount, made.metadata) == (Status.SUCCESSFUL, 125_000, {"order": "7"})
    assert pay(api, key).id == made.id
    with pytest.raises(IdempotencyMismatchError) as reused:
        pay(api, key, amount=1)
    assert reused.value.code == "idempotency_key_reused"

    packet = api.runtime.intents.evidence(made.intent_id)
    verdict = verify_packet(packet, load_public_key(installation.public_key_path.read_bytes()))
    assert verdict.ok, verdict

    command = api.runtime.intents.reverse(made.intent_id, reason="sent back")
    assert (command.done, command.intent) == (True, made.id)
    seen = api.runtime.intents.wait(made.intent_id, timeout=20)
    assert seen.status == Status.REVERSED
    assert seen.ledger_state is not None
    assert seen.ledger_state.reversed == 125_000
    assert seen.event_stream[0].event == "ingress.accepted"
    assert seen.stages[0].reached
    with pytest.raises(ConflictError) as late:
        api.runtime.intents.cancel(made.id)
    assert late.value.code == "not_cancellable"


def test_an_account_shows_every_entry_whatever_the_page(api: Zentra) -> None:
    name = f"shop-{uuid.uuid4().hex}"
    opened = api.accounts.create(account_id=name, owner="a shop", type="merchant", currency="NGN")
    assert (opened.account_id, opened.posted) == (name, None)
    for amount in (1, 2, 3):
        api.runtime.intents.create(
            kind="book_transfer", amount=amount, currency="NGN", source="customer-2", destination=name, wait=20
        )
    assert api.accounts.get(name).available == 6
    assert [entry.posted for entry in api.accounts.entries(name, page_size=2)] == [3, 2, 1]


def test_refusals_are_told_apart(api: Zentra) -> None:
    with pytest.raises(NotFoundError) as unknown:
        api.runtime.intents.get("nobody-has-this")
    assert unknown.value.request_id
    with pytest.raises(UnprocessableEntityError) as wrong:
        api.runtime.intents.create(amount=-1, currency="naira", source="customer-1", destination="merchant-1")
    assert {error.pointer for error in wrong.value.errors} == {"/amount", "/currency"}


async def test_the_asynchronous_client_does_the_same(installation: Installation) -> None:
    key = installation.keys["acme"]["dev"]
    async with AsyncZentra(key, installation.base_url) as api:
        made = await api.runtime.intents.create(
            amount=500, currency="NGN", source="customer-1", destination="merchant-1"
        )
        assert (await api.runtime.intents.wait(made.intent_id, timeout=20)).status == Status.SUCCESSFUL
        assert made.id in [entry.intent async for entry in api.accounts.entries("merchant-1", page_size=1)]


def test_many_intents_are_made_in_one_request_and_found_in_the_list(api: Zentra) -> None:
    wanted = [NewIntent(kind="book_transfer", amount=n, **BOOK) for n in (1, 2)]
    wrong = NewIntent(amount=0, **BOOK)
    for replayed in (False, True):
        results = api.runtime.intents.create_many([*wanted, wrong])
        assert [result.replayed for result in results] == [replayed, replayed, False]
        error = results[2].error
        assert isinstance(error, UnprocessableEntityError)
        assert [field.pointer for field in error.errors] == ["/2/amount"]
    ids = [result.unwrap().id for result in results[:2]]
    for id in ids:
        assert api.runtime.intents.wait(id, timeout=20).settled
    found = api.runtime.intents.list(kind="book_transfer", state="SUCCESSFUL", amount_max=2, page_size=1)
    assert set(ids) <= {intent.id for intent in found}


def test_a_payment_is_made_and_its_events_are_heard_from_the_beginning(api: Zentra) -> None:
    made = api.payments.create(amount=700, currency="NGN", source="customer-1", destination="merchant-1", wait=20)
    seen = api.runtime.intents.get(made.id)
    assert (seen.kind, seen.status) == ("payment", Status.SUCCESSFUL)
    with api.runtime.intents.events(made.id) as stream:
        heard = [next(stream) for _ in seen.event_stream]
    assert [event.record.sequence for event in heard] == [event.sequence for event in seen.event_stream]
    assert heard[0].record.facts["command"]["currency"] == "NGN"
    with api.runtime.intents.events(made.id, last_id=heard[-2].id) as stream:
        assert next(stream).id == heard[-1].id


def test_people_decide_and_see_what_was_decided(api: Zentra, ops: Zentra) -> None:
    made = api.transfers.create(
        amount=10_000_000, currency="NGN", source="customer-1", destination="merchant-1", wait=20
    )
    assert api.runtime.intents.get(made.id).status == Status.REVIEW
    [review] = [one for one in ops.reviews.list(status="open") if one.intent_id == made.intent_id]
    with pytest.raises(PermissionDeniedError):
        api.reviews.approve(review.id, reason="mine", request_hash=review.request_hash)
    done = ops.reviews.reject(review.id, reason="too much")
    assert (done.done, done.verdict, done.review) == (True, "rejected", review.id)
    assert ops.runtime.commands.get(done.command).accepted is True
    decided = ops.reviews.get(review.id)
    assert (decided.status, decided.reason) == ("rejected", "too much")
    with pytest.raises(ConflictError) as late:
        ops.reviews.approve(review.id, reason="no, do", request_hash=review.request_hash)
    assert late.value.code == Code.REVIEW_ALREADY_DECIDED
    assert list(ops.cases.list(intent_id=made.intent_id)) == []


def test_an_endpoint_has_a_secret_once_and_its_deliveries_can_be_sent_again(installation: Installation) -> None:
    keys = installation.keys["globex"]  # what is not delivered holds up the packets of its tenant
    with Zentra(keys["dev"], installation.base_url) as api, Zentra(keys["ops"], installation.base_url) as ops:
        endpoint_is_served(api, ops)


def endpoint_is_served(api: Zentra, ops: Zentra) -> None:
    url = f"http://127.0.0.1:9/{uuid.uuid4().hex}"  # nobody listens: deliveries stay to be seen
    endpoint = api.webhooks.endpoints.create(url=url, events=["ledger.posted"])
    assert (endpoint.secret or "").startswith("whsec_")
    assert [one.secret for one in api.webhooks.endpoints.list() if one.id == endpoint.id] == [None]
    made = pay(api, uuid.uuid4().hex)
    deliveries = api.webhooks.deliveries.list(endpoint=endpoint.id, intent=made.intent_id)
    delivery = first_of(deliveries)
    assert (delivery.event, delivery.payload["data"]["intent_id"]) == ("ledger.posted", made.intent_id)
    replayed = ops.with_raw_response(ops.webhooks.deliveries.replay, delivery.id, wait=0)
    assert (replayed.value.kind, replayed.value.delivery) == ("replay_delivery", delivery.id)
    assert replayed.request_id


def first_of(pages: Pages[Delivery]) -> Delivery:
    """Return the first delivery as soon as there is one; the test's own timeout is the bound."""
    while not (data := pages.page().data):
        pass
    return data[0]


def test_evidence_is_waited_for_and_verified_offline(api: Zentra, installation: Installation) -> None:
    made = pay(api, uuid.uuid4().hex)
    packet = api.evidence.wait(made.id, timeout=50)
    pem = installation.public_key_path.read_bytes()
    verdict = api.evidence.verify(packet, pem)
    assert (verdict.ok, verdict.intent_id, verdict.tenant) == (True, made.intent_id, "acme")
    tampered = packet.replace(b"125000", b"125001")
    assert api.evidence.verify(tampered, pem).integrity is False


def test_denials_are_seen_by_whoever_may(api: Zentra, ops: Zentra) -> None:
    raw = ops.with_raw_response(ops.denials.list(page_size=1).page)
    assert raw.status == 200
    with pytest.raises(PermissionDeniedError):
        api.denials.list().page()


def test_the_api_explains_itself(api: Zentra) -> None:
    assert api.meta.version().schema == "2026.04"
    assert api.meta.error(Code.INSUFFICIENT_FUNDS).status == 422


async def test_intents_are_made_over_nats(installation: Installation) -> None:
    async with NatsZentra(installation.nats_url("acme")) as api:
        key = uuid.uuid4().hex
        made = await api.runtime.intents.create(**BOOK, kind="book_transfer", amount=9, idempotency_key=key)
        again = await api.runtime.intents.create(**BOOK, kind="book_transfer", amount=9, idempotency_key=key)
        assert made == again
        with pytest.raises(IdempotencyMismatchError):
            await api.runtime.intents.create(**BOOK, amount=8, idempotency_key=key)
        with pytest.raises(UnprocessableEntityError) as wrong:
            await api.runtime.intents.create(**BOOK, amount=0)
        assert [error.pointer for error in wrong.value.errors] == ["/amount"]
        good, bad = await api.runtime.intents.create_many([NewIntent(amount=7, **BOOK), NewIntent(amount=0, **BOOK)])
        assert good.unwrap().amount == 7
        assert bad.error is not None


async def test_the_feed_tells_what_happens(installation: Installation) -> None:
    made: set[str] = set()
    async with NatsZentra(installation.nats_url("acme")) as api:
        heard = api.runtime.events.listen("ledger.posted")
        listening = asyncio.create_task(anext(heard))
        while not listening.done():  # the feed begins about a second after somebody listens
            made.add((await api.runtime.intents.create(**BOOK, kind="book_transfer", amount=9)).id)
            await asyncio.wait([listening], timeout=0.2)
        record = await listening
        assert record.event == "ledger.posted"
        assert record.intent in made
        await heard.aclose()


def test_the_program_of_the_manual_runs(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENTRA_API_KEY", installation.keys["acme"]["dev"])
    monkeypatch.setenv("ZENTRA_BASE_URL", installation.base_url)
    monkeypatch.setenv("ZENTRA_PUBLIC_KEY", str(installation.public_key_path))
    monkeypatch.setenv("ZENTRA_NATS_URL", installation.nats_url("acme"))
    page = (ROOT / "docs" / "sdk.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "manual"}
    for number, snippet in enumerate(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL), 1):
        exec(compile(snippet, f"docs/sdk.md, snippet {number}", "exec"), names)
    said = capsys.readouterr().out
    assert "SUCCESSFUL 250000" in said
    assert "'/amount': 'amount_zero'" in said
    assert "done done" in said
    assert names["receive"](b"{}", {}, generate_secret(b"s" * 32)) == 401
