"""W3C Trace Context (Recommendation of 2021, and level 2): how a trace goes in, along and out.

An intent keeps the trace id that its request named, for ever, in every record. Each record is a span of that trace: its
id is made of the intent's own id and the record's sequence, so whoever knows the record knows the span, and nothing has
to be kept for it. What goes out names the span that it follows from as its parent.

`tracestate` is others' data: it is kept as it came, or dropped where it breaks the rules of its header. Where a gateway
exports spans, the member `zentra` goes before it: the gateway's own span, and whether its trace is sampled. So whatever
follows from the intent, wherever and however much later, finds the span that it belongs under.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = [
    "TRACESTATE_CHARACTERS_MAX",
    "Parent",
    "checked_tracestate",
    "parent_in",
    "span_id",
    "traceparent",
    "with_parent",
]

TRACESTATE_CHARACTERS_MAX: Final = 512  # what the recommendation asks everybody to carry
_MEMBERS_MAX: Final = 32
_OWN: Final = "zentra="
_PARENT: Final = re.compile(_OWN + r"((?!0{16})[0-9a-f]{16})-(0[01])")
_KEY: Final = r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_MEMBER: Final = re.compile(_KEY + r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")


def span_id(intent: str, sequence: int) -> str:
    """Return the id of the span that a record is: 16 hex digits, of which the first is never 0.

    They are the random part of a version 7 uuid, which begins with the variant, with the sequence at the end."""
    return f"{intent[16:29]}{sequence & 0xFFF:03x}"


def traceparent(trace: str, intent: str, sequence: int) -> str:
    """Return the header for what follows from a record of an intent. It says sampled: the record is kept."""
    return f"00-{trace}-{span_id(intent, sequence)}-01"


def checked_tracestate(text: str) -> str:
    """Return a tracestate without blanks around its members, or nothing where it breaks the rules of the header."""
    if not text or len(text) > TRACESTATE_CHARACTERS_MAX:
        return ""
    members = [member for part in text.split(",") if (member := part.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    if len(members) > _MEMBERS_MAX or len(keys) != len(members) or not all(map(_MEMBER.fullmatch, members)):
        return ""
    return ",".join(members)


class Parent(NamedTuple):
    """A span that others belong under: 16 hex digits, and whether its trace is sampled."""

    span: str
    sampled: bool


def with_parent(tracestate: str, parent: Parent) -> str:
    """Return a well-formed tracestate that names a span of ours first, in place of any that it named before.

    Where the header has no room for all, the members at its end are dropped, as the recommendation has it."""
    own = f"{_OWN}{parent.span}-{parent.sampled:02x}"
    members = [own, *(member for member in tracestate.split(",") if member and not member.startswith(_OWN))]
    del members[_MEMBERS_MAX:]
    while len(",".join(members)) > TRACESTATE_CHARACTERS_MAX:
        members.pop()
    return ",".join(members)


def parent_in(tracestate: str) -> Parent | None:
    """Return the span of ours that a tracestate names, or None where it names none."""
    for member in tracestate.split(","):
        found = _PARENT.fullmatch(member)
        if found is not None:
            return Parent(found[1], found[2] == "01")
    return None
