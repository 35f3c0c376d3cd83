"""`zentra routes` and what operators say of rails: from a corridor set up by hand to a version by two people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.commanding import Zentra, answer


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("routes list acme", 3, "ADMIN_URL is not set"),
        ("routes draft acme --file /none", 3, "/none"),
        ("routes show acme 0", 2, "VERSION"),
        ("rails maintain sandbox_a", 3, "--until is missing"),
        ("rails drain sandbox_a", 3, "ADMIN_URL is not set"),
    ],
)
def test_an_expected_error_has_an_exit_code_and_a_sentence(zentra: Zentra, line: str, code: int, sentence: str) -> None:
    left, out, err = zentra(line)
    assert (left, sentence in out + err) == (code, True), err


def test_routes_go_from_draft_to_force_and_rails_are_drained(fresh: Zentra, tmp_path: Path) -> None:
    for line in (
        "migrate", "tenants create acme", "rails create sandbox_a --base-url http://127.0.0.1:1",
        "corridors create acme ng --currency NGN --rail sandbox_a",
    ):  # fmt: skip
        assert fresh(line)[0] == 0
    first = answer(fresh, "routes show acme 1")
    assert (first["state"], first["created_by"]) == ("active", "operator")
    document: dict[str, Any] = first["document"]
    document["corridors"][0]["rails"][0]["cost_minor"] = 15
    file = tmp_path / "routes.json"
    file.write_text(json.dumps(document))
    assert answer(fresh, f"routes check acme --file {file}") == {"violations": []}
    assert answer(fresh, f"routes draft acme --file {file} --by ada")["version"] == 2
    assert fresh("routes promote acme 2 --by grace")[0] == 1
    assert answer(fresh, "routes validate acme 2 --by ada")["state"] == "validated"
    code, _, err = fresh("routes promote acme 2 --by ada")
    assert (code, "self_promotion" in err) == (1, True)
    assert answer(fresh, "routes promote acme 2 --by grace")["state"] == "active"
    assert [(row["version"], row["state"]) for row in answer(fresh, "routes list acme")] == [
        (2, "active"), (1, "retired")
    ]  # fmt: skip
    assert answer(fresh, "routes rollback acme 1 --by grace")["state"] == "active"
    document["corridors"][0]["rails"][0]["rail"] = "nobody"
    file.write_text(json.dumps(document))
    code, out, _ = fresh(f"routes check acme --file {file}")
    assert (code, "rail_unknown" in out) == (1, True)
    assert fresh("routes explain acme nothing")[0] == 1

    assert answer(fresh, "rails drain sandbox_a --reason moved --by ada")["changed"] is True
    (shown,) = answer(fresh, "rails health")
    assert (shown["resting"], shown["reason"], shown["circuit"]) == ("draining", "moved", "closed")
    assert answer(fresh, "rails resume sandbox_a")["changed"] is True
    window = "--from 2026-01-01T00:00:00 --until 2999-01-01T00:00:00 --reason upgrade"
    assert answer(fresh, f"rails maintain sandbox_a {window}")["maintenance"]["reason"] == "upgrade"
    assert answer(fresh, "rails health")[0]["resting"] == "maintenance"
    assert answer(fresh, "rails maintain sandbox_a --lift")["lifted"] == 1
    code, _, err = fresh("rails drain nobody")
    assert (code, "rail_unknown" in err) == (1, True)
