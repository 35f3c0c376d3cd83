"""Failures by address: who guesses is shut out, who was good lately is not, and the memory is bounded."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

import pytest

from zentra.gateway.access.floods import Floods
from zentra.gateway.http import auth as module
from zentra.gateway.http.auth import FAMILIAR_SECONDS, REMEMBERED_SECONDS_MAX, Authenticator, StoredApiKey
from zentra.gateway.http.problems import Problem
from zentra.runtime.keys import make_key, parse_key
from zentra.runtime.limits import Quota

KEYS = dict(make_key(bytes([200, number] * 14 + [1])) for number in range(4))
GOOD, *OTHERS = (f"Bearer {key}".encode() for key in KEYS.values())
HERE = {"client": ("192.0.2.1", 5000)}
ELSEWHERE = {"client": ("192.0.2.2", 5000)}


def wrong(number: int) -> bytes:
    return f"Bearer {make_key(number.to_bytes(29))[1]}".encode()


class Gate:
    """An authenticator with a few good keys, that shuts an address after five failures."""

    def __init__(self) -> None:
        self.time, self.asked = 100.0, 0
        self.revoked_at: datetime | None = None
        floods = Floods(failures=Quota(5, 10), monotonic=lambda: self.time)
        self.authenticator = Authenticator(self.find, floods=floods, monotonic=lambda: self.time)

    async def find(self, key_id: str) -> StoredApiKey | None:
        self.asked += 1
        await asyncio.sleep(0)
        parsed = parse_key(KEYS.get(key_id, ""))
        if parsed is None:
            return None
        return StoredApiKey("acme", "dev", "developer", parsed.secret_hash, None, self.revoked_at)

    async def shut(self) -> None:
        """Have the address guess until it is refused unseen."""
        for number in range(20):
            await self.code(wrong(number), HERE)
        assert await self.code(wrong(99), HERE) == "rate_limited"

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


async def test_who_was_good_lately_goes_on_from_an_address_that_is_shut() -> None:
    gate = Gate()
    assert await gate.code(GOOD, HERE) == "in"
    for _ in range(200):  # for longer than anybody is remembered who does not come
        await gate.shut()
        asked = gate.asked
        assert await gate.code(GOOD, HERE) == "in"
        assert gate.asked == asked + (gate.time > 100.0), "the store has the word, every five seconds"
        gate.time += REMEMBERED_SECONDS_MAX
    assert gate.time > 100 + FAMILIAR_SECONDS


async def test_who_was_never_seen_to_be_good_is_refused_unseen_with_the_guesses() -> None:
    gate = Gate()
    await gate.shut()
    asked = gate.asked
    assert await gate.code(GOOD, HERE) == "rate_limited"
    assert gate.asked == asked


async def test_who_stayed_away_for_long_is_nobody_to_an_address_that_is_shut() -> None:
    gate = Gate()
    assert await gate.code(GOOD, HERE) == "in"
    gate.time += REMEMBERED_SECONDS_MAX + FAMILIAR_SECONDS
    await gate.shut()
    assert await gate.code(GOOD, HERE) == "rate_limited"


async def test_who_is_found_revoked_is_known_no_longer() -> None:
    gate = Gate()
    assert await gate.code(GOOD, HERE) == "in"
    gate.time += REMEMBERED_SECONDS_MAX
    await gate.shut()
    gate.revoked_at = datetime.now(UTC)
    asked = gate.asked
    assert [await gate.code(GOOD, HERE) for _ in range(3)] == ["key_revoked", "rate_limited", "rate_limited"]
    assert gate.asked == asked + 1


async def test_of_too_many_good_ones_the_latest_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_MAX", len(KEYS) - 1)
    gate = Gate()
    for header in (GOOD, *OTHERS[:-1]):
        assert await gate.code(header, ELSEWHERE) == "in"
    gate.time += REMEMBERED_SECONDS_MAX
    for header in (GOOD, OTHERS[-1]):  # one again, one for the first time
        assert await gate.code(header, ELSEWHERE) == "in"
    await gate.shut()
    gone = {OTHERS[0]}
    assert {header for header in (GOOD, *OTHERS) if await gate.code(header, HERE) != "in"} == gone


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
