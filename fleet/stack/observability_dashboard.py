"""The stack's dashboard, as the JSON that CloudWatch takes. Pure.

Form: "Dashboard body structure and syntax" of the CloudWatch API reference. The grid is 24 wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.stack.observability_alarms import RUNBOOK
from fleet.stack.observability_names import (
    ABOVE_BASE,
    DRAINING,
    FAILED,
    FIRST_TOKEN,
    GIVEN_UP,
    IN_FLIGHT,
    NODE_MINUTES,
    NOTICES,
    OK,
    OPTION_DIMENSION,
    OPTIONS,
    REFUSED,
    RESUMED,
    RETRIED,
    Metric,
    StackNames,
    TierNames,
    of_nodes,
    of_queue,
)

GRID = 24
_HEIGHT = 6
_MINUTE, _FIVE = 60, 300

Widget = dict[str, Any]


@dataclass(frozen=True)
class Prices:
    """US dollars an hour of a tier's node, as of the price table."""

    on_demand: float
    spot: float


@dataclass(frozen=True)
class Graph:
    title: str
    series: Sequence[list[Any]]
    width: int = 8
    period: int = _MINUTE
    label: str = ""
    view: str = "timeSeries"
    stacked: bool = False


def body(
    names: StackNames[str], alarm_arns: Sequence[str], region: str, prices: Mapping[str, Prices]
) -> dict[str, Any]:
    """`prices` by tier; a tier without has no cost on the dashboard."""
    rows: list[list[Widget]] = [
        [_text(_heading(names), 12, 4), _alarm_widget("Alarms", alarm_arns, 12, 4)],
        [_graph(graph, region) for graph in _of_clients(names)],
    ]
    for tier in names.tiers:
        rows.append([_text(f"## Tier {tier.tier}", GRID, 1)])
        rows.append([_graph(graph, region) for graph in _of_tier(names.stack, tier)])
    rows.append([_text("## Notices and cost", GRID, 1)])
    rows.append([_graph(graph, region) for graph in _of_notices(names)])
    priced = [_graph(_cost(names, prices), region)] if prices else []
    rows.append([*priced, _text(_cost_tags(names.stack), 8, _HEIGHT)])
    return {"start": "-PT3H", "periodOverride": "inherit", "widgets": list(_placed(rows))}


def _of_clients(names: StackNames[str]) -> Iterator[Graph]:
    gateway, stack = names.gateway, names.stack

    def told(name: str, statistic: str, label: str) -> list[Any]:
        return _series(of_nodes(stack, gateway.tier, name, statistic), label)

    yield Graph(
        "Requests a minute",
        [told(OK, "Sum", "ok"), told(REFUSED, "Sum", "refused: the client's own fault")],
        label="requests",
    )
    yield Graph(
        "What clients may notice",
        [
            told(FAILED, "Sum", "lost"),
            _series(gateway.of_balancer("HTTPCode_Target_5XX_Count", "Sum"), "5xx of gateways"),
            _series(_balancer_errors(gateway), "5xx of the load balancer"),
        ],
        label="requests",
    )
    yield Graph(
        "What they do not notice",
        [told(RETRIED, "Sum", "retried"), told(RESUMED, "Sum", "resumed")],
        label="requests",
    )
    percentiles = [told(FIRST_TOKEN, f"p{share}", f"p{share}") for share in (50, 95, 99)]
    yield Graph("Time to the first token", percentiles, width=12, label="seconds")
    latency = [
        _series(gateway.of_balancer("TargetResponseTime", f"p{share}"), f"p{share}") for share in (50, 99)
    ]
    yield Graph("Until a gateway's response begins", latency, width=12, label="seconds")


def _of_tier(stack: str, tier: TierNames[str]) -> Iterator[Graph]:
    yield Graph(
        "Nodes by purchase option",
        [entry for option in OPTIONS for entry in _nodes(stack, tier.tier, option)],
        period=_FIVE,
        label="nodes",
        stacked=True,
    )
    yield Graph(
        "Auto Scaling group",
        [
            _series(tier.of_group(f"Group{name}"), label)
            for name, label in (
                ("DesiredCapacity", "desired"),
                ("InServiceInstances", "in service"),
                ("PendingInstances", "pending"),
                ("TerminatingInstances", "terminating"),
                ("MaxSize", "max"),
            )
        ]
        + _in_spots_place(stack, tier.tier),
        label="nodes",
    )
    yield Graph(
        "Target health",
        [
            _series(tier.of_balancer("HealthyHostCount", "Minimum"), "healthy"),
            _series(tier.of_balancer("UnHealthyHostCount", "Maximum"), "unhealthy"),
            _series(of_nodes(stack, tier.tier, GIVEN_UP, "Maximum"), "given up before they were ready"),
        ],
        label="nodes",
    )
    in_flight = [
        _series(of_nodes(stack, tier.tier, IN_FLIGHT, statistic), label)
        for statistic, label in (("Average", "mean node"), ("Maximum", "busiest node"))
    ]
    yield Graph("In flight for each node", in_flight, label="requests")
    cpu = Metric("AWS/EC2", "CPUUtilization", {"AutoScalingGroupName": tier.group}, "Average")
    yield Graph("CPU", [_series(cpu, "mean")], label="percent")
    drains = [
        _series(of_nodes(stack, tier.tier, NOTICES, "Sum"), "notices seen by nodes"),
        _series(of_nodes(stack, tier.tier, DRAINING, "Maximum"), "a node drains"),
    ]
    yield Graph("Notices and drains", drains, label="")


def _of_notices(names: StackNames[str]) -> Iterator[Graph]:
    came = [
        _series(Metric("AWS/Events", "Invocations", {"RuleName": rule}, "Sum"), part)
        for part, rule in names.rules.items()
    ]
    yield Graph("Notices that came, by EventBridge", came, label="notices")
    waiting = [
        _series(of_queue(names.queue, "ApproximateNumberOfMessagesVisible"), "waiting"),
        _series(of_queue(names.queue, "ApproximateNumberOfMessagesNotVisible"), "being handled"),
        _series(of_queue(names.dead_letters, "ApproximateNumberOfMessagesVisible"), "dead letters"),
    ]
    yield Graph("Notice queue", waiting, label="notices")
    age = [_series(of_queue(names.queue, "ApproximateAgeOfOldestMessage"), "oldest")]
    yield Graph("Age of the oldest notice", age, label="seconds")


def _cost(names: StackNames[str], prices: Mapping[str, Prices]) -> Graph:
    """Instances only: the rest of the bill does not move by the minute."""
    entries: list[list[Any]] = []
    for number, tier in enumerate(t for t in names.tiers if t.tier in prices):
        price = prices[tier.tier]
        minutes = [f"m{number}{option[0]}" for option in OPTIONS]
        for identity, option in zip(minutes, OPTIONS, strict=True):
            entries.append(_series(_minutes(names.stack, tier.tier, option), "", id=identity, visible=False))
        dollars = " + ".join(
            f"FILL({identity}, 0) / {_FIVE // 60} * {usd:g}"
            for identity, usd in zip(minutes, (price.on_demand, price.spot), strict=True)
        )
        entries.append([{"expression": dollars, "label": tier.tier, "id": f"cost{number}"}])
    return Graph("Instances, estimated", entries, 16, _FIVE, "USD an hour", stacked=True)


def _nodes(stack: str, tier: str, option: str) -> list[list[Any]]:
    """Node-minutes as nodes."""
    identity = f"m{option[0]}"
    hidden = _series(_minutes(stack, tier, option), "", id=identity, visible=False)
    return [
        hidden,
        [{"expression": f"{identity} / {_FIVE // 60}", "label": option, "id": f"n{option[0]}"}],
    ]


def _in_spots_place(stack: str, tier: str) -> list[list[Any]]:
    """It is told when it changes, and holds until then."""
    hidden = _series(of_nodes(stack, tier, ABOVE_BASE, "Maximum"), "", id="above", visible=False)
    shown = {"expression": "FILL(above, REPEAT)", "label": "on demand in spot's place", "id": "filled"}
    return [hidden, [shown]]


def _minutes(stack: str, tier: str, option: str) -> Metric[str]:
    return of_nodes(stack, tier, NODE_MINUTES, "Sum", {OPTION_DIMENSION: option})


def _balancer_errors(tier: TierNames[str]) -> Metric[str]:
    return Metric("AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", {"LoadBalancer": tier.load_balancer}, "Sum")


def _series(metric: Metric[str], label: str, **options: Any) -> list[Any]:
    pairs = [text for pair in metric.dimensions.items() for text in pair]
    told = {"label": label} if label else {}
    return [metric.namespace, metric.name, *pairs, {"stat": metric.statistic, **told, **options}]


def _graph(graph: Graph, region: str) -> Widget:
    properties = {
        "title": graph.title,
        "metrics": list(graph.series),
        "view": graph.view,
        "stacked": graph.stacked,
        "region": region,
        "period": graph.period,
        "yAxis": {"left": {"min": 0, "label": graph.label, "showUnits": False}},
    }
    return {"type": "metric", "width": graph.width, "height": _HEIGHT, "properties": properties}


def _text(markdown: str, width: int, height: int) -> Widget:
    return {"type": "text", "width": width, "height": height, "properties": {"markdown": markdown}}


def _alarm_widget(title: str, arns: Sequence[str], width: int, height: int) -> Widget:
    properties = {"title": title, "alarms": list(arns)}
    return {"type": "alarm", "width": width, "height": height, "properties": properties}


def _placed(rows: Sequence[Sequence[Widget]]) -> Iterator[Widget]:
    """From left to right, and on to the next line where the grid is full."""
    y = 0
    for row in rows:
        x = height = 0
        for widget in row:
            if x + widget["width"] > GRID:
                y, x, height = y + height, 0, 0
            yield {**widget, "x": x, "y": y}
            x, height = x + widget["width"], max(height, widget["height"])
        y += height


def _heading(names: StackNames[str]) -> str:
    tiers = ", ".join(tier.tier for tier in names.tiers)
    return (
        f"# Goldenfleet {names.stack}\n"
        f"Tiers: {tiers}. An instance may vanish at any moment, and no client notices: *lost* and *5xx* are "
        f"what may not be. What an alarm means and what to do: `{RUNBOOK}`. All metrics of a node: "
        "`GET /metrics` on its admin port."
    )


def _cost_tags(stack: str) -> str:
    return (
        "### Cost\n"
        "Estimated from node-minutes and the price table as of the last `up`; `goldenfleet cost` has the "
        "rest. The bill itself is in Cost Explorer, by the cost allocation tags "
        f"`goldenfleet:stack` = `{stack}`, `goldenfleet:tier` and `goldenfleet:image`."
    )
