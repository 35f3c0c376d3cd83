"""What each role may do: one table of permission sets, for keys, tokens and certificates alike.

- Deny is the default: a role has the permissions of its row and no others, and a role without a row has none.
- A scope is the name of a permission. Scopes narrow a role and never widen it.
- `auditor` and `support` only look; `finance` looks and says how far an account may be overdrawn, which nobody who
  moves money does. Who a party is, support and finance do not see.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final

__all__ = ["ROLES", "Permission", "granted", "unknown_scopes"]


class Permission(StrEnum):
    """One thing that a role may do."""

    INTENTS_CREATE = "intents:create"
    INTENTS_READ = "intents:read"
    INTENTS_CANCEL = "intents:cancel"
    INTENTS_REVERSE = "intents:reverse"
    ACCOUNTS_CREATE = "accounts:create"
    ACCOUNTS_READ = "accounts:read"
    ACCOUNTS_MANAGE = "accounts:manage"
    ACCOUNTS_LIMIT = "accounts:limit"
    DEPOSITS_CREATE = "deposits:create"
    ENDPOINTS_CREATE = "endpoints:create"
    ENDPOINTS_READ = "endpoints:read"
    DELIVERIES_READ = "deliveries:read"
    DELIVERIES_REPLAY = "deliveries:replay"
    EVIDENCE_READ = "evidence:read"
    REVIEWS_READ = "reviews:read"
    REVIEWS_DECIDE = "reviews:decide"
    REVIEWS_COMMENT = "reviews:comment"
    APPROVALS_READ = "approvals:read"
    APPROVALS_REQUEST = "approvals:request"
    APPROVALS_DECIDE = "approvals:decide"
    CASES_READ = "cases:read"
    CASES_RESOLVE = "cases:resolve"
    DENIALS_READ = "denials:read"
    RATES_READ = "rates:read"
    RATES_WRITE = "rates:write"
    FEES_READ = "fees:read"
    FEES_MANAGE = "fees:manage"
    POLICIES_READ = "policies:read"
    POLICIES_WRITE = "policies:write"
    POLICIES_PROMOTE = "policies:promote"
    ROUTES_READ = "routes:read"
    ROUTES_WRITE = "routes:write"
    ROUTES_PROMOTE = "routes:promote"
    HOLDS_CAPTURE = "holds:capture"
    HOLDS_VOID = "holds:void"
    PARTIES_CREATE = "parties:create"
    PARTIES_READ = "parties:read"
    PARTIES_NAMES = "party_names:read"
    PARTIES_DECIDE = "parties:decide"


P = Permission
_READS: Final = frozenset({
    P.INTENTS_READ, P.ACCOUNTS_READ, P.ENDPOINTS_READ, P.DELIVERIES_READ, P.EVIDENCE_READ, P.REVIEWS_READ, P.CASES_READ,
    P.APPROVALS_READ, P.FEES_READ, P.POLICIES_READ, P.PARTIES_READ, P.RATES_READ,
    P.ROUTES_READ,
})  # fmt: skip
_DEVELOPER: Final = _READS | {
    P.INTENTS_CREATE, P.INTENTS_CANCEL, P.INTENTS_REVERSE, P.ACCOUNTS_CREATE, P.ENDPOINTS_CREATE,
    P.HOLDS_CAPTURE, P.HOLDS_VOID, P.REVIEWS_COMMENT, P.APPROVALS_REQUEST, P.PARTIES_CREATE, P.PARTIES_NAMES,
}  # fmt: skip
_OPERATOR: Final = _DEVELOPER | {
    P.REVIEWS_DECIDE, P.APPROVALS_DECIDE, P.CASES_RESOLVE, P.DELIVERIES_REPLAY, P.DENIALS_READ, P.POLICIES_WRITE,
    P.POLICIES_PROMOTE, P.ROUTES_WRITE, P.ROUTES_PROMOTE, P.PARTIES_DECIDE, P.ACCOUNTS_MANAGE, P.DEPOSITS_CREATE,
    P.RATES_WRITE,
}  # fmt: skip

ROLES: Final[Mapping[str, frozenset[Permission]]] = {
    "developer": _DEVELOPER,
    "operator": _OPERATOR,
    "support": _READS - {P.EVIDENCE_READ},
    "finance": frozenset(
        {
            P.INTENTS_READ,
            P.ACCOUNTS_READ,
            P.ACCOUNTS_LIMIT,
            P.EVIDENCE_READ,
            P.CASES_READ,
            P.FEES_READ,
            P.PARTIES_READ,
            P.RATES_READ,
        }
    ),
    "auditor": _READS | {P.DENIALS_READ, P.PARTIES_NAMES},
    "admin": frozenset(Permission),
}


def granted(role: str, scopes: Collection[str] | None) -> frozenset[Permission]:
    """Return what `role` may do, narrowed to `scopes` unless they are None; a role without a row may do nothing."""
    permissions = ROLES.get(role, frozenset())
    return permissions if scopes is None else frozenset(one for one in permissions if one in scopes)


def unknown_scopes(scopes: Collection[str]) -> list[str]:
    """Return those of `scopes` that are no permission, in order."""
    return sorted(set(scopes) - set(Permission))
