"""The auditor's own reading of windows, conditions and risk: what a decision under them has to see and to say.

It takes the document from the product and no rule: windows are sums over what was counted when, conditions are answered
yes, no or not at all, and the score is added up anew."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from zentra.bench.simulation.auditor_words import BOOKED
from zentra.runtime.policy import PolicyRules, Usage, VelocityKey
from zentra.runtime.policy.rules import Risk, Window

__all__ = [
    "Answered", "AuditedWindows", "Counted", "answers_under", "fields_of", "is_rolling", "kept_under", "key_of",
    "score_under", "values_under", "windows_of",
]  # fmt: skip

Counted = tuple[str, str, int | None]  # counter, day, and the bucket of a rolling one
_EVER: Final = "1970-01-01"
_RISK: Final = {
    "risk.hour": Window(by="account", rolling_seconds=3600, buckets=12),
    "risk.month": Window(by="account", rolling_seconds=2_678_400, buckets=31),
    "risk.pair": Window(by="pair", calendar="ever"),
}
_KEPT: Final = ("source.type", "destination.type", "hour", "weekday")


def is_rolling(counter: str) -> bool:
    """Return whether a counter has buckets."""
    return counter.startswith("rolling-")


def windows_of(rules: PolicyRules, command: Mapping[str, Any]) -> dict[str, Window]:
    """Return the windows that look at such an intent."""
    windows = dict(rules.windows) | (_RISK if rules.risk is not None else {})
    kind = command["kind"]
    return {
        name: window
        for name, window in windows.items()
        if (kind in window.kinds if window.kinds is not None else kind not in BOOKED)
        and (command["destination"] or window.by not in ("counterparty", "pair"))
    }


class AuditedWindows:
    """What was counted in the buckets of rolling counters, and the latest bucket that each has had."""

    def __init__(self) -> None:
        self._buckets: dict[VelocityKey, dict[int, list[int]]] = {}
        self._latest: dict[VelocityKey, int] = {}
        self._changed: set[VelocityKey] = set()

    def keys(self) -> set[VelocityKey]:
        """Return every rolling counter that something was counted in."""
        return set(self._buckets)

    def take_changed(self) -> set[VelocityKey]:
        """Return what has changed since this was asked last."""
        changed, self._changed = self._changed, set()
        return changed

    def count(self, key: VelocityKey, bucket: int, count: int, minor: int) -> None:
        """Count an intent, or count it no longer."""
        held = self._buckets.setdefault(key, {}).setdefault(bucket, [0, 0])
        held[0] += count
        held[1] += minor
        self._latest[key] = max(self._latest.get(key, 0), bucket)
        self._changed.add(key)

    def bucket(self, key: VelocityKey, window: Window, now: datetime) -> int:
        """Return the bucket that is now."""
        return max(int(now.timestamp()) // _width(window), self._latest.get(key, 0))

    def held(self, key: VelocityKey, window: Window, now: datetime) -> tuple[int, int]:
        """Return what lies within the window, whole buckets."""
        width, seconds = _width(window), window.rolling_seconds or 0
        at = max(int(now.timestamp()), self._latest.get(key, 0) * width)
        inside = [held for n, held in self._buckets.get(key, {}).items() if (n + 1) * width > at - seconds]
        return sum(held[0] for held in inside), sum(held[1] for held in inside)

    def differs(self, key: VelocityKey, stored: Usage) -> str | None:
        """Return how a stored counter differs from what was counted, None where it does not."""
        mine, latest = self._buckets.get(key, {}), self._latest.get(key)
        kept = {number: [count, minor] for number, count, minor in stored.buckets}
        if latest is not None and latest not in kept:
            return f"its time is bucket {latest}, which it has not"
        seconds, buckets = (int(part) for part in key.counter.partition("/")[0].split("-")[1:])
        width = -(-seconds // buckets)
        for number, held in mine.items():
            within = latest is not None and (number + 1) * width > latest * width - seconds
            if kept.pop(number, None) != held and (within and held != [0, 0]):
                return f"bucket {number} holds something else than {held}"
        if any(held != [0, 0] for held in kept.values()):
            return f"nobody counted {kept}"
        return None


def _width(window: Window) -> int:
    return -(-(window.rolling_seconds or 0) // window.buckets)


def key_of(window: Window, zone: str, tenant: str, command: Mapping[str, Any], now: datetime) -> VelocityKey:
    """Return the counter of a window for an intent at that time."""
    place = {
        "tenant": "tenant",
        "account": f"account/{command['source']}",
        "counterparty": f"counterparty/{command['destination']}",
        "pair": f"pair/{command['source']}>{command['destination']}",
        "corridor": f"corridor/{command['country'] or '*'}/{command['kind']}",
    }[window.by]
    if window.kinds is not None:
        place = f"{'+'.join(sorted(set(window.kinds)))}/{place}"
    currency = command["currency"]
    if window.rolling_seconds is not None:
        return VelocityKey(tenant, f"rolling-{window.rolling_seconds}-{window.buckets}/{place}", _EVER, currency)
    if window.calendar == "ever":
        return VelocityKey(tenant, f"ever/{place}", _EVER, currency)
    day = now.astimezone(ZoneInfo(zone)).date()
    if window.calendar == "month":
        day = day.replace(day=1)
    elif window.calendar == "week":
        day -= timedelta(days=day.isoweekday() - 1)
    plain = window.calendar == "day" and zone == "UTC"
    prefix = "" if plain else f"{window.calendar}{'' if zone == 'UTC' else '@' + zone}/"
    return VelocityKey(tenant, f"{prefix}{place}", day.isoformat(), currency)


# Conditions and risk --------------------------------------------------------------------------------------------------


class Answered(NamedTuple):
    """What one rule says: its outcome (review, denied, allows), the reason, its lane, whether it had an answer."""

    rule: str
    outcome: str
    reason: str = ""
    lane: str = ""
    answered: bool = True
    waives: tuple[str, ...] = ()


def answers_under(
    rules: PolicyRules, command: Mapping[str, Any], usage: Mapping[str, tuple[int, int]], values: Mapping[str, Any]
) -> Iterator[Answered]:
    """Yield what windows, conditions and risk say of an intent, in their order."""
    minor = int(command["minor"])
    for name in windows_of(rules, command):
        if name in rules.windows:
            limits = rules.windows[name].limits
            found = limits.get(command["currency"]) or limits.get("*")
            count, held = usage[name]
            outcome = "denied" if found is not None and found.outcome == "deny" else "review"
            if found is not None and found.count_max is not None and count + 1 > found.count_max:
                yield Answered(f"window.{name}", outcome, "window_count_exceeded")
            elif found is not None and found.minor_max is not None and held + minor > found.minor_max:
                yield Answered(f"window.{name}", outcome, "window_amount_exceeded")
    for rule in rules.rules:
        answer = _answer(rule.when, values, rules.lists)
        if rule.outcome == "allow":
            if answer:
                yield Answered(rule.name, "allows", waives=rule.waives)
        elif answer is not False:
            outcome = "denied" if rule.outcome == "deny" else "review"
            reason = rule.reason if answer else "rule_unanswerable"
            yield Answered(rule.name, outcome, reason, rule.lane, answer is True)
    if rules.risk is not None:
        score = values["risk.score"]
        if rules.risk.deny_min is not None and score >= rules.risk.deny_min:
            yield Answered("risk", "denied", "risk_too_high")
        elif rules.risk.review_min is not None and score >= rules.risk.review_min:
            yield Answered("risk", "review", "risk_high")


def score_under(risk: Risk, command: Mapping[str, Any], usage: Mapping[str, tuple[int, int]]) -> int:
    """Return the default score."""
    if command["kind"] in BOOKED:
        return 0
    hour, (payments, paid), pair = usage["risk.hour"][0], usage["risk.month"], usage.get("risk.pair", (0, 0))[0]
    total = 0 if pair else risk.new_counterparty_weight
    total += risk.velocity_weight * min(hour, risk.velocity_full) // risk.velocity_full
    if payments < risk.history_min:
        total += risk.amount_weight // 2
    else:
        percent = int(command["minor"]) * 100 // max(paid // payments, 1)
        beyond = max(min(percent, risk.amount_full_percent) - 100, 0)
        total += risk.amount_weight * beyond // (risk.amount_full_percent - 100)
    return min(total, 100)


def values_under(
    rules: PolicyRules, command: Mapping[str, Any], people: tuple[str, str], types: tuple[str | None, str | None],
    now: datetime, usage: Mapping[str, tuple[int, int]],
) -> dict[str, Any]:  # fmt: skip
    """Return the fields that a simulated policy asks for; `people` are principal and role, `types` of both accounts."""
    here = now.astimezone(ZoneInfo(rules.time_zone))
    values: dict[str, Any] = {
        "amount": int(command["minor"]), "currency": command["currency"], "kind": command["kind"],
        "scope": command["scope"], "country": command["country"], "principal": people[0], "role": people[1],
        "source.id": command["source"], "destination.id": command["destination"] or None, "source.type": types[0],
        "destination.type": types[1], "hour": here.hour, "weekday": here.isoweekday(),
        "corridor": f"{command['country'] or '*'}/{command['currency']}/{command['kind']}",
    }  # fmt: skip
    values |= {f"metadata.{name}": text for name, text in command["metadata"].items()}
    for name in rules.windows:
        count, minor = usage.get(name, (0, 0))
        values |= {f"velocity.{name}.count": count, f"velocity.{name}.minor": minor}
    return values


def fields_of(rules: PolicyRules) -> set[str]:
    """Return the fields that the tenant's rules name."""
    return {name for rule in rules.rules for name in _asked(rule.when)}


def kept_under(rules: PolicyRules, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a decision has to keep."""
    asked = fields_of(rules)
    kept = {name: values[name] for name in _KEPT if name in asked or name == "source.type"}
    return kept | ({"risk.score": values["risk.score"]} if rules.risk is not None else {})


def _asked(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for one in part:
            yield from _asked(one)
    elif "field" in part:
        yield part["field"]
    else:
        yield from _asked(next(iter(part.values())))


def _answer(part: Any, values: Mapping[str, Any], lists: Mapping[str, tuple[str, ...]]) -> bool | None:
    """Return the answer of a condition, None where it has none; parts are asked in order."""
    if "all" in part or "any" in part:
        enough = "any" in part
        for one in part["any" if enough else "all"]:
            answer = _answer(one, values, lists)
            if answer is None or answer is enough:
                return answer
        return not enough
    if "not" in part:
        answer = _answer(part["not"], values, lists)
        return None if answer is None else not answer
    value, op = values.get(part["field"]), part["op"]
    if op in ("present", "absent"):
        return bool((value is None) == (op == "absent"))
    value = part.get("default") if value is None else value
    if value is None:
        return None
    given = lists[part["list"]] if "list" in part else part["value"]
    match op:
        case "==" | "!=":
            return bool(value == given) is (op == "==")
        case "in" | "not_in":
            return (value in given) is (op == "in")
        case ">=" | "<":
            return bool(value >= given) is (op == ">=")
        case ">" | "<=":
            return bool(value > given) is (op == ">")
        case _:
            cut = value[: len(given)] if op == "starts_with" else value[len(value) - len(given) :]
            return str(cut) == str(given)
