"""The NATS accounts: one for the runtime, one for each tenant, and the server configuration that says so.

A tenant never publishes into a stream and never chooses whom it claims to be. Its account can request
`zentra.intents.<verb>`; the server turns that into `zentra.api.<tenant>.<verb>` in the runtime's account, with a
private reply subject. What comes back to it unasked is its feed: `zentra.feed.<tenant>.>` in the runtime's account is
`zentra.feed.>` in its own, so no tenant can choose whose feed it reads. Passwords are derived from one secret, so
nothing but that secret needs to be kept.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence

import msgspec

from zentra.runtime.names import is_tenant

__all__ = [
    "RUNTIME_USER",
    "TlsFiles",
    "account_name",
    "render_config",
    "runtime_password",
    "system_password",
    "system_url",
    "tenant_password",
]

RUNTIME_USER = "runtime"
_SYSTEM_USER = "sys"
_SECRET_BYTES_MIN = 16
# 20 bytes are 32 base32 digits without padding.
_PASSWORD_BYTES = 20


class TlsFiles(msgspec.Struct, frozen=True):
    """Paths of the server's certificate and key, and of the authority that signs client certificates."""

    certificate: str
    key: str
    client_authority: str | None = None


def tenant_password(secret: bytes, tenant: str) -> str:
    """The password of the tenant's user, whose name is the tenant.

    Raises ValueError for a tenant name that is none, or a secret under 16 bytes.
    """
    return _password(secret, "tenant/" + _valid_tenant(tenant))


def runtime_password(secret: bytes) -> str:
    """The password of the user `runtime`. Raises ValueError for a secret under 16 bytes."""
    return _password(secret, "runtime")


def system_password(secret: bytes) -> str:
    """The password of the system account's user `sys`. Raises ValueError for a secret under 16 bytes."""
    return _password(secret, "system")


def system_url(url: str, secret: bytes) -> str:
    """The URL of the same servers for the system account's user. Raises ValueError for a secret under 16 bytes."""
    user = f"{_SYSTEM_USER}:{system_password(secret)}"
    return ",".join(_as_user(one, user) for one in url.split(","))


def account_name(tenant: str) -> str:
    """The tenant's account, unique because a tenant name has no underscore. Raises ValueError when it is no name."""
    return "T_" + _valid_tenant(tenant).upper().replace("-", "_")


def render_config(
    *,
    listen: str,
    store_dir: str,
    tenants: Sequence[str],
    secret: bytes,
    http: str | None = None,
    server_name: str = "zentra",
    sync_always: bool = False,
    store_bytes_max: int = 8 * 1024**3,
    tls: TlsFiles | None = None,
) -> str:
    """The text of a nats-server configuration; the server reloads a changed tenant list on SIGHUP.

    `listen` and `http` are `host:port`. `sync_always` makes every stored message durable before it is acknowledged.
    Without it the server syncs every two minutes, which is enough where Postgres can repair the streams. Raises
    ValueError for a tenant name that is none, or a secret under 16 bytes.
    """
    names = sorted(set(tenants))
    lines = [
        f"server_name: {_quoted(server_name)}",
        f"listen: {_quoted(listen)}",
        *([f"http: {_quoted(http)}"] if http else []),
        "max_payload: 1MB",
        "max_pending: 64MB",
        'write_deadline: "5s"',
        'ping_interval: "20s"',
        *_tls(tls),
        "jetstream {",
        f"  store_dir: {_quoted(store_dir)}",
        "  max_mem: 256MB",
        f"  max_file: {store_bytes_max}",
        *(["  sync_interval: always"] if sync_always else []),
        "}",
        "accounts {",
        *_core_account(names, runtime_password(secret)),
        f"  SYS {{ users: [ {{ user: {_SYSTEM_USER}, password: {_quoted(system_password(secret))} }} ] }}",
    ]
    for tenant in names:
        lines += _tenant_account(tenant, tenant_password(secret, tenant))
    lines += ["}", "system_account: SYS", ""]
    return "\n".join(lines)


def _core_account(tenants: Sequence[str], password: str) -> list[str]:
    exports = []
    if tenants:
        accounts = ", ".join(account_name(tenant) for tenant in tenants)
        # The threshold is when the server forgets a reply it still expects; an intake answers long before.
        exports.append(
            f'      {{ service: "zentra.api.*.>", accounts: [{accounts}], response_type: singleton,'
            ' response_threshold: "10s" }'
        )
    exports += [
        f'      {{ stream: "zentra.feed.{tenant}.>", accounts: [{account_name(tenant)}] }}' for tenant in tenants
    ]
    return [
        "  CORE {",
        "    jetstream: enabled",
        f"    users: [ {{ user: {RUNTIME_USER}, password: {_quoted(password)} }} ]",
        "    exports: [",
        *exports,
        "    ]",
        "  }",
    ]


def _tenant_account(tenant: str, password: str) -> list[str]:
    return [
        f"  {account_name(tenant)} {{",
        f"    users: [ {{ user: {_quoted(tenant)}, password: {_quoted(password)}, permissions: {{",
        '      publish: { allow: ["zentra.intents.>"] }',
        '      subscribe: { allow: ["_INBOX.>", "zentra.feed.>"] }',
        "    } } ]",
        "    imports: [",
        f'      {{ service: {{ account: CORE, subject: "zentra.api.{tenant}.>" }}, to: "zentra.intents.>" }}',
        f'      {{ stream: {{ account: CORE, subject: "zentra.feed.{tenant}.>" }}, to: "zentra.feed.>" }}',
        "    ]",
        "  }",
    ]


def _tls(files: TlsFiles | None) -> list[str]:
    if files is None:
        return []
    lines = ["tls {", f"  cert_file: {_quoted(files.certificate)}", f"  key_file: {_quoted(files.key)}"]
    if files.client_authority is not None:
        lines += [f"  ca_file: {_quoted(files.client_authority)}", "  verify: true"]
    return [*lines, "}"]


def _as_user(url: str, user: str) -> str:
    scheme, _, rest = url.rpartition("://")
    return f"{scheme or 'nats'}://{user}@{rest.rpartition('@')[2]}"


def _password(secret: bytes, whose: str) -> str:
    if len(secret) < _SECRET_BYTES_MIN:
        raise ValueError(f"the secret needs at least {_SECRET_BYTES_MIN} bytes")
    digest = hmac.digest(secret, b"zentra nats password " + whose.encode(), hashlib.sha256)
    return base64.b32encode(digest[:_PASSWORD_BYTES]).decode().lower()


def _valid_tenant(tenant: str) -> str:
    if not is_tenant(tenant):
        raise ValueError(f"not a tenant: {tenant!r}")
    return tenant


def _quoted(text: str) -> str:
    return json.dumps(text)
