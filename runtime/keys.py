"""API keys: `zk_test_<key id>_<secret><checksum>`, readable enough to be found when it leaks, and checked offline.

The checksum tells a typing error from a wrong key without asking a store. What is stored is the SHA-256 of the whole
text: the secret has 160 bits, so nothing slower is needed. Nothing here makes random bytes; they are arguments."""

import re
import zlib
from hashlib import sha256
from typing import Final, NamedTuple

__all__ = ["RANDOM_BYTES", "ParsedKey", "make_key", "parse_key"]

RANDOM_BYTES: Final = 29  # 9 for the id, 20 for the secret
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH: Final = 12
_SECRET_LENGTH: Final = 27  # the least that holds 160 bits
_CHECKSUM_LENGTH: Final = 6  # the least that holds 32 bits
_KEY: Final = re.compile(r"zk_(test|live)_([0-9A-Za-z]{12})_[0-9A-Za-z]{27}([0-9A-Za-z]{6})\Z", re.ASCII)


class ParsedKey(NamedTuple):
    """What a key says of itself: its id, the hash to compare, and whether it is of the live world."""

    id: str
    secret_hash: bytes
    live: bool


def make_key(random_bytes: bytes, live: bool = False) -> tuple[str, str]:
    """Return the key id and the text of a key; raise ValueError unless there are `RANDOM_BYTES` random bytes."""
    if len(random_bytes) != RANDOM_BYTES:
        raise ValueError(f"a key takes {RANDOM_BYTES} random bytes, not {len(random_bytes)}")
    key_id = _base62(int.from_bytes(random_bytes[:9]) % 62**_ID_LENGTH, _ID_LENGTH)
    secret = _base62(int.from_bytes(random_bytes[9:]), _SECRET_LENGTH)
    body = f"zk_{'live' if live else 'test'}_{key_id}_{secret}"
    return key_id, body + _checksum(body)


def parse_key(text: str) -> ParsedKey | None:
    """Return what `text` says, or None where it has not the shape or the checksum of a key."""
    match = _KEY.match(text)
    if match is None or match[3] != _checksum(text[:-_CHECKSUM_LENGTH]):
        return None
    return ParsedKey(match[2], sha256(text.encode()).digest(), match[1] == "live")


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
