"""Which partition a key belongs to.

The hash is FNV-1a with 32 bits, the one behind the NATS server's `partition()` subject function, so a key hashed
here and a subject mapped there meet in the same partition. The number of partitions is fixed at install: changing
it sends known keys to new owners.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import count

__all__ = ["callback_key", "fnv1a_32", "lane_key", "log_key", "partition_of", "payer_partition", "steered"]

_OFFSET = 0x811C9DC5
_PRIME = 0x01000193

# Multiplication and xor never carry information downwards, so the low eight bits of the hash depend on nothing but
# the low eight bits of each step. One table of 256 products therefore replaces the 32-bit arithmetic whenever the
# number of partitions is a power of two up to 256, which it is in every installation we recommend.
_LOW_PRODUCTS = bytes(low * _PRIME & 0xFF for low in range(256))
_LOW_OFFSET = _OFFSET & 0xFF
_LOW_PARTITIONS_MAX = 256
_ENDING_DIGITS = 4  # enough to reach every one of 256 partitions from anywhere


def fnv1a_32(data: bytes) -> int:
    """The FNV-1a hash of the bytes, an integer in [0, 2**32)."""
    value = _OFFSET
    for byte in data:
        value = (value ^ byte) * _PRIME & 0xFFFFFFFF
    return value


def partition_of(key: str | bytes, partitions: int) -> int:
    """The partition of the key, in [0, partitions).

    Raises ValueError when there is not at least one partition.
    """
    data = key.encode() if isinstance(key, str) else key
    if 0 < partitions <= _LOW_PARTITIONS_MAX and not partitions & (partitions - 1):
        products = _LOW_PRODUCTS
        low = _LOW_OFFSET
        for byte in data:
            low = products[low ^ byte]
        return low & (partitions - 1)
    if partitions < 1:
        raise ValueError(f"partitions must be at least 1, not {partitions}")
    return fnv1a_32(data) % partitions


@lru_cache(maxsize=2 * _LOW_PARTITIONS_MAX)
def _endings(low: int, partitions: int) -> tuple[str, ...]:
    """Return, by partition, the hex digits that lead a hash of these low bits there."""
    endings: dict[int, str] = {}
    for number in count():
        digits = f"{number:0{_ENDING_DIGITS}x}"
        at = low
        for byte in digits.encode():
            at = _LOW_PRODUCTS[at ^ byte]
        endings.setdefault(at & (partitions - 1), digits)
        if len(endings) == partitions:
            return tuple(endings[partition] for partition in range(partitions))
    raise AssertionError("unreachable")


def steered(key: str, partition: int, partitions: int) -> str:
    """Return the hex key with its last digits exchanged so that it belongs to `partition`.

    Where the number of partitions is not a power of two up to 256 the key is returned as it is: where it belongs is a
    matter of speed."""
    if partitions > _LOW_PARTITIONS_MAX or partitions & (partitions - 1):
        return key
    low = _LOW_OFFSET
    head = key[:-_ENDING_DIGITS]
    for byte in head.encode():
        low = _LOW_PRODUCTS[low ^ byte]
    return head + _endings(low, partitions)[partition]


@lru_cache(maxsize=65_536)
def payer_partition(tenant: str, account: str, partitions: int) -> int:
    """Return the partition that intents are steered to which take money from an account: what guards it, its balance
    and its counters, is then read and written by one worker alone."""
    return partition_of(f"{tenant}/{account}", partitions)


def log_key(tenant: str) -> str:
    """The key of a tenant's evidence log."""
    return f"{tenant}/log"


def lane_key(tenant: str, endpoint: str) -> str:
    """The key of the lane that an endpoint's deliveries share."""
    return f"{tenant}/{endpoint}"


def callback_key(rail: str, reference: str) -> str:
    """The key of a rail's report that names no intent of ours."""
    return f"{rail}/{reference}"
