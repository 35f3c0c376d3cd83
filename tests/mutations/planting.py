"""Planting: a copy of the tree for each fault, the fault in it, and the checks run on the copy.

- A copy is whole and its own: what is imported as `zentra.*` there comes from there, and that is asked, not assumed.
- A check that cannot be run is an error of whoever runs it, never a fault that was caught.
- Nothing outside of a copy is written, and a copy is gone when its checks have ended."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from tests.architecture import FOLDERS, ROOT
from tests.mutations.mutation import Edit, Mutation
from tests.mutations.seeds import Found

__all__ = ["INTENTS", "SEEDS", "Broken", "Verdict", "baseline", "copied", "plant", "prove", "run_tests", "simulated"]

SEEDS: Final = 250
INTENTS: Final = 60
TESTS_SECONDS_MAX: Final = 400.0
SEEDS_SECONDS_MAX: Final = 600.0
ENDING_SECONDS_MAX: Final = 30.0
TEST_SECONDS_MAX: Final = 30  # a fault may well let a test hang; then that is how it was caught
_COPIED: Final = (*FOLDERS, "tests", "docs", ".ns", "pyproject.toml", "README.md")
_LEFT: Final = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info")
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - (.*))?$", re.MULTILINE)
_HUNG: Final = "did not end"
# Asks a copy from where it imports, folder by folder.
_WHENCE: Final = (
    "import importlib, os\n"
    f"for name in {sorted(FOLDERS)!r}:\n"
    "    print(os.path.realpath(list(importlib.import_module('zentra.' + name).__path__)[0]))\n"
)


class Broken(Exception):
    """The checks could not be run: an edit does not fit, a copy does not import, a test is not there."""


class Verdict(Struct, frozen=True, kw_only=True):
    """What became of one planted fault. `failures` are (test, message), the first one first."""

    name: str
    letter: str
    breaks: str
    failures: tuple[tuple[str, str], ...]
    idle: tuple[str, ...]  # tests that should have failed and have not
    found: Found | None  # None where the simulator was not asked, because it cannot see the fault
    unseen: str
    seconds: float

    @property
    def caught(self) -> bool:
        """Return whether anything has noticed."""
        return bool(self.failures) or bool(self.found and self.found.letter)

    @property
    def proven(self) -> bool:
        """Return whether everything noticed that had to."""
        return self.caught and not self.idle and (self.found is None or bool(self.found.letter))


@contextmanager
def copied(root: Path = ROOT) -> Iterator[Path]:
    """A copy of the tree, without what is made from it; it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="zentra-mutation-") as directory:
        copy = Path(directory).resolve() / "tree"
        copy.mkdir()
        for name in _COPIED:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, copy / name, symlinks=True, ignore=_LEFT)
            elif source.exists():
                shutil.copy2(source, copy / name)
        _ask_whence(copy)
        yield copy


def plant(edits: Sequence[Edit], copy: Path) -> None:
    """Write a fault into a copy. Raises Broken where an old text does not stand there exactly once."""
    for edit in edits:
        path = copy / edit.file
        text = path.read_text(encoding="utf-8")
        if text.count(edit.old) != 1:
            raise Broken(f"{edit.file} holds {text.count(edit.old)} times: {edit.old!r}")
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")


def prove(mutation: Mutation, *, seeds: int = SEEDS, intents: int = INTENTS) -> Verdict:
    """Plant a fault in a copy of its own, run its checks, and return what they noticed; raises Broken."""
    began = time.monotonic()
    with copied() as copy:
        plant(mutation.edits, copy)
        failures = run_tests(copy, mutation.tests)
        found = None if mutation.unseen else simulated(copy, seeds=seeds, intents=intents)
    names = [name for name, _ in failures]
    idle = tuple(test for test in mutation.tests if not any(_is_of(name, test) for name in names))
    return Verdict(
        name=mutation.name, letter=mutation.letter, breaks=mutation.breaks, failures=failures, idle=idle, found=found,
        unseen=mutation.unseen, seconds=time.monotonic() - began,
    )  # fmt: skip


def baseline(mutations: Sequence[Mutation], *, seeds: int = SEEDS, intents: int = INTENTS) -> float:
    """Run every check of these faults on a copy without one; return the seconds. Raises Broken where any fails."""
    began = time.monotonic()
    with copied() as copy:
        failures = run_tests(copy, sorted({test for mutation in mutations for test in mutation.tests}))
        if failures:
            raise Broken(f"without a fault {failures[0][0]} fails: {failures[0][1]}")
        if any(not mutation.unseen for mutation in mutations):
            found = simulated(copy, seeds=seeds, intents=intents)
            if found.letter:
                raise Broken(f"without a fault the simulator objects: {found.letter} {found.detail}: {found.replay}")
    return time.monotonic() - began


def run_tests(copy: Path, tests: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the tests that fail in a copy, with their messages; raises Broken where they cannot be run."""
    if not tests:
        return ()
    arguments = ["-m", "pytest", "-q", "--no-header", "--tb=short", "-rfE", "-p", "no:cacheprovider"]
    arguments += [f"--timeout={TEST_SECONDS_MAX}", *tests]
    status, output = _run(copy, arguments, TESTS_SECONDS_MAX)
    if status is None:
        return ((tests[0], f"{_HUNG} in {TESTS_SECONDS_MAX:.0f} s"),)
    failures = tuple((match[1], match[2] or "") for match in _FAILED.finditer(output))
    if status not in (0, 1) or (status == 1) != bool(failures):
        raise Broken(f"pytest ended with {status}:\n{output[-2_000:]}")
    return failures


def simulated(copy: Path, *, seeds: int = SEEDS, intents: int = INTENTS, seed: int = 1) -> Found:
    """Return what the simulator of a copy finds by itself; raises Broken where it cannot be run."""
    arguments = ["-m", "tests.mutations.seeds", f"--seed={seed}", f"--seeds={seeds}", f"--intents={intents}"]
    status, output = _run(copy, arguments, SEEDS_SECONDS_MAX)
    if status is None:
        return Found(seeds=0, letter="T", detail=f"{_HUNG} in {SEEDS_SECONDS_MAX:.0f} s", replay="-")
    if status != 0:
        raise Broken(f"the simulator ended with {status}:\n{output[-2_000:]}")
    return msgspec.json.decode(output, type=Found)


def _is_of(failed: str, test: str) -> bool:
    return failed == test or failed.startswith((f"{test}[", f"{test}::"))


def _ask_whence(copy: Path) -> None:
    """Raise Broken unless every folder of a copy is imported from there."""
    status, output = _run(copy, ["-c", _WHENCE], 60)
    expected = [str(copy / name) for name in sorted(FOLDERS)]
    if status != 0 or output.split() != expected:
        raise Broken(f"a copy in {copy} imports from elsewhere:\n{output[-2_000:]}")


def _run(copy: Path, arguments: Sequence[str], seconds_max: float) -> tuple[int | None, str]:
    """Run Python in a copy; return how it ended (None: it had to be ended) and what it said."""
    environment = {**os.environ, "PYTHONPATH": str(copy / ".ns"), "PYTHONDONTWRITEBYTECODE": "", "COLUMNS": "400"}
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=copy, env=environment, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=seconds_max)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # so that a session takes down the servers it has started
        try:
            output, _ = process.communicate(timeout=ENDING_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
        return None, output
    return process.returncode, output
