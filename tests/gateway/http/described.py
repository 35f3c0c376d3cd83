"""Holding answers to the description: a status, a code, a member or a header that it does not name is a fault."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import jsonschema_rs
import msgspec

from tests.catalogue import declared_routes
from tests.gateway.asgi import Answer
from zentra.gateway.description.openapi import openapi

__all__ = ["assert_described"]

_PLAIN: Final = frozenset(
    {"content-type", "content-length", "cache-control", "connection", "date", "x-accel-buffering"}
)


def assert_described(method: str, target: str, answer: Answer) -> None:
    """Raise AssertionError where the description does not allow this answer; routes that there are not are let be."""
    template = _template(method, target.partition("?")[0])
    if template is None:
        return
    where = f"{method} {template} {answer.status}"
    responses = _document()["paths"][template][method.lower()]["responses"]
    assert str(answer.status) in responses, f"{where} is not described: {answer.body[:300]!r}"
    response = _resolved(responses[str(answer.status)])
    assert answer.headers.keys() - _PLAIN <= response["headers"].keys(), where
    media = answer.headers["content-type"].partition(";")[0]
    assert media in response["content"], f"{where} is {media}"
    if "json" in media:
        validator = _validator(template, method.lower(), str(answer.status), media)
        faults = [f"{fault.instance_path}: {fault.message}" for fault in validator.iter_errors(answer.json)]
        assert not faults, f"{where}: {faults}"


def _template(method: str, path: str) -> str | None:
    """Return the template of a path, an exact one before one with parameters, or None."""
    segments = path.strip("/").split("/")
    fitting = [
        route.template
        for route in declared_routes_once()
        if route.method == method
        and len(route.segments) == len(segments)
        and all(wanted[0] == "{" or wanted == given for wanted, given in zip(route.segments, segments, strict=True))
    ]
    return min(fitting, key=lambda template: template.count("{"), default=None)


@cache
def declared_routes_once() -> Any:
    return declared_routes()


@cache
def _document() -> Any:
    """Return the description, in which no object has members beyond those that it names."""

    def closed(value: Any) -> Any:
        if isinstance(value, dict):
            inner = {name: closed(one) for name, one in value.items()}
            if value.get("type") == "object" and "properties" in value:
                inner.setdefault("additionalProperties", False)
            return inner
        return [closed(one) for one in value] if isinstance(value, list) else value

    return closed(msgspec.json.decode(msgspec.json.encode(openapi(declared_routes_once()))))


def _resolved(value: Any) -> Any:
    while "$ref" in value:
        place = _document()
        for step in value["$ref"].removeprefix("#/").split("/"):
            place = place[step]
        value = place
    return value


@cache
def _validator(template: str, method: str, status: str, media: str) -> Any:
    schema = _resolved(_document()["paths"][template][method]["responses"][status])["content"][media]["schema"]
    whole = {**schema, "components": _document()["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
