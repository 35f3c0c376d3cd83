"""A whole installation on one machine: it comes up seeded, heals, keeps what it knows, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest

from zentra.gateway.devstack.processes import process_identity
from zentra.gateway.devstack.stack import DevStackError
from zentra.gateway.installation.installation import Installation
from zentra.storage.administration import Administration
from zentra.storage.pool import open_pool

pytestmark = [pytest.mark.service, pytest.mark.timeout(120)]

OWNER = """
import json, sys
from pathlib import Path
from zentra.gateway.installation.installation import Installation
installation = Installation(Path(sys.argv[1]))
installation.start()
servers = installation.servers
pids = [installation.processes.pid(name) for name in installation.processes]
pids += [servers.postgres.pid, servers.nats.pid, servers.redis.pid]
print(json.dumps(pids), flush=True)
sys.stdin.read()
"""


def call(
    installation: Installation,
    path: str,
    body: object = None,
    *,
    key: str = "",
    who: str = "dev",
    tenant: str = "acme",
    wait: int = 20,
) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {installation.keys[tenant][who]}", "prefer": f"wait={wait}"}
    if body is not None:
        headers |= {"content-type": "application/json", "x-idempotency-key": key}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{installation.base_url}{path}", data, headers)) as answer:
        return dict(json.load(answer))


def transfer(installation: Installation, key: str, *, wait: int = 20) -> dict[str, Any]:
    body = {"amount": 250_000, "currency": "NGN", "source": "customer-1", "destination": "merchant-1"}
    return call(installation, "/runtime/intents", body, key=key, wait=wait)


def balances(installation: Installation) -> dict[str, dict[str, Any]]:
    names = ("customer-1", "customer-2", "merchant-1", "payout-1", "liquidity-ngn", "settlement-ngn")
    return {name: call(installation, f"/accounts/{name}") for name in names}


def pids(installation: Installation) -> list[int]:
    found = [installation.processes.pid(name) for name in installation.processes]
    servers = installation.servers
    found += [server.pid for server in (servers.postgres, servers.nats, servers.redis)]
    return [pid for pid in found if pid is not None]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        os.sched_yield()


def none_runs(condemned: list[int]) -> bool:
    return all(process_identity(pid) is None for pid in condemned)


def answers(installation: Installation) -> bool:
    try:
        with urllib.request.urlopen(f"{installation.base_url}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def installed() -> Iterator[Installation]:
    """One installation in a temporary directory, with two workers."""
    with Installation(workers=2) as running:
        yield running


def test_it_comes_with_two_tenants_whose_money_is_their_own(installed: Installation) -> None:
    assert {tenant: set(people) for tenant, people in installed.keys.items()} == {
        "acme": {"dev", "ops"},
        "globex": {"dev", "ops"},
    }
    for tenant in ("acme", "globex"):
        customer = call(installed, "/accounts/customer-2", tenant=tenant)
        assert (customer["type"], customer["currency"]) == ("customer", "NGN")
        assert "1000000000" in json.dumps(customer)


def test_a_transfer_over_the_sandbox_rail_succeeds(installed: Installation) -> None:
    assert transfer(installed, "first")["status"] == "SUCCESSFUL"


def test_no_secret_is_on_a_command_line_or_in_an_environment(installed: Installation) -> None:
    private = installed.data_dir / "installation"
    names = ("installation.secret", "writer.password", "tenant.password", "rail.sandbox_a", "evidence.pem")
    for file in private.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    for name in installed.processes:
        pid = installed.processes.pid(name)
        told = Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/environ").read_text()
        for secret in names:
            assert (private / secret).read_text() not in told, (name, secret)
        assert installed.keys["acme"]["dev"] not in told


def test_an_intent_waits_for_a_worker_to_come_back(installed: Installation) -> None:
    for number in (1, 2):
        installed.kill_worker(number)
    waiting = transfer(installed, "while nobody works".replace(" ", "-"), wait=0)
    assert waiting["status"] == "ACCEPTED"
    for number in (1, 2):
        installed.start_worker(number)
    done = call(installed, f"/runtime/intents/{waiting['intent_id']}", wait=30)
    assert done["status"] == "SUCCESSFUL"


def test_a_process_that_ends_unasked_is_started_again(installed: Installation) -> None:
    ended = installed.processes.pid("gateway-1")
    assert ended is not None
    os.kill(ended, signal.SIGKILL)
    wait_until(lambda: installed.processes.pid("gateway-1") not in (None, ended) and answers(installed))
    assert transfer(installed, "after-a-crash-of-the-gateway")["status"] == "SUCCESSFUL"


def test_a_tenant_made_later_gets_its_nats_account(installed: Installation) -> None:
    async def make() -> None:
        async with await open_pool(installed.postgres_admin_url, name="test", connections_max=1) as pool:
            await Administration(pool).create_tenant("initech", "Initech")

    async def connects() -> bool:
        client = await nats.connect(installed.nats_url("initech"), allow_reconnect=False)
        await client.close()
        return True

    asyncio.run(make())
    assert installed.reload_nats() == ["acme", "globex", "initech"]
    assert asyncio.run(connects())
    assert transfer(installed, "after-the-reload")["status"] == "SUCCESSFUL"


def test_everything_may_be_restarted_at_once(installed: Installation) -> None:
    before = pids(installed)
    installed.restart_all()
    assert len(set(before) & set(pids(installed))) == 3, "the servers stay"
    assert transfer(installed, "after-a-restart-of-all")["status"] == "SUCCESSFUL"


def test_a_second_start_finds_the_same_keys_money_and_addresses(tmp_path: Path) -> None:
    with Installation(tmp_path) as installation:
        assert transfer(installation, "first")["status"] == "SUCCESSFUL"
        keys, money, urls = installation.keys, balances(installation), installation.base_urls
        public_key = installation.public_key_path.read_bytes()
        condemned = pids(installation)
        with pytest.raises(DevStackError, match="already started"):
            installation.start()
    assert none_runs(condemned)
    with Installation(tmp_path) as installation:
        assert (installation.keys, installation.base_urls) == (keys, urls)
        assert installation.public_key_path.read_bytes() == public_key
        assert balances(installation) == money
        assert transfer(installation, "first")["status"] == "SUCCESSFUL"
        assert balances(installation) == money, "a key that was used moves nothing"
        assert transfer(installation, "second")["status"] == "SUCCESSFUL"


def test_processes_die_with_a_killed_owner_and_the_next_start_finds_the_money(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    with owner.stdin, owner.stdout:
        condemned = json.loads(owner.stdout.readline())
        assert len(condemned) == 6
        owner.kill()
        owner.wait(10)
    wait_until(lambda: none_runs(condemned))
    with Installation(tmp_path) as installation:
        assert transfer(installation, "first")["status"] == "SUCCESSFUL"


def test_without_a_sandbox_the_inline_rail_carries_the_money() -> None:
    with Installation(sandbox=False) as installation:
        directory = installation.data_dir
        assert transfer(installation, "first")["status"] == "SUCCESSFUL"
        with pytest.raises(DevStackError, match="no sandbox"):
            _ = installation.sandbox_url
    assert not directory.exists()


def test_a_start_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    installation = Installation(tmp_path, overrides={"log_format": "no such format"})
    with pytest.raises(DevStackError, match="ended while starting"):
        installation.start()
    written = json.loads((tmp_path / "installation" / "processes.json").read_text())
    assert written == {}
    with pytest.raises(DevStackError, match="not running"):
        _ = installation.data_dir


def test_a_port_that_is_taken_is_named_and_so_is_the_owner_of_a_directory(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DevStackError, match=f"free port {port}, or choose another"):
            Installation(tmp_path, port=port).start()
    with (
        Installation(tmp_path, gateways=2),
        pytest.raises(DevStackError, match=f"stop process {os.getpid()}"),
    ):
        Installation(tmp_path).start()
