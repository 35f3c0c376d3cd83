"""What a condition can look at: one row per field, its type, and where its value comes from.

A value is None where there is none, and a condition that needs it then has no answer. What cannot be read again from an
intent's records later (`kept`) is stored with the decision, so that a decision can be made again from its records
alone. `metadata.<key>` and `velocity.<window>.<figure>` are fields without a row of their own."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import UNSET, Struct

from zentra.runtime.intents.command import IntentCommand
from zentra.runtime.ledger.book import AccountRef

__all__ = [
    "FIELDS",
    "METADATA",
    "RISK_SCORE",
    "VELOCITY",
    "VELOCITY_FIGURES",
    "Field",
    "FieldType",
    "Scalar",
    "Subject",
    "field_of",
]

FieldType = Literal["integer", "text", "flag"]
Scalar = int | str | bool | None
METADATA: Final = "metadata."
VELOCITY: Final = "velocity."
VELOCITY_FIGURES: Final = ("count", "minor")
RISK_SCORE: Final = "risk.score"


class Subject(Struct, frozen=True, gc=False):
    """What a decision is about: an intent, who asked for it, the accounts that it names, and the time."""

    command: IntentCommand
    role: str
    principal: str
    source: AccountRef | None
    destination: AccountRef | None
    now: datetime
    zone: ZoneInfo | None  # None is UTC
    accounts: Mapping[str, AccountRef | None] | None = None  # of the legs of a journal, by the name in them


class Field(NamedTuple):
    """One row: what it reads of a subject. `kept`: its value is stored with the decision."""

    type: FieldType
    read: Callable[[Subject], Scalar]
    kept: bool = False


def _of_account(side: str, name: str) -> Callable[[Subject], Scalar]:
    def read(subject: Subject) -> Scalar:
        ref = getattr(subject, side)
        return None if ref is None else _plain(getattr(ref, name, None))

    return read


def _of_party(side: str, name: str) -> Callable[[Subject], Scalar]:
    def read(subject: Subject) -> Scalar:
        ref = getattr(subject, side)
        return None if ref is None or ref.party is None else _plain(getattr(ref.party, name))

    return read


def _of_counterparty(subject: Subject, name: str) -> Scalar:
    named = subject.command.counterparty
    return None if named is UNSET else _plain(getattr(named, name) or None)


def _plain(value: Any) -> Scalar:
    return str(value) if isinstance(value, str) else value  # an enumeration's member is its text


def _local(subject: Subject) -> datetime:
    return subject.now if subject.zone is None else subject.now.astimezone(subject.zone)


# A table is read down its columns.
# fmt: off
FIELDS: Final[Mapping[str, Field]] = {
    "amount":              Field("integer", lambda subject: subject.command.amount),
    "currency":            Field("text",    lambda subject: subject.command.currency),
    "kind":                Field("text",    lambda subject: str(subject.command.kind)),
    "scope":               Field("text",    lambda subject: subject.command.scope),
    "country":             Field("text",    lambda subject: subject.command.country),
    "corridor":            Field("text",    lambda subject: _corridor(subject.command)),
    "role":                Field("text",    lambda subject: subject.role),
    "principal":           Field("text",    lambda subject: subject.principal),
    "source.id":           Field("text",    lambda subject: subject.command.source),
    "source.type":         Field("text",    _of_account("source", "type"), kept=True),
    "destination.id":      Field("text",    lambda subject: subject.command.destination or None),
    "destination.type":    Field("text",    _of_account("destination", "type"), kept=True),
    "source.party":        Field("text",    _of_party("source", "id"), kept=True),
    "source.kyc":          Field("text",    _of_party("source", "kyc"), kept=True),
    "source.screening":    Field("text",    _of_party("source", "screening"), kept=True),
    "destination.party":   Field("text",    _of_party("destination", "id"), kept=True),
    "destination.kyc":     Field("text",    _of_party("destination", "kyc"), kept=True),
    "destination.screening": Field("text",  _of_party("destination", "screening"), kept=True),
    "counterparty.name":   Field("text",    lambda subject: _of_counterparty(subject, "name")),
    "counterparty.country": Field("text",   lambda subject: _of_counterparty(subject, "country")),
    "hour":                Field("integer", lambda subject: _local(subject).hour, kept=True),
    "weekday":             Field("integer", lambda subject: _local(subject).isoweekday(), kept=True),
    RISK_SCORE:            Field("integer", lambda subject: None, kept=True),  # set by the scorer
}
# fmt: on
_TEXT: Final = "text"


def field_of(name: str, windows: Mapping[str, object]) -> Field | None:
    """Return the row of a field, or None where there is no such field under these windows."""
    field = FIELDS.get(name)
    if field is not None:
        return field
    if name.startswith(METADATA) and len(name) > len(METADATA):
        key = name[len(METADATA) :]
        return Field(_TEXT, lambda subject: subject.command.metadata.get(key))
    if name.startswith(VELOCITY):
        window, _, figure = name[len(VELOCITY) :].rpartition(".")
        if window in windows and figure in VELOCITY_FIGURES:
            return Field("integer", lambda subject: None)  # read off the window's counter
    return None


def _corridor(command: IntentCommand) -> str:
    return f"{command.country or '*'}/{command.currency}/{command.kind}"
