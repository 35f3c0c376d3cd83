"""What the partner of `flutter.py` says and sends, and the test that holds the adapter to every rule.

    pytest docs/examples/flutter_conformance.py
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from zentra.bench.conformance.suite import Asked, Reply, Request, Rule, Said, Specimen, check, rules_for
from zentra.runtime.rails.port import Rail, RailSettings

sys.path.insert(0, str(Path(__file__).parent))  # as if the example were a package that is installed

from flutter import FlutterRail  # noqa: E402

DIGITS = {"NGN": 2, "JPY": 0, "KWD": 3}
WORDS = {"pending": "PENDING", "succeeded": "SUCCESSFUL", "declined": "FAILED"}


def spell(minor: int, currency: str) -> str:
    return format(Decimal(minor).scaleb(-DIGITS[currency]), "f")


class Flutter(Specimen):
    proof_headers = ("verif-hash",)

    def settings(self, base_url: str) -> RailSettings:
        return RailSettings(
            "flutter", "flutter", base_url, "secret-hash", "http://127.0.0.1:9/hook", not_found_lies_seconds=10.0,
            secrets={"api_key": "api-key-1"},
        )

    def make(self, settings: RailSettings) -> Rail:
        return FlutterRail(settings)

    def asked(self, request: Request) -> Asked | None:
        if request.method == "GET":
            return Asked("poll", request.path.rpartition("/")[2])
        body = json.loads(request.body)
        minor = Decimal(body["amount"]).scaleb(DIGITS[body["currency"]])
        return Asked("submit", body["reference"], int(minor), body["currency"])

    def submitted(self, said: Said) -> Reply | None:
        match said.word:
            case "not_found":
                return None
            case "refused":
                return Reply(400, json.dumps({"status": "error", "code": "insufficient_balance"}).encode())
        return Reply(200, self._envelope(said))

    def polled(self, said: Said) -> Reply | None:
        match said.word:
            case "refused":
                return None
            case "not_found":
                return Reply(404, json.dumps({"status": "error", "code": "transfer_not_found"}).encode())
        return Reply(200, self._envelope(said))

    def callback(self, said: Said) -> bytes | None:
        if said.word in ("refused", "not_found"):
            return None
        return json.dumps({"event_id": said.event_id, "data": self._transfer(said)}).encode()

    def prove(self, settings: RailSettings, raw: bytes, now: float) -> Mapping[str, str]:
        return {"verif-hash": settings.secret}

    def _envelope(self, said: Said) -> bytes:
        return json.dumps({"status": "success", "data": self._transfer(said)}).encode()

    def _transfer(self, said: Said) -> dict[str, object]:
        return {
            "id": 7,
            "reference": said.reference,
            "status": WORDS.get(said.word, "ODD"),
            "amount": said.amount(spell),
            "currency": said.currency,
        }


@pytest.mark.parametrize("rule", rules_for(Flutter()), ids=str)
def test_flutter_keeps_the_rule(rule: Rule) -> None:
    asyncio.run(check(rule, Flutter()))
