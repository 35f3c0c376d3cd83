"""Mutual TLS at the gateway's own listener: the certificate that a client proved travels with each of its requests.

uvicorn checks client certificates and does not hand them on, so the protocol here does. The invariants kept here:

- What a request's scope holds under `SCOPE_KEY` was read from the TLS session of its own connection. Headers are never
  looked at, so whoever can set headers can be nobody by them.
- An identity is one text: the only URI among the certificate's alternative names, else its only common name. Two of
  either are nobody.
- Where certificates are demanded, a listener that would not enforce them does not start.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import MutableMapping
from hashlib import sha256
from typing import Any, Final

import uvicorn
from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from zentra.gateway.settings import Settings, SettingsError

__all__ = ["SCOPE_KEY", "CertificateProtocol", "ClientCertificate", "assert_enforced", "identity_of", "secured"]

SCOPE_KEY: Final = "zentra.certificate"
IDENTITY_LENGTH_MAX: Final = 255


class ClientCertificate(Struct, frozen=True):
    """What a client proved: its identity, empty where the certificate names nobody, and until when.

    `not_after` is in seconds since 1970. `digest` is what the identity is remembered by: longer than any digest of
    a key, so that no text of a key can be taken for it."""

    identity: str
    not_after: float
    digest: bytes


class CertificateProtocol(HttpToolsProtocol):
    """HTTP/1.1 that knows who is at the other end of its connection."""

    certificate: ClientCertificate | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Read the certificate once: it cannot change while the connection lasts."""
        super().connection_made(transport)
        session = transport.get_extra_info("ssl_object")
        if session is not None:
            self.certificate = _proved(session)

    def on_message_begin(self) -> None:
        """Put the certificate into the scope of the request that begins."""
        super().on_message_begin()
        if self.certificate is not None:
            scope: MutableMapping[str, Any] = self.scope  # type: ignore[assignment]  # a TypedDict of known keys
            scope[SCOPE_KEY] = self.certificate


def identity_of(peer: dict[str, Any]) -> str:
    """Return whom a certificate, as `getpeercert` tells it, names; empty where that is nobody or not one."""
    uris = [value for kind, value in peer.get("subjectAltName", ()) if kind == "URI"]
    names = [value for part in peer.get("subject", ()) for kind, value in part if kind == "commonName"]
    found = uris or names
    fits = len(found) == 1 and 0 < len(found[0]) <= IDENTITY_LENGTH_MAX
    return str(found[0]) if fits else ""


def _proved(session: ssl.SSLObject) -> ClientCertificate | None:
    peer = session.getpeercert()
    if not peer:  # None without a certificate, empty for one that was not verified
        return None
    identity = identity_of(dict(peer))
    not_after = float(ssl.cert_time_to_seconds(str(peer["notAfter"])))
    return ClientCertificate(identity, not_after, b"certificate" + sha256(identity.encode()).digest())


def secured(config: uvicorn.Config, settings: Settings) -> uvicorn.Config:
    """Return `config` with the TLS of the settings; without TLS it is returned as it is.

    Raises SettingsError for settings that contradict each other and for files that cannot be read, also where client
    certificates are demanded and would not be enforced."""
    wanted = settings.client_certificates != "none"
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise SettingsError("ZENTRA_TLS_CERTIFICATE and ZENTRA_TLS_KEY go together: the paths of two PEM files")
    if wanted and not (settings.tls_certificate and settings.tls_client_authority):
        raise SettingsError(
            "ZENTRA_CLIENT_CERTIFICATES needs ZENTRA_TLS_CERTIFICATE, ZENTRA_TLS_KEY and ZENTRA_TLS_CLIENT_AUTHORITY"
        )
    if settings.tls_client_authority and not wanted:
        raise SettingsError("ZENTRA_TLS_CLIENT_AUTHORITY says nothing while ZENTRA_CLIENT_CERTIFICATES is none")
    if not settings.tls_certificate:
        return config
    config.http = CertificateProtocol
    config.ssl_certfile, config.ssl_keyfile = settings.tls_certificate, settings.tls_key
    if wanted:
        required = settings.client_certificates == "required"
        config.ssl_ca_certs = settings.tls_client_authority
        config.ssl_cert_reqs = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"the files of ZENTRA_TLS_… cannot be used: {error}") from error
    assert config.ssl is not None
    config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    if wanted:
        assert_enforced(config, required=settings.client_certificates == "required")
    return config


def assert_enforced(config: uvicorn.Config, *, required: bool) -> None:
    """Return where a loaded configuration verifies client certificates and hands them on.

    Raises SettingsError where connections could come without one although it is `required`, where no authority is
    known, or where another protocol than ours would serve."""
    context = config.ssl
    modes = {ssl.CERT_REQUIRED} if required else {ssl.CERT_REQUIRED, ssl.CERT_OPTIONAL}
    for holds, sentence in (
        (context is not None, "the listener has no TLS"),
        (context is not None and context.verify_mode in modes, "the listener would take clients without a certificate"),
        (context is not None and context.cert_store_stats()["x509_ca"] > 0, "no authority is known that signs clients"),
        (issubclass(config.http_protocol_class, CertificateProtocol), "the listener would not say who its clients are"),
    ):
        if not holds:
            raise SettingsError(f"client certificates are demanded and not enforced: {sentence}")
