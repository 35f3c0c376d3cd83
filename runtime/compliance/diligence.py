"""What a decision knows of the people in an intent: the part of it that compliance rules look at, and that is kept.

Invariants. It holds states, ids, digests and scores and never a name. The rules look at nothing else, so a decision is
replayed from what is kept. What was not asked is told apart from what was asked and not found."""

from msgspec import Struct

__all__ = ["Compliance", "Diligence", "HitUsed", "ListUsed", "PartyUsed"]


class Compliance(Struct, frozen=True, forbid_unknown_fields=True):
    """What a tenant's rules demand of the people in an intent.

    `screen`: "off"; "counterparties" screens whoever money leaves to over a rail, whom the intent has to name, party or
    not; "all" screens the tenant's parties too, and one that is clear needs no other name.
    `threshold` is in thousandths, from `matching.CUTOFF` up. `lists` are the names of lists that have to be there, none
    meaning all that are loaded, of which there has to be one. A list older than `list_max_age_hours` is stale."""

    kyc_required: bool = False
    screen: str = "off"
    threshold: int = 850
    list_max_age_hours: int = 48
    lists: tuple[str, ...] = ()


class PartyUsed(Struct, frozen=True, gc=False):
    """A party as the decision saw it."""

    party: str
    kyc: str
    screening: str


class ListUsed(Struct, frozen=True, gc=False):
    """A list as the decision saw it: fresh or stale."""

    name: str
    version: int
    digest: str
    fetched_at: str
    state: str


class HitUsed(Struct, frozen=True, gc=False):
    """An entry that the counterparty is like; `cleared` where somebody has said that it is somebody else."""

    list: str
    entry: str
    digest: str
    score: int
    cleared: bool = False


class Diligence(Struct, frozen=True, gc=False, omit_defaults=True):
    """What was known.

    `source` and `destination` are "system" (money of nobody), "unknown" (an account without a party, or none of ours),
    "none" (a hold that names nobody yet) or the party; so are `others`, all who take part in the legs of a journal
    besides. `counterparty` is not_asked, missing, unscreenable, incomplete, or screened."""

    kyc_required: bool
    screen: str
    source: PartyUsed | str
    destination: PartyUsed | str
    leaves: bool  # money goes to somebody outside, over a rail
    counterparty: str = "not_asked"
    algorithm: str = ""
    threshold: int = 0
    lists: tuple[ListUsed, ...] = ()
    missing: tuple[str, ...] = ()  # lists that have to be there and are not
    name_digest: str = ""
    score: int = 0  # the best, whether it was cleared or not
    hits: tuple[HitUsed, ...] = ()  # of at least the threshold
    others: tuple[PartyUsed | str, ...] = ()  # each once; system accounts are left out

    @property
    def sides(self) -> tuple[PartyUsed | str, ...]:
        """Return everybody whose money moves, or who gets it."""
        return self.source, self.destination, *self.others
