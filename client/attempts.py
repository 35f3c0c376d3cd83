"""When a call is tried again, and where: nothing here waits, reads a clock or draws lots.

- A call begins at the address that answered last, for all calls of a client.
- No answer, or a server that failed, leads to the next address at once: every attempt sends the same idempotency key.
  Only when all addresses were tried is there a pause.
- Pauses double, with jitter. What Retry-After asks for is waited for in full; where that is more than a minute, or than
  the time that is left, the error is the answer.
- Who hears that the key is in flight after an attempt without an answer has met that attempt of its own: how it ends is
  waited for, however often that takes asking, since a gateway that died took its word with it.
- The whole of a call has an end, whatever the single attempts do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from zentra.client.errors import APIConnectionError, APIError, IdempotencyInFlightError

__all__ = ["Addresses", "Attempts"]

PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX = 0.5, 8.0  # doubled from round to round
RETRY_AFTER_SECONDS_MAX: Final = 60.0  # whoever is told to wait longer decides that, not a library
ATTEMPT_SECONDS_MIN: Final = 0.05  # the last attempt has at least this long


class Addresses:
    """Where the API is, and which of these places answered last. It may be shared by threads."""

    __slots__ = ("_current", "urls")

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls, self._current = tuple(urls), 0

    @property
    def current(self) -> int:
        """The place at which calls begin."""
        return self._current

    def behind(self, place: int) -> int:
        """Return the place to try after this one, at which calls begin from now on."""
        following = (place + 1) % len(self.urls)
        if self._current == place:  # else another call has found that out before
            self._current = following
        return following


class Attempts:
    """The attempts of one call."""

    __slots__ = ("_addresses", "_end", "_place", "_retries_left", "_rounds", "_tried", "_unanswered")

    def __init__(self, addresses: Addresses, *, retries: int, now: float, seconds: float) -> None:
        """`retries` is how often there is a pause; `seconds` is what the whole may take from `now` on."""
        self._addresses, self._place = addresses, addresses.current
        self._retries_left, self._rounds, self._tried = retries, 0, 0
        self._unanswered = False
        self._end = now + seconds

    @property
    def url(self) -> str:
        """Where to send the next attempt."""
        return self._addresses.urls[self._place]

    def seconds_left(self, now: float) -> float:
        """Return how long the next attempt may take."""
        return max(self._end - now, ATTEMPT_SECONDS_MIN)

    def pause(self, error: APIError, now: float, chance: float) -> float | None:
        """Return how many seconds to wait before the next attempt, or None where `error` is the answer.

        `chance` in 0..1 keeps clients that failed together from coming back together."""
        if not error.retryable:
            return None
        asked = error.retry_after_seconds
        self._unanswered = self._unanswered or isinstance(error, APIConnectionError)
        own = self._unanswered and isinstance(error, IdempotencyInFlightError)
        if isinstance(error, APIConnectionError) or (error.status or 0) >= 500:
            self._place = self._addresses.behind(self._place)
            self._tried += 1
            if asked is None and self._tried < len(self._addresses.urls) and now < self._end:
                return 0.0
        if (self._retries_left <= 0 and not own) or (asked or 0.0) > RETRY_AFTER_SECONDS_MAX:
            return None
        backoff = min(PAUSE_SECONDS_FIRST * 2.0 ** min(self._rounds, 16), PAUSE_SECONDS_MAX)
        seconds = (asked or 0.0) + backoff * (0.5 + chance / 2)
        if now + seconds >= self._end:
            return None
        self._retries_left -= not own
        self._rounds += 1
        self._tried = 0
        return seconds
