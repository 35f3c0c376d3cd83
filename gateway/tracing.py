"""Whether this process exports spans over OTLP, as the standard `OTEL_` variables say: off unless they name where to.

- Without an endpoint nothing here imports OpenTelemetry, and whoever could export holds None.
- With one and without the extra `otel`, the process does not start, and says what to install.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from zentra.gateway.production import assert_exporter
from zentra.gateway.settings import Settings, SettingsError

if TYPE_CHECKING:
    from zentra.gateway.spans import Spans

__all__ = ["open_tracing"]

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN: Final = "http/protobuf"


def open_tracing(settings: Settings, service: str, instance: str = "") -> Spans | None:
    """Return what exports the spans of this process, under a name that `OTEL_SERVICE_NAME` overrides; None where the
    environment does not switch it on.

    Raises SettingsError for a variable with a value that cannot be meant, and where the extra is not installed."""
    endpoint = _endpoint(os.environ)
    if endpoint is None:
        return None
    assert_exporter(settings, *endpoint)
    try:
        from zentra.gateway.spans import Spans
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise SettingsError(
            f"{endpoint[0]} is set and the exporter is not installed; install it with: pip install 'zentra[otel]'"
        ) from error
    try:
        return Spans.exporting(service, instance)
    except ValueError as error:
        raise SettingsError(f"the OTEL_ variables: {error}") from error


def _endpoint(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the variable that switches the export on, and its value; raise SettingsError for what is not spoken."""
    named = next(((name, environment[name]) for name in _ENDPOINTS if environment.get(name)), None)
    if named is None or environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporter = environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()
    if exporter == "none":
        return None
    if exporter != "otlp":
        raise SettingsError(f"OTEL_TRACES_EXPORTER: {exporter} is not known here; it is otlp or none")
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), _SPOKEN)
    if protocol.strip().lower() != _SPOKEN:
        raise SettingsError(f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol} is not spoken here; it is {_SPOKEN}")
    return named
