"""Which headers of a callback are kept: what proves it, and nothing that opens a door."""

from __future__ import annotations

import pytest

from zentra.gateway.doors.headers import HEADERS_MAX, REDACTED, VALUE_CHARACTERS_MAX, kept_headers
from zentra.runtime.rails.port import RailSettings, Trust

SETTINGS = RailSettings("bank", "providus", secret="static secret", secrets={"client": "client secret"})


# fmt: off
KEPT: list[tuple[str, str, Trust, str | None]] = [
        ("content-type",        "application/json",      "body_signed",   "application/json"),
        ("x-bank-signature",    "deadbeef",              "body_signed",   "deadbeef"),
        ("x-auth-signature",    "deadbeef",              "shared_secret", REDACTED),
        ("verif-hash",          "deadbeef",              "shared_secret", REDACTED),
        ("x-api-key",           "deadbeef",              "none",          REDACTED),
        ("x-request-id",        "deadbeef",              "shared_secret", "deadbeef"),
        ("x-odd",               "the static secret!",    "body_signed",   REDACTED),
        ("x-odd",               "the client secret!",    "none",          REDACTED),
        ("authorization",       "Bearer x",              "body_signed",   None),
        ("cookie",              "c",                     "body_signed",   None),
        ("x-zero",              "a\x00b",                "body_signed",   None),
        ("x" * 101,             "long name",             "body_signed",   None),
        ("x-long",              "v" * 5_000,             "body_signed",   "v" * VALUE_CHARACTERS_MAX),
]
# fmt: on


@pytest.mark.parametrize(("name", "value", "trust", "kept"), KEPT)
def test_a_header_is_kept_as_the_table_says(name: str, value: str, trust: Trust, kept: str | None) -> None:
    assert kept_headers({name: value}, SETTINGS, trust).get(name) == kept


def test_no_more_headers_are_kept_than_so_many() -> None:
    assert len(kept_headers({f"x-{n}": "v" for n in range(500)}, SETTINGS, "body_signed")) == HEADERS_MAX


def test_a_rail_without_a_secret_hides_nothing_by_it() -> None:
    assert kept_headers({"x-a": "b"}, RailSettings("bank", "sandbox"), "body_signed") == {"x-a": "b"}
