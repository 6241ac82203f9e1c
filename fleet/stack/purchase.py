"""What a group launches: named types or requirements, on demand and spot, and nodes that wait."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws
from pulumi_aws.autoscaling import (
    GroupMixedInstancesPolicyLaunchTemplateOverrideInstanceRequirementsAcceleratorTotalMemoryMibArgs as _Mib,
)

from fleet.stack.settings_purchase import Purchase, Range, Requirements
from fleet.stack.settings_tier import WarmPool

_MIB_PER_GIB = 1024


def mixture(
    purchase: Purchase, template_id: pulumi.Input[str], version: pulumi.Input[str]
) -> aws.autoscaling.GroupMixedInstancesPolicyArgs:
    """`version` is a number: $Latest would let a node boot what no `up` has rolled out."""
    return aws.autoscaling.GroupMixedInstancesPolicyArgs(
        launch_template=aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateArgs(
            launch_template_specification=(
                aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateLaunchTemplateSpecificationArgs(
                    launch_template_id=template_id, version=version
                )
            ),
            overrides=_overrides(purchase),
        ),
        instances_distribution=aws.autoscaling.GroupMixedInstancesPolicyInstancesDistributionArgs(
            on_demand_base_capacity=purchase.on_demand_base,
            on_demand_percentage_above_base_capacity=purchase.on_demand_percent,
            # AWS API, InstancesDistribution: `prioritized` cannot be used with requirements.
            on_demand_allocation_strategy="lowest-price" if purchase.requirements else "prioritized",
            spot_allocation_strategy="price-capacity-optimized",
        ),
    )


def warm_pool(asked: WarmPool) -> aws.autoscaling.GroupWarmPoolArgs:
    return aws.autoscaling.GroupWarmPoolArgs(
        pool_state=asked.state.capitalize(),
        min_size=asked.min,
        max_group_prepared_capacity=asked.max_prepared,
        instance_reuse_policy=aws.autoscaling.GroupWarmPoolInstanceReusePolicyArgs(
            reuse_on_scale_in=asked.reuse
        ),
    )


def _overrides(
    purchase: Purchase,
) -> list[aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateOverrideArgs]:
    if purchase.requirements is not None:
        return [
            aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateOverrideArgs(
                instance_requirements=_requirements(purchase.requirements)
            )
        ]
    weights = purchase.weights or {}
    return [
        aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateOverrideArgs(
            instance_type=kind, weighted_capacity=str(weights[kind]) if weights else None
        )
        for kind in purchase.instance_types
    ]


_Requirements = aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateOverrideInstanceRequirementsArgs
_Vcpus = aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateOverrideInstanceRequirementsVcpuCountArgs
_Memory = aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateOverrideInstanceRequirementsMemoryMibArgs
_Gpus = (
    aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateOverrideInstanceRequirementsAcceleratorCountArgs
)


def _requirements(asked: Requirements) -> _Requirements:
    """The processor is not among them: AWS takes only types that can boot the template's image."""
    gpus, memory = asked.gpus, asked.gpu_memory_gib
    return _Requirements(
        vcpu_count=_Vcpus(min=asked.vcpus.min, max=asked.vcpus.max),
        memory_mib=_Memory(min=asked.memory_gib.min * _MIB_PER_GIB, max=_mib(asked.memory_gib)),
        accelerator_count=_Gpus(min=gpus.min, max=gpus.max),
        accelerator_types=["gpu"] if gpus.min else None,
        accelerator_manufacturers=["nvidia"] if gpus.min else None,
        accelerator_total_memory_mib=None
        if memory is None
        else _Mib(min=memory.min * _MIB_PER_GIB, max=_mib(memory)),
        local_storage=asked.local_storage,
        excluded_instance_types=list(asked.excluded_types) or None,
        max_spot_price_as_percentage_of_optimal_on_demand_price=asked.spot_price_percent,
        instance_generations=["current"],
        burstable_performance="excluded",
        bare_metal="excluded",
    )


def _mib(gib: Range) -> int | None:
    return None if gib.max is None else gib.max * _MIB_PER_GIB
