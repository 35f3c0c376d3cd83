"""The configuration of a process: one frozen value, read once from the environment and passed down.

Every name is `ZENTRA_` and the field in capitals; with `_FILE` behind it, the value is read from that file, so that a
secret need not stand in the environment. An unknown `ZENTRA_` name is refused with the nearest known one; those of the
client, which a shell may hold as well, are known as not its own."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

__all__ = ["CLIENT_VARIABLES", "Settings", "SettingsError", "environment_of", "read_settings"]


class SettingsError(Exception):
    """Raised for a setting that is unknown, malformed or missing; the sentence names the variable and the fix."""


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that a gateway, a worker or a command has to know about its installation."""

    postgres_writer_url: str = ""
    postgres_tenant_url: str = ""
    postgres_admin_url: str = ""
    nats_url: str = ""
    redis_url: str = ""
    secret: str = ""  # hex, 32 bytes: webhook secrets and NATS passwords are derived from it
    evidence_key: str = ""  # PEM of an Ed25519 private key: signs the heads of the evidence logs
    host: str = "127.0.0.1"
    port: int = 8080
    metrics_port: int = 0  # of a worker; 0: none
    worker_name: str = "worker-1"  # stable over restarts, so that a worker gets its own partitions back at once
    lease_seconds: float = 10.0
    commits_max: int = 2  # commits in flight of one worker; see ARCHITECTURE.md before raising it
    requests_max: int = 10_000  # that a gateway works on or keeps waiting; beyond: 503 overloaded, at once
    backlog_intents_max: int = 50_000  # accepted, waiting for a worker (some ten seconds); beyond: 503 overloaded
    backlog_seconds_max: float = 30.0  # or when a hundred of them have waited for that long
    stream_replicas: int = 1  # 3 on a cluster of NATS
    postgres_connections_max: int = 8
    profile: Literal["development", "production"] = "development"  # production: TLS to every server, or no start
    plain_loopback: bool = False  # lets a production process speak without TLS to servers on its own machine
    nats_authority: str = ""  # path of the PEM of who signs the certificate of NATS; the system's authorities otherwise
    tls_certificate: str = ""  # path of the gateway's own certificate (PEM, with its chain); without it: plain HTTP
    tls_key: str = ""
    tls_client_authority: str = ""  # path of the PEM of who signs the certificates of clients
    client_certificates: Literal["none", "optional", "required"] = "none"
    issuers: str = ""  # JSON: whose tokens are believed; see docs/access.md
    rate_money: str = "100000/10"  # new intents, cancellations, reversals: so many within so many seconds, per tenant
    rate_write: str = "10000/10"  # other changes
    rate_read: str = "100000/10"
    private_addresses: bool = False  # whether webhooks and rails may be on private or loopback addresses
    webhook_networks: str = ""  # CIDR, by commas: private networks that webhooks may go to; see docs/deliveries.md
    webhook_proxy: str = ""  # http://proxy:4750: webhooks go through it, and it resolves and judges their names
    webhook_names: str = ""  # by commas: names that may lead to private addresses; `.internal` for all below it
    endpoints_max: int = 100  # webhook endpoints of one tenant, deleted ones not counted; each costs every event a body
    risk_scorers: str = ""  # name=module:function, by commas: scorers of one's own; see docs/policy.md
    log_format: str = "json"
    log_level: str = "INFO"

    def secret_bytes(self) -> bytes:
        """Return the installation's secret; raise SettingsError where it is missing or malformed."""
        try:
            secret = bytes.fromhex(self.secret)
        except ValueError:
            secret = b""
        if len(secret) < 32:
            raise SettingsError("ZENTRA_SECRET has to be 64 hex digits; make one with: openssl rand -hex 32")
        return secret

    def need(self, *names: str) -> None:
        """Raise SettingsError unless every one of these settings has a value."""
        for name in names:
            if not getattr(self, name):
                raise SettingsError(f"ZENTRA_{name.upper()} is not set")


CLIENT_VARIABLES: Final = frozenset({"ZENTRA_BASE_URL", "ZENTRA_API_KEY"})
"""What `zentra.client` and the commands that speak to a gateway read."""
_FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings that the environment holds; raise SettingsError."""
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith("ZENTRA_") or variable in CLIENT_VARIABLES:
            continue
        name = variable.removeprefix("ZENTRA_").lower()
        if name.endswith("_file") and name.removesuffix("_file") in _FIELDS:
            name = name.removesuffix("_file")
            try:
                text = Path(text).read_text().strip()
            except OSError as error:
                raise SettingsError(f"{variable}: cannot read {text}: {error.strerror}") from error
        if name not in _FIELDS:
            near = difflib.get_close_matches(name, _FIELDS, 1)
            hint = f"; did you mean ZENTRA_{near[0].upper()}?" if near else ""
            raise SettingsError(f"{variable} is no setting{hint}")
        try:
            values[name] = msgspec.convert(text, _FIELDS[name].type, strict=False)
        except msgspec.ValidationError as error:
            raise SettingsError(f"{variable}: {error}") from error
    return Settings(**values)


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the variables that say these settings, for a child process; defaults are left out."""
    said = {}
    for name, field in _FIELDS.items():
        value = getattr(settings, name)
        if value != field.default:
            said[f"ZENTRA_{name.upper()}"] = str(value)
    return said
