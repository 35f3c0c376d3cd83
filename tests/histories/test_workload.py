"""The workload asks for what it promises, and what a running installation shows of it is explained by the model."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import anyio
import msgspec
import pytest

from zentra.bench.histories.__main__ import QUICK
from zentra.bench.histories.checking import check
from zentra.bench.histories.clients import Clients, Target
from zentra.bench.histories.ending import keep_commit_times, read_ending
from zentra.bench.histories.model import Ending
from zentra.bench.histories.recording import Call, Create, ReadAccount, ReadEntries, ReadIntent, Recorder
from zentra.bench.histories.requests import complaints
from zentra.bench.histories.verifying import HistoryReport, outcome_of, verify
from zentra.bench.histories.workload import Draw, Workload, run_workload
from zentra.gateway.installation.installation import Installation
from zentra.storage.pool import open_pool

DRAWN = 20_000


def drawn(seed: int) -> list[Create | ReadIntent | ReadAccount | ReadEntries]:
    draw, chance = Draw(Workload(seed=seed)), random.Random(seed)
    return [draw.operation(chance) for _ in range(DRAWN)]


def test_half_of_the_creations_repeat_something_and_few_are_mistakes() -> None:
    operations = drawn(1)
    creates = [operation for operation in operations if isinstance(operation, Create)]
    keys: set[str] = set()
    ids: set[str] = set()
    repeats = zeros = mistakes = 0
    for asked in creates:
        intent_id = asked.body.get("intent_id", "")
        repeats += asked.key in keys or intent_id in ids
        keys.add(asked.key)
        ids.add(intent_id)
        zeros += int(asked.body["amount"]) == 0
        mistakes += bool(complaints(asked.body))
    assert 0.6 < len(creates) / DRAWN < 0.7
    assert 0.45 < repeats / len(creates) < 0.6
    assert 0.005 < zeros / len(creates) < 0.02
    assert 0.015 < mistakes / len(creates) < 0.05
    assert {asked.door for asked in creates} == {"http", "nats"}


def test_few_accounts_are_hot_and_reads_are_drawn_freely() -> None:
    operations = drawn(2)
    sources = Counter(asked.body["source"] for asked in operations if isinstance(asked, Create))
    (hottest, often), *_ = sources.most_common()
    assert hottest.endswith("customer-0")
    assert often > 2 * sources["history-2-customer-3"]
    made = {asked.body.get("intent_id") for asked in operations if isinstance(asked, Create)}
    looks = [asked.intent_id for asked in operations if isinstance(asked, ReadIntent)]
    assert 0.05 < sum(look not in made for look in looks) / len(looks) < 0.5
    pages = [asked for asked in operations if isinstance(asked, ReadEntries)]
    assert len({asked.limit for asked in pages}) > 50
    assert len({asked.after for asked in pages if asked.after is not None}) > 100


@pytest.mark.service
@pytest.mark.timeout(120)
def test_what_a_running_installation_shows_is_explained(tmp_path: Path) -> None:
    workload = Workload(seed=5, operations=600, clients=24)
    with Installation(rail_timing=QUICK) as installation, Recorder(tmp_path / "history") as recorder:
        target = Target.of(installation)
        anyio.run(times_kept, target)
        installation.servers.postgres.restart()
        report, history, broken = anyio.run(asked_and_checked, workload, target, recorder)
    assert report.violations == ()
    assert report.exact_order
    assert {
        "create 202", "create 202 replayed", "create 409 intent_id_conflict", "create 422 idempotency_key_reused",
        "create 422 validation_failed", "read 200", "read 404 not_found",
    } <= report.outcomes.keys()  # fmt: skip
    assert report.calls == len(history) > workload.operations
    assert {"balance_read", "acknowledged"} <= broken


async def times_kept(target: Target) -> None:
    async with await open_pool(target.postgres_url, name="test", connections_max=1) as pool:
        await keep_commit_times(pool)


async def asked_and_checked(
    workload: Workload, target: Target, recorder: Recorder
) -> tuple[HistoryReport, list[Call], set[str]]:
    async with Clients(target, recorder, doors=workload.doors) as clients:
        await run_workload(workload, clients)
    report = await verify(target, recorder)
    history = recorder.history()
    async with await open_pool(target.postgres_url, name="test", connections_max=1) as pool:
        ending = await read_ending(pool, workload.tenant)
    return report, history, {violation.rule for violation in check(*with_faults(history, ending))}


def with_faults(history: list[Call], ending: Ending) -> tuple[list[Call], Ending]:
    """Return the history with one balance a single unit off, and a store without one key that was acknowledged."""
    calls = list(history)
    place = next(
        place for place, call in enumerate(calls)
        if isinstance(call.operation, ReadAccount) and call.status == 200 and place > len(calls) // 2
    )  # fmt: skip
    shown = msgspec.json.decode(calls[place].body)
    for name in ("posted", "available"):
        shown[name] = str(int(shown[name]) + 1)
    shown["counters"]["credits_posted"] = str(int(shown["counters"]["credits_posted"]) + 1)
    calls[place] = msgspec.structs.replace(calls[place], body=msgspec.json.encode(shown).decode())
    first = next(call.operation for call in calls if outcome_of(call) == "create 202")
    assert isinstance(first, Create)
    kept = {key: stored for key, stored in ending.keys.items() if key != first.key}
    return calls, msgspec.structs.replace(ending, keys=kept)
