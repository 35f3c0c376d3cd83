"""`zentra evidence keys` on a real database, and `zentra evidence verify` with what it gives out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from tests.services import Database, database, database_template
from zentra.gateway.cli import evidence_anchors, evidence_keys
from zentra.gateway.cli.evidence import evidence_app
from zentra.runtime.evidence.anchors import anchor_line
from zentra.runtime.evidence.heads import TreeHead, key_id, sign_head, signed_note
from zentra.runtime.evidence.key_files import public_pem
from zentra.runtime.intents.transaction import timestamp
from zentra.storage.intake.evidence_keys import admit_keys, sign_on
from zentra.storage.pool import open_pool

__all__ = ["database", "database_template"]

FIRST, SECOND = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
IDS = [key_id(key.public_key()) for key in (FIRST, SECOND)]

app = typer.Typer()
app.add_typer(evidence_app, name="evidence")
COMMANDS = (evidence_keys.keys_app, evidence_anchors.anchors_app)  # whoever imports them has them

Run = Callable[..., tuple[int, str]]


def private(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture
def run(database: Database, tmp_path: Path) -> Run:
    """Run a command in a folder, on a history that one worker has begun with the first key."""

    async def begin() -> None:
        pool = await open_pool(database.admin_url, name="test", connections_max=1)
        await pool.execute("truncate evidence_key_entries, evidence_signers, evidence_keys, anchors, anchor_sinks")
        await admit_keys(pool, [FIRST], by="w1")
        await sign_on(pool, "w1", IDS)
        await pool.close()

    asyncio.run(begin())
    for name, text in (
        ("old.pem", private(FIRST)),
        ("new.pem", private(SECOND)),
        ("both.pem", private(FIRST) + private(SECOND)),
    ):
        (tmp_path / name).write_text(text)
    (tmp_path / "first.pem").write_text(public_pem(FIRST.public_key()))

    def command(*arguments: str) -> tuple[int, str]:
        given = [str(tmp_path / one) if "." in one and "/" not in one else one for one in arguments]
        environment = {"ZENTRA_POSTGRES_WRITER_URL": database.writer_url, "ZENTRA_EVIDENCE_KEY": private(FIRST)}
        result = CliRunner().invoke(app, ["evidence", *given], env=environment)
        return result.exit_code, result.output

    return command


def note(key: Ed25519PrivateKey, size: int, at: datetime, root: bytes = bytes(32)) -> tuple[TreeHead, str]:
    head = sign_head(key, tenant="acme", size=size, root=root, at=timestamp(at))
    return head, signed_note(key.public_key(), head)


def test_a_rotation_from_the_command_line_is_listed_and_exported(run: Run, tmp_path: Path) -> None:
    assert run("keys", "list")[1].count(IDS[0]) == 1
    code, said = run("keys", "rotate", "--new", "new.pem", "--reason", "yearly", "--in", "3600", "--by", "ada")
    assert code == 0, said
    assert f"key {IDS[1]} signs from" in said
    rows = json.loads(run("keys", "list", "--json")[1])["keys"]
    assert [(row["key_id"], row["in_force"], row["by"], row["workers"]) for row in rows] == [
        (IDS[0], "yes", "w1", ["w1"]), (IDS[1], "no", "ada", ["w1"]),
    ]  # fmt: skip
    assert rows[0]["until"] == rows[1]["since"]
    for form in ("jwk", "pem"):
        assert run("keys", "export", "--as", form, "--out", f"keys.{form}")[0] == 0
    assert json.loads((tmp_path / "keys.jwk").read_text())["keys"][1]["kid"] == IDS[1]
    assert (tmp_path / "keys.pem").read_text().count("BEGIN PUBLIC KEY") == 2


def test_heads_of_both_keys_verify_with_the_history_alone_and_only_in_their_time(run: Run, tmp_path: Path) -> None:
    assert run("keys", "rotate", "--new", "new.pem", "--in", "3600")[0] == 0
    assert run("keys", "export", "--out", "keys.json")[0] == 0
    now = datetime.now(UTC)
    rows = [
        (FIRST, now, 0, "evidence: verified"),
        (SECOND, now + timedelta(hours=2), 0, "evidence: verified"),
        (SECOND, now, 1, "key_out_of_time"),
        (FIRST, now + timedelta(hours=2), 1, "key_out_of_time"),
    ]
    for key, at, expected, words in rows:
        (tmp_path / "head.txt").write_text(note(key, 3, at)[1])
        code, said = run("verify", "head.txt", "--key", "first.pem", "--history", "keys.json")
        assert (code, words in said) == (expected, True), said
    (tmp_path / "head.txt").write_text(note(SECOND, 3, now + timedelta(hours=2))[1])
    assert "key_differs" in run("verify", "head.txt", "--key", "first.pem")[1]
    assert run("verify", "head.txt", "--key", "keys.json")[0] == 0


def test_a_file_of_anchors_is_read_for_the_tenant_in_question(run: Run, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    other = sign_head(FIRST, tenant="globex", size=3, root=b"o" * 32, at=timestamp(now))
    foreign = anchor_line(other, signed_note(FIRST.public_key(), other))
    same, contrary = (anchor_line(*note(FIRST, 3, now, root)) for root in (bytes(32), b"x" * 32))
    (tmp_path / "head.txt").write_text(note(FIRST, 3, now)[1])
    for lines, expected, words in (
        ([foreign, same], 0, "verified"),
        ([foreign, same[:40], same], 0, "verified"),
        ([foreign, same, same[:40]], 0, "verified"),
        ([contrary], 1, "heads_contradict"),
        ([same, b"{}", same], 3, "anchor_malformed"),
        ([same.replace(b'"size":3', b'"size":4')], 3, "anchor_malformed"),
    ):
        (tmp_path / "kept.jsonl").write_bytes(b"\n".join(lines))
        code, said = run("verify", "head.txt", "--key", "first.pem", "--anchor", "kept.jsonl")
        assert (code, words in said) == (expected, True), (lines, said)


def test_sinks_are_added_listed_and_removed(run: Run) -> None:
    assert "no sink" in run("anchors", "list")[1]
    assert run("anchors", "add", "worm", "--file", "kept.jsonl", "--by", "ada")[0] == 0
    assert run("anchors", "add", "auditor", "--url", "https://auditor.example/in", "--leaves", "8")[0] == 0
    rows = json.loads(run("anchors", "list", "--json")[1])
    assert [(row["name"], row["kind"], row["leaves"], row["pending"], row["removed_at"]) for row in rows] == [
        ("auditor", "webhook", 8, 0, None), ("worm", "file", 64, 0, None),
    ]  # fmt: skip
    assert run("anchors", "retry", "worm")[0] == 0
    assert run("anchors", "remove", "worm")[0] == 0
    assert json.loads(run("anchors", "list", "--json")[1])[1]["removed_at"] is not None


REFUSED = [
    (["keys", "rotate"], "0 keys that could follow"),
    (["keys", "rotate", "--new", "old.pem"], "in the history already"),
    (["keys", "rotate", "--new", "both.pem"], "2 keys that could follow"),
    (["keys", "rotate", "--new", "first.pem"], "not an unencrypted private key"),
    (["keys", "rotate", "--new", "new.pem", "--old", "new.pem"], "give it with --old"),
    (["keys", "rotate", "--new", "missing.pem"], "No such file"),
    (["keys", "export", "--as", "der"], "jwk or pem"),
    (["verify", "first.pem", "--key", "first.pem", "--history", "first.pem"], "history_malformed"),
    (["anchors", "add", "worm"], "either --file FILE or --url URL"),
    (["anchors", "add", "worm", "--file", "./kept"], "name it from the root"),
    (["anchors", "add", "Worm", "--url", "https://auditor/in"], "small letters"),
    (["anchors", "add", "worm", "--url", "ftp://auditor/in"], "scheme"),
    (["anchors", "add", "worm", "--url", "http://169.254.169.254/latest"], "link_local"),
    (["anchors", "add", "worm", "--url", "https://93.184.216.34/in"], "literal"),
    (["anchors", "add", "worm", "--url", "https://auditor.example:9000/in"], "port"),
    (["anchors", "add", "worm", "--url", "https://auditor..example/in"], "url_malformed"),
    (["anchors", "remove", "nothing"], "there is no sink"),
    (["anchors", "retry", "nothing"], "there is no sink"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_what_cannot_be_done_is_told_with_the_fix(run: Run, arguments: list[str], words: str) -> None:
    code, said = run(*arguments)
    assert (code, words in " ".join(said.split())) == (3, True), said
