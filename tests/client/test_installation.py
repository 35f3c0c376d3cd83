"""Both clients against a whole installation: from the request to the packet that a verifier accepts."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.architecture import ROOT
from zentra.client.api import AsyncZentra, NotFoundError, Status, UnprocessableEntityError, Zentra
from zentra.client.errors import ConflictError, IdempotencyMismatchError
from zentra.client.models import Intent
from zentra.gateway.installation.installation import Installation
from zentra.runtime.evidence.heads import load_public_key
from zentra.runtime.evidence.packet import verify_packet
from zentra.runtime.webhooks.standard import generate_secret

pytestmark = pytest.mark.service
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


def test_the_program_of_the_manual_runs(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENTRA_API_KEY", installation.keys["acme"]["dev"])
    monkeypatch.setenv("ZENTRA_BASE_URL", installation.base_url)
    page = (ROOT / "docs" / "sdk.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "manual"}
    for number, snippet in enumerate(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL), 1):
        exec(compile(snippet, f"docs/sdk.md, snippet {number}", "exec"), names)
    said = capsys.readouterr().out
    assert "SUCCESSFUL 250000" in said
    assert "'/amount': 'amount_zero'" in said
    assert "done done" in said
    assert names["receive"](b"{}", {}, generate_secret(b"s" * 32)) == 401
