"""`zentra reviews` and `zentra approvals`: the queue of people who decide, over the HTTP API with a key of their own.

- It speaks to a gateway as anybody does: ZENTRA_BASE_URL and ZENTRA_API_KEY, or --url and --key. Who decides is the
  principal of the key; nothing here decides in somebody else's name.
- An approval names what was looked at: `show` prints the request hash, `approve` wants it.
- `zentra reviews rules` sets what a tenant wants of its reviews; that takes the owner's connection, as all setting up.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec
import typer

from zentra.gateway.cli.support import JSON_OPTION, InputError, pooled, say, say_json, table, text_of
from zentra.gateway.settings import SettingsError

if TYPE_CHECKING:
    from zentra.client.api import Zentra

__all__ = ["KEY", "URL", "add_reviews", "asked"]

T = TypeVar("T")
LISTED_MAX: Final = 1_000
URL: Final = typer.Option("", "--url", envvar="ZENTRA_BASE_URL", help="The gateway: http://127.0.0.1:8080")
KEY: Final = typer.Option("", "--key", envvar="ZENTRA_API_KEY", help="The API key of whoever asks.", show_envvar=True)
REVIEW: Final = typer.Argument(metavar="ID", help="The review: the uuid of its intent, as `list` shows it.")
APPROVAL: Final = typer.Argument(metavar="ID", help="The approval, as `list` shows it.")
REASON: Final = typer.Option(..., "--reason", help="Why; it becomes part of the evidence.")
HASH: Final = typer.Option(..., "--hash", help="The request hash of what was looked at, as `show` prints it.")
HASH_OR_NOT: Final = typer.Option(None, "--hash", help="The request hash of what was looked at.")
COLUMNS: Final = ("id", "intent_id", "amount", "currency", "kind", "assigned_to", "due_at", "overdue", "status")
APPROVALS: Final = ("id", "kind", "subject", "created_by", "status", "expires_at", "reason")

reviews_app = typer.Typer(help="Reviews: what waits for a person.", no_args_is_help=True, rich_markup_mode=None)
approvals_app = typer.Typer(
    help="Approvals: what needs a second person and is no intent.", no_args_is_help=True, rich_markup_mode=None
)


def add_reviews(app: typer.Typer) -> None:
    """Add both groups of commands to `app`."""
    app.add_typer(reviews_app, name="reviews")
    app.add_typer(approvals_app, name="approvals")


def asked(url: str, key: str, ask: Callable[[Zentra], T]) -> T:
    """Return what the API answers; raise SettingsError where nobody says which or as whom, else as the client does."""
    for value, option, variable in ((url, "--url", "ZENTRA_BASE_URL"), (key, "--key", "ZENTRA_API_KEY")):
        if not value:
            raise SettingsError(f"{variable} is not set; export it, or give {option}")
    from zentra.client.api import Zentra

    try:
        opened = Zentra(key, url)
    except ValueError as error:
        raise InputError(f"--url {url} (ZENTRA_BASE_URL) or --key (ZENTRA_API_KEY): {error}") from error
    with opened as client:
        return ask(client)


def _listed(found: list[Any], columns: tuple[str, ...], empty: str, as_json: bool) -> None:
    rows = msgspec.to_builtins(found)
    if as_json:
        say_json(rows)
    else:
        table(rows, columns, empty)


def _told(answer: Any, as_json: bool) -> None:
    """Print where a command stands, or an approval."""
    shown = msgspec.to_builtins(answer)
    if as_json:
        say_json(shown)
    else:
        say(f"{shown['kind']}: {shown.get('outcome') or shown['status']}")


# Reviews --------------------------------------------------------------------------------------------------------------


@reviews_app.command("list")
def list_reviews(
    status: str = typer.Option("open", help="open, approved, rejected, cancelled, expired, or all."),
    mine: bool = typer.Option(False, "--mine", help="Only those that are assigned to you."),
    assigned_to: str | None = typer.Option(None, help="Only those of this person."),
    overdue: bool = typer.Option(False, "--overdue", help="Only those that should have been decided by now."),
    rule: str | None = typer.Option(None, help="Only those that this rule asked for."),
    kind: str | None = typer.Option(None, help="Only intents of this kind."),
    amount_min: int | None = typer.Option(None, min=0, help="Only from this amount on, in minor units."),
    amount_max: int | None = typer.Option(None, min=0, help="Only up to this amount."),
    limit: int = typer.Option(100, min=1, max=LISTED_MAX, help="At most so many, the last opened first."),
    url: str = URL,
    key: str = KEY,
    as_json: bool = JSON_OPTION,
) -> None:
    """List the queue: zentra reviews list --mine --overdue"""

    def ask(client: Zentra) -> list[Any]:
        found: list[Any] = []
        for one in client.reviews.list(
            status=None if status == "all" else status, assigned_to="me" if mine else assigned_to,
            overdue=True if overdue else None, rule=rule, kind=kind, amount_min=amount_min, amount_max=amount_max,
            page_size=min(limit, 100),
        ):  # fmt: skip
            found.append(one)
            if len(found) == limit:
                break
        return found

    _listed(asked(url, key, ask), COLUMNS, "no reviews", as_json)


@reviews_app.command("counts")
def count_reviews(url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION) -> None:
    """Print how many reviews are open, and how they stand."""
    counts = msgspec.to_builtins(asked(url, key, lambda client: client.reviews.counts()))
    if as_json:
        say_json(counts)
    else:
        table([counts], tuple(counts), "")


@reviews_app.command("show")
def show_review(review: str = REVIEW, url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION) -> None:
    """Print a review with its history, and the hash that a decision on it names: zentra reviews show 01a1…"""
    shown = msgspec.to_builtins(asked(url, key, lambda client: client.reviews.get(review)))
    if as_json:
        say_json(shown)
        return
    history = shown.pop("history")
    say(*(f"{name.replace('_', ' ')}: {_cell(value)}" for name, value in shown.items()), "")
    rows = [
        {**step, "said": step["text"] or step["facts"].get("reason") or step["facts"].get("to")} for step in history
    ]
    table(rows, ("sequence", "at", "event", "actor", "said"), "nothing has happened")


@reviews_app.command("approve")
def approve_review(
    review: str = REVIEW, reason: str = REASON, request_hash: str = HASH, url: str = URL, key: str = KEY,
    as_json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """Let the intent go on, as it was looked at.

    \b
    zentra reviews show 01a1…                                       # prints the request hash
    zentra reviews approve 01a1… --hash 5e0f… --reason 'invoice 4711 checked'
    """
    done = asked(url, key, lambda client: client.reviews.approve(review, reason=reason, request_hash=request_hash))
    _told(done, as_json)


@reviews_app.command("reject")
def reject_review(
    review: str = REVIEW, reason: str = REASON, request_hash: str | None = HASH_OR_NOT, url: str = URL, key: str = KEY,
    as_json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """End the intent: zentra reviews reject 01a1… --reason 'unknown payee'"""
    done = asked(url, key, lambda client: client.reviews.reject(review, reason=reason, request_hash=request_hash))
    _told(done, as_json)


@reviews_app.command("claim")
def claim_review(
    order: Literal["due", "age", "amount"] = typer.Option(
        "due", help="due: the first due; age: the oldest; amount: the largest."
    ),
    url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """Take the next review that is nobody's: zentra reviews claim --order amount"""
    done = asked(url, key, lambda client: client.reviews.claim(order))
    if as_json:
        _told(done, as_json)
    else:
        say(f"{done.review} is yours")


@reviews_app.command("assign")
def assign_review(
    review: str = REVIEW,
    to: str | None = typer.Option(None, "--to", help="Whose it is from now on; `me` for yourself."),
    nobody: bool = typer.Option(False, "--nobody", help="Nobody's."),
    url: str = URL,
    key: str = KEY,
    as_json: bool = JSON_OPTION,
) -> None:
    """Make a review somebody's, or nobody's: zentra reviews assign 01a1… --to ada"""
    if (to is None) is not nobody:
        raise typer.BadParameter("say --to somebody, or --nobody")
    _told(asked(url, key, lambda client: client.reviews.assign(review, to)), as_json)


@reviews_app.command("comment")
def comment_review(
    review: str = REVIEW, text: str = typer.Argument(help="What there is to say."), url: str = URL, key: str = KEY,
    as_json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """Say something about a review: zentra reviews comment 01a1… 'waiting for the invoice'"""
    _told(asked(url, key, lambda client: client.reviews.comment(review, text)), as_json)


@reviews_app.command("escalate")
def escalate_review(
    review: str = REVIEW, reason: str = REASON,
    to: str | None = typer.Option(None, "--to", help="To whom; left out, to the higher role."),
    url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """Pass a review on: zentra reviews escalate 01a1… --reason 'above my limit'"""
    _told(asked(url, key, lambda client: client.reviews.escalate(review, reason=reason, assignee=to)), as_json)


@reviews_app.command("rules")
def review_rules(
    tenant: str = typer.Argument(help="The tenant."),
    file: Path | None = typer.Option(None, metavar="FILE", help="New rules as JSON; - reads stdin."),
    by: str = typer.Option("operator", help="Who puts them in force, for the record."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show what a tenant wants of its reviews, or put new rules in force; needs ZENTRA_POSTGRES_ADMIN_URL.

    \b
    They hold for reviews that open from then on. What is left out has its default. Example:
      echo '{"due_seconds": 3600, "approvals": {"NGN": {"minor_min": 50000000, "count": 2}}}' |
        zentra reviews rules acme --file -
    """
    from zentra.runtime.reviews import ReviewRules
    from zentra.storage.review_rules import put_review_rules, review_rules_of

    if file is None:
        rules = pooled(lambda pool: review_rules_of(pool, tenant))
    else:
        try:
            wanted = msgspec.json.decode(text_of(file), type=ReviewRules)
        except msgspec.DecodeError as error:
            raise SettingsError(
                f"{file}: {error}; it has to hold rules as `zentra reviews rules` shows them"
            ) from error
        rules = pooled(lambda pool: put_review_rules(pool, tenant, wanted, by=by))
    shown = msgspec.to_builtins(rules)
    if as_json:
        say_json(shown)
    else:
        say(*(f"{name.replace('_', ' ')}: {_cell(value)}" for name, value in shown.items()))


# Approvals ------------------------------------------------------------------------------------------------------------


@approvals_app.command("list")
def list_approvals(
    status: str = typer.Option("open", help="open, approved, rejected, cancelled, expired, or all."),
    url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """List what waits for a second person: zentra approvals list"""

    def ask(client: Zentra) -> list[Any]:
        pages = client.approvals.list(status=None if status == "all" else status, page_size=100)
        return [one for _, one in zip(range(LISTED_MAX), pages, strict=False)]

    _listed(asked(url, key, ask), APPROVALS, "no approvals", as_json)


@approvals_app.command("show")
def show_approval(approval: str = APPROVAL, url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION) -> None:
    """Print an approval, and the hash that a decision on it names."""
    shown = msgspec.to_builtins(asked(url, key, lambda client: client.approvals.get(approval)))
    if as_json:
        say_json(shown)
    else:
        say(*(f"{name.replace('_', ' ')}: {_cell(value)}" for name, value in shown.items()))


@approvals_app.command("approve")
def approve_approval(
    approval: str = APPROVAL, reason: str = REASON, request_hash: str = HASH, url: str = URL, key: str = KEY,
    as_json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """Agree, and let it happen: zentra approvals approve 01a1… --hash 5e0f… --reason 'seen'"""
    done = asked(url, key, lambda client: client.approvals.approve(approval, reason=reason, request_hash=request_hash))
    _told(done, as_json)


@approvals_app.command("reject")
def reject_approval(
    approval: str = APPROVAL, reason: str = REASON, url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION
) -> None:
    """Refuse it: zentra approvals reject 01a1… --reason 'not now'"""
    _told(asked(url, key, lambda client: client.approvals.reject(approval, reason=reason)), as_json)


@approvals_app.command("cancel")
def cancel_approval(
    approval: str = APPROVAL, reason: str = REASON, url: str = URL, key: str = KEY, as_json: bool = JSON_OPTION
) -> None:
    """Take back what you have asked for."""
    _told(asked(url, key, lambda client: client.approvals.cancel(approval, reason=reason)), as_json)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
