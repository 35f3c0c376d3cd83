"""What breaks a client between two descriptions of the API, by a small set of rules.

- What a client sends may get wider and never narrower; what it is answered may get richer and never poorer.
- New routes, optional members of bodies, members and problem codes of answers, and words of an answer's enumeration
  only add: the SDK keeps what it does not know, and the documentation asks every client for the same.
- Constraints that no rule names (patterns, bounds) count as changed meaning when they change in what a client sends.

A breaking change needs a new version (`zentra.gateway.http.versions`); within one version `breaking` finds nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["breaking"]

_METHODS: Final = frozenset({"get", "put", "post", "delete", "patch"})
_BOUNDS_LOWER: Final = ("minimum", "minLength", "minItems", "minProperties")
_BOUNDS_UPPER: Final = ("maximum", "maxLength", "maxItems", "maxProperties")
_EXACT: Final = ("pattern", "format", "const")
_DEPTH_MAX: Final = 16  # a schema that refers to itself is looked at so far

Document = Mapping[str, Any]


def breaking(old: Document, new: Document) -> list[str]:
    """Return what of `new` breaks a client of `old`, one sentence each, sorted; both are OpenAPI 3.1 documents."""
    return sorted(set(_Comparison(old, new).found()))


class _Comparison:
    def __init__(self, old: Document, new: Document) -> None:
        self._old, self._new = old, new

    def found(self) -> Iterator[str]:
        for path, operations in self._old["paths"].items():
            for method, before in operations.items():
                if method not in _METHODS:
                    continue
                where, after = f"{method.upper()} {path}", self._new["paths"].get(path, {}).get(method)
                if after is None:
                    yield f"{where}: the route is gone"
                else:
                    yield from self._operation(where, before, after)

    def _operation(self, where: str, before: Document, after: Document) -> Iterator[str]:
        yield from self._parameters(where, before, after)
        yield from self._body(where, before.get("requestBody"), after.get("requestBody"))
        if after["operationId"] != before["operationId"]:
            yield f"{where}: the operation has another name"
        if not before["security"] and after["security"]:
            yield f"{where}: it needs a key now"
        for status, response in before["responses"].items():
            if not status.startswith("2"):
                continue  # which problems there are may change; whoever reads `code` expects others
            there = after["responses"].get(status)
            if there is None:
                yield f"{where}: {status} is gone"
                continue
            one, other = self._resolve(self._old, response), self._resolve(self._new, there)
            for media, content in one.get("content", {}).items():
                if media not in other.get("content", {}):
                    yield f"{where}: {status} is not {media} any more"
                    continue
                yield from self._answer(f"{where}: {status}", content["schema"], other["content"][media]["schema"], 0)
            yield from (
                f"{where}: {status} has no header {name} any more"
                for name in one.get("headers", {})
                if name not in other.get("headers", {})
            )

    def _parameters(self, where: str, before: Document, after: Document) -> Iterator[str]:
        def named(document: Document, operation: Document) -> dict[tuple[str, str], Document]:
            resolved = [self._resolve(document, one) for one in operation.get("parameters", ())]
            return {(one["in"], one["name"]): one for one in resolved}

        old, new = named(self._old, before), named(self._new, after)
        for (place, name), parameter in old.items():
            if (place, name) not in new:
                yield f"{where}: the {place} parameter {name} is gone"
            else:
                there = f"{where}: the {place} parameter {name}"
                yield from self._sent(there, parameter["schema"], new[place, name]["schema"], 0)
                if new[place, name].get("required") and not parameter.get("required"):
                    yield f"{there} is required now"
        for (place, name), parameter in new.items():
            if (place, name) not in old and parameter.get("required"):
                yield f"{where}: the {place} parameter {name} is new and required"

    def _body(self, where: str, before: Document | None, after: Document | None) -> Iterator[str]:
        if before is None:
            if after is not None and after.get("required"):
                yield f"{where}: it needs a body now"
            return
        if after is None:
            yield f"{where}: it takes no body any more"
            return
        if after.get("required") and not before.get("required"):
            yield f"{where}: the body is required now"
        for media, content in before["content"].items():
            if media not in after["content"]:
                yield f"{where}: it does not take {media} any more"
            else:
                yield from self._sent(f"{where}: body", content["schema"], after["content"][media]["schema"], 0)

    def _sent(self, where: str, old: Document, new: Document, depth: int) -> Iterator[str]:
        """What a client may send may not get narrower."""
        old, new = self._resolve(self._old, old), self._resolve(self._new, new)
        if depth > _DEPTH_MAX or not new:
            return
        if _types(old) - _types(new):
            yield f"{where}: takes no {', '.join(sorted(_types(old) - _types(new)))} any more"
        if "enum" in new and not set(map(str, old.get("enum", ["anything"]))) <= set(map(str, new["enum"])):
            yield f"{where}: takes fewer words"
        yield from (f"{where}: {name} is another" for name in _EXACT if name in new and new[name] != old.get(name))
        yield from (f"{where}: {name} is higher" for name in _BOUNDS_LOWER if new.get(name, -1) > old.get(name, -1))
        yield from (
            f"{where}: {name} is lower" for name in _BOUNDS_UPPER if name in new and new[name] < old.get(name, 2**70)
        )
        for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
            yield f"{where}: {name} is required now"
        for name, inner in old.get("properties", {}).items():
            if name in new.get("properties", {}):
                yield from self._sent(f"{where}/{name}", inner, new["properties"][name], depth + 1)
            elif new.get("additionalProperties") is False:
                yield f"{where}: {name} is not taken any more"
        yield from self._below(where, old, new, depth, self._sent)
        for number, inner in enumerate(old.get("anyOf", ())):
            others = new.get("anyOf", (new,))
            if not any(not list(self._sent(where, inner, other, depth + 1)) for other in others):
                yield f"{where}: alternative {number} is not taken any more"

    def _answer(self, where: str, old: Document, new: Document, depth: int) -> Iterator[str]:
        """What a client is answered may not get poorer."""
        old, new = self._resolve(self._old, old), self._resolve(self._new, new)
        if depth > _DEPTH_MAX or not old:
            return
        if _types(new) - _types(old):
            yield f"{where}: may be {', '.join(sorted(_types(new) - _types(old)))} now"
        yield from (f"{where}: {name} is another" for name in _EXACT if name in old and new.get(name) != old[name])
        for name in sorted(set(old.get("required", ())) - set(new.get("required", ()))):
            yield f"{where}: {name} may be missing now"
        for name, inner in old.get("properties", {}).items():
            if name not in new.get("properties", {}):
                yield f"{where}: {name} is gone"
            else:
                yield from self._answer(f"{where}/{name}", inner, new["properties"][name], depth + 1)
        yield from self._below(where, old, new, depth, self._answer)
        for number, inner in enumerate(new.get("anyOf", ())):
            others = old.get("anyOf", (old,))
            if not any(not list(self._answer(where, other, inner, depth + 1)) for other in others):
                yield f"{where}: alternative {number} is new"

    def _below(self, where: str, old: Document, new: Document, depth: int, look: Any) -> Iterator[str]:
        for name, sign in (("items", "[]"), ("additionalProperties", "{}"), ("propertyNames", "{name}")):
            if isinstance(old.get(name), Mapping) and isinstance(new.get(name), Mapping):
                yield from look(where + sign, old[name], new[name], depth + 1)

    def _resolve(self, document: Document, schema: Document) -> Document:
        while "$ref" in schema:
            found: Any = document
            for step in schema["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            schema = found
        return schema


def _types(schema: Document) -> set[str]:
    """Return the JSON types that a schema names; none where it leaves that to its alternatives or to what it lists."""
    named = schema.get("type", [])
    return {named} if isinstance(named, str) else set(named)
