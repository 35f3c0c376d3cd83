"""Setting an installation up from the command line: tenants, rails, corridors, who may come in; and its cases."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from pathlib import Path

import asyncpg

from tests.gateway.commanding import Zentra, answer
from zentra.runtime.keys import parse_key


def test_an_installation_is_set_up_from_the_command_line(fresh: Zentra, tmp_path: Path) -> None:
    code, _, err = fresh("tenants list")
    assert code == 3
    assert "zentra migrate" in err

    assert answer(fresh, "migrate")["applied"][0].startswith("0001_")
    assert answer(fresh, "migrate")["applied"] == []
    code, _, err = fresh("migrate --partitions 32")
    assert (code, "run it with 8" in err) == (3, True)

    assert answer(fresh, "tenants create acme --name 'Acme Ltd'") == {
        "tenant": "acme", "mode": "test", "created": True,
    }  # fmt: skip
    assert answer(fresh, "tenants create acme --name 'Acme Ltd'") == {
        "tenant": "acme", "mode": "test", "created": False,
    }  # fmt: skip
    code, _, err = fresh("tenants create acme --name Other")
    assert (code, "tenant_exists" in err) == (1, True)
    assert [tenant["name"] for tenant in answer(fresh, "tenants list")] == ["Acme Ltd"]
    code, out, _ = fresh("tenants list")
    assert out.splitlines()[1].startswith("acme  Acme Ltd")

    assert answer(fresh, "principals create acme dev --role developer")["created"] is True
    assert [one["role"] for one in answer(fresh, "principals list acme")] == ["developer"]

    (tmp_path / "secret").write_text("of the rail\n")
    rail = f"rails create sandbox_a --base-url http://127.0.0.1:8090 --secret-file {tmp_path / 'secret'}"
    assert answer(fresh, rail) == {"rail": "sandbox_a", "changed": True}
    assert [(one["name"], one["secret"]) for one in answer(fresh, "rails list")] == [("sandbox_a", "***")]
    bank = (
        "rails create bank --kind gtbank --base-url http://127.0.0.1:8090 --option client_id=zentra"
        f" --secret callback=file:{tmp_path / 'secret'} --secret client_secret=env:OF_THE_BANK --network 192.0.2.0/24"
    )
    assert answer(fresh, bank, OF_THE_BANK="hush") == {"rail": "bank", "changed": True}
    (made,) = [one for one in answer(fresh, "rails list") if one["name"] == "bank"]
    assert (made["secrets"], made["not_found_lies_seconds"]) == ({"client_secret": "***"}, 5.0)
    assert (made["options"], made["callback_networks"]) == ({"client_id": "zentra"}, ["192.0.2.0/24"])

    corridor = "corridors create acme ng-transfer --currency NGN --rail sandbox_a"
    assert answer(fresh, corridor)["changed"] is True
    assert answer(fresh, "corridors list acme")[0]["rails"] == ["sandbox_a"]
    code, _, err = fresh(corridor.replace("sandbox_a", "nobody"))
    assert (code, "rail_unknown" in err) == (1, True)

    rules = tmp_path / "rules.json"
    rules.write_text('{"limits": {"NGN": {"transaction_minor_max": 5}}}')
    assert answer(fresh, f"policies create acme --file {rules}")["version"] == 1
    assert answer(fresh, "policies list acme")[0]["limits"]["NGN"]["transaction_minor_max"] == 5
    rules.write_text('{"limits": {"NGN": {"transaction_minor_mux": 5}}}')
    code, _, err = fresh(f"policies create acme --file {rules}")
    assert (code, "/limits/NGN/transaction_minor_mux" in err) == (3, True)

    config = tmp_path / "nats.conf"
    assert fresh(f"nats-config --output {config}")[0] == 0
    assert "T_ACME" in config.read_text()
    assert config.stat().st_mode & 0o777 == 0o600


def test_how_a_rail_is_asked_is_shown_and_changed(fresh: Zentra) -> None:
    for line in ("migrate", "rails create sandbox_a --base-url http://127.0.0.1:8090"):
        answer(fresh, line)
    asked = answer(fresh, "rails polling sandbox_a")
    assert (asked["changed"], asked["deadline_seconds"], asked["stranger_wait_seconds"]) == (False, 900.0, 30.0)
    line = "rails polling sandbox_a --standing pending --after 5 --jitter 0 --deadline 60"
    for changed in (True, False):
        asked = answer(fresh, line)
        assert (asked["changed"], asked["deadline_seconds"]) == (changed, 60.0)
    [pending] = [row for row in asked["polling"] if row["standing"] == "pending"]
    assert pending["asked_after"] == [2.0, 7.0, 14.0, 28.0, 56.0, 112.0]
    for line, sentence in (
        ("rails polling sandbox_a --standing asleep --after 5", "one of silent"),
        ("rails polling sandbox_a --standing pending --factor 1", "polling.pending.factor: above 1"),
        ("rails polling nobody", "the rails are sandbox_a"),
    ):
        code, _, err = fresh(line)
        assert (code != 0, sentence in err) == (True, True), err
    code, out, _ = fresh("rails polling sandbox_a")
    assert (code, "an outcome unknown for 60 s is a case" in out) == (0, True)


def test_who_may_come_in_is_set_up_from_the_command_line(fresh: Zentra) -> None:
    for line in ("migrate", "tenants create acme", "principals create acme dev --role developer"):
        answer(fresh, line)
    made = answer(fresh, "keys create acme dev --expires-days 30")
    assert parse_key(made["key"]) is not None
    listed = answer(fresh, "keys list acme")
    assert [key["id"] for key in listed] == [made["id"]]
    assert made["key"] not in json.dumps(listed)
    follower = answer(fresh, f"keys rotate acme {made['id']} --overlap-hours 1")
    assert (follower["replaces"], follower["key"].startswith("zk_test_")) == (made["id"], True)
    assert answer(fresh, f"keys revoke acme {made['id']}")["revoked"] is True
    narrow = answer(fresh, "keys create acme dev --name job --scope intents:read --network 192.0.2.0/24")
    assert [(key["name"], key["scopes"]) for key in answer(fresh, "keys list acme") if key["id"] == narrow["id"]] == [
        ("job", ["intents:read"])
    ]
    assert answer(fresh, "certificates add acme dev spiffe://acme/dev")["created"] is True
    assert answer(fresh, "certificates revoke acme spiffe://acme/dev")["revoked"] is True
    assert answer(fresh, "certificates list acme")[0]["revoked_at"] is not None
    assert answer(fresh, "limits set acme money 600/60 --per key")["changed"] is True
    assert answer(fresh, "limits list acme") == [
        {"route_class": "money", "per": "key", "quota": 600, "window_seconds": 60}
    ]
    assert fresh("limits set acme gold 1/1")[0] == 3
    assert answer(fresh, "principals disable acme dev")["disabled"] is True

    assert answer(fresh, "tenants create acme-live --live")["mode"] == "live"
    assert answer(fresh, "principals create acme-live dev --role developer")["created"] is True
    assert answer(fresh, "keys create acme-live dev")["key"].startswith("zk_live_")


def test_cases_of_the_installation_are_listed_and_resolved_with_a_reason(fresh: Zentra) -> None:
    answer(fresh, "migrate")
    mine, poison, tenants = "a1" * 16, "b2" * 16, "c3" * 16

    async def put() -> None:
        connection = await asyncpg.connect(os.environ["ZENTRA_POSTGRES_ADMIN_URL"])
        for place, (case, tenant, kind) in enumerate(
            ((mine, "-", "unknown_reference"), (poison, "-", "poison_message"), (tenants, "acme", "unknown_reference"))
        ):
            detail = '{"rail": "alpha", "reference": "ref-1", "status": "succeeded", "cause": "evt-1"}'
            await connection.execute(
                "insert into zentra.cases (id, tenant, kind, status, detail, opened_at, deadline)"
                " values ($1, $2, $3, 'open', $4, now() + $5 * interval '1 s', now())",
                uuid.UUID(case), tenant, kind, detail, place,
            )  # fmt: skip
        await connection.close()

    asyncio.run(put())
    assert [row["id"] for row in answer(fresh, "cases list")] == [mine, poison]
    [shown] = answer(fresh, "cases list --open --kind unknown_reference")
    assert (shown["status"], shown["detail"]["reference"], shown["operator"]) == ("open", "ref-1", None)
    code, out, _ = fresh("cases list")
    assert (code, "ref-1" in out, tenants in out) == (0, True, False)

    line = f"cases resolve {mine} --by ada --reason looked"
    assert answer(fresh, line) == {"resolved": [mine], "by": "ada", "reason": "looked"}
    assert answer(fresh, line)["resolved"] == [], "once"
    done = {row["id"]: row for row in answer(fresh, "cases list")}[mine]
    assert (done["status"], done["operator"], done["resolution"]) == (
        "resolved", "ada", {"resolution": "dismissed", "reason": "looked"},
    )  # fmt: skip
    assert [row["id"] for row in answer(fresh, "cases list --open")] == [poison]
    for unknown in (tenants, "d4" * 16):
        code, _, err = fresh(f"cases resolve {poison} {unknown} --reason x")
        assert (code, f"no case {unknown}" in err) == (1, True), "of a tenant, or of nobody"
    assert len(answer(fresh, "cases list --open")) == 1, "all or none"
