"""Secrets of rails are sealed where they are stored, and open in the adapters of this installation alone."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from msgspec import structs

from tests.gateway.commanding import Zentra
from tests.services import Database, admin_pool, database, database_template
from zentra.gateway.outward.http import AddressPolicy, OutwardHttp
from zentra.gateway.outward.rail_secrets import RailSecrets, RailSecretUnreadable, at_rest, put_rail, seal_rails
from zentra.gateway.outward.rails import RailBook
from zentra.runtime.errors import Refusal, Unavailable
from zentra.runtime.rails.port import OutcomeStatus, RailSettings, Submission
from zentra.storage.administration import Administration
from zentra.storage.pool import Pool

__all__ = ["Database", "admin_pool", "database", "database_template"]

HUSH, KEY = "hush-of-the-callback", "key-of-the-api"
OURS, THEIRS = RailSecrets(b"o" * 32), RailSecrets(b"t" * 32)
RAIL = RailSettings("bank", "gtbank", secret=HUSH, secrets={"client_secret": KEY}, options={"client_id": "zentra"})
PLAIN = {"name": "bank", "kind": "gtbank", "secret": HUSH, "secrets": {"client_secret": KEY}}


def test_a_sealed_rail_holds_no_secret_and_opens_to_what_it_was() -> None:
    sealed = OURS.sealed(RAIL)
    assert (sealed.secret, sealed.secrets, sorted(sealed.sealed)) == ("", {}, ["callback", "client_secret"])
    assert OURS.opened(sealed) == RAIL
    assert [at_rest(rail) for rail in (RAIL, sealed, RailSettings("inline", "inline"))] == ["plain", "sealed", ""]


def test_a_rail_that_is_not_sealed_yet_is_what_it_was() -> None:
    assert OURS.opened(RAIL) is RAIL


def test_a_secret_that_is_known_keeps_its_seal_and_another_has_a_new_one() -> None:
    sealed = OURS.sealed(RAIL)
    assert OURS.sealed(RAIL, sealed) == sealed
    changed = OURS.sealed(structs.replace(RAIL, secret="another"), sealed)
    assert changed.sealed["client_secret"] == sealed.sealed["client_secret"]
    assert OURS.opened(changed).secret == "another"
    assert OURS.opened(OURS.sealed(RAIL, THEIRS.sealed(RAIL))) == RAIL  # which is how a lost secret is mended


def swapped(sealed: dict[str, str]) -> dict[str, str]:
    return {"callback": sealed["client_secret"], "client_secret": sealed["callback"]}


def flipped(sealed: dict[str, str]) -> dict[str, str]:
    raw = bytearray(b64decode(sealed["callback"]))
    raw[-1] ^= 1
    return sealed | {"callback": b64encode(raw).decode()}


# fmt: off
BROKEN: list[tuple[str, RailSettings, str]] = [
    # a seal                            of a rail                                                           names
    ("of another installation",         THEIRS.sealed(RAIL),                                                "callback"),
    ("of another rail",                 structs.replace(OURS.sealed(RAIL), name="other"),                   "callback"),
    ("of another name",
     structs.replace(OURS.sealed(RAIL), sealed=swapped(OURS.sealed(RAIL).sealed)),                          "callback"),
    ("with a flipped bit",
     structs.replace(OURS.sealed(RAIL), sealed=flipped(OURS.sealed(RAIL).sealed)),                          "callback"),
    ("that is none",                    structs.replace(OURS.sealed(RAIL), sealed={"callback": "?"}),       "callback"),
    ("that is empty",                   structs.replace(OURS.sealed(RAIL), sealed={"callback": ""}),        "callback"),
]
# fmt: on


@pytest.mark.parametrize(("rail", "name"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_seal_that_does_not_open_names_the_rail_and_the_fix(rail: RailSettings, name: str) -> None:
    with pytest.raises(RailSecretUnreadable) as broken:
        OURS.opened(rail)
    assert (broken.value.reason, broken.value.rail, broken.value.name) == ("rail_secret_unreadable", rail.name, name)
    for words in ("ZENTRA_SECRET", f"zentra rails create {rail.name}"):
        assert words in str(broken.value)
    assert HUSH not in str(broken.value)
    assert KEY not in str(broken.value)


def test_two_secrets_of_one_name_are_refused() -> None:
    with pytest.raises(Refusal, match="rail_malformed"):
        OURS.sealed(RailSettings("bank", "gtbank", secret=HUSH, secrets={"callback": KEY}))


def test_whoever_prints_settings_reads_no_secret() -> None:
    for shown in (repr(RAIL), str(RAIL), f"{[RAIL]}"):
        assert HUSH not in shown
        assert KEY not in shown


async def test_an_adapter_gets_the_open_secrets_and_is_made_once(caplog: pytest.LogCaptureFixture) -> None:
    http = OutwardHttp(AddressPolicy())
    stored = {"bank": OURS.sealed(RAIL), "old": structs.replace(RAIL, name="old")}
    book = RailBook(lambda: {name: structs.replace(one) for name, one in stored.items()}, http, opened=OURS.opened)
    rail = book.adapter("bank")
    assert rail is not None
    assert rail.settings == RAIL
    assert book.adapter("bank") is rail
    assert "plain text" not in caplog.text
    old = book.adapter("old")
    assert old is not None
    assert old.settings.secret == HUSH
    assert [record.levelname for record in caplog.records if "zentra rails seal" in record.message] == ["WARNING"]
    await book.aclose()
    await http.aclose()


async def test_a_rail_whose_secrets_do_not_open_takes_nothing_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    http = OutwardHttp(AddressPolicy())
    book = RailBook(lambda: {"bank": THEIRS.sealed(RAIL)}, http, opened=OURS.opened)
    rail = book.adapter("bank")
    assert rail is not None
    taken = await rail.submit(Submission("acme", "bank", "ref", 5, "NGN", "1"))
    asked = await rail.poll("ref")
    assert (taken.status, taken.reason) == (OutcomeStatus.NOT_ACCEPTED, "rail_secret_unreadable")
    assert (asked.status, asked.reason) == (OutcomeStatus.UNKNOWN, "rail_secret_unreadable")
    with pytest.raises(Unavailable, match="ZENTRA_SECRET"):
        rail.verify_callback(b"{}", {}, 0.0)
    assert [getattr(record, "why", "") for record in caplog.records] == [
        str(RailSecretUnreadable("bank", "callback"))[24:]
    ]
    await http.aclose()


async def row(pool: Pool, name: str = "bank") -> str:
    return str(await pool.fetchval("select settings::text from rails where name = $1", name))


async def test_what_is_in_the_row_does_not_hold_the_secret(admin_pool: Pool) -> None:
    administration = Administration(admin_pool)
    for changed in (True, False):
        assert await put_rail(administration, RAIL, OURS) is changed
    stored = await row(admin_pool)
    assert HUSH not in stored
    assert KEY not in stored
    assert [OURS.opened(rail) for rail in await administration.rails() if rail.name == "bank"] == [RAIL]
    with pytest.raises(Refusal, match="rail_unsealed"):
        await administration.put_rail(RAIL)
    assert await put_rail(administration, structs.replace(RAIL, secret="new"), OURS)


async def test_an_old_plain_row_is_read_and_gets_sealed_once(admin_pool: Pool) -> None:
    administration = Administration(admin_pool)
    await admin_pool.execute("delete from rails")
    await admin_pool.execute("insert into rails (name, settings) values ('bank', $1)", json.dumps(PLAIN))
    [read] = await administration.rails()
    assert (OURS.opened(read).secret, at_rest(read)) == (HUSH, "plain")
    assert await seal_rails(administration, OURS) == {"bank": "sealed"}
    stored = await row(admin_pool)
    assert HUSH not in stored
    assert KEY not in stored
    assert await seal_rails(administration, OURS) == {}
    assert await row(admin_pool) == stored
    [after] = await administration.rails()
    assert (OURS.opened(after).secret, OURS.opened(after).secrets) == (HUSH, {"client_secret": KEY})


async def test_a_rail_that_somebody_changes_meanwhile_is_not_sealed_over(admin_pool: Pool) -> None:
    administration = Administration(admin_pool)
    await admin_pool.execute("delete from rails")
    await admin_pool.execute("insert into rails (name, settings) values ('bank', $1)", json.dumps(PLAIN))
    [seen] = await administration.rails()
    await admin_pool.execute('update rails set settings = settings || \'{"secret": "newer"}\'')
    assert not await administration.seal_rail(seen, OURS.sealed(seen))
    [now] = await administration.rails()
    assert now.secret == "newer"


def test_the_commands_store_nothing_plain(fresh: Zentra, tmp_path: Path) -> None:
    given = tmp_path / "secret"
    given.write_text(HUSH)
    create = f"rails create sandbox_a --base-url http://127.0.0.1:1 --secret-file {given}"
    assert fresh("migrate --json")[0] == 0
    assert json.loads(fresh(f"{create} --json")[1]) == {"rail": "sandbox_a", "changed": True}
    assert json.loads(fresh(f"{create} --json")[1]) == {"rail": "sandbox_a", "changed": False}
    assert json.loads(fresh("rails polling sandbox_a --deadline 60 --json")[1])["changed"] is True  # sealed as it was
    code, out, _ = fresh("rails list --json")
    [shown] = json.loads(out)
    assert (shown["secret"], shown["secrets_at_rest"], "sealed" in shown, HUSH in out) == (
        "***",
        "sealed",
        False,
        False,
    )
    assert (fresh("rails seal")[:2]) == (0, "all are sealed\n")
    settings = tmp_path / "settings.json"
    settings.write_text('{"sealed": {"callback": "x"}}')
    code, _, err = fresh(f"rails create sandbox_a --file {settings}")
    assert (code, "sealed is no setting" in err) == (3, True)
    code, _, err = fresh(create, ZENTRA_SECRET="")
    assert (code, "ZENTRA_SECRET is not set" in err) == (3, True)


def test_what_is_not_given_stays_as_it_was_set_up(fresh: Zentra, tmp_path: Path) -> None:
    given = tmp_path / "secret"
    given.write_text(HUSH)
    assert fresh("migrate --json")[0] == 0
    code, _, err = fresh("rails create bank --kind providus --base-url https://bank.example")
    assert (code, "client_id is missing" in err, "secret callback is missing" in err) == (3, True, True)
    first = f"rails create bank --kind providus --option client_id=c --secret-file {given} --network 192.0.2.0/24"
    assert fresh(first)[0] == 0
    assert fresh("rails polling bank --deadline 60")[0] == 0
    assert fresh("rails create bank --base-url https://bank.example")[0] == 0
    [shown] = json.loads(fresh("rails list --json")[1])
    kept = {name: shown[name] for name in ("kind", "base_url", "secret", "callback_networks", "deadline_seconds")}
    assert kept == {
        "kind": "providus", "base_url": "https://bank.example", "secret": "***",
        "callback_networks": ["192.0.2.0/24"], "deadline_seconds": 60.0,
    }  # fmt: skip
    assert shown["options"] == {"client_id": "c"}
