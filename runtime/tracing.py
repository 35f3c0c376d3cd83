"""W3C Trace Context (Recommendation of 2021, and level 2): how a trace goes in, along and out.

An intent keeps the trace id that its request named, for ever, in every record. Each record is a span of that trace: its
id is made of the intent's own id and the record's sequence, so whoever knows the record knows the span, and nothing has
to be kept for it. What goes out names the span that it follows from as its parent.

`tracestate` is others' data: it is kept as it came, or dropped where it breaks the rules of its header.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["TRACESTATE_CHARACTERS_MAX", "checked_tracestate", "span_id", "traceparent"]

TRACESTATE_CHARACTERS_MAX: Final = 512  # what the recommendation asks everybody to carry
_MEMBERS_MAX: Final = 32
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
