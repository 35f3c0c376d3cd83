"""The policy engine: rules as versioned data, typed conditions, velocity windows, risk, and decisions that replay."""

from zentra.runtime.policy.decision import Judging, decide, velocity_keys
from zentra.runtime.policy.rules import DEFAULT_RULES, Limits, PolicyRules, is_plain
from zentra.runtime.policy.windows import Usage, VelocityKey

__all__ = [
    "DEFAULT_RULES", "Judging", "Limits", "PolicyRules", "Usage", "VelocityKey", "decide", "is_plain",
    "velocity_keys",
]  # fmt: skip
