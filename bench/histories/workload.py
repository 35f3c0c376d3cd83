"""The workload whose history is checked: concurrent clients, few accounts, many repeats, mistakes made on purpose.

- Half of the creations repeat an earlier one, or keep its key or its intent_id with changed content; some take both
  from different requests.
- Accounts are drawn by Zipf's law, so nearly everybody wants the first ones. One customer never has enough.
- Filters of reads are drawn freely, not only from what was made: unknown ids, pages that begin at any moment.
- What is asked is drawn from the seed. What is repeated depends on what others have asked by then.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import anyio
from msgspec import Struct
from msgspec.structs import replace

from zentra.bench.histories.clients import Clients
from zentra.bench.histories.recording import Create, Operation, Place, ReadAccount, ReadEntries, ReadIntent

__all__ = ["Draw", "SetupFailed", "Workload", "run_workload"]

CURRENCY: Final = "NGN"
FUNDED_MINOR: Final = 1_000_000
POOR_MINOR: Final = 5_000
AMOUNT_MAX: Final = 2_000
RECENT_MAX: Final = 400  # how far back a repeat reaches
PAGE_MAX: Final = 100
SETUP_SECONDS_MAX: Final = 8
READS: Final = 0.35
REPEATS: Final = 0.5
WAITS: Final = 0.02

Progress = Callable[[str, int, int], None]


class Workload(Struct, frozen=True, kw_only=True):
    """What to ask: `name` sets the ids of this run apart from those of others on the same installation."""

    seed: int = 1
    operations: int = 2_000
    clients: int = 24
    customers: int = 8
    merchants: int = 3
    doors: tuple[str, ...] = ("http", "nats")
    tenant: str = "acme"
    name: str = ""

    @property
    def prefix(self) -> str:
        """Return what the ids of this run begin with."""
        return self.name or f"history-{self.seed}"


class SetupFailed(Exception):
    """Raised where an account could not be opened or funded; the sentence quotes the answer."""


async def run_workload(
    workload: Workload, clients: Clients, progress: Progress = lambda label, done, total: None
) -> None:
    """Open and fund the accounts, then ask everything; return when every client has heard or given up.

    Raises SetupFailed, and what aiohttp raises while the accounts are opened."""
    draw = Draw(workload)
    await _set_up(workload, draw, clients)
    left = iter(range(workload.operations))
    done = 0

    async def client(number: int) -> None:
        nonlocal done
        own = random.Random(f"{workload.seed}/{number}")  # noqa: S311  # a workload, not a secret
        process = clients.process()
        for _ in left:
            operation = draw.operation(own)
            heard = await clients.ask(process, operation)
            draw.noticed(operation, heard.json if heard.status == 200 else None)
            if not heard.status:
                process = clients.process()
            done += 1
            progress("operations", done, workload.operations)

    async with anyio.create_task_group() as group:
        for number in range(workload.clients):
            group.start_soon(client, number)


async def _set_up(workload: Workload, draw: Draw, clients: Clients) -> None:
    """Open the accounts and fund the customers, over the public doors; then look at each once, on record."""
    for account, (kind, currency, minor) in draw.accounts.items():
        key = f"open-{account}"
        body: dict[str, Any] = {"account_id": account, "owner": "histories", "type": kind, "currency": currency}
        heard, _ = await clients.send("POST", "/accounts", workload.tenant, key=key, body=body)
        if heard.status != 201:
            raise SetupFailed(f"account {account}: {heard.status} {heard.body.decode()}")
        if not minor:
            continue
        body = {
            "kind": "book_transfer", "intent_id": f"fund-{account}", "amount": minor, "currency": currency,
            "source": f"liquidity-{currency.lower()}", "destination": account,
        }  # fmt: skip
        heard, _ = await clients.send(
            "POST", "/runtime/intents", workload.tenant, who="ops", key=f"fund-{account}", body=body,
            wait=SETUP_SECONDS_MAX,
        )  # fmt: skip
        if heard.json.get("status") != "SUCCESSFUL":
            raise SetupFailed(f"funding {account}: {heard.status} {heard.body.decode()[:500]}")
    process = clients.process()
    for account in draw.accounts:
        await clients.ask(process, ReadAccount(tenant=workload.tenant, account_id=account))


class Draw:
    """What is asked next. `noticed` shows it what clients have heard."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._recent: deque[Create] = deque(maxlen=RECENT_MAX)
        self._places: deque[Place] = deque(maxlen=RECENT_MAX)
        self._made = 0
        self._begun = datetime.now(UTC)
        prefix = workload.prefix
        self._customers = [f"{prefix}-customer-{number}" for number in range(workload.customers)]
        self._poor = f"{prefix}-poor"
        self._dollars = f"{prefix}-dollars"
        self._merchants = [f"{prefix}-merchant-{number}" for number in range(workload.merchants)]
        self.accounts: Mapping[str, tuple[str, str, int]] = {
            **dict.fromkeys(self._customers, ("customer", CURRENCY, FUNDED_MINOR)),
            self._poor: ("customer", CURRENCY, POOR_MINOR),
            self._dollars: ("customer", "USD", 0),
            **dict.fromkeys(self._merchants, ("merchant", CURRENCY, 0)),
        }

    def operation(self, draw: random.Random) -> Operation:
        """Return the next operation of a client with its own source of chance."""
        if draw.random() < READS:
            return self._read(draw)
        asked = self._repeat(draw) if self._recent and draw.random() < REPEATS else self._new(draw)
        asked = replace(asked, door=draw.choice(self._workload.doors))
        if asked.door == "http" and draw.random() < WAITS:
            asked = replace(asked, wait=draw.randint(1, 3))
        else:
            asked = replace(asked, wait=0)
        self._recent.append(asked)
        return asked

    def noticed(self, operation: Operation, shown: Any) -> None:
        """Learn places in the ledger from a page that somebody was shown."""
        if isinstance(operation, ReadEntries) and shown is not None:
            self._places += [
                Place(at=row["at"], intent=row["intent"], ordinal=row["ordinal"]) for row in shown["data"][:3]
            ]

    def _new(self, draw: random.Random) -> Create:
        self._made += 1
        name = f"{self._workload.prefix}-{self._made}"
        body = {
            "intent_id": name, "kind": "book_transfer" if draw.random() < 0.3 else "transfer",
            "amount": draw.randint(1, AMOUNT_MAX), "currency": CURRENCY, "source": self._customer(draw),
            "destination": _zipf(draw, self._merchants),
        }  # fmt: skip
        if draw.random() < 0.1:
            body["destination"] = self._customer(draw)  # now and then the source itself
        if draw.random() < 0.1:
            body["source"] = self._poor  # that has little, and is asked by many
        if draw.random() < 0.02:
            del body["intent_id"]
        return Create(tenant=self._workload.tenant, key=f"key-{name}", body=_mistaken(draw, body, self._dollars))

    def _repeat(self, draw: random.Random) -> Create:
        """Return an earlier request again: as it was, or changed under its key, its id, or both of others."""
        first = draw.choice(self._recent)
        match draw.choices(["same", "changed", "other_key", "other_content", "crossed"], [60, 20, 8, 8, 4])[0]:
            case "changed":
                return replace(first, body=_changed(draw, first.body))
            case "other_key":
                return replace(first, key=f"{first.key}-{draw.randrange(3)}")
            case "other_content":
                return replace(first, key=f"{first.key}-{draw.randrange(3)}", body=_changed(draw, first.body))
            case "crossed":
                return replace(first, key=draw.choice(self._recent).key)
        return first

    def _read(self, draw: random.Random) -> Operation:
        tenant = self._workload.tenant
        account = draw.choices([*self.accounts, f"liquidity-{CURRENCY.lower()}", _noise(draw)],
                               [1 / (1 + place) for place in range(len(self.accounts))] + [0.1, 0.1])[0]  # fmt: skip
        match draw.choices(["account", "intent", "entries"], [50, 25, 25])[0]:
            case "intent":
                known = [asked.body["intent_id"] for asked in list(self._recent)[-40:] if "intent_id" in asked.body]
                guess = f"{self._workload.prefix}-{draw.randrange(2 * self._made + 2)}"
                return ReadIntent(tenant=tenant, intent_id=draw.choice([*known[-12:], guess, _noise(draw)]))
            case "entries":
                limit = draw.choice([1, 2, 3, draw.randint(1, PAGE_MAX), PAGE_MAX])
                return ReadEntries(tenant=tenant, account_id=account, limit=limit, after=self._place(draw))
        return ReadAccount(tenant=tenant, account_id=account)

    def _place(self, draw: random.Random) -> Place | None:
        """Return no place, one that was seen, or any moment since the start, with an intent of nobody."""
        chance = draw.random()
        if chance < 0.4:
            return None
        if chance < 0.7 and self._places:
            return draw.choice(self._places)
        span = (datetime.now(UTC) - self._begun).total_seconds()
        moment = self._begun + timedelta(seconds=draw.uniform(-1, span + 1))
        return Place(at=moment.isoformat(), intent=f"{draw.getrandbits(128):032x}", ordinal=draw.randrange(4))

    def _customer(self, draw: random.Random) -> str:
        return _zipf(draw, self._customers)


def _zipf(draw: random.Random, names: list[str]) -> str:
    """Return one of the names: the first most often, the n-th an n-th as often."""
    return draw.choices(names, [1 / (1 + place) for place in range(len(names))])[0]


def _mistaken(draw: random.Random, body: dict[str, Any], dollars: str) -> dict[str, Any]:
    """Return the body, now and then with one thing wrong."""
    chance = draw.random()
    if chance < 0.01:
        return body | {"amount": draw.choice([0, "0", "000"])}
    for bound, changes in (
        (1, {"currency": "ZZZ"}), (2, {"currency": "USD"}), (3, {"source": "nobody-here"}),
        (4, {"destination": "nobody-here"}), (5, {"source": dollars}), (6, {"amount": -5}), (7, {"amount": 2**63}),
        (8, {"colour": "red"}), (9, {"amount": FUNDED_MINOR * 2}),
    ):  # fmt: skip
        if chance < 0.01 + bound / 256:
            return body | changes
    return body


def _changed(draw: random.Random, body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with other content, most often another amount."""
    changes: list[dict[str, Any]] = [
        {"amount": draw.randint(1, AMOUNT_MAX)}, {"metadata": {"note": _noise(draw)}}, {"scope": "other"},
        {"currency": "USD"}, {"source": body["destination"], "destination": body["source"]},
    ]  # fmt: skip
    return body | draw.choice(changes)


def _noise(draw: random.Random) -> str:
    return "".join(draw.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=draw.randint(1, 12)))
