"""How far a work of several parts has come: what each was expected to take, corrected by those that are done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

__all__ = ["Pace"]


class Pace:
    """Parts that are done one after the other; each is a name and the seconds that it is expected to take."""

    def __init__(self, parts: Sequence[tuple[str, float]], clock: Callable[[], float] = time.monotonic) -> None:
        self._parts, self._clock = parts, clock
        self._began: list[float] = []

    def begin(self) -> None:
        """The next part begins."""
        self._began.append(self._clock())

    @property
    def done(self) -> int:
        """How many parts are over."""
        return len(self._began) - 1

    @property
    def total(self) -> int:
        """How many parts there are."""
        return len(self._parts)

    @property
    def part(self) -> str:
        """The name of the part that was begun last."""
        return self._parts[self.done][0]

    @property
    def seconds_left(self) -> float:
        """How long the rest takes if this machine goes on as it has; 0 at the least."""
        done = self.done
        expected = [seconds for _, seconds in self._parts]
        taken = self._began[-1] - self._began[0]
        factor = taken / sum(expected[:done]) if done else 1.0
        current = max(0.0, factor * expected[done] - (self._clock() - self._began[-1]))
        return current + factor * sum(expected[done + 1 :])
