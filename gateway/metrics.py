"""Metrics in the Prometheus format: what the hot path touches is a list of integers, made into samples when asked for.

- Names begin with `zentra_`, units are base units, labels are bounded: never a tenant, an id, or a client's word.
- A histogram here counts each observation in one bucket; the cumulative form exists only in the answer.
- One registry per process; nothing is global.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final
from wsgiref.simple_server import WSGIServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import start_http_server

__all__ = ["CONTENT_TYPE", "Histogram", "Metrics", "MetricsServer", "serve_metrics"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST.encode()
_NO_LABELS: Final[Mapping[str, str]] = {}

# From a cached answer to a wait of thirty seconds.
HTTP_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# A stage takes milliseconds, a review days.
STAGE_BUCKETS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0, 86400.0,
)  # fmt: skip
TICK_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
EVENT_BUCKETS: Final = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)

_HELP: Final = {
    "ledger_imbalance_minor_units": "What posted balances of a tenant and currency miss 0 by: an incident",
    "ledger_imbalance_pending_minor_units": "The same of pending balances",
    "reviews_open": "Reviews that wait for somebody",
    "reviews_overdue": "Those of them that should have been decided by now",
    "reviews_unassigned": "Those of them that are nobody's",
    "reviews_oldest_seconds": "Age of the oldest of them",
    "approvals_open": "Approvals of what is no intent that wait for somebody",
    "cases_open": "Cases that wait for somebody",
    "cases_overdue": "Those of them whose deadline has passed",
    "parties_screened": "Parties that were held against lists, for the first time or again",
    "parties_screening_changes": "Screening states that changed by that",
    "outbox_lag_seconds": "Age of the oldest frame that nobody has marked as sent",
    "checkpoint_lag_messages": "Command frames behind which the checkpoints stand",
    "leases_owned": "Partitions that this worker owns",
    "events_waiting": "Events that wait for a tick, those still in the stream estimated: what gateways are told",
    "queued_events": "Events that have arrived and are not decided yet",
    "actors_in_memory": "Transactions that this worker keeps at hand",
    "outward_backlog": "Calls to rails and webhooks that wait or are on their way",
    "redis_degraded": "1 while Redis is left alone and every key goes to Postgres",
    "intents_waiting": "Requests that wait for the next commit of the intake",
    "nats_requests_unanswered": "Requests of the NATS door that are being worked on",
    "backlog_intents": "Accepted intents that no worker has looked at yet",
    "backlog_oldest_seconds": "Age of the oldest of them",
    "backlog_readings_failed": "Readings of the backlog that failed; the doors stay as they are until one succeeds",
    "intake_closed": "1 while new intents are sent away because the workers do not keep up",
    "event_streams": "Event streams that clients hold open",
    "intake_held_seconds": "For how long groups of new intents were held because workers had enough to do",
    "workers_waiting_events": "Events that wait at the workers, as they reported lately",
    "intents_shed": "Requests for new intents sent away, by what there was too much of and by door",
    "intents": "Requests to create an intent, by what became of them",
    "idempotency_replays": "Answers given again, by the door they left through",
    "callbacks": "Provider callbacks by rail: new, repeated, said_before, put_off, or why one was refused",
    "fence_refusals": "Partitions of a tick that another worker owned by then",
    "webhook_attempts": "Webhook attempts by outcome; those not started came while too many calls were under way",
    "rail_calls": "Calls to rails by outcome",
    "outward_faults": "Submissions, polls, webhooks and adapters that met a fault of a program; its log says which",
    "rail_circuit": "How this worker's circuit of a rail stands: 0 closed, 1 half open, 2 open",
    "rail_waiting": "Calls of this worker to a rail that wait for their turn",
    "poison_messages": "Events set aside because they could not be decided",
    "stream_rollbacks": "Partitions whose stream had lost its tail",
    "frames_lost": "Command frames that a stream lost before anybody consumed them; they were sent again",
    "publish_failures": "Frames that the stream did not take at once",
    "outbox_swept": "Frames published by the sweep",
    "requests_limited": "Requests sent away because a tenant or a key asked for more than its limit",
    "limits_degraded": "Questions about limits that Redis did not answer; each gateway held the limits by itself",
    "failures_shut": "Requests with unknown credentials sent away unseen because their address had failed too often",
    "anchors_pending": "Checkpoints that wait to be kept elsewhere",
    "anchors_oldest_seconds": "For how long the oldest of them has waited",
    "anchor_attempts": "Checkpoints handed to sinks, by kind of sink and outcome",
    "evidence_leaves_waiting": "Leaves put off because the worker of their log lacks the evidence key in force",
    "evidence_signing_stopped": "1 while this worker lacks the evidence key in force, and seals nothing",
    "denials_collected": "Refusals counted under a collective actor because too many were waiting",
}
# An alert on a counter needs its zero.
_FROM_ZERO: Final = (
    "fence_refusals", "poison_messages", "stream_rollbacks", "frames_lost", "denials_collected",
    "backlog_readings_failed", "evidence_leaves_waiting", "requests_limited", "limits_degraded", "failures_shut",
)  # fmt: skip

_Labels = tuple[tuple[str, str], ...]


class Histogram:
    """Bucket arrays by label values."""

    def __init__(self, name: str, help_text: str, labels: tuple[str, ...], bounds: Sequence[float]) -> None:
        self._name, self._help, self._labels, self._bounds = name, help_text, labels, bounds
        self._series: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, key: tuple[str, ...], value: float) -> None:
        """Count one value."""
        buckets = self._series.get(key)
        if buckets is None:
            buckets = self._open(key)
        buckets[bisect_left(self._bounds, value)] += 1
        self._sums[key] += value

    def observe_many(self, key: tuple[str, ...], values: Sequence[float]) -> None:
        """Count many values of one series."""
        buckets, bounds = self._series.get(key) or self._open(key), self._bounds
        for value in values:
            buckets[bisect_left(bounds, value)] += 1
        self._sums[key] += sum(values)

    def family(self) -> Metric:
        """Return the samples."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        for key, buckets in list(self._series.items()):
            total, cumulative = 0, []
            for bound, count in zip((*map(str, self._bounds), "+Inf"), buckets, strict=True):
                total += count
                cumulative.append((bound, float(total)))
            family.add_metric(key, cumulative, self._sums[key])
        return family

    def _open(self, key: tuple[str, ...]) -> list[int]:
        self._sums[key] = 0.0
        return self._series.setdefault(key, [0] * (len(self._bounds) + 1))


class Metrics:
    """The metrics of one process; also the Instruments of a worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._http = Histogram(
            "zentra_http_request_duration_seconds", "Time to answer", ("route", "method", "status"), HTTP_BUCKETS
        )
        self._stages = Histogram(
            "zentra_stage_duration_seconds", "Time from one record of an intent to the next", ("event",), STAGE_BUCKETS
        )
        self._ticks = Histogram("zentra_tick_duration_seconds", "Time from taking to committed", (), TICK_BUCKETS)
        self._events = Histogram("zentra_tick_events", "Events in one tick", (), EVENT_BUCKETS)
        self._rails = Histogram(
            "zentra_rail_call_duration_seconds", "Time that a rail took to answer", ("rail", "how"), HTTP_BUCKETS
        )
        self._gauges: dict[str, dict[_Labels, float]] = {}
        self._counts: dict[str, dict[_Labels, int]] = {name: {(): 0} for name in _FROM_ZERO}
        self._probes: list[Callable[[], Mapping[str, float]]] = []
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    # What is told.

    def http(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request has been answered."""
        self._http.observe((route, method, str(status)), seconds)

    def tick(self, events: int, seconds: float) -> None:
        """A tick has committed."""
        self._ticks.observe((), seconds)
        self._events.observe((), float(events))

    def stages(self, waits: Mapping[str, Sequence[float]]) -> None:
        """By event: how long each intent waited for it since the record before."""
        self.observe_stages(waits)

    def observe_stages(self, waits: Mapping[str, Sequence[float]]) -> None:
        """Fill the stage histogram in bulk."""
        for event, seconds in waits.items():
            self._stages.observe_many((event,), seconds)

    def gauge(self, name: str, value: float, labels: Mapping[str, str] = _NO_LABELS) -> None:
        """A quantity stands at `value` now; a name always comes with the same labels."""
        self._gauges.setdefault(name, {})[tuple(labels.items())] = float(value)

    def rail(self, rail: str, how: str, seconds: float) -> None:
        """A call to a rail took so long."""
        self._rails.observe((rail, how), seconds)

    def count(self, name: str, labels: Mapping[str, str] = _NO_LABELS, by: int = 1) -> None:
        """Something happened `by` more times; a name always comes with the same labels."""
        series = self._counts.setdefault(name, {})
        key = tuple(labels.items())
        series[key] = series.get(key, 0) + by

    def probe(self, gauges: Callable[[], Mapping[str, float]]) -> None:
        """Ask for gauges each time somebody looks."""
        self._probes.append(gauges)

    # What is shown.

    def collect(self) -> Iterator[Metric]:
        """Yield every family that has something to say."""
        for histogram in (self._http, self._stages, self._ticks, self._events, self._rails):
            yield histogram.family()
        for probe in self._probes:
            for name, value in probe().items():
                self.gauge(name, value)
        for name, values in sorted(self._gauges.items()):
            gauge = GaugeMetricFamily(
                f"zentra_{name}", _HELP.get(name, name), labels=[label for label, _ in next(iter(values))]
            )
            for key, value in list(values.items()):
                gauge.add_metric([text for _, text in key], value)
            yield gauge
        for name, series in sorted(self._counts.items()):
            labels = [label for label, _ in next(iter(series))]
            counter = CounterMetricFamily(f"zentra_{name}", _HELP.get(name, name), labels=labels)
            for key, count in list(series.items()):
                counter.add_metric([text for _, text in key], count)
            yield counter

    def exposition(self) -> bytes:
        """Return everything in the text format."""
        return generate_latest(self.registry)


class MetricsServer:
    """The metrics port of a process that serves nothing else; it has a thread of its own."""

    def __init__(self, server: WSGIServer, thread: threading.Thread) -> None:
        self._server, self._thread = server, thread
        self.port: int = server.server_port

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_metrics(metrics: Metrics, port: int, host: str = "127.0.0.1") -> MetricsServer:
    """Serve the registry over HTTP, for workers; port 0 takes a free one. Raises OSError where the port is taken."""
    server, thread = start_http_server(port, host, registry=metrics.registry)
    return MetricsServer(server, thread)
