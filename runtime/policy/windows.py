"""Velocity windows: which counter an intent is counted in, and what that counter says at one time.

A counter is named by what it counts and how, never by the name that a policy gives its window: two versions with the
same window go on counting where the other stopped. A calendar window has one counter per period. A rolling window has
one counter whose buckets each hold `width` seconds, where width = ceil(seconds / buckets):

    within the last W seconds  =  every bucket that overlaps (now - W, now]

So a window never counts less than what happened within W, and what is up to one width older at the most counts as well.
The time of a counter never goes back: where its newest bucket lies ahead of the clock, that bucket is now."""

from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.intents.vocabulary import BOOKED
from zentra.runtime.ledger.money import MINOR_MAX
from zentra.runtime.policy.rules import Window

__all__ = [
    "BUCKETS_MAX", "BY_DESTINATION", "CALENDARS", "DIMENSIONS", "EVER", "SECONDS_MAX", "SECONDS_MIN", "Usage",
    "VelocityKey", "add", "bucket_at", "counter_of", "counts", "day_of", "used",
]  # fmt: skip

SECONDS_MIN: Final = 10
SECONDS_MAX: Final = 31 * 86_400
BUCKETS_MAX: Final = 60  # 1.4 KiB in a row that is rewritten with every intent
EVER: Final = "1970-01-01"  # the day of counters that belong to none
CALENDARS: Final = ("day", "week", "month", "ever")
BY_DESTINATION: Final = ("counterparty", "pair")

Bucket = tuple[int, int, int]
"""A bucket's number since the epoch, and the count and amount in it."""


class VelocityKey(Struct, frozen=True, gc=False):
    """One counter window: locked by this key, in this order of fields."""

    tenant: str
    counter: str
    day: str
    currency: str


class Usage(Struct, gc=False):
    """What a window has counted so far; of a rolling one, by bucket in order, and the sums over those that are kept."""

    count: int = 0
    minor: int = 0
    buckets: tuple[Bucket, ...] = ()


def _corridor(command: IntentCommand) -> str:
    return f"corridor/{command.country or '*'}/{command.kind}"


DIMENSIONS: Final = {
    "tenant": lambda command: "tenant",
    "account": lambda command: f"account/{command.source}",
    "counterparty": lambda command: f"counterparty/{command.destination}",
    "pair": lambda command: f"pair/{command.source}>{command.destination}",
    "corridor": _corridor,
}


def counts(window: Window, command: IntentCommand) -> bool:
    """Return whether a window counts such an intent: of its kinds, and with a destination where it counts those."""
    if window.by in BY_DESTINATION and not command.destination:
        return False
    return command.kind not in BOOKED if window.kinds is None else command.kind in window.kinds


def counter_of(window: Window, zone: str, command: IntentCommand) -> str:
    """Return the name of the counter that `command` is counted in."""
    place = DIMENSIONS[window.by](command)
    kinds = "" if window.kinds is None else "+".join(sorted(set(window.kinds))) + "/"
    if window.rolling_seconds is not None:
        return f"rolling-{window.rolling_seconds}-{window.buckets}/{kinds}{place}"
    if window.calendar == "ever":
        return f"ever/{kinds}{place}"
    at = "" if zone == "UTC" else f"@{zone}"
    if window.calendar == "day" and not at:
        return f"{kinds}{place}"  # as the daily limits count
    return f"{window.calendar}{at}/{kinds}{place}"


def day_of(window: Window, zone: ZoneInfo | None, now: datetime) -> str:
    """Return the first day of the calendar period that `now` lies in; `zone` None is UTC."""
    if window.calendar is None or window.calendar == "ever":
        return EVER
    day = (now if zone is None else now.astimezone(zone)).date()
    if window.calendar == "week":
        day -= timedelta(days=day.weekday())  # weeks begin on Monday, ISO 8601
    elif window.calendar == "month":
        day = day.replace(day=1)
    return day.isoformat()


def used(window: Window, usage: Usage, now: int) -> tuple[int, int]:
    """Return the count and the amount that a window holds at `now`, in seconds since the epoch."""
    if window.rolling_seconds is None:
        return usage.count, usage.minor
    first = _first(window.rolling_seconds, _width(window), _not_before(usage, _width(window), now))
    count = minor = 0
    for number, entries, amount in usage.buckets:
        if number >= first:
            count += entries
            minor += amount
    return count, minor


def bucket_at(window: Window, usage: Usage, now: int) -> int | None:
    """Return the number of the bucket that an intent is counted in at `now`; None where the window has none."""
    if window.rolling_seconds is None:
        return None
    width = _width(window)
    return _not_before(usage, width, now) // width


def add(usage: Usage, counter: str, bucket: int, count: int, minor: int) -> None:
    """Add to a bucket of a rolling counter, and drop those that no window of its form can reach any more.

    What is taken from a bucket that was dropped is gone with it. The newest one stays, empty or not: it is the time of
    the counter."""
    seconds, width = _form_of(counter)
    kept = {number: (entries, amount) for number, entries, amount in usage.buckets}
    if bucket in kept or count > 0:
        entries, amount = kept.get(bucket, (0, 0))
        kept[bucket] = (entries + count, amount + minor)
    newest = max(kept, default=0)
    first = _first(seconds, width, newest * width)
    usage.buckets = tuple([(n, *kept[n]) for n in sorted(kept) if n == newest or (n >= first and kept[n] != (0, 0))])
    usage.count = sum(entries for _, entries, _ in usage.buckets)
    usage.minor = min(sum(amount for _, _, amount in usage.buckets), MINOR_MAX)  # what is too old counts here as well


def _form_of(counter: str) -> tuple[int, int]:
    """Return the seconds and the width of a bucket that the name of a rolling counter says."""
    _, seconds, buckets = counter.partition("/")[0].split("-")
    return int(seconds), -(-int(seconds) // int(buckets))


def _width(window: Window) -> int:
    assert window.rolling_seconds is not None
    return -(-window.rolling_seconds // window.buckets)


def _first(seconds: int, width: int, now: int) -> int:
    """Return the number of the first bucket that overlaps (now - seconds, now]."""
    return (now - seconds) // width


def _not_before(usage: Usage, width: int, now: int) -> int:
    return max(now, usage.buckets[-1][0] * width) if usage.buckets else now
