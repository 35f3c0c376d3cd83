"""Malformed HTTP requests: a seeded stream of them, every one broken by construction.

- What may change something (a POST) is broken in a way that no reader of JSON, of headers or of HTTP may take for
  sound; so any row that such a request leaves is a fault. What only reads (a GET) may be asked in odd ways.
- Sound requests come in between, and are known by their keys: they show that the gateway still works, and that its
  rows are counted.
- The same seed gives the same bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from msgspec import Struct

__all__ = ["KINDS", "SOUND", "Thrown", "requests"]

SOUND: Final = "sound"
SOUND_EVERY: Final = 200
_BODY_BYTES_MAX: Final = 256 * 1024
_POSTS: Final = (
    "/runtime/intents", "/transfers", "/payments", "/accounts", "/webhooks/endpoints", "/runtime/intents/x/cancel",
    "/runtime/intents/x/reversals", "/reviews/{uuid}/approve", "/reviews/{uuid}/reject", "/cases/{uuid}/resolve",
    "/reviews/claim", "/reviews/decisions", "/reviews/{uuid}/assign", "/reviews/{uuid}/comments",
    "/reviews/{uuid}/escalate", "/approvals", "/approvals/{uuid}/approve", "/approvals/{uuid}/cancel",
    "/webhooks/deliveries/{uuid}/replay", "/providers/sandbox_a/callbacks", "/providers/nobody/callbacks",
)  # fmt: skip
_GETS: Final = (
    "/runtime/intents/{id}", "/runtime/intents/{id}/evidence", "/runtime/commands/{id}", "/accounts/{id}",
    "/accounts/customer-1/entries", "/accounts/{id}/entries", "/reviews", "/reviews/{id}", "/cases", "/cases/{id}",
    "/reviews/counts", "/approvals", "/approvals/{id}",
    "/denials", "/webhooks/endpoints", "/webhooks/deliveries", "/problems/{id}", "/version", "/openapi.json", "/{id}",
)  # fmt: skip
_JUNK: Final = (
    "", " ", "\t", "-", "%", "%00", "%ff", "%2e%2e%2f", "..", "'", '"', "\\", "`id`", "${x}", "{}", "[]", "null", "-1",
    "0", "1e99", "NaN", "9" * 40, "x" * 300, "é", "\x7f", "\xff\xfe", "' or '1'='1", "<script>", "a=b&c=d", "00" * 16,
)  # fmt: skip
_ODD: Final[tuple[Any, ...]] = (
    True, False, 1.5, -1, 0, 2**63, 2**64, 10**30, "1e3", "1.0", "-5", "0x1", "", " ", "\x00", [], [1], {}, {"a": 1},
    "x" * 3_000, "٣", "1_000", "+1",
)  # fmt: skip
_TYPES: Final = (
    "", "text/plain", "text/json", "application/jsonx", "application/x-www-form-urlencoded", "application/xml", "*/*",
    "multipart/form-data; boundary=x", "application/json+x", "\xff", ",", ";", "json", "x" * 2_000,
)  # fmt: skip


class Thrown(Struct, frozen=True):
    """One request: its kind, its bytes, the key of a sound one, whether a connection of its own is needed, and whether
    an answer is due (a request that is cut off gets none)."""

    kind: str
    data: bytes
    key: str = ""
    alone: bool = False
    answered: bool = True


def requests(seed: int, count: int, token: str, run: str) -> Iterator[Thrown]:
    """Yield `count` requests that carry the API key `token`; `run` sets the ids of this run apart."""
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    throw = _Thrower(chance, token, run)
    kinds = list(KINDS.values())
    for number in range(count):
        yield throw.sound(number) if number % SOUND_EVERY == 0 else chance.choice(kinds)(throw, number)


class _Thrower:
    """Makes requests; everything random comes from `chance`."""

    def __init__(self, chance: random.Random, token: str, run: str) -> None:
        self.chance, self._token, self._run = chance, token, run

    def sound(self, number: int) -> Thrown:
        """A request that has to be taken."""
        key = f"{self._run}-sound-{number}"
        body = json.dumps(self.intent(number) | {"intent_id": key}).encode()
        return Thrown(SOUND, self.http("POST", "/runtime/intents", body, key=key), key=key)

    def intent(self, number: int) -> dict[str, Any]:
        """A sound intent."""
        return {
            "intent_id": f"{self._run}-{number}", "kind": "book_transfer", "amount": 1, "currency": "NGN",
            "source": "customer-1", "destination": "merchant-1", "metadata": {"a": "b:c", "d": "é"},
        }  # fmt: skip

    def path(self, paths: tuple[str, ...]) -> str:
        """One of the paths, with ids of somebody's or nobody's making."""
        junk = self.chance.choice(_JUNK)
        quoted = "".join(c if c.isascii() and c.isprintable() and c not in ' "#?' else "%C3" for c in junk)
        return self.chance.choice(paths).format(id=quoted or "-", uuid=f"{self.chance.getrandbits(128):032x}")

    def http(
        self, method: str, path: str, body: bytes | None = None, *, key: str | None = None, more: bytes = b"",
        content_type: str = "application/json", length: str | None = None,
    ) -> bytes:  # fmt: skip
        """The bytes of a request; without a `key` there is no header for one."""
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self._token}\r\n".encode("latin-1")
        if body is not None:
            head += f"content-type: {content_type}\r\ncontent-length: {length or len(body)}\r\n".encode("latin-1")
        if key is not None:
            head += f"x-idempotency-key: {key}\r\n".encode("latin-1")
        return head + more + b"\r\n" + (body or b"")

    def key(self, number: int) -> str:
        """A sound key for a request that is not."""
        return f"{self._run}-bad-{number}"

    def post(self, kind: str, number: int, body: bytes, path: str | None = None, **how: Any) -> Thrown:
        """A POST with a sound key."""
        return Thrown(kind, self.http("POST", path or self.path(_POSTS), body, key=self.key(number), **how))


def _broken_json(throw: _Thrower, number: int) -> Thrown:
    text = json.dumps(throw.intent(number), ensure_ascii=False).encode()
    chance = throw.chance
    match chance.randrange(8):
        case 0:
            body = text[: chance.randrange(len(text))]
        case 1:
            body = text + chance.choice((b"x", b"}", b"{}", b"\x00", b",", b"]"))
        case 2:  # every place in these bytes refuses a bare control character
            place = chance.randrange(1, len(text) - 1)
            body = text[:place] + bytes([chance.choice((0, 1, 7, 27))]) + text[place:]
        case 3:
            place = chance.randrange(len(text))
            body = text[:place] + bytes([chance.choice((0xC0, 0xF8, 0xFE, 0xFF))]) + text[place:]
        case 4:
            body = text.replace(b":", chance.choice((b";", b"=", b" ")), 1)
        case 5:
            body = chance.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"//\n", b"<", b")]}'\n")) + text
        case 6:
            body = text.replace(
                b'"amount": 1', b'"amount": ' + chance.choice((b"01", b"+1", b"1.", b".5", b"NaN", b"1e"))
            )
        case _:
            body = chance.randbytes(chance.randrange(1, 400)) + b"\xff"
    return throw.post("broken json", number, body)


def _mutated(throw: _Thrower, number: int) -> Thrown:
    intent, chance = throw.intent(number), throw.chance
    path = chance.choice(("/runtime/intents", "/transfers", "/payments"))
    match chance.randrange(5):
        case 0:
            intent.pop(chance.choice(("amount", "currency", "source", "destination")))
        case 1:
            intent[f"x{chance.choice(_JUNK)}"] = chance.choice(_ODD)
        case 2:
            intent[chance.choice(("currency", "source", "scope", "kind", "money_model"))] = chance.choice(_JUNK[:15])
            intent["amount"] = 0
        case 3:
            intent["metadata"] = chance.choice(({"a": 1}, {"é": "a"}, {"a": "x" * 513}, {"a": "\x00"}, [], "x", None))
        case _:
            text = json.dumps(intent)
            name = chance.choice(("amount", "source", "intent_id"))
            again = f', "{name}": {json.dumps(intent[name])}}}'
            return throw.post("mutated", number, (text[:-1] + again).encode(), path)
    return throw.post("mutated", number, json.dumps(intent).encode(), path)


def _wrong_type(throw: _Thrower, number: int) -> Thrown:
    intent, chance = throw.intent(number), throw.chance
    if chance.random() < 0.3:
        whole: Any = chance.choice((None, True, 5, "x", 1.5, [], [[]], [{}], [5] * 10))
        return throw.post("wrong type", number, json.dumps(whole).encode())
    intent["amount"] = chance.choice(_ODD)
    if chance.random() < 0.5:
        intent[chance.choice(("source", "destination", "currency"))] = chance.choice((1, None, [], {}, True, 1.5))
    return throw.post("wrong type", number, json.dumps(intent).encode(), "/runtime/intents")


def _nested_or_huge(throw: _Thrower, number: int) -> Thrown:
    chance = throw.chance
    match chance.randrange(5):
        case 0:
            deep = chance.randrange(9, 3_000)
            body = b"[" * deep + b"]" * deep
        case 1:
            deep = chance.randrange(9, 1_000)
            body = b'{"a":' * deep + b"1" + b"}" * deep
        case 2:
            body = b'{"amount":' + b"9" * chance.randrange(20, 10_000) + b"}"
        case 3:
            body = json.dumps({f"m{place}": place for place in range(chance.randrange(20, 2_000))}).encode()
        case _ if number % 16 == 0:
            body = b'{"a":"' + b"x" * _BODY_BYTES_MAX + b'"}'
        case _:
            body = b"[" * chance.randrange(9, 5_000)
    return throw.post("nested or huge", number, body)


def _content_type(throw: _Thrower, number: int) -> Thrown:
    body = json.dumps(throw.intent(number)).encode()
    return throw.post("content type", number, body, "/runtime/intents", content_type=throw.chance.choice(_TYPES))


def _key(throw: _Thrower, number: int) -> Thrown:
    chance, intent = throw.chance, throw.intent(number)
    good = throw.key(number)
    lines: list[str] = chance.choice((
        [], [""], [" "], ["a b"], ["x" * 256], ["x" * 5_000], ["\xe9"], ["a\x7f"], [good, good + "x"], ['"', "x"],
        [f'"{good}"', f'"{good}x"'], ["a\tb"], [good, ""], ["\xff" * 30],
    ))  # fmt: skip
    if chance.random() < 0.3:
        intent["idempotency_key"] = chance.choice(("", " ", "é", "x" * 256, 5, None, [good], "a\nb"))
        lines = [good]
    names = ("x-idempotency-key", "idempotency-key", "X-Idempotency-Key")
    more = "".join(f"{chance.choice(names)}: {line}\r\n" for line in lines).encode("latin-1")
    data = throw.http("POST", "/runtime/intents", json.dumps(intent).encode(), more=more)
    return Thrown("idempotency key", data)


def _headers(throw: _Thrower, number: int) -> Thrown:
    chance = throw.chance
    names = (
        "x-request-id", "traceparent", "tracestate", "prefer", "zentra-version", "accept", "if-none-match", "cookie",
        "authorization", "x-forwarded-for", "expect", "range", "host", "te", "nats-msg-id", "x" * 200,
    )  # fmt: skip
    lines = b""
    for _ in range(chance.randrange(1, 12)):
        value = chance.choice(
            (*_JUNK, "x" * 4_000, "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "wait=99999", "bearer x")
        )
        value = value.replace("\x00", "")
        lines += f"{chance.choice(names)}: {value}\r\n".encode("latin-1", "replace")
    if chance.random() < 0.5:
        return Thrown("headers", throw.http("GET", throw.path(_GETS), more=lines))
    return throw.post("headers", number, b'{"amount": 1.5}', more=lines)


def _stranger(throw: _Thrower, number: int) -> Thrown:
    chance = throw.chance
    tokens = ("", "zk_test_x", "zk_live_" + "x" * 50, "x" * 3_000, "\xff", "null", "eyJhbGciOiJub25lIn0.e30.")
    token = chance.choice(tokens)
    scheme = chance.choice(("Bearer ", "bearer", "Basic ", "", "Digest ", "Bearer  Bearer "))
    body = json.dumps(throw.intent(number)).encode()
    head = f"POST /runtime/intents HTTP/1.1\r\nhost: x\r\nauthorization: {scheme}{token}\r\n".encode("latin-1")
    head += f"content-type: application/json\r\nx-idempotency-key: {throw.key(number)}\r\n".encode()
    return Thrown("stranger", head + b"content-length: %d\r\n\r\n" % len(body) + body)


def _path_or_query(throw: _Thrower, number: int) -> Thrown:
    chance = throw.chance
    path = throw.path(_GETS)
    if chance.random() < 0.2:
        path = "/" + "/".join("x" for _ in range(chance.randrange(1, 400)))
    names = ("limit", "cursor", "status", "endpoint", "intent", "x", "")
    values = (
        "0",
        "-1",
        "101",
        "x",
        "01005",
        "%00",
        "%ff%fe",
        "'",
        "%",
        "9" * 30,
        "WyJhIiwxLDJd",
        "open",
        "%F0%9F%92%A9",
    )
    pairs = [f"{chance.choice(names)}={chance.choice(values)}" for _ in range(chance.choice((0, 1, 2, 3, 40)))]
    method = chance.choice(("GET", "GET", "GET", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"))
    return Thrown("path or query", throw.http(method, f"{path}?{'&'.join(pairs)}"))


def _wire(throw: _Thrower, number: int) -> Thrown:
    chance, post = throw.chance, throw.http
    body = json.dumps(throw.intent(number)).encode()
    key = throw.key(number)
    start = post("POST", "/runtime/intents", key=key)[:-2] + b"content-type: application/json\r\n"
    chunked = start + b"transfer-encoding: chunked\r\n\r\n"
    answered = True
    match chance.randrange(14):
        case 0:
            data = chunked + b"zz\r\n" + body
        case 1:
            data = chunked + b"ffffffffffffffffff\r\n" + body
        case 2:
            data = chunked + b"%x\r\n" % (len(body) - 5) + body + b"\r\n0\r\n\r\n"
        case 3:
            data, answered = chunked + b"%x\r\n" % (len(body) + 50) + body, False
        case 4:
            data = start + b"content-length: -5\r\n\r\n" + body
        case 5:
            data = start + b"content-length: 5\r\ncontent-length: 6\r\n\r\n" + body
        case 6:
            data = start + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n"
        case 7:
            data, answered = start + b"content-length: %d\r\n\r\n" % (len(body) + 9) + body, False
        case 8:
            data = chance.randbytes(chance.randrange(1, 600)) + b"\r\n\r\n"
        case 9:
            data = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        case 10:
            data = (
                start.replace(b"HTTP/1.1", chance.choice((b"HTTP/9.9", b"HTTP/1", b"", b"http/1.1"))) + b"\r\n" + body
            )
        case 11:
            data, answered = start[: chance.randrange(1, len(start))], False
        case 12:
            data = start + b"x" * 200 + b"\r\n\x00: 1\r\n" + b"\r\n" + body
        case _:
            data = start + b" folded\r\n\tmore\r\nna me: x\r\ncontent-length: 3\r\n\r\n{}x"
    return Thrown("wire", data, alone=True, answered=answered)


KINDS: Final[dict[str, Callable[[_Thrower, int], Thrown]]] = {
    "broken json": _broken_json, "mutated": _mutated, "wrong type": _wrong_type, "nested or huge": _nested_or_huge,
    "content type": _content_type, "idempotency key": _key, "headers": _headers, "stranger": _stranger,
    "path or query": _path_or_query, "wire": _wire,
}  # fmt: skip
