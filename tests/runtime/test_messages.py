"""Messages: what is written is read again, and bytes that hold no message are refused."""

from __future__ import annotations

import msgspec
import pytest

from zentra.runtime.messages import Load, decode_load, encode_load


@pytest.mark.parametrize("load", [Load("worker-1", 0), Load("wörker 2.example.org", 1_000_000)])
def test_a_load_report_is_read_as_it_was_written(load: Load) -> None:
    assert decode_load(encode_load(load)) == load


def test_a_report_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert decode_load(msgspec.msgpack.encode(["w", 3, "news"])) == Load("w", 3)


@pytest.mark.parametrize("data", [b"", b"\xc1", msgspec.msgpack.encode(["w"]), msgspec.msgpack.encode(["w", "many"])])
def test_bytes_that_hold_no_report_are_refused(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_load(data)
