"""The user's own risk scorers: functions that are named in a setting and loaded when a process starts.

A name that leads nowhere stops the process then, with a sentence, and not in the middle of a decision."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from zentra.gateway.settings import SettingsError
from zentra.runtime.policy.scoring import DEFAULT_SCORER, Scorer

__all__ = ["load_scorers"]


def load_scorers(text: str) -> Mapping[str, Scorer]:
    """Return the scorers that `name=module:function,...` names; raise SettingsError where one is not to be had."""
    found: dict[str, Scorer] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, _, place = part.partition("=")
        module, _, function = place.partition(":")
        if not (name and module and function) or name in (DEFAULT_SCORER, *found):
            raise SettingsError(f"ZENTRA_RISK_SCORERS: {part!r} is not name=module:function with a name of its own")
        try:
            scorer = getattr(import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise SettingsError(f"ZENTRA_RISK_SCORERS: {part!r}: {error}") from error
        if not callable(scorer):
            raise SettingsError(f"ZENTRA_RISK_SCORERS: {part!r} is no function")
        found[name] = scorer
    return found
