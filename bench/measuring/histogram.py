"""Log-linear histograms of durations, in the layout of HdrHistogram with three significant digits.

- A recorded value is known to one part in 1,024, whatever its size; below 2,048 µs it is exact.
- Histograms of different processes, seconds and runs add up without loss, because all of them have the same buckets.
- The ready-made library drags in two build tools at run time, and one histogram a second needs a sparse one anyway.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

__all__ = ["QUANTILES", "Histogram", "merged"]

_EXACT_BITS: Final = 11  # values below 2,048 have a bucket each
_HALF: Final = 1 << (_EXACT_BITS - 1)  # and every power of two above has 1,024 of them
MICROSECONDS_MAX: Final = 1 << 42  # 50 days: nothing that is measured here takes longer
QUANTILES: Final = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0)


class Histogram(Struct):
    """Counts by bucket, and the exact sum of what was recorded, all in microseconds."""

    counts: dict[int, int] = {}
    total: int = 0
    microseconds: int = 0

    def record(self, seconds: float) -> None:
        """Count one duration; a negative one, which only a stepping clock can make, counts as zero."""
        value = min(max(0, int(seconds * 1_000_000)), MICROSECONDS_MAX)
        power = max(0, value.bit_length() - _EXACT_BITS)
        index = power * _HALF + (value >> power)
        counts = self.counts
        counts[index] = counts.get(index, 0) + 1
        self.total += 1
        self.microseconds += value

    def add(self, other: "Histogram") -> None:
        """Add everything that `other` has counted."""
        for index, count in other.counts.items():
            self.counts[index] = self.counts.get(index, 0) + count
        self.total += other.total
        self.microseconds += other.microseconds

    def quantile_ms(self, share: float) -> float:
        """Return the duration that `share` of all did not exceed, in ms; 0 of an empty histogram.

        Raises ValueError for a share outside 0 to 1."""
        return self.quantiles_ms((share,))[0]

    def quantiles_ms(self, shares: Iterable[float]) -> list[float]:
        """Return a duration for each of the ascending shares, in one pass. Raises as `quantile_ms`."""
        wanted = list(shares)
        if any(not 0 <= share <= 1 for share in wanted) or wanted != sorted(wanted):
            raise ValueError("shares ascend from 0 to 1")
        found: list[float] = []
        seen = 0
        value = 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            value = _highest(index)
            while len(found) < len(wanted) and seen >= wanted[len(found)] * self.total:
                found.append(value / 1000)
        return found + [value / 1000] * (len(wanted) - len(found))

    def count_over(self, seconds: float) -> int:
        """Return how many durations were longer, to the precision of the buckets."""
        limit = int(seconds * 1_000_000)
        return sum(count for index, count in self.counts.items() if _highest(index) > limit)

    @property
    def mean_ms(self) -> float:
        """The mean, in ms; 0 of an empty histogram."""
        return self.microseconds / self.total / 1000 if self.total else 0.0


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """Return one histogram of everything that the others have counted."""
    whole = Histogram()
    for histogram in histograms:
        whole.add(histogram)
    return whole


def _highest(index: int) -> int:
    """Return the largest value that falls into a bucket."""
    power = max(0, index // _HALF - 1)
    return ((index - power * _HALF + 1) << power) - 1
