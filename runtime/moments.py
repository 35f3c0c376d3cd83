"""Times as records spell them: RFC 3339 in UTC with microseconds, so their texts are in the order of the times."""

from datetime import UTC, datetime

__all__ = ["timestamp"]


def timestamp(at: datetime) -> str:
    """Return `at` as RFC 3339 in UTC with microseconds."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return at.isoformat(timespec="microseconds")[:-6] + "Z"  # without the offset, +00:00
