"""Lists over HTTP: filters that are checked, cursors that fit one list of one tenant, and links that lead on."""

from __future__ import annotations

import base64
import uuid
from typing import Any
from urllib.parse import quote

import pytest

from tests.gateway.asgi import Answer
from tests.gateway.http.conftest import Api, intent_body
from zentra.gateway.description.doors import DOORS
from zentra.gateway.http.lists import Cursors, time
from zentra.gateway.http.problems import Problem
from zentra.storage.reads.lists import IntentPlace

INTENTS = "/runtime/intents"


@pytest.fixture
async def scope(api: Api) -> str:
    """The account that only the intents of this test name: five of them, in order."""
    account = f"c-{uuid.uuid4().hex}"
    for number in range(5):
        body = intent_body(source=account, amount=100 + number, kind=("transfer", "payment")[number % 2])
        assert (await api.post(INTENTS, body)).status == 202
    return account


async def everything(api: Api, target: str) -> list[Any]:
    """Follow the links to the end; body and link lead to the same place."""
    rows: list[Any] = []
    while True:
        answer = await api.get(target)
        assert answer.status == 200, answer.body
        rows += answer.json["data"]
        if not answer.json["has_more"]:
            assert (answer.json["next_cursor"], "link" in answer.headers) == (None, False)
            return rows
        target, _, relation = answer.headers["link"].removeprefix("<").partition(">")
        assert relation == '; rel="next"'
        assert quote(answer.json["next_cursor"]) in target


@pytest.mark.parametrize(
    ("query", "amounts"),
    [
        ("", [104, 103, 102, 101, 100]), ("&kind=payment", [103, 101]), ("&state=ACCEPTED", [104, 103, 102, 101, 100]),
        ("&state=SUCCESSFUL", []), ("&amount_min=102&amount_max=103", [103, 102]), ("&currency=USD", []),
        ("&created_from=2020-01-01T00:00:00Z", [104, 103, 102, 101, 100]),
        ("&created_before=2020-01-01T01:00:00%2B01:00", []),
    ],
)  # fmt: skip
@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_links_lead_through_a_list_of_intents(
    api: Api, scope: str, limit: int, query: str, amounts: list[int]
) -> None:
    rows = await everything(api, f"{INTENTS}?account={scope}&limit={limit}{query}")
    assert [row["amount"] for row in rows] == amounts
    for row in rows:
        shown = (await api.get(row["links"]["self"])).json
        assert {name: shown[name] for name in row if name != "links"} == {n: row[n] for n in row if n != "links"}


async def test_intents_of_others_are_in_no_list(api: Api, scope: str) -> None:
    assert await everything(api.as_("admin", "globex"), f"{INTENTS}?account={scope}") == []
    [made] = await everything(api, f"{INTENTS}?account={scope}&amount_max=100")
    assert await everything(api.as_("admin", "globex"), f"{INTENTS}?intent_id={made['intent_id']}") == []
    assert await everything(api, f"{INTENTS}?intent_id={made['intent_id']}") == [made]


async def test_accounts_are_listed_with_balances(api: Api) -> None:
    owner = f"owner {uuid.uuid4().hex}"
    for number in range(3):
        body = {"account_id": f"a-{uuid.uuid4().hex}", "owner": owner, "type": "customer", "currency": "NGN"}
        assert (await api.post("/accounts", {**body, "currency": ("NGN", "USD")[number % 2]})).status == 201
    rows = await everything(api, f"/accounts?owner={quote(owner)}&limit=1")
    assert [row["currency"] for row in rows] == ["NGN", "USD", "NGN"]
    for row in rows:
        assert row == (await api.get(row["links"]["self"])).json
    assert len(await everything(api, f"/accounts?owner={quote(owner)}&currency=USD")) == 1


async def test_denials_are_listed_by_what_was_refused(api: Api) -> None:
    await api.as_("support", "globex").post("/accounts", {})
    auditor = api.as_("auditor", "globex")
    while not (rows := await everything(auditor, "/denials?actor=support&action=POST%20/accounts&limit=1")):
        pass
    assert {(row["actor"], row["reason"]) for row in rows} == {("support", "permission_denied")}


# What is asked for, and the violations by parameter.
@pytest.mark.parametrize(
    ("target", "errors"),
    [
        (f"{INTENTS}?limit=0&state=DONE&kind=gift&currency=ngn&account=a%20b&amount_min=-1&amount_max=1.5&offset=5",
         {"limit": "limit_malformed", "state": "status_unknown", "kind": "kind_unknown", "currency": "currency_unknown",
          "account": "id_malformed", "amount_min": "amount_negative", "amount_max": "amount_invalid",
          "offset": "parameter_unknown"}),
        (f"{INTENTS}?created_from=yesterday&created_before=2026-01-01",
         {"created_from": "time_malformed", "created_before": "time_malformed"}),
        (f"{INTENTS}?created_from=2026-01-01T00:00:00", {"created_from": "time_malformed"}),
        ("/accounts?status=lost&type=vault", {"status": "status_unknown", "type": "account_type_unknown"}),
        ("/accounts/x/entries?side=left&kind=gift", {"side": "side_unknown", "kind": "kind_unknown"}),
        ("/reviews?status=x", {"status": "status_unknown"}), ("/cases?status=approved", {"status": "status_unknown"}),
        ("/webhooks/deliveries?status=lost&event=none", {"status": "status_unknown", "event": "event_unknown"}),
        ("/denials?limit=101", {"limit": "limit_malformed"}),
    ],
)  # fmt: skip
async def test_every_wrong_parameter_is_named(api: Api, target: str, errors: dict[str, str]) -> None:
    answer = await api.as_("admin").get(target)
    assert answer.code == "query_malformed"
    assert {error["pointer"].removeprefix("/"): error["code"] for error in answer.json["errors"]} == errors


async def cursor_of(api: Api, scope: str) -> str:
    answer = await api.get(f"{INTENTS}?account={scope}&limit=2")
    cursor = answer.json["next_cursor"]
    assert isinstance(cursor, str)
    assert (await ask(api, f"{INTENTS}?account={scope}", cursor)).status == 200
    return cursor


async def ask(api: Api, target: str, cursor: str) -> Answer:
    return await api.get(f"{target}{'&' if '?' in target else '?'}cursor={quote(cursor)}")


async def test_a_cursor_fits_its_list_its_filters_and_its_tenant_alone(api: Api, scope: str) -> None:
    cursor = await cursor_of(api, scope)
    everywhere = [
        (api, INTENTS), (api, f"{INTENTS}?account={scope}&kind=transfer"), (api, f"{INTENTS}?account=other"),
        (api, "/accounts"), (api, "/reviews"), (api, "/cases"), (api, "/webhooks/deliveries"),
        (api.as_("admin"), "/denials"), (api.as_("admin", "globex"), f"{INTENTS}?account={scope}"),
    ]  # fmt: skip
    for somebody, target in everywhere:
        answer = await ask(somebody, target, cursor)
        assert (answer.status, answer.code) == (400, "cursor_malformed"), target
    other = await ask(api, f"{INTENTS}?account={scope}&limit=1", cursor)
    assert other.status == 200, "pages of one walk may differ in size"


async def test_a_cursor_of_one_account_is_of_no_use_with_another(api: Api) -> None:
    path = "/accounts/{}/entries"
    cursors = Cursors(bytes.fromhex("5e" * 32))
    sealed = cursors.seal("acme", path.format("a-1"), {}, IntentPlace("0" * 32))
    assert cursors.open("acme", path.format("a-1"), {}, sealed, IntentPlace) == IntentPlace("0" * 32)
    assert (await ask(api, path.format("a-2"), sealed)).code == "cursor_malformed"


# A list per row, whatever stands behind it: none takes an empty cursor, or that of another list, for its beginning.
LISTS = sorted(name for name, door in DOORS.items() if any(one.name == "cursor" for one in door.query))


@pytest.mark.parametrize("cursor", ["", "x", Cursors(b"f" * 32).seal("acme", INTENTS, {}, 1)])
@pytest.mark.parametrize("name", LISTS)
async def test_no_list_takes_what_is_no_cursor_of_its_own(api: Api, name: str, cursor: str) -> None:
    method, path = name.split()
    answer = await ask(api.as_("admin"), path.replace("{id}", "settlement-ngn"), cursor)
    assert (method, answer.status, answer.code) == ("GET", 400, "cursor_malformed")


async def test_an_altered_cursor_is_none(api: Api, scope: str) -> None:
    cursor = await cursor_of(api, scope)
    sealed = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    altered = []
    for place in range(len(sealed)):
        sealed[place] ^= 1
        altered.append(base64.urlsafe_b64encode(sealed).decode().rstrip("="))
        sealed[place] ^= 1
    altered += ["", "x", cursor[:-4], cursor + "AAAA", "caf\xe9", cursor.encode().hex(), "A" * 5000]
    for one in altered:
        answer = await ask(api, f"{INTENTS}?account={scope}", one)
        assert (answer.status, answer.code) == (400, "cursor_malformed"), one


def test_a_cursor_of_another_installation_is_none() -> None:
    ours, theirs = Cursors(b"a" * 32), Cursors(b"b" * 32)
    with pytest.raises(Problem, match="cursor_malformed"):
        ours.open("acme", INTENTS, {}, theirs.seal("acme", INTENTS, {}, IntentPlace("0" * 32)), IntentPlace)
    with pytest.raises(ValueError, match="16 bytes"):
        Cursors(b"short")


async def test_a_cursor_is_opaque_and_the_same_for_the_same_place(api: Api, scope: str) -> None:
    cursor = await cursor_of(api, scope)
    assert cursor == await cursor_of(api, scope)
    assert b"0" * 4 not in base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


def test_a_time_keeps_its_moment() -> None:
    assert time("2026-04-01T12:00:00+02:00") == time("2026-04-01T10:00:00Z")
