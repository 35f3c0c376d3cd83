"""The command line of verification: its exit codes, what it prints, and one way through all of it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.ledgers import KEY
from tests.verification.databases import spoil
from zentra.bench.twins.fleet import START
from zentra.gateway.cli import main as cli
from zentra.storage.intake.evidence_keys import admit_keys, rotate_key
from zentra.storage.pool import open_pool

MIDDLE: Final = (START + timedelta(seconds=300)).isoformat()
Zentra = Callable[[str], tuple[int, str, str]]


def private(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def zentra(copy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Zentra:
    """Runs a command line on a copy of the ledger; returns exit code, stdout and stderr."""
    monkeypatch.setattr(logging, "captureWarnings", lambda _: None)
    for name in [name for name in os.environ if name.startswith("ZENTRA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ZENTRA_POSTGRES_ADMIN_URL", copy)
    monkeypatch.setenv("ZENTRA_EVIDENCE_KEY", private(KEY))

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zentra", *shlex.split(line)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        shown = capsys.readouterr()
        return int(left.value.code or 0), shown.out, shown.err

    return run


def test_a_sound_ledger_leaves_with_0(zentra: Zentra) -> None:
    for line in ("ledger check", "ledger check --tenant acme --jobs 2", "ledger chain", "ledger chain intent-1"):
        code, out, err = zentra(line)
        assert (code, err, out.splitlines()[-1]) == (0, "", "clean: no difference"), line
    code, out, _ = zentra("ledger check --json")
    found = json.loads(out)
    assert (code, found["clean"], found["differences"]) == (0, True, [])
    assert found["counts"]["postings"] > 30


def test_heads_of_earlier_keys_are_believed_by_the_history_of_keys(
    zentra: Zentra, copy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, stranger = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))

    async def rotate() -> None:
        async with await open_pool(copy, name="test", connections_max=1) as pool:
            await admit_keys(pool, [KEY], by="w1")
            await rotate_key(pool, [KEY], new, by="ada", reason="test", lead=timedelta(microseconds=1))

    asyncio.run(rotate())
    for key, expected in ((KEY, 0), (new, 0), (stranger, 1)):
        monkeypatch.setenv("ZENTRA_EVIDENCE_KEY", private(key))
        assert zentra("ledger chain")[0] == expected


def test_a_difference_leaves_with_1_and_is_named(zentra: Zentra, copy: str) -> None:
    spoil(copy, "update balances set debits_posted = debits_posted + 1 where account = 1")
    code, out, _ = zentra("ledger check")
    assert code == 1
    assert "balance: acme customer: debits_posted: expected " in out
    code, out, _ = zentra("ledger trial-balance --json")
    assert (code, json.loads(out)["agrees"]) == (1, False)
    assert zentra("ledger check --tenant globex")[0] == 0
    assert zentra(f"periods close acme --until {MIDDLE}")[0] == 1


def test_points_are_kept_and_started_from(zentra: Zentra, copy: str, tmp_path: Path) -> None:
    point = tmp_path / "point"
    code, out, _ = zentra(f"ledger check --save {point}")
    assert (code, f"kept in {point}" in out, point.is_file()) == (0, True, True)
    assert zentra(f"ledger check --since {point} --save {point}")[0] == 0
    assert zentra(f"ledger check --since {MIDDLE}")[0] == 0
    code, _, err = zentra(f"ledger check --since {MIDDLE} --save {point}")
    assert (code, "leave --since out" in err) == (2, True)
    code, _, err = zentra(f"ledger check --tenant acme --since {point}")
    assert (code, "of all tenants" in err) == (2, True)
    spoil(copy, "delete from postings where tenant = 'acme' and kind = 'settle'")
    assert zentra(f"ledger check --since {point}")[0] == 1


def test_the_trial_balance_is_a_table_or_csv(zentra: Zentra) -> None:
    code, out, _ = zentra("ledger trial-balance --tenant acme")
    assert (code, "TOTAL" in out, out.splitlines()[-1]) == (0, True, "the columns agree")
    code, out, _ = zentra(f"ledger trial-balance --at {MIDDLE} --by effective --csv")
    lines = out.splitlines()
    assert (code, lines[0].split(",")[:4]) == (0, ["tenant", "book", "currency", "type"])
    assert lines[1].startswith("acme,default,NGN,customer,")


def test_a_period_is_closed_archived_and_verified_offline(
    zentra: Zentra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(
        KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    assert zentra("periods list acme")[1] == "nothing of acme was ever closed\n"
    assert zentra(f"archive make acme --until {MIDDLE} --output {tmp_path / 'a'}")[0] == 2, "it is not closed"
    code, out, _ = zentra(f"periods close acme --until {MIDDLE} --by alice")
    assert (code, "is closed until" in out) == (0, True)
    assert json.loads(zentra("periods list acme --json")[1])[0]["closed_by"] == "alice"
    code, out, _ = zentra("periods reopen acme --reason 'a mistake'")
    assert (code, "open again" in out) == (0, True)
    assert zentra("periods reopen acme --reason 'a mistake'")[0] == 1
    assert zentra(f"periods close acme --until {MIDDLE}")[0] == 0
    code, out, _ = zentra(f"archive make acme --until {MIDDLE} --output {tmp_path / 'b'}")
    assert (code, "the period is archived" in out) == (0, True)
    assert zentra("periods reopen acme --reason 'a mistake'")[0] == 1
    monkeypatch.delenv("ZENTRA_POSTGRES_ADMIN_URL")
    monkeypatch.delenv("ZENTRA_EVIDENCE_KEY")
    assert zentra(f"archive verify {tmp_path / 'b'} --key {key}")[0] == 0
    (tmp_path / "b" / "more").touch()
    code, out, _ = zentra(f"archive verify {tmp_path / 'b'} --key {key} --json")
    assert (code, json.loads(out)["differences"][0]["where"]) == (1, "more")
    assert zentra(f"archive verify {tmp_path} --key {key}")[0] == 2
