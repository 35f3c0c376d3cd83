"""The production profile: a process that would speak to Postgres, NATS or Redis without proven TLS does not start.

- "Proven" means that the server's certificate is checked against an authority and carries the server's name. What only
  encrypts, or falls back to plain when asked to, counts as plain.
- Servers on the same machine may be spoken to in plain only where that was allowed explicitly.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qs, urlsplit

from zentra.gateway.settings import Settings, SettingsError

__all__ = ["assert_exporter", "assert_production", "nats_tls"]

_POSTGRES: Final = ("postgres_writer_url", "postgres_tenant_url", "postgres_admin_url")


def assert_production(settings: Settings) -> None:
    """Return where the profile is not `production`, or every server is reached over proven TLS.

    Raises SettingsError, which names the variable and the fix and never the URL: it holds a password."""
    if settings.profile != "production":
        return
    for name, url, secure, fix in _links(settings):
        if not secure(url) and not (settings.plain_loopback and _on_loopback(url)):
            raise SettingsError(f"ZENTRA_{name.upper()}: the production profile demands TLS; {fix}")


def assert_exporter(settings: Settings, variable: str, url: str) -> None:
    """Return where the profile is not `production`, or spans go to `url` over TLS; raise SettingsError."""
    if settings.profile != "production" or urlsplit(url).scheme == "https":
        return
    if not (settings.plain_loopback and _on_loopback(url)):
        raise SettingsError(f"{variable}: the production profile demands TLS; begin it with https://")


def nats_tls(settings: Settings) -> ssl.SSLContext | None:
    """Return how NATS is spoken to where the settings say so, else None: as its URL says.

    Raises SettingsError for an authority that cannot be read."""
    if not settings.nats_authority:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.nats_authority)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"ZENTRA_NATS_AUTHORITY: {settings.nats_authority}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _links(settings: Settings) -> Iterator[tuple[str, str, Callable[[str], bool], str]]:
    for name in _POSTGRES:
        if getattr(settings, name):
            yield name, getattr(settings, name), _postgres, "end it in ?sslmode=verify-full&sslrootcert=<path>"
    for url in filter(None, settings.nats_url.split(",")):
        yield "nats_url", url, _nats, "begin it with tls://, and name the authority in ZENTRA_NATS_AUTHORITY"
    if settings.redis_url:
        yield "redis_url", settings.redis_url, _redis, "begin it with rediss://, and end it in ?ssl_ca_certs=<path>"


def _postgres(url: str) -> bool:
    return parse_qs(urlsplit(url).query).get("sslmode", [""])[-1] == "verify-full"


def _nats(url: str) -> bool:
    return urlsplit(url).scheme == "tls"


def _redis(url: str) -> bool:
    parts = urlsplit(url)
    asked = parse_qs(parts.query)
    unchecked = asked.get("ssl_cert_reqs", ["required"])[-1] != "required" or asked.get(
        "ssl_check_hostname", ["true"]
    )[-1].lower() not in ("true", "1", "yes")  # fmt: skip
    return parts.scheme == "rediss" and not unchecked


def _on_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
