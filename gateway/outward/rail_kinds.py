"""Which adapters there are: those that come with the product, and those that other packages plug in.

A package plugs one in with an entry point of the group `zentra.rails`: its name is the kind, its value the class. The
invariants kept here:

- Nothing of another package is imported before a rail of its kind is set up; whoever sets rails up (the operator of the
  installation, never a tenant) decides what runs.
- A kind that comes with the product cannot be replaced, and two packages cannot claim one kind.
- The settings of a rail may be more careful than what its adapter declares, never less.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Final, NamedTuple

from zentra.gateway.outward.http import OutwardHttp
from zentra.gateway.outward.rail_gtbank import GtbankRail
from zentra.gateway.outward.rail_http import without_secrets
from zentra.gateway.outward.rail_inline import InlineRail
from zentra.gateway.outward.rail_providus import ProvidusRail
from zentra.gateway.outward.rail_sandbox import SandboxRail
from zentra.runtime.errors import Refusal
from zentra.runtime.rails.port import Declaration, Rail, RailSettings

if TYPE_CHECKING:
    from zentra.gateway.spans import Spans

__all__ = ["ENTRY_POINTS", "AdapterRefused", "Kind", "adapter_of", "known_kinds", "objections", "rail_kind"]

ENTRY_POINTS: Final = "zentra.rails"
_KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


class AdapterRefused(Refusal):
    """Raised for a kind of rail without a usable adapter: `kind_unknown`, `kind_claimed_twice` or `kind_unusable`; and
    for one whose adapter cannot be made with the settings of a rail: `adapter_unusable`."""

    code = "rail_kind_refused"


class Kind(NamedTuple):
    """One kind of rail: what its adapter declares, and how one is made."""

    declaration: Declaration
    make: Callable[[RailSettings, OutwardHttp | None, Spans | None], Rail]


BUILT_IN: Final = {
    "sandbox": Kind(SandboxRail.declaration, SandboxRail),
    "inline": Kind(InlineRail.declaration, lambda settings, http, spans: InlineRail(settings)),
    "providus": Kind(ProvidusRail.declaration, ProvidusRail),
    "gtbank": Kind(GtbankRail.declaration, GtbankRail),
}


def known_kinds() -> list[str]:
    """Return every kind that could be set up, without importing what is plugged in."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINTS))})


@cache
def rail_kind(name: str) -> Kind:
    """Return a kind of rail, importing its adapter where it is plugged in. Raises `AdapterRefused`."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    found = entry_points(group=ENTRY_POINTS, name=name)
    if not found or not _KIND.fullmatch(name):
        raise AdapterRefused("kind_unknown", f"no adapter for rails of kind {name!r}; there are {known_kinds()}")
    if len(found) > 1:
        claimed = ", ".join(sorted(point.value for point in found))
        raise AdapterRefused("kind_claimed_twice", f"{name!r} is claimed by {claimed}; uninstall all but one")
    return _loaded(next(iter(found)))


def _loaded(point: EntryPoint) -> Kind:
    try:
        made = point.load()
    except Exception as error:
        raise AdapterRefused("kind_unusable", f"{point.value} cannot be imported: {error}") from error
    declaration = getattr(made, "declaration", None)
    if not callable(made) or not isinstance(declaration, Declaration):
        raise AdapterRefused("kind_unusable", f"{point.value} is no adapter: it has no declaration")
    return Kind(declaration, made)


def adapter_of(settings: RailSettings, http: OutwardHttp | None = None, spans: Spans | None = None) -> Rail:
    """Return the adapter of a rail, whose secrets are open. Raises `AdapterRefused`, whatever another package's class
    may raise: its sentence says what, without the secrets."""
    kind = rail_kind(settings.kind)
    try:
        made = kind.make(settings, http, spans)
        if made.settings.name != settings.name:
            raise ValueError(f"it is of rail {made.settings.name!r}")
    except Exception as error:
        secrets = [settings.secret, *settings.secrets.values()]
        why = without_secrets(f"{type(error).__name__}: {error}", secrets)
        raise AdapterRefused(
            "adapter_unusable", f"rail {settings.name}: its adapter of kind {settings.kind} cannot be made: {why}"
        ) from error
    return made


def objections(settings: RailSettings, declaration: Declaration) -> list[str]:
    """Return why an adapter cannot work with these settings; nothing where it can."""
    known = settings.sealed | settings.secrets | ({"callback": settings.secret} if settings.secret else {})
    found = [f"option {name} is missing" for name in declaration.options if not settings.options.get(name)]
    found += [f"secret {name} is missing" for name in declaration.secrets if not known.get(name)]
    if settings.idempotent_references and not declaration.idempotent_references:
        found.append("idempotent_references: to this partner a reference that is submitted twice may be two payments")
    if settings.not_found_lies_seconds < declaration.not_found_lies_seconds:
        least = f"{declaration.not_found_lies_seconds:g}"
        found.append(f"not_found_lies_seconds: this partner may deny a payment for {least} s; say {least} or more")
    return found
