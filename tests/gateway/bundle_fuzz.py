"""Whatever is done to a bundle, both verifiers say the same of it; run it for long with

.venv/bin/python -m tests.gateway.bundle_fuzz 2000
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import sys
import tarfile
import tempfile
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.runtime.test_bundle import files_of, made, ranged
from tests.runtime.test_evidence import KEY
from zentra.gateway.cli import standalone
from zentra.runtime.evidence.bundle import MANIFEST, MANIFEST_SIGNATURE
from zentra.runtime.evidence.envelopes import MANIFEST_TYPE, envelope_of, sign_payload
from zentra.runtime.evidence.heads import signed_note
from zentra.runtime.evidence.keyring import ring_of
from zentra.storage.verification.bundle_files import verify_bundle

__all__ = ["compare"]

WORDS: Final = ("verified", "tampered", "incomplete", "no bundle")


def compare(rounds: int, seed: int) -> Counter[str]:
    """Return how often both said what; raises AssertionError where they differ."""
    chance, said = random.Random(seed), Counter[str]()
    whole, later = made(), ranged()
    public, ring = KEY.public_key(), ring_of([KEY.public_key()])
    with tempfile.TemporaryDirectory(prefix="zentra-fuzz-") as folder:
        key, kept, bundle = (Path(folder) / name for name in ("key.pem", "kept", "bundle.tar"))
        key.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        for number in range(rounds):
            data, head = later if number % 4 > 1 else whole
            kept.write_text(signed_note(public, head), encoding="utf-8")
            # What somebody does to the file; and what an exporter signs who reads rows that somebody changed.
            bundle.write_bytes(_changed(chance, data) if number % 2 else _signed_over(chance, files_of(data)))
            found = verify_bundle(bundle, ring, [head], lambda *_: None)
            first = WORDS[0] if found.ok else WORDS[2] if found.integrity else WORDS[1]
            if bundle.read_bytes()[257:262] not in (b"ustar", bytes(5)):
                assert not found.ok, (seed, number)
                first = WORDS[3]  # what is no tar file is no question for the second one
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                second = WORDS[standalone.main([str(bundle), str(key), "--anchor", str(kept)])]
            assert first == second, (seed, number, first, second, found.problems[:3])
            said[first] += 1
    return said


def _changed(chance: random.Random, data: bytes) -> bytes:
    """Return bytes with a bit turned over, some left out, or some twice."""
    changed, used = bytearray(data), len(data.rstrip(b"\0"))
    place, way = chance.randrange(max(used, 1)), chance.random()
    if not used:
        return b"x"
    if way < 0.6:
        changed[place] ^= 1 << chance.randrange(8)
    elif way < 0.8:
        del changed[place : place + chance.randrange(600)]
    else:
        changed[place:place] = changed[place : place + chance.randrange(600)]
    return bytes(changed)


def _signed_over(chance: random.Random, files: dict[str, bytes]) -> bytes:
    """Return a bundle in which one file was changed before the manifest was signed."""
    names = [name for name in files if name not in (MANIFEST, MANIFEST_SIGNATURE)]
    name = chance.choice(names)
    lines = files[name].splitlines(keepends=True)
    if len(lines) > 1 and chance.random() < 0.5:
        one, other = chance.sample(range(len(lines)), 2)
        way = chance.randrange(3)
        if way == 0:
            lines[one], lines[other] = lines[other], lines[one]
        elif way == 1:
            lines.insert(other, lines[one])
        else:
            lines.pop(one)
        files[name] = b"".join(lines)
    else:
        files[name] = _changed(chance, files[name])
    manifest = json.loads(files[MANIFEST])
    manifest["files"] = [
        {"bytes": len(files[one]), "name": one, "sha256": sha256(files[one]).hexdigest()} for one in sorted(names)
    ]
    body = json.dumps(manifest, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    files[MANIFEST] = body
    files[MANIFEST_SIGNATURE] = envelope_of(MANIFEST_TYPE, b"", [sign_payload(KEY, MANIFEST_TYPE, body)])
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


if __name__ == "__main__":
    sys.stdout.write(f"{compare(int(sys.argv[1]) if len(sys.argv) > 1 else 2000, seed=1)}\n")
