"""The descriptions of the API, open to everybody: made once from the routes that are served, the same bytes ever after.

A client that has them already says so with `if-none-match` and gets nothing again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Final

from zentra.gateway.description.asyncapi import asyncapi
from zentra.gateway.description.openapi import openapi, rendered
from zentra.gateway.http.app import Headers, Reply, Request, Route

__all__ = ["DescriptionRoutes"]

_CACHED: Final = (b"cache-control", b"public, max-age=300")


class DescriptionRoutes:
    """The handlers and their routes; `served` returns all routes of the gateway, these included."""

    def __init__(self, served: Callable[[], Sequence[Route]]) -> None:
        self._served = served

    def routes(self) -> list[Route]:
        """Return what these doors serve."""
        return [
            Route("GET", "/openapi.json", self.openapi, None),
            Route("GET", "/asyncapi.json", self.asyncapi, None),
        ]

    async def openapi(self, request: Request) -> Reply:
        """What the API takes and answers over HTTP."""
        return _answer(request, *self._openapi)

    async def asyncapi(self, request: Request) -> Reply:
        """What the API takes and answers over NATS."""
        return _answer(request, *self._asyncapi)

    @cached_property
    def _openapi(self) -> tuple[bytes, bytes]:
        return _tagged(rendered(openapi(self._served())))

    @cached_property
    def _asyncapi(self) -> tuple[bytes, bytes]:
        return _tagged(rendered(asyncapi()))


def _tagged(body: bytes) -> tuple[bytes, bytes]:
    return body, b'"%b"' % sha256(body).hexdigest().encode()


def _answer(request: Request, body: bytes, tag: bytes) -> Reply:
    headers: Headers = ((b"etag", tag), _CACHED)
    known = request.headers.get(b"if-none-match", b"")
    if known.strip() == b"*" or tag in [one.strip().removeprefix(b"W/") for one in known.split(b",")]:
        return Reply(304, b"", headers)
    return Reply(200, body, headers)
