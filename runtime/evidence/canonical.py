"""Canonical JSON: one value has exactly one spelling, so a digest of the bytes is a digest of the value.

The bytes are those of RFC 8785 (JCS) for a restricted set of values, and the restrictions are what makes that cheap:

- objects have ASCII keys: RFC 8785 orders keys by UTF-16 code unit, we order by UTF-8 byte, and the two agree there;
- integers lie strictly between -2**53 and 2**53, where every JSON reader agrees on them; amounts are strings;
- there are no floats: their spelling is the hard half of RFC 8785, and money has no use for them.

`encode` stands on the hot path and trusts its argument's type; `objection` looks at a value from outside, and `decode`
accepts only bytes that `encode` could have written.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

__all__ = ["INTEGER_MAX", "NotCanonicalError", "Value", "decode", "encode", "objection"]

INTEGER_MAX = 2**53 - 1
"""The largest integer that a reader with IEEE doubles takes without loss."""

Value: TypeAlias = "Mapping[str, Value] | Sequence[Value] | msgspec.Struct | str | int | bool | None"
"""What may be encoded. `float` is absent on purpose, so a type checker refuses it."""

_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder()


class NotCanonicalError(ValueError):
    """The bytes are not the one canonical spelling of a permitted value; the message says where or why."""


def encode(value: Value) -> bytes:
    """Return the canonical bytes of `value`: sorted keys, no whitespace, UTF-8, the shortest escapes.

    Struct fields must themselves be of permitted types. Raises `UnicodeEncodeError` for a lone surrogate and
    `TypeError` for a type that JSON lacks; floats and wide integers are the type checker's to refuse, or `objection`'s.
    """
    return _encoder.encode(value)


def decode(data: bytes) -> Any:
    """Return the value that `data` spells.

    Raises `NotCanonicalError` when the bytes are not JSON, not the canonical spelling, or hold a value outside the set.
    """
    try:
        value = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotCanonicalError(f"not JSON: {error}") from error
    refused = objection(value)
    if refused is not None:
        raise NotCanonicalError(refused)
    if _encoder.encode(value) != data:
        raise NotCanonicalError("not the canonical spelling: keys out of order, spaces, or a longer escape")
    return value


def objection(value: object) -> str | None:
    """Return why `value` lies outside the permitted set, naming the first offending path, or None when it is inside."""
    waiting: list[tuple[str, object]] = [("$", value)]
    while waiting:
        path, item = waiting.pop()
        if item is None or item is True or item is False:
            continue
        if isinstance(item, str):
            if not item.isascii() and any("\ud800" <= character <= "\udfff" for character in item):
                return f"{path} holds a lone surrogate"
        elif isinstance(item, int):
            if not -INTEGER_MAX <= item <= INTEGER_MAX:
                return f"{path} is an integer of 2**53 or more"
        elif isinstance(item, Mapping):
            for key in item:
                if not isinstance(key, str) or not key.isascii():
                    return f"{path} has a key that is not ASCII text"
            waiting.extend((f"{path}.{key}", item[key]) for key in reversed(list(item)))
        elif isinstance(item, list | tuple):
            waiting.extend((f"{path}[{place}]", item[place]) for place in reversed(range(len(item))))
        else:
            return f"{path} is a {type(item).__name__}"
    return None
