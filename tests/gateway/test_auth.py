"""Keys and roles: what is believed, for how long, and what each role may do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from zentra.gateway.http import auth as module
from zentra.gateway.http.auth import REMEMBERED_SECONDS_MAX, Authenticator, StoredApiKey
from zentra.gateway.http.problems import Caller, Problem
from zentra.runtime.errors import Unavailable
from zentra.runtime.keys import make_key, parse_key

NOW = datetime(2026, 5, 1, tzinfo=UTC)
KEY_ID, KEY = make_key(bytes(range(29)))
HEADER = f"Bearer {KEY}".encode()
OWNER = Caller("acme", "dev-1", "developer")


class Keys:
    """A store with one key and a clock that stands still."""

    def __init__(self) -> None:
        parsed = parse_key(KEY)
        assert parsed is not None
        self.stored: StoredApiKey | None = StoredApiKey("acme", "dev-1", "developer", parsed[1], None, None)
        self.asked = 0
        self.down = False
        self.time = 100.0
        self.authenticator = Authenticator(self.find, monotonic=lambda: self.time, now=lambda: NOW)

    async def find(self, key_id: str) -> StoredApiKey | None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("away")
        return self.stored if key_id == KEY_ID else None

    def change(self, **fields: datetime | bytes) -> None:
        assert self.stored is not None
        values = {name: getattr(self.stored, name) for name in StoredApiKey.__struct_fields__}
        self.stored = StoredApiKey(**(values | fields))


@pytest.fixture
def keys() -> Keys:
    return Keys()


async def test_a_key_is_looked_up_once_and_believed_for_a_while(keys: Keys) -> None:
    for _ in range(3):
        principal = await keys.authenticator.authenticate(HEADER)
        assert (principal.tenant, principal.id, principal.role) == ("acme", "dev-1", "developer")
    assert keys.asked == 1
    keys.time += REMEMBERED_SECONDS_MAX
    await keys.authenticator.authenticate(HEADER)
    assert keys.asked == 2


async def test_those_who_ask_at_once_ask_the_store_once(keys: Keys) -> None:
    principals = await asyncio.gather(*(keys.authenticator.authenticate(HEADER) for _ in range(50)))
    assert len(set(map(id, principals))) == 1
    assert keys.asked == 1


async def test_a_revocation_is_in_force_after_five_seconds(keys: Keys) -> None:
    await keys.authenticator.authenticate(HEADER)
    keys.change(revoked_at=NOW)
    keys.time += REMEMBERED_SECONDS_MAX
    with pytest.raises(Problem, match="key_revoked") as refused:
        await keys.authenticator.authenticate(HEADER)
    assert refused.value.caller == OWNER


@pytest.mark.parametrize(
    ("change", "code", "caller"),
    [
        ({"secret_hash": bytes(32)}, "key_invalid", None),
        ({"revoked_at": NOW}, "key_revoked", OWNER),
        ({"expires_at": NOW}, "key_expired", OWNER),
        ({"revoked_at": NOW, "secret_hash": bytes(32)}, "key_invalid", None),
    ],
)
async def test_a_worthless_key_is_remembered_as_such(
    keys: Keys, change: dict[str, datetime | bytes], code: str, caller: Caller | None
) -> None:
    keys.change(**change)
    for _ in range(3):
        with pytest.raises(Problem, match=code) as refused:
            await keys.authenticator.authenticate(HEADER)
        assert refused.value.caller == caller
        assert refused.value.row.status == 401
    assert keys.asked == 1


async def test_a_key_is_not_believed_beyond_its_expiry(keys: Keys) -> None:
    keys.change(expires_at=NOW + timedelta(seconds=2))
    await keys.authenticator.authenticate(HEADER)
    keys.time += 1.9
    await keys.authenticator.authenticate(HEADER)
    assert keys.asked == 1
    keys.time += 0.2
    keys.change(expires_at=NOW)
    with pytest.raises(Problem, match="key_expired"):
        await keys.authenticator.authenticate(HEADER)


@pytest.mark.parametrize(
    "header", [b"Bearer ", b"Bearer zk_test_", KEY.encode(), b"bearer " + KEY[:-1].encode(), b"\xff"]
)
async def test_what_is_no_key_never_reaches_the_store(keys: Keys, header: bytes) -> None:
    with pytest.raises(Problem, match="key_invalid"):
        await keys.authenticator.authenticate(header)
    assert keys.asked == 0


async def test_a_flood_of_wrong_keys_does_not_push_out_a_right_one(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_MAX", 4)
    await keys.authenticator.authenticate(HEADER)
    for number in range(10):
        with pytest.raises(Problem, match="key_invalid"):
            await keys.authenticator.authenticate(f"Bearer {make_key(bytes([number] * 29))[1]}".encode())
    asked = keys.asked
    await keys.authenticator.authenticate(HEADER)
    assert keys.asked == asked


async def test_a_store_that_is_away_is_not_a_wrong_key(keys: Keys) -> None:
    keys.down = True
    outcomes = await asyncio.gather(
        *(keys.authenticator.authenticate(HEADER) for _ in range(3)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    keys.down = False
    assert (await keys.authenticator.authenticate(HEADER)).id == "dev-1"


async def test_where_certificates_are_required_a_key_alone_opens_nothing(keys: Keys) -> None:
    authenticator = Authenticator(keys.find, certificates_required=True)
    with pytest.raises(Problem, match="certificate_required"):
        await authenticator.authenticate(HEADER)
    assert keys.asked == 0
