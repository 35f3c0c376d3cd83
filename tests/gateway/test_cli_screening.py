"""`zentra screening`: a list from its file into force, what it says of a name, and parties that are held against it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from tests.gateway.commanding import Zentra

SDN = '101,"VORANSKY, Jorunn","individual","XA",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0-\n'
ALT = '101,7,"aka","Йорунн Воранский",-0-\n'


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "sdn.csv").write_text(SDN, encoding="utf-8")
    (tmp_path / "alt.csv").write_text(ALT, encoding="utf-8")
    return tmp_path / "sdn.csv"


@pytest.mark.parametrize(
    ("name", "code", "score"),
    [("Jorunn Voransky", 1, 1000), ("ВОРАНСКИЙ, Йорунн", 1, 1000), ("Ulrika Denholm", 0, None)],
)
def test_a_file_is_asked_without_a_server(
    zentra: Callable[..., tuple[int, str, str]], files: Path, name: str, code: int, score: int | None
) -> None:
    left, out, err = zentra(f"screening check {name!r} --file {files} --json")
    assert (left, err) == (code, "")
    told = json.loads(out)
    assert [hit["score"] for hit in told["hits"]] == ([] if score is None else [score])
    assert told["algorithm"].startswith("zentra-names-")


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("screening load --name x", 2, "name one file"),
        ("screening load {file} --synthetic 5 --name x", 2, "name one file"),
        ("screening load {file}.bak --name x", 2, "say --format"),
        ("screening load {file}.bak --name x --format targets", 3, "No such file"),
        ("screening load {file} --name x --format targets", 1, "list_malformed"),
        ("screening load {file} --name x --fetched-at tomorrow", 2, "a time like"),
        ("screening load {file} --name x", 3, "ADMIN_URL is not set"),
        ("screening list", 3, "ADMIN_URL is not set"),
        ("screening rescreen", 3, "WRITER_URL is not set"),
        ("screening check x", 3, "ADMIN_URL is not set"),
        ("screening check '???' --file {file}", 1, "name_unscreenable"),
    ],
)
def test_an_expected_error_has_an_exit_code_and_a_sentence(
    zentra: Zentra, files: Path, line: str, code: int, sentence: str
) -> None:
    left, _, err = zentra(line.format(file=files))
    assert left == code, err
    assert sentence in err
    assert "Traceback" not in err


@pytest.mark.service
def test_a_list_comes_into_force_and_parties_are_held_against_it(fresh: Zentra, files: Path, tmp_path: Path) -> None:
    def done(line: str) -> str:
        code, out, err = fresh(line)
        assert code == 0, err
        return out

    done("migrate")
    done("tenants create acme")
    rules = tmp_path / "rules.json"
    rules.write_text('{"compliance": {"screen": "all"}}')
    done(f"policies create acme --file {rules}")
    assert "no lists" in done("screening list")
    assert fresh("screening check x")[0] == 3
    told = json.loads(done(f"screening load {files} --name ofac-sdn --settle 0 --json"))
    assert (told["version"], told["entries"], told["names"], told["new"]) == (1, 1, 2, True)
    assert "the same list" in done(f"screening load {files} --name ofac-sdn --settle 0")
    assert "is in force" in done("screening load --synthetic 20 --name synthetic --settle 0.2")
    listed = json.loads(done("screening list --json"))
    assert [(row["name"], row["status"]) for row in listed] == [("ofac-sdn", "active"), ("synthetic", "active")]
    code, out, _ = fresh("screening check 'voransky jorunn'")
    assert (code, "ofac-101" in out) == (1, True)
    _put_party(fresh)
    _put_policy(fresh, "acme", 9, "draft", '{"compliance": {"nothing": 1}}')
    assert json.loads(done("screening rescreen --json")) == {"looked_at": 1, "changed": 1, "unusable": {}}
    assert "0 parties were screened" in done("screening rescreen --tenant acme --wait")
    done("tenants create globex")
    _put_policy(fresh, "globex", 9, "active", '{"compliance": {"nothing": 1}}')
    code, out, err = fresh("screening rescreen --json")
    told = json.loads(out)
    assert (code, told["looked_at"], list(told["unusable"])) == (1, 0, ["globex"])
    assert "/compliance/nothing" in err
    assert "0 parties were screened" in done("screening rescreen --tenant acme")


def _put_policy(fresh: Zentra, tenant: str, version: int, state: str, rules: str) -> None:
    from zentra.gateway.cli.support import settings

    async def put() -> None:
        connection = await asyncpg.connect(settings().postgres_admin_url)
        await connection.execute(
            "update zentra.policies set state = 'retired' where tenant = $1 and $2 = state", tenant, state
        )
        await connection.execute(
            "insert into zentra.policies (tenant, version, rules, created_by, state) values ($1, $2, $3, 'dev', $4)",
            tenant, version, rules, state,
        )  # fmt: skip
        await connection.close()

    asyncio.run(put())


def _put_party(fresh: Zentra) -> None:
    from zentra.gateway.cli.support import settings

    async def put() -> None:
        connection = await asyncpg.connect(settings().postgres_admin_url)
        await connection.execute(
            "insert into zentra.parties (tenant, party_id, kind, legal_name, created_by)"
            " values ('acme', 'p', 'person', 'Jorunn Voransky', 'dev')"
        )
        await connection.close()

    asyncio.run(put())
