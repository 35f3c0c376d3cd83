"""Verify a bundle of Zentra evidence with Python's standard library alone (3.10 or later).

    python3 verify.py BUNDLE.tar PUB.pem [PUB.pem ...] [--anchor CHECKPOINT]...

Exit codes: 0 verified, 1 tampered, 2 incomplete (nothing contradicts itself, but something is missing), 3 wrong usage.
Get keys and checkpoints by another way than the bundle. RFC 8032, RFC 6962, DSSE 1.0.0, C2SP signed notes.
"""

# fmt: off
import base64
import hashlib
import json
import re
import sys
import tarfile
from functools import reduce
from pathlib import Path
from typing import Any

__all__ = ["PEM", "grow", "main", "root", "signature_holds", "verify"]
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, BASE = -121665 * pow(121666, -1, P) % P, (4 * pow(5, -1, P) % P).to_bytes(32, "little")
OWN, ENDS = ("manifest.json", "manifest.sig.json"), ("checkpoints/opening.txt", "checkpoints/closing.txt")
FILES = {"README.txt", "keys.json", "proofs.json", "verify.py", *OWN, *ENDS}
KINDS, NEWER = ("denials", "earlier", "entries", "exports", "leaves"), {"keys", "open"}
MEMBERS = {"counts", "files", "first", "format", "settled_until", "since", "size", "tenant", "types", "until"}
TYPE, FORMAT = b"application/vnd.zentra.evidence-manifest+json", "zentra.evidence-bundle/1"
MISSING = {"not_sealed", "anchor_beyond", "beginning_missing"}  # nothing contradicts itself
PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----\s+MCowBQYDK2VwAyEA([A-Za-z0-9+/]{43}=)\s+-----END PUBLIC KEY-----")
NOTE = re.compile(r"zentra\.evidence/(?P<tenant>.+)\n(?P<size>0|[1-9]\d{0,15})\n(?P<root>.+)\nat (?P<at>.+)\n")

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
def canonical(data: bytes) -> Any:  # RFC 8785, without floats and wide integers
    value = json.loads(data, parse_constant=str, parse_float=str, parse_int=lambda n: n if int(n) >> 53 else int(n))
    if json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode() != data:
        raise ValueError("not canonical JSON")
    return value
def grow(nodes: list[bytes], size: int, data: bytes) -> None:  # RFC 6962, 2.1: complete subtrees, the largest first
    node, rest = sha(b"\0", data), size
    while rest & 1:
        node, rest = sha(b"\1", nodes.pop(), node), rest >> 1
    nodes.append(node)
def root(nodes: list[bytes]) -> bytes:
    return reduce(lambda right, left: sha(b"\1", left, right), nodes[::-1]) if nodes else sha()
def checkpoint(data: bytes, keys: list[bytes]) -> dict[str, Any]:  # the head in a note that a given key has signed
    (text, _, lines), mine = data.decode().rpartition("\n\n"), []
    found = NOTE.fullmatch(text + "\n")
    for dash, name, signature in (line.split(" ") for line in lines.splitlines()):
        raw = base64.b64decode(signature, validate=True)
        ours = [key for key in keys if raw[:4] == sha(name.encode(), b"\n\1", key)[:4] and text.startswith(name + "\n")]
        mine += [dash == "\N{EM DASH}" and signature_holds(key, text.encode() + b"\n", raw[4:]) for key in ours]
    if found is None or not mine or not all(mine) or not lines.endswith("\n"):
        raise ValueError("not a checkpoint that a given key has signed")
    return {**found.groupdict(), "size": int(found["size"]), "root": base64.b64decode(found["root"], validate=True)}
def kept_heads(data: bytes, keys: list[bytes]) -> list[dict[str, Any]]:  # a note, or a file of anchors, line by line
    many = data.startswith(b'{"at":')  # a line that was cut off keeps nothing
    notes = [json.loads(line)["checkpoint"].encode() for line in data.split(b"\n") if b"}" in line] if many else [data]
    return [checkpoint(one, keys) | ({"many": ""} if many else {}) for one in notes]
def manifest_of(files: dict[str, bytes], names: list[str], keys: list[bytes], bad: Any) -> dict[str, Any]:
    data, envelope = files[OWN[0]], canonical(files[OWN[1]])
    message = b"DSSEv1 %d %b %d %b" % (len(TYPE), TYPE, len(data), data)
    signed = [{"keyid": one["keyid"], "sig": one["sig"]} for one in envelope["signatures"]]
    own, raws = {"payload": "", "payloadType": TYPE.decode(), "signatures": signed}, [one["sig"] for one in signed]
    if own != envelope or not any(signature_holds(k, message, base64.urlsafe_b64decode(s)) for k in keys for s in raws):
        raise ValueError("no given key has signed the manifest")
    manifest: dict[str, Any] = canonical(data)
    named = {file["name"]: (file["bytes"], file["sha256"]) for file in manifest["files"] if len(file) == 3}
    parts = {f"{kind}/{n + 1:05d}.jsonl" for kind in KINDS for n in range(sum(one.startswith(kind) for one in names))}
    good = {*named, *OWN} & {*parts, *FILES}
    bad += [("file_unexpected", n) for n in sorted({*names, *named}) if names.count(n) != 1 or n not in good]
    bad += [("file_missing", "leaves or entries")] * (sum((n[:1] == "l") - (n[:2] == "en") for n in names) != 0)
    bad += [("file_differs", n) for n, it in named.items() if (len(o := files.get(n, b"")), sha(o).hex()) != it]
    bad += [("line_malformed", name) for name in parts if files.get(name, b"")[-1:] not in (b"", b"\n")]
    bad += [("manifest_malformed", OWN[0])] * ((manifest["format"], set(manifest) - NEWER) != (FORMAT, MEMBERS))
    return manifest
def records(sealed: dict[str, Any], line: dict[str, Any], rows: list[bytes], bad: Any, seals: Any) -> None:
    hashes, after, who = line["hashes"], line["after"], (sealed["tenant"], sealed["intent"])
    sequence, link, at = sealed["records"] - len(hashes), bytes.fromhex(after) or bytes(32), ""
    state, before, leaf = "?" if sequence else None, seals.get(who[1]), f"leaf {line['index']}, intent {who[1]}"
    seals[who[1]] = sealed["records"], sealed["chain"], bool(hashes)
    if before:
        goes_on = (sequence, after) == before[:2] if hashes else sequence > before[0]
        bad += [("records_missing", f"{leaf}, before it")] * (not goes_on or not after or bool(hashes) != before[2])
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
def verify(path: Path, keys: list[bytes], anchors: list[dict[str, Any]]) -> tuple[list[tuple[str, str]], list[str]]:
    bad, early = list[tuple[str, str]](), dict[str, Any]()
    with path.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as archive:
        files = {one.name: file.read() for one in archive if one.isreg() and (file := archive.extractfile(one))}
        manifest = manifest_of(files, archive.getnames(), keys, bad)
        bad += [("file_unexpected", "bytes behind the end")] * any(raw.read() if raw.seek(archive.offset) else b"x")
    first, closing = (checkpoint(files[name], keys) if name in files else None for name in ENDS)
    tenant, nodes = manifest["tenant"], [bytes.fromhex(one) for one in json.loads(files["proofs.json"])["frontier"]]
    heads = [one for one in (first, closing, *anchors) if one and (one["tenant"] == tenant or "many" not in one)]
    heads.sort(key=lambda one: (one["tenant"], one["size"], one["at"]))  # two that contradict each other are the proof
    for one, two in zip(heads, heads[1:]):  # noqa: B905, RUF007
        fine = one["root"] == two["root"] if one["size"] == two["size"] else one["at"] <= two["at"]
        wrong = one["tenant"] == two["tenant"] and not fine
        bad += [("heads_contradict", f"those of {one['size']} and {two['size']} leaves")] * wrong
    if bad:
        return bad, []
    size, opening = (first["size"], first["root"]) if first else (0, sha())
    bad += [("root_differs", "opening checkpoint")] * (len(nodes) != bin(size).count("1") or root(nodes) != opening)
    lines = {name: files[name].split(b"\n")[:-1] for name in sorted(files) if name.endswith(".jsonl")}
    earlier = [json.loads(row) for name in lines if name.startswith("earlier") for row in lines[name]]
    for line in earlier:  # what addenda follow from before the range: RFC 9162, 2.1.3.2
        sealed, place, last, node = json.loads(line["data"]), line["index"], size - 1, sha(b"\0", line["data"].encode())
        fits = len(line) == 3 and 0 <= place <= last and sealed["tenant"] == tenant and sealed["intent"] not in early
        for sibling in map(bytes.fromhex, line["proof"]):
            while place == last and last and not place & 1:
                place, last = place >> 1, last >> 1
            node = sha(b"\1", sibling, node) if place & 1 else sha(b"\1", node, sibling)
            place, last = place >> 1, last >> 1
        bad += [("proof_invalid", f"earlier {line['index']}")] * (not fits or (last, node) != (0, opening))
        early[sealed["intent"]] = sealed["records"], sealed["chain"], True
    roots, left, sizes = {size: opening}, 0, {one["size"] for one in heads}
    seals = {**early, **({} if size else {"": (0, "", True)})}
    for name in (name for name in lines if name.startswith("leaves")):
        rows, place = lines[name.replace("leaves", "entries")], 0
        for line in map(json.loads, lines[name]):
            sealed, count, index = json.loads(line["data"]), len(line["hashes"]), line["index"]
            fits = (index, sealed["tenant"], len(line)) == (size, tenant, 4) and (sealed["kind"] == "addendum") is (
                line["after"] != "") and (count or manifest["types"] is not None)
            bad += [("leaf_differs", f"leaf {size}")] * (not fits)
            grow(nodes, size, line["data"].encode())
            records(sealed, line, rows[place : place + count], bad, seals)
            place, left, size = place + count, left + (not count), size + 1
            roots |= {size: root(nodes)} if size in sizes else {}
        bad += [("records_unsealed", name)] * (place != len(rows))
    bad += [("leaf_unexpected", f"earlier leaf, intent {who}") for who, seal in early.items() if seals[who] is seal]
    if closing is None or (size, root(nodes)) != (closing["size"], closing["root"]):
        bad.append(("root_differs", "not what the closing checkpoint covers") if closing else ("not_sealed", "no head"))
    plain = [canonical(row) for name in lines if name[:7] in ("denials", "exports") for row in lines[name]]
    counts = {one: sum(len(lines[name]) for name in lines if name.startswith(one)) for one in KINDS if one != "earlier"}
    found = manifest | {"counts": counts, "first": min(roots), "size": closing["size"] if closing else 0}
    fits = json.dumps(found) == json.dumps(manifest) and all(type(row) is dict for row in plain)
    bad += [("counts_differ", OWN[0])] * (not fits)
    for many, kept, whose in [(one["size"], one["root"], one["tenant"]) for one in heads]:
        bad += [("not_covered", f"anchor of {many} leaves, which are before the range")] * (many < min(roots))
        bad += [("anchor_beyond", f"leaves {size} to {many - 1} are missing")] * (many > size)
        bad += [("anchor_differs", f"of {many} leaves")] * ((whose, roots.get(many, kept)) != (tenant, kept))
    told = [f"{counts['entries']} entries"] + [f"not shown: {left} leaves left out by filter"] * bool(left)
    return bad, [*told, f"not sealed: {manifest.get('open', 'unknown number of')} intents"]
def main(arguments: list[str]) -> int:
    kept, wrong = [n + 1 for n, one in enumerate(arguments) if one == "--anchor"], (ValueError, LookupError, TypeError)
    try:
        path, *pems = [Path(one) for at, one in enumerate(arguments) if at not in kept and one != "--anchor"]
        found = [PEM.findall(pem.read_bytes()) for pem in pems]
        keys = [base64.b64decode(key) for keys in found for key in keys]
        anchors = [head for place in kept for head in kept_heads(Path(arguments[place]).read_bytes(), keys)]
        if not keys or not all(found) or path.read_bytes()[257:262] not in (b"ustar", bytes(5)):
            raise ValueError("no bundle, or no Ed25519 public key in PEM")
    except (OSError, *wrong) as error:
        print(f"{error}\n{__doc__}", file=sys.stderr)
        return 3
    try:
        bad, told = verify(path, keys, anchors)
    except (*wrong, OSError, AttributeError, RecursionError, tarfile.TarError) as error:
        bad, told = [("malformed", str(error))], []
    codes = {one for one, _ in bad} - {"not_covered"}
    code = 2 if codes and codes <= MISSING else min(len(codes), 1)
    told += [f"{where}: {one}" for one, where in sorted(bad, key=lambda one: one[0] in MISSING)[:20]]
    print("evidence:", ("verified", "FAILED (tampered)", "FAILED (incomplete)")[code])
    for line in told:
        print(" ", "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line))
    return code
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
