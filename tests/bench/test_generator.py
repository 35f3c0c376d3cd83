"""The generator sends what it was told through every door, counts what it hears, and says so when a door is missing."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
import pytest

from zentra.bench.measuring.generating import GeneratorFault, generate, measure_ceiling
from zentra.bench.measuring.generator import run_load
from zentra.bench.measuring.load import Load, distinct_numbers
from zentra.bench.measuring.marks import Marks
from zentra.bench.measuring.null import NullNats, answer_http
from zentra.bench.measuring.receiver import Receiver
from zentra.bench.measuring.schedule import Phase
from zentra.bench.measuring.transports import RouteMissing
from zentra.bench.measuring.wire import ConnectionLost, HttpPool, serve
from zentra.bench.measuring.workload import Mix

ACCOUNTS = {"sources": ("customer-1", "customer-2"), "destinations": ("merchant-1", "merchant-2")}


@pytest.fixture
async def null_http() -> AsyncIterator[str]:
    """The URL of a null server."""
    async with serve(answer_http) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
async def null_nats() -> AsyncIterator[str]:
    """The URL of a null server that speaks NATS."""
    server = await asyncio.get_running_loop().create_server(NullNats, "127.0.0.1", 0)
    async with server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


# fmt: off
LOADS = [
    ("http", 1,   {"intents": 60, "in_flight": 8},                                    {"full speed": 60}),
    ("bulk", 25,  {"intents": 60, "in_flight": 50},                                   {"full speed": 60}),
    ("bulk", 25,  {"phases": (Phase("a", 0.1, 300), Phase("b", 0.1, 300))},           {"a": 30, "b": 30}),
    ("http", 1,   {"intents": 40, "rate": 400.0},                                     {"steady": 40}),
    ("http", 1,   {"phases": (Phase("a", 0.1, 300, 100),), "poisson_seed": 3},        {"a": 20}),
]
# fmt: on


@pytest.mark.parametrize(("transport", "batch", "how", "sent"), LOADS)
async def test_everything_is_sent_and_answered_in_its_phase(
    null_http: str, transport: str, batch: int, how: dict[str, object], sent: dict[str, int]
) -> None:
    load = msgspec.convert(
        {"transport": transport, "url": null_http, "batch": batch, **ACCOUNTS, **msgspec.to_builtins(how)}, Load
    )
    report = await run_load(load)
    assert (report.accepted, report.refused) == (sum(sent.values()), 0)
    assert {sample.phase: sample.response.total for sample in report.samples} == sent
    assert {phase: lag.total for phase, lag in report.lags.items()} == sent
    assert sum(second.sent for second in report.by_second.values()) == sum(sent.values())


@pytest.mark.parametrize("batch", [1, 20])
async def test_the_door_of_nats_takes_one_or_many(null_nats: str, batch: int) -> None:
    report = await run_load(Load(transport="nats", url=null_nats, intents=50, batch=batch, **ACCOUNTS))  # type: ignore[arg-type]
    assert (report.accepted, report.refused) == (50, 0)


async def test_latency_counts_from_the_intended_time_and_service_from_the_actual_one() -> None:
    """A server that stands still for a moment delays everything behind it; a closed loop would have seen it once."""
    held = 0
    never = threading.Event()

    def slow(method: bytes, path: bytes, headers: dict[bytes, bytes], body: bytes) -> tuple[int, bytes]:
        nonlocal held
        held += 1
        if held == 1:
            never.wait(0.2)  # the whole loop stands still, as a stalled process would
        return 202, b"{}"

    async with serve(slow) as port:
        load = Load(transport="http", url=f"http://127.0.0.1:{port}", intents=20, rate=200.0, **ACCOUNTS)  # type: ignore[arg-type]
        report = await run_load(load)
    (sample,) = report.samples
    assert sample.response.quantile_ms(0.5) > sample.service.quantile_ms(0.5)
    assert sample.response.quantile_ms(0.5) > 50
    assert report.sent_late > 0


async def test_a_gateway_without_the_bulk_door_is_named() -> None:
    async with serve(lambda method, path, headers, body: (404, b"{}")) as port:
        load = Load(transport="bulk", url=f"http://127.0.0.1:{port}", intents=5, batch=5, **ACCOUNTS)  # type: ignore[arg-type]
        with pytest.raises(RouteMissing, match="POST /runtime/intents/bulk"):
            await run_load(load)
        with pytest.raises(GeneratorFault, match="POST /runtime/intents/bulk"):
            await generate(load)


@pytest.mark.parametrize(("status", "body", "outcome"), [
    (503, b'{"code": "overloaded"}',                                     "503 overloaded"),
    (200, b'{"results": [{"status": 202, "body": {}}]}',                 "202"),
    (200, b'[{"status": 200, "replayed": true, "body": {}}]',            "200 replayed"),
    (200, b'[{"status": 422, "code": "amount_invalid"}]',                "422 amount_invalid"),
    (200, b'[]',                                                         "200"),
])  # fmt: skip
async def test_each_item_of_a_bulk_has_an_answer_of_its_own(status: int, body: bytes, outcome: str) -> None:
    async with serve(lambda method, path, headers, sent: (status, body)) as port:
        load = Load(transport="bulk", url=f"http://127.0.0.1:{port}", intents=1, batch=1, **ACCOUNTS)  # type: ignore[arg-type]
        report = await run_load(load)
    assert [sample.outcome for sample in report.samples] == [outcome]


async def test_a_closed_door_is_counted_and_never_tried_again() -> None:
    async with serve(answer_http) as port:
        pass
    report = await run_load(Load(transport="http", url=f"http://127.0.0.1:{port}", intents=7, **ACCOUNTS))  # type: ignore[arg-type]
    assert (report.accepted, report.refused) == (0, 7)
    assert report.refusals == {"ConnectionRefusedError": 7}


async def test_repeats_are_sent_with_the_key_of_before() -> None:
    keys: list[bytes] = []

    def note(method: bytes, path: bytes, headers: dict[bytes, bytes], body: bytes) -> tuple[int, bytes]:
        keys.append(headers[b"x-idempotency-key"])
        return 202, b"{}"

    async with serve(note) as port:
        load = Load(
            transport="http", url=f"http://127.0.0.1:{port}", intents=200, mix=Mix(repeats=0.3), in_flight=4,
            **ACCOUNTS,  # type: ignore[arg-type]
        )  # fmt: skip
        report = await run_load(load)
    assert report.repeated == 200 - len(set(keys)) > 30


async def test_one_load_goes_through_both_doors(null_http: str, null_nats: str) -> None:
    load = Load(
        transport="both", url=null_http, nats_url=null_nats, intents=400, batch=20, in_flight=40,
        mix=Mix(repeats=0.3, repeat_within=60), **ACCOUNTS,  # type: ignore[arg-type]
    )  # fmt: skip
    report = await run_load(load)
    assert {sample.route: sample.response.total for sample in report.samples} == {
        "POST /runtime/intents": 200, "zentra.intents.create": 200,
    }  # fmt: skip
    acknowledged = Marks(report.acknowledged)
    assert set(acknowledged) == distinct_numbers(load)
    assert len(acknowledged) == 400 - report.repeated
    assert 20 < report.repeated_elsewhere < report.repeated
    assert 0 < report.repeated_early <= report.repeated


OVERLOADED = b'{"code": "overloaded", "retryable": true, "retry_after_seconds": 0}'
REUSED = b'{"code": "idempotency_key_reused", "retryable": false}'


@pytest.mark.parametrize(("status", "problem", "comes_back", "accepted", "turned_away", "refusals"), [
    (503, OVERLOADED, True,  10, 20, {}),
    (503, OVERLOADED, False,  0,  0, {"503 overloaded": 10}),
    (422, REUSED,     True,   0,  0, {"422 idempotency_key_reused": 10}),
])  # fmt: skip
async def test_who_is_turned_away_for_now_comes_back_with_the_same_key_and_is_counted(
    status: int, problem: bytes, comes_back: bool, accepted: int, turned_away: int, refusals: dict[str, int]
) -> None:
    asked: Counter[bytes] = Counter()

    def busy(method: bytes, path: bytes, headers: dict[bytes, bytes], body: bytes) -> tuple[int, bytes]:
        key = headers[b"x-idempotency-key"]
        asked[key] += 1
        return (status, problem) if asked[key] <= 2 else (202, b"{}")

    async with serve(busy) as port:
        url = f"http://127.0.0.1:{port}"
        load = Load(transport="http", url=url, intents=10, in_flight=3, comes_back=comes_back, **ACCOUNTS)  # type: ignore[arg-type]
        report = await run_load(load)
    assert (report.accepted, sum(report.turned_away.values()), report.refusals) == (accepted, turned_away, refusals)
    assert len(Marks(report.acknowledged)) == accepted
    assert (len(asked), set(asked.values())) == (10, {3 if accepted else 1})


async def test_of_a_bulk_only_those_come_back_that_were_turned_away() -> None:
    sizes: list[int] = []

    def half(method: bytes, path: bytes, headers: dict[bytes, bytes], body: bytes) -> tuple[int, bytes]:
        sizes.append(len(msgspec.json.decode(body)))
        items = [b'{"status": 202}', b'{"status": 503, %b' % OVERLOADED[1:]] * sizes[-1]
        return 200, b'{"results": [%b]}' % b",".join(items[: sizes[-1]])

    async with serve(half) as port:
        load = Load(
            transport="bulk", url=f"http://127.0.0.1:{port}", intents=8, batch=8, comes_back=True, **ACCOUNTS  # type: ignore[arg-type]
        )  # fmt: skip
        report = await run_load(load)
    assert (sizes, report.accepted, report.refused) == ([8, 4, 2, 1], 8, 0)


async def test_an_answer_says_when_to_come_back_in_its_header() -> None:
    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 busy\r\nRetry-After: 7\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(busy, "127.0.0.1", 0)
    async with server:
        pool = HttpPool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", {}, connections_max=1)
        answer = await pool.request("GET", "/", b"", b"", 5)
        await pool.close()
    assert (answer.status, answer.retry_after) == (503, "7")


@pytest.mark.parametrize(("sent", "found"), [
    (b"HTTP/1.1 202 Accepted\r\nIdempotent-Replayed: true\r\nContent-Length: 2\r\n\r\n{}",   (202, b"{}", True)),
    (b"HTTP/1.1 202 Accepted\r\nidempotent-replayed: false\r\ncontent-length:2\r\n\r\n{}",  (202, b"{}", False)),
    (b"HTTP/1.1 204 No Content\r\ndate: today\r\n\r\n",                                    (204, b"", False)),
])  # fmt: skip
@pytest.mark.parametrize("cut", [0, 20, 60])
async def test_an_answer_is_read_whole_however_it_arrives(sent: bytes, found: tuple[object, ...], cut: int) -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in (sent[:cut], sent[cut:]):
            writer.write(part)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answering, "127.0.0.1", 0)
    async with server:
        pool = HttpPool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", {}, connections_max=1)
        answer = await pool.request("GET", "/", b"", b"", 5)
        await pool.close()
    assert (answer.status, answer.body, answer.replayed) == found


async def test_a_server_that_says_nothing_is_given_up_on() -> None:
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            pass
        writer.close()
        gone.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        pool = HttpPool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", {}, connections_max=1)
        with pytest.raises(TimeoutError):
            await pool.request("GET", "/", b"", b"", 0.01)
        await gone.wait()
        await pool.close()


async def test_load_goes_to_this_machine_only() -> None:
    with pytest.raises(ValueError, match="this machine only"):
        await run_load(Load(transport="http", url="http://192.0.2.1:80", intents=1, **ACCOUNTS))  # type: ignore[arg-type]


async def test_several_processes_send_one_load_together(null_http: str) -> None:
    told: list[tuple[float, list[int]]] = []
    load = Load(transport="http", url=null_http, intents=101, rate=400.0, **ACCOUNTS)  # type: ignore[arg-type]
    report = await generate(load, 2, started=lambda at, pids: told.append((at, pids)))
    assert (report.accepted, report.refused) == (101, 0)
    assert len(set(told[0][1])) == 2


async def test_the_ceiling_is_measured_against_a_server_that_does_nothing() -> None:
    ceiling = await measure_ceiling(Load(transport="nats", url="", intents=1, batch=100, in_flight=2_000, **ACCOUNTS))  # type: ignore[arg-type]
    assert ceiling.per_second > 1_000
    assert ceiling.cpu_us_per_intent > 0


async def test_a_connection_that_speaks_no_http_is_an_error() -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"what?\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    async with server:
        pool = HttpPool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", {}, connections_max=1)
        with pytest.raises(ConnectionLost):
            await pool.request("GET", "/", b"", b"", 5)
        await pool.close()


def test_an_endpoint_counts_each_event_once_and_none_while_it_is_down() -> None:
    receiver = Receiver()
    signed = {b"webhook-id": b"msg_1", b"webhook-signature": b"v1,x"}
    assert [receiver.take(b"POST", b"/", signed, b"")[0] for _ in range(2)] == [204, 204]
    receiver.take(b"POST", b"/", {b"webhook-id": b"msg_2"}, b"")
    receiver.down_to = float("inf")
    assert receiver.take(b"POST", b"/", {b"webhook-id": b"msg_3"}, b"")[0] == 503
    assert receiver.counts() == {"calls": 4, "refused": 1, "unsigned": 1, "taken": 2}
