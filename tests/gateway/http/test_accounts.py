"""Accounts over HTTP: changes with their reasons, figures of any moment, numbers, monitors, books and the chart."""

from __future__ import annotations

import csv
import io
import uuid
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from tests.gateway.asgi import Answer
from tests.gateway.http.conftest import Api
from tests.gateway.http.test_configuration import account_body
from zentra.runtime.evidence import canonical
from zentra.runtime.ledger.names import virtual
from zentra.storage.pool import Pool

REASON = {"reason": "asked by the court"}


async def opened(api: Api, **changes: Any) -> str:
    """Open an account and return its id."""
    body = account_body(**changes)
    answer = await api.post("/accounts", body)
    assert answer.status == 201, answer.body
    return str(body["account_id"])


async def funded(pool: Pool, account_id: str, **counters: int) -> None:
    """Give an account counters without any posting behind them."""
    sets = ", ".join(f"{name} = {minor}" for name, minor in counters.items())
    await pool.execute(
        f"update balances set {sets} where account = (select id from accounts where account_id = $1)", account_id
    )


async def posted(pool: Pool, debit: str, credit: str, minor: int, at: datetime, pending: int = 0) -> str:
    """Write a posting of acme; return the uuid of its intent, which there is none of."""
    intent = uuid.uuid4().hex
    await pool.execute(
        "insert into postings (intent, ordinal, tenant, kind, debit, credit, currency, pending, posted, at, hash)"
        " select $1, 0, 'acme', 'book', d.id, c.id, 'NGN', $4, $5, $6, $7 from accounts d, accounts c"
        " where d.tenant = 'acme' and c.tenant = 'acme' and d.account_id = $2 and c.account_id = $3",
        intent, debit, credit, pending, minor, at, bytes(32),
    )  # fmt: skip
    return intent


# Changes.


async def test_an_account_goes_through_its_states_and_each_change_is_kept_with_its_reason(api: Api) -> None:
    operator, account = api.as_("operator"), await opened(api)
    steps = [("freeze", "frozen"), ("unfreeze", "open"), ("freeze", "frozen"), ("close", "closed"), ("reopen", "open")]
    for change, status in steps:
        answer = await operator.post(f"/accounts/{account}/{change}", REASON)
        assert (answer.status, answer.json["status"], answer.json["changed_by"]) == (200, status, "operator")
        assert (await api.get(f"/accounts/{account}")).json["status"] == status
    changes = (await api.get(f"/accounts/{account}/changes")).json["data"]
    assert [row["change"] for row in reversed(changes)] == [change for change, _ in steps]
    assert [row["sequence"] for row in changes] == [5, 4, 3, 2, 1]
    assert {row["reason"] for row in changes} == {REASON["reason"]}
    assert (changes[0]["before"], changes[0]["after"]) == ({"status": "closed"}, {"status": "open"})
    link = bytes(32)
    for row in reversed(changes):  # what is shown is what is chained
        record = {name: value for name, value in row.items() if name != "hash"}
        link = sha256(link + canonical.encode(record)).digest()
        assert row["hash"] == link.hex()


@pytest.mark.parametrize(
    ("before", "change", "code"),
    [
        ((), "unfreeze", "account_status_conflict"),
        ((), "reopen", "account_status_conflict"),
        (("freeze",), "freeze", "account_status_conflict"),
        (("close",), "close", "account_status_conflict"),
        (("close",), "freeze", "account_status_conflict"),
        (("close",), "unfreeze", "account_status_conflict"),
        (("freeze",), "reopen", "account_status_conflict"),
    ],
)
async def test_a_change_needs_the_state_that_it_is_from(
    api: Api, before: tuple[str, ...], change: str, code: str
) -> None:
    operator, account = api.as_("operator"), await opened(api)
    for step in before:
        assert (await operator.post(f"/accounts/{account}/{step}", REASON)).status == 200
    held = (await api.get(f"/accounts/{account}/changes")).json
    answer = await operator.post(f"/accounts/{account}/{change}", REASON)
    assert (answer.status, answer.code) == (409, code)
    assert (await api.get(f"/accounts/{account}/changes")).json == held


@pytest.mark.parametrize(
    ("counters", "said"),
    [
        ({"credits_posted": 7}, "posted 7"),
        ({"credits_posted": 7, "debits_posted": 7, "debits_pending": 2}, "held 2"),
        ({"credits_pending": 2}, "pending 2"),
        ({"credits_pending": 2, "debits_pending": 2, "credits_posted": 2, "debits_posted": 0}, "posted 2"),
    ],
)
async def test_an_account_with_money_or_holds_is_not_closed_and_the_answer_has_the_figures(
    api: Api, admin_pool: Pool, counters: dict[str, int], said: str
) -> None:
    account = await opened(api)
    await funded(admin_pool, account, **counters)
    answer = await api.as_("operator").post(f"/accounts/{account}/close", REASON)
    assert (answer.status, answer.code) == (409, "account_not_empty")
    assert said in answer.json["detail"]
    assert (await api.get(f"/accounts/{account}")).json["status"] == "open"


async def test_an_account_whose_money_came_and_went_is_closed(api: Api, admin_pool: Pool) -> None:
    account = await opened(api)
    await funded(admin_pool, account, credits_posted=7, debits_posted=7)
    assert (await api.as_("operator").post(f"/accounts/{account}/close", REASON)).status == 200


async def test_a_change_is_done_once_per_key(api: Api) -> None:
    operator, account, key = api.as_("operator"), await opened(api), uuid.uuid4().hex
    first = await operator.post(f"/accounts/{account}/freeze", REASON, key=key)
    again = await operator.post(f"/accounts/{account}/freeze", REASON, key=key)
    assert (again.status, again.body, again.headers["idempotent-replayed"]) == (200, first.body, "true")
    other = await operator.post(f"/accounts/{account}/freeze", {"reason": "another"}, key=key)
    assert other.code == "idempotency_key_reused"
    assert len((await api.get(f"/accounts/{account}/changes")).json["data"]) == 1


async def test_a_limit_is_finances_to_set_and_never_below_what_is_used(api: Api, admin_pool: Pool) -> None:
    finance, account = api.as_("finance"), await opened(api)
    target = f"/accounts/{account}/limit"
    assert (await api.as_("operator").post(target, {"overdraft_limit": 5, **REASON})).code == "permission_denied"
    assert (await finance.post(target, {"overdraft_limit": "500", **REASON})).json["overdraft_limit"] == "500"
    await funded(admin_pool, account, debits_posted=300, debits_pending=100)
    shown = (await api.get(f"/accounts/{account}")).json
    assert (shown["available"], shown["spendable"]) == ("-400", "100")
    low = await finance.post(target, {"overdraft_limit": 399, **REASON})
    assert (low.status, low.code) == (409, "limit_below_use")
    assert "400 or more" in low.json["detail"]
    assert (await finance.post(target, {"overdraft_limit": 400, **REASON})).status == 200
    assert (await api.get(f"/accounts/{account}")).json["overdraft_limit"] == "400"
    for wrong in (-1, "x", 2**63, True, 1.0):
        assert (await finance.post(target, {"overdraft_limit": wrong, **REASON})).status in (400, 422)


async def test_system_accounts_stay_as_they_are(api: Api) -> None:
    await opened(api)
    for target, who, body in (
        ("freeze", "operator", REASON), ("close", "operator", REASON),
        ("limit", "finance", {"overdraft_limit": 5, **REASON}),
        ("monitors", "operator", {"of": "posted", "when": "above", "minor": 1}),
    ):  # fmt: skip
        answer = await api.as_(who).post(f"/accounts/settlement-ngn/{target}", body)
        assert (answer.status, answer.code) == (409, "account_is_system")


# Figures.


async def test_the_figures_of_an_account_are_explained_by_its_counters(api: Api, admin_pool: Pool) -> None:
    account = await opened(api)
    await funded(admin_pool, account, credits_posted=100, debits_posted=20, debits_pending=30, credits_pending=7)
    shown = (await api.get(f"/accounts/{account}")).json
    counters = {name: int(value) for name, value in shown["counters"].items()}
    known: dict[str, int] = {**counters, **{name: int(shown[name]) for name in ("overdraft_limit", "expired_holds")}}
    for name, formula in shown["explained"].items():
        known[name] = int(eval(formula, {}, known))  # a formula of ours, over counters
        assert str(known[name]) == shown[name], formula
    assert {name: shown[name] for name in shown["explained"]} == {
        "posted": "80", "pending": "-23", "available": "50", "spendable": "50",
    }  # fmt: skip


async def test_a_balance_is_told_as_of_any_moment(api: Api, admin_pool: Pool) -> None:
    account, other = await opened(api), await opened(api)
    start = datetime(2026, 4, 1, tzinfo=UTC)
    for hour, minor in enumerate((5, 7, 11)):
        await posted(admin_pool, other, account, minor, start + timedelta(hours=hour))

    async def at(query: str) -> Answer:
        return await api.get(f"/accounts/{account}/balances?{query}")

    for moment, figure in (("00:00:00", "0"), ("00:00:01", "5"), ("01:00:00", "5"), ("01:00:01", "12")):
        answer = await at(f"at=2026-04-01T{moment}Z")
        assert (answer.json["posted"], answer.json["final"]) == (figure, True)
    now = (await at("")).json
    assert (now["posted"], now["entries"], now["final"], now["by"]) == ("23", 3, False, "recorded")
    assert (await at("at=2026-04-01T00:00:01Z&by=effective")).json["final"] is False
    for query in ("at=yesterday", "by=x", "of=y"):
        assert (await at(query)).code == "query_malformed"


async def test_a_statement_is_paged_and_its_sums_agree(api: Api, admin_pool: Pool) -> None:
    account, other = await opened(api), await opened(api)
    start = datetime(2026, 4, 1, tzinfo=UTC)
    for hour in range(10):
        await posted(admin_pool, other, account, hour + 1, start + timedelta(hours=hour))
    target = f"/accounts/{account}/statement?from=2026-04-01T02:00:00Z&to=2026-04-01T08:00:00Z&limit=4"
    first = (await api.get(target)).json
    assert (first["opening"]["posted"], first["closing"]["posted"]) == ("3", "36")
    assert [row["posted"] for row in first["data"]] == ["3", "4", "5", "6"]
    second = (await api.get(f"{target}&cursor={first['next_cursor']}")).json
    assert [row["balance"]["posted"] for row in first["data"] + second["data"]] == ["6", "10", "15", "21", "28", "36"]
    assert (second["has_more"], second["opening"], second["closing"]) == (False, first["opening"], first["closing"])
    backwards = await api.get(f"/accounts/{account}/statement?from=2026-04-02T00:00:00Z&to=2026-04-01T00:00:00Z")
    assert backwards.code == "query_malformed"
    assert (await api.get(f"/accounts/{other}/statement?limit=4&cursor={first['next_cursor']}")).code == (
        "cursor_malformed"
    )


async def test_a_statement_is_one_file_for_whoever_wants_csv(
    api: Api, admin_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zentra.gateway.routes.statements.CSV_ROWS", 3)
    account, other = await opened(api), await opened(api)
    start = datetime(2026, 4, 1, tzinfo=UTC)
    for hour in range(10):
        await posted(admin_pool, account, other, hour + 1, start + timedelta(hours=hour))
    answer = await api.get(f"/accounts/{account}/statement", accept="text/csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="statement-{account}.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert [row["posting"] for row in rows] == ["opening", *["book"] * 10, "closing"]
    assert [row["balance_posted"] for row in rows][-3:] == ["-45", "-55", "-55"]
    assert sum(int(row["posted"]) for row in rows[1:-1]) == 55
    preferred = await api.get(f"/accounts/{account}/statement", accept="application/json, text/csv;q=0.5")
    assert preferred.headers["content-type"] == "application/json"
    assert (await api.get("/accounts/nobody/statement", accept="text/csv")).code == "not_found"


# Numbers.


@pytest.mark.parametrize(
    ("scheme", "number", "spelled"),
    [
        ("iban", "gb82 west 1234 5698 7654 32", "GB82WEST12345698765432"),
        ("nuban", "011-0000014579", "011-0000014579"),
        ("nuban", "950211-0000000009", None),
    ],
)
async def test_a_number_is_given_in_its_one_spelling_once(
    api: Api, scheme: str, number: str, spelled: str | None
) -> None:
    account = await opened(api)
    answer = await api.post(f"/accounts/{account}/numbers", {"scheme": scheme, "number": number})
    if spelled is None:
        assert [error["code"] for error in answer.json["errors"]] == ["number_malformed"]
        return
    assert (answer.status, answer.json["number"]) == (201, spelled)
    again = await api.post(f"/accounts/{await opened(api)}/numbers", {"scheme": scheme, "number": number})
    assert (again.status, again.code) == (409, "number_taken")
    found = (await api.get(f"/accounts?number={scheme}:{spelled}")).json["data"]
    assert [row["account_id"] for row in found] == [account]
    retired = await api.as_("operator").delete(f"/accounts/{account}/numbers/{scheme}:{spelled}")
    assert (retired.status, retired.json["change"]) == (200, "number_retired")
    assert (await api.as_("operator").delete(f"/accounts/{account}/numbers/{scheme}:{spelled}")).status == 200
    assert (await api.get(f"/accounts?number={scheme}:{spelled}")).json["data"] == []
    (row,) = (await api.get(f"/accounts/{account}/numbers")).json["data"]
    assert row["retired_at"] is not None
    assert (await api.post(f"/accounts/{account}/numbers", {"scheme": scheme, "number": number})).code == "number_taken"


async def test_virtual_numbers_are_made_here(api: Api) -> None:
    account = await opened(api)
    made = [(await api.post(f"/accounts/{account}/numbers", {"scheme": "virtual"})).json["number"] for _ in range(3)]
    assert len(set(made)) == 3
    assert all(virtual(number) == number for number in made)
    answer = await api.post(f"/accounts/{account}/numbers", {"scheme": "virtual", "number": made[0]})
    assert [error["code"] for error in answer.json["errors"]] == ["number_malformed"]


@pytest.mark.parametrize(
    ("scheme", "number"),
    [
        ("iban", "GB82WEST12345698765431"),  # check digits
        ("iban", "NG82WEST12345698765432"),
        ("iban", ""),
        ("nuban", "011-0000014570"),
        ("nuban", "0110000014579"),
        ("bban", "1"),
    ],
)
async def test_a_number_that_is_none_is_refused(api: Api, scheme: str, number: str) -> None:
    answer = await api.post(f"/accounts/{await opened(api)}/numbers", {"scheme": scheme, "number": number})
    assert answer.status == 422
    assert {error["code"] for error in answer.json["errors"]} <= {
        "number_malformed",
        "scheme_unknown",
        "text_malformed",
    }


async def test_no_account_is_opened_under_what_could_be_a_number(api: Api) -> None:
    answer = await api.post("/accounts", account_body(account_id="virtual:1"))
    assert [error["code"] for error in answer.json["errors"]] == ["id_reserved"]


# Monitors.


async def test_monitors_are_set_up_listed_and_taken_away(api: Api, admin_pool: Pool) -> None:
    account = await opened(api)
    target = f"/accounts/{account}/monitors"
    first = await api.post(target, {"of": "available", "when": "below", "minor": "-5"})
    assert (first.status, first.json["minor"]) == (201, "-5")
    await api.post(target, {"of": "posted", "when": "at_least", "minor": 100})
    shown = (await api.get(target)).json["data"]
    assert [(row["of"], row["when"], row["minor"]) for row in shown] == [
        ("available", "below", "-5"), ("posted", "at_least", "100"),
    ]  # fmt: skip
    flagged = "select monitored from accounts where tenant = 'acme' and account_id = $1"
    for row in shown:
        assert await admin_pool.fetchval(flagged, account) is True
        assert (await api.delete(f"{target}/{row['id']}")).status == 200
        assert (await api.delete(f"{target}/{row['id']}")).status == 200
    assert await admin_pool.fetchval(flagged, account) is False
    assert (await api.get(target)).json["data"] == []
    changes = (await api.get(f"/accounts/{account}/changes")).json["data"]
    assert [row["change"] for row in changes] == ["monitor_removed"] * 2 + ["monitor_added"] * 2
    for wrong in ({"of": "x"}, {"when": "near"}, {"minor": "1.5"}, {"minor": None}):
        body = {"of": "available", "when": "below", "minor": 5, **wrong}
        assert (await api.post(target, body)).code == "validation_failed"


async def test_an_account_has_a_bounded_number_of_monitors(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zentra.storage.intake.accounts.MONITORS_MAX", 1)
    monkeypatch.setattr("zentra.storage.intake.accounts.NUMBERS_MAX", 1)
    account = await opened(api)
    monitor = {"of": "posted", "when": "above", "minor": 1}
    for kind, body, code in (
        ("monitors", monitor, "monitors_too_many"), ("numbers", {"scheme": "virtual"}, "numbers_too_many"),
    ):  # fmt: skip
        assert (await api.post(f"/accounts/{account}/{kind}", body)).status == 201
        assert (await api.post(f"/accounts/{account}/{kind}", body)).code == code


# Books and the chart.


async def test_accounts_lie_in_books(api: Api) -> None:
    operator, book = api.as_("operator"), f"b{uuid.uuid4().hex[:8]}"
    body = {"book": book, "name": "Europe"}
    assert (await api.post("/books", body)).code == "permission_denied"
    assert (await operator.post("/books", body)).json == {**body, "created_by": "operator"}
    assert (await operator.post("/books", body)).code == "book_exists"
    assert {"default", book} <= {row["book"] for row in (await api.get("/books")).json["data"]}
    account = await opened(api, book=book)
    shown = (await api.get(f"/accounts?book={book}")).json["data"]
    assert {row["account_id"] for row in shown} == {account} | {
        f"{book}:{kind}-ngn" for kind in ("settlement", "fee", "suspense", "liquidity")
    }
    assert (await api.post("/accounts", account_body(book="nowhere"))).code == "book_not_found"


async def test_the_chart_adds_up_the_tree_that_ids_make(
    api: Api, admin_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = f"c{uuid.uuid4().hex[:8]}"
    await api.as_("operator").post("/books", {"book": book, "name": "Chart"})
    for account_id, minor in (
        (f"{book}.x", 1), (f"{book}.x:cash", 10), (f"{book}.x:cash:till-1", 100), (f"{book}.x:cash:till-2", 1000),
        (f"{book}.x:loans", 5), (f"{book}.x-ray", 7),
    ):  # fmt: skip
        await opened(api, book=book, account_id=account_id)
        await funded(admin_pool, account_id, credits_posted=minor)
    await opened(api, book=book, account_id=f"{book}.x:cash:dollars", currency="USD")

    async def nodes(query: str) -> dict[tuple[str, str], tuple[int, str, bool]]:
        answer = (await api.get(f"/chart?book={book}&currency=NGN&{query}")).json
        return {(row["node"], row["currency"]): (row["accounts"], row["posted"], row["deeper"])
                for row in answer["data"] if row["node"].startswith(f"{book}.")}  # fmt: skip

    x = f"{book}.x"
    assert await nodes("") == {(x, "NGN"): (5, "1116", True), (f"{x}-ray", "NGN"): (1, "7", False)}
    assert await nodes(f"prefix={x}") == {
        (x, "NGN"): (1, "1", False), (f"{x}:cash", "NGN"): (3, "1110", True), (f"{x}:loans", "NGN"): (1, "5", False),
    }  # fmt: skip
    assert len(await nodes(f"prefix={x}&depth=2")) == 5
    whole = (await api.get(f"/chart?book={book}&prefix={x}:cash&limit=2")).json
    assert [row["node"] for row in whole["data"]] == [f"{x}:cash", f"{x}:cash:dollars"]
    rest = (await api.get(f"/chart?book={book}&prefix={x}:cash&limit=2&cursor={whole['next_cursor']}")).json
    assert [row["node"] for row in rest["data"]] == [f"{x}:cash:till-1", f"{x}:cash:till-2"]
    assert (await api.get("/chart?depth=9")).code == "query_malformed"
    monkeypatch.setattr("zentra.storage.reads.accounts.CHART_ACCOUNTS_MAX", 2)
    assert (await api.get(f"/chart?book={book}")).code == "chart_too_large"


# Deposits.


async def test_a_deposit_is_one_intent_per_reference_whatever_key_it_comes_under(api: Api, admin_pool: Pool) -> None:
    operator, reference = api.as_("operator"), uuid.uuid4().hex
    account = await opened(api)
    number = (await api.post(f"/accounts/{account}/numbers", {"scheme": "virtual"})).json["number"]
    body = {"number": f"virtual:{number}", "amount": 500, "currency": "NGN", "reference": reference}
    assert (await api.post("/deposits", body)).code == "permission_denied"
    first = await operator.post("/deposits", body, key=None)
    assert (first.status, first.json["intent_id"]) == (202, f"deposit:{reference}")
    for key in (None, "", uuid.uuid4().hex):
        again = await operator.post("/deposits", body, key=key)
        assert (again.status, again.json["id"]) == (202, first.json["id"])
    assert (await operator.post("/deposits", body | {"amount": 501})).code == "intent_id_conflict"
    assert (await operator.post("/deposits", body | {"amount": 501}, key=None)).code == "idempotency_key_reused"
    command = msgspec.json.decode(
        await admin_pool.fetchval("select command from intents where id = $1", first.json["id"])
    )
    assert (command["kind"], command["source"], command["destination"]) == (
        "book_transfer", "settlement-ngn", f"virtual:{number}",
    )  # fmt: skip
    assert command["deposit"] == {"reference": reference, "number": f"virtual:{number}"}


async def test_a_deposit_says_where_to_and_money_for_nobody_is_taken_too(api: Api, admin_pool: Pool) -> None:
    operator = api.as_("operator", "globex")
    for body in ({}, {"number": "virtual:123456789015", "account": "x"}):
        given: dict[str, Any] = {"amount": 5, "currency": "NGN", "reference": uuid.uuid4().hex, **body}
        assert (await operator.post("/deposits", given)).code == "validation_failed"
    unknown = {"account": "nobody", "amount": 5, "currency": "XOF", "reference": uuid.uuid4().hex}
    assert (await operator.post("/deposits", unknown)).status == 202
    assert await admin_pool.fetchval(
        "select count(*) from accounts where tenant = 'globex' and currency = 'XOF' and book = 'default'"
    ) == 4  # fmt: skip
