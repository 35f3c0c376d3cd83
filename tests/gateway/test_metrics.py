"""Metrics: names, bounded labels, and sums that add up."""

from __future__ import annotations

import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from zentra.gateway.metrics import Metrics, serve_metrics


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(text.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_a_histogram_is_cumulative_and_adds_up(metrics: Metrics) -> None:
    metrics.observe_stages({"ledger.posted": [0.001, 0.002, 100.0], "ledger.reserved": [0.5]})
    shown = samples(metrics.exposition())
    name, posted = "zentra_stage_duration_seconds", ("event", "ledger.posted")
    assert shown[f"{name}_bucket", (posted, ("le", "0.001"))] == 1
    assert shown[f"{name}_bucket", (posted, ("le", "0.0025"))] == 2
    assert shown[f"{name}_bucket", (posted, ("le", "60.0"))] == 2
    assert shown[f"{name}_bucket", (posted, ("le", "+Inf"))] == 3
    assert shown[f"{name}_count", (posted,)] == 3
    assert shown[f"{name}_sum", (posted,)] == pytest.approx(100.003)
    assert shown[f"{name}_count", (("event", "ledger.reserved"),)] == 1


def test_a_value_beyond_every_bound_is_counted(metrics: Metrics) -> None:
    metrics.http("/x", "GET", 200, 1e9)
    shown = samples(metrics.exposition())
    assert (
        shown["zentra_http_request_duration_seconds_count", (("method", "GET"), ("route", "/x"), ("status", "200"))]
        == 1
    )


def test_ticks_are_told_by_duration_and_size(metrics: Metrics) -> None:
    metrics.tick(3, 0.004)
    shown = samples(metrics.exposition())
    assert shown["zentra_tick_events_sum", ()] == 3
    assert shown["zentra_tick_duration_seconds_count", ()] == 1


def test_counters_and_gauges_carry_the_prefix(metrics: Metrics) -> None:
    metrics.count("rail_calls", {"rail": "sandbox", "outcome": "pending"})
    metrics.count("rail_calls", {"rail": "sandbox", "outcome": "pending"}, by=2)
    metrics.count("poison_messages")
    metrics.gauge("leases_owned", 64)
    shown = samples(metrics.exposition())
    assert shown["zentra_rail_calls_total", (("outcome", "pending"), ("rail", "sandbox"))] == 3
    assert shown["zentra_poison_messages_total", ()] == 1
    assert shown["zentra_fence_refusals_total", ()] == 0, "an alert needs the zero"
    assert shown["zentra_leases_owned", ()] == 64


def test_a_probe_is_asked_each_time(metrics: Metrics) -> None:
    values = iter([{"redis_degraded": 0.0}, {"redis_degraded": 1.0}])
    metrics.probe(lambda: next(values))
    assert samples(metrics.exposition())["zentra_redis_degraded", ()] == 0
    assert samples(metrics.exposition())["zentra_redis_degraded", ()] == 1


def test_a_worker_has_a_port_of_its_own(metrics: Metrics) -> None:
    server = serve_metrics(metrics, 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
            assert b"zentra_tick_events" in answer.read()
    finally:
        server.close()
