"""The outcome vocabulary and the reading of amounts."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from zentra.runtime.rails.port import (
    CallbackCode,
    CallbackRejected,
    OutcomeStatus,
    RailOutcome,
    minor_from_text,
    raw_digest,
)


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("0", 0),
        ("125000", 125_000),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("99999999999999999999", None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.0", None),
        ("1e3", None),
        ("1_000", None),
        (" 1", None),
        ("1\n", None),
        ("١٢", None),
        (125_000, None),
        (True, None),
        (None, None),
    ],
)
def test_an_amount_is_a_string_of_digits_that_fits_the_ledger(text: object, minor: int | None) -> None:
    assert minor_from_text(text) == minor


@pytest.mark.parametrize(
    ("status", "final"),
    [
        (OutcomeStatus.PENDING, False),
        (OutcomeStatus.SUCCEEDED, True),
        (OutcomeStatus.DECLINED, True),
        (OutcomeStatus.NOT_ACCEPTED, True),
        (OutcomeStatus.UNKNOWN, False),
        (OutcomeStatus.NOT_FOUND, False),
    ],
)
def test_only_a_final_outcome_ends_the_wait(status: OutcomeStatus, final: bool) -> None:
    assert status.final is final


def test_an_outcome_survives_the_frame_it_travels_in() -> None:
    outcome = RailOutcome("sandbox", "ref", OutcomeStatus.SUCCEEDED, 5, "NGN", "p-1", "e-1", None, "body_signed", "ab")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(outcome), type=RailOutcome) == outcome


def test_a_refused_callback_names_its_rail_and_its_reason() -> None:
    error = CallbackRejected("sandbox", CallbackCode.SIGNATURE_INVALID)
    assert (error.rail, error.reason, error.code) == ("sandbox", "signature_invalid", "callback_rejected")
    assert str(error) == "signature_invalid: a callback of rail sandbox"


def test_raw_bytes_are_kept_under_their_sha256() -> None:
    assert raw_digest(b"raw") == hashlib.sha256(b"raw").hexdigest()
