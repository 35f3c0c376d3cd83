"""Logging of a process: one JSON object per line for machines, short lines for people, secrets in neither.

- The message is fixed text; what a line is about stands in fields of its own, taken from `extra`.
- Whatever looks like an API key, a token, a webhook secret, a private key or the password of a URL is cut out of every
  text of a line, also out of messages and stack traces of libraries; so are the values of rows that Postgres rejects.
- Fields that hold secrets, or say whose account it is, are hidden by their name, however deep they stand.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec

from zentra.gateway.settings import Settings, SettingsError

__all__ = ["JsonFormatter", "TextFormatter", "configure", "redact"]

HIDDEN: Final = "***"
DEPTH_MAX: Final = 4  # fields are flat; deeper values are shown as text
_SECRET_NAMES: Final = frozenset({
    "account", "account_id", "api_key", "authorization", "cookie", "destination", "evidence_key", "idempotency_key",
    "owner", "password", "private_key", "secret", "secrets", "token", "webhook_signature",
})  # fmt: skip
# The password of a URL may hold anything but blanks, so it reaches to the last @ of its word: too much is cut
# rather than too little. The id of a key is no secret and finds the key that leaked.
_SECRETS: Final = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
    (re.compile(r"(zk_(?:test|live)_[0-9A-Za-z]{12}_)[0-9A-Za-z]+"), rf"\1{HIDDEN}"),
    (re.compile(r"whsec_[0-9A-Za-z+/=_-]+"), f"whsec_{HIDDEN}"),
    (re.compile(r"(://[^\s/:@]*):\S+@"), rf"\1:{HIDDEN}@"),
    (re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*"), HIDDEN),  # a JWT: a header in base64url, two more parts
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"(Key \([^)]*\))=\([^)]*\)"), rf"\1=({HIDDEN})"),
    (re.compile(r"(Failing row contains) \(.*\)", re.DOTALL), rf"\1 ({HIDDEN})"),
)
_PLAIN: Final = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}
# Libraries that tell of every connection at INFO.
_CHATTY: Final = ("asyncio", "aiohttp", "nats", "uvicorn")


def redact(text: str) -> str:
    """Return `text` without anything that looks like a secret."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send the log of this process to `stream` (stderr where it is None), and nowhere else.

    Raises SettingsError for a format or a level that does not exist."""
    formatters = {"json": JsonFormatter, "text": TextFormatter}
    if settings.log_format not in formatters:
        raise SettingsError(f"ZENTRA_LOG_FORMAT: {settings.log_format!r} is not one of {', '.join(formatters)}")
    level = logging.getLevelNamesMapping().get(settings.log_level.upper())
    if level is None:
        raise SettingsError(f"ZENTRA_LOG_LEVEL: {settings.log_level!r} is not one of DEBUG, INFO, WARNING, ERROR")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatters[settings.log_format]())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)


class JsonFormatter(logging.Formatter):
    """One object per line: at, level, logger, message, then the fields, then the stack where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        for name, value in fields_of(record).items():
            line[name if name not in line else f"{name}_"] = value
        stack = _stack(self, record)
        if stack:
            line["stack"] = stack
        return msgspec.json.encode(line).decode()


class TextFormatter(logging.Formatter):
    """Lines for people: time of day, level, message, fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f"  {name}={value}" for name, value in fields_of(record).items())
        stack = _stack(self, record)
        head = f"{at} {record.levelname.lower():<8} {redact(record.getMessage())}{fields}"
        return f"{head}\n{stack}" if stack else head


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was given as `extra`, fit to be shown."""
    return {
        name: HIDDEN if _is_secret(name) else _shown(value)
        for name, value in record.__dict__.items()
        if name not in _PLAIN
    }


def _shown(value: object, depth: int = DEPTH_MAX) -> Any:
    """Return `value` as something JSON can hold, without secrets."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, Mapping) and depth:
        return {
            redact(str(name)): HIDDEN if _is_secret(str(name)) else _shown(inner, depth - 1)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset) and depth:
        return [_shown(inner, depth - 1) for inner in value]
    return redact(str(value))


def _is_secret(name: str) -> bool:
    return name.lower().replace("-", "_").removeprefix("x_") in _SECRET_NAMES


def _stack(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    return redact("\n".join(parts))
