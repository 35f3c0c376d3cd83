"""What can be measured: a plan says everything about one load, and every profile is a row of a table of plans.

Rates are only defaults: the same profile at another rate or length is the same question asked of another machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from zentra.bench.measuring.schedule import Phase, seconds_of, total_of
from zentra.bench.measuring.workload import Mix

__all__ = ["NATS_NODES", "PROFILES", "RAILS", "TRANSPORTS", "Plan", "Profile", "UnknownProfile", "plan_of"]

TRANSPORTS: Final = ("nats", "http", "bulk", "both")
RAILS: Final = ("inline", "sandbox")
NATS_NODES: Final = (1, 3)
WARM_UP_SECONDS: Final = 3.0
RAMP_STEPS: Final = 8
UNDER_WAY: Final = "409 idempotency_in_flight"  # what a repeat is told whose first is still unanswered
SLOWEST_PER_SECOND: Final = 50.0  # a run at full speed that does less has got stuck


class UnknownProfile(Exception):
    """Raised for a profile that is not in the table; the sentence lists those that are."""


class Plan(Struct, frozen=True, kw_only=True):
    """What to measure. `rail` "inline" answers as an event without HTTP, "sandbox" over HTTP with signed callbacks."""

    profile: str = "full"
    transport: str = "nats"
    intents: int = 30_000  # at full speed, and one at a time; else the phases say it
    rate: float = 0.0
    phases: tuple[Phase, ...] = ()
    poisson: bool = False
    batch: int = 100
    in_flight: int = 4_096
    accounts: int = 2_000
    hot: bool = False  # every intent credits one account
    mix: Mix = Mix()
    refusals_meant: tuple[str, ...] = ()  # answers that belong to the question; any other refusal is a fault
    comes_back: bool = False  # the generator, where it is turned away for now
    rail: str = "inline"
    endpoint: bool = False  # a webhook endpoint of ours
    endpoint_event: str = ""  # the one that it wants to hear of; else all
    outage: tuple[float, float] | None = None  # seconds from the start between which the endpoint is down
    one_at_a_time: bool = False  # the next intent is sent when the last one is SUCCESSFUL
    watch: bool = False  # see SUCCESSFUL as a client does, on the event stream
    workers: int = 1
    gateways: int = 1
    history: int = 0  # finished intents in the database before the load
    nats_nodes: int = 1  # three are a cluster, with as many replicas of each stream, synced before they answer
    generators: int = 1
    commits_max: int = 0  # the setting of every worker; 0: its default
    seconds_max: float = 300.0

    @property
    def sends(self) -> int:
        """How many intents are sent."""
        return total_of(self.phases) if self.phases else self.intents


class Profile(Struct, frozen=True):
    """A question, the default rate and length, and the plan that asks it."""

    question: str
    rate: float
    seconds: float
    plan: Callable[[float, float], Plan]


def plan_of(
    name: str, *, rate: float | None = None, seconds: float | None = None, repeats: float | None = None, **changes: Any
) -> Plan:
    """Return the plan of a profile at a rate and for a time, with a share of repeats, and fields of the plan changed.

    Raises UnknownProfile, and ValueError for a rate or time that is not positive or a share that is none."""
    profile = PROFILES.get(name)
    if profile is None:
        raise UnknownProfile(f"no profile {name!r}: {', '.join(PROFILES)}")
    rate, seconds = rate or profile.rate, seconds or profile.seconds
    if rate <= 0 or seconds <= 0:
        raise ValueError("a rate and a time are positive")
    if repeats is not None and not 0 <= repeats < 1:
        raise ValueError("the share of repeats is at least 0 and less than 1")
    plan = replace(profile.plan(rate, seconds), profile=name, **changes)
    if repeats is not None:
        plan = replace(plan, mix=replace(plan.mix, repeats=repeats))
    # A run ends by itself: its schedule, and once more as long for what has queued up by then.
    long = max(2 * seconds_of(plan.phases) + 60, plan.sends / SLOWEST_PER_SECOND)
    return replace(plan, seconds_max=max(plan.seconds_max, long))


def _open(rate: float, *phases: Phase, **more: Any) -> Plan:
    warm = Phase("warm-up", WARM_UP_SECONDS, max(1.0, min(rate, 200.0)), rate, counted=False)
    return Plan(rate=rate, phases=(warm, *phases), batch=1, watch=True, **more)


def _full(rate: float, seconds: float) -> Plan:
    return Plan()


def _warm_up(rate: float, seconds: float) -> Plan:
    return Plan(rate=rate, phases=(Phase("cold", seconds, rate),), batch=1, watch=True)


def _steady(rate: float, seconds: float) -> Plan:
    return _open(rate, Phase("steady", seconds, rate))


def _ramp(rate: float, seconds: float) -> Plan:
    step = seconds / RAMP_STEPS
    rates = [rate * (number + 1) / RAMP_STEPS for number in range(RAMP_STEPS)]
    return _open(rates[0], *(Phase(f"{round(each)}/s", step, each) for each in rates))


def _spike(rate: float, seconds: float) -> Plan:
    return _open(
        rate,
        Phase("before", seconds * 0.3, rate),
        Phase("spike", seconds * 0.1, 4 * rate),
        Phase("after", seconds * 0.6, rate),
    )


def _soak(rate: float, seconds: float) -> Plan:
    part = seconds / 3
    return _open(rate, *(Phase(name, part, rate) for name in ("first third", "second third", "last third")))


def _hot(rate: float, seconds: float) -> Plan:
    return _open(rate, Phase("steady", seconds, rate), mix=Mix(zipf=1.2))


def _tenants(rate: float, seconds: float) -> Plan:
    return _open(rate, Phase("steady", seconds, rate), mix=Mix(second_tenant=0.1))


def _retries(rate: float, seconds: float) -> Plan:
    calm, storm = Mix(repeats=0.25), seconds * 0.5
    return _open(
        rate, Phase("storm", storm, 1.5 * rate), Phase("after", seconds - storm, rate), mix=calm,
        refusals_meant=(UNDER_WAY,),
    )  # fmt: skip


def _reviews(rate: float, seconds: float) -> Plan:
    return _open(rate, Phase("steady", seconds, rate), mix=Mix(reviews=0.05))


def _outage(rate: float, seconds: float) -> Plan:
    begins = WARM_UP_SECONDS + seconds * 0.25
    return _open(
        rate, Phase("up", seconds * 0.25, rate), Phase("down", seconds * 0.25, rate),
        Phase("up again", seconds * 0.5, rate), endpoint=True, outage=(begins, begins + seconds * 0.25),
    )  # fmt: skip


def _unloaded(rate: float, seconds: float) -> Plan:
    return Plan(transport="http", intents=round(rate * seconds), one_at_a_time=True, batch=1, in_flight=1)


# fmt: off
PROFILES: Final[Mapping[str, Profile]] = {
    "full":     Profile("How many intents a second reach their last stage?",                     1,    1, _full),
    "warm-up":  Profile("How long until a fresh installation is as fast as it gets?",          300,   10, _warm_up),
    "steady":   Profile("How long does an intent take at a constant rate?",                    500,   10, _steady),
    "ramp":     Profile("At which rate does latency take off?",                               4000,   32, _ramp),
    "spike":    Profile("What does four times the rate for a moment leave behind?",            500,   20, _spike),
    "soak":     Profile("Does anything grow or drift over time?",                              500,  600, _soak),
    "hot":      Profile("What does it cost that most intents credit a few accounts (Zipf)?",   500,   10, _hot),
    "tenants":  Profile("Does a small tenant wait for a large one?",                           500,   10, _tenants),
    "retries":  Profile("Does a storm of repeated keys move money twice, or cost much?",       500,   10, _retries),
    "reviews":  Profile("Do intents that wait for a person hold up the others?",               300,   10, _reviews),
    "outage":   Profile("What does a webhook endpoint that is down do to everything else?",    300,   12, _outage),
    "unloaded": Profile("How long does one intent take when there is no other?",               100,    3, _unloaded),
}
# fmt: on
