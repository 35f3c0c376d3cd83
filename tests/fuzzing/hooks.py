"""What a schema cannot say of the API: a call has one idempotency key, wherever it stands; 5.0 is no integer here."""

from __future__ import annotations

import uuid
from typing import Any

import schemathesis

_KEY = "x-idempotency-key"


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Give a call that is meant to be sound the one key that it needs; what is broken on purpose stays broken."""
    meta = case.meta
    if meta is not None and not meta.generation.mode.is_positive:
        return
    if case.operation.get_parameter(_KEY, "header") is None:
        return
    case.body = _whole(case.body)
    if isinstance(case.body, dict):
        case.body.pop("idempotency_key", None)
    case.headers[_KEY] = uuid.uuid4().hex


def _whole(value: Any) -> Any:
    """Return a body with integers where it has floats that JSON Schema takes for integers."""
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
