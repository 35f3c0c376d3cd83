"""The schedule of a chaos run: which fault comes when, for how long and whom it hits, all drawn from one seed.

- A pure function of seed, seconds and kinds: the same three give the same schedule on every machine.
- Faults come one after another; each is given the time to last and the time to recover before the next one.
- Every kind that was asked for comes once before any comes twice; what does not fit into the seconds is left out."""

import random
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

__all__ = ["KINDS", "Fault", "Kind", "Planned", "make_plan", "parse_kinds"]


class Fault(StrEnum):
    """What can be done to a running installation."""

    GATEWAY_KILLED = "gateway-killed"
    WORKER_KILLED = "worker-killed"
    RAIL_KILLED = "rail-killed"
    NATS_KILLED = "nats-killed"
    POSTGRES_KILLED = "postgres-killed"
    WORKER_STOPPED = "worker-stopped"
    WORKERS_FIGHT = "workers-fight"
    REDIS_EMPTIED = "redis-emptied"
    REDIS_STOPPED = "redis-stopped"
    WEBHOOK_HANGS = "webhook-hangs"
    WEBHOOK_TIMES_OUT = "webhook-times-out"
    WEBHOOK_FAILS = "webhook-fails"
    NATS_ROLLED_BACK = "nats-rolled-back"
    STREAM_FULL = "stream-full"
    BANK_KILLED = "bank-killed"
    BANK_HANGS = "bank-hangs"
    BANK_FAILS = "bank-fails"
    BANK_REFUSES = "bank-refuses"
    CALLBACKS_LOST = "callbacks-lost"
    CALLBACKS_DOUBLED = "callbacks-doubled"
    CALLBACKS_DISORDERED = "callbacks-disordered"
    CALLBACKS_EARLY = "callbacks-early"
    CALLBACKS_FORGED = "callbacks-forged"
    CALLBACKS_CONTRADICT = "callbacks-contradict"
    RAIL_DRAINED = "rail-drained"
    RAIL_MAINTAINED = "rail-maintained"


class Kind(Struct, frozen=True):
    """How one fault is planned: it lasts between `shortest` and `longest` seconds, then `calm` seconds follow.

    `recovery_seconds_max` is the bound on the first intent that completes afterwards."""

    fault: Fault
    shortest: float
    longest: float
    calm: float
    recovery_seconds_max: float
    says: str


# A table is read down its columns.
# fmt: off
KINDS: Final = {kind.fault: kind for kind in (
    #    fault                       lasts       calm  bound  what is done
    Kind(Fault.GATEWAY_KILLED,        0.2,  1.5,  4.0, 10.0, "kill -9 of the gateway, and a start"),
    Kind(Fault.WORKER_KILLED,         0.2,  3.0,  4.0, 10.0, "kill -9 of a worker, and a start"),
    Kind(Fault.RAIL_KILLED,           0.5,  3.0,  4.0, 10.0, "kill -9 of a rail, and a start; it keeps its own record"),
    Kind(Fault.NATS_KILLED,           0.2,  2.0,  4.0, 10.0, "kill -9 of NATS, and a start"),
    Kind(Fault.POSTGRES_KILLED,       0.2,  2.0,  6.0, 20.0, "kill -9 of Postgres, and a start"),
    Kind(Fault.WORKER_STOPPED,       12.0, 14.0,  4.0, 10.0, "SIGSTOP of a worker past its lease, then SIGCONT"),
    Kind(Fault.WORKERS_FIGHT,         8.0, 10.0,  4.0, 10.0, "members expired by hand: partitions change hands"),
    Kind(Fault.REDIS_EMPTIED,         0.0,  0.0,  2.0, 10.0, "FLUSHALL"),
    Kind(Fault.REDIS_STOPPED,         1.0,  4.0,  2.0, 10.0, "kill -9 of Redis, and a start, empty"),
    Kind(Fault.WEBHOOK_HANGS,         5.0,  8.0,  3.0, 10.0, "the consumer takes calls and never answers"),
    Kind(Fault.WEBHOOK_TIMES_OUT,    16.5, 18.0,  3.0, 10.0, "the consumer answers after the sender gave up (15 s)"),
    Kind(Fault.WEBHOOK_FAILS,         3.0,  5.0,  3.0, 10.0, "the consumer answers 500"),
    Kind(Fault.NATS_ROLLED_BACK,      2.0,  4.0,  8.0, 10.0, "the NATS store replaced by a copy of some seconds ago"),
    Kind(Fault.STREAM_FULL,           3.0,  5.0,  4.0, 10.0, "ZC refuses every message for want of room"),
    Kind(Fault.BANK_KILLED,           0.5,  3.0,  3.0, 10.0, "kill -9 of a bank, and a start; it keeps its own record"),
    Kind(Fault.BANK_HANGS,            3.0,  4.0,  3.0, 10.0, "a bank takes everything and answers nothing"),
    Kind(Fault.BANK_FAILS,            2.0,  3.0,  3.0, 10.0, "a bank takes everything and answers 500"),
    Kind(Fault.BANK_REFUSES,          2.0,  3.0,  2.0, 10.0, "a bank accepts nothing: another rail has to carry it"),
    Kind(Fault.CALLBACKS_LOST,        2.0,  3.0,  2.0, 10.0, "a bank calls nobody back"),
    Kind(Fault.CALLBACKS_DOUBLED,     2.0,  3.0,  2.0, 10.0, "a bank calls back three times, once under another id"),
    Kind(Fault.CALLBACKS_DISORDERED,  2.0,  3.0,  2.0, 10.0, "a bank tells of the end before the beginning"),
    Kind(Fault.CALLBACKS_EARLY,       2.0,  3.0,  2.0, 10.0, "a bank calls back before it answers the submit"),
    Kind(Fault.CALLBACKS_FORGED,      2.0,  3.0,  2.0, 10.0, "somebody without the secret says the opposite first"),
    Kind(Fault.CALLBACKS_CONTRADICT,  2.0,  3.0,  2.0, 10.0, "a bank calls paid what it has called failed"),
    Kind(Fault.RAIL_DRAINED,          4.0,  5.0,  2.0, 10.0, "an operator drains a bank, and resumes it"),
    Kind(Fault.RAIL_MAINTAINED,       4.0,  5.0,  2.0, 10.0, "an operator plans maintenance of a bank, and lifts it"),
)}
# fmt: on

WARM_SECONDS: Final = 2.0  # of load before the first fault, so that there is something to lose
GAP_SECONDS: Final = (0.3, 2.0)  # between two faults: drawn, so that they meet the load anywhere
VICTIMS: Final = 2  # workers, sandbox rails and banks of a chaos installation


class Planned(Struct, frozen=True):
    """One fault: not before `at` seconds after the start, for `lasts` seconds, on the `victim`-th of its sort."""

    fault: Fault
    at: float
    lasts: float
    victim: int


def parse_kinds(text: str) -> tuple[Fault, ...]:
    """Return the faults that a list with commas names, in its order; raises ValueError for a word that is none."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [word for word in words if word not in set(Fault)]
    if unknown or not words:
        raise ValueError(f"no such fault: {', '.join(unknown) or text!r}; there are {', '.join(Fault)}")
    return tuple(dict.fromkeys(Fault(word) for word in words))


def make_plan(seed: int, seconds: float, faults: Sequence[Fault] = tuple(Fault)) -> tuple[Planned, ...]:
    """Return the faults of a run in the order of their moments.

    Raises ValueError where not one of them fits into the seconds."""
    draw = random.Random(f"chaos/{seed}")  # noqa: S311  # a schedule, not a secret
    planned: list[Planned] = []
    at = WARM_SECONDS
    while True:
        round_ = list(faults)
        draw.shuffle(round_)
        before = len(planned)
        for fault in round_:
            kind = KINDS[fault]
            begin = at + draw.uniform(*GAP_SECONDS)
            lasts = draw.uniform(kind.shortest, kind.longest)
            victim = draw.randint(1, VICTIMS)
            if begin + lasts + kind.calm > seconds:
                continue
            planned.append(Planned(fault, round(begin, 3), round(lasts, 3), victim))
            at = begin + lasts + kind.calm
        if len(planned) == before:
            break
    if not planned:
        raise ValueError(f"{seconds:g} seconds are too few for any of {', '.join(faults)}")
    return tuple(planned)
