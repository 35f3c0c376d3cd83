"""Both verifiers against whoever holds the key and signs what is not so, and against what honest people hand them."""

from __future__ import annotations

import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from tests.runtime.test_bundle import files_of, made
from tests.runtime.test_evidence import KEY
from zentra.gateway.cli import standalone
from zentra.gateway.cli.main import app
from zentra.runtime.evidence import bundle, canonical, merkle
from zentra.runtime.evidence.bundle import BundleBuilder, LeafLine, LogProofs
from zentra.runtime.evidence.chain import GENESIS, chain
from zentra.runtime.evidence.envelopes import MANIFEST_TYPE, envelope_of, sign_payload
from zentra.runtime.evidence.heads import sign_head, signed_note
from zentra.runtime.evidence.packet import leaf_data

Files = dict[str, bytes]
PUBLIC = KEY.public_key()
PEM = PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
OTHER = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
BEFORE = 8


def at(micro: int) -> str:
    return f"2026-11-21T00:00:00.{micro:06d}Z"


def note(size: int, root: bytes, micro: int, tenant: str = "acme") -> str:
    return signed_note(PUBLIC, sign_head(KEY, tenant=tenant, size=size, root=root, at=at(micro)))


def record(intent: str, sequence: int, micro: int, before: str | None) -> bytes:
    fields: dict[str, Any] = {
        "actor": "a", "at": at(micro), "cause": "", "event": "x", "facts": {}, "from": before, "intent": intent,
        "intent_id": intent, "scope": "", "sequence": sequence, "step": "", "tenant": "acme", "to": "S", "trace": "",
    }  # fmt: skip
    return canonical.encode(fields)


def addenda(count: int) -> bytes:
    """A signed bundle behind eight leaves, of addenda whose packets lie before the range and are not proven."""
    opening, _ = merkle.Frontier().append([merkle.leaf_hash(b"%d" % one) for one in range(BEFORE)])
    out, hashes = io.BytesIO(), []
    builder = BundleBuilder(out.write)
    for number in range(count):
        intent, before = f"{number:032x}", sha256(b"%d" % number).digest()
        row = record(intent, 6, 100 + number, "S")
        data = leaf_data(tenant="acme", intent=intent, kind="addendum", chain=chain(before, row), records=6)
        line = LeafLine(before.hex(), data.decode(), [chain(before, row).hex()], BEFORE + number)
        builder.leaf(line, [row])
        hashes.append(merkle.leaf_hash(data))
    closing, _ = opening.append(hashes)
    builder.file(bundle.CHECKPOINTS[0], note(BEFORE, opening.root(), 1).encode())
    builder.file(bundle.CHECKPOINTS[1], note(closing.size, closing.root(), 9_000).encode())
    builder.file(bundle.PROOFS, canonical.encode(LogProofs([node.hex() for node in opening.hashes])))
    builder.end_of_lines()
    manifest = builder.manifest(
        tenant="acme", first=BEFORE, size=closing.size, since=at(2), until=None, settled_until=at(9_000), types=None
    )
    builder.close(manifest, envelope_of(MANIFEST_TYPE, b"", [sign_payload(KEY, MANIFEST_TYPE, manifest)]))
    return out.getvalue()


def packed(files: Files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def resigned(files: Files, **changes: Any) -> Files:
    """The files under a manifest that names them, with changes, signed by the operator."""
    manifest = json.loads(files[bundle.MANIFEST])
    manifest["files"] = [
        {"bytes": len(content), "name": name, "sha256": sha256(content).hexdigest()}
        for name, content in sorted(files.items())
        if not name.startswith("manifest")
    ]
    manifest = manifest | changes
    body = canonical.encode(manifest)
    envelope = envelope_of(MANIFEST_TYPE, b"", [sign_payload(KEY, MANIFEST_TYPE, body)])
    return files | {bundle.MANIFEST: body, bundle.MANIFEST_SIGNATURE: envelope}


class Asked:
    """Both verifiers, with files of one's own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder, self._capsys = folder, capsys
        self.key = self.file("pub.pem", PEM)

    def file(self, name: str, content: bytes | str) -> str:
        path = self._folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def zentra(self, data: bytes, *anchors: bytes | str, more: tuple[str, ...] = (), key: str = "") -> tuple[int, str]:
        words = self._words(anchors)
        path = self.file("evidence", data)
        found = CliRunner().invoke(app, ["evidence", "verify", path, "--key", key or self.key, *words, *more])
        return found.exit_code, found.output

    def standalone(self, data: bytes, *anchors: bytes | str, key: str = "") -> tuple[int, str]:
        self._capsys.readouterr()
        code = standalone.main([self.file("evidence", data), key or self.key, *self._words(anchors)])
        said = self._capsys.readouterr()
        return code, said.out + said.err

    def both(self, data: bytes, *anchors: bytes | str) -> int:
        """The exit code that both leave with."""
        first, second = self.zentra(data, *anchors), self.standalone(data, *anchors)
        assert first[0] == second[0], (first, second)
        return first[0]

    def _words(self, anchors: tuple[bytes | str, ...]) -> list[str]:
        return [word for number, one in enumerate(anchors) for word in ("--anchor", self.file(f"anchor{number}", one))]


@pytest.fixture
def asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Asked:
    return Asked(tmp_path, capsys)


@pytest.mark.parametrize("count", [3, 120])
def test_a_rewritten_log_is_told_however_much_is_missing_before_it(asked: Asked, count: int) -> None:
    data, kept = addenda(count), note(BEFORE + count, bytes([3]) * 32, 8_999)
    assert asked.both(data) == 2
    assert asked.both(data, kept) == 1
    for _, said in (asked.zentra(data, kept), asked.standalone(data, kept)):
        assert said.index("anchor_differs") < said.index("beginning_missing")


def test_a_changed_record_is_told_however_much_is_missing_before_it(asked: Asked) -> None:
    files = files_of(addenda(150))
    lines = files["entries/00001.jsonl"].splitlines(keepends=True)
    lines[-1] = lines[-1].replace(b'"actor":"a"', b'"actor":"b"')
    assert asked.both(packed(resigned(files | {"entries/00001.jsonl": b"".join(lines)}))) == 1
