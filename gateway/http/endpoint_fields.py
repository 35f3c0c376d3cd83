"""What can be said of a webhook endpoint: its fields, each with the check that reads it and the schema that tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from zentra.gateway.http.fields import SCHEMAS, Check, Field, Objection, event_filters, one_of, url
from zentra.runtime.intents.vocabulary import Topic
from zentra.runtime.webhooks.delivery import is_told
from zentra.runtime.webhooks.standard import matches
from zentra.runtime.webhooks.terms import (
    DISABLE_AFTER_SECONDS,
    FULL,
    MODES,
    OVERLAP_SECONDS,
    PUBLIC_VERSIONS,
    EndpointTerms,
)

__all__ = ["AMENDMENT", "ENDPOINT", "EVENTS_DEFAULT", "NOT_GIVEN", "ROTATION", "terms_of"]

EVENTS_DEFAULT: Final = ("ledger.posted", "ledger.released", "ledger.reversal", "policy.review", "policy.denied")
CONCURRENCY_MAX: Final = 256
PER_SECOND_MAX: Final = 1_000
TRIES_MAX: Final = 20
PAUSE_SECONDS_MAX: Final = 86_400
DISABLE_SECONDS_MIN, DISABLE_SECONDS_MAX = 3_600, 30 * 86_400
OVERLAP_SECONDS_MAX: Final = 7 * 86_400
NOT_GIVEN: Final[Any] = None
_TOLD: Final = tuple(str(topic) for topic in Topic if is_told(topic))


def known_filters(value: Any) -> tuple[str, ...]:
    """Return event filters, each of which some event can pass."""
    filters = event_filters(value)
    for place, one in enumerate(filters):
        if not any(matches((one,), topic) for topic in _TOLD):
            raise Objection("event_unknown", "no event that endpoints are told of is called that", f"/{place}")
    return filters


def whole(least: int, most: int, *, or_zero: bool = False) -> Check:
    """Return a check for a whole number from `least` to `most`, or zero where that is allowed."""

    def check(value: Any) -> int:
        fits = isinstance(value, int) and not isinstance(value, bool)
        if not fits or not (least <= value <= most or (or_zero and value == 0)):
            raise Objection("number_out_of_range", f"{'0, or ' if or_zero else ''}{least} to {most}")
        return int(value)

    bounds = {"type": "integer", "minimum": least, "maximum": most}
    SCHEMAS[check] = {"anyOf": [{"const": 0}, bounds]} if or_zero else bounds
    return check


_pause: Final = whole(0, PAUSE_SECONDS_MAX)


def schedule(value: Any) -> tuple[int, ...]:
    """Return the pause before each attempt in seconds; an empty list for the standard ones."""
    if not isinstance(value, list) or len(value) > TRIES_MAX:
        raise Objection("field_type", f"a list of at most {TRIES_MAX} pauses in seconds")
    found = []
    for place, one in enumerate(value):
        try:
            found.append(_pause(one))
        except Objection as objection:
            raise Objection(objection.code, objection.detail, f"/{place}") from None
    return tuple(found)


def signatures(value: Any) -> bool:
    """Return whether `v1a` is wanted beside `v1`, which is always made."""
    if value not in (["v1"], ["v1", "v1a"]):
        raise Objection("signature_unknown", 'either ["v1"] or ["v1", "v1a"]')
    return len(value) > 1


def flag(value: Any) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise Objection("field_type", "expected true or false")
    return value


SCHEMAS.update({
    known_filters: SCHEMAS[event_filters],
    schedule: {"type": "array", "maxItems": TRIES_MAX, "items": SCHEMAS[_pause]},
    signatures: {"enum": [["v1"], ["v1", "v1a"]]},
    flag: {"type": "boolean"},
})  # fmt: skip
_TERMS: Final[Mapping[str, tuple[Callable[[Any], Any], Any]]] = {
    "mode": (one_of("mode_unknown", *MODES), FULL),
    "api_version": (one_of("api_version_unknown", *PUBLIC_VERSIONS), PUBLIC_VERSIONS[0]),
    "fifo": (flag, False),
    "signatures": (signatures, False),
    "schedule": (schedule, ()),
    "concurrency": (whole(1, CONCURRENCY_MAX, or_zero=True), 0),
    "per_second": (whole(1, PER_SECOND_MAX, or_zero=True), 0),
    "disable_after_seconds": (
        whole(DISABLE_SECONDS_MIN, DISABLE_SECONDS_MAX, or_zero=True), DISABLE_AFTER_SECONDS,
    ),
}  # fmt: skip
_NAMES: Final = {"api_version": "version", "signatures": "asymmetric"}
ENDPOINT: Final[Mapping[str, Field]] = {
    "url": Field(url),
    "events": Field(known_filters, EVENTS_DEFAULT),
    **{name: Field(check, NOT_GIVEN) for name, (check, _) in _TERMS.items()},
}
AMENDMENT: Final[Mapping[str, Field]] = {
    "url": Field(url, NOT_GIVEN),
    "events": Field(known_filters, NOT_GIVEN),
    **{name: Field(check, NOT_GIVEN) for name, (check, _) in _TERMS.items()},
    "version": Field(whole(1, 2**31 - 1), NOT_GIVEN),
}
ROTATION: Final[Mapping[str, Field]] = {
    "signature": Field(one_of("signature_unknown", "v1", "v1a"), "v1"),
    "overlap_seconds": Field(whole(0, OVERLAP_SECONDS_MAX), OVERLAP_SECONDS),
}


def terms_of(values: Mapping[str, Any], before: EndpointTerms) -> EndpointTerms:
    """Return the terms that a body leaves: what it does not name is as it was."""
    given = {_NAMES.get(name, name): values[name] for name in _TERMS if values[name] is not NOT_GIVEN}
    return EndpointTerms(**{name: given.get(name, getattr(before, name)) for name in before.__struct_fields__})
