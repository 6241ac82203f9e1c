"""Settings of tiers: which, of what, how large, and how a node leaves."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from fleet.stack.settings import ModelTier, Settings, load_settings
from server.settings import Settings as ServerSettings
from tests.fleet.stack.conftest import PROJECT
from tests.fleet.stack.given import FITTING, GOOD, changed, refusal, tiers


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
        (tiers({"name": "Model"}), "goldenfleet:tiers.Model.name: must be of small letters"),
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
        ({**GOOD, "goldenfleet:tiers": 3}, "goldenfleet:tiers: must be a list, not 3"),
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
        ({"instanceTypes": ["g6.xlarge"], "weights": {"g6.xlarge": 0}}, "at least 1, not 0"),
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


@pytest.mark.parametrize(("nodes", "minimum", "maximum"), [(1, 1, 4), (3, 1, 6), (40, 1, 43), (0, 0, 3)])
def test_tiers_start_at_another_size_with_the_same_room(nodes: int, minimum: int, maximum: int) -> None:
    """The override keeps every other setting, and the distance from desired to max."""
    before = load_settings(PROJECT, "rehearsal")
    after = load_settings(PROJECT, "rehearsal", before.with_desired({"model": nodes}))
    model, size = after.tier("model"), after.tier("model").capacity
    assert (size.min, size.desired, size.max) == (minimum, nodes, maximum)
    assert after.gateway == before.gateway
    assert model.model_copy(update={"capacity": before.tier("model").capacity}) == before.tier("model")


def test_rehearsal_keeps_one_node_a_tier_on_demand() -> None:
    """Two gateways and three model nodes, one on demand each, and the rest spot."""
    tiers = load_settings(PROJECT, "rehearsal").tiers
    assert [tier.capacity.desired for tier in tiers] == [2, 3]
    for tier in tiers:
        assert (tier.purchase.on_demand_base, tier.purchase.on_demand_percent) == (1, 0)
        assert tier.capacity.min == 1
        assert tier.capacity.desired + 2 <= tier.capacity.max <= tier.capacity.desired + 3


def test_engines_are_those_that_servers_know() -> None:
    """Both sides of the tier's config list the same."""
    asked = get_args(ModelTier.model_fields["engine"].annotation)
    assert set(asked) == set(get_args(ServerSettings.model_fields["engine"].annotation))
