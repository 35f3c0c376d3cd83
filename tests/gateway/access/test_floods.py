"""Failures by address: who guesses is shut out, who is known is not, and the memory is bounded."""

from __future__ import annotations

import asyncio
import sys

import pytest

from zentra.gateway.access.floods import Floods
from zentra.gateway.http.auth import Authenticator, StoredApiKey
from zentra.gateway.http.problems import Problem
from zentra.runtime.keys import make_key, parse_key
from zentra.runtime.limits import Quota

KEY_ID, KEY = make_key(bytes(range(29)))
GOOD = f"Bearer {KEY}".encode()
HERE = {"client": ("192.0.2.1", 5000)}
ELSEWHERE = {"client": ("192.0.2.2", 5000)}


def wrong(number: int) -> bytes:
    return f"Bearer {make_key(number.to_bytes(29))[1]}".encode()


class Gate:
    """An authenticator with one good key, that shuts an address after five failures."""

    def __init__(self) -> None:
        self.time, self.asked = 100.0, 0
        floods = Floods(failures=Quota(5, 10), monotonic=lambda: self.time)
        self.authenticator = Authenticator(self.find, floods=floods, monotonic=lambda: self.time)

    async def find(self, key_id: str) -> StoredApiKey | None:
        self.asked += 1
        await asyncio.sleep(0)
        parsed = parse_key(KEY)
        assert parsed is not None
        return StoredApiKey("acme", "dev", "developer", parsed.secret_hash, None, None) if key_id == KEY_ID else None

    async def code(self, header: bytes, scope: dict[str, tuple[str, int]]) -> str:
        try:
            await self.authenticator.authenticate(header, scope)
        except Problem as problem:
            return problem.row.code
        return "in"


async def test_who_guesses_is_refused_unseen_after_a_while() -> None:
    gate = Gate()
    codes = [await gate.code(wrong(number), HERE) for number in range(20)]
    assert codes == ["key_invalid"] * 5 + ["rate_limited"] * 15
    assert gate.asked == 5
    gate.time += 2
    assert await gate.code(wrong(100), HERE) == "key_invalid", "one more after two seconds"


async def test_the_same_wrong_key_again_counts_as_well() -> None:
    gate = Gate()
    codes = [await gate.code(wrong(1), HERE) for _ in range(20)]
    assert codes == ["key_invalid"] * 5 + ["rate_limited"] * 15


async def test_who_is_known_is_let_in_from_an_address_that_is_shut() -> None:
    gate = Gate()
    assert await gate.code(GOOD, HERE) == "in"
    for number in range(20):
        await gate.code(wrong(number), HERE)
    assert await gate.code(GOOD, HERE) == "in"


async def test_another_address_is_not_touched() -> None:
    gate = Gate()
    for number in range(20):
        await gate.code(wrong(number), HERE)
    assert await gate.code(GOOD, ELSEWHERE) == "in"
    assert await gate.code(wrong(50), ELSEWHERE) == "key_invalid"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("not an address:", "192.0.2.1", False),
    ],
)
def test_a_network_of_ipv6_is_one_address(one: str, other: str, same: bool) -> None:
    floods = Floods(failures=Quota(1, 60), monotonic=lambda: 0.0)
    floods.failed(one)
    assert (floods.shut_seconds(other) > 0) is same


def test_the_memory_is_bounded_whatever_comes() -> None:
    floods = Floods(failures=Quota(1, 60), addresses_max=50, monotonic=lambda: 0.0)
    for number in range(5000):
        floods.failed(f"10.0.{number // 256}.{number % 256}")
    assert len(floods._buckets) <= 50
    assert len(floods._shut_until) <= 50
    assert sys.getsizeof(floods._shut_until) < 10_000
    assert floods.shut_seconds("10.0.19.135") > 0, "the latest is known"


def test_without_an_address_nothing_is_counted() -> None:
    floods = Floods(failures=Quota(1, 60), monotonic=lambda: 0.0)
    for _ in range(10):
        floods.failed(None)
    assert floods.shut_seconds(None) == 0
