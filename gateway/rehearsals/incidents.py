"""The table of what can be rehearsed: its name on the command line, its story, and what a site needs for it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from msgspec import Struct

from zentra.gateway.rehearsals import operations, rails
from zentra.gateway.rehearsals.site import Site
from zentra.gateway.rehearsals.story import Stage, Story

__all__ = ["DEMO", "INCIDENTS", "Incident", "missing_for"]

Play = Callable[[Stage, Story], Coroutine[Any, Any, None]]

SANDBOX: Final = ("sandbox_url", "the address of the sandbox rail (--sandbox-url)")
MACHINERY: Final = ("machinery", "an installation on this machine (--data-dir, or no --url at all)")


class Incident(Struct, frozen=True):
    """One story by name; `needs` are fields of the site without which it cannot be played, each with its fix."""

    name: str
    title: str
    play: Play
    needs: tuple[tuple[str, str], ...] = ()

    @property
    def summary(self) -> str:
        """Return what happens, in a sentence."""
        return (self.play.__doc__ or "").strip()


# fmt: off
INCIDENTS: Final = {incident.name: incident for incident in (
    Incident("happy",                  "A transfer that goes well",             rails.happy),
    Incident("duplicate-callback",     "Duplicate provider callback",           rails.duplicate_callback),
    Incident("late-callback",          "Late provider callback",                rails.late_callback),
    Incident("contradictory-callback", "Contradictory provider callback",       rails.contradictory_callback),
    Incident("rail-timeout",           "Rail takes a payment and times out",    rails.rail_timeout),
    Incident("rail-failover",          "Rail accepts nothing: failover",        rails.rail_failover, (SANDBOX,)),
    Incident("limit-breach",           "High-value intent",                     operations.limit_breach),
    Incident("consumer-outage",        "Webhook consumer outage",               operations.consumer_outage),
    Incident("never-settles",          "Funds reserved, payment never settles", rails.never_settles),
    Incident("redis-loss",             "Redis loses everything",                operations.redis_loss, (MACHINERY,)),
    Incident("worker-kill",            "Worker killed under load",              operations.worker_kill, (MACHINERY,)),
    Incident("cross-tenant",           "Operator outside their tenant",         operations.cross_tenant,
             (("stranger", "a key of another tenant (--stranger-key)"),)),
)}
# fmt: on
DEMO: Final = ("happy", "duplicate-callback", "limit-breach", "consumer-outage", "never-settles", "cross-tenant")
"""The five incidents of the demo, after one transfer that goes well."""


def missing_for(incident: Incident, site: Site) -> str:
    """Return what a site lacks for an incident, with the option that names it; empty where it lacks nothing."""
    has = {"sandbox_url": site.sandbox_url, "machinery": site.machinery, "stranger": site.cast.stranger}
    return "; ".join(f"it needs {fix}" for name, fix in incident.needs if not has[name])
