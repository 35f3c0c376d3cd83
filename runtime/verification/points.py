"""Points: balances that were verified as of a moment, kept in a file, so that a later check can start from there.

- Lines of text: the header as canonical JSON, a line per account, and the signature. Nothing has to fit into memory.
- The signature is Ed25519 over a title and the SHA-256 of every byte before it, by the key of the installation: whoever
  can change the database cannot change the point to fit.
- A point says what balances were; whether rows from before it have been changed since, a check that starts there sees
  only by their number and their sums.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from zentra.runtime.evidence import canonical
from zentra.runtime.verification.postings import Counters

__all__ = ["FORMAT", "PointFlaw", "PointHeader", "PointReader", "PointWriter"]

FORMAT: Final = "zentra.ledger-point/1"
_TITLE: Final = b"zentra.ledger-point/1\n"
_SIGNATURE: Final = "signature "


class PointFlaw(ValueError):
    """Raised where a point cannot be trusted, or is not of what is being checked."""


class PointHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a point is about. `at` is its moment: postings before it are in it. `postings`, `pending` and `posted` say
    how many these are and what they sum to, as digits."""

    at: str
    format: str
    installation: str
    key_id: str
    pending: str
    posted: str
    postings: str
    taken_at: str
    tenant: str | None


class PointWriter:
    """Makes the lines of a point."""

    def __init__(self, header: PointHeader, key: Ed25519PrivateKey) -> None:
        self._header, self._key, self._digest = header, key, sha256(_TITLE)

    def header(self) -> bytes:
        """Return the first line."""
        return self._kept(canonical.encode(self._header) + b"\n")

    def account(self, number: int, counters: Counters) -> bytes:
        """Return the line of an account; accounts come in the order of their numbers."""
        return self._kept(f"{number} {' '.join(map(str, counters))}\n".encode())

    def signature(self) -> bytes:
        """Return the last line."""
        return f"{_SIGNATURE}{self._key.sign(self._digest.digest()).hex()}\n".encode()

    def _kept(self, line: bytes) -> bytes:
        self._digest.update(line)
        return line


class PointReader:
    """Reads the lines of a point. What was read counts only once `accounts` has come to its end without a flaw."""

    def __init__(self, lines: Iterator[bytes], keys: dict[str, Ed25519PublicKey]) -> None:
        """Raises PointFlaw for a header that is none, or of a key that is not in `keys`, by id."""
        self._lines, self._digest = lines, sha256(_TITLE)
        first = next(lines, b"")
        self._digest.update(first)
        try:
            self.header = msgspec.convert(canonical.decode(first.removesuffix(b"\n")), PointHeader)
        except (ValueError, msgspec.ValidationError) as error:
            raise PointFlaw(f"not a point: {error}") from error
        if self.header.format != FORMAT:
            raise PointFlaw(f"not a point of a format that is known: {self.header.format!r}")
        key = keys.get(self.header.key_id)
        if key is None:
            raise PointFlaw(f"signed by key {self.header.key_id}, given {', '.join(sorted(keys)) or 'none'}")
        self._key = key

    def accounts(self) -> Iterator[tuple[int, Counters]]:
        """Yield the accounts; raises PointFlaw for a line that is none, and for a signature that is not over them."""
        last = -1
        for line in self._lines:
            text = line.decode("ascii", "replace")
            if text.startswith(_SIGNATURE):
                self._check(text)
                return
            self._digest.update(line)
            try:
                number, *counters = map(int, text.split())
                one, two, three, four = counters
            except ValueError as error:
                raise PointFlaw(f"not a line of an account: {text[:80]!r}") from error
            if number <= last:
                raise PointFlaw(f"account {number} stands behind account {last}")
            last = number
            yield number, (one, two, three, four)
        raise PointFlaw("it ends without a signature")

    def _check(self, text: str) -> None:
        if next(self._lines, None) is not None:
            raise PointFlaw("something stands behind the signature")
        try:
            self._key.verify(bytes.fromhex(text[len(_SIGNATURE) :].rstrip("\n")), self._digest.digest())
        except (InvalidSignature, ValueError) as error:
            raise PointFlaw("its signature is not over its content: somebody changed it") from error
