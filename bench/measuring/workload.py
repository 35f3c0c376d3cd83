"""What the intents of a load look like: a pure function from an intent's number to its key and body.

- The same number gives the same body in every process, so a repeated key always carries the bytes it had before.
- Amounts, accounts and tenants are drawn from the number alone; nothing is remembered while the load runs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from msgspec import Struct

__all__ = ["Drawn", "Mix", "Workload", "uniform"]

_WORD: Final = (1 << 64) - 1


class Mix(Struct, frozen=True, kw_only=True):
    """How a load differs from even transfers between random accounts."""

    zipf: float = 0.0  # exponent over the destinations, the first being the most wanted; 0: all alike
    repeats: float = 0.0  # share of sends that ask again for an intent of before, with its key and body
    repeat_within: int = 2_000  # and how far back: some are still in flight then, some long settled
    reviews: float = 0.0  # share of intents with `review_minor`, which the rules want a person to see
    review_minor: int = 20_000_000
    second_tenant: float = 0.0  # share of intents of the second tenant


class Drawn(NamedTuple):
    """One intent to send: whose it is, the number it had first, and its body with the key inside."""

    tenant: int
    number: int
    repeated: bool
    body: dict[str, Any]


class Workload:
    """Draws intents. `sources` and `destinations` are account ids that every tenant has."""

    def __init__(
        self,
        sources: Sequence[str],
        destinations: Sequence[str],
        *,
        mix: Mix = Mix(),  # noqa: B008  # frozen
        seed: int = 7,
        prefix: str = "bench",
        minor_max: int = 100_000,
        minor_fixed: int = 0,
        each_destination: bool = False,
        kind: str = "transfer",
        currency: str = "NGN",
    ) -> None:
        """`minor_fixed` is the amount of every intent, 0 draws it; `each_destination` takes them in turn."""
        self._sources, self._destinations, self._mix = sources, destinations, mix
        self._seed, self._prefix = seed * 0x9E3779B97F4A7C15, prefix
        self._minor_max, self._minor_fixed = minor_max, minor_fixed
        self._each_destination = each_destination
        self._fixed = {"kind": kind, "currency": currency}
        weights = [1 / rank**mix.zipf for rank in range(1, len(destinations) + 1)] if mix.zipf else []
        self._cumulated = list(accumulate(weights))

    def draw(self, number: int) -> Drawn:
        """Return the intent that is sent as the `number`-th."""
        first = self.first(number)
        second = self._mix.second_tenant > 0 and uniform(self._seed, first, 4) < self._mix.second_tenant
        return Drawn(int(second), first, first != number, self._body(first))

    def first(self, number: int) -> int:
        """Return the number that the `number`-th had first: a repeat is followed to the send that it repeats."""
        if not self._mix.repeats:
            return number
        while number > 0 and uniform(self._seed, number, 5) < self._mix.repeats:
            number -= 1 + int(uniform(self._seed, number, 6) * min(number, self._mix.repeat_within))
        return number

    def _body(self, number: int) -> dict[str, Any]:
        mix, key = self._mix, f"{self._prefix}-{number}"
        if mix.reviews and uniform(self._seed, number, 3) < mix.reviews:
            amount = mix.review_minor
        else:
            amount = self._minor_fixed or 1 + int(uniform(self._seed, number, 0) * (self._minor_max - 1))
        return {
            **self._fixed,
            "intent_id": key,
            "amount": amount,
            "source": self._sources[int(uniform(self._seed, number, 1) * len(self._sources))],
            "destination": self._destinations[self._destination(number)],
            "idempotency_key": key,
        }

    def _destination(self, number: int) -> int:
        if self._each_destination:
            return number % len(self._destinations)
        drawn = uniform(self._seed, number, 2)
        if not self._cumulated:
            return int(drawn * len(self._destinations))
        return min(bisect_left(self._cumulated, drawn * self._cumulated[-1]), len(self._destinations) - 1)


def uniform(seed: int, number: int, salt: int) -> float:
    """Return a fraction in [0, 1) that looks random and depends on nothing else (the mix of splitmix64)."""
    z = (seed + (number * 8 + salt + 1) * 0xBF58476D1CE4E5B9) & _WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
    return ((z ^ (z >> 31)) >> 11) / (1 << 53)
