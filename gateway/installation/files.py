"""What an installation on one machine keeps beside its data: secrets made once, ports, keys, and the tenants of NATS.

- Everything that is secret is in a file of its own that only its owner can read; processes are told the file's name.
- What exists is never made again: losing a file is an error of its owner's, not a reason for a new identity.
"""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from zentra.gateway.devstack.directory import write_private
from zentra.gateway.devstack.processes import DevStackError, Leftover
from zentra.gateway.settings import Settings, environment_of

__all__ = ["SECRET_SETTINGS", "InstallationFiles"]

SECRET_SETTINGS: Final = (
    "postgres_writer_url",
    "postgres_tenant_url",
    "postgres_admin_url",
    "nats_url",
    "redis_url",
    "secret",
    "evidence_key",
)


class InstallationFiles:
    """The private directory of an installation; a file that cannot be read raises DevStackError or OSError."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory

    @property
    def public_key(self) -> Path:
        """The public half of the evidence key, in PEM: whoever has it can check packets."""
        return self.directory / "evidence.pub.pem"

    @property
    def environment(self) -> Path:
        """Shell variables for other commands on this machine; it names files and holds no secret."""
        return self.directory / "environment"

    def secret(self, name: str) -> str:
        """Return the random secret of that name, 64 hex digits."""
        path = self.directory / name
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        return path.read_text(encoding="utf-8")

    def evidence_key(self) -> str:
        """Return the PEM of the Ed25519 key that signs the evidence logs; its public half is put beside it."""
        path = self.directory / "evidence.pem"
        if not path.exists():
            made = Ed25519PrivateKey.generate()
            write_private(
                self.public_key,
                made.public_key()
                .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
                .decode(),
            )
            write_private(
                path,
                made.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                ).decode(),
            )
        return path.read_text(encoding="utf-8")

    def read(self, name: str) -> Any:
        """Return what was written under this name; an empty object where nothing was."""
        path = self.directory / f"{name}.json"
        if not path.exists():
            return {}
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DevStackError("file of the installation is damaged", fix=f"restore {path}") from error

    def write(self, name: str, value: object) -> Path:
        """Keep a JSON value under this name and return its file."""
        path = self.directory / f"{name}.json"
        write_private(path, json.dumps(value, indent=2))
        return path

    def leftovers(self) -> list[Leftover]:
        """Return the processes that were written down last."""
        return [Leftover(**one) for one in self.read("processes").values()]

    def write_processes(self, running: Mapping[str, Leftover]) -> None:
        """Write down every process that runs, so that the next start can end what was left behind."""
        self.write("processes", {name: asdict(leftover) for name, leftover in running.items()})

    def write_settings(self, settings: Settings) -> None:
        """Put every secret setting into its file and write the variables for other commands."""
        for name in SECRET_SETTINGS:
            if getattr(settings, name):
                write_private(self.directory / f"setting.{name}", getattr(settings, name))
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.variables(settings).items()]
        write_private(self.environment, "\n".join([*lines, ""]))

    def variables(self, settings: Settings, leave_out: Sequence[str] = ()) -> dict[str, str]:
        """Return the variables that say these settings to a process, secrets by the names of their files."""
        said = environment_of(settings)
        for name in SECRET_SETTINGS:
            variable = f"ZENTRA_{name.upper()}"
            if said.pop(variable, "") and name not in leave_out:
                said[f"{variable}_FILE"] = str(self.directory / f"setting.{name}")
        return said
