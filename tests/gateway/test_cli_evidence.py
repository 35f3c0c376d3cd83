"""The offline verifier: its exit code is the answer, and it names the record."""

import json
import socket
from pathlib import Path

import msgspec
import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from tests.runtime.test_bundle import made
from zentra.gateway.bundle_texts import BUNDLE_TEXTS, bundle_texts
from zentra.gateway.cli import evidence_export
from zentra.gateway.cli.evidence import evidence_app
from zentra.runtime.evidence import canonical, heads, merkle
from zentra.runtime.evidence import packet as evidence
from zentra.runtime.evidence.chain import GENESIS, chain
from zentra.runtime.evidence.envelopes import PACKET_TYPE, envelope_of, sign_payload

assert evidence_export.__all__  # its commands are there with it
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
INTENT = "0197a1b2c3d47e5f8a9b0c1d2e3f4a5b"
STATES = ["ACCEPTED", "PROCESSING", "PROCESSING", "AWAITING_PROVIDER", "SUCCESSFUL"]
EVENTS = ["ingress.accepted", "policy.accepted", "ledger.reserved", "provider.routed", "ledger.posted"]

app = typer.Typer()
app.add_typer(evidence_app, name="evidence")


def records() -> tuple[bytes, ...]:
    return tuple(
        canonical.encode(
            {
                "actor": "svc", "at": f"2026-11-21T02:41:{place:02}.000000Z", "cause": "c", "event": event,
                "facts": {"kind": "noted"}, "from": STATES[place - 1] if place else None, "intent": INTENT,
                "intent_id": "order-1", "scope": "default", "sequence": place + 1, "step": None, "tenant": "acme",
                "to": STATES[place], "trace": "d",
            }
        )
        for place, event in enumerate(EVENTS)
    )  # fmt: skip


def packet(*, sealed: bool = True) -> bytes:
    if not sealed:
        return evidence.build_packet(evidence.Sealed(records()), None)
    link = GENESIS
    for record in records():
        link = chain(link, record)
    leaf = evidence.leaf_data(tenant="acme", intent=INTENT, kind="packet", chain=link, records=len(EVENTS))
    root = merkle.leaf_hash(leaf)
    head = heads.sign_head(KEY, tenant="acme", size=1, root=root, at="2026-11-21T02:42:00.000000Z")
    return evidence.build_packet(evidence.Sealed(records(), 0), head)


def anchor(size: int, root: bytes) -> bytes:
    at = "2026-11-21T02:43:00.000000Z"
    return canonical.encode(heads.sign_head(KEY, tenant="acme", size=size, root=root, at=at))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "good.json": packet(),
        "tampered.json": packet().replace(b"ledger.reserved", b"ledger.released"),
        "truncated.json": packet()[:-1],
        "early.json": packet(sealed=False),
        "empty.json": b"",
        "envelope.json": envelope_of(PACKET_TYPE, packet(), [sign_payload(KEY, PACKET_TYPE, packet())]),
        "foreign.json": envelope_of(PACKET_TYPE, packet(), [sign_payload(OTHER_KEY, PACKET_TYPE, packet())]),
        "kept.json": anchor(1, merkle.leaf_hash(json.loads(packet())["leaf"]["data"].encode())),
        "later.json": anchor(9, bytes(32)),
        "wrong.json": anchor(1, bytes(32)),
        "note.json": heads.signed_note(
            KEY.public_key(), msgspec.json.decode(anchor(9, bytes(32)), type=heads.TreeHead)
        ).encode(),
        "bundle.json": made()[0],
        "half.json": made()[0][:9_000],
        "pub.pem": KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "other.pem": OTHER_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "broken.pem": b"-----BEGIN PUBLIC KEY-----\n",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    paths = [str(folder / word) if word.endswith((".json", ".pem")) else word for word in arguments]
    result = CliRunner().invoke(app, ["evidence", *paths])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("verify good.json --key pub.pem", 0, "evidence: verified"),
        ("verify tampered.json --key pub.pem", 1, "record 3 (ledger.released): chain_broken"),
        ("verify truncated.json --key pub.pem", 1, "evidence: FAILED (tampered)"),
        ("verify empty.json --key pub.pem", 1, "packet: malformed"),
        ("verify good.json --key other.pem", 1, "head: key_differs"),
        ("verify early.json --key pub.pem", 2, "evidence: FAILED (incomplete)"),
        ("verify envelope.json --key pub.pem", 0, "evidence: verified"),
        ("verify envelope.json --key other.pem --key pub.pem", 0, "evidence: verified"),
        ("verify foreign.json --key pub.pem", 1, "envelope: key_differs"),
        ("verify good.json --key pub.pem --anchor kept.json", 0, "evidence: verified"),
        (
            "verify good.json --key pub.pem --anchor later.json",
            0,
            "not covered anchors of 9 leaves, which are of other sizes",
        ),
        ("verify good.json --key pub.pem --anchor wrong.json", 1, "heads_contradict"),
        ("verify good.json --key pub.pem --anchor good.json", 3, "checkpoint_malformed"),
        ("verify good.json --key pub.pem --anchor empty.json", 3, "checkpoint_malformed"),
        ("verify bundle.json --key pub.pem --anchor empty.json", 3, "checkpoint_malformed"),
        ("verify good.json --key pub.pem --anchor missing.json", 3, "No such file"),
        ("verify note.json --key pub.pem", 0, "9 leaves"),
        ("verify note.json --key other.pem", 1, "checkpoint: key_differs"),
        ("verify bundle.json --key pub.pem", 0, "entries 10 under 3 leaves"),
        ("verify bundle.json --key pub.pem", 0, "unanchored leaves 0 to 3"),
        ("verify bundle.json --key pub.pem --jobs 2", 0, "evidence: verified"),
        ("verify bundle.json --key other.pem", 1, "integrity BROKEN"),
        ("verify bundle.json --key pub.pem --anchor later.json", 2, "completeness SOMETHING IS MISSING"),
        ("verify half.json --key pub.pem", 1, "bundle: malformed"),
        ("render good.json --out missing/x.html", 3, "No such file"),
        ("render bundle.json --out x --as pdf", 3, "html or csv"),
        ("render empty.json --out x", 3, "no packet and no bundle"),
        ("export --tenant acme", 3, "--out"),
        ("export --tenant acme --out x", 3, "ZENTRA_"),
        ("checkpoint --tenant acme", 3, "ZENTRA_"),
        ("consistency", 3, "--tenant"),
        ("verify missing.json --key pub.pem", 3, "No such file"),
        ("verify good.json --key missing.pem", 3, "No such file"),
        ("verify good.json --key broken.pem", 3, "not a public key"),
        ("verify good.json --key good.json", 3, "not a public key"),
        ("verify good.json", 3, "--key"),
        ("verify --key pub.pem", 3, "FILE"),
        ("verify good.json --key pub.pem --what", 3, "--what"),
        ("verfy good.json --key pub.pem", 3, "No such command"),
        ("--what", 3, "--what"),
        ("verify --help", 0, "FILE"),
    ],
)
def test_the_exit_code_is_the_answer(folder: Path, arguments: str, code: int, words: str) -> None:
    result, output = run(folder, *arguments.split())
    assert result == code, output
    assert words in " ".join(output.split())


def test_a_verified_packet_says_what_it_is_about(folder: Path) -> None:
    _, output = run(folder, "verify", "good.json", "--key", "pub.pem")
    for fact in ("acme", f"order-1 ({INTENT})", "records      5", "1 leaves", heads.key_id(KEY.public_key())):
        assert fact in output


def test_the_verdict_can_be_had_as_json(folder: Path) -> None:
    code, output = run(folder, "verify", "tampered.json", "--key", "pub.pem", "--json")
    verdict = json.loads(output)
    assert (code, verdict["ok"], verdict["integrity"], verdict["completeness"]) == (1, False, False, True)
    assert verdict["problems"][0]["where"] == "record 3 (ledger.released)"


def test_a_long_list_of_problems_is_cut_short(folder: Path) -> None:
    fields = json.loads(packet())
    fields["records"] = ["{}"] * 30
    (folder / "long.json").write_bytes(canonical.encode(fields))
    code, output = run(folder, "verify", "long.json", "--key", "pub.pem")
    assert code == 1
    assert len(output.splitlines()) == 22
    assert output.splitlines()[-1].startswith("  and ")


@pytest.mark.parametrize("file", ["good.json", "envelope.json", "bundle.json"])
def test_what_is_readable_says_that_it_is_a_rendering(folder: Path, file: str) -> None:
    page, table = folder / "page.html", folder / "table.csv"
    for out, form in ((page, "html"), (table, "csv")):
        code, output = run(folder, "render", file, "--out", str(out), "--as", form)
        assert code == 0, output
    assert "It is not the evidence" in page.read_text(encoding="utf-8")
    assert table.read_bytes().startswith(b"at,tenant,")
    assert table.read_bytes().endswith(b"\r\n")


def test_a_bundle_has_its_texts() -> None:
    texts = bundle_texts()
    assert tuple(texts) == BUNDLE_TEXTS
    assert len(texts["verify.py"].splitlines()) < 200
    assert b"python3 verify.py" in texts["README.txt"]


def test_nothing_is_asked_of_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the verifier opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    assert run(folder, "verify", "good.json", "--key", "pub.pem")[0] == 0
