"""Logs: one object per line, facts as fields, and no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from zentra.gateway import logs
from zentra.gateway.settings import Settings, SettingsError
from zentra.runtime.keys import RANDOM_BYTES, make_key

KEY_ID, KEY = make_key(bytes(range(RANDOM_BYTES)))
PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n-----END PRIVATE KEY-----"

TEXTS = (
    ("nothing secret here", "nothing secret here"),
    (f"key {KEY} was sent", f"key zk_test_{KEY_ID}_*** was sent"),
    ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw failed", "whsec_*** failed"),
    ("postgresql://writer:pa%40ss@db:5432/zentra", "postgresql://writer:***@db:5432/zentra"),
    ("postgresql://writer:p@ss:w/rd@db/zentra", "postgresql://writer:***@db/zentra"),
    ("redis://:hidden@cache:6379/0 is away", "redis://:***@cache:6379/0 is away"),
    ("http://127.0.0.1:8080/readyz", "http://127.0.0.1:8080/readyz"),
    (f"loaded {PEM} now", "loaded *** now"),
    ("token eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJkZXYifQ.c2ln-_x was refused", "token *** was refused"),
    ("authorization: Bearer abcdefgh12345678==", "authorization: Bearer ***"),
    ("a bearer of news", "a bearer of news"),
    (
        "DETAIL:  Key (tenant, account_id)=(acme, 0123456789) already exists.",
        "DETAIL:  Key (tenant, account_id)=(***) already exists.",
    ),
    ("DETAIL:  Failing row contains (7, acme, 0123456789, Ada (Ltd)).", "DETAIL:  Failing row contains (***)."),
)


@pytest.fixture
def restored() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in ("asyncio", "aiohttp", "nats", "uvicorn")}
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def written(settings: Settings, *, fields: dict[str, Any], error: Exception | None = None) -> str:
    stream = io.StringIO()
    logs.configure(settings, stream)
    logging.getLogger("zentra.test").warning("something happened", extra=fields, exc_info=error)
    return stream.getvalue()


@pytest.mark.parametrize(("text", "shown"), TEXTS)
def test_secrets_are_cut_out_of_texts(text: str, shown: str) -> None:
    assert logs.redact(text) == shown


def test_a_line_is_one_object_with_the_fields_beside_the_message(restored: None) -> None:
    fields = {
        "tenant": "acme",
        "count": 3,
        "ratio": 0.5,
        "nothing": None,
        "many": [1, "two"],
        "level": "mine",
        "big": 2**70,
    }
    line = json.loads(written(Settings(), fields=fields))
    assert line.pop("at").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "zentra.test",
        "message": "something happened",
        "tenant": "acme",
        "count": 3,
        "ratio": 0.5,
        "nothing": None,
        "many": [1, "two"],
        "level_": "mine",
        "big": str(2**70),
    }


@pytest.mark.parametrize("name", [
    "account_id", "destination", "Authorization", "X-Idempotency-Key", "webhook-signature", "owner", "token", "Cookie",
])  # fmt: skip
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_field_is_hidden_by_its_name_however_deep(restored: None, log_format: str, name: str) -> None:
    shown = written(Settings(log_format=log_format), fields={name: "0123456789", "asked": [{name: "0123456789"}]})
    assert shown.count("***") == 2
    assert "0123456789" not in shown


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_secret_gets_into_a_line(restored: None, log_format: str) -> None:
    fields = {"key": KEY, "secret": "hidden", "nested": {"authorization": "hidden", "url": "nats://a:hidden@b"}}
    shown = written(Settings(log_format=log_format), fields=fields, error=ValueError(f"hidden nats://a:{KEY}@b"))
    assert "something happened" in shown
    assert "ValueError" in shown
    assert KEY not in shown
    assert shown.count("hidden") == 1, "only the word that is no secret"


def test_libraries_do_not_chatter_and_the_level_counts(restored: None) -> None:
    stream = io.StringIO()
    logs.configure(Settings(log_level="warning"), stream)
    logging.getLogger("nats.aio").info("connected")
    logging.getLogger("zentra.test").info("not now")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("settings", "variable"),
    [(Settings(log_format="yaml"), "ZENTRA_LOG_FORMAT"), (Settings(log_level="LOUD"), "ZENTRA_LOG_LEVEL")],
)
def test_a_wrong_setting_is_named(restored: None, settings: Settings, variable: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        logs.configure(settings)
