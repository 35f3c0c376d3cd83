"""Subjects: builders and parsers are each other's inverse, and refuse everything else."""

from __future__ import annotations

import pytest

from zentra.runtime.subjects import (
    COMMAND_SUBJECTS,
    DEAD_SUBJECTS,
    EVENT_SUBJECTS,
    LOAD_SUBJECTS,
    command_filters,
    command_subject,
    dead_subject,
    event_filter,
    event_subject,
    load_subject,
    parse_command_subject,
    parse_dead_subject,
    parse_event_subject,
)


def test_a_command_subject_names_partition_and_stage() -> None:
    assert command_subject(7, "ledger") == "zc.7.ledger"
    assert parse_command_subject("zc.7.ledger") == (7, "ledger")


def test_an_event_subject_spells_the_topic_as_one_token() -> None:
    assert event_subject(0, "acme", "intent.succeeded") == "ze.0.acme.intent-succeeded"
    assert parse_event_subject("ze.0.acme.intent-succeeded") == (0, "acme", "intent-succeeded")


def test_a_dead_letter_subject_names_reason_and_partition() -> None:
    assert dead_subject("undecodable", 63) == "zd.undecodable.63"
    assert parse_dead_subject("zd.undecodable.63") == ("undecodable", 63)


@pytest.mark.parametrize("token", ["", "a.b", "a b", "*", ">", "a\r\nPUB x 0"])
def test_nothing_but_one_token_fits_into_a_subject(token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        command_subject(1, token)
    with pytest.raises(ValueError, match="token"):
        dead_subject(token, 1)
    with pytest.raises(ValueError, match="token"):
        event_subject(1, token, "topic")


@pytest.mark.parametrize(
    "subject",
    ["zc.1", "zc.1.policy.x", "zc.x.policy", "zc.-1.policy", "zc.01.policy", "zc.1.", "ze.1.policy", "zc.²2.policy"],
)
def test_no_other_subject_is_a_command(subject: str) -> None:
    with pytest.raises(ValueError, match=r"subject|partition|token"):
        parse_command_subject(subject)


@pytest.mark.parametrize("subject", ["ze.1.acme", "zc.1.acme.topic", "ze.x.acme.topic", "ze.1.acme.a.b"])
def test_no_other_subject_is_an_event(subject: str) -> None:
    with pytest.raises(ValueError, match=r"subject|partition"):
        parse_event_subject(subject)


@pytest.mark.parametrize("subject", ["zd.reason", "zd.reason.x", "zd.1.2.3", "zc.reason.1"])
def test_no_other_subject_is_a_dead_letter(subject: str) -> None:
    with pytest.raises(ValueError, match=r"subject|partition"):
        parse_dead_subject(subject)


def test_a_consumer_filters_what_is_owned_and_never_everything_by_accident() -> None:
    assert command_filters(frozenset({3, 1}), 64) == ["zc.1.*", "zc.3.*"]
    assert command_filters(frozenset(range(4)), 4) == ["zc.>"]
    with pytest.raises(ValueError, match="at least one"):
        command_filters(frozenset(), 4)


def test_events_are_filtered_by_tenant() -> None:
    assert event_filter() == "ze.>"
    assert event_filter("acme") == "ze.*.acme.*"


@pytest.mark.parametrize(
    ("worker", "subject"),
    [("worker-1", "zl.worker-1"), ("w.example.org", "zl.w-example-org"), ("a b>*", "zl.a-b-"), ("", "zl.-")],
)
def test_a_load_report_has_one_subject_per_worker_whatever_its_name(worker: str, subject: str) -> None:
    assert load_subject(worker) == subject


def test_no_stream_keeps_load_reports() -> None:
    head = LOAD_SUBJECTS.partition(".")[0]
    assert head == load_subject("w").partition(".")[0]
    assert head not in {kept.partition(".")[0] for kept in (COMMAND_SUBJECTS, EVENT_SUBJECTS, DEAD_SUBJECTS)}
