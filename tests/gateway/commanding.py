"""The command line as the shell would run it, in this process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest

from tests.services import QUOTED_PASSWORD
from zentra.gateway.cli import main as cli
from zentra.gateway.devstack.stack import DevStack

__all__ = ["Zentra", "answer", "fresh", "zentra"]

Zentra = Callable[..., tuple[int, str, str]]


@pytest.fixture
def zentra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Zentra:
    """Runs a command line as the shell would, in this process; returns exit code, stdout and stderr."""
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)  # the log of this process stays pytest's
    monkeypatch.setattr(logging, "captureWarnings", lambda _: None)
    for name in [name for name in os.environ if name.startswith("ZENTRA_")]:
        monkeypatch.delenv(name)

    def run(line: str, **environment: str) -> tuple[int, str, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["zentra", *shlex.split(line)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        code = left.value.code
        shown = capsys.readouterr()
        return int(code or 0), shown.out, shown.err

    return run


@pytest.fixture
def fresh(stack: DevStack, monkeypatch: pytest.MonkeyPatch, zentra: Zentra) -> Iterator[Zentra]:
    """The command line in front of a database of its own, which nobody has migrated yet."""

    async def statement(sql: str) -> None:
        connection = await asyncpg.connect(stack.postgres_url)
        await connection.execute(sql)
        await connection.close()

    asyncio.run(statement("create database for_the_command_line"))
    admin = stack.postgres_url.rpartition("/")[0] + "/for_the_command_line"
    server = admin.rpartition("@")[2]
    monkeypatch.setenv("ZENTRA_POSTGRES_ADMIN_URL", admin)
    monkeypatch.setenv("ZENTRA_POSTGRES_WRITER_URL", f"postgresql://zentra_writer:{QUOTED_PASSWORD}@{server}")
    monkeypatch.setenv("ZENTRA_POSTGRES_TENANT_URL", f"postgresql://zentra_tenant:{QUOTED_PASSWORD}@{server}")
    monkeypatch.setenv("ZENTRA_SECRET", "cd" * 32)
    yield zentra
    asyncio.run(statement("drop database for_the_command_line with (force)"))


def answer(zentra: Zentra, line: str, **environment: str) -> Any:
    code, out, err = zentra(f"{line} --json", **environment)
    assert (code, err) == (0, "")
    return json.loads(out)
