"""Names of what the stack makes, each within AWS's limits."""

from __future__ import annotations

import re

GATEWAY = "gateway"
MODEL = "model"
"""Roles of tiers. A tier's name is its own."""

RESERVED = (
    "control",
    "endpoints",
    "firewall",
    "model-balancer",
    "network",
    "notices",
    "public-balancer",
    "shared",
)
"""Parts of a stack that are no tier's."""

LOAD_BALANCER_NAME_LIMIT = 32
"""Characters that AWS allows in the name of a load balancer or target group."""

AUTONAME_SUFFIX = 8
"""Characters that pulumi-aws appends to a logical name: a hyphen and seven hexadecimal digits."""

_PREFIX = "gf"
_STACK_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")

_ROOM = LOAD_BALANCER_NAME_LIMIT - AUTONAME_SUFFIX - len(f"{_PREFIX}--")

STACK_NAME_LIMIT = _ROOM - len(GATEWAY)
"""So that a tier's name may have at least seven characters."""


def stack_name_problem(stack: str) -> str | None:
    """Why `stack` cannot name a stack, or None when it can."""
    if len(stack) > STACK_NAME_LIMIT:
        return (
            f"stack name {stack!r} has {len(stack)} characters, {len(stack) - STACK_NAME_LIMIT} more than "
            f"the {STACK_NAME_LIMIT} that fit: names of load balancers hold {LOAD_BALANCER_NAME_LIMIT}, "
            "and a tier's name and a random suffix take the rest"
        )
    if not _STACK_NAME.fullmatch(stack) or "--" in stack:
        return (
            f"stack name {stack!r} cannot name a load balancer: use lower-case letters, digits and "
            "single hyphens, and begin with a letter"
        )
    return None


def room_for_tier_name(stack: str) -> int:
    """Characters that the name of a tier of `stack` may have."""
    return _ROOM - len(stack)


def tier_name_problem(name: str) -> str | None:
    """Why `name` cannot be a tier's, whatever the stack, or None when it can."""
    taken = next((part for part in RESERVED if name == part or name.startswith(f"{part}-")), None)
    return f"name {name!r} is kept for the stack's own {taken}: choose another" if taken else None


def resource_name(stack: str, part: str) -> str:
    """Logical name; in AWS a random suffix follows it."""
    return f"{_PREFIX}-{stack}-{part}"


def interrupting_role(stack: str) -> str:
    """Whole name of the role by which AWS interrupts nodes, for a test."""
    return resource_name(stack, "interrupt")


def image_parameter(stack: str, recipe: str, channel: str) -> str:
    return f"/goldenfleet/{stack}/image/{recipe}/{channel}"


def launch_path(stack: str, image_id: str) -> str:
    """Below it a bake has written what a launch template must know of the image beyond its id."""
    return f"/goldenfleet/{stack}/launch/{image_id}"


def config_parameter(stack: str, tier: str) -> str:
    return f"/goldenfleet/{stack}/tier/{tier}/config"


def keys_parameter(stack: str) -> str:
    """Holds the keys document, which people write: no program of ours does."""
    return f"/goldenfleet/{stack}/keys"


def log_group(stack: str, tier: str) -> str:
    return f"/goldenfleet/{stack}/{tier}"


def log_groups(stack: str) -> str:
    """All of them, as ARNs have it."""
    return f"/goldenfleet/{stack}/*"
