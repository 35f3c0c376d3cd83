"""The whole suite in two halves at once: the tests that need servers, which mostly wait, and those that compute.

    .venv/bin/python -m tests            # what `make test` runs
    .venv/bin/python -m tests -x         # options are pytest's, and go to both

The half with servers is shown as it goes, the other one when it has ended. It ends with 1 where either failed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from typing import Final

_WITH_SERVERS: Final = "service"
_WITHOUT: Final = "not service"
_NONE_CHOSEN: Final = 5  # pytest's code where options leave a half without tests


def _command(marker: str, options: list[str]) -> list[str]:
    # Both would write one cache of what failed last.
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", marker, *options]


def _main() -> int:
    options, began = sys.argv[1:], time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as told:
        other = subprocess.Popen(_command(_WITHOUT, options), stdout=told, stderr=subprocess.STDOUT)
        try:
            codes = [subprocess.run(_command(_WITH_SERVERS, options), check=False).returncode, other.wait()]
        finally:
            other.terminate()
            other.wait()
        told.seek(0)
        sys.stdout.write(told.read())
    failed = not set(codes) <= {0, _NONE_CHOSEN}
    sys.stdout.write(f"both halves: {'failed' if failed else 'passed'} in {time.monotonic() - began:.0f} s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(_main())
