"""What each role may do and may not, and that scopes only narrow."""

from __future__ import annotations

import pytest

from zentra.runtime.roles import ROLES, Permission, granted, unknown_scopes

P = Permission


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("developer", {P.INTENTS_CREATE, P.INTENTS_CANCEL, P.INTENTS_REVERSE, P.ACCOUNTS_CREATE, P.ENDPOINTS_CREATE,
                       P.EVIDENCE_READ}, {P.REVIEWS_DECIDE, P.CASES_RESOLVE, P.DELIVERIES_REPLAY, P.DENIALS_READ,
                                         P.ACCOUNTS_MANAGE, P.ACCOUNTS_LIMIT, P.DEPOSITS_CREATE}),
        ("operator", {P.INTENTS_CREATE, P.REVIEWS_DECIDE, P.CASES_RESOLVE, P.DELIVERIES_REPLAY, P.DENIALS_READ,
                      P.ACCOUNTS_MANAGE, P.DEPOSITS_CREATE}, {P.ACCOUNTS_LIMIT}),
        ("auditor", {P.INTENTS_READ, P.EVIDENCE_READ, P.DENIALS_READ}, {P.INTENTS_CREATE, P.REVIEWS_DECIDE}),
        ("support", {P.INTENTS_READ, P.DELIVERIES_READ}, {P.INTENTS_CREATE, P.DELIVERIES_REPLAY, P.EVIDENCE_READ}),
        ("finance", {P.ACCOUNTS_READ, P.EVIDENCE_READ}, {P.INTENTS_CREATE, P.ENDPOINTS_READ, P.REVIEWS_DECIDE}),
        ("admin", set(Permission), set()),
    ],
)  # fmt: skip
def test_a_role_has_its_row_and_no_more(role: str, may: set[Permission], may_not: set[Permission]) -> None:
    assert may <= ROLES[role]
    assert not may_not & ROLES[role]


def test_roles_that_only_look_change_nothing() -> None:
    for role in ("auditor", "support"):
        assert all(permission.endswith(":read") for permission in ROLES[role])


def test_who_grants_credit_moves_no_money_and_who_moves_money_grants_no_credit() -> None:
    assert [role for role in ROLES if P.ACCOUNTS_LIMIT in ROLES[role]] == ["finance", "admin"]
    changing = {permission for permission in ROLES["finance"] if not permission.endswith(":read")}
    assert changing == {P.ACCOUNTS_LIMIT}


@pytest.mark.parametrize(
    ("role", "scopes", "may"),
    [
        ("auditor", None, ROLES["auditor"]),
        ("auditor", {"intents:read"}, {P.INTENTS_READ}),
        ("auditor", {"intents:create", "intents:read"}, {P.INTENTS_READ}),
        ("admin", set(), set()),
        ("king", None, set()),
        ("king", {"intents:read"}, set()),
    ],
)
def test_scopes_narrow_a_role_and_never_widen_it(role: str, scopes: set[str] | None, may: set[Permission]) -> None:
    assert granted(role, scopes) == may


def test_a_scope_is_a_permission() -> None:
    assert unknown_scopes(["intents:read", "root", "*"]) == ["*", "root"]
    assert unknown_scopes([one.value for one in Permission]) == []
