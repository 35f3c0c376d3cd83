"""A set of numbers from 0 on, one bit each: a load remembers which of its intents were acknowledged, however many."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["Marks"]


class Marks:
    """Numbers that were marked."""

    def __init__(self, data: bytes = b"") -> None:
        self._bits = bytearray(data)

    def add(self, number: int) -> None:
        """Mark a number; marking it again changes nothing."""
        place = number >> 3
        if place >= len(self._bits):
            self._bits.extend(bytes(max(place + 1, 2 * len(self._bits)) - len(self._bits)))
        self._bits[place] |= 1 << (number & 7)

    def update(self, data: bytes) -> None:
        """Mark what another one has marked, given as its bytes."""
        self._bits.extend(bytes(max(0, len(data) - len(self._bits))))
        for place, bits in enumerate(data):
            self._bits[place] |= bits

    def __contains__(self, number: int) -> bool:
        place = number >> 3
        return place < len(self._bits) and bool(self._bits[place] >> (number & 7) & 1)

    def __iter__(self) -> Iterator[int]:
        for place, bits in enumerate(self._bits):
            if bits:
                yield from (place * 8 + bit for bit in range(8) if bits >> bit & 1)

    def __len__(self) -> int:
        return sum(bits.bit_count() for bits in self._bits)

    def __bytes__(self) -> bytes:
        return bytes(self._bits)
