"""Each rule on what violates it, on what does not, and on what is not known yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from fleet.policy import kinds
from fleet.policy.evaluate import Evaluation, evaluate
from fleet.policy.model import UNKNOWN, Resource, Rule
from fleet.policy.rules import RULES
from tests.fleet.policy.examples import (
    EXAMPLES,
    SAFE,
    allow,
    behind,
    clear_text,
    counted,
    hook,
    made,
    rolled_out,
    rule_of,
    spot,
    tls_only,
    user_data,
)

BY_NAME = {rule.name: rule for rule in RULES}


def judged(rule: Rule, *resources: Resource, production: bool = True) -> Evaluation:
    return evaluate(resources, production=production, rules=[rule])


def test_every_rule_has_examples() -> None:
    """One that violates it and one that does not, and no example is of a rule that is gone."""
    assert set(EXAMPLES) == set(BY_NAME)
    assert len(BY_NAME) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_what_violates_a_rule_is_told(rule: Rule) -> None:
    """Once, with the resource, what is wrong and what to do."""
    (violation,) = judged(rule, *EXAMPLES[rule.name].bad).violations
    assert violation.rule == rule.name
    assert violation.level == rule.level
    assert violation.message.endswith(rule.remedy)
    assert len(violation.message) > len(rule.remedy) + len(". ")
    assert violation.urn.endswith(f"::{violation.name}")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_what_satisfies_a_rule_is_passed(rule: Rule) -> None:
    """The nearest to the violation that is none."""
    evaluation = judged(rule, *EXAMPLES[rule.name].good)
    assert not evaluation.violations
    assert not evaluation.undecided


@pytest.mark.parametrize(
    ("name", "resources"),
    [
        ("rollout-is-safe", [made(kinds.GROUP)]),
        ("rollout-is-safe", rolled_out({"instanceRefresh": {"strategy": "Rolling"}}, **SAFE)),
        ("rollout-is-safe", rolled_out(**{**SAFE, "minHealthyPercentage": 89})),
        ("rollout-is-safe", rolled_out(**{**SAFE, "maxHealthyPercentage": None})),
        ("rollout-is-safe", rolled_out(**{**SAFE, "checkpointPercentages": [20, 50]})),
        ("rollout-watched", [made(kinds.ROLLOUT, preferences={"alarmSpecification": {"alarms": ["lost"]}})]),
        ("terminate-hook", [made(kinds.GROUP, **hook(29))]),
        ("terminate-hook", [made(kinds.GROUP, **hook(121))]),
        ("deregistration-delay", [made(kinds.TARGET_GROUP)]),
        ("deregistration-delay", [made(kinds.TARGET_GROUP, deregistrationDelay=91)]),
        ("instance-warmup", [made(kinds.GROUP, defaultInstanceWarmup=-1)]),
        ("imds-hop-limit", [made(kinds.TEMPLATE)]),
        ("imds-hop-limit", [made(kinds.TEMPLATE, metadataOptions={"httpPutResponseHopLimit": 0})]),
        ("no-public-address", [made(kinds.INSTANCE, associatePublicIpAddress=True)]),
        ("no-public-address", [made(kinds.SUBNET, mapPublicIpOnLaunch=True)]),
        ("no-public-address", [made(kinds.EIP, instance="i-1")]),
        ("volumes-encrypted", [made(kinds.TEMPLATE)]),
        ("volumes-encrypted", [made(kinds.VOLUME)]),
    ],
)
def test_every_other_way_to_violate_a_rule_is_told(name: str, resources: list[Resource]) -> None:
    """A rule of several clauses holds each of them, to its bound."""
    assert len(judged(BY_NAME[name], *resources).violations) == 1


@pytest.mark.parametrize(
    ("name", "resources"),
    [
        ("rollout-is-safe", rolled_out(**{**SAFE, "checkpointPercentages": None})),
        ("rollout-is-safe", rolled_out(**{**SAFE, "minHealthyPercentage": None})),
        ("terminate-hook", [made(kinds.GROUP, **hook(30))]),
        ("terminate-hook", [made(kinds.GROUP, **hook(120))]),
        ("group-scales", [made(kinds.GROUP, minSize=2, maxSize=2)]),
        ("imds-hop-limit", [made(kinds.TEMPLATE, metadataOptions={"httpPutResponseHopLimit": 1})]),
        ("volumes-encrypted", [made(kinds.INSTANCE)]),
        ("request-count-label", [made(kinds.SCALING_POLICY, **counted(predefinedMetricType="ASGAverage"))]),
        ("tracked-metric-falls", [made(kinds.SCALING_POLICY, **counted())]),
        (
            "tracked-metric-falls",
            [
                made(
                    kinds.SCALING_POLICY,
                    targetTrackingConfiguration={"customizedMetricSpecification": {"metrics": [{"id": "m"}]}},
                )
            ],
        ),
    ],
)
def test_every_other_way_to_satisfy_a_rule_is_passed(name: str, resources: list[Resource]) -> None:
    """A rule speaks of nothing that it is not about."""
    evaluation = judged(BY_NAME[name], *resources)
    assert not evaluation.violations
    assert not evaluation.undecided


@pytest.mark.parametrize("rule", [r for r in RULES if r.production], ids=lambda rule: rule.name)
def test_rules_of_production_spare_the_others(rule: Rule) -> None:
    """They are not even counted there."""
    evaluation = judged(rule, *EXAMPLES[rule.name].bad, production=False)
    assert (evaluation.rules, evaluation.violations) == (0, ())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_what_is_not_known_yet_violates_nothing_new(rule: Rule) -> None:
    """A preview that knows no value reports what is missing altogether, and leaves the rest open."""
    for resources in EXAMPLES[rule.name]:
        hidden = [Resource(r.type, r.name, r.urn, dict.fromkeys(r.props, UNKNOWN), r.refs) for r in resources]
        known = judged(rule, *resources)
        assert len(judged(rule, *hidden).violations) <= len(known.violations)


def test_what_rules_say_is_short_and_tells_what_to_do() -> None:
    """One line each, the description a sentence, the remedy an order."""
    for rule in RULES:
        assert rule.description.endswith(".")
        assert rule.remedy.endswith(".")
        assert "\n" not in rule.description + rule.remedy
        assert len(rule.description) <= 110


@pytest.mark.parametrize(
    "world",
    [
        {"ipProtocol": "tcp", "fromPort": 8080, "toPort": 8080, "cidrIpv4": "0.0.0.0/0"},
        {"ipProtocol": "tcp", "fromPort": 443, "toPort": 8443, "cidrIpv6": "::/0"},
        {"ipProtocol": "-1", "cidrIpv4": "0.0.0.0/0"},
        {"ipProtocol": "udp", "fromPort": 443, "toPort": 443, "cidrIpv4": "0.0.0.0/0"},
    ],
)
def test_the_internet_reaches_no_other_port(world: Mapping[str, Any]) -> None:
    """Nor by ranges, other protocols, IPv6, rules inside a group, or the older kind of rule."""
    rule = BY_NAME["no-open-ingress"]
    refs = {"securityGroupId": ["sg"]}
    apart = made(kinds.INGRESS, "rule", refs, **world)
    assert judged(rule, *behind(False, apart)).violations
    blocks = [world[key] for key in ("cidrIpv4", "cidrIpv6") if key in world]
    old = {**world, "protocol": world["ipProtocol"], "cidrBlocks": blocks}
    inside = made(kinds.SECURITY_GROUP, "other", ingress=[old])
    assert judged(rule, inside).violations
    assert judged(rule, made(kinds.OLD_RULE, "old", refs, type="ingress", **old)).violations


def test_some_addresses_are_not_the_internet() -> None:
    """A range of a company's may reach the balancer of its choice."""
    assert not judged(BY_NAME["no-open-ingress"], *behind(True, rule_of(443, "203.0.113.0/24"))).violations


def test_clear_text_is_for_some_addresses_or_for_who_is_sent_to_https() -> None:
    """A redirect tells nothing, and what nobody outside reaches is heard by nobody."""
    rule, (*world, http) = BY_NAME["no-open-clear-text"], clear_text("0.0.0.0/0")
    redirect = [{"type": "redirect", "redirect": {"protocol": "HTTPS"}}]
    for change in ({"defaultActions": redirect}, {"protocol": "HTTPS"}, {"port": 8080}):
        assert not judged(rule, *world, replace(http, props={**http.props, **change})).violations
    internal = [replace(r, props={**r.props, "internal": True}) if r.name == "lb" else r for r in world]
    assert not judged(rule, *internal, http).violations


def test_ssh_is_refused_from_inside_too() -> None:
    """Also where a rule opens every port, or names a security group."""
    for way in ({"ipProtocol": "-1"}, {"ipProtocol": "tcp", "fromPort": 22, "toPort": 22}):
        rule = made(kinds.INGRESS, referencedSecurityGroupId="sg-1", **way)
        assert judged(BY_NAME["no-ssh"], rule).violations


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN RSA PRIVATE KEY-----",
        '{"password": "hunter2"}',
        '{"hf": "hf_abcdefghijklmnopqrstuv"}',
        "TOKEN=abc",
    ],
)
def test_secrets_are_found_in_parameters_and_user_data(text: str) -> None:
    """By their shape or by what they are called, and the message does not repeat them."""
    rule = BY_NAME["no-plain-secret"]
    for resource in (
        made(kinds.PARAMETER, insecureValue=text),
        made(kinds.TEMPLATE, **user_data(f"#!/bin/sh\n{text}\n")),
        made(kinds.FUNCTION, environment={"variables": {"A": text}}),
    ):
        (violation,) = judged(rule, resource).violations
        assert text not in violation.message


@pytest.mark.parametrize(
    "text",
    [
        '{"keys": "ssm:/goldenfleet/prod/keys"}',
        '{"limits_url": "secretsmanager:redis", "tokens": 7}',
        '{"secret": "ssm:/goldenfleet/prod/secret"}',
        '{"jwt_jwks_url": "https://issuer.example.com/jwks"}',
    ],
)
def test_references_are_no_secrets(text: str) -> None:
    """They are what the remedy asks for."""
    assert not judged(BY_NAME["no-plain-secret"], made(kinds.PARAMETER, insecureValue=text)).violations


def test_exclusion_is_no_way_around() -> None:
    """NotAction and NotResource allow whatever AWS adds tomorrow."""
    for key, name in (("NotAction", "actions-named"), ("NotResource", "resources-named")):
        inputs = allow([], "arn:aws:sqs:::q", **{key: ["iam:*"]})
        assert judged(BY_NAME[name], made(kinds.POLICY, **inputs)).violations


def test_a_metric_may_be_published_in_its_namespace_only() -> None:
    """PutMetricData knows no resource."""
    rule = BY_NAME["resources-named"]
    bounded = {"StringEquals": {"cloudwatch:namespace": "Goldenfleet"}}
    free, bound = (
        allow(["cloudwatch:PutMetricData"], "*"),
        allow(["cloudwatch:PutMetricData"], "*", Condition=bounded),
    )
    assert judged(rule, made(kinds.ROLE_POLICY, **free)).violations
    assert not judged(rule, made(kinds.ROLE_POLICY, **bound)).violations


def test_what_is_yet_to_be_made_has_the_tag_that_it_is_made_with() -> None:
    """In the call that makes it; by that tag alone whatever there is could be given to the stack."""
    by_tag = {"aws:RequestTag/goldenfleet:stack": "test"}
    at_launch = {"StringEquals": {**by_tag, "ec2:CreateAction": "RunInstances"}}
    rule = BY_NAME["changes-within-stack"]
    for condition, fails in ((at_launch, False), ({"StringEquals": by_tag}, True)):
        of = made(
            kinds.ROLE_POLICY, **allow(["ec2:CreateTags"], "arn:aws:ec2:::instance/*", Condition=condition)
        )
        assert bool(judged(rule, of).violations) is fails


def test_policies_inside_a_role_count() -> None:
    """Whatever holds a policy document is read."""
    inputs = {"inlinePolicies": [{"name": "all", **allow(["*"], "*")}]}
    assert judged(BY_NAME["actions-named"], made(kinds.ROLE, **inputs)).violations


def test_a_group_on_demand_needs_no_spot_settings() -> None:
    """Rules of spot are about spot."""
    plain = made(kinds.GROUP, launchTemplate={"version": "3"}, vpcZoneIdentifiers=["a"])
    for name in ("spot-allocation", "capacity-rebalance", "spot-types", "spot-zones"):
        assert not judged(BY_NAME[name], plain).violations
        assert BY_NAME[name].applies(plain)


def test_zones_are_counted_before_they_are_known() -> None:
    """Subnets have no ids in the first preview, but there are as many."""
    hidden = made(kinds.GROUP, **spot(vpcZoneIdentifiers=[UNKNOWN, UNKNOWN]))
    assert judged(BY_NAME["spot-zones"], hidden).violations


def test_a_hook_apart_from_its_group_counts() -> None:
    """AWS knows both ways to write one."""
    group = made(kinds.GROUP)
    apart = made(
        kinds.HOOK,
        "hook",
        {"autoscalingGroupName": ["it"]},
        lifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
        heartbeatTimeout=90,
    )
    assert judged(BY_NAME["terminate-hook"], group).violations
    assert not judged(BY_NAME["terminate-hook"], group, apart).violations


def test_an_unknown_document_is_left_open() -> None:
    """It is named as undecided, for `up` to judge."""
    unknown = made(kinds.ROLE_POLICY, policy=UNKNOWN)
    evaluation = judged(BY_NAME["resources-named"], unknown)
    assert (evaluation.violations, evaluation.undecided) == ((), ("resources-named",))


def test_a_policy_of_another_queue_does_not_count() -> None:
    """What a policy is about shows in where its argument comes from."""
    example = tls_only(kinds.QUEUE, kinds.QUEUE_POLICY, "queueUrl")
    other = made(kinds.QUEUE, "other")
    assert [v.name for v in judged(BY_NAME["queues-tls-only"], *example.good, other).violations] == ["other"]


def test_a_type_nobody_has_listed_must_be_tagged() -> None:
    """So that a new kind of resource cannot be forgotten."""
    assert judged(BY_NAME["tagged"], made("aws:new/thing:Thing")).violations
    assert not judged(BY_NAME["tagged"], made("goldenfleet:stack:Tier")).violations
