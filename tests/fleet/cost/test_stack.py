"""From settings to materials: counts are those of what the program registers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleet.cost import PriceUnknown, bundled_table, make_bill
from fleet.cost.stack import FUNCTION_GIB, LOOKS_AN_HOUR, materials_of, region_of
from fleet.stack.settings import Settings, load_settings
from fleet.stack.settings_network import INTERFACE_ENDPOINTS
from tests.fleet.stack.conftest import PROJECT, STACKS, parsed


def counts(settings: Settings) -> dict[str, float]:
    found: dict[str, float] = {}
    for fixed in materials_of(settings).fixed:
        found[fixed.item] = found.get(fixed.item, 0) + fixed.count
    return found


@pytest.mark.parametrize("stack", STACKS)
def test_what_is_priced_is_what_is_made(recorded: dict[str, Any], stack: str) -> None:
    """NAT gateways, addresses, balancers, alarms by their metrics, dashboards, keys, endpoints, firewalls."""
    made = parsed(recorded, stack).resources
    priced = counts(load_settings(PROJECT, stack))

    def of(kind: str) -> list[Any]:
        return [r for r in made if r.type == f"aws:{kind}"]

    public = sum(
        len(r.inputs["subnets"]) for r in of("lb/loadBalancer:LoadBalancer") if not r.inputs["internal"]
    )
    metrics = [r.inputs.get("metricQueries") for r in of("cloudwatch/metricAlarm:MetricAlarm")]
    doors = [r for r in of("ec2/vpcEndpoint:VpcEndpoint") if r.inputs["vpcEndpointType"] == "Interface"]
    expected = {
        "natGateway": len(of("ec2/natGateway:NatGateway")),
        "publicIpv4": len(of("ec2/eip:Eip")) + public,
        "loadBalancer": len(of("lb/loadBalancer:LoadBalancer")),
        "alarm": sum(1 if queries is None else len(queries) - 1 for queries in metrics),
        "compositeAlarm": len(of("cloudwatch/compositeAlarm:CompositeAlarm")),
        "dashboard": len(of("cloudwatch/dashboard:Dashboard")),
        "kmsKey": len(of("kms/key:Key")),
        "interfaceEndpoint": sum(len(r.inputs["subnetIds"]) for r in doors),
        "webAcl": len(of("wafv2/webAcl:WebAcl")),
        "webAclRule": sum(len(r.inputs["rules"]) for r in of("wafv2/webAcl:WebAcl")),
    }
    assert {item: priced.get(item, 0) for item in expected} == expected


def test_the_control_function_is_priced_as_it_is_made(recorded: dict[str, Any]) -> None:
    """By its memory on its processor, for a look as often as its schedule has it."""
    made = parsed(recorded, "prod")
    function = made.one("lambda/function:Function", "control").inputs
    rule = made.one("cloudwatch/eventRule:EventRule", "control-fallback-minute").inputs
    assert (function["memorySize"], function["architectures"]) == (1024 * FUNCTION_GIB, ["arm64"])
    assert rule["scheduleExpression"] == f"rate({60 // LOOKS_AN_HOUR} minute)"
    settings, table = load_settings(PROJECT, "prod"), bundled_table()
    found = counts(settings)
    looks = found["lambdaRequests"] * 1e6
    assert looks == pytest.approx(LOOKS_AN_HOUR)
    assert 0.1 <= found["lambdaCompute"] / FUNCTION_GIB / looks <= 1
    lines = make_bill(materials_of(settings), table).case("min").by("what")
    monthly = 730 * lines["control function, GB-seconds"]
    assert monthly == pytest.approx(730 * 60 * 0.5 * 0.0000133334)


def test_a_warm_pools_launches_are_noticed_and_alarmed(recorded: dict[str, Any]) -> None:
    """By one rule more, and one metric more that an alarm looks at."""
    made = parsed({"rehearsal": recorded["warm pool"]}, "rehearsal")
    tiers = tiers_of("rehearsal")
    tiers[1] |= {"purchase": {"instanceTypes": ["c7i.xlarge"], "onDemandBase": 1, "onDemandPercent": 100}}
    alarms = made.of("cloudwatch/metricAlarm:MetricAlarm")
    looked_at = sum(len(r.inputs.get("metricQueries", "xx")) - 1 for r in alarms)
    assert (
        counts(changed("rehearsal", tiers=[tiers[0], tiers[1] | {"warmPool": {"min": 1}}]))["alarm"]
        == looked_at
    )


@pytest.mark.parametrize("stack", STACKS)
def test_volumes_are_the_templates_own(recorded: dict[str, Any], stack: str) -> None:
    """Size, throughput and operations, as far as no image asks for more."""
    materials = {tier.name: tier for tier in materials_of(load_settings(PROJECT, stack)).tiers}
    for name, tier in materials.items():
        template = parsed(recorded, stack).one("ec2/launchTemplate:LaunchTemplate", name).inputs
        [mapping] = template["blockDeviceMappings"]
        [volume] = tier.volumes
        made = mapping["ebs"]
        assert (made["volumeSize"], made["throughput"], made["iops"]) == (
            volume.gib,
            volume.mibps,
            volume.iops,
        )
        assert template["monitoring"]["enabled"] is tier.detailed_monitoring


def changed(stack: str, **keys: Any) -> Settings:
    overrides = {f"goldenfleet:{key}": json.dumps(value) for key, value in keys.items()}
    return load_settings(PROJECT, stack, overrides)


def tiers_of(stack: str) -> list[dict[str, Any]]:
    settings = load_settings(PROJECT, stack)
    return [tier.model_dump(mode="json", by_alias=True, exclude_none=True) for tier in settings.tiers]


def test_an_existing_network_is_its_owners_bill() -> None:
    """Its NAT gateways and endpoints are there anyhow; the balancer's addresses are the stack's."""
    ids = {
        "vpcId": "vpc-0123456789abcdef0",
        "publicSubnetIds": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
        "privateSubnetIds": ["subnet-0123456789abcdef2", "subnet-0123456789abcdef3"],
    }
    found = counts(changed("dev", network={"existing": ids}))
    assert found["publicIpv4"] == 2
    assert not {"natGateway", "interfaceEndpoint"} & set(found)


def test_endpoints_are_priced_by_zone() -> None:
    """Each is a network interface in each zone."""
    found = counts(changed("dev", network={"zones": 2, "nat": "none", "endpoints": True}))
    assert found["interfaceEndpoint"] == 2 * INTERFACE_ENDPOINTS
    assert found["publicIpv4"] == 2


def test_weights_reach_the_bill() -> None:
    """A node of weight 2 is two units."""
    tiers = tiers_of("dev")
    kinds = tiers[1]["purchase"]["instanceTypes"]
    tiers[1]["purchase"]["weights"] = dict.fromkeys(kinds, 2)
    [_, model] = materials_of(changed("dev", tiers=tiers)).tiers
    assert {model.weight(kind) for kind in kinds} == {2}


def by_requirements(**asked: Any) -> list[dict[str, Any]]:
    tiers = tiers_of("rehearsal")
    del tiers[1]["purchase"]["instanceTypes"]
    tiers[1]["purchase"]["requirements"] = {"vcpus": {"min": 4}, "memoryGib": {"min": 8}, **asked}
    return tiers


def test_requirements_that_nothing_meets_have_no_price() -> None:
    """It says which, and what to do."""
    tiers = by_requirements(vcpus={"min": 1000})
    with pytest.raises(
        PriceUnknown, match=r"no type of the table meets goldenfleet:tiers.model.purchase.req"
    ):
        materials_of(changed("rehearsal", tiers=tiers))


def test_a_tier_by_requirements_is_priced_by_what_fits() -> None:
    """From the cheapest type to the dearest; on demand is the cheapest, at worst one that AWS still takes."""
    gpus = {"gpus": {"min": 1, "max": 1}, "gpuMemoryGib": {"min": 20, "max": 24}, "excludedTypes": ["gr6*"]}
    stack = changed("rehearsal", tiers=by_requirements(vcpus={"min": 4, "max": 16}, **gpus))
    table = bundled_table()
    bill = make_bill(materials_of(stack), table)
    fitting = bill.fitting["model"]
    assert (fitting.types, fitting.cheapest, fitting.dearest) == (3, "g6.xlarge", "g6.4xlarge")
    assert set(bill.fitting) == {"model"}
    [on_demand] = [
        line for line in bill.case("desired").lines if (line.tier, line.option) == ("model", "on-demand")
    ]
    assert on_demand.usd_per_hour == table.on_demand_price("g6.xlarge")
    worst = [line for line in bill.case("worst").lines if (line.tier, line.option) == ("model", "on-demand")]
    assert worst[0].usd_per_hour == 6 * table.on_demand_price("g6.xlarge")
    assert any("3 types of the table fit (x86_64), from g6.xlarge at $0.8048" in note for note in bill.notes)


def test_a_rate_of_initialization_is_charged() -> None:
    """Where the stack asks for one itself."""
    tiers = tiers_of("dev")
    tiers[1]["volumes"]["initializationMibps"] = 200
    [_, model] = materials_of(changed("dev", tiers=tiers)).tiers
    assert [volume.initialization_mibps for volume in model.volumes] == [200]


def test_mail_needs_a_key() -> None:
    """Alarms by mail go through a topic with a key of its own."""
    assert counts(changed("dev", alarms={"email": "a@example.com"}))["kmsKey"] == 1
    assert "kmsKey" not in counts(load_settings(PROJECT, "dev"))


def test_the_region_is_the_stacks_or_the_options() -> None:
    """As Pulumi reads it."""
    assert region_of(PROJECT, "prod", {}) == "us-east-1"
    assert region_of(PROJECT, "prod", {"aws:region": "eu-west-1"}) == "eu-west-1"
