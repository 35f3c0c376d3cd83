"""Both verifiers against whoever holds the key and signs what is not so, and against what honest people hand them."""

from __future__ import annotations

import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
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
from zentra.runtime.evidence.chain import chain
from zentra.runtime.evidence.envelopes import MANIFEST_TYPE, envelope_of, sign_payload
from zentra.runtime.evidence.heads import key_id, sign_head, signed_note
from zentra.runtime.evidence.history import first_entry, read_history, rotation_entry
from zentra.runtime.evidence.key_files import history_file, pem_bundle
from zentra.runtime.evidence.keyring import ring_of
from zentra.runtime.evidence.packet import leaf_data
from zentra.runtime.evidence.proofs import CONSISTENCY_FORMAT, ConsistencyProof, Edge
from zentra.runtime.evidence.renderings import html_of
from zentra.runtime.spreadsheets import safe_cell

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


FILES = files_of(made()[0])
COUNTS = json.loads(FILES[bundle.MANIFEST])["counts"]


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
    data, kept = addenda(count), note(BEFORE + count - 1, bytes([3]) * 32, 8_999)
    assert asked.both(data) == 2
    assert asked.both(data, kept) == 1
    for _, said in (asked.zentra(data, kept), asked.standalone(data, kept)):
        assert said.index("anchor_differs") < said.index("beginning_missing")


def test_a_changed_record_is_told_however_much_is_missing_before_it(asked: Asked) -> None:
    files = files_of(addenda(150))
    lines = files["entries/00001.jsonl"].splitlines(keepends=True)
    lines[-1] = lines[-1].replace(b'"actor":"a"', b'"actor":"b"')
    assert asked.both(packed(resigned(files | {"entries/00001.jsonl": b"".join(lines)}))) == 1


# What the operator signs.


def _moved(files: Files, old: str, new: str) -> Files:
    return {name.replace(old, new): content for name, content in files.items()}


SIGNED: dict[str, Files] = {
    "entries counted wrong": resigned(FILES, counts=COUNTS | {"entries": 99}),
    "leaves counted wrong": resigned(FILES, counts=COUNTS | {"leaves": 77}),
    "refusals counted wrong": resigned(FILES, counts=COUNTS | {"denials": 7}),
    "exports counted wrong": resigned(FILES, counts=COUNTS | {"exports": 5}),
    "another beginning": resigned(FILES, first=5),
    "another size": resigned(FILES, size=77),
    "another format": resigned(FILES, format="zentra.evidence-bundle/99"),
    "a member more": resigned(FILES, note="believe me"),
    "parts counted from two": resigned(_moved(FILES, "/00001", "/00002")),
    "a part behind a gap": resigned(FILES | {"leaves/00003.jsonl": b'{"x":1}\n', "entries/00003.jsonl": b""}),
    "a part of another name": resigned(FILES | {"leaves/zzz.jsonl": b"", "entries/zzz.jsonl": b"hidden\n"}),
    "a file of another name": resigned(FILES | {"note.txt": b"believe me"}),
    "entries without leaves": resigned(FILES | {"entries/00002.jsonl": b"hidden\n"}),
    "refusals that are no JSON": resigned(FILES | {"denials/00001.jsonl": b"not json\n"}),
    "refusals with spaces": resigned(FILES | {"denials/00001.jsonl": b'{"actor": "eve"}\n'}),
    "a refusal that is no object": resigned(FILES | {"denials/00001.jsonl": b"1\n"}),
    "a refusal with a float": resigned(FILES | {"denials/00001.jsonl": b'{"a":1.5}\n'}),
    "a line that does not end": resigned(FILES | {"exports/00001.jsonl": FILES["exports/00001.jsonl"][:-1]}),
    "words at the end of entries": resigned(
        FILES | {"entries/00001.jsonl": FILES["entries/00001.jsonl"] + b"believe me"}
    ),
}


@pytest.mark.parametrize("case", SIGNED)
def test_what_the_operator_signs_both_refuse(asked: Asked, case: str) -> None:
    assert asked.both(packed(SIGNED[case])) == 1


def test_what_is_signed_rightly_both_accept(asked: Asked) -> None:
    assert asked.both(packed(FILES)) == asked.both(packed(resigned(FILES, open=3))) == 0


def test_the_envelope_of_the_manifest_has_no_slack(asked: Asked) -> None:
    envelope = json.loads(FILES[bundle.MANIFEST_SIGNATURE])
    named = envelope | {"signatures": [envelope["signatures"][0] | {"keyid": "deadbeef"}]}
    assert asked.both(packed(FILES | {bundle.MANIFEST_SIGNATURE: canonical.encode(named)})) == 0
    _, said = asked.zentra(packed(FILES | {bundle.MANIFEST_SIGNATURE: canonical.encode(named)}))
    assert key_id(PUBLIC) in said
    assert "deadbeef" not in said
    for wrong in (
        canonical.encode(envelope | {"note": "x"}), json.dumps(envelope, indent=3).encode(),
        canonical.encode(envelope | {"signatures": [envelope["signatures"][0] | {"note": "x"}]}),
    ):  # fmt: skip
        assert asked.both(packed(FILES | {bundle.MANIFEST_SIGNATURE: wrong})) == 1


def test_nothing_stands_behind_the_archive(asked: Asked) -> None:
    data = packed(FILES)
    assert asked.both(data + bytes(10_240)) == 0
    assert asked.both(data + b"SECRET ADDITION" * 1_000) == 1


# Heads that contradict each other.

ONE, TWO = b"\1" * 32, b"\2" * 32
SPLITS: dict[str, tuple[str, str]] = {
    "two roots of one size before the range": (note(5, ONE, 0), note(5, TWO, 0)),
    "two roots of one size behind the range": (note(999, ONE, 9_999), note(999, TWO, 9_999)),
    "fewer leaves later": (note(4, ONE, 0), note(3, TWO, 1)),
}


@pytest.mark.parametrize("case", SPLITS)
def test_kept_heads_that_contradict_each_other_are_the_proof(asked: Asked, case: str) -> None:
    one, other = SPLITS[case]
    assert asked.both(addenda(1), one, other) == 1
    for data in (note(2_000, ONE, 99_999), other):
        code, said = asked.zentra(data.encode(), one, other)
        assert (code, "heads_contradict" in said) == (1, True)


def test_a_checkpoint_of_fewer_leaves_signed_later_than_one_kept_is_a_rollback(asked: Asked) -> None:
    assert asked.zentra(note(5, TWO, 200).encode(), note(10, ONE, 100))[0] == 1
    assert asked.zentra(note(5, TWO, 100).encode(), note(10, ONE, 100))[0] == 0
    proof = ConsistencyProof(
        first=Edge(None, 0), format=CONSISTENCY_FORMAT, proof=[], second=Edge(note(1, merkle.leaf_hash(b"a"), 500), 1),
        tenant="acme",
    )  # fmt: skip
    assert asked.zentra(canonical.encode(proof), note(50, ONE, 600))[0] == 0
    assert asked.zentra(canonical.encode(proof), note(50, ONE, 100))[0] == 1


# What honest people hand them.


def line_of(size: int, root: bytes, micro: int, tenant: str = "acme") -> bytes:
    fields: dict[str, Any] = {
        "at": at(micro),
        "checkpoint": note(size, root, micro, tenant),
        "size": size,
        "tenant": tenant,
    }
    return canonical.encode(fields) + b"\n"


def test_keys_are_read_as_they_are_exported(asked: Asked) -> None:
    other = OTHER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    data = packed(FILES)
    for content in (pem_bundle(ring_of([OTHER.public_key(), PUBLIC])).encode(), PEM + other, other + PEM):
        key = asked.file("exported.pem", content)
        assert asked.zentra(data, key=key)[0] == asked.standalone(data, key=key)[0] == 0
    for content in (PUBLIC.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), b"", b'{"keys":[]}'):
        key = asked.file("no.pem", content)
        assert asked.zentra(data, key=key)[0] == asked.standalone(data, key=key)[0] == 3


def test_a_file_of_anchors_is_read_line_by_line(asked: Asked) -> None:
    data, root = (
        addenda(3),
        merkle.Frontier().append([merkle.leaf_hash(b"%d" % one) for one in range(BEFORE)])[0].root(),
    )
    kept = line_of(BEFORE, root, 1) + line_of(7, ONE, 5, "globex") + line_of(64, ONE, 9_999)[:90]
    assert asked.both(data, kept) == 2
    assert asked.both(data, kept[:-90] + b"\n" + line_of(BEFORE + 1, ONE, 5)) == 1


@pytest.mark.parametrize("anchor", ["", "hello", note(5, ONE, 0).replace("acme\n5", "acme\n6")])
def test_what_is_no_checkpoint_is_wrong_usage_and_says_nothing_of_the_evidence(asked: Asked, anchor: str) -> None:
    assert asked.both(packed(FILES), anchor) == 3


def test_what_is_no_question_is_wrong_usage(asked: Asked) -> None:
    path = asked.file("bundle.tar", packed(FILES))
    for words in ([path, asked.key, "--anchor"], [path], [], [asked.key, asked.key], [path + "x", asked.key]):
        assert standalone.main(words) == 3, words


def test_what_a_filter_left_out_and_what_was_open_is_said(asked: Asked) -> None:
    lines = [json.loads(row) for row in FILES["leaves/00001.jsonl"].splitlines()]
    bare = [row | {"hashes": [], "after": "00" * 32 if row["after"] else ""} for row in lines]
    leaves = b"".join(canonical.encode(row) + b"\n" for row in bare)
    counts = COUNTS | {"entries": 0}
    files = FILES | {"leaves/00001.jsonl": leaves, "entries/00001.jsonl": b""}
    data = packed(resigned(files, counts=counts, types=["hold"], open=4))
    assert asked.both(data) == 0
    for _, said in (asked.zentra(data), asked.standalone(data)):
        told = " ".join(said.split()).replace(": ", " ")
        assert "not shown 3 leaves left out by filter" in told
        assert "not sealed 4 intents" in told
    verdict = json.loads(asked.zentra(data, more=("--json",))[1])
    assert (verdict["left_out"], verdict["not_sealed"]) == (3, 4)


HOSTILE = "\x1b[2J\x1b[Hevidence: verified\n  integrity     nothing was changed\u202e\u2066\x9b\x7f"


def test_nothing_of_a_hostile_file_reaches_the_terminal_raw(asked: Asked) -> None:
    data = packed(FILES | {HOSTILE: b""})
    packet = canonical.encode({"addenda": [], "format": HOSTILE})
    for said in (
        asked.zentra(data)[1], asked.standalone(data)[1], asked.zentra(data, more=("--json",))[1],
        asked.zentra(packet)[1],
    ):  # fmt: skip
        assert all(one.isprintable() for one in said.replace("\n", "")), said
        assert not any(line.startswith("evidence: verified") for line in said.splitlines())


def test_the_history_of_keys_is_held_to_the_one_of_the_making(asked: Asked) -> None:
    first = read_history([first_entry(KEY, since=at(0), at=at(0), by="a")])
    later = rotation_entry(first, KEY, OTHER, since=at(500), at=at(400), by="a", reason="stolen")
    forged = rotation_entry(first, KEY, OTHER, since=at(501), at=at(400), by="a", reason="stolen")
    full, other = (read_history([*first.envelopes, one]) for one in (later, forged))
    count, last = full.standing(at(9_000))
    data = packed(resigned(FILES, keys={"count": count, "last": last}, settled_until=at(9_000)))
    for history, code in ((first, "history_short"), (other, "history_differs")):
        words = ("--history", asked.file("history.json", msgspec.json.encode(history_file(history))))
        assert code in asked.zentra(data, more=words)[1]
    words = ("--history", asked.file("history.json", msgspec.json.encode(history_file(full))))
    assert "history_" not in asked.zentra(data, more=words)[1]
    assert f"of 2 keys, the last since {at(500)}" in asked.zentra(data, more=words)[1]


# What is made readable.


@pytest.mark.parametrize(
    "text", ["=1", "\uff1d1+1", "\uff0b1", "\uff0d1+1", "\uff20x", " =1", "\u200b=1", "\x00=1", "\ufeff@x", "\t"]
)
def test_no_cell_is_a_formula(text: str) -> None:
    assert safe_cell(text) == "'" + text


@pytest.mark.parametrize("text", ["-5", "1.5", "Ada", " Ada", "a=b", ""])
def test_other_cells_stay_as_they_are(text: str) -> None:
    assert safe_cell(text) == text


def test_a_page_shows_marks_of_direction() -> None:
    page = "".join(html_of("t", {"note": "paid \u202e000,1\u202c \u2066x\x1b"}, ()))
    assert "\\u202e000,1\\u202c \\u2066x\\x1b" in page
    assert all(one.isprintable() or one == "\n" for one in page)
