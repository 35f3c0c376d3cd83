"""Anchoring: signed checkpoints handed to files and webhooks that the installation cannot change afterwards.

- Done by the owner of partition 0, which may change at any moment: a checkpoint may be handed over twice, never lost.
  A file takes none twice; a receiver tells a repeat by tenant and size, which also stand in the idempotency key.
- A file is only appended to, and synced before a checkpoint counts as kept. Half a line, where the disk was full, is
  taken back if the file lets that be, and counts as nothing.
- Whatever fails is counted, kept with its reason, and tried again. A checkpoint that is not taken holds up those of its
  tenant, and no other's; a sink that cannot be reached is left alone for a while.
- A file that keeps a checkpoint which contradicts another one takes no more of that tenant: there are two histories.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

import aiohttp
import anyio
import anyio.to_thread
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from zentra.gateway.outward.http import AddressRefused, OutwardHttp
from zentra.runtime.errors import Unavailable
from zentra.runtime.evidence.anchors import AnchorLine, anchor_line, anchor_lines
from zentra.runtime.evidence.heads import signed_note
from zentra.runtime.evidence.notes import NoteFlaw
from zentra.runtime.instruments import Instruments
from zentra.storage.errors import Misconfigured
from zentra.storage.intake.anchors import (
    AnchorDue,
    due_anchors,
    plan_anchors,
    read_backlog,
    record_failure,
    record_kept,
)
from zentra.storage.pool import Pool
from zentra.storage.reads.proofs import evidence_keys

__all__ = ["AnchorFile", "AnchorService", "SinkAway", "SinkContradicts", "SinkFailed"]

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
LINES_KNOWN_MAX: Final = 10_000  # of a file; some two hundred at the most are handed over at once


class SinkFailed(Exception):
    """Raised where a sink did not take a checkpoint; the sentence says why."""

    outcome = "failed"


class SinkAway(SinkFailed):
    """Raised where a sink would take nothing else either."""


class SinkContradicts(SinkFailed):
    """Raised where a sink keeps a checkpoint that cannot be of the same history."""

    outcome = "contradicted"


class AnchorService:
    """What one worker does for anchors. `is_first` says whether it owns partition 0 now."""

    def __init__(self, pool: Pool, http: OutwardHttp, is_first: Callable[[], bool], instruments: Instruments) -> None:
        self._pool, self._http, self._is_first, self._instruments = pool, http, is_first, instruments
        self._files: dict[str, AnchorFile] = {}
        self._public: Mapping[str, bytes] = {}

    async def run(self) -> None:
        """Look after anchors until cancelled; a store that is away is looked at again the next time."""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            if not self._is_first():
                continue
            try:
                await self.look()
            except (Unavailable, Misconfigured) as error:
                logger.warning("anchors wait for the store", extra={"error": str(error)})

    async def look(self) -> int:
        """Hand over what is due; return how many checkpoints are kept now. Sinks do not wait for each other."""
        await plan_anchors(self._pool)
        by_sink: defaultdict[str, list[AnchorDue]] = defaultdict(list)
        for one in await due_anchors(self._pool):
            by_sink[one.sink].append(one)
        kept: list[int] = []
        async with anyio.create_task_group() as group:
            for anchors in by_sink.values():
                group.start_soon(self._hand_over, anchors, kept)
        backlog = await read_backlog(self._pool)
        self._instruments.gauge("anchors_pending", backlog.pending)
        self._instruments.gauge("anchors_oldest_seconds", backlog.oldest_seconds)
        return sum(kept)

    async def _hand_over(self, anchors: Sequence[AnchorDue], kept: list[int]) -> None:
        """Give a sink its checkpoints. After one that fails those of its tenant are kept for later, in their order."""
        held: set[str] = set()
        for place, one in enumerate(anchors):
            if one.head.tenant in held:
                continue
            try:
                line = await self._line(one)
                if one.kind == "file":
                    file = self._files.setdefault(one.target, AnchorFile(Path(one.target)))
                    await anyio.to_thread.run_sync(file.keep, line)
                else:
                    await self._post(one, line)
            except (Unavailable, Misconfigured):
                raise  # of our own store
            except Exception as error:
                failed = error if isinstance(error, SinkFailed) else _fault(error)
                self._instruments.count("anchor_attempts", {"kind": one.kind, "outcome": failed.outcome})
                logger.warning(
                    "a sink did not take a checkpoint",
                    extra={"sink": one.sink, "error": str(failed), "tries": one.attempts},
                )
                away = isinstance(failed, SinkAway)
                later = [other for other in anchors[place:] if away or other.head.tenant == one.head.tenant]
                untold = [other for other in later if other.head.tenant not in held]
                await record_failure(self._pool, untold, str(failed))
                if away:
                    return
                held.add(one.head.tenant)
                continue
            await record_kept(self._pool, [one])
            self._instruments.count("anchor_attempts", {"kind": one.kind, "outcome": "kept"})
            kept.append(1)

    async def _line(self, one: AnchorDue) -> bytes:
        kid = one.head.key_id
        if kid not in self._public:
            self._public = await evidence_keys(self._pool)
        if kid not in self._public:
            raise SinkFailed(f"nobody has told the public half of key {kid}")
        return anchor_line(one.head, signed_note(Ed25519PublicKey.from_public_bytes(self._public[kid]), one.head))

    async def _post(self, one: AnchorDue, line: bytes) -> None:
        headers = {
            "content-type": "application/json", "idempotency-key": f"anchor-{one.head.tenant}-{one.head.size}",
        }  # fmt: skip
        try:
            answer = await self._http.request("POST", one.target, body=line, headers=headers)
        except AddressRefused as refused:
            raise SinkAway(str(refused)) from refused
        except TimeoutError as error:
            raise SinkAway("the receiver did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise SinkAway(f"the receiver cannot be reached: {error}") from error
        if not 200 <= answer.status < 300:
            raise SinkFailed(f"the receiver answered {answer.status}")


def _fault(error: Exception) -> SinkFailed:
    """Tell of what nobody has foreseen; return it as the failure of the sink at which it was met."""
    logger.error("handing over a checkpoint has met a fault of this program", exc_info=error)
    return SinkFailed(f"a fault of Zentra, {type(error).__name__}: its log has more")


class AnchorFile:
    """An append-only file of anchors. Everything here waits for the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = 0  # bytes that were read
        # Digests of its lines, the latest ones: what is handed over twice is what was kept last. A line is known by all
        # of its bytes, so nothing that somebody else has written stands for one of ours.
        self._known: dict[bytes, None] = {}
        self._roots: dict[tuple[str, int], str] = {}  # by tenant and size, of the same lines
        self._largest: dict[str, AnchorLine] = {}  # by tenant

    def keep(self, line: bytes) -> None:
        """Append a line and sync it, unless the file has it; raise SinkFailed where it is not taken whole, and
        SinkContradicts where the file keeps another history of the tenant."""
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o644)
            try:
                torn = self._read_on(descriptor)
                if sha256(line).digest() not in self._known:
                    self._check(msgspec.json.decode(line, type=AnchorLine))
                    self._append(descriptor, (b"\n" if torn else b"") + line + b"\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SinkAway(f"{self._path}: {error.strerror or error}") from error

    def _check(self, line: AnchorLine) -> None:
        """A tree has one root at a size, and never gets smaller; a smaller one that is only late was signed before."""
        root, largest = self._roots.get((line.tenant, line.size)), self._largest.get(line.tenant)
        other = root is not None and root != _root(line)
        shrunk = largest is not None and largest.size > line.size and largest.at < line.at
        if other or shrunk:
            kept = f"another root of size {line.size}" if other else "a larger tree of an earlier time"
            raise SinkContradicts(
                f"{self._path}: keeps {kept} for {line.tenant}; was this installation restored from a backup?"
            )

    def _append(self, descriptor: int, data: bytes) -> None:
        written = os.write(descriptor, data)
        if written == len(data):
            return
        end = os.lseek(descriptor, 0, os.SEEK_CUR)
        if os.fstat(descriptor).st_size == end:  # else another worker has written behind it
            with suppress(OSError):  # of a file that can only be appended to; whoever reads it skips what is torn
                os.ftruncate(descriptor, end - written)
        raise SinkFailed(f"{self._path}: took {written} of {len(data)} bytes; is the disk full?")

    def _read_on(self, descriptor: int) -> bool:
        """Learn what the file has beyond what was read; return whether its last line was cut off."""
        length = os.fstat(descriptor).st_size
        if length < self._seen:
            self._seen, self._known, self._roots, self._largest = 0, {}, {}, {}
        with os.fdopen(os.dup(descriptor), "rb") as file:
            file.seek(self._seen)
            for row in file:
                if not row.endswith(b"\n"):
                    return True
                self._seen += len(row)
                self._learn(row[:-1])
        return False

    def _learn(self, row: bytes) -> None:
        self._known[sha256(row).digest()] = None
        if len(self._known) > LINES_KNOWN_MAX:
            del self._known[next(iter(self._known))]
        try:
            lines = list(anchor_lines(row))
        except NoteFlaw:  # somebody else's line, or a damaged one: whoever verifies the file is told
            return
        for line in lines:
            self._roots[line.tenant, line.size] = _root(line)
            if len(self._roots) > LINES_KNOWN_MAX:
                del self._roots[next(iter(self._roots))]
            largest = self._largest.get(line.tenant)
            if largest is None or largest.size < line.size:
                self._largest[line.tenant] = line


def _root(line: AnchorLine) -> str:
    """Return the root that a note says: its third line. What is signed is not judged here."""
    return "".join(line.checkpoint.split("\n")[2:3])
