"""The evidence of a chaos run, kept as its owner would: two signing keys, anchors in a file, and exports that are
verified offline, by the product's verifier and by the one that lies in the export.

- Every worker holds both keys from its start; which of them signs is said by the rotation, in the middle of the run.
- Whoever verifies trusts the first key alone, or both by hand: nothing that the installation says adds one."""

import asyncio
import subprocess
import sys
import tarfile
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from zentra.gateway.installation.seed import TENANTS
from zentra.runtime.evidence.heads import key_id
from zentra.runtime.evidence.history import ring_with
from zentra.runtime.evidence.key_files import public_pem
from zentra.runtime.evidence.keyring import KeyRing, ring_of
from zentra.storage.intake.anchors import Sink, add_sink
from zentra.storage.intake.evidence_keys import LEAD_SECONDS_MIN, key_history, rotate_key
from zentra.storage.pool import Pool

__all__ = ["EvidenceKept"]

COMMAND_SECONDS_MAX: Final = 120.0
ANCHORED_EVERY_SECONDS: Final = 5


class EvidenceKept:
    """Keys, anchors and exports of a run; everything is kept in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.first, self.second = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        self._public = [directory / "first.pub.pem", directory / "second.pub.pem"]
        for key, path in zip((self.first, self.second), self._public, strict=True):
            path.write_text(public_pem(key.public_key()))
        self.anchors = directory / "anchors.jsonl"
        self.exports: list[Path] = []

    @property
    def setting(self) -> str:
        """Return what every worker is given: both private keys, the one that signs first."""
        pems = (
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for key in (self.first, self.second)
        )
        return b"".join(pems).decode()

    async def anchor(self, pool: Pool) -> None:
        """Have checkpoints of every tenant appended to a file. Raises what the store raises."""
        sink = Sink(name="chaos", kind="file", target=str(self.anchors), seconds=ANCHORED_EVERY_SECONDS)
        await add_sink(pool, sink)

    async def rotate(self, pool: Pool) -> None:
        """Let the second key follow. Raises Misconfigured while a worker has not said that it holds it, Unavailable."""
        lead = timedelta(seconds=LEAD_SECONDS_MIN)
        await rotate_key(pool, [self.first], self.second, by="chaos", reason="chaos", lead=lead)

    async def ring(self, pool: Pool) -> KeyRing:
        """Return every key with its time, as whoever trusts the first one learns them; raises HistoryFlaw."""
        return ring_with(ring_of([self.first.public_key()]), await key_history(pool))

    async def export(self, environment: Path, tenant: str, name: str) -> tuple[int, str]:
        """Export the evidence of a tenant with `zentra`; return the exit code and what it said."""
        out = self._directory / f"{name}-{tenant}.tar"
        # What is anchored later is beyond the export, and would say so.
        kept = self.anchors.read_bytes() if self.anchors.exists() else b""
        out.with_suffix(".anchors").write_bytes(kept)
        words = f"-m zentra.gateway evidence export --tenant {tenant} --out {out} --by chaos"
        code, said = await _run("sh", "-c", f". {environment}; exec {sys.executable} {words}")
        if code == 0:
            self.exports.append(out)
        return code, said

    async def flaws(self, environment: Path) -> list[str]:
        """Export everything once more and verify every export of the run; return what is wrong."""
        wrong = []
        for tenant in TENANTS:
            code, said = await self.export(environment, tenant, "end")
            if code:
                wrong.append(f"the export of {tenant} ended with {code}: {said}")
        if not self.anchors.exists():
            wrong.append("no checkpoint was anchored")
        for bundle in self.exports:
            for name, command in self._verifiers(bundle):
                code, said = await _run(sys.executable, *command)
                if code:
                    wrong.append(f"{name} says {code} of {bundle.name}: {said}")
        return wrong

    async def rotated(self, pool: Pool) -> list[str]:
        """Return what is wrong with the rotation: the second key has to be the last one of the history."""
        last = (await key_history(pool)).entries[-1].key_id
        return [] if last == key_id(self.second.public_key()) else ["the evidence key was never rotated"]

    def _verifiers(self, bundle: Path) -> list[tuple[str, list[str]]]:
        shipped = bundle.with_suffix(".py")
        with tarfile.open(bundle) as tar:
            member = next(name for name in tar.getnames() if name.rpartition("/")[2] == "verify.py")
            source = tar.extractfile(member)
            assert source is not None, "the verifier is a file"
            shipped.write_bytes(source.read())
        kept = bundle.with_suffix(".anchors")
        anchored = ["--anchor", str(kept)] if kept.stat().st_size else []  # the first export may come before them
        keys = [str(path) for path in self._public]
        ours = ["-m", "zentra.gateway", "evidence", "verify", str(bundle), *anchored]
        return [
            ("zentra evidence verify", [*ours, *(word for key in keys for word in ("--key", key))]),
            ("verify.py", ["-I", str(shipped), str(bundle), *keys]),
        ]


async def _run(*command: str) -> tuple[int, str]:
    """Return the exit code of a command, and the end of what it said."""

    def run() -> tuple[int, str]:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False
        )
        return done.returncode, f"{done.stdout}{done.stderr}".strip()[-500:]

    return await asyncio.to_thread(run)
