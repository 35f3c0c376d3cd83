"""The command line: instant help, stable exit codes, and errors that name the fix."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway.commanding import Zentra, answer
from zentra.gateway.outward import rail_kinds
from zentra.gateway.outward.rail_inline import InlineRail
from zentra.runtime.keys import RANDOM_BYTES, make_key
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
    "listen", "webhooks", "webhooks list", "webhooks recover", "webhooks endpoints", "webhooks endpoints list",
    "webhooks endpoints add", "webhooks endpoints disable", "webhooks endpoints enable", "webhooks endpoints rotate",
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


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(zentra: Zentra, command: str) -> None:
    code, out, err = zentra(f"{command} --help")
    assert (code, err) == (0, "")
    assert "Usage: zentra" in out
    assert len(out) > 100


def test_an_adapter_that_cannot_be_made_is_refused_before_its_rail_is_stored(
    fresh: Zentra, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Porter(InlineRail):
        def __init__(self, settings: RailSettings, http: object, spans: object) -> None:
            super().__init__(settings)
            self.port = int(settings.options["port"])

    monkeypatch.setitem(rail_kinds.BUILT_IN, "porter", rail_kinds.Kind(Porter.declaration, Porter))
    assert fresh("migrate")[0] == 0
    code, _, err = fresh("rails create x --kind porter --option port=five")
    assert (code, "adapter_unusable" in err, "ValueError" in err, "Traceback" in err) == (1, True, True, False)
    assert answer(fresh, "rails list") == []
    assert fresh("rails create x --kind porter --option port=5")[0] == 0


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
