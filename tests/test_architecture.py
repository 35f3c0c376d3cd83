"""The repository keeps the rules of its shape, and each of the rules finds a fault that was planted for it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import architecture as rules
from tests.architecture import FILE_RULES, FOLDERS, ROOT, TEXT_RULES, Source, cycles, python_sources, text_sources


def _name(rule: Callable[..., object]) -> str:
    return rule.__name__


def _configuration() -> dict[str, Any]:
    read: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    return read


# The whole tree.


@pytest.mark.parametrize("rule", FILE_RULES, ids=_name)
def test_every_module_keeps_the_rule(rule: rules.Rule) -> None:
    assert "\n".join(fault for source in python_sources() for fault in rule(source)) == ""


@pytest.mark.parametrize("rule", TEXT_RULES, ids=_name)
def test_every_text_keeps_the_rule(rule: rules.Rule) -> None:
    assert "\n".join(fault for source in text_sources() for fault in rule(source)) == ""


def test_no_module_needs_itself() -> None:
    assert list(cycles(python_sources())) == []


def test_every_package_is_shipped_from_its_folder() -> None:
    assert list(rules.packaging(_configuration(), [source.path for source in python_sources() if source.shipped])) == []


def test_installed_packages_and_type_checkers_see_the_same_names() -> None:
    assert list(rules.shared_names(ROOT)) == []


# Planted faults.

_LONG_FUNCTION = "def f() -> None:\n" + "    x = 1\n" * 60
_TABLE = "# fmt: off\n" + "x = 1\n" * 600 + "# fmt: on\n"
# fmt: off
PLANTED = [
    (rules.layers,          "runtime/a.py",     "import zentra.storage.pool",                                   True),
    (rules.layers,          "runtime/a.py",     "from zentra.runtime.money import MINOR_MAX",                   False),
    (rules.layers,          "runtime/a.py",     "from zentra.streams import subjects",                          True),
    (rules.layers,          "actors/a.py",      "def f():\n    from zentra.storage import pool",                True),
    (rules.layers,          "streams/a.py",     "from zentra.actors.tick import Tick",                          True),
    (rules.layers,          "storage/a.py",     "from zentra.streams.connection import connect",                True),
    (rules.layers,          "storage/a.py",     "from zentra.runtime.errors import Refusal",                    False),
    (rules.layers,          "gateway/a.py",     "from zentra.storage.pool import open_pool",                    False),
    (rules.layers,          "gateway/a.py",     "from zentra.bench.measuring.generator import run",             True),
    (rules.layers,          "gateway/cli_a.py", "from zentra.bench.measuring.generator import run",             False),
    (rules.layers,          "client/a.py",      "from zentra.runtime.money import MINOR_MAX",                   True),
    (rules.layers,          "bench/a.py",       "from zentra.gateway.app import App",                           False),
    (rules.layers,          "runtime/a.py",     "if TYPE_CHECKING:\n    from zentra.gateway.app import App",    True),
    (rules.vendors,         "storage/a.py",     "import nats",                                                  True),
    (rules.vendors,         "streams/a.py",     "import nats.errors",                                           False),
    (rules.vendors,         "gateway/a.py",     "from asyncpg import Pool",                                     True),
    (rules.vendors,         "gateway/a.py",     "import redis.asyncio",                                         True),
    (rules.vendors,         "storage/a.py",     "import redis.asyncio as redis",                                False),
    (rules.vendors,         "actors/a.py",      "import asyncio",                                               True),
    (rules.vendors,         "actors/a.py",      "import anyio.abc",                                             False),
    (rules.vendors,         "streams/a.py",     "import prometheus_client",                                     True),
    (rules.vendors,         "storage/a.py",     "import aiohttp",                                               True),
    (rules.vendors,         "actors/a.py",      "from opentelemetry.trace import Tracer",                       True),
    (rules.vendors,         "gateway/a.py",     "from opentelemetry.trace import Tracer",                       False),
    (rules.vendors,         "actors/a.py",      "import uvicorn",                                               True),
    (rules.vendors,         "bench/a.py",       "import typer",                                                 False),
    (rules.vendors,         "client/a.py",      "import cryptography",                                          True),
    (rules.vendors,         "client/a.py",      "import aiohttp",                                               True),
    (rules.vendors,         "client/a.py",      "import nats",                                                  True),
    (rules.vendors,         "client/natsdoor.py", "import nats",                                                False),
    (rules.vendors,         "client/natsdoor.py", "import cryptography",                                        True),
    (rules.vendors,         "client/a.py",      "import httpx2, json",                                          False),
    (rules.purity,          "runtime/a.py",     "import time",                                                  True),
    (rules.purity,          "runtime/a.py",     "from os import path",                                          True),
    (rules.purity,          "runtime/a.py",     "import anyio",                                                 True),
    (rules.purity,          "runtime/a.py",     "import logging",                                               True),
    (rules.purity,          "runtime/a.py",     "import secrets",                                               True),
    (rules.purity,          "runtime/a.py",     "import pathlib",                                               True),
    (rules.purity,          "runtime/a.py",     "import socket",                                                True),
    (rules.purity,          "runtime/a.py",     "import random",                                                True),
    (rules.purity,          "runtime/a.py",     "from urllib.request import urlopen",                           True),
    (rules.purity,          "runtime/a.py",     "from urllib.parse import quote",                               False),
    (rules.purity,          "runtime/a.py",     "datetime.now(UTC)",                                            True),
    (rules.purity,          "runtime/a.py",     "datetime.datetime.utcnow()",                                   True),
    (rules.purity,          "runtime/a.py",     "date.today()",                                                 True),
    (rules.purity,          "runtime/a.py",     "from datetime import datetime, timedelta",                     False),
    (rules.purity,          "runtime/a.py",     "def f(now):\n    return now + timedelta(1)",                   False),
    (rules.purity,          "runtime/a.py",     "Ed25519PrivateKey.generate()",                                 True),
    (rules.purity,          "runtime/a.py",     "open('file')",                                                 True),
    (rules.purity,          "gateway/a.py",     "import time",                                                  False),
    (rules.bare_names,      "gateway/a.py",     "import runtime",                                               True),
    (rules.bare_names,      "gateway/a.py",     "from storage.pool import open_pool",                           True),
    (rules.bare_names,      "tests/a.py",       "from runtime.money import MINOR_MAX",                          True),
    (rules.bare_names,      "runtime/a.py",     "from . import money",                                          True),
    (rules.bare_names,      "runtime/a.py",     "from .money import MINOR_MAX",                                 True),
    (rules.bare_names,      "gateway/a.py",     "from zentra.runtime import money",                             False),
    (rules.tests_imported,  "bench/a.py",       "from tests.auditor import Auditor",                            True),
    (rules.tests_imported,  "gateway/a.py",     "import pytest",                                                True),
    (rules.tests_imported,  "tests/a.py",       "from tests.auditor import Auditor",                            False),
    (rules.docstring_first, "runtime/a.py",     "import re",                                                    True),
    (rules.docstring_first, "runtime/a.py",     "import re\n'''Late.'''",                                       True),
    (rules.docstring_first, "runtime/a.py",     "'''What it is.'''",                                            False),
    (rules.exports,         "runtime/a.py",     "A = 1",                                                        True),
    (rules.exports,         "runtime/a.py",     "__all__ = ['A', 'B']\nA = 1",                                  True),
    (rules.exports,         "runtime/a.py",     "__all__ = ['b', 'a']\na = b = 1",                              True),
    (rules.exports,         "runtime/a.py",     "def a(): ...\n__all__ = ['a']",                                True),
    (rules.exports,         "runtime/a.py",     "__all__ = ['A', 'A']\nA = 1",                                  True),
    (rules.exports,         "runtime/a.py",     "__all__ = ['Z_MAX', 'Big', 'a', 'a2', 'a10']\n"
                                                "Z_MAX: int = 1\nclass Big: ...\ndef a(): ...\na2, a10 = 1, 2", False),
    (rules.exports,         "bench/__init__.py", "",                                                            False),
    (rules.exports,         "tests/a.py",       "A = 1",                                                        False),
    (rules.file_length,     "runtime/a.py",     "x = 1\n" * 501,                                                True),
    (rules.file_length,     "runtime/a.py",     "x = 1\n" * 500,                                                False),
    (rules.file_length,     "runtime/a.py",     _TABLE + "x = 1\n" * 500,                                       False),
    (rules.file_length,     "runtime/a.py",     _TABLE + "x = 1\n" * 501,                                       True),
    (rules.function_length, "runtime/a.py",     _LONG_FUNCTION,                                                 True),
    (rules.function_length, "runtime/a.py",     "async " + _LONG_FUNCTION,                                      True),
    (rules.function_length, "runtime/a.py",     _LONG_FUNCTION.removesuffix("    x = 1\n"),                     False),
    (rules.printing,        "storage/a.py",     "print(1)",                                                     True),
    (rules.printing,        "gateway/app.py",   "print(1)",                                                     True),
    (rules.printing,        "gateway/cli.py",   "print(1)",                                                     False),
    (rules.printing,        "gateway/a.py",     "console.print(1)",                                             False),
    (rules.swallowed,       "storage/a.py",     "try:\n    f()\nexcept Exception:\n    pass",                   True),
    (rules.swallowed,       "storage/a.py",     "try:\n    f()\nexcept:\n    ...",                              True),
    (rules.swallowed,       "tests/a.py",       "while 1:\n try:\n  f()\n except (A, Exception):\n  continue",   True),
    (rules.swallowed,       "storage/a.py",     "with contextlib.suppress(Exception):\n    f()",                True),
    (rules.swallowed,       "storage/a.py",     "try:\n    f()\nexcept Exception:\n    log()",                  False),
    (rules.swallowed,       "storage/a.py",     "try:\n    f()\nexcept KeyError:\n    pass",                    False),
    (rules.sleeping,        "tests/a.py",       "time.sleep(1)",                                                True),
    (rules.sleeping,        "tests/a.py",       "async def f():\n    await asyncio.sleep(0.1)",                 True),
    (rules.sleeping,        "tests/a.py",       "async def f():\n    await asyncio.sleep(0)",                   False),
    (rules.sleeping,        "tests/a.py",       "async def f():\n while g():\n  await anyio.sleep(1)",           False),
    (rules.sleeping,        "tests/a.py",       "MockClock(autojump_threshold=0)\nanyio.sleep(9)",              False),
    (rules.sleeping,        "tests/a.py",       "MockClock(autojump_threshold=0)\ntime.sleep(9)",               True),
    (rules.open_ends,       "docs/a.md",        "TO" "DO: more",                                                True),
    (rules.open_ends,       "docs/a.md",        "FIX" "ME later",                                               True),
    (rules.open_ends,       "docs/a.md",        "what is left to do",                                           False),
    (rules.one_machine,     "docs/a.md",        "see /wo" "rk/main",                                            True),
    (rules.one_machine,     "deploy/a.yaml",    "path: /ho" "me/somebody",                                      True),
    (rules.one_machine,     "deploy/a.yaml",    "path: /t" "mp/x",                                              True),
    (rules.one_machine,     "deploy/a.yaml",    "path: /var/lib/zentra",                                        False),
    (rules.one_machine,     "docs/a.md",        "https://example.com/work/flow",                                False),
    (rules.one_machine,     "runtime/a.py",     "__auth" "or__ = 'me'",                                         True),
]
CYCLES = [
    ({"runtime/a.py": "from zentra.runtime.b import x", "runtime/b.py": "from zentra.runtime import a"},        True),
    ({"runtime/a.py": "def f():\n    import zentra.runtime.a"},                                                 True),
    ({"runtime/a.py": "from zentra.runtime.b import x", "runtime/b.py":
        "if TYPE_CHECKING:\n    from zentra.runtime.a import y"},                                               False),
    ({"runtime/a.py": "from zentra.runtime.b import x", "runtime/b.py":
        "if typing.TYPE_CHECKING:\n    pass\nelse:\n    from zentra.runtime.a import y"},                       True),
    ({"runtime/a.py": "from zentra.runtime import b", "runtime/b.py": "import re"},                             False),
    ({"bench/t/__init__.py": "from zentra.bench.t.a import x", "bench/t/a.py": "from zentra.bench.t import y"}, True),
]
# fmt: on


@pytest.mark.parametrize(("rule", "path", "text", "found"), PLANTED)
def test_a_rule_finds_what_it_forbids_and_nothing_else(rule: rules.Rule, path: str, text: str, found: bool) -> None:
    assert bool(list(rule(Source(path, text)))) is found


@pytest.mark.parametrize("rule", [*FILE_RULES, *TEXT_RULES], ids=_name)
def test_every_rule_has_a_planted_fault_and_an_innocent(rule: rules.Rule) -> None:
    assert {found for planted, _, _, found in PLANTED if planted is rule} == {True, False}


@pytest.mark.parametrize(("texts", "found"), CYCLES)
def test_a_cycle_is_found_whatever_the_way(texts: dict[str, str], found: bool) -> None:
    sources: Sequence[Source] = [Source(path, text) for path, text in texts.items()]
    assert bool(list(cycles(sources))) is found


@pytest.mark.parametrize(
    ("packages", "places", "modules", "faults"),
    [
        (["zentra.a"], {"zentra.a": "a"}, ["a/x.py"], 0),
        (["zentra.a"], {"zentra.a": "a"}, [], 0),
        ([], {}, ["a/x.py"], 1),
        (["zentra.a"], {"zentra.a": "a"}, ["a/x.py", "a/b/__init__.py", "a/b/y.py"], 1),
        (["zentra.a", "zentra.a.b"], {"zentra.a": "a", "zentra.a.b": "a/b"}, ["a/b/y.py"], 1),
        (["zentra.a"], {"zentra.a": "b"}, ["a/x.py"], 1),
        (["zentra.a"], {}, ["a/x.py"], 1),
    ],
)
def test_a_package_that_would_be_missing_from_the_wheel_is_found(
    packages: list[str], places: dict[str, str], modules: list[str], faults: int
) -> None:
    found = list(rules.packaging({"packages": packages, "package-dir": places}, modules))
    assert len(found) == faults


@pytest.mark.parametrize(
    ("spoil", "faults"),
    [
        (lambda root: None, 0),
        (lambda root: (root / "runtime/py.typed").unlink(), 1),
        (lambda root: (root / ".ns/zentra/storage").unlink(), 1),
        (lambda root: (root / ".ns/zentra/runtime").rename(root / ".ns/zentra/core"), 2),
        (lambda root: (root / "__init__.py").touch(), 1),
    ],
)
def test_a_lost_link_or_marker_is_found(tmp_path: Path, spoil: Callable[[Path], object], faults: int) -> None:
    (tmp_path / ".ns/zentra").mkdir(parents=True)
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "py.typed").touch()
        (tmp_path / ".ns/zentra" / folder).symlink_to(Path("../..") / folder)
    spoil(tmp_path)
    assert len(list(rules.shared_names(tmp_path))) == faults
