"""A tier: launch template, Auto Scaling group that is mostly spot, and what makes it grow and shrink."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from fleet.stack.edge import Edge
from fleet.stack.fallback import rules_tag
from fleet.stack.identity import NodeIdentity, NodeNeeds
from fleet.stack.image import Image
from fleet.stack.naming import GATEWAY, config_parameter, resource_name
from fleet.stack.observability_names import GROUP_METRICS
from fleet.stack.purchase import mixture, warm_pool
from fleet.stack.scaling_policies import Scaled, scale
from fleet.stack.settings import NAMESPACE
from fleet.stack.settings_tier import WARMUP_SECONDS, BaseTier, GatewayTier, ModelTier
from fleet.stack.tags import CHANNEL, IMAGE, STACK, TIER, of_tier
from fleet.stack.volumes import IOPS_PER_MIBPS, Volume

# gp3 gives 3000 operations a second.
_GP3_BASE_IOPS = 3000


@dataclass(frozen=True)
class TierPlan:
    stack: str
    image: Image
    settings: GatewayTier | ModelTier
    node_config: Mapping[str, pulumi.Input[str] | float]
    """What `goldenfleet-boot` reads from the tier's parameter."""
    secrets: Sequence[str] = ()
    """What its settings refer to and its nodes may read: ssm:/name or secretsmanager:name."""
    key_arn: pulumi.Input[str] | None = None
    """Of the key that encrypts its volumes, and may encrypt its secrets; None is EBS's own."""

    @property
    def name(self) -> str:
        return self.settings.name


class Tier(pulumi.ComponentResource):
    def __init__(
        self,
        plan: TierPlan,
        edge: Edge,
        subnets: Sequence[pulumi.Input[str]],
        security_group: pulumi.Input[str],
        log_group_arn: pulumi.Input[str],
        before_nodes: Sequence[pulumi.Resource],
    ) -> None:
        self._name = resource_name(plan.stack, plan.name)
        super().__init__("goldenfleet:stack:Tier", self._name, None, of_tier(plan.name))
        self._plan = plan
        self._child = pulumi.ResourceOptions(parent=self)
        config = self._config()
        identity = NodeIdentity(plan.stack, plan.name, _needs(plan, config.arn, log_group_arn))
        self.role_arn = identity.role_arn
        self.image_id = plan.image.id
        self.template = self._template(identity.profile.arn, security_group)
        first = [*before_nodes, *edge.listeners, identity, config]
        drain, ready = drain_hook(plan.settings.drain.hook_seconds), self._ready_hooks()
        self.group = self._group(edge.target_group.arn, subnets, first, [drain, *ready])
        # It goes with the group: without it the nodes of a group that goes would be cut.
        drain.of(self.group, self._name, pulumi.ResourceOptions(parent=self, retain_on_delete=True))
        for hook in ready:
            hook.of(self.group, self._name, self._child)
        scale(Scaled(plan.stack, plan.settings, self._name, self.group, edge, self._child))
        self.register_outputs({"autoScalingGroup": self.group.name})

    def _ready_hooks(self) -> list[Hook]:
        tier = self._plan.settings
        return [ready_hook(tier.boot.grace_seconds)] if tier.warm_pool else []

    def _config(self) -> aws.ssm.Parameter:
        return aws.ssm.Parameter(
            f"{self._name}-config",
            name=config_parameter(self._plan.stack, self._plan.name),
            type="String",
            # No secret; as one, its value would be hidden from previews.
            insecure_value=pulumi.Output.json_dumps(dict(self._plan.node_config)),
            opts=self._child,
        )

    def _template(
        self, profile_arn: pulumi.Input[str], security_group: pulumi.Input[str]
    ) -> aws.ec2.LaunchTemplate:
        plan = self._plan
        return aws.ec2.LaunchTemplate(
            self._name,
            image_id=plan.image.id,
            user_data=user_data(plan.settings.role, plan.name, plan.stack),
            iam_instance_profile=aws.ec2.LaunchTemplateIamInstanceProfileArgs(arn=profile_arn),
            vpc_security_group_ids=[security_group],
            # Two hops: an engine in a container is one hop further from the metadata service.
            metadata_options=aws.ec2.LaunchTemplateMetadataOptionsArgs(
                http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=2
            ),
            monitoring=aws.ec2.LaunchTemplateMonitoringArgs(enabled=True),
            block_device_mappings=_volumes(plan),
            tag_specifications=[_tags_at_launch(plan, kind) for kind in ("instance", "volume")],
            opts=self._child,
        )

    def _group(
        self,
        target_group_arn: pulumi.Input[str],
        subnets: Sequence[pulumi.Input[str]],
        first: Sequence[pulumi.Resource],
        hooks: Sequence[Hook],
    ) -> aws.autoscaling.Group:
        """No maintenance policy: capacity rebalance launches before it terminates, beyond max if need be."""
        tier = self._plan.settings
        return aws.autoscaling.Group(
            self._name,
            min_size=tier.capacity.min,
            desired_capacity=tier.capacity.desired,
            max_size=tier.capacity.max,
            vpc_zone_identifiers=list(subnets),
            target_group_arns=[target_group_arn],
            mixed_instances_policy=mixture(
                tier.purchase, self.template.id, self.template.latest_version.apply(str)
            ),
            warm_pool=warm_pool(tier.warm_pool) if tier.warm_pool else None,
            capacity_rebalance=True,
            initial_lifecycle_hooks=[hook.initially() for hook in hooks],
            health_check_type="ELB",
            health_check_grace_period=tier.boot.grace_seconds,
            default_instance_warmup=warmup_seconds(tier, self._plan.image),
            enabled_metrics=[aws.autoscaling.Metric(name) for name in GROUP_METRICS],
            # Spot may have no capacity for hours; an update that waits for it would fail and help nobody.
            wait_for_capacity_timeout="0",
            tags=[
                aws.autoscaling.GroupTagArgs(
                    key=CHANNEL, value=f"{tier.recipe}/{tier.channel}", propagate_at_launch=True
                ),
                rules_tag(tier),
            ],
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=list(first),
                # Scaling owns the first, resources of their own the others: see rollout.py, and Hook.
                ignore_changes=["desired_capacity", "mixed_instances_policy", "initial_lifecycle_hooks"],
            ),
        )


def _needs(
    plan: TierPlan, config_parameter_arn: pulumi.Input[str], log_group_arn: pulumi.Input[str]
) -> NodeNeeds:
    tier = plan.settings
    return NodeNeeds(
        config_parameter_arn,
        log_group_arn,
        secrets=plan.secrets,
        discovers=tier.role == GATEWAY,
        weights=tier.weights_from if isinstance(tier, ModelTier) else (),
        key_arn=plan.key_arn,
    )


@dataclass(frozen=True)
class Hook:
    """A group has it from its first instance on, and its settings may change. For a change of
    `initialLifecycleHooks` pulumi-aws makes a new group (ForceNew) and ends all nodes of the old one: they
    count once, and a resource of its own has what the hook shall be.
    """

    name: str
    transition: str
    seconds: int
    result: str

    def initially(self) -> aws.autoscaling.GroupInitialLifecycleHookArgs:
        return aws.autoscaling.GroupInitialLifecycleHookArgs(
            name=self.name,
            lifecycle_transition=self.transition,
            heartbeat_timeout=self.seconds,
            default_result=self.result,
        )

    def of(self, group: aws.autoscaling.Group, name: str, opts: pulumi.ResourceOptions) -> None:
        aws.autoscaling.LifecycleHook(
            f"{name}-{self.name}",
            name=self.name,
            autoscaling_group_name=group.name,
            lifecycle_transition=self.transition,
            heartbeat_timeout=self.seconds,
            default_result=self.result,
            opts=opts,
        )


def drain_hook(seconds: int) -> Hook:
    """Both results of a terminate hook end the instance; CONTINUE lets other hooks run first, ABANDON would
    skip them.
    """
    return Hook("drain", "autoscaling:EC2_INSTANCE_TERMINATING", seconds, "CONTINUE")


def ready_hook(seconds: int) -> Hook:
    """A node that is to wait in a warm pool is stopped as soon as it is launched, in the middle of its first
    boot, unless a hook holds it (Auto Scaling guide, "Use lifecycle hooks with a warm pool"). Control lets it
    go once it is ready; one that does not get so is given up, and another is launched.
    """
    return Hook("ready", "autoscaling:EC2_INSTANCE_LAUNCHING", seconds, "ABANDON")


def user_data(role: str, tier: str, stack: str) -> str:
    """Base64 of the boot script, which names role, tier and stack: the image and SSM hold the rest."""
    script = f"#!/bin/sh\nexec goldenfleet-boot --role {role} --tier {tier} --stack {stack}\n"
    return base64.b64encode(script.encode()).decode()


def volume_problem(tier: BaseTier, image: Image) -> str | None:
    """Why no node of `tier` could be launched from `image`, or None when one could."""
    gib, root = tier.volumes.root_gib, image.volumes.of("root")
    if root is None or gib >= root.gib:
        return None
    return (
        f"{NAMESPACE}:tiers.{tier.name}.volumes.rootGib is {gib}, and the root volume of {image.id} has "
        f"{root.gib} GiB: raise it to {root.gib}"
    )


def boot_problem(tier: BaseTier, image: Image) -> str | None:
    """Why no node of `tier` would live to serve from `image`, or None when one would."""
    grace, measured = tier.boot.grace_seconds, image.boot_seconds
    if measured is None or grace >= measured:
        return None
    return (
        f"{NAMESPACE}:tiers.{tier.name}.boot.graceSeconds is {grace}, and {image.id} took {measured:.0f} s "
        f"from launch to ready when it was baked: raise it to {2 * math.ceil(measured)}, or nodes are "
        "replaced before they serve"
    )


def warmup_seconds(tier: BaseTier, image: Image) -> int:
    """The stack's, else what the image's bake measured."""
    if tier.boot.warmup_seconds is not None:
        return tier.boot.warmup_seconds
    return WARMUP_SECONDS if image.boot_seconds is None else math.ceil(image.boot_seconds)


def _volumes(plan: TierPlan) -> list[aws.ec2.LaunchTemplateBlockDeviceMappingArgs]:
    weights = plan.image.volumes.of("weights")
    return [_root_volume(plan), *([_weights_volume(plan, weights)] if weights is not None else [])]


def _initialization(plan: TierPlan, asked: Volume | None) -> int | None:
    """The stack's rate, where the image asks for one at all: a volume without a snapshot has none."""
    if asked is None or asked.initialization_mib_s is None:
        return None
    return plan.settings.volumes.initialization_mibps or asked.initialization_mib_s


def _root_volume(plan: TierPlan) -> aws.ec2.LaunchTemplateBlockDeviceMappingArgs:
    """Of the stack's size; as fast as the stack or the image asks for, whichever asks for more."""
    asked = plan.image.volumes.of("root")
    mibps = max(plan.settings.volumes.root_mibps, asked.throughput_mib_s if asked else 0)
    return aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
        device_name=plan.image.root_device,
        ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
            volume_type="gp3",
            volume_size=plan.settings.volumes.root_gib,
            throughput=mibps,
            iops=max(_GP3_BASE_IOPS, mibps * IOPS_PER_MIBPS, asked.iops if asked else 0),
            volume_initialization_rate=_initialization(plan, asked),
            encrypted="true",
            kms_key_id=plan.key_arn,
            delete_on_termination="true",
        ),
    )


def _weights_volume(plan: TierPlan, asked: Volume) -> aws.ec2.LaunchTemplateBlockDeviceMappingArgs:
    """As the image maps it. It is encrypted because its snapshot is: AWS lets nobody say so beside one."""
    return aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
        device_name=asked.device,
        ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
            snapshot_id=asked.snapshot,
            volume_type="gp3",
            volume_size=asked.gib,
            throughput=asked.throughput_mib_s,
            iops=asked.iops,
            volume_initialization_rate=_initialization(plan, asked),
            delete_on_termination="true",
        ),
    )


def _tags_at_launch(plan: TierPlan, kind: str) -> aws.ec2.LaunchTemplateTagSpecificationArgs:
    tags = {
        STACK: plan.stack,
        TIER: plan.name,
        IMAGE: plan.image.id,
        "Name": resource_name(plan.stack, plan.name),
    }
    return aws.ec2.LaunchTemplateTagSpecificationArgs(resource_type=kind, tags=tags)
