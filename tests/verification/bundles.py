"""Bundles of the ledger in a database, and both verifiers asked about them."""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.ledgers import KEY
from tests.verification.databases import silent
from zentra.gateway.bundle_texts import bundle_texts
from zentra.gateway.cli import standalone
from zentra.runtime.evidence.bundle import MANIFEST, MANIFEST_SIGNATURE
from zentra.runtime.evidence.bundle_check import BundleVerdict
from zentra.runtime.evidence.envelopes import MANIFEST_TYPE, envelope_of, sign_payload
from zentra.runtime.evidence.heads import TreeHead, signed_note
from zentra.runtime.evidence.keyring import KeyRing, ring_of
from zentra.storage.pool import open_pool
from zentra.storage.reads.proofs import checkpoint
from zentra.storage.verification.bundle_files import BundleReader, verify_bundle
from zentra.storage.verification.bundling import BundleAsked, BundleMade, make_bundle

__all__ = [
    "INCOMPLETE",
    "OTHER_KEY",
    "TAMPERED",
    "VERIFIED",
    "Files",
    "both",
    "changed_lines",
    "exported",
    "head_of",
    "members",
    "packed",
    "pem",
    "resigned",
    "without",
    "word_of",
]

Files = dict[str, bytes]
VERIFIED, TAMPERED, INCOMPLETE = "verified", "tampered", "incomplete"
WORDS: Final = (VERIFIED, TAMPERED, INCOMPLETE)
PUBLIC: Final = KEY.public_key()
OTHER_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(32))


def pem(public: Ed25519PublicKey) -> bytes:
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def exported(
    url: str, path: Path, *, since: datetime | None = None, until: datetime | None = None,
    types: Sequence[str] | None = None, key: Ed25519PrivateKey = KEY, ring: KeyRing | None = None,
    tenant: str = "acme",
) -> BundleMade:  # fmt: skip
    """Export acme's evidence, as somebody would."""

    async def run() -> BundleMade:
        asked = BundleAsked(tenant=tenant, actor="ada", role="shell", since=since, until=until, types=types)
        async with await open_pool(url, name="test", connections_max=1) as pool:
            return await make_bundle(
                url, pool, path, asked, key=key, ring=ring or ring_of([PUBLIC, OTHER_KEY.public_key()]),
                texts=bundle_texts(), progress=silent,
            )  # fmt: skip

    return asyncio.run(run())


def head_of(url: str, size: int | None = None) -> TreeHead:
    async def run() -> TreeHead | None:
        async with await open_pool(url, name="test", connections_max=1) as pool:
            return await checkpoint(pool, "acme", size)

    head = asyncio.run(run())
    assert head is not None
    return head


def word_of(verdict: BundleVerdict) -> str:
    return VERIFIED if verdict.ok else INCOMPLETE if verdict.integrity else TAMPERED


def both(
    path: Path, anchors: Sequence[TreeHead] = (), public: Ed25519PublicKey = PUBLIC
) -> tuple[BundleVerdict, str, list[str]]:
    """Return what the product's verifier finds, the verdict of both, and how the other one was asked."""
    found = verify_bundle(path, ring_of([public]), anchors, silent)
    folder = path.parent
    (folder / "key.pem").write_bytes(pem(public))
    words = [str(path), str(folder / "key.pem")]
    for place, anchor in enumerate(anchors):
        note = folder / f"anchor-{place}.txt"
        note.write_text(signed_note(PUBLIC, anchor), encoding="utf-8")
        words += ["--anchor", str(note)]
    said = WORDS[standalone.main(words)]
    assert said == word_of(found), (said, found.problems[:3])
    return found, said, words


def members(path: Path) -> dict[str, bytes]:
    """Return the files of a bundle, in their order."""
    reader = BundleReader(path)
    return {name: reader.read(name) for name in reader.names}


def packed(path: Path, files: dict[str, bytes], change: Callable[[tarfile.TarInfo], Any] = lambda member: None) -> None:
    """Write a tar file of these files."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            change(member)
            with (path.parent / "member").open("wb+") as file:
                file.write(content)
                file.seek(0)
                archive.addfile(member, file)


def changed_lines(files: Files, change: Callable[[list[bytes]], Any], name: str = "entries/00001.jsonl") -> Files:
    """Return the files with the lines of one of them changed."""
    lines = files[name].splitlines()
    change(lines)
    return files | {name: b"".join(line + b"\n" for line in lines)}


def without(files: Files, *names: str) -> Files:
    """Return the files without some."""
    return {name: content for name, content in files.items() if name not in names}


def resigned(files: Files, key: Ed25519PrivateKey, **changes: Any) -> Files:
    """Return the files with a manifest that names them as they are, signed with this key."""
    manifest = json.loads(files[MANIFEST])
    manifest["files"] = [
        {"bytes": len(content), "name": name, "sha256": sha256(content).hexdigest()}
        for name, content in sorted(files.items())
        if name not in (MANIFEST, MANIFEST_SIGNATURE)
    ]
    data = json.dumps(manifest | changes, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    signature = sign_payload(key, MANIFEST_TYPE, data)
    return files | {MANIFEST: data, MANIFEST_SIGNATURE: envelope_of(MANIFEST_TYPE, b"", [signature])}
