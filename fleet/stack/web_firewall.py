"""A web firewall before the public balancer: one that exists, or AWS's managed rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_aws as aws

from fleet.stack.naming import resource_name

# Prompts are texts about anything, and long: rules that look into bodies only count, and block nobody.
MANAGED: Mapping[str, Sequence[str]] = {
    "AWSManagedRulesAmazonIpReputationList": (),
    "AWSManagedRulesKnownBadInputsRuleSet": (
        "JavaDeserializationRCE_BODY",
        "Log4JRCE_BODY",
        "ReactJSRCE_BODY",
    ),
    "AWSManagedRulesCommonRuleSet": (
        "CrossSiteScripting_BODY",
        "EC2MetaDataSSRF_BODY",
        "GenericLFI_BODY",
        "GenericRFI_BODY",
        "SizeRestrictions_BODY",
        # Programs that use the API often send no User-Agent.
        "NoUserAgent_HEADER",
    ),
}
"""Rule group -> its rules that only count."""


class WebFirewall(pulumi.ComponentResource):
    def __init__(self, stack: str, balancer_arn: pulumi.Input[str], existing_arn: str | None) -> None:
        self._name = resource_name(stack, "web-firewall")
        super().__init__("goldenfleet:stack:WebFirewall", self._name)
        self._child = pulumi.ResourceOptions(parent=self)
        acl_arn = existing_arn if existing_arn is not None else self._managed().arn
        # A balancer has one: ending the old association once the new one is there would end the new one.
        alone = pulumi.ResourceOptions(parent=self, delete_before_replace=True)
        aws.wafv2.WebAclAssociation(self._name, web_acl_arn=acl_arn, resource_arn=balancer_arn, opts=alone)
        self.register_outputs({})

    def _managed(self) -> aws.wafv2.WebAcl:
        return aws.wafv2.WebAcl(
            self._name,
            scope="REGIONAL",
            default_action=aws.wafv2.WebAclDefaultActionArgs(allow=aws.wafv2.WebAclDefaultActionAllowArgs()),
            rules=[_rule(priority, group) for priority, group in enumerate(MANAGED)],
            visibility_config=aws.wafv2.WebAclVisibilityConfigArgs(
                cloudwatch_metrics_enabled=True, metric_name=self._name, sampled_requests_enabled=False
            ),
            opts=self._child,
        )


def _rule(priority: int, group: str) -> aws.wafv2.WebAclRuleArgs:
    managed = aws.wafv2.WebAclRuleStatementManagedRuleGroupStatementArgs(
        vendor_name="AWS",
        name=group,
        rule_action_overrides=[_counting(rule) for rule in MANAGED[group]],
    )
    as_it_says = aws.wafv2.WebAclRuleOverrideActionNoneArgs()  # type: ignore[no-untyped-call]
    return aws.wafv2.WebAclRuleArgs(
        name=group,
        priority=priority,
        override_action=aws.wafv2.WebAclRuleOverrideActionArgs(none=as_it_says),
        statement=aws.wafv2.WebAclRuleStatementArgs(managed_rule_group_statement=managed),
        # Samples hold parts of requests, which are clients' texts.
        visibility_config=aws.wafv2.WebAclRuleVisibilityConfigArgs(
            cloudwatch_metrics_enabled=True, metric_name=group, sampled_requests_enabled=False
        ),
    )


def _counting(rule: str) -> aws.wafv2.WebAclRuleStatementManagedRuleGroupStatementRuleActionOverrideArgs:
    count = aws.wafv2.WebAclRuleStatementManagedRuleGroupStatementRuleActionOverrideActionToUseCountArgs()
    return aws.wafv2.WebAclRuleStatementManagedRuleGroupStatementRuleActionOverrideArgs(
        name=rule,
        action_to_use=aws.wafv2.WebAclRuleStatementManagedRuleGroupStatementRuleActionOverrideActionToUseArgs(
            count=count
        ),
    )
