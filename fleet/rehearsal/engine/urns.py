"""URNs: Pulumi's names of resources, urn:pulumi:<stack>::<project>::<parents' types$type>::<name>."""

from __future__ import annotations

STACK_TYPE = "pulumi:pulumi:Stack"


def urn_of(project: str, stack: str, parent: str, resource_type: str, name: str) -> str:
    """A child's type is qualified by its parents', except by the stack's; `parent` is a URN or empty."""
    outer = parent.split("::")[2] if parent else STACK_TYPE
    qualified = resource_type if outer == STACK_TYPE else f"{outer}${resource_type}"
    return f"urn:pulumi:{stack}::{project}::{qualified}::{name}"
