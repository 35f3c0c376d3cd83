"""A certificate authority of a test's own, and a relay that ends TLS in front of servers whose build has none."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import count
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "Pair", "relayed"]

_numbers = count(1)


class Pair:
    """The paths of a certificate and its key."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate, self.key = str(certificate), str(key)


class Authority:
    """Signs servers and clients; `path` is the PEM of its own certificate."""

    def __init__(self, directory: Path, name: str = "zentra test authority") -> None:
        self._directory, self._key = directory, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = self._builder(self._name, self._key.public_key(), timedelta(days=2)).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self._file = directory / f"authority-{next(_numbers)}.pem"
        signed = made.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self._file.write_bytes(signed.public_bytes(Encoding.PEM))
        self.path = str(self._file)

    def server(self, *names: str) -> Pair:
        """A certificate of a server for these names and addresses."""
        return self._sign("server", [_general(name) for name in names], ExtendedKeyUsageOID.SERVER_AUTH)

    def client(self, common_name: str = "", *, uris: Sequence[str] = (), lasts: timedelta = timedelta(days=1)) -> Pair:
        """A certificate of a client."""
        alternatives = [x509.UniformResourceIdentifier(uri) for uri in uris]
        return self._sign(common_name, alternatives, ExtendedKeyUsageOID.CLIENT_AUTH, lasts)

    def _sign(
        self, common_name: str, alternatives: Sequence[x509.GeneralName], usage: x509.ObjectIdentifier,
        lasts: timedelta = timedelta(days=1),
    ) -> Pair:  # fmt: skip
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
        made = self._builder(x509.Name(attributes), key.public_key(), lasts)
        made = made.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if alternatives:
            made = made.add_extension(x509.SubjectAlternativeName(alternatives), critical=not attributes)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        signed = made.add_extension(identifier, critical=False).sign(self._key, hashes.SHA256())
        number = next(_numbers)
        pair = self._directory / f"{number}.pem", self._directory / f"{number}.key"
        pair[0].write_bytes(signed.public_bytes(Encoding.PEM))
        pair[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Pair(*pair)

    def _builder(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey, lasts: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + lasts)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@asynccontextmanager
async def relayed(port: int, pair: Pair, *, postgres: bool = False) -> AsyncIterator[int]:
    """Yield the port of a relay that ends TLS and passes on what it hears; `postgres` asks for TLS in its own way."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    loop = asyncio.get_running_loop()
    serving: set[asyncio.Task[None]] = set()

    async def serve(accepted: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(accepted):
            if postgres:
                await loop.sock_recv(accepted, 8)  # SSLRequest
                await loop.sock_sendall(accepted, b"S")
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=context)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
            ways = [asyncio.create_task(_pass_on(*way)) for way in ((reader, inner_writer), (inner_reader, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in (writer, inner_writer):
                    end.transport.abort()
                await asyncio.wait(ways)

    async def accept(listener: socket.socket) -> None:
        while True:
            accepted, _ = await loop.sock_accept(listener)
            accepted.setblocking(False)
            serving.add(asyncio.create_task(serve(accepted)))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        accepting = asyncio.create_task(accept(listener))
        try:
            yield listener.getsockname()[1]
        finally:
            for task in (accepting, *serving):
                task.cancel()
            await asyncio.gather(accepting, *serving, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
