"""Failed authentication, counted by address: who only guesses is sent away before anybody is asked.

- An address may fail a hundred times at once and ten times a second; beyond that, what is not known to be good is
  refused unseen. What was good lately is looked at as ever, so nobody can lock others of the same address out.
- IPv6 is counted by /64, because whoever has one address has all of its network.
- The memory is bounded; where it is full, addresses that have behaved longest are forgotten first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final

from zentra.runtime.limits import Ask, LocalBuckets, Quota

__all__ = ["Floods"]

FAILURES: Final = Quota(100, 10)  # per address
ADDRESSES_MAX: Final = 10_000


class Floods:
    """The counts of one gateway."""

    def __init__(
        self, *, failures: Quota = FAILURES, addresses_max: int = ADDRESSES_MAX,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._failures, self._addresses_max, self._monotonic = failures, addresses_max, monotonic
        self._buckets = LocalBuckets(monotonic, buckets_max=addresses_max)
        self._shut_until: dict[str, float] = {}

    def failed(self, address: str | None) -> None:
        """Count one failure; without an address (a test's, never a socket's) there is nothing to count by."""
        if address is None:
            return
        source = _source(address)
        grant = self._buckets.take_nowait(Ask(source, self._failures, 1))
        if grant.left == 0:
            if len(self._shut_until) >= self._addresses_max:
                self._shut_until.pop(next(iter(self._shut_until)))
            self._shut_until[source] = self._monotonic() + grant.next_seconds

    def shut_seconds(self, address: str | None) -> float:
        """Return for how long nothing unknown is looked at that comes from `address`; 0 where it is looked at now."""
        if not self._shut_until or address is None:
            return 0.0
        source = _source(address)
        until = self._shut_until.get(source)
        if until is None:
            return 0.0
        seconds = until - self._monotonic()
        if seconds <= 0:
            del self._shut_until[source]
        return max(0.0, seconds)


def _source(address: str) -> str:
    """Return what an address is counted as."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
