from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, get_args

import pytest

from fleet.errors import SettingsError
from fleet.stack.settings import Edge, GatewayTier, ModelTier, Network, Settings, load_settings
from server.settings import Settings as ServerSettings

PROJECT = Path(__file__).parents[3]

GOOD: dict[str, Any] = {
    "goldenfleet:network": {"cidr": "10.0.0.0/16", "zones": 3, "nat": "single"},
    "goldenfleet:edge": {},
    "goldenfleet:tiers": [
        {
            "name": "gateway",
            "role": "gateway",
            "recipe": "gateway",
            "channel": "dev",
            "capacity": {"min": 1, "desired": 2, "max": 4},
            "purchase": {"instanceTypes": ["c7i.large", "c6i.large", "m7i.large"], "onDemandBase": 1},
            "scaling": {},
            "volumes": {},
            "drain": {},
            "boot": {},
        },
        {
            "name": "model",
            "role": "model",
            "recipe": "llama",
            "channel": "dev",
            "engine": "vllm",
            "capacity": {"min": 1, "desired": 2, "max": 4},
            "purchase": {"instanceTypes": ["g6.xlarge", "g5.xlarge", "g6e.xlarge"], "onDemandBase": 1},
            "scaling": {},
            "volumes": {},
            "drain": {},
            "boot": {},
        },
    ],
}
CERTIFICATE = {
    "certificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/abc",
    "domain": "llm.example.com",
}

FITTING = {"vcpus": {"min": 4}, "memoryGib": {"min": 16}, "gpus": {"min": 1, "max": 1}}

REMOVED = object()


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with the setting at `path` (dots between levels) set to `value`, or taken out."""
    config = copy.deepcopy(GOOD)
    *parents, last = f"goldenfleet:{path}".split(".")
    level: Any = config
    for parent in parents:
        level = (
            next(tier for tier in level if tier["name"] == parent)
            if isinstance(level, list)
            else level[parent]
        )
    if value is REMOVED:
        del level[last]
    else:
        level[last] = value
    return config


def refusal(config: dict[str, Any], stack: str = "dev") -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.from_config(stack, config)
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("colour", "red", "goldenfleet:colour: there is no such setting"),
        ("network.nats", 1, "goldenfleet:network.nats: there is no such setting"),
        ("edge.ports", [80], "goldenfleet:edge.ports: there is no such setting"),
        ("tiers.model.spotPrice", 1, "goldenfleet:tiers.model.spotPrice: there is no such setting"),
        (
            "tiers.model.instance_types",
            [],
            "goldenfleet:tiers.model.instance_types: there is no such setting",
        ),
        ("tiers.gateway.engine", "vllm", "goldenfleet:tiers.gateway.engine: there is no such setting"),
        (
            "tiers.model.scaling.requestsPerTarget",
            9,
            "goldenfleet:tiers.model.scaling.requestsPerTarget: there is no such",
        ),
        ("stack", "dev", "goldenfleet:stack cannot be set"),
    ],
)
def test_unknown_settings_are_refused_at_every_level(path: str, value: Any, says: str) -> None:
    """A key that no setting has is named with its whole path."""
    assert says in refusal(changed(path, value))


@pytest.mark.parametrize(
    "path",
    [
        "tiers",
        "tiers.gateway.purchase",
        "tiers.gateway.capacity",
        "tiers.model.recipe",
        "tiers.model.engine",
        "tiers.gateway.purchase.onDemandBase",
    ],
)
def test_missing_settings_are_named(path: str) -> None:
    """What has no default must be there."""
    assert f"goldenfleet:{path}: is missing" in refusal(changed(path, REMOVED))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("tiers.model.capacity.min", 3, "desired 2 is below min 3: raise desired to 3 or lower min to 2"),
        ("tiers.model.capacity.desired", 9, "desired 9 is above max 4: lower desired to 4 or raise max to 9"),
        ("tiers.gateway.capacity.min", 5, "min 5 is above max 4: lower min to 4 or raise max to 5"),
        (
            "tiers.model.purchase.onDemandBase",
            5,
            "onDemandBase 5 is above capacity.max 4: lower onDemandBase to 4 or raise max to 5",
        ),
        ("tiers.model.purchase.onDemandBase", -1, "greater than or equal to 0, not -1"),
        ("tiers.model.purchase.onDemandPercent", 101, "less than or equal to 100, not 101"),
        ("tiers.model.purchase.onDemandPercent", -1, "greater than or equal to 0, not -1"),
        ("tiers.model.capacity.max", 0, "greater than or equal to 1, not 0"),
        ("tiers.model.drain.deregistrationDelaySeconds", 91, "less than or equal to 90, not 91"),
        ("tiers.model.purchase.instanceTypes", [], "at least 1 item"),
        ("tiers.model.purchase.instanceTypes", ["g6"], "not 'g6'"),
        (
            "tiers.model.purchase.instanceTypes",
            ["g6.xlarge"] * 2,
            "instanceTypes names g6.xlarge more than once",
        ),
        ("tiers.model.purchase.instanceTypes", [f"g6.{n}xlarge" for n in range(41)], "at most 40 items"),
        (
            "tiers.model.purchase.instanceTypes",
            ["g6.xlarge", "c7i.large"],
            "engine vllm needs GPUs, and purchase.instanceTypes has c7i",
        ),
        (
            "tiers.gateway.purchase.instanceTypes",
            ["c7i.large", "c7g.large"],
            "c7i.large is x86_64, c7g.large is arm64",
        ),
        ("tiers.model.engine", "ollama", "not 'ollama'"),
        ("tiers.model.channel", "beta", "not 'beta'"),
        ("tiers.model.recipe", "../up", "not '../up'"),
        ("tiers.model.volumes.rootGib", 1, "greater than or equal to 8, not 1"),
        ("tiers.gateway.scaling.requestsPerTarget", 0, "greater than or equal to 1, not 0"),
        ("network.zones", 1, "greater than or equal to 2, not 1"),
        ("network.zones", 7, "less than or equal to 6, not 7"),
        ("network.cidr", "10.0.0.0/20", "cidr 10.0.0.0/20 must be from /16"),
        ("network.cidr", "10.0.0.0/8", "cidr 10.0.0.0/8 must be from /16"),
        ("network.cidr", "10.0.0.1/16", "not '10.0.0.1/16'"),
        (
            "network.nat",
            "none",
            "nat is none and endpoints is false, so no node could reach AWS: set endpoints",
        ),
        ("network.nat", "off", "not 'off'"),
        ("edge.idleTimeoutSeconds", 20, "greater than or equal to 30, not 20"),
        ("edge.allowedCidrs", [], "at least 1 item"),
        ("edge.certificateArn", "arn:aws:iam::1:x", "not 'arn:aws:iam::1:x'"),
        ("edge.certificateArn", CERTIFICATE["certificateArn"], "domain is missing"),
        ("edge.domain", "llm.example.com", "certificateArn is missing"),
        ("logRetentionDays", 8, "not 8"),
    ],
)
def test_impossible_settings_are_refused(path: str, value: Any, says: str) -> None:
    """The message names the setting, or its tier and in it the numbers to change."""
    message = refusal(changed(path, value))
    assert says in message
    group, _, leaf = f"goldenfleet:{path}".rpartition(".")
    above, _, _ = group.rpartition(".")
    named = any(f"  {setting}: " in message for setting in (group, above))
    assert f"  goldenfleet:{path}" in message or (named and leaf in message)


def tiers(*changes: dict[str, Any]) -> dict[str, Any]:
    """GOOD with these tiers, each the good model tier but for its changes."""
    model = GOOD["goldenfleet:tiers"][1]
    return {**GOOD, "goldenfleet:tiers": [{**model, **change} for change in changes]}


def test_a_stack_has_any_number_of_model_tiers() -> None:
    """Each with its own recipe, found by its name."""
    config = tiers({"name": "small"}, {"name": "large", "recipe": "mixtral"}, {"name": "model"})
    config["goldenfleet:tiers"].append(GOOD["goldenfleet:tiers"][0])
    settings = Settings.from_config("dev", config)
    assert [tier.name for tier in settings.models] == ["small", "large", "model"]
    assert (settings.tier("large").recipe, settings.gateway.name) == ("mixtral", "gateway")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (tiers({"name": "a"}), "tiers has 0 tiers with role gateway: it must have exactly 1"),
        ({**GOOD, "goldenfleet:tiers": []}, "tiers has 0 tiers with role gateway: it must have exactly 1"),
        ({**GOOD, "goldenfleet:tiers": GOOD["goldenfleet:tiers"][:1]}, "tiers has no tier with role model"),
        (
            {**GOOD, "goldenfleet:tiers": [*GOOD["goldenfleet:tiers"], GOOD["goldenfleet:tiers"][0]]},
            "tiers has 2 tiers with role gateway: it must have exactly 1",
        ),
        (tiers({"name": "m"}, {"name": "m"}), "tiers has 2 tiers with the name m: give each its own"),
        (tiers({"name": "control"}), "name 'control' is kept for the stack's own control: choose another"),
        (tiers({"name": "network-x"}), "goldenfleet:tiers.network-x: name 'network-x' is kept"),
        (tiers({"name": "Model"}), "goldenfleet:tiers.Model.name: String should match pattern"),
        (
            tiers({"name": "a" * 20}),
            "name has 20 characters, and stack dev leaves 17: shorten one of the two",
        ),
        (
            tiers(*({"name": f"m{n}"} for n in range(25))),
            "tiers has 25 tiers, and gateways can be told of 24: remove 1, or make another stack",
        ),
        (tiers({"role": "engine"}), "tiers.model: role must be gateway or model, not 'engine'"),
        (
            {**GOOD, "goldenfleet:tiers": [{"name": "a"}]},
            "tiers.a: role is missing: set it to gateway or model",
        ),
        ({**GOOD, "goldenfleet:tiers": [{"role": "model"}]}, "goldenfleet:tiers.0.name: is missing"),
        ({**GOOD, "goldenfleet:tiers": ["model"]}, "goldenfleet:tiers.0: "),
        ({**GOOD, "goldenfleet:tiers": 3}, "goldenfleet:tiers: Input should be a valid tuple, not 3"),
    ],
)
def test_tiers_that_make_no_fleet_are_refused(config: dict[str, Any], says: str) -> None:
    """One tier of gateways, at least one that generates, and names that tell them apart."""
    assert says in refusal(config)


def test_the_older_form_is_refused_in_a_line_that_says_how_to_rewrite_it() -> None:
    """Tiers were a mapping from two names."""
    message = refusal({**GOOD, "goldenfleet:tiers": {"gateway": {}, "model": {}}})
    assert message.count("\n") <= 1
    assert "goldenfleet:tiers is a mapping, and is a list now" in message
    assert "`- name: NAME`" in message
    assert "`role: gateway`" in message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "purchase: instanceTypes is missing: list the types, or write requirements"),
        ({"instanceTypes": ["g6.xlarge"], "requirements": {}}, "purchase.requirements.vcpus: is missing"),
        (
            {"instanceTypes": ["g6.xlarge"], "requirements": FITTING},
            "purchase: instanceTypes and requirements exclude each other: remove one of the two",
        ),
        (
            {"instanceTypes": ["g6.xlarge", "g5.xlarge"], "weights": {"g6.xlarge": 1}},
            "purchase: weights lacks g5.xlarge: give every type a weight or none",
        ),
        (
            {"instanceTypes": ["g6.xlarge"], "weights": {"g6.xlarge": 1, "g5.xlarge": 1}},
            "purchase: weights has g5.xlarge, and instanceTypes does not: remove it or add the type",
        ),
        ({"instanceTypes": ["g6.xlarge"], "weights": {"g6.xlarge": 0}}, "greater than or equal to 1, not 0"),
        (
            {"instanceTypes": ["g6.xlarge"], "weights": {"g6.xlarge": 9}},
            "raise max to 9 or lower the weight to 4",
        ),
        (
            {"requirements": FITTING, "weights": {"g6.xlarge": 1}},
            "weights are for instanceTypes, and there are",
        ),
        (
            {"requirements": {**FITTING, "vcpus": {"min": 8, "max": 4}}},
            "requirements.vcpus: min 8 is above max 4: lower min to 4 or raise max to 8",
        ),
        (
            {"requirements": {**FITTING, "gpus": {"min": 0, "max": 0}, "gpuMemoryGib": {"min": 24}}},
            "requirements: gpuMemoryGib is set and gpus.max is 0: raise gpus.max or remove gpuMemoryGib",
        ),
        (
            {"requirements": {"vcpus": {"min": 4}, "memoryGib": {"min": 16}}},
            "engine vllm needs GPUs, and purchase.requirements has gpus.min 0 without: raise gpus.min to 1",
        ),
    ],
)
def test_purchases_that_aws_refuses_are_refused(change: dict[str, Any], says: str) -> None:
    """Types or requirements, and weights for all types or none."""
    assert says in refusal(changed("tiers.model.purchase", {"onDemandBase": 1, **change}))


@pytest.mark.parametrize(
    ("purchase", "pool", "says"),
    [
        (
            {},
            {},
            "warmPool is set, and purchase.onDemandPercent is 0: AWS documents warm pools for on-demand",
        ),
        ({"onDemandPercent": 99}, {}, "raise onDemandPercent to 100 or remove warmPool"),
        (
            {"onDemandPercent": 100},
            {"min": 2, "maxPrepared": 2},
            "warmPool.maxPrepared 2 is below capacity.min 1 and warmPool.min 2 together: raise",
        ),
        ({"onDemandPercent": 100}, {"state": "hibernated"}, "not 'hibernated'"),
    ],
)
def test_warm_pools_that_aws_refuses_are_refused(
    purchase: dict[str, Any], pool: dict[str, Any], says: str
) -> None:
    """Spot nodes cannot wait."""
    config = changed("tiers.model.warmPool", pool)
    config["goldenfleet:tiers"][1]["purchase"] |= purchase
    assert says in refusal(config)
    good = changed("tiers.model.warmPool", {"min": 1})
    good["goldenfleet:tiers"][1]["purchase"] |= {"onDemandPercent": 100}
    assert Settings.from_config("dev", good).tier("model").warm_pool


def test_weights_count_against_addresses_as_nodes() -> None:
    """A tier of units has at most as many nodes as units of its smallest type."""
    config = changed("tiers.model.purchase.weights", {"g6.xlarge": 3, "g5.xlarge": 2, "g6e.xlarge": 4})
    assert Settings.from_config("dev", config).most_nodes == 4 + 2


def test_a_drain_is_not_cut_by_its_hook() -> None:
    """Requests may go on after deregistration for no longer than the node does."""
    config = changed("tiers.model.drain", {"deregistrationDelaySeconds": 90, "hookSeconds": 60})
    assert "lower the delay to 60 or raise hookSeconds to 90" in refusal(config)


def test_only_the_embedded_engine_takes_another_name() -> None:
    """The others' names are in their images."""
    config = changed("tiers.model.model", "llama-3")
    assert "tiers.model: model is set, and engine vllm serves under the name" in refusal(config)
    config["goldenfleet:tiers"][1]["engine"] = "embedded"
    assert Settings.from_config("dev", config).models[0].model == "llama-3"


EXISTING = {
    "vpcId": "vpc-0a1b2c3d",
    "publicSubnetIds": ["subnet-00000001", "subnet-00000002"],
    "privateSubnetIds": ["subnet-00000003", "subnet-00000004"],
}


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (
            {"existing": EXISTING, "zones": 3},
            "network: existing is set, and so is zones, which is that network's",
        ),
        ({"existing": {**EXISTING, "vpcId": "vpc"}}, "network.existing.vpcId: String should match"),
        ({"existing": {**EXISTING, "privateSubnetIds": ["subnet-00000003"]}}, "at least 2 items"),
        (
            {"existing": {**EXISTING, "privateSubnetIds": EXISTING["publicSubnetIds"]}},
            "name subnet-00000001, subnet-00000002 more than once: a subnet is public or private",
        ),
    ],
)
def test_networks_that_exist_are_named_in_full(network: dict[str, Any], says: str) -> None:
    """What is theirs cannot be set, and a subnet is of one kind."""
    assert says in refusal({**GOOD, "goldenfleet:network": network})
    assert Settings.from_config("dev", {**GOOD, "goldenfleet:network": {"existing": EXISTING}})


@pytest.mark.parametrize(
    ("group", "given", "says"),
    [
        ("telemetry", {"tracesHeaders": "ssm:/a"}, "tracesHeaders is set and tracesUrl is not"),
        ("telemetry", {"tracesUrl": "https://a.example:4318"}, "tracesUrl names port 4318"),
        ("telemetry", {"tracesUrl": "https://a.example:99999"}, "tracesUrl has a port that is none"),
        ("telemetry", {"tracesUrl": "http://a.example"}, "tracesUrl"),
        ("access", {"limitsUrl": "ssm:/redis"}, "limitsSecurityGroup is missing"),
        ("access", {"limitsSecurityGroup": "sg-0123abcd"}, "limitsUrl is not: set limitsUrl or remove"),
        (
            "access",
            {"jwksUrl": "https://id.example:8443/k", "issuer": "i", "audience": "a"},
            "jwksUrl names port 8443",
        ),
        ("security", {"permissionsBoundary": "bounded"}, "permissionsBoundary"),
    ],
)
def test_what_nodes_could_not_reach_is_refused(group: str, given: dict[str, Any], says: str) -> None:
    """Ways out are HTTPS on its port, and what a security group names; a secret for nothing is a mistake."""
    assert says in refusal({**GOOD, f"goldenfleet:{group}": given})


def test_traces_need_a_way_out() -> None:
    """A VPC without one has doors to AWS only."""
    closed = {
        **GOOD,
        "goldenfleet:network": {"nat": "none", "endpoints": True},
        "goldenfleet:telemetry": {"tracesUrl": "https://traces.example.com"},
    }
    assert "goldenfleet:telemetry.tracesUrl is set, and goldenfleet:network.nat is none" in refusal(closed)


def test_tokens_need_a_way_out() -> None:
    """The issuer's keys are fetched by gateways."""
    config = {
        **GOOD,
        "goldenfleet:network": {"nat": "none", "endpoints": True},
        "goldenfleet:access": {"jwksUrl": "https://id.example.com/keys", "issuer": "i", "audience": "a"},
    }
    assert "goldenfleet:access.jwksUrl is set, and goldenfleet:network.nat is none" in refusal(config)


def test_every_wrong_setting_is_listed_at_once() -> None:
    """Two mistakes need one run to be found."""
    config = changed("tiers.model.purchase.onDemandPercent", 101)
    config["goldenfleet:network"]["zones"] = 1
    message = refusal(config)
    assert "goldenfleet:tiers.model.purchase.onDemandPercent" in message
    assert "goldenfleet:network.zones" in message


@pytest.mark.parametrize(
    ("stack", "says"),
    [
        ("rehearsal-of-it", "has 15 characters, 2 more than the 13 that fit"),
        ("Dev", "lower-case letters"),
        ("1st", "begin with a letter"),
        ("dev-", "lower-case letters"),
        ("a--b", "single hyphens"),
        ("", "begin with a letter"),
    ],
)
def test_stack_names_that_no_load_balancer_can_have_are_refused(stack: str, says: str) -> None:
    """The limit is told, and by how much a name exceeds it."""
    assert says in refusal(GOOD, stack)
    with pytest.raises(SettingsError, match=says):
        load_settings(PROJECT, stack)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("edge", {}, "goldenfleet:edge.certificateArn is missing: production serves HTTPS only"),
        (
            "tiers.gateway.purchase.onDemandBase",
            0,
            "goldenfleet:tiers.gateway.purchase.onDemandBase is 0: raise it to 1",
        ),
        (
            "tiers.model.purchase.onDemandBase",
            0,
            "goldenfleet:tiers.model.purchase.onDemandBase is 0: raise it to 1",
        ),
        ("tiers.model.capacity.min", 1, "goldenfleet:tiers.model.capacity.min is 1: raise it to 2"),
        ("network.nat", "single", "goldenfleet:network.nat is single: set it to per-zone"),
        ("access", {"open": True}, "goldenfleet:access.open is true: remove it"),
    ],
)
def test_production_asks_for_more(path: str, value: Any, says: str) -> None:
    """HTTPS, and a node in each tier that spot cannot take; elsewhere neither is asked."""
    config = {"goldenfleet:edge": CERTIFICATE, **changed(path, value), "goldenfleet:production": True}
    if path != "edge":
        config["goldenfleet:edge"] = CERTIFICATE
    assert says in refusal(config)
    assert Settings.from_config("dev", {**config, "goldenfleet:production": False})


def test_nodes_must_fit_into_one_zone() -> None:
    """The sum of the tiers' max is held against a zone's subnet, with how many are too many."""
    config = changed("network.cidr", "10.0.0.0/19")
    config["goldenfleet:tiers"][1]["capacity"]["max"] = 600
    assert "add up to 604 nodes" in refusal(config)
    assert "holds 507: lower max by 97" in refusal(config)


def test_configuration_reads_the_same_as_json_text() -> None:
    """A running program gets structured values as JSON text and passes other namespaces over."""
    text = {key: json.dumps(value) for key, value in GOOD.items()} | {"aws:region": "us-east-1"}
    assert Settings.from_config("dev", text) == Settings.from_config("dev", GOOD)


@pytest.mark.parametrize("stack", ["rehearsal", "dev", "stage", "prod"])
def test_every_stack_of_the_project_loads(stack: str) -> None:
    """The files in the repository are good, diverse and mostly spot."""
    settings = load_settings(PROJECT, stack)
    assert settings.production is (stack == "prod")
    assert [tier.role for tier in settings.tiers] == ["gateway", "model"]
    for tier in settings.tiers:
        assert len(tier.purchase.instance_types) >= 3
        assert tier.purchase.on_demand_percent < 50


def test_rehearsal_keeps_one_node_a_tier_on_demand() -> None:
    """Two gateways and three model nodes, one on demand each, and the rest spot."""
    tiers = load_settings(PROJECT, "rehearsal").tiers
    assert [tier.capacity.desired for tier in tiers] == [2, 3]
    for tier in tiers:
        assert (tier.purchase.on_demand_base, tier.purchase.on_demand_percent) == (1, 0)
        assert tier.capacity.min == 1
        assert tier.capacity.desired + 2 <= tier.capacity.max <= tier.capacity.desired + 3


def test_overrides_replace_whole_keys() -> None:
    """What the command line sets wins over the file."""
    settings = load_settings(PROJECT, "rehearsal", {"goldenfleet:network": '{"zones": 2}'})
    assert settings.network.zones == 2
    assert len(settings.network.private_blocks) == 2


@pytest.mark.parametrize(("nodes", "minimum", "maximum"), [(1, 1, 4), (3, 1, 6), (40, 1, 43), (0, 0, 3)])
def test_tiers_start_at_another_size_with_the_same_room(nodes: int, minimum: int, maximum: int) -> None:
    """The override keeps every other setting, and the distance from desired to max."""
    before = load_settings(PROJECT, "rehearsal")
    after = load_settings(PROJECT, "rehearsal", before.with_desired({"model": nodes}))
    model, size = after.tier("model"), after.tier("model").capacity
    assert (size.min, size.desired, size.max) == (minimum, nodes, maximum)
    assert after.gateway == before.gateway
    assert model.model_copy(update={"capacity": before.tier("model").capacity}) == before.tier("model")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("config: [", "cannot be read"),
        ("- a", "has no `config:`"),
        ("config:", "has no `config:`"),
        ("", "has no"),
    ],
)
def test_files_that_are_no_stack_are_refused(tmp_path: Path, text: str, says: str) -> None:
    """The file is named, and what is wrong with it."""
    path = tmp_path / "Pulumi.dev.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=says) as caught:
        load_settings(tmp_path, "dev")
    assert str(path) in str(caught.value)


def test_a_stack_without_a_file_is_refused(tmp_path: Path) -> None:
    """The missing file is named."""
    with pytest.raises(SettingsError, match=r"there is no .*Pulumi\.dev\.yaml"):
        load_settings(tmp_path, "dev")


def test_engines_are_those_that_servers_know() -> None:
    """Both sides of the tier's config list the same."""
    asked = get_args(ModelTier.model_fields["engine"].annotation)
    assert set(asked) == set(get_args(ServerSettings.model_fields["engine"].annotation))


def test_every_setting_is_described() -> None:
    """A person can learn from the model what each setting does."""
    for model in (Settings, Network, Edge, GatewayTier, ModelTier):
        for name, field in model.model_fields.items():
            assert (field.description or "").endswith("."), f"{model.__name__}.{name}"


def test_settings_do_not_change() -> None:
    """They are frozen: what was checked is what runs."""
    settings = Settings.from_config("dev", GOOD)
    with pytest.raises(ValueError, match="frozen"):
        settings.tier("model").capacity.max = 99  # type: ignore[misc]
