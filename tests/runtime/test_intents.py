"""Requests for intents: every violation at once, and a digest that is the meaning and nothing else."""

from typing import Any, Final

import msgspec
import pytest

from zentra.runtime.evidence import canonical
from zentra.runtime.intents import command as module
from zentra.runtime.intents.command import IntentCommand, decode_command, digest_of, parse_intent
from zentra.runtime.intents.vocabulary import IntentKind

GOOD: Final[dict[str, Any]] = {"amount": 125000, "currency": "NGN", "source": "customer", "destination": "merchant"}


def _with(**changes: Any) -> dict[str, Any]:
    """A good body with changes; a field set to ... is left out."""
    return {name: value for name, value in {**GOOD, **changes}.items() if value is not ...}


def _command(**changes: Any) -> IntentCommand:
    command, _, violations = parse_intent(_with(**changes))
    assert command is not None, violations
    return command


# fmt: off
BAD: list[tuple[Any, list[tuple[str, str]]]] = [
    (None,                                   [("", "body_not_object")]),
    ([],                                     [("", "body_not_object")]),
    ("x",                                    [("", "body_not_object")]),
    ({},                                     [("/amount", "field_missing"), ("/currency", "field_missing"),
                                              ("/source", "field_missing"), ("/destination", "field_missing")]),
    (_with(colour="red"),                    [("/colour", "field_unknown")]),
    (_with(**{"a/b~c": 1}),                  [("/a~1b~0c", "field_unknown")]),
    (_with(amount=...),                      [("/amount", "field_missing")]),
    (_with(amount=0),                        [("/amount", "amount_zero")]),
    (_with(amount=-5),                       [("/amount", "amount_negative")]),
    (_with(amount=2**63),                    [("/amount", "amount_overflow")]),
    (_with(amount="9" * 30),                 [("/amount", "amount_overflow")]),
    (_with(amount=True),                     [("/amount", "amount_invalid")]),
    (_with(amount=1.0),                      [("/amount", "amount_invalid")]),
    (_with(amount=float("nan")),             [("/amount", "amount_invalid")]),
    (_with(amount="1e3"),                    [("/amount", "amount_invalid")]),
    (_with(amount="1.00"),                   [("/amount", "amount_invalid")]),
    (_with(amount=None),                     [("/amount", "amount_invalid")]),
    (_with(amount={"minor": 1}),             [("/amount", "amount_invalid")]),
    (_with(currency="ngn"),                  [("/currency", "currency_unknown")]),
    (_with(currency="XXX"),                  [("/currency", "currency_unknown")]),
    (_with(currency=5),                      [("/currency", "field_type")]),
    (_with(kind="loan"),                     [("/kind", "kind_unknown")]),
    (_with(source=""),                       [("/source", "id_malformed")]),
    (_with(source="a b"),                    [("/source", "id_malformed")]),
    (_with(source="a\n"),                    [("/source", "id_malformed")]),
    (_with(source="@settlement/NGN"),        [("/source", "id_malformed")]),
    (_with(destination="x" * 129),           [("/destination", "id_malformed")]),
    (_with(destination=None),                [("/destination", "field_type")]),
    (_with(intent_id="-x"),                  [("/intent_id", "id_malformed")]),
    (_with(intent_id=None),                  [("/intent_id", "field_type")]),
    (_with(scope="UPPER"),                   [("/scope", "scope_malformed")]),
    (_with(country="ng"),                    [("/country", "country_malformed")]),
    (_with(country="NGA"),                   [("/country", "country_malformed")]),
    (_with(money_model="floats"),            [("/money_model", "money_model_unknown")]),
    (_with(primitives=["policy", "magic"]),  [("/primitives/1", "primitive_unknown")]),
    (_with(primitives="policy"),             [("/primitives", "field_type")]),
    (_with(metadata={"a": 1}),               [("/metadata", "field_type")]),
    (_with(metadata={"é": "x"}),             [("/metadata/é", "metadata_malformed")]),
    (_with(metadata={"a": "\0"}),            [("/metadata/a", "metadata_malformed")]),
    (_with(metadata={"\0": "a"}),            [("/metadata/\0", "metadata_malformed")]),
    (_with(metadata={"a/b": "x" * 513}),     [("/metadata/a~1b", "metadata_malformed")]),
    (_with(metadata={str(n): "" for n in range(33)}), [("/metadata", "metadata_too_large")]),
    (_with(idempotency_key=""),              [("/idempotency_key", "idempotency_key_malformed")]),
    (_with(idempotency_key="a b"),           [("/idempotency_key", "idempotency_key_malformed")]),
    (_with(idempotency_key="k" * 256),       [("/idempotency_key", "idempotency_key_malformed")]),
    ({"x": 1, "amount": 0.5, "currency": "??", "source": 7, "scope": "A"},
                                             [("/x", "field_unknown"), ("/source", "field_type"),
                                              ("/destination", "field_missing"), ("/amount", "amount_invalid"),
                                              ("/currency", "currency_unknown"), ("/scope", "scope_malformed")]),
]
# fmt: on


@pytest.mark.parametrize(("body", "expected"), BAD)
def test_every_violation_is_named_at_once(body: Any, expected: list[tuple[str, str]]) -> None:
    command, _, violations = parse_intent(body)
    assert command is None
    assert [(violation.pointer, violation.code) for violation in violations] == expected
    assert all(violation.detail for violation in violations)


@pytest.mark.parametrize(
    "body", [b"1e3", b"1E3", b"1.0", b"true", b"null", b'"NaN"', b'"1e3"', b'" 1"', b"12345678901234567890.0"]
)
def test_an_amount_on_the_wire_is_an_integer_or_a_string_of_digits(body: bytes) -> None:
    decoded = msgspec.json.decode(b'{"amount":' + body + b',"currency":"NGN","source":"a","destination":"b"}')
    _, _, violations = parse_intent(decoded)
    assert [(violation.pointer, violation.code) for violation in violations] == [("/amount", "amount_invalid")]


def test_the_longest_and_the_shortest_of_everything_is_taken() -> None:
    command, key, violations = parse_intent(
        _with(
            amount=2**63 - 1, source="s", destination="d" * 128, intent_id="i" * 128, scope="s" * 64, country="NG",
            primitives=[], metadata={str(n): "x" * 512 for n in range(32)}, idempotency_key="k" * 255,
        )
    )  # fmt: skip
    assert violations == []
    assert command is not None
    assert (command.amount, command.primitives, key) == (2**63 - 1, (), "k" * 255)


def test_what_is_left_out_has_the_documented_default() -> None:
    command, key, _ = parse_intent(GOOD)
    assert command == IntentCommand(
        kind=IntentKind.TRANSFER, minor="125000", currency="NGN", source="customer", destination="merchant"
    )
    assert key is None


# fmt: off
DOORS: list[tuple[dict[str, Any], set[str] | None, str]] = [
    ({},                        None,                        "transfer"),
    ({"kind": "book_transfer"}, None,                        "book_transfer"),
    ({},                        {"payment"},                 "payment"),       # the door says it
    ({"kind": "payment"},       {"payment"},                 "payment"),
    ({"kind": "transfer"},      {"payment"},                 "kind_unknown"),
    ({},                        {"transfer", "payment"},     "transfer"),
    ({},                        {"payment", "book_transfer"}, "kind_unknown"),  # the default is not among them
]
# fmt: on


@pytest.mark.parametrize(("fields", "kinds", "outcome"), DOORS)
def test_a_door_takes_its_own_kinds(fields: dict[str, Any], kinds: set[str] | None, outcome: str) -> None:
    command, _, violations = parse_intent(_with(**fields), None if kinds is None else frozenset(kinds))
    assert outcome == (command.kind if command else violations[0].code)


SAME: list[dict[str, Any]] = [
    dict(reversed(list(GOOD.items()))),
    _with(amount="125000"),
    _with(amount="000125000"),
    _with(kind="transfer"),
    _with(scope="default", country=None, metadata={}),
    _with(primitives=["events", "ledger", "policy", "policy"]),
    _with(idempotency_key="another"),
    msgspec.json.decode(b'{ "source" : "customer",\n"destination":"merchant", "currency":"NGN","amount" : 125000 }'),
]
OTHER: list[dict[str, Any]] = [
    _with(amount=125001),
    _with(currency="USD"),
    _with(source="customer2"),
    _with(destination="merchant2"),
    _with(kind="payment"),
    _with(scope="lagos"),
    _with(country="NG"),
    _with(intent_id="pay-1"),
    _with(primitives=["policy"]),
    _with(metadata={"a": "b"}),
    _with(metadata={"a": "c"}),
]


@pytest.mark.parametrize("body", SAME)
def test_the_same_request_in_other_words_has_the_same_digest(body: dict[str, Any]) -> None:
    command, _, _ = parse_intent(body)
    assert command is not None
    assert digest_of("intent", command) == digest_of("intent", _command())


def test_any_changed_field_changes_the_digest_and_so_does_the_type_of_command() -> None:
    digests = {digest_of("intent", _command())} | {digest_of("reversal", _command())}
    for body in OTHER:
        command, _, violations = parse_intent(body)
        assert command is not None, violations
        digests.add(digest_of("intent", command))
    assert len(digests) == len(OTHER) + 2


@pytest.mark.parametrize("body", [GOOD, *OTHER])
def test_a_command_survives_its_canonical_bytes(body: dict[str, Any]) -> None:
    command, _, _ = parse_intent(body)
    assert command is not None
    assert decode_command(canonical.encode(command)) == command
    assert canonical.objection(msgspec.to_builtins(command)) is None


def test_parsing_leaves_the_body_alone() -> None:
    body = _with(kind=...)
    parse_intent(body, frozenset({"payment"}))
    assert body == GOOD


EVERY: list[Any] = [
    GOOD, *SAME, *OTHER, *[body for body, _ in BAD],
    _with(metadata={"a": "b", "c": ""}), _with(intent_id="pay-1", idempotency_key="k", primitives=["ledger"]),
    _with(metadata={"a": "\x00"}), _with(country=""), _with(primitives=None), _with(idempotency_key=None),
]  # fmt: skip


@pytest.mark.parametrize("kinds", [None, frozenset({"payment"}), frozenset({"transfer", "payment"})])
@pytest.mark.parametrize("number", range(len(EVERY)))
def test_a_body_read_in_one_go_gives_what_it_gives_field_by_field(
    number: int, kinds: frozenset[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = parse_intent(EVERY[number], kinds)
    monkeypatch.setattr(module, "_flawless", lambda body, kinds: None)
    assert parse_intent(EVERY[number], kinds) == at_once
