"""What a worker is told of how to work, and the clock that its lease is counted by."""

import time
from functools import partial

import msgspec

__all__ = ["WorkerSettings", "elapsed"]

# Seconds that go on while the machine sleeps, where they can be counted: so does the lease in the store.
elapsed = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class WorkerSettings(msgspec.Struct, frozen=True):
    """How a worker works. The lease outlives the store's limit on a transaction, so no zombie holds locks for long."""

    name: str
    lease_seconds: float = 10.0
    events_max: int = 2_000  # per tick: beyond that a commit only gets slower
    commits_max: int = 2  # in flight at once: one decides while the other waits for the disk
    messages_max: int = 1_024  # taken from the stream at once
    drain_seconds_max: float = 10.0
