"""The command line: instant help, stable exit codes, errors that name the fix, and a `zentra dev` that works."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.services import QUOTED_PASSWORD
from zentra.gateway.cli import main as cli
from zentra.gateway.devstack.stack import DevStack
from zentra.gateway.outward import rail_kinds
from zentra.gateway.outward.rail_inline import InlineRail
from zentra.runtime.keys import RANDOM_BYTES, make_key, parse_key
from zentra.runtime.rails.port import RailSettings

COMMANDS = (
    "", "dev", "demo", "bench", "gateway", "worker", "sandbox", "migrate", "nats-config", "evidence", "evidence verify",
    "version", "config", "config show",
    "tenants", "tenants create", "tenants list",
    "principals", "principals create", "principals list",
    "keys", "keys create", "keys list", "keys revoke",
    "rails", "rails create", "rails list", "rails kinds", "rails polling", "rails seal",
    "rails drain", "rails resume", "rails maintain", "rails health",
    "routes", "routes draft", "routes check", "routes validate", "routes promote", "routes rollback", "routes list",
    "routes show", "routes explain",
    "corridors", "corridors create", "corridors list",
    "policies", "policies create", "policies list",
    "policy", "policy draft", "policy validate", "policy backtest", "policy promote", "policy rollback", "policy list",
    "policy show", "policy explain",
    "fees", "fees put", "fees show", "fees list", "fees check", "fees quote",
    "deadletters", "deadletters list", "deadletters retry", "cases", "cases list", "cases resolve",
    "screening", "screening load", "screening list", "screening check", "screening rescreen",
    "reviews", "reviews list", "reviews counts", "reviews show", "reviews approve", "reviews reject", "reviews claim",
    "reviews assign", "reviews comment", "reviews escalate", "reviews rules",
    "approvals", "approvals list", "approvals show", "approvals approve", "approvals reject", "approvals cancel",
    "ledger", "ledger check", "ledger trial-balance", "ledger chain",
    "archive", "archive make", "archive verify",
    "periods", "periods close", "periods list", "periods reopen", "rehearse",
)  # fmt: skip
HEAVY = (
    "uvicorn",
    "aiohttp",
    "asyncpg",
    "nats",
    "redis",
    "cryptography",
    "prometheus_client",
    "anyio",
    "zentra.storage",
)
NOBODY = "postgresql://nobody:secret@127.0.0.1:1/none"

Zentra = Callable[..., tuple[int, str, str]]


@pytest.fixture
def zentra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Zentra:
    """Runs a command line as the shell would, in this process; returns exit code, stdout and stderr."""
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)  # the log of this process stays pytest's
    monkeypatch.setattr(logging, "captureWarnings", lambda _: None)
    for name in [name for name in os.environ if name.startswith("ZENTRA_")]:
        monkeypatch.delenv(name)

    def run(line: str, **environment: str) -> tuple[int, str, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["zentra", *shlex.split(line)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        code = left.value.code
        shown = capsys.readouterr()
        return int(code or 0), shown.out, shown.err

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(zentra: Zentra, command: str) -> None:
    code, out, err = zentra(f"{command} --help")
    assert (code, err) == (0, "")
    assert "Usage: zentra" in out
    assert len(out) > 100


def test_an_adapter_that_cannot_be_made_is_refused_before_its_rail_is_stored(
    zentra: Zentra, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Porter(InlineRail):
        def __init__(self, settings: RailSettings, http: object, spans: object) -> None:
            super().__init__(settings)
            self.port = int(settings.options["port"])

    monkeypatch.setitem(rail_kinds.BUILT_IN, "porter", rail_kinds.Kind(Porter.declaration, Porter))
    code, _, err = zentra("rails create x --kind porter --option port=five")
    assert (code, "adapter_unusable" in err, "ValueError" in err, "Traceback" in err) == (1, True, True, False)
    code, _, err = zentra("rails create x --kind porter --option port=5")
    assert (code, "ADMIN_URL is not set" in err) == (3, True)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['zentra', '--help']\n"
        "from zentra.gateway.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.endswith("LOADED []\n")


# fmt: off
ERRORS: tuple[tuple[str, dict[str, str], int, str], ...] = (
    # command line, environment, exit code, what stderr says
    ("frobnicate",                            {},                                       2, "No such command"),
    ("tenants create",                        {},                                       2, "Missing argument"),
    ("tenants list",                          {},                                       3, "ADMIN_URL is not set"),
    ("worker",                                {},                                       3, "WRITER_URL is not set"),
    ("gateway",                               {},                                       3, "WRITER_URL is not set"),
    ("migrate",                               {},                                       3, "ADMIN_URL is not set"),
    ("nats-config",                           {},                                       3, "ZENTRA_SECRET is not set"),
    ("config show",                           {"ZENTRA_PROT": "1"},                     3, "did you mean ZENTRA_PORT?"),
    ("config show",                           {"ZENTRA_PORT": "x"},                     3, "ZENTRA_PORT"),
    ("config show",                           {"ZENTRA_SECRET_FILE": "/none"},          3, "cannot read /none"),
    ("config show",                           {"ZENTRA_API_KEYS": "1"},                 3, "KEYS is no setting"),
    ("tenants list",                          {"ZENTRA_BASE_URL": "a", "ZENTRA_API_KEY": "k"}, 3, "ADMIN_URL is not"),
    ("reviews list --key k --url nonsense",   {},                                       2, "begins with http"),
    ("reviews list --url http://a --key ö",   {},                                       2, "visible ASCII"),
    ("policy backtest acme --version 99999999999", {},                                  2, "--version"),
    ("policy show acme 99999999999",          {},                                       2, "VERSION"),
    ("policy show acme 0",                    {},                                       2, "VERSION"),
    ("worker",                                {"ZENTRA_LOG_FORMAT": "yaml"},            3, "ZENTRA_LOG_FORMAT"),
    ("sandbox --rails /none",                 {},                                       3, "/none"),
    ("policies create acme --file /none",     {},                                       3, "/none"),
    ("rails create x --file /none",           {},                                       3, "/none"),
    ("rails polling x --after 5",             {},                                       2, "go together"),
    ("rails polling x",                       {},                                       3, "ADMIN_URL is not set"),
    ("rails create x --kind no_such_bank",    {},                                       1, "kind_unknown"),
    ("rails create x --kind providus",        {},                                       3, "client_id is missing"),
    ("rails create x --secret callback",      {},                                       3, "--secret callback: write"),
    ("rails create x --secret a=file:/none",  {},                                       3, "/none"),
    ("rails create x --secret a=env:NO_SUCH", {},                                       3, "NO_SUCH is empty"),
    ("rails create x --secret a=opensesame",  {},                                       3, "a=file:PATH or a=env:"),
    ("rails create x --option client_id",     {},                                       3, "--option client_id: write"),
    ("fees put acme /none",                   {},                                       3, "/none"),
    ("fees check /none",                      {},                                       3, "/none"),
    ("fees list acme",                        {},                                       3, "ADMIN_URL is not set"),
    ("tenants list",                          {"ZENTRA_POSTGRES_ADMIN_URL": NOBODY},    4, "is the server running"),
    ("deadletters list",                      {},                                       3, "WRITER_URL is not set"),
    ("deadletters retry",                     {},                                       2, "name one letter"),
    ("cases list",                            {},                                       3, "ADMIN_URL is not set"),
    ("cases list",                            {"ZENTRA_POSTGRES_ADMIN_URL": NOBODY},    4, "is the server running"),
    ("cases resolve",                         {},                                       2, "Missing argument"),
    ("cases resolve 17 --reason x",           {},                                       2, "32 hex digits"),
    ("cases resolve " + "a" * 32,             {},                                       2, "Missing option"),
    ("deadletters retry 1 --all",             {},                                       2, "name one letter"),
    ("evidence verify /none --key /none",     {},                                       3, "/none"),
    ("ledger check",                          {},                                       2, "WRITER_URL is not set"),
    ("ledger check",                          {"ZENTRA_POSTGRES_WRITER_URL": NOBODY},   2, "is the server running"),
    ("ledger chain",                          {"ZENTRA_POSTGRES_WRITER_URL": NOBODY},   2, "no key to believe"),
    ("ledger chain --key /none",              {"ZENTRA_POSTGRES_WRITER_URL": NOBODY},   2, "/none"),
    ("ledger trial-balance --by chance",      {"ZENTRA_POSTGRES_WRITER_URL": NOBODY},   2, "recorded or effective"),
    ("ledger trial-balance --at noon",        {"ZENTRA_POSTGRES_WRITER_URL": NOBODY},   2, "no time such as"),
    ("periods close acme",                    {},                                       2, "Missing option"),
    ("periods close acme --until 2026-04-01", {},                                       2, "say the zone"),
    ("archive verify /none",                  {},                                       2, "no key to believe"),
    ("archive make acme --until 2026-04-01T00Z --output /none --format zip", {},        2, "csv or parquet"),
    ("periods list acme",                     {},                                       3, "ADMIN_URL is not set"),
    ("rehearse fire",                         {},                                       2, "there are: happy, dup"),
    ("rehearse happy --url http://127.0.0.1", {},                                       2, "needs --creator-key and"),
    ("rehearse happy --url http://127.0.0.1 --creator-key /none", {},                   3, "/none"),
    ("rehearse happy --data-dir /none",       {},                                       2, "zentra dev --data-dir"),
)
# fmt: on


@pytest.mark.parametrize(("line", "environment", "code", "sentence"), ERRORS)
def test_an_expected_error_has_an_exit_code_and_a_sentence(
    zentra: Zentra, line: str, environment: dict[str, str], code: int, sentence: str
) -> None:
    left, _, err = zentra(line, **environment)
    assert left == code
    assert sentence in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "line",
    [
        "policies create acme --file FILE", "policy draft acme --file FILE", "fees put acme FILE", "fees check FILE",
        "fees quote FILE --amount 5 --currency NGN", "reviews rules acme --file FILE", "rails create x --file FILE",
    ],
)  # fmt: skip
def test_a_file_that_is_no_text_is_named_with_the_fix(zentra: Zentra, tmp_path: Path, line: str) -> None:
    path = tmp_path / "latin"
    path.write_bytes('{"note": "é"}'.encode("latin-1"))
    code, _, err = zentra(line.replace("FILE", str(path)))
    assert (code, "Traceback" in err) == (2, False)
    assert f"{path}: byte 10 is no UTF-8; save it as UTF-8" in err


def test_nothing_is_rehearsed_with_a_live_key(zentra: Zentra, tmp_path: Path) -> None:
    for name, live in (("live", True), ("test", False)):
        (tmp_path / name).write_text(make_key(bytes(RANDOM_BYTES), live=live)[1], encoding="utf-8")
    keys = f"--creator-key {tmp_path / 'test'} --operator-key {tmp_path / 'live'}"
    code, _, err = zentra(f"rehearse happy --url http://127.0.0.1:1 {keys}")
    assert (code, "these keys are live" in err) == (2, True)


def test_the_configuration_is_shown_with_its_origin_and_without_secrets(zentra: Zentra, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("ab" * 32)
    code, out, _ = zentra(
        "config show --json",
        ZENTRA_PORT="9000",
        ZENTRA_SECRET_FILE=str(secret),
        ZENTRA_NATS_URL="nats://runtime:hidden@127.0.0.1:4222",
    )
    shown = {row["setting"]: (row["value"], row["origin"]) for row in json.loads(out)}
    assert code == 0
    assert shown["port"] == (9000, "ZENTRA_PORT")
    assert shown["secret"] == ("***", f"ZENTRA_SECRET_FILE={secret}")
    assert shown["nats_url"] == ("nats://runtime:***@127.0.0.1:4222", "ZENTRA_NATS_URL")
    assert shown["host"] == ("127.0.0.1", "default")


@pytest.fixture
def fresh(stack: DevStack, monkeypatch: pytest.MonkeyPatch, zentra: Zentra) -> Iterator[Zentra]:
    """The command line in front of a database of its own, which nobody has migrated yet."""

    async def statement(sql: str) -> None:
        connection = await asyncpg.connect(stack.postgres_url)
        await connection.execute(sql)
        await connection.close()

    asyncio.run(statement("create database for_the_command_line"))
    admin = stack.postgres_url.rpartition("/")[0] + "/for_the_command_line"
    server = admin.rpartition("@")[2]
    monkeypatch.setenv("ZENTRA_POSTGRES_ADMIN_URL", admin)
    monkeypatch.setenv("ZENTRA_POSTGRES_WRITER_URL", f"postgresql://zentra_writer:{QUOTED_PASSWORD}@{server}")
    monkeypatch.setenv("ZENTRA_POSTGRES_TENANT_URL", f"postgresql://zentra_tenant:{QUOTED_PASSWORD}@{server}")
    monkeypatch.setenv("ZENTRA_SECRET", "cd" * 32)
    yield zentra
    asyncio.run(statement("drop database for_the_command_line with (force)"))


def answer(zentra: Zentra, line: str, **environment: str) -> Any:
    code, out, err = zentra(f"{line} --json", **environment)
    assert (code, err) == (0, "")
    return json.loads(out)


def test_an_installation_is_set_up_from_the_command_line(fresh: Zentra, tmp_path: Path) -> None:
    code, _, err = fresh("tenants list")
    assert code == 3
    assert "zentra migrate" in err

    assert answer(fresh, "migrate")["applied"][0].startswith("0001_")
    assert answer(fresh, "migrate")["applied"] == []
    code, _, err = fresh("migrate --partitions 32")
    assert (code, "run it with 8" in err) == (3, True)

    assert answer(fresh, "tenants create acme --name 'Acme Ltd'") == {
        "tenant": "acme", "mode": "test", "created": True,
    }  # fmt: skip
    assert answer(fresh, "tenants create acme --name 'Acme Ltd'") == {
        "tenant": "acme", "mode": "test", "created": False,
    }  # fmt: skip
    code, _, err = fresh("tenants create acme --name Other")
    assert (code, "tenant_exists" in err) == (1, True)
    assert [tenant["name"] for tenant in answer(fresh, "tenants list")] == ["Acme Ltd"]
    code, out, _ = fresh("tenants list")
    assert out.splitlines()[1].startswith("acme  Acme Ltd")

    assert answer(fresh, "principals create acme dev --role developer")["created"] is True
    assert [one["role"] for one in answer(fresh, "principals list acme")] == ["developer"]

    (tmp_path / "secret").write_text("of the rail\n")
    rail = f"rails create sandbox_a --base-url http://127.0.0.1:8090 --secret-file {tmp_path / 'secret'}"
    assert answer(fresh, rail) == {"rail": "sandbox_a", "changed": True}
    assert [(one["name"], one["secret"]) for one in answer(fresh, "rails list")] == [("sandbox_a", "***")]
    bank = (
        "rails create bank --kind gtbank --base-url http://127.0.0.1:8090 --option client_id=zentra"
        f" --secret callback=file:{tmp_path / 'secret'} --secret client_secret=env:OF_THE_BANK --network 192.0.2.0/24"
    )
    assert answer(fresh, bank, OF_THE_BANK="hush") == {"rail": "bank", "changed": True}
    (made,) = [one for one in answer(fresh, "rails list") if one["name"] == "bank"]
    assert (made["secrets"], made["not_found_lies_seconds"]) == ({"client_secret": "***"}, 5.0)
    assert (made["options"], made["callback_networks"]) == ({"client_id": "zentra"}, ["192.0.2.0/24"])

    corridor = "corridors create acme ng-transfer --currency NGN --rail sandbox_a"
    assert answer(fresh, corridor)["changed"] is True
    assert answer(fresh, "corridors list acme")[0]["rails"] == ["sandbox_a"]
    code, _, err = fresh(corridor.replace("sandbox_a", "nobody"))
    assert (code, "rail_unknown" in err) == (1, True)

    rules = tmp_path / "rules.json"
    rules.write_text('{"limits": {"NGN": {"transaction_minor_max": 5}}}')
    assert answer(fresh, f"policies create acme --file {rules}")["version"] == 1
    assert answer(fresh, "policies list acme")[0]["limits"]["NGN"]["transaction_minor_max"] == 5
    rules.write_text('{"limits": {"NGN": {"transaction_minor_mux": 5}}}')
    code, _, err = fresh(f"policies create acme --file {rules}")
    assert (code, "/limits/NGN/transaction_minor_mux" in err) == (3, True)

    config = tmp_path / "nats.conf"
    assert fresh(f"nats-config --output {config}")[0] == 0
    assert "T_ACME" in config.read_text()
    assert config.stat().st_mode & 0o777 == 0o600


def test_how_a_rail_is_asked_is_shown_and_changed(fresh: Zentra) -> None:
    for line in ("migrate", "rails create sandbox_a --base-url http://127.0.0.1:8090"):
        answer(fresh, line)
    asked = answer(fresh, "rails polling sandbox_a")
    assert (asked["changed"], asked["deadline_seconds"], asked["stranger_wait_seconds"]) == (False, 900.0, 30.0)
    line = "rails polling sandbox_a --standing pending --after 5 --jitter 0 --deadline 60"
    for changed in (True, False):
        asked = answer(fresh, line)
        assert (asked["changed"], asked["deadline_seconds"]) == (changed, 60.0)
    [pending] = [row for row in asked["polling"] if row["standing"] == "pending"]
    assert pending["asked_after"] == [2.0, 7.0, 14.0, 28.0, 56.0, 112.0]
    for line, sentence in (
        ("rails polling sandbox_a --standing asleep --after 5", "one of silent"),
        ("rails polling sandbox_a --standing pending --factor 1", "polling.pending.factor: above 1"),
        ("rails polling nobody", "the rails are sandbox_a"),
    ):
        code, _, err = fresh(line)
        assert (code != 0, sentence in err) == (True, True), err
    code, out, _ = fresh("rails polling sandbox_a")
    assert (code, "an outcome unknown for 60 s is a case" in out) == (0, True)


def test_fees_are_tried_put_in_force_and_taken_back(
    fresh: Zentra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in ("migrate", "tenants create acme"):
        answer(fresh, line)
    file = tmp_path / "fees.json"
    flat = {"name": "flat", "model": "flat", "flat_minor": 50, "applies": {"currencies": ["NGN"]}}
    file.write_text(json.dumps({"rules": [flat, {**flat, "flat_minor": 0}]}))
    code, _, err = fresh(f"fees check {file}")
    assert (code, "/rules/1/name" in err, "/rules/1/flat_minor" in err) == (3, True, True)
    file.write_text(json.dumps({"rules": [flat]}))
    assert answer(fresh, f"fees check {file}") == {"rules": 1, "sound": True}
    quoted = answer(fresh, f"fees quote {file} --amount 1000 --currency NGN")
    assert (quoted["payer_pays"], quoted["payee_gets"]) == ("1050", "1000")
    assert fresh(f"fees quote {file} --amount 1000 --currency USD")[1].startswith("nothing is charged")
    assert fresh("fees show acme")[0] == 3
    assert answer(fresh, f"fees put acme {file}") == {"tenant": "acme", "version": 1, "new": True}
    assert answer(fresh, f"fees put acme {file}") == {"tenant": "acme", "version": 1, "new": False}
    file.write_text(json.dumps({"rules": [{**flat, "model": "percentage", "rate_bps": "12.5"}]}))
    assert answer(fresh, f"fees put acme {file} --by amara")["version"] == 2
    assert [(row["version"], row["active"]) for row in answer(fresh, "fees list acme")] == [(2, True), (1, False)]
    code, out, _ = fresh("fees show acme")
    assert (code, "amara" in out, "12.5 bps" in out, "currencies NGN" in out) == (0, True, True, True)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(answer(fresh, "fees show acme --version 1"))))
    assert answer(fresh, "fees put acme -")["version"] == 3
    assert answer(fresh, "fees show acme")["rules"] == [flat]
    code, _, err = fresh(f"fees put nobody {file}")
    assert (code, "tenant_unknown" in err) == (1, True)


def test_who_may_come_in_is_set_up_from_the_command_line(fresh: Zentra) -> None:
    for line in ("migrate", "tenants create acme", "principals create acme dev --role developer"):
        answer(fresh, line)
    made = answer(fresh, "keys create acme dev --expires-days 30")
    assert parse_key(made["key"]) is not None
    listed = answer(fresh, "keys list acme")
    assert [key["id"] for key in listed] == [made["id"]]
    assert made["key"] not in json.dumps(listed)
    follower = answer(fresh, f"keys rotate acme {made['id']} --overlap-hours 1")
    assert (follower["replaces"], follower["key"].startswith("zk_test_")) == (made["id"], True)
    assert answer(fresh, f"keys revoke acme {made['id']}")["revoked"] is True
    narrow = answer(fresh, "keys create acme dev --name job --scope intents:read --network 192.0.2.0/24")
    assert [(key["name"], key["scopes"]) for key in answer(fresh, "keys list acme") if key["id"] == narrow["id"]] == [
        ("job", ["intents:read"])
    ]
    assert answer(fresh, "certificates add acme dev spiffe://acme/dev")["created"] is True
    assert answer(fresh, "certificates revoke acme spiffe://acme/dev")["revoked"] is True
    assert answer(fresh, "certificates list acme")[0]["revoked_at"] is not None
    assert answer(fresh, "limits set acme money 600/60 --per key")["changed"] is True
    assert answer(fresh, "limits list acme") == [
        {"route_class": "money", "per": "key", "quota": 600, "window_seconds": 60}
    ]
    assert fresh("limits set acme gold 1/1")[0] == 3
    assert answer(fresh, "principals disable acme dev")["disabled"] is True

    assert answer(fresh, "tenants create acme-live --live")["mode"] == "live"
    assert answer(fresh, "principals create acme-live dev --role developer")["created"] is True
    assert answer(fresh, "keys create acme-live dev")["key"].startswith("zk_live_")


def _request(curl: str) -> urllib.request.Request:
    """Return the request that a pasted curl makes."""
    words = shlex.split(curl)
    headers = dict(words[place + 1].split(": ", 1) for place, word in enumerate(words) if word == "-H")
    body = words[words.index("-d") + 1]
    url = next(word for word in words if word.startswith("http"))
    return urllib.request.Request(url, body.encode(), headers)


@pytest.mark.service
@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_dev_prints_a_curl_that_moves_money_and_ends_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "zentra.gateway",
        "dev",
        "--json",
        "--data-dir",
        str(tmp_path),
        "--port",
        str(_port()),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZENTRA_")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as dev:
        assert dev.stdout is not None
        assert dev.stderr is not None
        lines = []
        for line in dev.stdout:
            lines.append(line)
            if line == "}\n":
                break
        facts = json.loads("".join(lines))
        for _ in range(2):
            with urllib.request.urlopen(_request(facts["curl"])) as given:
                assert json.load(given)["status"] == "SUCCESSFUL"
        dev.send_signal(number)
        assert dev.wait(30) == 0
        assert dev.stderr.read() == ""
    written = json.loads((tmp_path / "installation" / "processes.json").read_text())
    assert written == {}, "no process is left"


def _port() -> int:
    from zentra.gateway.devstack.directory import free_port

    return free_port(None, ())


def test_a_policy_goes_from_draft_to_force_and_back_on_the_command_line(
    fresh: Zentra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in ("migrate", "tenants create acme"):
        answer(fresh, line)
    document = tmp_path / "policy.json"
    document.write_text('{"limits": {"NGN": {"review_minor_min": 5}}, "time_zone": "Nowhere"}')
    drafted = answer(fresh, f"policy draft acme --file {document} --by ada")
    assert (drafted["version"], [one["pointer"] for one in drafted["violations"]]) == (1, ["/time_zone"])
    code, out, _ = fresh("policy validate acme 1 --by ada")
    assert (code, "/time_zone" in out) == (1, True)

    document.write_text('{"limits": {"NGN": {"review_minor_min": 5}}}')
    for version in (2, 3):
        answer(fresh, f"policy draft acme --file {document} --by ada --note again")
        assert answer(fresh, f"policy validate acme {version} --by ada")["state"] == "validated"
        code, _, err = fresh(f"policy promote acme {version} --by ada")
        assert (code, "self_promotion" in err) == (1, True)
        assert answer(fresh, f"policy promote acme {version} --by grace")["state"] == "active"
    assert answer(fresh, "policy rollback acme 2 --by grace")["state"] == "active"
    code, _, err = fresh("policy rollback acme 2 --by grace")
    assert (code, "policy_state_conflict" in err) == (1, True)
    assert [(one["version"], one["state"]) for one in answer(fresh, "policy list acme")] == [
        (3, "retired"), (2, "active"), (1, "draft"),
    ]  # fmt: skip
    shown = answer(fresh, "policy show acme 2")
    assert [event["action"] for event in shown["events"]] == [
        "rolled_back", "retired", "promoted", "validated", "drafted",
    ]  # fmt: skip
    assert answer(fresh, "policy backtest acme --version 3")["decisions"] == 0
    assert "0 decisions" in fresh("policy backtest acme --version 3")[1]
    for line in ("policy show acme 9", "policy validate acme 9", "policy backtest acme --version 9"):
        assert fresh(line)[0] == 1
    code, out, _ = fresh("policy explain acme nothing")
    assert (code, "has no intent" in out) == (1, True)
    monkeypatch.setenv("ZENTRA_RISK_SCORERS", "mine=nowhere:score")
    code, _, err = fresh("policy backtest acme --version 2")
    assert (code, "ZENTRA_RISK_SCORERS" in err) == (3, True)


def test_cases_of_the_installation_are_listed_and_resolved_with_a_reason(fresh: Zentra) -> None:
    answer(fresh, "migrate")
    mine, poison, tenants = "a1" * 16, "b2" * 16, "c3" * 16

    async def put() -> None:
        connection = await asyncpg.connect(os.environ["ZENTRA_POSTGRES_ADMIN_URL"])
        for place, (case, tenant, kind) in enumerate(
            ((mine, "-", "unknown_reference"), (poison, "-", "poison_message"), (tenants, "acme", "unknown_reference"))
        ):
            detail = '{"rail": "alpha", "reference": "ref-1", "status": "succeeded", "cause": "evt-1"}'
            await connection.execute(
                "insert into zentra.cases (id, tenant, kind, status, detail, opened_at, deadline)"
                " values ($1, $2, $3, 'open', $4, now() + $5 * interval '1 s', now())",
                uuid.UUID(case), tenant, kind, detail, place,
            )  # fmt: skip
        await connection.close()

    asyncio.run(put())
    assert [row["id"] for row in answer(fresh, "cases list")] == [mine, poison]
    [shown] = answer(fresh, "cases list --open --kind unknown_reference")
    assert (shown["status"], shown["detail"]["reference"], shown["operator"]) == ("open", "ref-1", None)
    code, out, _ = fresh("cases list")
    assert (code, "ref-1" in out, tenants in out) == (0, True, False)

    line = f"cases resolve {mine} --by ada --reason looked"
    assert answer(fresh, line) == {"resolved": [mine], "by": "ada", "reason": "looked"}
    assert answer(fresh, line)["resolved"] == [], "once"
    done = {row["id"]: row for row in answer(fresh, "cases list")}[mine]
    assert (done["status"], done["operator"], done["resolution"]) == (
        "resolved", "ada", {"resolution": "dismissed", "reason": "looked"},
    )  # fmt: skip
    assert [row["id"] for row in answer(fresh, "cases list --open")] == [poison]
    for unknown in (tenants, "d4" * 16):
        code, _, err = fresh(f"cases resolve {poison} {unknown} --reason x")
        assert (code, f"no case {unknown}" in err) == (1, True), "of a tenant, or of nobody"
    assert len(answer(fresh, "cases list --open")) == 1, "all or none"
