"""The API asked at random, as its description says and as it does not: schemathesis against a running gateway.

It starts an installation of its own and looks for answers that the description does not allow: a 5xx, a status, header,
content type or body that is not described, what should have been refused and was taken, and the other way round.

    .venv/bin/python -m tests.fuzzing.described --examples 100 --seconds 600"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from zentra.gateway.installation.installation import Installation

__all__ = ["Described", "ask_at_random"]

_HERE: Final = Path(__file__).parent
ALL_PHASES: Final = "examples,coverage,fuzzing"


class Described(Struct, frozen=True):
    """What was asked and what was found; `output` is what schemathesis told."""

    operations: int
    cases: int
    failures: tuple[str, ...]
    errors: tuple[str, ...]
    server_errors_logged: int
    output: str


def ask_at_random(*, examples: int, seconds: int, phases: str = ALL_PHASES, seed: int = 1) -> Described:
    """Return what up to so many examples of every operation, and so many seconds, have found.

    One thread asks: several that parse Python at once fail in CPython 3.11 (python/cpython#106905).
    Raises subprocess.TimeoutExpired where schemathesis does not end, and what an installation raises."""
    with Installation() as running, tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(_HERE / "schemathesis.toml"), "run",
            f"{running.base_url}/openapi.json", "--phases", phases, "--max-examples", str(examples),
            "--seed", str(seed), "--max-time", str(seconds), "--warnings", "off",
            "--request-timeout", "40", "--report", "json", "--report-json-path", f"{scratch}/report.json",
            "--header", f"Authorization: Bearer {running.keys['acme']['ops']}",
        ]  # fmt: skip
        environment = os.environ | {"SCHEMATHESIS_HOOKS": str(_HERE / "hooks.py")}
        done = subprocess.run(
            command, cwd=scratch, env=environment, capture_output=True, text=True, timeout=seconds + 120, check=False
        )
        try:
            report: Any = json.loads(Path(scratch, "report.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RuntimeError(f"schemathesis told nothing: {done.stdout[-2000:]}{done.stderr[-2000:]}") from None
        log = running.processes.log_path("gateway-1").read_text(encoding="utf-8")
    return Described(
        operations=report["operations"]["tested"],
        cases=report["test_cases"]["generated"],
        failures=tuple(
            f"{one['title']} x {one['count']}: {', '.join(one['operations'])}" for one in report["failures"]
        ),
        errors=tuple(f"{one['title']} x {one['count']}" for one in report["errors"]),
        server_errors_logged=log.count("request failed"),
        output=done.stdout,
    )


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=50, help="of every operation and kind, at most")
    parser.add_argument("--seconds", type=int, default=300, help="in all, at most")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    found = ask_at_random(examples=given.examples, seconds=given.seconds, seed=given.seed)
    if found.failures or found.errors:
        sys.stdout.write(found.output)
    lines = [f"{found.operations} operations, {found.cases} cases, {found.server_errors_logged} errors in the log"]
    lines += [f"  {fault}" for fault in (*found.failures, *found.errors)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if found.failures or found.errors or found.server_errors_logged else 0


if __name__ == "__main__":
    sys.exit(_main())
