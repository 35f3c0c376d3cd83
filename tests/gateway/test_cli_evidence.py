"""The offline verifier: its exit code is the answer, and it names the record."""

import json
import socket
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from zentra.gateway.cli.evidence import evidence_app
from zentra.runtime.evidence import canonical, heads, merkle
from zentra.runtime.evidence import packet as evidence
from zentra.runtime.evidence.chain import GENESIS, chain

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "good.json": packet(),
        "tampered.json": packet().replace(b"ledger.reserved", b"ledger.released"),
        "truncated.json": packet()[:-1],
        "early.json": packet(sealed=False),
        "empty.json": b"",
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


def test_nothing_is_asked_of_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the verifier opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    assert run(folder, "verify", "good.json", "--key", "pub.pem")[0] == 0
