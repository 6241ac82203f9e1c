"""What a group grows and shrinks by: settings that cannot work are refused, the others become policies."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fleet.errors import ImageMissingError, SettingsError
from fleet.stack.boot_time import parse_boot
from fleet.stack.settings import Settings
from fleet.stack.settings_scaling import ModelScaling
from images.launch import boot_parameter, boot_value
from server import scaling_metric
from server.settings import load_settings as load_server_settings
from tests.fleet.stack.conftest import BOOT_PARAMETER, IMAGE_ID, Registered, file_config, parsed

Shape = Callable[[str], Registered]
POLICY, SCHEDULE = "autoscaling/policy:Policy", "autoscaling/schedule:Schedule"


def refused(model: dict[str, Any] | None = None, gateway: dict[str, Any] | None = None) -> str:
    """What is said of the rehearsal stack with other scaling; its model tier has 1 to 6 nodes."""
    config = file_config("rehearsal")
    tiers = json.loads(config["goldenfleet:tiers"])
    for tier, change in zip(tiers, (gateway, model), strict=True):
        tier.update(change or {})
    with pytest.raises(SettingsError) as caught:
        Settings.from_config("rehearsal", {**config, "goldenfleet:tiers": json.dumps(tiers)})
    return caught.value.message


def schedule(**changes: Any) -> dict[str, Any]:
    whole = {"name": "day", "cron": "0 8 * * *", "desired": 3, **changes}
    return {"scaling": {"schedules": [{k: v for k, v in whole.items() if v is not None}]}}


NOTHING = {"cpuTargetPercent": None, "inFlightPerNode": None}


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (schedule(desired=None), "schedules.0: schedule day changes nothing: set min, desired or max"),
        (schedule(cron="0 8 * *"), "schedules.0.cron: '0 8 * *' has 4 fields"),
        (schedule(cron="0 25 * * *"), "'0 25 * * *' has a bad hour: it is from 0 to 23"),
        (schedule(timeZone="Europe/Zurrich"), "'Europe/Zurrich' is no IANA time zone"),
        (schedule(min=5, max=4), "has min 5 above max 4: lower min to 4 or raise max to 5"),
        (
            schedule(max=7),
            "scaling.schedules day has max 7 above capacity.max 6: lower max to 6, or raise max",
        ),
        (schedule(desired=7), "day has desired 7 above capacity.max 6"),
        (schedule(desired=0), "day has desired 0, and min is 1 then: set desired to 1, or its min to 0"),
        (
            schedule(desired=4, max=3),
            "day has desired 4, and max is 3 then: set desired to 3, or its max to 4",
        ),
        (
            {"capacity": {"min": 3, "desired": 3, "max": 6}, **schedule(desired=None, max=2)},
            "day has max 2 below min 3: raise its max to 3, or lower its min",
        ),
        (
            {"scaling": {"schedules": [{"name": n, "cron": "0 8 * * *", "min": 2} for n in ("one", "two")]}},
            "scaling.schedules one and two have the same cron '0 8 * * *': move one of them by a minute",
        ),
        (
            {"scaling": {"schedules": [{"name": "one", "cron": f"{n} 8 * * *", "min": 2} for n in (1, 2)]}},
            "scaling.schedules has one more than once: give each its own name",
        ),
        (
            {"scaling": NOTHING},
            "capacity.min 1 is below capacity.max 6, and nothing scales the tier: set scaling",
        ),
        (
            {"scaling": {"predictive": {"metric": "requests"}}},
            "predictive.metric is requests, which this tier's nodes do not have: set it to cpu or in-flight",
        ),
        (
            {"scaling": {"predictive": {"metric": "cpu"}, "cpuTargetPercent": None}},
            "scaling.predictive.metric is cpu, and scaling.cpuTargetPercent is null: set it",
        ),
        (
            {"capacity": {"min": 3, "desired": 3, "max": 3}, "scaling": {"predictive": {"metric": "cpu"}}},
            "scaling.predictive is set, and capacity.min and capacity.max are both 3: raise max or remove",
        ),
    ],
)
def test_scaling_that_cannot_work_is_refused(model: dict[str, Any], says: str) -> None:
    """In a line that names the setting and the number to change."""
    said = refused(model)
    assert says in said
    assert all(line.startswith("  goldenfleet:tiers.model") for line in said.splitlines()[1:])


@pytest.mark.parametrize(
    "sizes", [{"desired": 1}, {"desired": 6}, {"min": 4, "desired": 4, "max": 4}, {"desired": None, "min": 6}]
)
def test_a_schedule_may_go_to_its_bounds(sizes: dict[str, int | None]) -> None:
    """To the tier's least and most, and to one size alone."""
    config = file_config("rehearsal")
    tiers = json.loads(config["goldenfleet:tiers"])
    tiers[1].update(schedule(**sizes))
    made = Settings.from_config("rehearsal", {**config, "goldenfleet:tiers": json.dumps(tiers)})
    (kept,) = made.models[0].scaling.schedules
    assert (kept.min, kept.desired, kept.max) == (sizes.get("min"), sizes["desired"], sizes.get("max"))


def test_gateways_have_no_requests_in_flight() -> None:
    """They publish none, so nothing could be forecast."""
    assert "set it to cpu or requests" in refused(
        gateway={"scaling": {"predictive": {"metric": "in-flight"}}}
    )


def test_a_tier_of_one_size_needs_nothing_that_scales_it() -> None:
    """Nor does one that its schedules scale."""
    config = file_config("rehearsal")
    tiers = json.loads(config["goldenfleet:tiers"])
    tiers[0] |= {"capacity": {"min": 2, "desired": 2, "max": 2}, "scaling": {"cpuTargetPercent": None}}
    tiers[1] |= schedule() | {"scaling": {**NOTHING, **schedule()["scaling"]}}
    made = Settings.from_config("rehearsal", {**config, "goldenfleet:tiers": json.dumps(tiers)})
    assert not made.models[0].scaling.tracks


@pytest.mark.parametrize(
    ("engine", "followed"), [("vllm", False), ("embedded", True), ("llama-server", True)]
)
def test_cpu_is_not_looked_at_where_gpus_work(engine: str, followed: bool) -> None:
    """Unless it is asked for; and settings read back are the same settings."""
    config = file_config("rehearsal")
    tiers = json.loads(config["goldenfleet:tiers"])
    tiers[1] |= {"engine": engine, "purchase": {"instanceTypes": ["g6.xlarge"], "onDemandBase": 1}}
    made = Settings.from_config("x", {**config, "goldenfleet:tiers": json.dumps(tiers)})
    assert ("cpu" in made.models[0].scaling.tracks) is followed
    assert Settings.from_config("x", {**config, **made.with_desired({})}) == made
    tiers[1]["scaling"] = {"cpuTargetPercent": 50}
    made = Settings.from_config("x", {**config, "goldenfleet:tiers": json.dumps(tiers)})
    assert made.models[0].scaling.cpu_target_percent == 50


# --- policies


def test_model_nodes_are_followed_by_what_they_have_in_flight(registered: Registered) -> None:
    """The average of what each publishes under the stack's and the tier's name, as the server names them."""
    policy = registered.one(POLICY, "model-in-flight").inputs
    metric = policy["targetTrackingConfiguration"]["customizedMetricSpecification"]
    series = scaling_metric.Series(registered.stack, "model").dimensions[0]
    assert metric == {
        "namespace": scaling_metric.NAMESPACE,
        "metricName": scaling_metric.METRIC,
        "metricDimensions": [{"name": d["Name"], "value": d["Value"]} for d in series],
        "statistic": "Average",
        "unit": "Count",
    }
    assert policy["targetTrackingConfiguration"]["targetValue"] == 16
    assert policy["policyType"] == "TargetTrackingScaling"


def test_only_gateways_are_followed_by_requests(registered: Registered) -> None:
    """A model tier's balancer carries health checks alone: its count would say that nobody asks."""
    names = {policy.name for policy in registered.of(POLICY)}
    assert f"gf-{registered.stack}-gateway-requests" in names
    assert f"gf-{registered.stack}-model-requests" not in names
    assert f"gf-{registered.stack}-gateway-in-flight" not in names


def test_nodes_publish_what_they_are_followed_by(shape: Shape) -> None:
    """As often as the policy looks; where no policy does, nothing is published."""
    often = told(shape("forecast"), "model")
    assert (often["scaling_metric"], often["scaling_metric_seconds"]) == ("on", "10")
    settings = load_server_settings(role="model", tier="model", stack="s", tier_config=often, environ={})
    assert settings.scaling_metric_seconds == 10.0
    metric = shape("forecast").one(POLICY, "model-in-flight").inputs["targetTrackingConfiguration"]
    assert metric["customizedMetricSpecification"]["period"] == 10
    assert "scaling_metric" not in told(shape("forecast of CPU"), "model")
    assert "scaling_metric" not in told(shape("forecast"), "gateway")


def test_schedules_leave_alone_what_they_do_not_name(shape: Shape) -> None:
    """-1 is what pulumi-aws takes for that; 0 would empty the tier."""
    made = shape("by the clock")
    day, night = (made.one(SCHEDULE, f"model-{name}").inputs for name in ("day", "night"))
    assert (day["recurrence"], day["timeZone"]) == ("0 8 * * 1-5", "Europe/Zurich")
    assert (day["minSize"], day["desiredCapacity"], day["maxSize"]) == (2, 4, -1)
    assert (night["minSize"], night["desiredCapacity"], night["maxSize"]) == (1, -1, 3)
    assert night["timeZone"] == "Etc/UTC"


def test_a_tier_that_tracking_must_not_shrink_is_only_grown_by_it(shape: Shape) -> None:
    """Every policy of it, and none of the other tier's."""
    made = shape("by the clock")
    for policy in made.of(POLICY):
        tracking = policy.inputs["targetTrackingConfiguration"]
        assert tracking.get("disableScaleIn") is (True if "-model-" in policy.name else None)


def test_a_forecast_is_of_what_is_tracked(shape: Shape) -> None:
    """Same target; of our own metric the sum is the load and the average what a node should have."""
    made = shape("forecast")
    forecast = made.one(POLICY, "model-forecast").inputs
    assert forecast["policyType"] == "PredictiveScaling"
    wanted = forecast["predictiveScalingConfiguration"]
    assert (wanted["mode"], wanted["schedulingBufferTime"]) == ("ForecastAndScale", "600")
    assert wanted["maxCapacityBreachBehavior"] == "HonorMaxCapacity"
    metric = wanted["metricSpecification"]
    assert metric["targetValue"] == 8
    stats = {
        part: metric[f"customized{part}MetricSpecification"]["metricDataQueries"][0]["metricStat"]["stat"]
        for part in ("Load", "Scaling")
    }
    assert stats == {"Load": "Sum", "Scaling": "Average"}
    gateway = made.one(POLICY, "gateway-forecast").inputs["predictiveScalingConfiguration"]
    assert gateway["mode"] == "ForecastOnly"
    pair = gateway["metricSpecification"]["predefinedMetricPairSpecification"]
    assert pair["predefinedMetricType"] == "ALBRequestCount"
    assert pair["resourceLabel"]
    cpu = shape("forecast of CPU").one(POLICY, "model-forecast").inputs["predictiveScalingConfiguration"]
    assert cpu["metricSpecification"] == {
        "targetValue": 70,
        "predefinedMetricPairSpecification": {"predefinedMetricType": "ASGCPUUtilization"},
    }


def test_defaults_of_the_metric_are_the_servers() -> None:
    """A node that is told nothing publishes as often as the policy looks."""
    settings = load_server_settings(role="model", tier="model", stack="s", tier_config={}, environ={})
    assert settings.scaling_metric_seconds == ModelScaling().in_flight_seconds


# --- how long a node takes


def warmup(registered: Registered) -> int:
    return int(registered.one("autoscaling/group:Group", "model").inputs["defaultInstanceWarmup"])


def test_a_node_warms_up_as_long_as_its_image_took(
    recorded: dict[str, Any], registered_prod: Registered
) -> None:
    """Whole seconds, rounded up; 120 where nobody has measured."""
    assert warmup(parsed({"rehearsal": recorded["measured"]}, "rehearsal")) == 88
    assert warmup(registered_prod) == 120


def test_an_image_that_boots_too_slowly_is_refused(refusal: Callable[[str], str]) -> None:
    """Nodes would be replaced for ever before they serve; the message has the number to set."""
    assert "boot.graceSeconds is 300, and ami-0123456789abcdef0 took 301 s" in refusal("slow boot")
    assert "raise it to 602" in refusal("slow boot")
    assert "launch_to_ready_s: Input should be greater than 0" in refusal("boot time out of range")


@pytest.mark.parametrize("text", ["", "87", '{"format": 2, "launch_to_ready_s": 1}', '{"format": 1}'])
def test_a_boot_time_that_cannot_be_read_is_refused(text: str) -> None:
    """With the parameter's name."""
    with pytest.raises(ImageMissingError, match=r"^/p cannot be used: "):
        parse_boot(text, "/p")


def test_what_a_bake_measured_is_read() -> None:
    """The two meet only in this parameter, so a key or a path that one of them changes shows here."""
    assert parse_boot(boot_value(87.25), "/p") == 87.2
    assert boot_parameter("prod", IMAGE_ID) == BOOT_PARAMETER.format(stack="prod")


def told(registered: Registered, tier: str) -> dict[str, Any]:
    parameter = registered.one("ssm/parameter:Parameter", f"{tier}-config")
    value: dict[str, Any] = json.loads(parameter.inputs["insecureValue"])
    return value
