"""Every rule, in the order of docs/policy.md."""

from __future__ import annotations

from fleet.policy import balancers, groups, instances, networks, operations, roles, scaling, stores
from fleet.policy.model import Rule

RULES: tuple[Rule, ...] = (
    *instances.RULES,
    *networks.RULES,
    *balancers.RULES,
    *groups.RULES,
    *scaling.RULES,
    *roles.RULES,
    *stores.RULES,
    *operations.RULES,
)
