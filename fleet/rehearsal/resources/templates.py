"""Launch templates: every change makes a new version, and earlier ones stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from fleet.rehearsal.resources.aws import Aws
from fleet.rehearsal.resources.ec2 import Ec2Handler
from fleet.rehearsal.resources.handler import Handler, Want
from fleet.rehearsal.resources.shapes import fit

# Arguments about the template itself; the rest is data of a version.
_OF_TEMPLATE = frozenset({"defaultVersion", "name", "namePrefix", "tags", "updateDefaultVersion"})
_NO_VERSION = frozenset({"defaultVersion", "tags", "updateDefaultVersion"})


class LaunchTemplate(Ec2Handler):
    type = "aws:ec2/launchTemplate:LaunchTemplate"
    create = "ec2.CreateLaunchTemplate"
    kind, made, id_member = "launch-template", "LaunchTemplate", "LaunchTemplateId"
    describe = ("ec2.DescribeLaunchTemplates", "LaunchTemplates")
    destroy = "ec2.DeleteLaunchTemplate"
    arn_kind = "launch-template"
    name_argument = "name"
    name_limit = 128
    members: ClassVar[Mapping[str, str]] = {
        "vpcSecurityGroupIds": "SecurityGroupIds",
        "securityGroupNames": "SecurityGroups",
    }
    updates: ClassVar[Mapping[str, Any]] = dict.fromkeys(
        (
            "blockDeviceMappings",
            "capacityReservationSpecification",
            "cpuOptions",
            "creditSpecification",
            "defaultVersion",
            "description",
            "disableApiStop",
            "disableApiTermination",
            "ebsOptimized",
            "enclaveOptions",
            "hibernationOptions",
            "iamInstanceProfile",
            "imageId",
            "instanceInitiatedShutdownBehavior",
            "instanceMarketOptions",
            "instanceRequirements",
            "instanceType",
            "kernelId",
            "keyName",
            "licenseSpecifications",
            "maintenanceOptions",
            "metadataOptions",
            "monitoring",
            "networkInterfaces",
            "placement",
            "privateDnsNameOptions",
            "ramDiskId",
            "securityGroupNames",
            "tagSpecifications",
            "updateDefaultVersion",
            "userData",
            "vpcSecurityGroupIds",
        )
    ) | {"tags": {}}

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        data = {key: value for key, value in inputs.items() if key not in {*_OF_TEMPLATE, "description"}}
        described = {"VersionDescription": inputs["description"]} if inputs.get("description") else {}
        return {
            "LaunchTemplateData": {self.members.get(key, key): value for key, value in data.items()},
            **described,
        }

    def check(self, aws: Aws, inputs: Mapping[str, Any]) -> None:
        """By the data's own shape, so that an error names the argument as the program does."""
        data = self.shaped(inputs)["LaunchTemplateData"]
        fit(aws.shape(self.create).members["LaunchTemplateData"], data, "")

    def unasked(self, want: Want) -> dict[str, Any]:
        return {"LaunchTemplateName": want.physical}

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        super().settle(aws, identity, want, changed)
        if self.volatile(changed):
            request = self.fitted(aws, "ec2.CreateLaunchTemplateVersion", self.shaped(want.inputs))
            aws.call("ec2.CreateLaunchTemplateVersion", LaunchTemplateId=identity, **request)
        default = self._default(aws, identity, want, changed)
        if default is not None:
            aws.call("ec2.ModifyLaunchTemplate", LaunchTemplateId=identity, DefaultVersion=str(default))

    def volatile(self, changed: Collection[str]) -> frozenset[str]:
        return frozenset({"latestVersion", "defaultVersion"}) if set(changed) - _NO_VERSION else frozenset()

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        template = self._described(aws, identity)
        return {
            **super().outputs(aws, identity, want),
            "name": template["LaunchTemplateName"],
            "latestVersion": template["LatestVersionNumber"],
            "defaultVersion": template["DefaultVersionNumber"],
        }

    def _default(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> int | None:
        if want.get("updateDefaultVersion") and changed:
            return int(self._described(aws, identity)["LatestVersionNumber"])
        if "defaultVersion" in changed and want.get("defaultVersion") is not None:
            return int(want.inputs["defaultVersion"])
        return None

    def _described(self, aws: Aws, identity: str) -> dict[str, Any]:
        return self.described(aws, LaunchTemplateIds=[identity])[0]


HANDLERS: tuple[Handler, ...] = (LaunchTemplate(),)
