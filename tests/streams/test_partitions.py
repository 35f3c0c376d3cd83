"""The partition of a key, beside the NATS server's own."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from nats.aio.msg import Msg

from tests.streams.nats_server import NatsServer, run_nats_server
from zentra.gateway.devstack.servers import NatsPorts, plain_nats_config
from zentra.runtime.partitions import fnv1a_32, partition_of, payer_partition, steered
from zentra.streams.connection import connect

PARTITION_COUNTS = (1, 7, 64, 256, 1000)


@pytest.mark.parametrize(
    ("data", "expected"),
    [  # the published test vectors of FNV-1a
        (b"", 0x811C9DC5),
        (b"a", 0xE40C292C),
        (b"b", 0xE70C2DE5),
        (b"foobar", 0xBF9CF968),
    ],
)
def test_the_hash_is_fnv1a(data: bytes, expected: int) -> None:
    assert fnv1a_32(data) == expected


@pytest.mark.parametrize("partitions", [1, 2, 3, 16, 64, 100, 128, 255, 256, 257, 512, 1000])
def test_the_short_way_and_the_long_way_agree(partitions: int) -> None:
    for n in range(500):
        key = f"key {n} ä"
        assert partition_of(key, partitions) == fnv1a_32(key.encode()) % partitions
        assert partition_of(key.encode(), partitions) == partition_of(key, partitions)


@pytest.mark.parametrize("partitions", [0, -1, -64])
def test_there_is_at_least_one_partition(partitions: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        partition_of("key", partitions)


@pytest.mark.service
async def test_the_server_maps_a_key_to_the_same_partition(tmp_path_factory: pytest.TempPathFactory) -> None:
    def config(ports: NatsPorts) -> str:
        rules = [f'"key{p}.*": "mapped.{p}.{{{{partition({p},1)}}}}.{{{{wildcard(1)}}}}"' for p in PARTITION_COUNTS]
        return plain_nats_config(ports) + "mappings {\n" + "\n".join(rules) + "\n}\n"

    keys = [uuid.UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128).hex for n in range(200)]
    expected = {(p, key): partition_of(key, p) for p in PARTITION_COUNTS for key in keys}
    with run_nats_server(tmp_path_factory.mktemp("mapping"), config) as server:
        assert await _mapped_by(server, keys) == expected


async def _mapped_by(server: NatsServer, keys: list[str]) -> dict[tuple[int, str], int]:
    mapped: dict[tuple[int, str], int] = {}
    complete = asyncio.Event()

    async def note(message: Msg) -> None:
        _, partitions, partition, key = message.subject.split(".")
        mapped[int(partitions), key] = int(partition)
        if len(mapped) == len(keys) * len(PARTITION_COUNTS):
            complete.set()

    client = await connect(server.url, name="mapping")
    await client.subscribe("mapped.>", cb=note)
    for partitions in PARTITION_COUNTS:
        for key in keys:
            await client.publish(f"key{partitions}.{key}")
    await complete.wait()
    await client.close()
    return mapped


@pytest.mark.parametrize("partitions", [1, 2, 8, 16, 64, 256])
def test_a_key_is_steered_to_any_partition_by_its_last_digits(partitions: int) -> None:
    for number in range(20):
        key = f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 & (1 << 128) - 1:032x}"
        steered_keys = [steered(key, partition, partitions) for partition in range(partitions)]
        assert [partition_of(found, partitions) for found in steered_keys] == list(range(partitions))
        assert {found[:-4] for found in steered_keys} == {key[:-4]}
        assert all(len(found) == 32 and int(found, 16) >= 0 for found in steered_keys)


@pytest.mark.parametrize("partitions", [7, 100, 512])
def test_where_keys_cannot_be_steered_they_stay_as_they_are(partitions: int) -> None:
    assert steered("0" * 32, 3, partitions) == "0" * 32


def test_intents_of_one_payer_have_one_partition() -> None:
    places = {payer_partition("acme", "customer-1", 8) for _ in range(3)}
    assert places == {partition_of("acme/customer-1", 8)}
