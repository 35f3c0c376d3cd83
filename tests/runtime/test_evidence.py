"""A packet verifies as it was built, and no changed byte, record, proof, head or attachment goes unnoticed."""

import base64
import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from zentra.runtime.evidence import canonical, heads, merkle
from zentra.runtime.evidence import packet as evidence
from zentra.runtime.evidence.chain import GENESIS, chain

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key()

INTENT = "0197a1b2c3d47e5f8a9b0c1d2e3f4a5b"
AT = "2026-11-21T02:41:{:02}.000000Z"
COMMAND = {"amount": "125000", "currency": "NGN", "flag": True, "metadata": {"note": "é\n\x01"}, "source": "customer"}
CALLBACK = b'{"event":"evt-1","status":"success"}'
BINARY = b"\xff\x00raw"


def entry(debit: str, credit: str, pending: str, posted: str) -> dict[str, Any]:
    return {"credit": credit, "currency": "NGN", "debit": debit, "ordinal": 1, "pending": pending, "posted": posted}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# event, from, to, facts; the packet is sealed over the first eight, the rest are two addenda.
HISTORY: list[tuple[str, str | None, str, dict[str, Any]]] = [
    ("ingress.accepted", None, "ACCEPTED", {"command": COMMAND, "digest": "ab" * 32}),
    ("policy.review", "ACCEPTED", "REVIEW", {"lane": "high"}),
    ("review.approved", "REVIEW", "PROCESSING", {"verdict": "approved"}),
    ("ledger.reserved", "PROCESSING", "PROCESSING", {"entries": [entry("customer", "settlement", "125000", "0")]}),
    ("provider.routed", "PROCESSING", "AWAITING_PROVIDER", {"rail": "sandbox"}),
    ("provider.callback", "AWAITING_PROVIDER", "AWAITING_PROVIDER", {"digest": digest(CALLBACK)}),
    (
        "ledger.posted",
        "AWAITING_PROVIDER",
        "SUCCESSFUL",
        {"entries": [entry("customer", "settlement", "-125000", "125000"), entry("settlement", "shop", "0", "125000")]},
    ),
    ("webhook.delivered", "SUCCESSFUL", "SUCCESSFUL", {"deliveries": [{"body_digest": digest(BINARY)}]}),
    ("review.closed", "SUCCESSFUL", "SUCCESSFUL", {"records": 8}),
    ("reconciliation.matched", "SUCCESSFUL", "RECONCILED", {"line": "7"}),
]


def record(place: int, **changes: Any) -> bytes:
    event, before, after, facts = HISTORY[place]
    fields = {
        "actor": "svc_ledger", "at": AT.format(place), "cause": "c" * 32, "event": event, "facts": facts,
        "from": before, "intent": INTENT, "intent_id": "order-1", "scope": "default", "sequence": place + 1,
        "step": None, "tenant": "acme", "to": after, "trace": "d" * 32,
    }  # fmt: skip
    return canonical.encode(fields | changes)


RECORDS = tuple(record(place) for place in range(len(HISTORY)))


def log_of(leaves: list[bytes]) -> tuple[bytes, Callable[[int], tuple[bytes, ...]]]:
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    root = merkle.Frontier().append(hashes)[0].root()

    def prove(index: int) -> tuple[bytes, ...]:
        return tuple(merkle.inclusion_proof(index, len(hashes), lambda _, start, count: hashes[start : start + count]))

    return root, prove


def sealed_packet(
    parts: list[tuple[bytes, ...]], attachments: tuple[bytes, ...] = (), key: Ed25519PrivateKey = KEY
) -> bytes:
    """Seal `parts` (the packet, then addenda) among other leaves of the log, the way the system does."""
    leaves = [b"another leaf %d" % place for place in range(11)]
    link, count, places = GENESIS, 0, []
    for number, part in enumerate(parts):
        for data in part:
            link = chain(link, data)
        count += len(part)
        places.append(3 + 5 * number)
        leaves[places[-1] : places[-1]] = [
            evidence.leaf_data(
                tenant="acme", intent=INTENT, kind="addendum" if number else "packet", chain=link, records=count
            )
        ]
    root, prove = log_of(leaves)
    head = heads.sign_head(key, tenant="acme", size=len(leaves), root=root, at=AT.format(59))
    sealed = [evidence.Sealed(part, place, prove(place)) for part, place in zip(parts, places, strict=True)]
    return evidence.build_packet(sealed[0], head, addenda=sealed[1:], attachments=attachments)


@cache
def packet() -> bytes:
    return sealed_packet([RECORDS[:8], RECORDS[8:9], RECORDS[9:]], (BINARY, CALLBACK))


def codes(data: bytes) -> set[str]:
    return {problem.code for problem in evidence.verify_packet(data, PUBLIC).problems}


def changed(change: Callable[[dict[str, Any]], Any]) -> bytes:
    fields = json.loads(packet())
    change(fields)
    return canonical.encode(fields)


def resealed(*changes: tuple[int, dict[str, Any]]) -> bytes:
    """A packet whose seal is right over records that say something wrong."""
    records = list(RECORDS[:8])
    for place, fields in changes:
        records[place] = record(place, **fields)
    return sealed_packet([tuple(records)])


# What an honest packet is.


def test_a_packet_verifies_with_the_public_key_alone() -> None:
    verdict = evidence.verify_packet(packet(), PUBLIC)
    assert verdict == evidence.Verdict(
        ok=True, integrity=True, completeness=True, tenant="acme", intent=INTENT, intent_id="order-1", records=10,
        attachments=2, head_size=14, head_at=AT.format(59), key_id=heads.key_id(PUBLIC),
    )  # fmt: skip


def test_a_packet_shows_the_stored_bytes_and_what_follows_from_them() -> None:
    fields = json.loads(packet())
    assert tuple(text.encode() for text in fields["records"]) == RECORDS[:8]
    assert [part["records"] for part in fields["addenda"]] == [[RECORDS[8].decode()], [RECORDS[9].decode()]]
    assert fields["command"] == COMMAND
    assert (fields["callbacks"], fields["deliveries"], fields["review"]) == ([6], [8], [2, 3])
    assert [one["encoding"] for one in fields["attachments"]] in (["text", "base64"], ["base64", "text"])


def test_equal_arguments_give_equal_bytes() -> None:
    again = sealed_packet([RECORDS[:8], RECORDS[8:9], RECORDS[9:]], (CALLBACK, BINARY, CALLBACK))
    assert again == packet()


def test_the_chain_and_the_leaf_are_what_the_document_says() -> None:
    link = hashlib.sha256(bytes(32) + b"one").digest()
    assert chain(GENESIS, b"one") == link
    assert evidence.leaf_data(tenant="acme", intent=INTENT, kind="packet", chain=link, records=1) == (
        b'{"chain":"%s","intent":"%s","kind":"packet","records":1,"tenant":"acme"}'
        % (link.hex().encode(), INTENT.encode())
    )


def test_a_packet_that_is_not_sealed_yet_is_incomplete_and_not_tampered() -> None:
    verdict = evidence.verify_packet(evidence.build_packet(evidence.Sealed(RECORDS[:4]), None), PUBLIC)
    assert (verdict.ok, verdict.integrity, verdict.completeness) == (False, True, False)
    assert [problem.code for problem in verdict.problems] == ["not_sealed"]


@pytest.mark.parametrize("records", [(), (b"{}",), (b"not json",)])
def test_no_packet_is_built_of_what_is_no_record(records: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match=r"."):
        evidence.build_packet(evidence.Sealed(records), None)


# Any change of the file.


def test_every_flipped_byte_is_noticed() -> None:
    data = bytearray(packet())
    for place in range(len(data)):
        flip = 1 << place % 8
        data[place] ^= flip
        assert not evidence.verify_packet(bytes(data), PUBLIC).ok, place
        data[place] ^= flip


@pytest.mark.slow
def test_every_flipped_bit_is_noticed() -> None:
    data = bytearray(packet())
    for place, bit in itertools.product(range(len(data)), range(8)):
        data[place] ^= 1 << bit
        assert not evidence.verify_packet(bytes(data), PUBLIC).ok, (place, bit)
        data[place] ^= 1 << bit


@given(st.data())
def test_every_replaced_inserted_or_dropped_byte_is_noticed(data: st.DataObject) -> None:
    whole = packet()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 4)))
    put = data.draw(st.binary(max_size=4) | st.text(st.characters(max_codepoint=127), max_size=4).map(str.encode))
    if whole[start:end] != put:
        assert not evidence.verify_packet(whole[:start] + put + whole[end:], PUBLIC).ok


def test_every_truncation_is_noticed() -> None:
    assert not any(evidence.verify_packet(packet()[:length], PUBLIC).ok for length in range(0, len(packet()), 7))


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_no_input_makes_the_verifier_raise(data: bytes) -> None:
    assert not evidence.verify_packet(data, PUBLIC).ok


def test_every_member_matters() -> None:
    whole = json.loads(packet())
    for name, value in whole.items():
        rest = {other: kept for other, kept in whole.items() if other != name}
        assert codes(canonical.encode(rest)) == {"malformed"}
        if name not in ("head", "leaf"):
            found = codes(canonical.encode(whole | {name: type(value)()}))
            # Leaving out what is whole in itself shows nothing wrong: a packet without its addenda is the packet as it
            # was before them, and bytes may be withheld while their digest stays in the record.
            assert bool(found) == (name not in ("addenda", "attachments")), name
    assert codes(canonical.encode(whole | {"extra": 1})) == {"malformed"}
    assert codes(canonical.encode(whole | {"head": None})) == {"not_sealed"}
    assert codes(canonical.encode(whole | {"leaf": None})) == {"not_sealed", "proof_invalid"}


def swap(items: list[Any], one: int, two: int) -> None:
    items[one], items[two] = items[two], items[one]


def both(fields: dict[str, Any], change: Callable[[list[str]], Any]) -> None:
    change(fields["records"])
    change(fields["hashes"])


def edit(fields: dict[str, Any], old: str, new: str) -> None:
    fields["records"][3] = fields["records"][3].replace(old, new, 1)


def forge(fields: dict[str, Any]) -> None:
    """Change an amount, and then everything that can be computed without the key."""
    edit(fields, "125000", "225000")
    link, count = GENESIS, 0
    for number, part in enumerate([fields, *fields["addenda"]]):
        for place, text in enumerate(part["records"]):
            link = chain(link, text.encode())
            part["hashes"][place] = link.hex()
        count += len(part["records"])
        part["leaf"]["data"] = evidence.leaf_data(
            tenant="acme", intent=INTENT, kind="addendum" if number else "packet", chain=link, records=count
        ).decode()


@pytest.mark.parametrize(
    ("change", "code", "where"),
    [
        (lambda f: edit(f, "125000", "225000"), "chain_broken", "record 4 (ledger.reserved)"),
        (lambda f: edit(f, "ledger.reserved", "ledger.posted"), "chain_broken", "record 4 (ledger.posted)"),
        (lambda f: edit(f, "{", ""), "record_malformed", "record 4"),
        (lambda f: edit(f, ":", ": "), "record_malformed", "record 4"),
        (lambda f: f["hashes"].__setitem__(3, "00" * 32), "chain_broken", "record 4 (ledger.reserved)"),
        (lambda f: both(f, lambda items: items.pop(3)), "chain_broken", "record 4 (provider.routed)"),
        (lambda f: both(f, lambda items: items.pop(0)), "chain_broken", "record 1 (policy.review)"),
        (lambda f: both(f, lambda items: items.pop()), "records_missing", "packet"),
        (lambda f: f["records"].pop(), "records_missing", "packet"),
        (lambda f: both(f, lambda items: items.clear()), "records_missing", "packet"),
        (lambda f: both(f, lambda items: swap(items, 3, 4)), "chain_broken", "record 4 (provider.routed)"),
        (lambda f: swap(f["records"], 3, 4), "chain_broken", "record 4 (provider.routed)"),
        (lambda f: both(f, lambda items: items.insert(3, items[3])), "chain_broken", "record 5 (ledger.reserved)"),
        (lambda f: f["records"].append(f["records"][7]), "chain_broken", "record 9 (webhook.delivered)"),
        (lambda f: f["addenda"].pop(0), "chain_broken", "record 9 (reconciliation.matched)"),
        (lambda f: swap(f["addenda"], 0, 1), "chain_broken", "record 9 (reconciliation.matched)"),
        (lambda f: f["addenda"][1]["leaf"].update(index=3), "proof_invalid", "addendum 2"),
        (lambda f: f["addenda"].append(f["addenda"][1]), "chain_broken", "record 11 (reconciliation.matched)"),
        (forge, "proof_invalid", "packet"),
        (lambda f: f["leaf"].update(index=4), "proof_invalid", "packet"),
        (lambda f: f["leaf"].update(data=f["addenda"][0]["leaf"]["data"]), "records_missing", "packet"),
        (lambda f: f["leaf"].update(data=f["leaf"]["data"].replace("packet", "addendum")), "leaf_differs", "packet"),
        (lambda f: f["proof"].pop(), "proof_invalid", "packet"),
        (lambda f: f["proof"].append("00" * 32), "proof_invalid", "packet"),
        (lambda f: f["proof"].__setitem__(0, f["proof"][0].upper()), "proof_invalid", "packet"),
        (lambda f: f["head"].update(size=15), "signature_invalid", "head"),
        (lambda f: f["head"].update(size=-1), "head_malformed", "head"),
        (lambda f: f["head"].update(root="00" * 32), "signature_invalid", "head"),
        (lambda f: f["head"].update(root="no"), "head_malformed", "head"),
        (lambda f: f["head"].update(at=AT.format(58)), "signature_invalid", "head"),
        (lambda f: f["head"].update(at="yesterday"), "head_malformed", "head"),
        (lambda f: f["head"].update(tenant="globex"), "signature_invalid", "head"),
        (lambda f: f["head"].update(tenant="a\nb"), "head_malformed", "head"),
        (lambda f: f["head"].update(key_id="00000000"), "key_differs", "head"),
        (lambda f: f["head"].update(signature=f["head"]["signature"].upper()), "signature_invalid", "head"),
        (lambda f: f["head"].update(signature="zz"), "signature_invalid", "head"),
        (lambda f: f.update(format="zentra.audit-packet/2"), "format_unknown", "packet"),
        (lambda f: f["command"].update(amount="1"), "command_differs", "command"),
        (lambda f: f["command"].update(flag=1), "command_differs", "command"),
        (lambda f: f["callbacks"].append(7), "contents_differ", "callbacks"),
        (lambda f: f["attachments"][0].update(content="x"), "attachment_differs", "attachment 1"),
        (lambda f: f["attachments"][0].update(sha256="00" * 32), "attachment_differs", "attachment 1"),
        (lambda f: f["attachments"].reverse(), "attachments_unsorted", "attachment 2"),
        (lambda f: f["attachments"].append(f["attachments"][1]), "attachments_unsorted", "attachment 3"),
    ],
)  # fmt: skip
def test_a_change_is_named_by_its_place(change: Callable[[dict[str, Any]], Any], code: str, where: str) -> None:
    verdict = evidence.verify_packet(changed(change), PUBLIC)
    assert (verdict.ok, verdict.integrity) == (False, False)
    first = verdict.problems[0]
    assert (first.code, first.where) == (code, where), verdict.problems


def test_a_dropped_tail_is_both_tampered_and_incomplete() -> None:
    verdict = evidence.verify_packet(changed(lambda fields: both(fields, list.pop)), PUBLIC)
    assert (verdict.integrity, verdict.completeness) == (False, False)


def test_only_the_changed_record_is_blamed() -> None:
    data = packet().replace(b"svc_ledger", b"svc_edge__", 1)
    verdict = evidence.verify_packet(data, PUBLIC)
    assert [(one.code, one.where) for one in verdict.problems] == [("chain_broken", "record 9 (review.closed)")]


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"nobody's", "attachment_uncovered"), (b"", "attachment_uncovered")],
)
def test_an_attachment_that_no_record_names_is_refused(content: bytes, code: str) -> None:
    assert codes(sealed_packet([RECORDS[:8]], (content,))) == {code}


def test_base64_has_one_spelling() -> None:
    def respell(fields: dict[str, Any]) -> None:
        one = next(one for one in fields["attachments"] if one["encoding"] == "text")
        one.update(encoding="base64", content=base64.b64encode(one["content"].encode()).decode())

    assert codes(changed(respell)) == {"attachment_differs"}

    def break_alphabet(fields: dict[str, Any]) -> None:
        next(one for one in fields["attachments"] if one["encoding"] == "base64").update(content="*")

    assert codes(changed(break_alphabet)) == {"attachment_malformed"}


def test_the_document_tells_how_to_verify_by_hand(tmp_path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text(encoding="utf-8")
    (tmp_path / "by_hand.py").write_text(document.partition("```python\n")[2].partition("```")[0], encoding="utf-8")
    (tmp_path / "good.json").write_bytes(packet())
    (tmp_path / "bad.json").write_bytes(changed(lambda fields: edit(fields, "125000", "225000")))

    def by_hand(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "by_hand.py", name]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "the chain breaks at record 4" in by_hand("bad.json").stderr
    assert by_hand("good.json").stdout == "10 records; now the signature\n"
    PUBLIC.verify((tmp_path / "head.sig").read_bytes(), (tmp_path / "head.txt").read_bytes())


# A seal over records that say something wrong is no help.


@pytest.mark.parametrize(
    ("changes", "code", "where"),
    [
        ([(3, {"tenant": "globex"})], "tenant_differs", "record 4 (ledger.reserved)"),
        ([(3, {"intent": "00" * 16})], "intent_differs", "record 4 (ledger.reserved)"),
        ([(3, {"intent_id": "order-2"})], "intent_id_differs", "record 4 (ledger.reserved)"),
        ([(7, {"sequence": 7})], "sequence_broken", "record 8 (webhook.delivered)"),
        ([(7, {"sequence": 9})], "sequence_broken", "record 8 (webhook.delivered)"),
        ([(0, {"from": "ACCEPTED"})], "state_broken", "record 1 (ingress.accepted)"),
        ([(7, {"from": "FAILED"})], "state_broken", "record 8 (webhook.delivered)"),
        ([(7, {"at": AT.format(6)})], "time_broken", "record 8 (webhook.delivered)"),
        ([(7, {"at": AT.format(5)})], "time_broken", "record 8 (webhook.delivered)"),
        ([(7, {"at": "2026-11-21T02:41:07Z"})], "time_malformed", "record 8 (webhook.delivered)"),
        ([(3, {"facts": {"entries": [entry("a", "a", "1", "0")]}})], "entry_unbalanced", "record 4 (ledger.reserved)"),
        ([(3, {"facts": {"entries": [entry("a", "", "1", "0")]}})], "entry_unbalanced", "record 4 (ledger.reserved)"),
        ([(3, {"facts": {"entries": [entry("a", "b", "1.0", "0")]}})], "entry_malformed", "record 4 (ledger.reserved)"),
        ([(3, {"facts": {"entries": [entry("a", "b", "1", "-0")]}})], "entry_malformed", "record 4 (ledger.reserved)"),
        ([(3, {"facts": {"entries": [{"debit": "a"}]}})], "entry_malformed", "record 4 (ledger.reserved)"),
    ],
)
def test_a_rightly_sealed_history_must_still_make_sense(
    changes: list[tuple[int, dict[str, Any]]], code: str, where: str
) -> None:
    verdict = evidence.verify_packet(resealed(*changes), PUBLIC)
    assert [(problem.code, problem.where) for problem in verdict.problems] == [(code, where)]


# Keys and heads.


def test_a_packet_signed_by_another_key_is_refused() -> None:
    assert codes(sealed_packet([RECORDS[:8]], key=OTHER_KEY)) == {"key_differs"}


def test_a_head_that_only_claims_the_right_key_is_refused() -> None:
    fields = json.loads(sealed_packet([RECORDS[:8]], key=OTHER_KEY))
    fields["head"]["key_id"] = heads.key_id(PUBLIC)
    assert codes(canonical.encode(fields)) == {"signature_invalid"}


def test_the_head_of_another_time_does_not_cover_the_packet() -> None:
    older = heads.sign_head(KEY, tenant="acme", size=2, root=bytes(32), at=AT.format(1))
    fields = json.loads(packet())
    fields["head"] = json.loads(canonical.encode(older))
    assert codes(canonical.encode(fields)) == {"proof_invalid"}


def test_the_head_of_another_tenant_is_refused_although_it_is_signed() -> None:
    fields = json.loads(packet())
    head = fields["head"]
    signed = heads.sign_head(KEY, tenant="globex", size=head["size"], root=bytes.fromhex(head["root"]), at=head["at"])
    fields["head"] = json.loads(canonical.encode(signed))
    assert codes(canonical.encode(fields)) == {"tenant_differs"}


def test_a_head_is_signed_over_the_text_of_a_checkpoint() -> None:
    head = heads.sign_head(KEY, tenant="acme", size=3, root=bytes(32), at=AT.format(1))
    text = f"zentra.evidence/acme\n3\n{base64.b64encode(bytes(32)).decode()}\nat {AT.format(1)}\n"
    PUBLIC.verify(bytes.fromhex(head.signature), text.encode())
    assert heads.signed_bytes(head) == text.encode()
    assert heads.verify_head(PUBLIC, head)
    assert not heads.verify_head(OTHER_KEY.public_key(), head)
    assert heads.sign_head(KEY, tenant="acme", size=3, root=bytes(32), at=AT.format(1)) == head


def test_a_head_can_be_shown_as_a_signed_note() -> None:
    head = heads.sign_head(KEY, tenant="acme", size=3, root=bytes(32), at=AT.format(1))
    text, _, signature_line = heads.signed_note(PUBLIC, head).partition("\n\n")
    dash, name, encoded = signature_line.removesuffix("\n").split(" ")
    signature = base64.b64decode(encoded, validate=True)
    assert (dash, name, len(signature)) == ("—", "zentra.evidence/acme", 68)
    assert signature[:4] == hashlib.sha256(name.encode() + b"\n\x01" + PUBLIC.public_bytes_raw()).digest()[:4]
    PUBLIC.verify(signature[4:], f"{text}\n".encode())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tenant": "Acme"}, "not a tenant"),
        ({"tenant": "acme\n"}, "not a tenant"),
        ({"at": "2026-11-21T02:41:00Z"}, "not a time"),
        ({"root": b""}, "not a root"),
        ({"size": -1}, "not a size"),
    ],
)
def test_no_head_is_signed_that_would_not_verify(changes: dict[str, Any], reason: str) -> None:
    fields: dict[str, Any] = {"tenant": "acme", "size": 1, "root": bytes(32), "at": AT.format(1)}
    with pytest.raises(ValueError, match=reason):
        heads.sign_head(KEY, **(fields | changes))


def test_keys_are_loaded_from_pem() -> None:
    private = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = PUBLIC.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert heads.load_private_key(private).private_bytes_raw() == bytes(range(32))
    assert heads.load_public_key(public).public_bytes_raw() == PUBLIC.public_bytes_raw()
    assert heads.key_id(PUBLIC) == hashlib.sha256(PUBLIC.public_bytes_raw()).hexdigest()[:8]


def test_other_keys_are_refused() -> None:
    other = generate_private_key(SECP256R1())
    pem = serialization.Encoding.PEM
    pkcs8 = serialization.PrivateFormat.PKCS8
    locked = KEY.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"secret"))
    for data in (b"", b"no", locked, other.private_bytes(pem, pkcs8, serialization.NoEncryption())):
        with pytest.raises(ValueError, match="private key"):
            heads.load_private_key(data)
    public = other.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    for data in (b"", b"no", public):
        with pytest.raises(ValueError, match="public key"):
            heads.load_public_key(data)
