"""Personal data and the intent that has it: both are written or neither, under the key that the subject has now."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from msgspec.structs import replace

from tests.storage.test_registration import _item as item
from zentra.runtime.evidence import canonical
from zentra.runtime.intents.command import decode_command
from zentra.storage.administration import Administration
from zentra.storage.intake.personal import PersonalData, erase_subject
from zentra.storage.intake.registration import (
    IntentIdTaken,
    Registered,
    Registration,
    SubjectMoved,
    register_intents,
)
from zentra.storage.pool import Pool

SECRET = bytes(range(32))


@pytest.fixture(autouse=True)
async def acme(admin_pool: Pool) -> None:
    if not await admin_pool.fetchval("select true from zentra.tenants where id = 'acme'"):
        await Administration(admin_pool).create_tenant("acme", "Acme")


def metadata(subject: str, name: str = "Ada") -> dict[str, str]:
    return {"personal.subject": subject, "personal.name": name}


async def asked(pool: Pool, subject: str, **given: Any) -> Registration:
    """One registration that has looked its subject up."""
    made = item(uuid.uuid4().hex, **given)
    kept, personal = await PersonalData(pool, SECRET).commit("acme", metadata(subject), made.key, made.intent_id)
    assert personal is not None
    command = canonical.encode(replace(decode_command(made.command), metadata=kept))
    return replace(made, personal=personal, command=command)


async def erase(pool: Pool, subject: str) -> int:
    row = await erase_subject(pool, "acme", subject, actor="ada", reason="asked for", sign=bytes)
    return row.erased


async def kept(pool: Pool, subject: str) -> tuple[int, int]:
    """Return how many openings and keys a subject has."""
    openings = await pool.fetchval("select count(*) from zentra.personal_openings where subject = $1", subject)
    return openings, await pool.fetchval("select count(*) from zentra.personal_subjects where subject = $1", subject)


async def intents(pool: Pool, *items: Registration) -> int:
    count: int = await pool.fetchval(
        "select count(*) from zentra.intents where id = any($1)", [i.intent for i in items]
    )
    return count


@pytest.mark.parametrize("guess", [True, False])
async def test_looking_up_writes_nothing_and_the_intent_all(writer_pool: Pool, admin_pool: Pool, guess: bool) -> None:
    subject = uuid.uuid4().hex
    one, plain = await asked(writer_pool, subject), item(uuid.uuid4().hex)
    assert await kept(admin_pool, subject) == (0, 0)
    assert (await register_intents(writer_pool, [one, plain], guess=guess)).outcomes == [Registered()] * 2
    assert await kept(admin_pool, subject) == (2, 1)


@pytest.mark.parametrize("guess", [True, False])
async def test_of_several_who_name_a_subject_first_one_is_and_the_others_look_again(
    writer_pool: Pool, admin_pool: Pool, guess: bool
) -> None:
    subject = uuid.uuid4().hex
    group = [await asked(writer_pool, subject) for _ in range(3)]
    plain = item(uuid.uuid4().hex)
    done = await register_intents(writer_pool, [*group, plain], guess=guess)
    assert done.outcomes == [Registered(), SubjectMoved(), SubjectMoved(), Registered()]
    assert await intents(admin_pool, *group, plain) == 2
    again = [await asked(writer_pool, subject) for _ in range(2)]
    assert (await register_intents(writer_pool, again, guess=guess)).outcomes == [Registered()] * 2
    assert await kept(admin_pool, subject) == (2, 1)


async def test_a_key_that_was_erased_after_the_look_does_not_come_back(writer_pool: Pool, admin_pool: Pool) -> None:
    subject = uuid.uuid4().hex
    await register_intents(writer_pool, [await asked(writer_pool, subject)])
    late = await asked(writer_pool, subject)
    assert await erase(admin_pool, subject) == 2
    assert (await register_intents(writer_pool, [late])).outcomes == [SubjectMoved()]
    assert await kept(admin_pool, subject) == (0, 0)
    assert await intents(admin_pool, late) == 0


async def test_who_is_refused_names_no_subject(writer_pool: Pool, admin_pool: Pool) -> None:
    subject, first = uuid.uuid4().hex, item(uuid.uuid4().hex)
    await register_intents(writer_pool, [first])
    refused = await asked(writer_pool, subject, intent_id=first.intent_id, minor=9)
    known = replace(await asked(writer_pool, subject, minor=8), key=first.key)
    done = (await register_intents(writer_pool, [refused, known])).outcomes
    assert isinstance(done[0], IntentIdTaken)
    assert not isinstance(done[1], Registered | SubjectMoved)
    assert await kept(admin_pool, subject) == (0, 0)


# Who asks, of what, and whether it is taken for the same.
SAME = [
    ("the same", SECRET, "Ada", True),
    ("another value", SECRET, "Eve", False),
    ("another installation's secret", bytes(32), "Ada", False),
]


@pytest.mark.parametrize(("secret", "name", "same"), [row[1:] for row in SAME], ids=[row[0] for row in SAME])
@pytest.mark.parametrize("by", ["key", "intent_id"])
async def test_a_repeat_is_known_by_its_proof_after_the_erasure(
    writer_pool: Pool, admin_pool: Pool, secret: bytes, name: str, same: bool, by: str
) -> None:
    subject = uuid.uuid4().hex
    first = await asked(writer_pool, subject)
    assert (await register_intents(writer_pool, [first])).outcomes == [Registered()]
    await erase(admin_pool, subject)
    key, intent_id = (first.key, None) if by == "key" else (uuid.uuid4().hex, first.intent_id)
    _, personal = await PersonalData(writer_pool, secret).commit("acme", metadata(subject, name), key, intent_id)
    assert (personal is None) is same
    _, elsewhere = await PersonalData(writer_pool, secret).commit("globex", metadata(subject, name), key, intent_id)
    assert elsewhere is not None, "a key is its tenant's alone"
