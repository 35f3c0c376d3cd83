"""A tenant that screens: a list goes in force, a party is found on it, and its money stands still from then on."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.scenarios.conftest import QUICK
from tests.scenarios.people import Person, intent_body, until
from zentra.gateway.installation.installation import Installation

pytestmark = pytest.mark.service

TARGETS = (
    '"id","schema","name","aliases","birth_date","countries","dataset"\n'
    '"NK-1","Person","Jorunn Voransky","Йорунн Воранский","1961-05-03","xa","test"\n'
)
RULES = '{"compliance": {"kyc_required": true, "screen": "all"}}'
TENANT = "globex"


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """An installation of its own: lists are everybody's."""
    with Installation(rail_timing=QUICK) as running:
        yield running


def zentra(installation: Installation, *words: str) -> str:
    known = installation.settings
    variables = {
        "ZENTRA_POSTGRES_ADMIN_URL": installation.postgres_admin_url,
        "ZENTRA_POSTGRES_WRITER_URL": known.postgres_writer_url,
    }
    program = "from zentra.gateway.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_listed_party_moves_no_money_until_a_person_has_looked(
    installation: Installation, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    dev, ops = (Person(installation, session, TENANT, name) for name in ("dev", "ops"))
    rules, targets = tmp_path / "rules.json", tmp_path / "targets.simple.csv"
    rules.write_text(RULES)
    targets.write_text(TARGETS, encoding="utf-8")
    zentra(installation, "policies", "create", TENANT, "--file", str(rules))
    party, account = f"p-{uuid.uuid4().hex}", f"a-{uuid.uuid4().hex}"
    body = {"party_id": party, "kind": "person", "legal_name": "VORANSKAYA, Jorunn"}
    assert (await dev.post("/parties", body)).status == 201
    opened = {"account_id": account, "owner": "o", "type": "customer", "currency": "NGN", "party": party}
    assert (await dev.post("/accounts", opened)).status == 201
    approved = {"state": "approved", "reason": "passport seen"}
    assert (await ops.post(f"/parties/{party}/kyc", approved)).status == 200

    async def pay(name: str = "Ulrika Denholm", **changes: Any) -> Any:
        changes = {"source": account, "counterparty": {"name": name}, **changes}
        made = await dev.post("/transfers", intent_body(amount=1_000, **changes), wait=20)
        assert made.status in (200, 202), made.body
        return made.json

    def reasons(intent: Any) -> list[str]:
        judged = [
            event
            for event in intent["event_stream"]
            if event["event"].startswith("policy.") and "results" in event["facts"]
        ]
        return list(judged[-1]["facts"]["reasons"])

    async def state() -> str:
        return str((await ops.get(f"/parties/{party}")).json["screening_state"])

    assert reasons(await pay()) == ["party_not_screened", "list_absent"], "without a list nobody is clear"
    zentra(installation, "screening", "load", str(targets), "--name", "test", "--settle", "0")
    await until(state, lambda seen: seen == "possible_match")
    stopped = await pay()
    assert (stopped["status"], reasons(stopped)) == ("REVIEW", ["party_possible_match"])

    cases = (await ops.get("/cases?kind=screening_match&status=open")).json["data"]
    case = next(row["id"] for row in cases if row["detail"]["party"] == party)
    cleared = {"resolution": "false_positive", "reason": "another date of birth"}
    assert (await dev.post(f"/cases/{case}/resolve", cleared)).status == 403
    assert (await ops.post(f"/cases/{case}/resolve", cleared)).status == 200
    passed = await pay()
    assert (passed["status"], reasons(passed)) == ("FAILED", [])
    assert passed["reason"]["code"] == "insufficient_funds", "nobody has put money there: policy let it pass"
    assert reasons(await pay("Йорунн Воранский")) == ["counterparty_possible_match"]
    assert reasons(await pay("???")) == ["counterparty_unscreenable"]
    denied = {"state": "denied", "reason": "the passport was forged"}
    assert (await ops.post(f"/parties/{party}/kyc", denied)).status == 200
    ended = await pay()
    assert (ended["status"], reasons(ended)) == ("FAILED", ["kyc_denied"])
    assert "--wait" not in zentra(installation, "screening", "rescreen", "--wait")
