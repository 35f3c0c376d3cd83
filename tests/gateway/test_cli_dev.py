"""`zentra dev` works: what it prints moves money, and it ends cleanly."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from zentra.gateway.devstack.directory import free_port


def _request(curl: str) -> urllib.request.Request:
    """Return the request that a pasted curl makes."""
    words = shlex.split(curl)
    headers = dict(words[place + 1].split(": ", 1) for place, word in enumerate(words) if word == "-H")
    body = words[words.index("-d") + 1]
    url = next(word for word in words if word.startswith("http"))
    return urllib.request.Request(url, body.encode(), headers)


@pytest.mark.service
@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_dev_prints_a_curl_that_moves_money_and_ends_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "zentra.gateway", "dev", "--json"]
    command = [*program, "--data-dir", str(tmp_path), "--port", str(free_port(None, ()))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZENTRA_")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as dev:
        assert dev.stdout is not None
        assert dev.stderr is not None
        lines = []
        for line in dev.stdout:
            lines.append(line)
            if line == "}\n":
                break
        assert lines, dev.stderr.read()
        facts = json.loads("".join(lines))
        for _ in range(2):
            with urllib.request.urlopen(_request(facts["curl"])) as given:
                assert json.load(given)["status"] == "SUCCESSFUL"
        dev.send_signal(number)
        assert dev.wait(30) == 0
        assert dev.stderr.read() == ""
    written = json.loads((tmp_path / "installation" / "processes.json").read_text())
    assert written == {}, "no process is left"
