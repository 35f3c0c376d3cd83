"""The embedded stack: it starts, keeps its data, survives the death of its owner, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import nats
import pytest
import redis

from zentra.gateway.devstack import servers
from zentra.gateway.devstack.processes import Leftover, end_leftovers, process_identity
from zentra.gateway.devstack.stack import DevStack, DevStackError, NatsPorts, ServerProcess

pytestmark = [pytest.mark.service]

SERVERS = ("postgres", "nats", "redis")

OWNER = """
import json, sys
from pathlib import Path
from zentra.gateway.devstack import stack as devstack, processes as devstack_processes
devstack_processes.DIE_WITH_PARENT = devstack_processes.DIE_WITH_PARENT and sys.argv[1] == "dies"
stack = devstack.DevStack(Path(sys.argv[2]) if sys.argv[2] else None)
stack.start()
pids = [stack.postgres.pid, stack.nats.pid, stack.redis.pid]
print(json.dumps({"pids": pids, "dir": str(stack.data_dir)}), flush=True)
if sys.argv[3] == "waits":
    sys.stdin.read()
"""


async def answers(stack: DevStack) -> tuple[object, str, object]:
    """One real exchange with each server."""
    database = await asyncpg.connect(stack.postgres_url)
    one = await database.fetchval("select 1")
    await database.close()
    client = await nats.connect(stack.nats_url)
    stream = await client.jetstream().add_stream(name="PROBE", subjects=["probe"])
    await client.close()
    with redis.Redis.from_url(stack.redis_url) as cache:
        return one, str(stream.config.name), cache.ping()


def pids(stack: DevStack) -> list[int]:
    found = [server.pid for server in (stack.postgres, stack.nats, stack.redis)]
    return [pid for pid in found if pid is not None]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        os.sched_yield()


def none_runs(condemned: list[int]) -> bool:
    return all(process_identity(pid) is None for pid in condemned)


async def test_every_server_answers_and_durability_is_on(stack: DevStack) -> None:
    assert await answers(stack) == (1, "PROBE", True)
    database = await asyncpg.connect(stack.postgres_url)
    shown = {name: await database.fetchval(f"show {name}") for name in ("fsync", "synchronous_commit", "max_wal_size")}
    await database.close()
    assert shown == {"fsync": "on", "synchronous_commit": "on", "max_wal_size": "4GB"}


def test_redis_keeps_nothing_and_does_not_grow_without_end(stack: DevStack) -> None:
    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as cache:
        shown = {name: cache.config_get(name)[name] for name in ("save", "appendonly", "maxmemory", "maxmemory-policy")}
    assert shown == {"save": "", "appendonly": "no", "maxmemory": str(256 << 20), "maxmemory-policy": "allkeys-lru"}


@pytest.mark.parametrize(("memory_mb", "buffers_mb"), [(512, 128), (4_096, 512), (24_000, 1_024)])
def test_postgres_keeps_an_eighth_of_the_memory_at_hand_and_no_more_than_pays(
    monkeypatch: pytest.MonkeyPatch, memory_mb: int, buffers_mb: int
) -> None:
    sizes = {"SC_PAGE_SIZE": 4_096, "SC_PHYS_PAGES": memory_mb * 256}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    assert servers._shared_buffers_mb() == buffers_mb


async def test_postgres_refuses_whoever_has_no_password(stack: DevStack) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://postgres:wrong@127.0.0.1:{stack.postgres.port}/postgres")


def test_files_with_secrets_are_private_and_no_secret_is_on_a_command_line(stack: DevStack) -> None:
    secret = (stack.data_dir / "postgres.password").read_text()
    for name in ("postgres.password", "state.json", "nats.conf", "redis.conf", "postgres.log", "nats.log"):
        assert stat.S_IMODE((stack.data_dir / name).stat().st_mode) == 0o600, name
    for pid in pids(stack):
        assert secret not in Path(f"/proc/{pid}/cmdline").read_text()
        assert secret not in Path(f"/proc/{pid}/environ").read_text()


async def test_data_outlives_the_stack_and_ports_stay(tmp_path: Path) -> None:
    with DevStack(tmp_path) as first:
        ports = [server.port for server in (first.postgres, first.nats, first.redis)]
        database = await asyncpg.connect(first.postgres_url)
        await database.execute("create table kept (value int); insert into kept values (7)")
        await database.close()
        client = await nats.connect(first.nats_url)
        await client.jetstream().add_stream(name="KEPT", subjects=["kept"])
        await client.jetstream().publish("kept", b"7")
        await client.close()
        condemned = pids(first)
    assert none_runs(condemned)
    with first:
        with pytest.raises(DevStackError, match="stack is already started"):
            first.start()
        assert [server.port for server in (first.postgres, first.nats, first.redis)] == ports
        database = await asyncpg.connect(first.postgres_url)
        assert await database.fetchval("select value from kept") == 7
        await database.close()
        client = await nats.connect(first.nats_url)
        assert (await client.jetstream().stream_info("KEPT")).state.messages == 1
        await client.close()


def owner(directory: Path | None, *, dies: bool, waits: bool = True) -> subprocess.Popen[str]:
    words = ("dies" if dies else "stays", str(directory or ""), "waits" if waits else "ends")
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def first_words(process: subprocess.Popen[str]) -> tuple[list[int], Path]:
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    return list(told["pids"]), Path(told["dir"])


# With and without the kernel's help: elsewhere than on Linux the servers outlive their killed owner for a while.
@pytest.mark.parametrize("dies", [True, False])
async def test_a_killed_owner_leaves_a_directory_that_starts_again(tmp_path: Path, dies: bool) -> None:
    with owner(tmp_path, dies=dies) as process:
        left, _ = first_words(process)
        process.kill()
    with DevStack(tmp_path) as stack:
        assert none_runs(left)
        assert await answers(stack) == (1, "PROBE", True)
        last = pids(stack)
    assert none_runs(last)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_servers_die_with_a_killed_owner(tmp_path: Path) -> None:
    with owner(tmp_path, dies=True) as process:
        left, _ = first_words(process)
        process.kill()
    wait_until(lambda: none_runs(left))


def test_an_owner_that_forgets_to_stop_leaves_nothing() -> None:
    with owner(None, dies=False, waits=False) as process:
        left, directory = first_words(process)
        assert process.wait(30) == 0
    assert none_runs(left)
    assert not directory.exists()


def test_the_next_start_removes_temporary_directories_of_the_dead() -> None:
    with owner(None, dies=False) as process:
        left, directory = first_words(process)
        process.kill()
    assert directory.exists()
    with DevStack(postgres_url="postgresql://elsewhere", nats_url="nats://elsewhere"):
        assert none_runs(left)
        assert not directory.exists()


def test_a_directory_has_one_stack_at_a_time(tmp_path: Path) -> None:
    def only_redis() -> DevStack:
        return DevStack(tmp_path, postgres_url="postgresql://elsewhere", nats_url="nats://elsewhere")

    with only_redis():
        with pytest.raises(DevStackError, match="data directory is in use by another stack") as refused:
            only_redis().start()
        assert f"stop process {os.getpid()}" in refused.value.fix
    with only_redis() as again:
        assert again.redis.pid is not None


def test_given_urls_are_used_and_nothing_is_started() -> None:
    before = set(Path(tempfile.gettempdir()).glob(f"zentra-dev-{os.getpid()}-*"))
    with DevStack(postgres_url="postgresql://a/b", nats_url="nats://c", redis_url="redis://d") as stack:
        assert (stack.postgres_url, stack.nats_url, stack.redis_url) == ("postgresql://a/b", "nats://c", "redis://d")
        for name in SERVERS:
            with pytest.raises(DevStackError, match="server was given by URL"):
                getattr(stack, name)
        assert set(Path(tempfile.gettempdir()).glob(f"zentra-dev-{os.getpid()}-*")) == before


async def test_a_temporary_directory_goes_with_its_stack_even_after_a_crash_of_a_server() -> None:
    with DevStack() as stack:
        directory = stack.data_dir
        stack.postgres.kill()
        assert stack.postgres.pid is None
        assert directory.exists()
    assert not directory.exists()
    with pytest.raises(DevStackError, match="stack is not running"):
        _ = stack.data_dir


def outside_kill(server: ServerProcess) -> None:
    """What an operator's `kill -9` does: the children of Postgres are not hit."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: server.pid is None)


@pytest.mark.parametrize(
    "end", [ServerProcess.kill, outside_kill, lambda server: None], ids=["kill", "outside", "runs"]
)
async def test_a_server_restarts_on_the_same_port(tmp_path: Path, end: Callable[[ServerProcess], None]) -> None:
    with DevStack(tmp_path) as stack:
        for server in (stack.postgres, stack.nats, stack.redis):
            before = (server.pid, server.port)
            end(server)
            server.restart()
            assert server.port == before[1]
            assert server.pid not in (None, before[0])
        assert await answers(stack) == (1, "PROBE", True)
        stored = json.loads((tmp_path / "state.json").read_text())["servers"]
        assert [stored[name]["pid"] for name in SERVERS] == pids(stack)


async def test_nats_takes_a_new_configuration_and_refuses_a_faulty_one(tmp_path: Path) -> None:
    def config(ports: NatsPorts, password: str) -> str:
        return (
            f"listen: 127.0.0.1:{ports.client}\nhttp: 127.0.0.1:{ports.monitor}\n"
            f'jetstream {{ store_dir: "{ports.store_dir}" }}\n'
            f"authorization {{ user: a, password: {password} }}\n"
        )

    given: list[NatsPorts] = []

    def remember(ports: NatsPorts) -> str:
        given.append(ports)
        return config(ports, "first")

    only_nats = DevStack(
        tmp_path, nats_config=remember, postgres_url="postgresql://elsewhere", redis_url="redis://elsewhere"
    )
    with only_nats as stack:
        assert stack.nats_monitor_url == f"http://127.0.0.1:{given[0].monitor}"
        pid = stack.nats.pid
        stack.reload_nats(config(given[0], "second"))
        with pytest.raises(DevStackError, match="configuration refused"):
            stack.reload_nats("listen: {")
        assert stack.nats.pid == pid
        stack.nats.restart()
        client = await nats.connect(stack.nats_url, user="a", password="second")
        await client.close()


def test_a_server_that_cannot_start_shows_its_log_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DevStackError, match="server ended while starting") as failed:
        DevStack(tmp_path, nats_config=lambda ports: "no_such_option: 1").start()
    assert failed.value.server == "nats"
    assert "no_such_option" in failed.value.log_tail
    assert json.loads((tmp_path / "state.json").read_text())["servers"] == {}
    with DevStack(tmp_path) as stack:
        assert len(pids(stack)) == 3


def test_an_unfinished_cluster_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "postgres.unfinished" / "base").mkdir(parents=True)
    with DevStack(tmp_path, nats_url="nats://elsewhere", redis_url="redis://elsewhere") as stack:
        assert stack.postgres.pid is not None


def test_a_process_that_only_shares_a_pid_is_left_alone() -> None:
    end_leftovers([Leftover(os.getpid(), "another boot/1", signal.SIGKILL), Leftover(os.getpid(), "", signal.SIGKILL)])
    assert process_identity(os.getpid()) is not None


def test_a_damaged_state_file_is_named_and_kept(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"ports": 1')
    with pytest.raises(DevStackError, match="state file is damaged") as failed:
        DevStack(tmp_path).start()
    assert str(tmp_path / "state.json") in failed.value.fix
    assert (tmp_path / "state.json").read_text() == '{"ports": 1'
