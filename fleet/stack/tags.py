"""Tags of every resource: which stack it belongs to, and which tier.

A transformation adds them, so that no component can forget one and a new resource type needs no list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

STACK = "goldenfleet:stack"
TIER = "goldenfleet:tier"
IMAGE = "goldenfleet:image"
CHANNEL = "goldenfleet:channel"
"""Of a tier's group: RECIPE/CHANNEL, so that whoever looks at it can tell whether its image is the newest."""
SHARED = "shared"
"""The tier of what no single tier owns."""


def tagging(tags: Mapping[str, str]) -> pulumi.ResourceTransformation:
    """Adds `tags` to every resource that can have some; tags that a resource has already win."""

    def tag(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        props: dict[str, Any] = dict(args.props)
        if isinstance(args.resource, aws.autoscaling.Group):
            props["tags"] = _group_tags({**tags, "Name": args.name}, props.get("tags") or ())
        elif hasattr(type(args.resource), "tags_all"):
            props["tags"] = {**tags, **_name(args), **(props.get("tags") or {})}
        else:
            return None
        return pulumi.ResourceTransformationResult(props, args.opts)

    return tag


def of_tier(tier: str) -> pulumi.ResourceOptions:
    """Options of a component whose resources all belong to `tier`."""
    return pulumi.ResourceOptions(transformations=[tagging({TIER: tier})])


def _name(args: pulumi.ResourceTransformationArgs) -> Mapping[str, str]:
    """EC2 knows most of its resources by a tag only."""
    return {"Name": args.name} if args.type_.startswith(("aws:ec2/", "aws:vpc/")) else {}


def _group_tags(tags: Mapping[str, str], given: Sequence[Any]) -> list[Any]:
    present = {tag.key for tag in given}
    added = [
        aws.autoscaling.GroupTagArgs(key=key, value=value, propagate_at_launch=True)
        for key, value in tags.items()
        if key not in present
    ]
    return [*given, *added]
