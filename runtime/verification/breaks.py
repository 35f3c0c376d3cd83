"""Where a chain breaks: which byte of a record is not the one that was hashed.

- A hash says that a record was changed, not where. A change of one byte is found all the same: there are 255 other
  values for each byte, and the one that gives the stored hash is what stood there.
- Likewise one byte that was put in, one that is missing, two neighbours that were swapped, and a stored hash that was
  itself changed: then the record behind it still follows from what this one's hash was.
- Nothing else can be named closer than by the record, and nothing is claimed of it.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from zentra.runtime.evidence.chain import chain

__all__ = ["RECORD_BYTES_MAX", "explain_break"]

RECORD_BYTES_MAX: Final = 4_096  # beyond, trying every byte takes seconds


def explain_break(previous: bytes, record: bytes, stored: bytes, following: tuple[bytes, bytes] | None) -> str:
    """Return what is known of a record whose hash is not `stored`; `following` are record and hash of the one behind.

    `previous` is the hash stored with the record before it."""
    computed = chain(previous, record)
    if following is not None and chain(computed, following[0]) == following[1]:
        place = next(
            place for place in range(len(computed)) if stored[place : place + 1] != computed[place : place + 1]
        )
        return f"its stored hash was changed, from byte {place} on: the record behind it follows from the true one"
    if len(record) > RECORD_BYTES_MAX:
        return f"it has {len(record)} bytes, too many to look for the one that was changed"
    for place, was, what in _candidates(record):
        if sha256(previous + was).digest() == stored:
            return f"byte {place} {what}"
    return "more than one byte of it was changed, or the hash before it"


def _candidates(record: bytes) -> Iterator[tuple[int, bytes, str]]:
    """Yield (place, what the record may have been, what then happened to it), the likeliest first."""
    for place, byte in enumerate(record):
        head, tail = record[:place], record[place + 1 :]
        yield place, head + tail, f"({_shown(byte)}) was put in"
        if tail and tail[0] != byte:
            swapped = head + tail[:1] + record[place : place + 1] + tail[1:]
            yield place, swapped, f"and the one behind it ({_shown(byte)}, {_shown(tail[0])}) were swapped"
    for place, byte in enumerate(record):
        head, tail = record[:place], record[place + 1 :]
        for other in _LIKELY:
            if other != byte:
                yield place, head + _ONE[other] + tail, f"is {_shown(byte)} and was {_shown(other)}"
    for place in range(len(record) + 1):
        head, tail = record[:place], record[place:]
        for other in _LIKELY:
            yield place, head + _ONE[other] + tail, f"is missing: it was {_shown(other)}"


_ONE: Final = [bytes([value]) for value in range(256)]
_LIKELY: Final = [*range(0x20, 0x7F), *range(0x20), *range(0x7F, 0x100)]  # records are nearly always ASCII


def _shown(byte: int) -> str:
    return repr(chr(byte)) if 0x20 <= byte < 0x7F else f"0x{byte:02x}"
