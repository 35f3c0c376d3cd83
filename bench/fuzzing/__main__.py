"""`python -m zentra.bench.fuzzing`: malformed requests at a gateway of its own, and the verdict as JSON."""

from __future__ import annotations

import argparse
import sys

import msgspec

from zentra.bench.fuzzing.throwing import throw_at_installation


def main() -> int:
    """Throw, say what became of it, and return 0 where nothing is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--connections", type=int, default=16)
    given = parser.parse_args()
    verdict = throw_at_installation(count=given.requests, seed=given.seed, connections=given.connections)
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(verdict), indent=2).decode() + "\n")
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
