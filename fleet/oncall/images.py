"""Which image each tier launches, and which its channel points at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.oncall.aws import TIER_TAG, Aws, tags
from fleet.oncall.errors import AwsFailed, CredentialsRefused
from fleet.stack.naming import GATEWAY, MODEL, config_parameter, image_parameter

CHANNEL_TAG = "goldenfleet:channel"
"""Of a tier's group: RECIPE/CHANNEL, by which its images are published."""


@dataclass(frozen=True)
class Images:
    """Each by tier; a tier of which it cannot be told is left out."""

    roles: Mapping[str, str]
    launched: Mapping[str, str]
    channels: Mapping[str, str]


def load(aws: Aws, groups: Sequence[Mapping[str, Any]]) -> Images:
    """Parameters that may not be read leave their part out. Raises OnCallError for anything else."""
    parameters = _parameters(aws)
    tiers = {tags(group).get(TIER_TAG, ""): group for group in groups}
    return Images(
        roles={name: _role(parameters.get(config_parameter(aws.stack, name))) for name in tiers},
        launched={name: image for name, group in tiers.items() if (image := _launched(aws, group))},
        channels={
            name: image for name, group in tiers.items() if (image := _channel(aws, group, parameters))
        },
    )


def _parameters(aws: Aws) -> dict[str, str]:
    """Below /goldenfleet/STACK/{tier,image}; secrets lie elsewhere, and are not decrypted."""
    found: dict[str, str] = {}
    for part in ("tier", "image"):
        path = f"/goldenfleet/{aws.stack}/{part}"
        try:
            listed = aws.pages("ssm.get_parameters_by_path", "Parameters", Path=path, Recursive=True)
        except CredentialsRefused:
            continue
        found |= {one["Name"]: one["Value"] for one in listed}
    return found


def _role(config: str | None) -> str:
    """A gateway is told where nodes are, a node which engine it has."""
    if config is None:
        return ""
    try:
        told = json.loads(config)
    except ValueError:
        return ""
    return GATEWAY if isinstance(told, dict) and "nodes" in told else MODEL


def _launched(aws: Aws, group: Mapping[str, Any]) -> str | None:
    template = template_of(group)
    if template is None:
        return None
    try:
        answer = aws.call("ec2.describe_launch_template_versions", **template)
    except AwsFailed:
        return None  # a template that went: the doctor says so
    versions = answer["LaunchTemplateVersions"]
    return versions[0]["LaunchTemplateData"].get("ImageId") if versions else None


def template_of(group: Mapping[str, Any]) -> dict[str, Any] | None:
    """What DescribeLaunchTemplateVersions is asked for the version that the group launches."""
    mixed = group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {}).get("LaunchTemplateSpecification")
    template = mixed or group.get("LaunchTemplate")
    if not template:
        return None
    return {
        "LaunchTemplateId": template["LaunchTemplateId"],
        "Versions": [template.get("Version", "$Default")],
    }


def _channel(aws: Aws, group: Mapping[str, Any], parameters: Mapping[str, str]) -> str | None:
    recipe, _, channel = tags(group).get(CHANNEL_TAG, "").partition("/")
    return parameters.get(image_parameter(aws.stack, recipe, channel)) if channel else None
