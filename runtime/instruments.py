"""What the runtime tells of itself while it works: a port whose default is silence.

Nothing here may raise or wait, and nothing may depend on having been heard."""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

__all__ = ["SILENCE", "Instruments", "Silence"]

_NO_LABELS: Final[Mapping[str, str]] = {}


class Instruments(Protocol):
    """Where the engine reports; a name is the metric's, without its `zentra_`."""

    def tick(self, events: int, seconds: float) -> None:
        """A tick of `events` events took `seconds` from taking to committed."""
        ...

    def stages(self, waits: Mapping[str, Sequence[float]]) -> None:
        """By event: how long each intent waited for it since the record before."""
        ...

    def gauge(self, name: str, value: float, labels: Mapping[str, str] = _NO_LABELS) -> None:
        """A quantity stands at `value` now; a name always comes with the same labels."""
        ...

    def rail(self, rail: str, how: str, seconds: float) -> None:
        """A call to a rail took so long; `how` is "submit" or "poll"."""
        ...

    def count(self, name: str, labels: Mapping[str, str] = _NO_LABELS, by: int = 1) -> None:
        """Something happened `by` more times."""
        ...


class Silence:
    """Instruments that nobody listens to."""

    def tick(self, events: int, seconds: float) -> None:
        """Say nothing."""

    def stages(self, waits: Mapping[str, Sequence[float]]) -> None:
        """Say nothing."""

    def gauge(self, name: str, value: float, labels: Mapping[str, str] = _NO_LABELS) -> None:
        """Say nothing."""

    def rail(self, rail: str, how: str, seconds: float) -> None:
        """Say nothing."""

    def count(self, name: str, labels: Mapping[str, str] = _NO_LABELS, by: int = 1) -> None:
        """Say nothing."""


SILENCE: Final[Instruments] = Silence()
