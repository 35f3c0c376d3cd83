"""What stands in `deploy/` names only what the code has: settings, commands, ports, metrics, passwords."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import typer
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.architecture import FOLDERS, ROOT
from tests.catalogue import exposed_metrics
from zentra.gateway.cli.main import app
from zentra.gateway.settings import Settings, read_settings
from zentra.runtime.evidence.heads import load_private_key
from zentra.streams.accounts import RUNTIME_USER, render_config, runtime_password, system_password, tenant_password

DEPLOY: Final = ROOT / "deploy"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
OURS: Final = {name: service for name, service in SERVICES.items() if service["image"] == "zentra"}
ALERTS: Final[list[dict[str, Any]]] = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text(encoding="utf-8"))[
    "groups"
][0]["rules"]
NATS: Final = Path(sysconfig.get_path("scripts")) / "nats-server"
SECRET: Final = bytes(range(32))
SECRET_SETTINGS: Final = frozenset(
    {"postgres_admin_url", "postgres_writer_url", "postgres_tenant_url", "nats_url", "secret", "evidence_key"}
)
# fmt: off
NEEDED = [  # what each process refuses to start without
    ("migrate",     {"postgres_admin_url", "postgres_writer_url", "postgres_tenant_url"}),
    ("nats-config", {"postgres_admin_url", "secret"}),
    ("gateway",     {"postgres_writer_url", "postgres_tenant_url", "nats_url", "secret"}),
    ("worker",      {"postgres_writer_url", "nats_url", "secret", "evidence_key"}),
]
# fmt: on


def _settings_of(service: dict[str, Any]) -> dict[str, str]:
    """Return the settings that a service is given, by field name."""
    given = {name.removeprefix("ZENTRA_").lower(): value for name, value in service["environment"].items()}
    return {name.removesuffix("_file"): value for name, value in given.items()}


def _file(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


# The services.


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_given_settings_that_exist(name: str) -> None:
    assert set(_settings_of(OURS[name])) <= set(Settings.__struct_fields__)


@pytest.mark.parametrize(("name", "needed"), NEEDED)
def test_a_service_is_given_what_its_command_needs(name: str, needed: set[str]) -> None:
    assert needed <= set(_settings_of(OURS[name]))


@pytest.mark.parametrize("name", OURS)
def test_a_secret_comes_from_a_file_that_is_mounted(name: str) -> None:
    for variable, value in OURS[name]["environment"].items():
        setting = variable.removeprefix("ZENTRA_").removesuffix("_FILE").lower()
        if setting in SECRET_SETTINGS:
            assert variable.endswith("_FILE")
            assert value == f"/run/secrets/{setting}"
            assert setting in OURS[name]["secrets"]


def test_only_the_owner_of_the_database_gets_the_owners_connection() -> None:
    assert {name for name in OURS if "postgres_admin_url" in _settings_of(OURS[name])} == {"migrate", "nats-config"}


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_a_command_that_exists(name: str) -> None:
    command = typer.main.get_command(app)
    first, *options = OURS[name]["command"]
    with typer.Context(typer.main.get_command(app)) as context:
        found = command.get_command(context, first)  # type: ignore[attr-defined]  # a group, typed as a command
    assert found is not None
    known = {option for parameter in found.params for option in parameter.opts}
    assert {option.split("=")[0] for option in options} <= known


@pytest.mark.parametrize("name", OURS)
def test_a_process_of_ours_can_write_nowhere_and_has_no_privileges(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"migrate", "nats-config"}))
def test_a_service_that_stays_is_checked_and_restarted(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_services_refer_to_what_the_file_defines() -> None:
    for service in SERVICES.values():
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        assert set(service.get("depends_on", ())) <= set(SERVICES)
        mounted = {volume.split(":")[0] for volume in service.get("volumes", ())}
        assert {name for name in mounted if not name.startswith(".")} <= set(COMPOSE["volumes"])


def test_nothing_is_published_beyond_this_machine() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_stores_have_no_way_out() -> None:
    assert COMPOSE["networks"]["stores"]["internal"] is True
    assert {name for name in ("postgres", "nats", "valkey") if SERVICES[name]["networks"] != ["stores"]} == set()


def test_ports_are_the_same_wherever_they_stand() -> None:
    gateway, worker = _settings_of(OURS["gateway"]), _settings_of(OURS["worker"])
    assert int(gateway["port"]) == Settings().port
    scraped = yaml.safe_load(_file("prometheus/prometheus.yml"))["scrape_configs"]
    targets = {target for job in scraped for group in job["static_configs"] for target in group["targets"]}
    assert targets == {f"gateway:{gateway['port']}", f"worker:{worker['metrics_port']}"}
    exposed = re.search(r"^EXPOSE (.*)$", _file("Dockerfile"), re.MULTILINE)
    assert exposed is not None
    assert exposed[1].split() == [gateway["port"], worker["metrics_port"]]


# The image.


def test_the_image_holds_every_package_and_no_other_file() -> None:
    copied = re.findall(r"^COPY (\w+) \1$", _file("Dockerfile"), re.MULTILINE)
    assert copied == list(FOLDERS)
    let_in = {line[1:] for line in _file("Dockerfile.dockerignore").splitlines() if line.startswith("!")}
    assert let_in == {*FOLDERS, "pyproject.toml", "README.md", "LICENSE"}


def test_the_image_runs_zentra_as_nobody_special() -> None:
    text = _file("Dockerfile")
    assert 'ENTRYPOINT ["zentra"]' in text
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert SERVICES["nats"]["user"] == "10001:10001"


# The secrets.


def test_the_secrets_fit_the_settings_and_each_other(tmp_path: Path) -> None:
    directory = _made_secrets(tmp_path)
    made = {file.name for file in directory.iterdir()}
    assert set(COMPOSE["secrets"]) <= made
    files = {f"ZENTRA_{name.upper()}_FILE": str(directory / name) for name in SECRET_SETTINGS}
    settings = read_settings(files)
    load_private_key(settings.evidence_key.encode())
    nats = urlsplit(settings.nats_url)
    assert (nats.username, nats.password) == (RUNTIME_USER, runtime_password(settings.secret_bytes()))
    assert f"{nats.hostname}:{nats.port}" == "nats:4222"
    for url, role in ((settings.postgres_writer_url, "zentra_writer"), (settings.postgres_tenant_url, "zentra_tenant")):
        assert (urlsplit(url).username, urlsplit(url).hostname) == (role, "postgres")


def test_making_secrets_again_changes_none(tmp_path: Path) -> None:
    directory = _made_secrets(tmp_path)
    before = {file.name: file.read_bytes() for file in directory.iterdir()}
    assert {file.name: file.read_bytes() for file in _made_secrets(tmp_path).iterdir()} == before
    assert directory.stat().st_mode & 0o077 == 0


# NATS.


def test_the_configuration_of_nats_is_the_one_that_is_rendered() -> None:
    assert _without_comments(_file("nats/nats-server.conf")) == _with_variables(_rendered())


@pytest.mark.parametrize("name", ["nats-server.conf", "cluster.conf"])
def test_the_server_accepts_the_configuration(tmp_path: Path, name: str) -> None:
    (tmp_path / "nats-server.conf").write_text(_with_variables(_rendered(str(tmp_path / "store"), sync_always=True)))
    if name == "cluster.conf":
        (tmp_path / name).write_text(_file(f"nats/{name}"))
    certificate, key = _certificate(tmp_path)
    environment = {
        **{variable: "0123456789abcdef" for variable, _ in _passwords()},
        "NATS_ROUTE_PASSWORD": "0123456789abcdef",
        **{f"NATS_ROUTE_{number}": f"nats-route://nats-{number}:6222" for number in (1, 2, 3)},
        "NATS_CERTIFICATE": certificate,
        "NATS_KEY": key,
        "NATS_AUTHORITY": certificate,
    }
    checked = subprocess.run(
        [NATS, "-t", "-c", str(tmp_path / name)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert checked.returncode == 0, checked.stderr


def test_a_cluster_syncs_before_it_acknowledges() -> None:
    assert "--sync-always" in _file("nats/cluster.conf")
    assert "sync_interval: always" in _rendered(sync_always=True)


# Alerts.


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_asks_for_metrics_that_exist_and_says_what_to_do(alert: dict[str, Any]) -> None:
    asked = set(re.findall(r"\bzentra_\w+", alert["expr"]))
    assert asked <= exposed_metrics()
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["action"]


def test_what_must_never_happen_has_an_alert() -> None:
    asked = {name for alert in ALERTS for name in re.findall(r"\bzentra_\w+", alert["expr"])}
    assert {
        "zentra_ledger_imbalance_minor_units",
        "zentra_outbox_lag_seconds",
        "zentra_checkpoint_lag_messages",
        "zentra_fence_refusals_total",
        "zentra_poison_messages_total",
        "zentra_redis_degraded",
    } <= asked


# The manual.


def test_the_manual_names_files_that_exist() -> None:
    named = re.findall(r"^\| `([\w./-]+)` \|", _file("README.md"), re.MULTILINE)
    assert named
    assert [name for name in named if not (DEPLOY / name).exists()] == []


def test_the_manual_runs_commands_that_exist() -> None:
    run = re.findall(r"run --rm ([\w-]+) ?([\w-]*) ?([\w-]*)", _file("README.md"))
    assert run
    with typer.Context(typer.main.get_command(app)) as context:
        for service, group, command in run:
            assert service in SERVICES
            if group:
                found = context.command.get_command(context, group)  # type: ignore[attr-defined]  # as above
                assert command in found.list_commands(context)


def _made_secrets(place: Path) -> Path:
    subprocess.run(["sh", DEPLOY / "secrets.sh", place / "secrets"], check=True, timeout=20)
    return place / "secrets"


def _rendered(store_dir: str = "/var/lib/zentra/jetstream", *, sync_always: bool = False) -> str:
    return render_config(
        listen="0.0.0.0:4222",
        http="0.0.0.0:8222",
        store_dir=store_dir,
        tenants=["acme", "globex"],
        secret=SECRET,
        sync_always=sync_always,
    )


def _passwords() -> list[tuple[str, str]]:
    return [
        ("NATS_PASSWORD_RUNTIME", runtime_password(SECRET)),
        ("NATS_PASSWORD_SYSTEM", system_password(SECRET)),
        ("NATS_PASSWORD_ACME", tenant_password(SECRET, "acme")),
        ("NATS_PASSWORD_GLOBEX", tenant_password(SECRET, "globex")),
    ]


def _with_variables(text: str) -> str:
    for variable, password in _passwords():
        text = text.replace(f'"{password}"', f"${variable}")
    return text


def _without_comments(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if line.strip() and not line.startswith("#"))


def _certificate(directory: Path) -> tuple[str, str]:
    """Return the paths of a certificate that vouches for itself and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nats")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    (directory / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(directory / "certificate.pem"), str(directory / "key.pem")
