"""Names that others rely on, gathered from the code: error codes, events, metrics; and the pages that explain them.

The pages in `docs/` are made from the tables here and in the code, so neither can differ from what runs. Rewrite them:

    .venv/bin/python -m tests.catalogue

What is promised to clients of a version stands in `docs/releases/`: nothing that is made later may break it. A release
renews it:

    .venv/bin/python -m tests.catalogue release
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec
from prometheus_client.core import Metric

from tests.architecture import ROOT, Source, python_sources
from tests.client.blocking_source import BLOCKING_PAGES
from zentra.bench.conformance.suite import RULES
from zentra.gateway import routes as routes_package
from zentra.gateway.description.asyncapi import asyncapi
from zentra.gateway.description.openapi import openapi, rendered
from zentra.gateway.http.app import Route
from zentra.gateway.http.versions import CURRENT
from zentra.gateway.metrics import Metrics
from zentra.runtime.codes import CODES, FIELD_CODES
from zentra.runtime.intents.machine import INITIAL, MOVES
from zentra.runtime.intents.vocabulary import SETTLED, State, Topic
from zentra.runtime.roles import ROLES

__all__ = [
    "PAGES",
    "PROMISED",
    "counted",
    "declared_routes",
    "explained_metrics",
    "exposed_metrics",
    "metric_families",
    "said_codes",
]

_SUFFIXES: Final = {"counter": "_total"}
_REWRITE: Final = "Rewrite it with `.venv/bin/python -m tests.catalogue`."

# fmt: off
MEANINGS: Final[Mapping[Topic, str]] = {
    Topic.INGRESS_ACCEPTED:       "the intent is stored, and will be brought to an end",
    Topic.POLICY_STARTED:         "the rules are being asked, because the first answer was not a plain yes",
    Topic.POLICY_ACCEPTED:        "the rules allow the intent; what it uses of its limits is taken",
    Topic.POLICY_REVIEW:          "the rules want a person to decide; a review is open",
    Topic.POLICY_DENIED:          "the rules forbid the intent",
    Topic.REVIEW_APPROVED:        "an operator approved; the rules are asked again",
    Topic.REVIEW_REJECTED:        "an operator rejected",
    Topic.REVIEW_EXPIRED:         "nobody decided in time",
    Topic.REVIEW_ENDORSED:        "somebody approved; it takes another approval",
    Topic.REVIEW_ASSIGNED:        "the review is somebody's, or nobody's, from now on",
    Topic.REVIEW_COMMENTED:       "somebody said something about the review",
    Topic.REVIEW_ESCALATED:       "the review was passed on, because it is overdue or somebody asked for it",
    Topic.INTENT_CANCELLED:       "the intent was taken back before any money was held",
    Topic.LEDGER_RESERVED:        "the money is held on the source account",
    Topic.LEDGER_POSTED:          "the money has moved",
    Topic.LEDGER_RELEASED:        "the hold is given back",
    Topic.LEDGER_REFUSED:         "the ledger could not book, for example without enough money",
    Topic.LEDGER_REVERSAL:        "posted money was given back, in part or in full",
    Topic.PROVIDER_ROUTED:        "a corridor and a rail were chosen, and the payment is being sent",
    Topic.PROVIDER_FAILOVER:      "a rail surely did not take the payment; the next one is tried",
    Topic.PROVIDER_CALLBACK:      "a rail took the payment, or told its outcome, for the first time or again",
    Topic.PROVIDER_AWAITED:       "no rail can be asked now; the intent waits for one",
    Topic.RECONCILIATION_MATCHED: "the rail's statement agrees",
    Topic.CASE_OPENED:            "something needs a person; a case is open",
    Topic.CASE_RESOLVED:          "a person has resolved a case",
    Topic.BALANCE_CROSSED:        "a balance came to meet the condition of a monitor",
    Topic.WEBHOOK_DELIVERED:      "an endpoint took an event",
    Topic.WEBHOOK_RETRYING:       "an endpoint did not take an event; it is sent again later",
    Topic.WEBHOOK_EXHAUSTED:      "an endpoint never took an event; no attempt is left",
    Topic.SYNCHRONIZED:           "every follower of the intent's end has been told",
    Topic.REVIEW_CLOSED:          "the evidence packet of the intent is sealed",
    Topic.EVIDENCE_AMENDED:       "something happened after sealing; an addendum is sealed",
    Topic.HOLD_CAPTURED:          "what was held has moved, or a part of it; the last capture gives back the rest",
    Topic.HOLD_VOIDED:            "what was held still was given back, because somebody asked for it",
    Topic.HOLD_EXPIRED:           "the time of a hold is over; what was held still was given back",
    Topic.ENDPOINT_DISABLED:      "an endpoint was disabled: it is gone, took nothing for too long, or somebody asked",
    Topic.ENDPOINT_ENABLED:       "somebody enabled an endpoint again",
}
# fmt: on


# Codes.


def said_codes(name: str, folders: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the codes written as the first argument of calls of `name`, each with where."""
    said: defaultdict[str, list[str]] = defaultdict(list)
    for source in _shipped(folders):
        for call in _calls(source):
            if _last_name(call.func) == name and (code := _literal(call)) is not None:
                said[code].append(f"{source.path}:{call.lineno}")
    return dict(said)


# Metrics.


def counted() -> dict[str, set[str]]:
    """Return the metrics that the code counts, `gauge` or `count` by name; `zentra_` and suffixes come later."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for source in _shipped(("actors", "streams", "storage", "gateway")):
        for call in _calls(source):
            kind = _last_name(call.func)
            told = isinstance(call.func, ast.Attribute) and _last_name(call.func.value).endswith(
                ("instruments", "metrics")
            )
            if kind in ("gauge", "count") and told and (name := _literal(call)) is not None:
                found[name].add(kind)
            if kind == "probe" and told:
                for key in (key for node in ast.walk(call) if isinstance(node, ast.Dict) for key in node.keys):
                    found[_text(key)].add("gauge")
        for name in _statistics(source):
            found[name].add("gauge")
    return dict(found)


def metric_families() -> list[Metric]:
    """Return the families of a process that has counted everything once, without those about Python itself."""
    metrics = Metrics()
    for name, kinds in counted().items():
        if "gauge" in kinds:
            metrics.gauge(name, 0)
        else:
            metrics.count(name)
    return sorted(metrics.collect(), key=lambda family: family.name)


def exposed_metrics() -> set[str]:
    """Return every sample name that a scrape can show."""
    exposed = set()
    for family in metric_families():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        exposed |= {family.name + suffix for suffix in suffixes}
    return exposed


def explained_metrics() -> list[str]:
    """Return the names that the table of explanations in `gateway/metrics.py` holds, repetitions included."""
    tree = ast.parse((ROOT / "gateway/metrics.py").read_text(encoding="utf-8"))
    [table] = [
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and _last_name(node.target) == "_HELP" and isinstance(node.value, ast.Dict)
    ]
    return [_text(key) for key in table.keys]


def _statistics(source: Source) -> Iterator[str]:
    """Yield the gauges that a worker and its store give as a whole."""
    if source.path == "actors/worker.py":
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef) and node.name == "statistics":
                yield from (_text(key) for inner in ast.walk(node) if isinstance(inner, ast.Dict) for key in inner.keys)
    if source.path == "storage/engine/store.py":
        query = re.search(r'_STATISTICS: Final = """(.*?)"""', source.text, re.DOTALL)
        assert query is not None, "the store's statistics are one query"
        yield from re.findall(r"\) as (\w+)(?:,|\n\Z)", query[1])


# Routes.


def declared_routes() -> list[Route]:
    """Return the routes of every `…Routes` class in `gateway/routes/`, without a store behind them, by path and method.

    A class declares its routes without looking at what it was given, so an empty shell of it can be asked."""
    found: list[Route] = []
    for module in pkgutil.iter_modules(routes_package.__path__):
        name = f"{routes_package.__name__}.{module.name}"
        for kind in vars(importlib.import_module(name)).values():
            if isinstance(kind, type) and kind.__module__ == name and kind.__name__.endswith("Routes"):
                found += object.__new__(kind).routes()
    return sorted(found, key=lambda route: (route.template, route.method))


# Pages.


def openapi_page() -> str:
    """Return `docs/openapi.json`."""
    return rendered(openapi(declared_routes())).decode()


def asyncapi_page() -> str:
    """Return `docs/asyncapi.json`."""
    return rendered(asyncapi()).decode()


def client_codes() -> str:
    """Return `client/codes.py`."""
    lines = [
        '"""Every error code of the API: `error.code == Code.INSUFFICIENT_FUNDS`.',
        "",
        f"Made from `runtime/codes.py` of the server. {_REWRITE}",
        'A code that is newer than this package is the text that it is, and compares equal to nothing here."""',
        "",
        "from enum import StrEnum",
        "from typing import Final",
        "",
        '__all__ = ["RETRYABLE", "Code"]',
        "",
        "",
        "class Code(StrEnum):",
        '    """What can be wrong with a request."""',
        "",
        *(f'    {code.upper()} = "{code}"' for code in CODES),
        "",
        "",
        "RETRYABLE: Final = frozenset(",
        "    {",
        *(f"        Code.{code.upper()}," for code, row in sorted(CODES.items()) if row.retryable),
        "    }",
        ")",
        '"""After these the very same request, with the same idempotency key, may succeed later."""',
        "",
    ]
    return "\n".join(lines)


def errors_page() -> str:
    """Return `docs/errors.md`."""
    lines = [
        "# Errors", "",
        f"Made from `runtime/codes.py`. {_REWRITE}", "",
        "An error is a problem document (RFC 9457) with a `code`. Codes never change their meaning. Where `again` is",
        "yes, the very same request, with the same idempotency key, may succeed later.", "",
        "| code | status | again | what it means | what to do |",
        "|---|---|---|---|---|",
        *(
            f"| `{row.code}` | {row.status} | {'yes' if row.retryable else 'no'} | {row.title} | {row.advice} |"
            for row in CODES.values()
        ),
        "", "## Codes of single fields", "",
        "The `errors` of a `validation_failed` name a field each, with a code of the table above or one of these:", "",
        *(f"- `{code}`" for code in sorted(FIELD_CODES)),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def events_page() -> str:
    """Return `docs/events.md`."""
    moves: defaultdict[Topic, list[str]] = defaultdict(list)
    moves[INITIAL.topic].append(f"→ {INITIAL.to}")
    for (state, _), move in MOVES.items():
        if move.to is not state:
            arrow = f"{state} → {move.to}"
            moves[move.topic] += [arrow] if arrow not in moves[move.topic] else []
    ends = ", ".join(f"`{state}`" for state in State if state in SETTLED)
    lines = [
        "# Events", "",
        f"Made from `Topic` (`runtime/intents/vocabulary.py`) and `runtime/intents/machine.py`. {_REWRITE}", "",
        "Every record of an intent is an event. It goes to the evidence, to the feed of the tenant and to the webhook",
        "endpoints that asked for it. Tenants see a state up to the slash; behind it is the step inside. Where no move",
        "is named, the event leaves the state as it is. [The machine](machine.md) has all of it.", "",
        f"An intent has ended in {ends}; later events may still follow.", "",
        "| event | what happened | moves |",
        "|---|---|---|",
        *(f"| `{topic}` | {MEANINGS[topic]} | {'<br>'.join(moves[topic])} |" for topic in Topic),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def metrics_page() -> str:
    """Return `docs/metrics.md`."""
    lines = [
        "# Metrics", "",
        f"Made from what the code counts and from `gateway/metrics.py`. {_REWRITE}", "",
        "A gateway shows its metrics on `/metrics` of its own port, a worker on `ZENTRA_METRICS_PORT`. No label names",
        "a tenant or an id. `deploy/prometheus/alerts.yml` says which of them to be woken for.", "",
        "| metric | type | what it counts |",
        "|---|---|---|",
        *(
            f"| `{family.name}{_SUFFIXES.get(family.type, '')}` | {family.type} | {family.documentation} |"
            for family in metric_families()
        ),
        "",
        "## Traces", "",
        "With `OTEL_EXPORTER_OTLP_ENDPOINT` (or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) set, gateways and workers export",
        "spans over OTLP/HTTP; without it, they load nothing of that. Install it: `pip install 'zentra[server,otel]'`.",
        "Set it for both: the span of a request goes along with its intent, as the member `zentra` of its tracestate,",
        "and workers put their calls under it, also days later and on other machines.", "",
        "| span | kind | attributes beside those of the conventions |",
        "|---|---|---|",
        "| `POST /runtime/intents`, and so on by route; `HTTP` without one | server | |",
        "| `process zentra.intents.create` | server | |",
        "| `POST /payments`, `GET /payments/{reference}` | client | `zentra.intent.id`, `zentra.rail`, "
        "`zentra.rail.attempt`, `zentra.rail.outcome` |",
        "| `POST` (a webhook) | client | `zentra.intent.id`, `zentra.webhook.endpoint`, `zentra.webhook.delivery`, "
        "`zentra.webhook.attempt` |",
        "",
        "The `traceparent` of a call names its own span. No body, account, key, path or query is exported. A trace is",
        "sampled as whoever began it said in its `traceparent`; for those begun here `OTEL_TRACES_SAMPLER` decides.",
        "The SDK reads the other `OTEL_` variables too (`OTEL_SERVICE_NAME`, which is else `zentra-gateway` or",
        "`zentra-worker`; `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_MAX_QUEUE_SIZE`, …).",
        "`OTEL_SDK_DISABLED=true` or `OTEL_TRACES_EXPORTER=none` switch it off; the one protocol is `http/protobuf`.",
        "A collector that is away costs spans and nothing else: a bounded queue drops what does not fit, and a stop",
        "waits three seconds at most. The production profile demands `https://`, or `ZENTRA_PLAIN_LOOPBACK` and a",
        "collector on the same machine.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def roles_page() -> str:
    """Return `docs/roles.md`."""
    guarded = [route for route in declared_routes() if route.permission is not None]
    open_routes = [route for route in declared_routes() if route.permission is None]
    lines = [
        "# Roles", "",
        f"Made from `runtime/roles.py` and the routes of the gateway. {_REWRITE}", "",
        "A role is a set of permissions. Keys, tokens and certificates may narrow it by scopes, which are names of",
        "permissions, and never widen it. Deny is the default; every denial is kept as evidence.", "",
        f"{len(guarded)} guarded routes and {len(ROLES)} roles make {len(guarded) * len(ROLES)} cells; each is tried",
        "against a running gateway by `tests/gateway/http/test_roles.py`.", "",
        f"| route | permission | limit | {' | '.join(ROLES)} |",
        f"|---|---|---|{'---|' * len(ROLES)}",
        *(
            f"| `{route.action}` | `{route.permission}` | {route.rate} | "
            + " | ".join("yes" if route.permission in ROLES[role] else "" for role in ROLES) + " |"
            for route in guarded
        ),
        "", "Open to everybody, because they tell nothing of anybody or check a signature of their own: "
        + ", ".join(f"`{route.action}`" for route in open_routes) + ".",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def adapters_page() -> str:
    """Return `docs/adapters.md`, whose table of rules is made from the conformance suite."""
    before, after = "<!-- rules -->\n", "<!-- end of rules -->"
    page = (ROOT / "docs/adapters.md").read_text(encoding="utf-8")
    head, _, rest = page.partition(before)
    rows = "".join(f"| `{rule.name}` | {rule.source} | {rule.says} |\n" for rule in RULES)
    return head + before + "\n| rule | from | says |\n|---|---|---|\n" + rows + "\n" + after + rest.partition(after)[2]


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "docs/adapters.md": adapters_page,
    "docs/errors.md": errors_page,
    "docs/events.md": events_page,
    "docs/metrics.md": metrics_page,
    "docs/openapi.json": openapi_page,
    "docs/asyncapi.json": asyncapi_page,
    "client/codes.py": client_codes,
    "docs/roles.md": roles_page,
    **BLOCKING_PAGES,
}
"""Pages that are made, by path."""


def _shipped(folders: tuple[str, ...]) -> list[Source]:
    return [source for source in python_sources() if source.folder in folders]


def _calls(source: Source) -> Iterator[ast.Call]:
    return (node for node in ast.walk(source.tree) if isinstance(node, ast.Call))


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _literal(call: ast.Call) -> str | None:
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def _text(node: ast.expr | None) -> str:
    assert isinstance(node, ast.Constant), "names of metrics are written out"
    return str(node.value)


PROMISED: Final = ROOT / f"docs/releases/openapi-{CURRENT.name}.json"
"""What the last release of the current version of the API promised."""


if __name__ == "__main__":
    for path, page in PAGES.items():
        (ROOT / path).write_text(page(), encoding="utf-8")
    if sys.argv[1:] == ["release"]:
        PROMISED.write_bytes(msgspec.json.encode(openapi(declared_routes())) + b"\n")
