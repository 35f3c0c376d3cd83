"""Reading what clients send, whichever door it comes through: JSON without ambiguity, one key, a trace.

- No object may name a key twice, because two readers could then see two different requests.
- A request has exactly one idempotency key, however often and wherever it is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from zentra.gateway.http.problems import Problem
from zentra.runtime.intents.command import KEY_PATTERN
from zentra.runtime.tracing import Parent, checked_tracestate
from zentra.storage.identifiers import RandomHex

__all__ = ["one_key", "parent_of", "strict_json", "trace_of", "tracestate_of"]

DEPTH_MAX: Final = 8  # no body of the API is deeper than three
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(?:-|\Z)"
)
_decode: Final = msgspec.json.Decoder().decode
_new_trace: Final = RandomHex()


def strict_json(body: bytes) -> Any:
    """Return what `body` says.

    Raises Problem for what is no JSON, is nested deeper than eight levels, or names a key twice in one object. A member
    has a colon of its own, so as many colons as members prove that none was dropped; only a body with colons in its
    texts is read a second time, by a reader that sees every pair."""
    try:
        value = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Problem("body_malformed", str(error)[:200]) from None
    if body.count(b":") != _members(value, DEPTH_MAX):
        try:
            json.loads(body, object_pairs_hook=_each_once)
        except ValueError as error:  # an integer of thousands of digits
            raise Problem("body_malformed", str(error)[:200]) from None
    return value


def _members(value: object, depth: int) -> int:
    if depth == 0:
        raise Problem("body_too_deep")
    if isinstance(value, dict):
        count = len(value)
        for inner in value.values():
            if isinstance(inner, dict | list):
                count += _members(inner, depth - 1)
        return count
    if isinstance(value, list):
        return sum(_members(inner, depth - 1) for inner in value if isinstance(inner, dict | list))
    return 0


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Problem("body_key_repeated")
    return members


def one_key(given: Sequence[str], in_body: str | None = None) -> str:
    """Return the one idempotency key among those `given` in headers, bare or quoted, and the one in the body.

    Raises Problem where there is none, more than one, or one that is malformed."""
    keys = [_unquoted(value.strip()) for value in given]
    if in_body is not None:
        keys.append(in_body)
    if not keys:
        raise Problem("idempotency_key_missing")
    key = keys[0]
    if len(keys) > 1 and keys.count(key) != len(keys):
        raise Problem("idempotency_key_ambiguous")
    if not KEY_PATTERN.match(key):
        raise Problem("idempotency_key_malformed")
    return key


def trace_of(traceparent: bytes | None) -> str:
    """Return the trace id that a W3C traceparent names, or a new one where it names none."""
    parent = _TRACEPARENT.match(traceparent) if traceparent else None
    return parent[1].decode() if parent else _new_trace()


def parent_of(traceparent: bytes | None) -> tuple[str, Parent] | None:
    """Return the trace id and the span that a W3C traceparent names; None where it names none."""
    found = _TRACEPARENT.match(traceparent) if traceparent else None
    return (found[1].decode(), Parent(found[2].decode(), bool(int(found[3], 16) & 1))) if found else None


def tracestate_of(traceparent: bytes | None, tracestate: bytes | None) -> str:
    """Return what others carry along the trace; nothing where the trace is ours or the header breaks its rules."""
    if not tracestate or not traceparent or not _TRACEPARENT.match(traceparent):
        return ""
    return checked_tracestate(tracestate.decode("latin-1"))


def _unquoted(text: str) -> str:
    """Return a key without the quotes that a structured field has."""
    return text[1:-1] if len(text) > 2 and text[0] == '"' == text[-1] else text
