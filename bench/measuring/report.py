"""A run as one HTML file to look at: verdict first, then the figures, then the plots that explain them.

The file holds everything it needs and asks for nothing: no script, no font, no address. It reads in light and dark and
on paper, and says in words what it says in colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from zentra.bench.measuring.measured import Measured
from zentra.bench.measuring.plans import PROFILES
from zentra.bench.measuring.plots import Band, Bar, Line, bar_chart, line_chart, percentile_chart, told
from zentra.bench.measuring.resources import OTHERS
from zentra.bench.measuring.tables import STAGES

__all__ = ["html_of", "write_html"]

_STYLE: Final = Path(__file__).with_name("report.css")
QUANTILE_NAMES: Final = {
    "0.5": "p50", "0.75": "p75", "0.9": "p90", "0.95": "p95", "0.99": "p99", "0.999": "p99.9", "0.9999": "p99.99",
    "1.0": "max",
}  # fmt: skip
LINES_SHOWN: Final = 8


def write_html(measured: Measured, thresholds: Mapping[str, float], against: Sequence[str], path: Path) -> None:
    """Write the report to `path`. Raises OSError."""
    path.write_text(html_of(measured, thresholds, against), encoding="utf-8")


def html_of(measured: Measured, thresholds: Mapping[str, float], against: Sequence[str]) -> str:
    """Return the report as the text of one HTML page; `against` is what speaks against the run."""
    title = f"{measured.profile} over {measured.transport}"
    question = PROFILES[measured.profile].question if measured.profile in PROFILES else ""
    body = "".join(
        (
            f"<header><p class='brand'>zentra bench</p><h1>{escape(title)}</h1><p class='lead'>{escape(question)}</p>",
            _verdict(measured, against),
            "</header>",
            _tiles(measured),
            *_plots(measured),
            _phases(measured),
            _curves(measured),
            _processes(measured),
            _footprint(measured),
            _thresholds(measured, thresholds),
            _checks(measured),
            _facts(measured),
        )
    )
    style = _STYLE.read_text(encoding="utf-8")
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light dark'>"
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def _verdict(measured: Measured, against: Sequence[str]) -> str:
    if not against:
        return "<p class='verdict good'><b>✓ Counts.</b> Valid, correct and within its thresholds.</p>"
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in against)
    word = "Does not count" if measured.faults or measured.breaches else "Over a threshold"
    return f"<div class='verdict bad'><b>✗ {word}.</b><ul>{sentences}</ul></div>"


def _tiles(measured: Measured) -> str:
    ceiling = measured.generator_per_second_max
    tiles = [
        (
            "completed",
            told(measured.completed_per_second),
            "intents/s",
            f"{measured.completed:,} of {measured.intents:,}",
        ),
        ("until SUCCESSFUL", told(measured.p50_ms), "ms p50", f"{told(measured.p99_ms)} ms p99"),
        ("until the answer", told(measured.answer_p50_ms), "ms p50", f"{told(measured.answer_p99_ms)} ms p99"),
        ("accepted", told(measured.accepted_per_second), "/s", f"{sum(measured.refusals.values()):,} refused"),
    ]
    if measured.knee_per_second is not None:
        tiles.append(("knee", told(measured.knee_per_second), "/s", "the last step kept up with"))
    cost = f"{measured.accepted_per_second / ceiling:.0%} used, {measured.generator_cpu_us_per_intent} µs each"
    tiles.append(("generator's ceiling", told(ceiling), "/s", cost))
    inside = "".join(
        f"<div class='tile'><h2>{escape(name)}</h2><p><b>{value}</b> {unit}</p><p class='sub'>{escape(sub)}</p></div>"
        for name, value, unit, sub in tiles
    )
    return f"<section class='tiles'>{inside}</section>"


def _plots(measured: Measured) -> Iterable[str]:
    bands = [Band(p.name, p.begins, p.begins + p.seconds, not p.counted) for p in measured.phases]
    seconds = sorted(measured.by_second.items())
    # A second that has only just begun has little in it, and would draw a fall that was none.
    full = seconds[:-1] if len(seconds) > 3 else seconds
    yield _figure(
        "How long it took, by percentile",
        "Log-log. The further right, the rarer; one line for every route and outcome.",
        percentile_chart(
            "latency", [Line(_short(c.name), c.points, "actual" in c.name) for c in measured.curves], unit="ms"
        ),
        "ms",
    )
    yield _figure(
        "Throughput over time", "Records per second of the run: accepted, SUCCESSFUL, and sealed as evidence.",
        line_chart("throughput", [
            Line("accepted", [(second + 0.5, each.accepted) for second, each in full]),
            Line("successful", [(second + 0.5, each.successful) for second, each in full]),
            Line("sealed", [(second + 0.5, each.sealed) for second, each in full]),
        ], unit="intents/s", bands=bands), "intents/s",
    )  # fmt: skip
    waited = [(second, each) for second, each in seconds if each.p99_ms]
    yield _figure(
        "Latency over time", "From the accepted record to SUCCESSFUL, of the intents accepted in that second.",
        line_chart("latency", [
            Line("p50", [(second + 0.5, each.p50_ms) for second, each in waited]),
            Line("p99", [(second + 0.5, each.p99_ms) for second, each in waited]),
        ], unit="ms", bands=bands), "ms",
    )  # fmt: skip
    followers = sorted(name for name in measured.stages if name not in STAGES and measured.stages[name]["p99_ms"])
    yield _figure(
        "Where the time goes", "Each stage since the record before it: p50 as a bar, p99 as a line.",
        bar_chart("stages", [
            Bar(name, measured.stages[name]["p50_ms"], measured.stages[name]["p99_ms"])
            for name in STAGES if name in measured.stages
        ], unit=" ms", value="p50", reach="p99"), "ms",
    )  # fmt: skip
    if followers:
        yield _figure(
            "What follows", "Other events since the record before them: p50 as a bar, p99 as a line.",
            bar_chart("followers", [
                Bar(name, measured.stages[name]["p50_ms"], measured.stages[name]["p99_ms"]) for name in followers
            ], unit=" ms", value="p50", reach="p99"), "ms",
        )  # fmt: skip
    yield from _resources(measured, bands)


def _resources(measured: Measured, bands: Sequence[Band]) -> Iterable[str]:
    samples = measured.resources
    names = sorted({name for sample in samples for name in sample.cores})
    names.sort(key=lambda name: -sum(sample.cores.get(name, 0.0) for sample in samples))
    cores = [Line(name, [(s.second, s.cores[name]) for s in samples if name in s.cores]) for name in names]
    cost = ", ".join(
        f"{name} {told(cpu / measured.completed * 1e6)} µs"
        for name, cpu in sorted(measured.cpu_seconds.items(), key=lambda item: -item[1])
        if measured.completed and cpu
    )
    yield _figure(
        "Cores in use", f"CPU per process, sampled twice a second. Per completed intent: {cost or 'nothing'}.",
        line_chart("cores", cores[:LINES_SHOWN], unit="cores", bands=bands), "cores",
    )  # fmt: skip
    heavy = sorted(
        (name for name in names if name != OTHERS),
        key=lambda name: -(samples[-1].memory_mib.get(name, 0.0) if samples else 0.0),
    )
    memory = [Line(n, [(s.second, s.memory_mib[n]) for s in samples if n in s.memory_mib]) for n in heavy]
    yield _figure(
        "Memory", "Resident, shared memory counted once per group of processes.",
        line_chart("memory", memory[:LINES_SHOWN], unit="MiB", bands=bands), "MiB",
    )  # fmt: skip


def _figure(title: str, caption: str, plot: str, unit: str) -> str:
    return (
        f"<figure><figcaption><h2>{escape(title)} <span class='unit'>{escape(unit)}</span></h2>"
        f"<p>{escape(caption)}</p></figcaption>{plot}</figure>"
    )


def _phases(measured: Measured) -> str:
    if not measured.phases:
        return ""
    rows = [
        (
            p.name + ("" if p.counted else " (not counted)"), told(p.seconds, " s"), told(p.offered_per_second),
            told(p.successful_per_second), told(p.successful_p50_ms), told(p.successful_p99_ms),
            told(p.answer_p50_ms), told(p.answer_p99_ms), f"{p.refused:,}", f"{p.late:,}", "lagged" if p.fault else "",
        )
        for p in measured.phases
    ]  # fmt: skip
    head = ("phase", "length", "offered/s", "successful/s", "p50 ms", "p99 ms", "answer p50", "answer p99", "refused",
            "late", "")  # fmt: skip
    return _table("Phases", head, rows)


def _curves(measured: Measured) -> str:
    head = ("latency, ms", "count", "mean", *QUANTILE_NAMES.values())
    rows = [
        (curve.name, f"{curve.count:,}", told(curve.mean_ms), *(told(curve.quantiles_ms[q]) for q in QUANTILE_NAMES))
        for curve in measured.curves
    ]
    tenants = [
        (f"SUCCESSFUL, {name}", "", "", told(each["p50_ms"]), "", "", "", told(each["p99_ms"]), "", "", "")
        for name, each in measured.tenants.items()
        if len(measured.tenants) > 1
    ]
    return _table("By route and outcome", head, [*rows, *tenants])


def _processes(measured: Measured) -> str:
    seconds = max(measured.seconds, 1e-9)
    rows = []
    for name, cpu in sorted(measured.cpu_seconds.items(), key=lambda item: -item[1]):
        seen = [sample.memory_mib[name] for sample in measured.resources if name in sample.memory_mib]
        slope = measured.memory_slope_mib_per_minute.get(name)
        rows.append((
            name, told(cpu), told(cpu / measured.completed * 1e6) if measured.completed else "", told(cpu / seconds),
            told(seen[0]) if seen else "", told(max(seen)) if seen else "", told(seen[-1]) if seen else "",
            "" if slope is None else f"{slope:+.2f}",
        ))  # fmt: skip
    head = ("process", "CPU s", "µs each", "cores", "MiB first", "most", "last", "MiB a minute")
    return _table("By process", head, rows)


def _footprint(measured: Measured) -> str:
    rows = [(name, told(each)) for name, each in measured.bytes_each.items()]
    return _table("Bytes each intent leaves or moves", ("where", "bytes"), rows) if rows else ""


def _thresholds(measured: Measured, thresholds: Mapping[str, float]) -> str:
    rows = []
    for name, limit in thresholds.items():
        value = measured.figures.get(name[:-4])
        kept = value is not None and (value <= limit if name.endswith("max") else value >= limit)
        sign = "≤" if name.endswith("max") else "≥"
        rows.append((name[:-4], "not measured" if value is None else told(value), f"{sign} {told(limit)}", _mark(kept)))
    return _table("Thresholds", ("figure", "measured", "has to be", ""), rows) if rows else ""


def _checks(measured: Measured) -> str:
    rows = [(check.name, check.found, _mark(check.ok)) for check in measured.checks]
    return _table("Correctness", ("what has to be true", "found", ""), rows, words=True)


def _facts(measured: Measured) -> str:
    plan, machine = measured.plan, measured.machine
    facts = [
        ("machine", f"{machine.cores} cores, {machine.python}, {machine.system}, load generator included"),
        ("revision", machine.revision),
        ("company", f"other processes kept {told(measured.figures['other_cores'])} of {machine.cores} cores busy"),
        ("processes", f"{plan.gateways} gateway, {plan.workers} worker, {plan.generators} generator,"
                      f" {plan.nats_nodes} NATS"),
        ("history", f"{plan.history:,} finished intents in the database before the load"),
        ("load", f"{plan.accounts:,} accounts, {plan.rail} rail, batch {plan.batch}"
                 + (", Poisson arrivals" if plan.poisson else "") + (", a webhook endpoint" if plan.endpoint else "")),
        ("refusals", ", ".join(f"{why}: {count:,}" for why, count in measured.refusals.items()) or "none"),
        ("clock", "latency counts from the intended send time" if plan.phases
                  else "at full speed: rates are the result, latencies are those of a full queue"),
    ]  # fmt: skip
    return _table("Facts", ("", ""), facts, words=True)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, words: bool = False) -> str:
    kind = " class='words'" if words else ""
    top = "".join(f"<th scope='col'>{escape(name)}</th>" for name in head)
    lines = "".join(
        f"<tr><th scope='row'>{escape(row[0])}</th>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    header = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    return (
        f"<section><h2>{escape(title)}</h2><div class='wide'><table{kind}>{header}<tbody>{lines}</tbody></table>"
        "</div></section>"
    )


_GOOD, _BAD = "\x00good", "\x00bad"


def _mark(good: bool) -> str:
    return _GOOD if good else _BAD


def _cell(text: str) -> str:
    if text == _GOOD:
        return "<span class='mark good'>✓ kept</span>"
    if text == _BAD:
        return "<span class='mark bad'>✗ broken</span>"
    return escape(text)


def _short(name: str) -> str:
    """Return the name of a curve as it fits beside its line."""
    name = name.replace("intent → SUCCESSFUL", "SUCCESSFUL").replace("zentra.intents.create", "answer")
    return name.replace("POST /runtime/intents", "answer").replace(", from the actual send", " · service")
