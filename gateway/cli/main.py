"""`zentra`: the command line of the runtime.

- Help is instant: a command imports what it needs when it runs.
- Expected errors are told in a line or two with an exit code that stays the same; a traceback means a bug of ours.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping
from typing import Any, Final

import typer

from zentra.gateway.cli.access import add_access
from zentra.gateway.cli.administration import add_administration
from zentra.gateway.cli.archive import add_archive
from zentra.gateway.cli.cases import add_cases
from zentra.gateway.cli.deadletters import add_deadletters
from zentra.gateway.cli.fees import add_fees
from zentra.gateway.cli.installation import add_installation
from zentra.gateway.cli.ledger import add_ledger
from zentra.gateway.cli.periods import add_periods
from zentra.gateway.cli.policy import add_policy
from zentra.gateway.cli.rates import add_rates
from zentra.gateway.cli.rehearse import add_rehearse
from zentra.gateway.cli.reviews import add_reviews
from zentra.gateway.cli.routes import add_routes
from zentra.gateway.cli.screening import add_screening
from zentra.gateway.cli.servers import add_servers
from zentra.gateway.cli.support import JSON_OPTION, ExitCode, explained, say, say_json, settings, table
from zentra.gateway.cli.webhooks import add_webhooks
from zentra.gateway.settings import Settings

__all__ = ["app", "main"]

_HELP: Final = """
A money runtime: a financial intent becomes controlled, ledgered, routed and evidenced state, exactly once.

\b
Try it on this machine, without anything installed beside it:
  zentra dev            servers, gateway, worker and a sandbox rail, with keys and a curl to paste
  zentra demo           one transfer and five incidents, told as they happen
  zentra rehearse all   every failure it is built for, with the evidence each leaves

\b
Run it for real (every process reads ZENTRA_… variables; see: zentra config show):
  zentra migrate        bring the database up to date
  zentra gateway        the HTTP and NATS border
  zentra worker         the engine; as many as wanted
"""
_EPILOG: Final = "Exit codes: 0 done, 1 refused, 2 wrong usage, 3 configuration, 4 a server does not answer, 70 a bug."

app = typer.Typer(
    name="zentra",
    help=_HELP,
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Look at the configuration.", no_args_is_help=True)
add_installation(app)
add_servers(app)
add_administration(app)
add_policy(app)
add_access(app)
add_rates(app)
add_fees(app)
add_deadletters(app)
add_cases(app)
add_reviews(app)
add_routes(app)
add_ledger(app)
add_periods(app)
add_archive(app)
add_screening(app)
add_webhooks(app)
add_rehearse(app)
app.add_typer(config_app, name="config")


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def evidence(context: typer.Context) -> None:
    """Verify evidence offline by the public key alone, export it, make it readable."""
    from zentra.gateway.cli import (  # noqa: F401 - they add their commands
        evidence_anchors,
        evidence_erasure,
        evidence_export,
        evidence_exports,
        evidence_keys,
    )
    from zentra.gateway.cli.evidence import evidence_app

    evidence_app(args=context.args, prog_name="zentra evidence")


@app.command()
def version(as_json: bool = JSON_OPTION) -> None:
    """Print the versions of zentra, Python and system."""
    facts = {
        "zentra": importlib.metadata.version("zentra"),
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    if as_json:
        say_json(facts)
    else:
        say(*(f"{name} {fact}" for name, fact in facts.items()))


@config_app.command("show")
def show_config(as_json: bool = JSON_OPTION) -> None:
    """Print every setting, where it comes from, and its value with secrets cut out.

    \b
    Each setting NAME is read from ZENTRA_NAME, or from the file that ZENTRA_NAME_FILE names.
    """
    rows = [_setting(settings(), name, os.environ) for name in Settings.__struct_fields__]
    if as_json:
        say_json(rows)
    else:
        table(rows, ("setting", "value", "origin"), "")


def _setting(known: Settings, name: str, environment: Mapping[str, str]) -> dict[str, Any]:
    from zentra.gateway.logs import HIDDEN, redact

    variable = f"ZENTRA_{name.upper()}"
    file = environment.get(f"{variable}_FILE")
    value = getattr(known, name)
    origin = f"{variable}_FILE={file}" if file is not None else variable if variable in environment else "default"
    if name in ("secret", "evidence_key") and value:
        value = HIDDEN
    return {"setting": name, "value": redact(value) if isinstance(value, str) else value, "origin": origin}


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        app(prog_name="zentra")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has had enough; the interpreter must not complain of it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.DONE)
    except Exception as error:
        told = explained(error)
        if told is None:
            raise
        sentence, code = told
        typer.echo(f"zentra: {sentence}", err=True)
        sys.exit(code)
