"""Verify a bundle of Zentra evidence with Python's standard library alone (3.10 or later).

    python3 verify.py BUNDLE.tar PUB.pem [PUB.pem ...] [--anchor CHECKPOINT]...

Exit codes: 0 verified, 1 tampered, 2 incomplete (nothing contradicts itself, but something is missing), 3 wrong usage.
Get keys and checkpoints by another way than the bundle. RFC 8032, RFC 6962, DSSE 1.0.0, C2SP signed notes.
"""

import base64
import hashlib
import json
import re
import sys
import tarfile
from functools import reduce
from pathlib import Path
from typing import Any

__all__ = ["grow", "load_key", "main", "root", "signature_holds", "verify"]

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, BASE = -121665 * pow(121666, -1, P) % P, (4 * pow(5, -1, P) % P).to_bytes(32, "little")
OWN, ENDS = ("manifest.json", "manifest.sig.json"), ("checkpoints/opening.txt", "checkpoints/closing.txt")
TYPE = b"application/vnd.zentra.evidence-manifest+json"
MISSING = {"not_sealed", "anchor_beyond", "beginning_missing"}  # nothing contradicts itself
NOTE = re.compile(r"zentra\.evidence/(?P<tenant>.+)\n(?P<size>0|[1-9]\d{0,15})\n(?P<root>.+)\nat (?P<at>.+)\n")
Problems = list[tuple[str, str]]


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def added(a: Any, b: Any) -> Any:  # two points of the curve, RFC 8032, 5.1.4, without the detour by projective ones
    t = D * a[0] * b[0] * a[1] * b[1] % P
    return (a[0] * b[1] + b[0] * a[1]) * pow(1 + t, -1, P) % P, (a[1] * b[1] + a[0] * b[0]) * pow(1 - t, -1, P) % P


def times(scalar: int, point: Any) -> Any:
    rest = times(scalar >> 1, added(point, point)) if scalar else (0, 1)
    return added(rest, point) if scalar & 1 else rest


def point_of(raw: bytes) -> Any:  # RFC 8032, 5.1.3
    y, sign = int.from_bytes(raw, "little") & (1 << 255) - 1, raw[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    if y >= P or x * x % P != square or (not x and sign):
        raise ValueError("not a point of the curve")
    return (x if x & 1 == sign else P - x), y


def signature_holds(public: bytes, message: bytes, signature: bytes) -> bool:  # RFC 8032, 5.1.7
    scalar = int.from_bytes(signature[32:], "little")
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    x, y = added(times(scalar, point_of(BASE)), times(L - challenge, point_of(public)))
    return len(signature) == 64 and scalar < L and signature[:32] == (y | (x & 1) << 255).to_bytes(32, "little")


def load_key(pem: str) -> bytes:
    der = base64.b64decode("".join(line for line in pem.splitlines() if not line.startswith("-")))
    if len(der) != 44 or der[:12] != bytes.fromhex("302a300506032b6570032100"):
        raise OSError("not an Ed25519 public key in PEM")
    return der[12:]


def grow(nodes: list[bytes], size: int, data: bytes) -> None:  # RFC 6962, 2.1: complete subtrees, the largest first
    node, rest = sha(b"\0", data), size
    while rest & 1:
        node, rest = sha(b"\1", nodes.pop(), node), rest >> 1
    nodes.append(node)


def root(nodes: list[bytes]) -> bytes:
    return reduce(lambda right, left: sha(b"\1", left, right), nodes[::-1]) if nodes else sha()


def checkpoint(data: bytes, keys: list[bytes]) -> dict[str, Any]:
    """Return the head in a signed note, once a given key has signed it; raise ValueError otherwise."""
    (text, _, lines), mine = data.decode().rpartition("\n\n"), []
    found = NOTE.fullmatch(text + "\n")
    for dash, name, signature in (line.split(" ") for line in lines.splitlines()):
        raw = base64.b64decode(signature, validate=True)
        ours = [key for key in keys if raw[:4] == sha(name.encode(), b"\n\1", key)[:4] and text.startswith(name + "\n")]
        mine += [dash == "\N{EM DASH}" and signature_holds(key, text.encode() + b"\n", raw[4:]) for key in ours]
    if found is None or not mine or not all(mine) or not lines.endswith("\n"):
        raise ValueError("not a checkpoint that a given key has signed")
    return {**found.groupdict(), "size": int(found["size"]), "root": base64.b64decode(found["root"], validate=True)}


def manifest_of(files: dict[str, bytes], names: list[str], keys: list[bytes], bad: Problems) -> dict[str, Any]:
    """Return the manifest, once it is signed; hold every file to it."""
    data, envelope = files[OWN[0]], json.loads(files[OWN[1]])
    ours = (envelope["payload"], envelope["payloadType"]) == ("", TYPE.decode())
    message = b"DSSEv1 %d %b %d %b" % (len(TYPE), TYPE, len(data), data)
    signatures = [base64.b64decode(one["sig"].replace("-", "+").replace("_", "/")) for one in envelope["signatures"]]
    if not ours or not any(signature_holds(key, message, one) for key in keys for one in signatures):
        raise ValueError("no given key has signed the manifest")
    manifest: dict[str, Any] = json.loads(data)
    named = {file["name"]: (file["bytes"], file["sha256"]) for file in manifest["files"]}
    here = {name: (len(content), sha(content).hex()) for name, content in files.items()}
    bad += [("file_unexpected", name) for name in sorted(set(names)) if names.count(name) > (name in {*named, *OWN})]
    bad += [("file_differs", name) for name, known in named.items() if here.get(name) != known]
    return manifest


def records(sealed: dict[str, Any], line: dict[str, Any], rows: list[bytes], bad: Problems, seals: Any) -> None:
    """Verify the records of a leaf: they go on where the leaf of their intent before it ends, and it seals the last."""
    hashes, after, who = line["hashes"], line["after"], (sealed["tenant"], sealed["intent"])
    sequence, link, at = sealed["records"] - len(hashes), bytes.fromhex(after) or bytes(32), ""
    state, before, leaf = "?" if sequence else None, seals.get(who[1]), f"leaf {line['index']}, intent {who[1]}"
    seals[who[1]] = sealed["records"], sealed["chain"], bool(hashes)
    if before:
        fits = (sequence, after) == before[:2] if hashes else sequence > before[0]
        bad += [("records_missing", f"{leaf}, before it")] * (not fits or not after or bool(hashes) != before[2])
    elif after and (hashes or "" in seals):  # the name of none: the log begins with these leaves
        bad.append(("sequence_broken" if "" in seals else "beginning_missing", f"{leaf} follows none that is here"))
    bad += [("records_missing", leaf)] * (len(rows) != len(hashes) or bool(rows and (not sequence) is bool(after)))
    for row, claimed in zip(rows, hashes):  # noqa: B905 - how many there are was compared
        sequence, link, one = sequence + 1, sha(link, row), json.loads(row)
        where = f"{leaf} record {sequence} ({one['event']})"
        bad += [("chain_broken", where)] * (link.hex() != claimed)
        bad += [("sequence_broken", where)] * ((one["tenant"], one["intent"], one["sequence"]) != (*who, sequence))
        bad += [("state_broken", where)] * (one["from"] != state != "?") + [("time_broken", where)] * (one["at"] <= at)
        link, state, at = bytes.fromhex(claimed), one["to"], one["at"]
    bad += [("leaf_differs", f"{leaf} seals other records")] * (hashes[-1:] not in ([], [sealed["chain"]]))


def verify(path: Path, keys: list[bytes], anchors: list[dict[str, Any]]) -> tuple[Problems, int]:
    """Return all that is wrong with a bundle, the first thing first, and how many entries it has."""
    bad, early = Problems(), dict[str, Any]()
    with tarfile.open(path, "r:") as archive:
        files = {one.name: file.read() for one in archive if one.isreg() and (file := archive.extractfile(one))}
        manifest = manifest_of(files, archive.getnames(), keys, bad)
    if bad:
        return bad, 0
    first, closing = (checkpoint(files[name], keys) if name in files else None for name in ENDS)
    tenant, nodes = manifest["tenant"], [bytes.fromhex(one) for one in json.loads(files["proofs.json"])["frontier"]]
    size, opening = (first["size"], first["root"]) if first else (0, sha())
    bad += [("root_differs", "opening checkpoint")] * (len(nodes) != bin(size).count("1") or root(nodes) != opening)
    *lines, end = b"".join(files[name] for name in sorted(files) if name.startswith("earlier/")).split(b"\n")
    for line in map(
        json.loads, [*lines, end] if end else lines
    ):  # what addenda follow from before the range: RFC 9162, 2.1.3.2
        sealed, place, last, node = json.loads(line["data"]), line["index"], size - 1, sha(b"\0", line["data"].encode())
        fits = len(line) == 3 and 0 <= place <= last and sealed["tenant"] == tenant and sealed["intent"] not in early
        for sibling in map(bytes.fromhex, line["proof"]):
            while place == last and last and not place & 1:
                place, last = place >> 1, last >> 1
            node = sha(b"\1", sibling, node) if place & 1 else sha(b"\1", node, sibling)
            place, last = place >> 1, last >> 1
        bad += [("proof_invalid", f"earlier {line['index']}")] * (not fits or (last, node, end) != (0, opening, b""))
        early[sealed["intent"]] = sealed["records"], sealed["chain"], True
    roots, entries, sizes = {size: opening}, 0, {one["size"] for one in anchors}
    seals = {**early, **({} if size else {"": (0, "", True)})}
    for name in sorted(name for name in files if name.startswith("leaves/")):
        rows, place = files[name.replace("leaves", "entries")].split(b"\n")[:-1], 0
        for line in map(json.loads, files[name].split(b"\n")[:-1]):
            sealed, count, index = json.loads(line["data"]), len(line["hashes"]), line["index"]
            fits = (index, sealed["tenant"], len(line)) == (size, tenant, 4) and (count or manifest["types"])
            wrong = not fits or (sealed["kind"] == "addendum") != bool(line["after"])
            bad += [("leaf_differs", f"leaf {size}")] * wrong
            grow(nodes, size, line["data"].encode())
            records(sealed, line, rows[place : place + count], bad, seals)
            place, entries, size = place + count, entries + count, size + 1
            roots |= {size: root(nodes)} if size in sizes else {}
        bad += [("records_unsealed", name)] if place != len(rows) else []
    bad += [("leaf_unexpected", f"earlier leaf, intent {who}") for who, seal in early.items() if seals[who] is seal]
    if closing is None or (size, root(nodes)) != (closing["size"], closing["root"]):
        bad.append(("root_differs", "not what the closing checkpoint covers") if closing else ("not_sealed", "no head"))
    for many, kept, one in [(one["size"], one["root"], one) for one in (first, closing, *anchors) if one]:
        bad += [("not_covered", f"anchor of {many} leaves, which are before the range")] * (many < min(roots))
        bad += [("anchor_beyond", f"leaves {size} to {many - 1} are missing")] * (many > size)
        bad += [("anchor_differs", f"of {many} leaves")] * ((one["tenant"], roots.get(many, kept)) != (tenant, kept))
        if closing and (one["at"] < closing["at"] if many > size else one["at"] > closing["at"]):
            bad.append(("time_broken", f"the checkpoint of {many} leaves is of {one['at']}"))
    return bad, entries


def main(arguments: list[str]) -> int:
    kept = [place + 1 for place, word in enumerate(arguments) if word == "--anchor"]
    try:
        path, *pems = [Path(one) for at, one in enumerate(arguments) if at not in kept and one != "--anchor"]
        keys = [load_key(pem.read_text()) for pem in pems or [Path("no key")]]
        bad, entries = verify(path, keys, [checkpoint(Path(arguments[place]).read_bytes(), keys) for place in kept])
    except OSError as error:
        print(f"{error}\n{__doc__}", file=sys.stderr)
        return 3
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, tarfile.TarError) as error:
        bad, entries = [("malformed", str(error))], 0
    codes = {one for one, _ in bad} - {"not_covered"}
    code = 0 if not codes else 2 if codes <= MISSING else 1
    print(f"evidence: {('verified', 'FAILED (tampered)', 'FAILED (incomplete)')[code]}, {entries} entries")
    print("".join(f"  {where}: {one}\n" for one, where in sorted(bad, key=lambda one: one[0] in MISSING)[:20]), end="")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
