"""`zentra evidence erase`: only the owner can, only when it is meant, and it leaves a signed statement."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from tests.services import Database, database, database_template
from zentra.gateway.cli import evidence_erasure
from zentra.gateway.cli.evidence import evidence_app
from zentra.runtime.evidence.key_files import public_pem
from zentra.storage.administration import Administration
from zentra.storage.intake.personal import PersonalData, write_personal
from zentra.storage.pool import open_pool, transaction

__all__ = ["database", "database_template"]

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ERASE = evidence_erasure.erase  # whoever imports the module has its commands
ASKED = ("erase", "--tenant", "acme", "--subject", "cust-42", "--reason", "asked for", "--by", "ada")

app = typer.Typer()
app.add_typer(evidence_app, name="evidence")

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(database: Database) -> Run:
    """Run a command where a subject has two values."""

    async def begin() -> None:
        pool = await open_pool(database.admin_url, name="test", connections_max=1)
        if not await pool.fetchval("select true from tenants where id = 'acme'"):
            await Administration(pool).create_tenant("acme", "Acme")
        await pool.execute("truncate personal_openings, personal_subjects, evidence_erasures")
        metadata = {"personal.subject": "cust-42", "personal.name": "Ada"}
        _, personal = await PersonalData(pool, bytes(32)).commit("acme", metadata, "k", None)
        assert personal is not None
        async with transaction(pool) as connection:
            assert await write_personal(connection, [("acme", uuid.uuid4().hex, personal)]) == []
        await pool.close()

    asyncio.run(begin())
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def command(*arguments: str, input: str = "", **environment: str) -> tuple[int, str]:
        given = {
            "ZENTRA_POSTGRES_ADMIN_URL": database.admin_url, "ZENTRA_POSTGRES_WRITER_URL": database.writer_url,
            "ZENTRA_EVIDENCE_KEY": pem,
        } | environment  # fmt: skip
        result = CliRunner().invoke(app, ["evidence", *arguments], env=given, input=input)
        return result.exit_code, " ".join(result.output.split())

    return command


def test_it_is_erased_once_and_the_statement_verifies(run: Run, tmp_path: Path) -> None:
    code, said = run(*ASKED, "--yes")
    assert (code, "erased: 2 values" in said) == (0, True), said
    assert "files of the database were written anew" in said
    assert "nothing of this subject" in run(*ASKED, "--yes")[1]
    (row,) = json.loads(run("erasures", "--tenant", "acme", "--json")[1])
    assert (row["actor"], row["reason"], row["erased"]) == ("ada", "asked for", 2)
    (tmp_path / "erasure.json").write_text(json.dumps(row["envelope"]))
    (tmp_path / "pub.pem").write_text(public_pem(KEY.public_key()))
    code, said = run("verify", str(tmp_path / "erasure.json"), "--key", str(tmp_path / "pub.pem"))
    assert (code, "verified" in said) == (0, True), said
    assert "cust-42" not in json.dumps(row)


def test_the_files_are_written_anew_or_it_is_said_that_they_are_not(run: Run, database: Database) -> None:
    async def held() -> tuple[int, str]:
        pool = await open_pool(database.admin_url, name="test", connections_max=1)
        async with transaction(pool) as connection:
            await connection.execute("lock table personal_openings in access share mode")
            told = await asyncio.to_thread(run, *ASKED, "--yes", "--json")
        await pool.close()
        return told

    code, said = asyncio.run(held())
    row = json.loads(said)
    assert (code, row["erased"], row["files_rewritten"]) == (0, 2, False)
    assert row["to_do"].startswith("vacuum (full")


REFUSED = [
    ("who does not mean it", {"input": "n\n"}, "nothing was erased"),
    ("without the owner", {"ZENTRA_POSTGRES_ADMIN_URL": "", "input": "y\n"}, "ZENTRA_POSTGRES_ADMIN_URL is not set"),
    ("without the evidence key", {"ZENTRA_EVIDENCE_KEY": "", "input": "y\n"}, "ZENTRA_EVIDENCE_KEY is not set"),
]


@pytest.mark.parametrize(("changes", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_it_is_refused(run: Run, changes: dict[str, str], words: str) -> None:
    code, said = run(*ASKED, **changes)
    assert (code, words in said) == (3, True), said
    assert json.loads(run("erasures", "--tenant", "acme", "--json")[1]) == []
