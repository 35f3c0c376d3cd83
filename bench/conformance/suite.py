"""The conformance suite of rail adapters: rules by name, and one way to try one.

    @pytest.mark.parametrize("rule", rules_for(MySpecimen()), ids=str)
    def test_my_adapter_keeps_the_rule(rule: Rule) -> None:
        asyncio.run(check(rule, MySpecimen()))

It needs no test framework; a rule that is not kept raises `Broken`, which is an AssertionError. Each rule has a ground
of its own: a stand-in for the partner on a free port of this machine. `docs/adapters.md` says the rest."""

from __future__ import annotations

from typing import Final

from zentra.bench.conformance.beliefs import BELIEF_RULES
from zentra.bench.conformance.callbacks import CALLBACK_RULES, nobody
from zentra.bench.conformance.calls import CALL_RULES
from zentra.bench.conformance.rule import Broken, Ground, Rule, expect, ground
from zentra.bench.conformance.specimen import REFERENCE, Asked, Reply, Request, Said, Specimen
from zentra.gateway.outward.rail_kinds import objections
from zentra.runtime.rails.port import CallbackRejected, OutcomeStatus

__all__ = [
    "REFERENCE",
    "RULES",
    "Asked",
    "Broken",
    "Reply",
    "Request",
    "Rule",
    "Said",
    "Specimen",
    "check",
    "rules_for",
]


async def declared(ground: Ground) -> None:
    """What the adapter says of its partner, and whether it works with the specimen's settings."""
    declaration = ground.rail.declaration
    expect(declaration.callback_trust in ("body_signed", "shared_secret", "none"), "no callback has this trust")
    expect(0 <= declaration.not_found_lies_seconds < 86_400, "a partner that lies for a day cannot be polled")
    wrong = objections(ground.settings, declaration)
    expect(not wrong, f"the specimen's settings do not fit what the adapter declares: {'; '.join(wrong)}")
    expect(ground.rail.settings == ground.settings, "the adapter has other settings than it was made with")


async def never_raises(ground: Ground) -> None:
    """The port promises outcomes, and refusals of callbacks; the engine has no plan for anything else."""
    polled = await ground.rail.poll(REFERENCE)
    expect(polled.status in (OutcomeStatus.UNKNOWN, OutcomeStatus.NOT_FOUND), f"a stranger was found: {polled.status}")
    for headers in ({}, {"content-type": ""}, {"x-signature": "\udcff"}):
        try:
            ground.rail.verify_callback(b"\x00", headers, 0.0, "nowhere")
        except CallbackRejected:
            continue
        raise Broken("a callback without any proof is believed")


RULES: Final[tuple[Rule, ...]] = (
    Rule("declared", "E2.11", "the adapter declares its partner's ways and works with settings that fit them",
         "anything", declared),
    Rule("never_raises", "DOMAIN 5", "whatever happens is an outcome; a stranger is refused", "anything", never_raises),
    *CALL_RULES,
    *BELIEF_RULES,
    *CALLBACK_RULES,
)  # fmt: skip
"""Every rule, in the order in which they are worth reading."""

_NOBODY: Final = Rule("callback_nobody", "E2.11", "a rail that makes no callbacks believes none", "anything", nobody)


def rules_for(specimen: Specimen) -> list[Rule]:
    """Return the rules that apply to an adapter."""
    has = {"anything": True, "calls_out": specimen.calls_out, "calls_back": specimen.calls_back}
    return [rule for rule in RULES if has[rule.needs]] + ([] if specimen.calls_back else [_NOBODY])


async def check(rule: Rule, specimen: Specimen) -> None:
    """Return where the specimen's adapter keeps the rule. Raises Broken, and whatever the adapter raises.

    Where the specimen itself cannot read a request, that is what is raised, whatever came of it."""
    async with ground(specimen) as made:
        try:
            await rule.run(made)
        except Exception:
            if made.partner.fault is None:
                raise
        if made.partner.fault is not None:
            raise Broken(made.partner.fault)
