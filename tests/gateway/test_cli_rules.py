"""What a tenant's money is held to, from the command line: its policy and its fees."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tests.gateway.commanding import Zentra, answer


def test_a_policy_goes_from_draft_to_force_and_back_on_the_command_line(
    fresh: Zentra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in ("migrate", "tenants create acme"):
        answer(fresh, line)
    document = tmp_path / "policy.json"
    document.write_text('{"limits": {"NGN": {"review_minor_min": 5}}, "time_zone": "Nowhere"}')
    drafted = answer(fresh, f"policy draft acme --file {document} --by ada")
    assert (drafted["version"], [one["pointer"] for one in drafted["violations"]]) == (1, ["/time_zone"])
    code, out, _ = fresh("policy validate acme 1 --by ada")
    assert (code, "/time_zone" in out) == (1, True)

    document.write_text('{"limits": {"NGN": {"review_minor_min": 5}}}')
    for version in (2, 3):
        answer(fresh, f"policy draft acme --file {document} --by ada --note again")
        assert answer(fresh, f"policy validate acme {version} --by ada")["state"] == "validated"
        code, _, err = fresh(f"policy promote acme {version} --by ada")
        assert (code, "self_promotion" in err) == (1, True)
        assert answer(fresh, f"policy promote acme {version} --by grace")["state"] == "active"
    assert answer(fresh, "policy rollback acme 2 --by grace")["state"] == "active"
    code, _, err = fresh("policy rollback acme 2 --by grace")
    assert (code, "policy_state_conflict" in err) == (1, True)
    assert [(one["version"], one["state"]) for one in answer(fresh, "policy list acme")] == [
        (3, "retired"), (2, "active"), (1, "draft"),
    ]  # fmt: skip
    shown = answer(fresh, "policy show acme 2")
    assert [event["action"] for event in shown["events"]] == [
        "rolled_back", "retired", "promoted", "validated", "drafted",
    ]  # fmt: skip
    assert answer(fresh, "policy backtest acme --version 3")["decisions"] == 0
    assert "0 decisions" in fresh("policy backtest acme --version 3")[1]
    for line in ("policy show acme 9", "policy validate acme 9", "policy backtest acme --version 9"):
        assert fresh(line)[0] == 1
    code, out, _ = fresh("policy explain acme nothing")
    assert (code, "has no intent" in out) == (1, True)
    monkeypatch.setenv("ZENTRA_RISK_SCORERS", "mine=nowhere:score")
    code, _, err = fresh("policy backtest acme --version 2")
    assert (code, "ZENTRA_RISK_SCORERS" in err) == (3, True)


def test_fees_are_tried_put_in_force_and_taken_back(
    fresh: Zentra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in ("migrate", "tenants create acme"):
        answer(fresh, line)
    file = tmp_path / "fees.json"
    flat = {"name": "flat", "model": "flat", "flat_minor": 50, "applies": {"currencies": ["NGN"]}}
    file.write_text(json.dumps({"rules": [flat, {**flat, "flat_minor": 0}]}))
    code, _, err = fresh(f"fees check {file}")
    assert (code, "/rules/1/name" in err, "/rules/1/flat_minor" in err) == (3, True, True)
    file.write_text(json.dumps({"rules": [flat]}))
    assert answer(fresh, f"fees check {file}") == {"rules": 1, "sound": True}
    quoted = answer(fresh, f"fees quote {file} --amount 1000 --currency NGN")
    assert (quoted["payer_pays"], quoted["payee_gets"]) == ("1050", "1000")
    assert fresh(f"fees quote {file} --amount 1000 --currency USD")[1].startswith("nothing is charged")
    assert fresh("fees show acme")[0] == 3
    assert answer(fresh, f"fees put acme {file}") == {"tenant": "acme", "version": 1, "new": True}
    assert answer(fresh, f"fees put acme {file}") == {"tenant": "acme", "version": 1, "new": False}
    file.write_text(json.dumps({"rules": [{**flat, "model": "percentage", "rate_bps": "12.5"}]}))
    assert answer(fresh, f"fees put acme {file} --by amara")["version"] == 2
    assert [(row["version"], row["active"]) for row in answer(fresh, "fees list acme")] == [(2, True), (1, False)]
    code, out, _ = fresh("fees show acme")
    assert (code, "amara" in out, "12.5 bps" in out, "currencies NGN" in out) == (0, True, True, True)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(answer(fresh, "fees show acme --version 1"))))
    assert answer(fresh, "fees put acme -")["version"] == 3
    assert answer(fresh, "fees show acme")["rules"] == [flat]
    code, _, err = fresh(f"fees put nobody {file}")
    assert (code, "tenant_unknown" in err) == (1, True)
