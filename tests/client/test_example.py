"""The first program that somebody writes, run as they would: beside `zentra dev`, with what that prints."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.architecture import ROOT
from zentra.gateway.devstack.directory import free_port

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(180)]

PROGRAM = ROOT / "docs/examples/first.py"
LINES_MAX = 20  # imports and the receiver included; what it is about and empty lines are not
START_SECONDS_MAX = 90


@pytest.fixture(scope="module")
def dev() -> Iterator[dict[str, Any]]:
    """What a running `zentra dev` says of itself."""
    command = [sys.executable, "-m", "zentra.gateway", "dev", "--json", "--port", str(free_port(None, []))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "}\n")
            yield json.loads("".join(lines) + "}")
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=START_SECONDS_MAX)


def test_the_first_program_runs_beside_a_development_installation(dev: dict[str, Any]) -> None:
    environment = {
        **os.environ, "ZENTRA_BASE_URL": dev["base_url"], "ZENTRA_API_KEY": dev["keys"]["acme"]["dev"],
        "ZENTRA_PUBLIC_KEY": dev["public_key"],
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], env=environment, capture_output=True, text=True, check=False, timeout=150
    )
    assert done.returncode == 0, done.stderr
    intent, webhook, evidence = (line.split() for line in done.stdout.splitlines())
    assert intent[2] == "SUCCESSFUL"
    assert webhook == ["webhook", "ledger.posted", intent[1]]
    assert evidence == ["evidence", "True"]


def test_the_first_program_is_short() -> None:
    source = PROGRAM.read_text(encoding="utf-8")
    about, *code = ast.parse(source).body
    written = source.splitlines()[about.end_lineno :]
    spelled_out = [line for one in code for line in ast.unparse(one).splitlines()]  # a statement a line
    assert [sum(bool(line.strip()) for line in lines) <= LINES_MAX for lines in (written, spelled_out)] == [True, True]
