"""Which partition a key belongs to.

The hash is FNV-1a with 32 bits, the one behind the NATS server's `partition()` subject function, so a key hashed
here and a subject mapped there meet in the same partition. The number of partitions is fixed at install: changing
it sends known keys to new owners.
"""

from __future__ import annotations

__all__ = ["callback_key", "fnv1a_32", "lane_key", "log_key", "partition_of"]

_OFFSET = 0x811C9DC5
_PRIME = 0x01000193

# Multiplication and xor never carry information downwards, so the low eight bits of the hash depend on nothing but
# the low eight bits of each step. One table of 256 products therefore replaces the 32-bit arithmetic whenever the
# number of partitions is a power of two up to 256, which it is in every installation we recommend.
_LOW_PRODUCTS = bytes(low * _PRIME & 0xFF for low in range(256))
_LOW_OFFSET = _OFFSET & 0xFF
_LOW_PARTITIONS_MAX = 256


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


def log_key(tenant: str) -> str:
    """The key of a tenant's evidence log."""
    return f"{tenant}/log"


def lane_key(tenant: str, endpoint: str) -> str:
    """The key of the lane that an endpoint's deliveries share."""
    return f"{tenant}/{endpoint}"


def callback_key(rail: str, reference: str) -> str:
    """The key of a rail's report that names no intent of ours."""
    return f"{rail}/{reference}"
