"""The adapter that the documentation shows: short, kept to every rule, and plugged in as a stranger would."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from tests.actors.test_outward import Faults
from tests.architecture import ROOT
from zentra.bench.conformance.suite import Rule, check
from zentra.gateway.outward import rail_kinds
from zentra.gateway.outward.http import AddressPolicy, OutwardHttp
from zentra.gateway.outward.rail_gtbank import GtbankRail
from zentra.gateway.outward.rail_kinds import AdapterRefused, adapter_of, known_kinds, objections, rail_kind
from zentra.gateway.outward.rail_secrets import RailSecrets
from zentra.gateway.outward.rails import RailBook
from zentra.runtime.errors import Unavailable
from zentra.runtime.rails.health import is_bad
from zentra.runtime.rails.port import Declaration, OutcomeStatus, RailSettings, Submission

EXAMPLES = ROOT / "docs/examples"
LINES_MAX = 150
SECRETS = RailSecrets(bytes(32))


def conformance() -> ModuleType:
    spec = importlib.util.spec_from_file_location("flutter_conformance", EXAMPLES / "flutter_conformance.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = conformance()
RULES = next(mark for mark in example.test_flutter_keeps_the_rule.pytestmark if mark.name == "parametrize").args[1]


def test_the_example_is_short() -> None:
    assert len((EXAMPLES / "flutter.py").read_text(encoding="utf-8").splitlines()) < LINES_MAX


@pytest.mark.parametrize("rule", RULES, ids=str)
async def test_the_example_keeps_the_rule(rule: Rule) -> None:
    await check(rule, example.Flutter())


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on the path that packages can be put into."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(EXAMPLES), *sys.path])
    rail_kind.cache_clear()
    yield tmp_path
    rail_kind.cache_clear()


def install(directory: Path, package: str, points: str) -> None:
    made = directory / f"{package}-1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (made / "entry_points.txt").write_text(f"[{rail_kinds.ENTRY_POINTS}]\n{points}\n")


async def test_an_installed_package_plugs_a_kind_in(plugged: Path) -> None:
    install(plugged, "tidebank", "flutter = flutter:FlutterRail")
    assert known_kinds() == ["flutter", "gtbank", "inline", "providus", "sandbox"]
    assert rail_kind("flutter").declaration.callback_trust == "shared_secret"
    settings = RailSettings("flutter", "flutter", "http://127.0.0.1:9", "hash", secrets={"api_key": "key"})
    http = OutwardHttp(AddressPolicy(allow_private=True))
    stored = SECRETS.sealed(settings)
    book = RailBook(lambda: {"flutter": stored}, http, opened=SECRETS.opened)
    rail = book.adapter("flutter")
    assert (type(rail).__name__, rail is book.adapter("flutter")) == ("FlutterRail", True)
    await book.aclose()
    await http.aclose()


OURS, THEIRS = ("one", "flutter = flutter:FlutterRail"), ("two", "flutter = json:loads")
# fmt: off
REFUSED = [
    # packages and what they claim                              kind        refused as
    ([],                                                        "flutter",  "kind_unknown"),
    ([("one", "Flutter = flutter:FlutterRail")],                "Flutter",  "kind_unknown"),
    ([OURS, THEIRS],                                            "flutter",  "kind_claimed_twice"),
    ([("one", "flutter = no_such_module:FlutterRail")],         "flutter",  "kind_unusable"),
    ([("one", "flutter = flutter:NoSuchRail")],                 "flutter",  "kind_unusable"),
    ([THEIRS],                                                  "flutter",  "kind_unusable"),
]
# fmt: on


@pytest.mark.parametrize(("packages", "kind", "reason"), REFUSED)
def test_a_kind_without_one_usable_adapter_is_refused(
    plugged: Path, packages: list[tuple[str, str]], kind: str, reason: str
) -> None:
    for package, points in packages:
        install(plugged, package, points)
    with pytest.raises(AdapterRefused) as refused:
        rail_kind(kind)
    assert refused.value.reason == reason


def test_a_kind_that_comes_with_the_product_cannot_be_replaced(plugged: Path) -> None:
    install(plugged, "one", "gtbank = flutter:FlutterRail")
    assert rail_kind("gtbank").make is GtbankRail


async def test_a_rail_whose_adapter_is_missing_takes_nothing_and_knows_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    http = OutwardHttp(AddressPolicy())
    book = RailBook(lambda: {"tide": RailSettings("tide", "tidebank")}, http, opened=SECRETS.opened)
    rail = book.adapter("tide")
    assert rail is not None
    assert (await rail.submit(Submission("acme", "tide", "ref", 5, "NGN", "1"))).status is OutcomeStatus.NOT_ACCEPTED
    assert (await rail.poll("ref")).status is OutcomeStatus.UNKNOWN
    with pytest.raises(Unavailable, match="not installed here"):
        rail.verify_callback(b"{}", {}, 0.0)
    assert "rail has no adapter" in caplog.text
    await book.aclose()
    await http.aclose()


FAULTY = """
from flutter import FlutterRail

class Porter(FlutterRail):
    def __init__(self, settings, http=None, spans=None):
        super().__init__(settings, http, spans)
        self.port = int(settings.options["port"])

class Keyed(FlutterRail):
    def __init__(self, settings, http=None, spans=None):
        raise RuntimeError(f"no key but {settings.secrets['api_key']}")

class Nameless(FlutterRail):
    settings = None
"""


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ("faulty:Porter", "KeyError: 'port'"),
        ("faulty:Keyed", "RuntimeError: no key but [redacted]"),
        ("faulty:Nameless", "AttributeError"),
    ],
)
async def test_a_rail_whose_adapter_cannot_be_made_takes_nothing_and_says_why(
    plugged: Path, caplog: pytest.LogCaptureFixture, points: str, why: str
) -> None:
    (plugged / "faulty.py").write_text(FAULTY)
    install(plugged, "faulty", f"faulty = {points}")
    settings = RailSettings("bad", "faulty", "http://127.0.0.1:9", "hash", secrets={"api_key": "opensesame"})
    with pytest.raises(AdapterRefused) as refused:
        adapter_of(settings)
    assert (refused.value.reason, why in str(refused.value)) == ("adapter_unusable", True)
    http = OutwardHttp(AddressPolicy())
    stored = SECRETS.sealed(settings)
    book = RailBook(lambda: {"bad": stored}, http, opened=SECRETS.opened, instruments=(counted := Faults()))
    rail = book.adapter("bad")
    assert (rail is not None, rail is book.adapter("bad")) == (True, True)
    assert rail is not None
    taken = await rail.submit(Submission("acme", "bad", "ref", 5, "NGN", "1"))
    assert (taken.status, taken.reason, is_bad(taken)) == (OutcomeStatus.NOT_ACCEPTED, "adapter_unusable", True)
    assert (await rail.poll("ref")).status is OutcomeStatus.UNKNOWN
    with pytest.raises(Unavailable, match="cannot be made here"):
        rail.verify_callback(b"{}", {}, 0.0)
    assert [why in getattr(record, "why", "") for record in caplog.records] == [True]
    assert ("opensesame" in caplog.text, counted.faults) == (False, {"adapter": 1})
    await book.aclose()
    await http.aclose()


CAREFUL = Declaration("shared_secret", not_found_lies_seconds=30.0, secrets=("callback", "key"), options=("client",))
FITTING = RailSettings(
    "tide", "tide", secret="s", idempotent_references=False, not_found_lies_seconds=30.0,
    secrets={"key": "k"}, options={"client": "c"},
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "objection"),
    [
        ({}, None),
        ({"not_found_lies_seconds": 60.0}, None),
        ({"not_found_lies_seconds": 29.0}, "not_found_lies_seconds"),
        ({"idempotent_references": True}, "idempotent_references"),
        ({"secret": ""}, "secret callback"),
        ({"secrets": {}}, "secret key"),
        ({"options": {"client": ""}}, "option client"),
    ],
)
def test_settings_are_at_least_as_careful_as_the_declaration(changes: dict[str, object], objection: str | None) -> None:
    found = objections(msgspec.structs.replace(FITTING, **changes), CAREFUL)
    assert (not found) if objection is None else (len(found) == 1 and found[0].startswith(objection))
