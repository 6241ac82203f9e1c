"""The control handler as the stack makes it."""

from __future__ import annotations

from fleet.control.aws import HOOKS
from fleet.control.lambda_entry import LOST_S
from tests.fleet.stack.conftest import Registered

FUNCTION = "lambda/function:Function"
MAPPING = "lambda/eventSourceMapping:EventSourceMapping"


def test_times_of_queue_and_function(registered: Registered) -> None:
    """A message is hidden for six times as long as a batch may take, and its window, as Lambda advises; and a
    batch that was lost comes back before a spot notice is over.
    """
    function = registered.one(FUNCTION, "control").inputs
    mapping = registered.one(MAPPING, "control").inputs
    hidden = registered.one("sqs/queue:Queue", "notices").inputs["visibilityTimeoutSeconds"]
    assert hidden >= 6 * function["timeout"] + mapping["maximumBatchingWindowInSeconds"]
    assert hidden < 120


def test_hooks(registered: Registered) -> None:
    """What the tiers' groups have is what control completes, and it completes nobody else's."""
    groups = registered.of("autoscaling/group:Group")
    names = {hook["name"] for group in groups for hook in group.inputs.get("initialLifecycleHooks", ())}
    assert {"drain"} <= names <= HOOKS


def test_a_batch_that_was_lost(registered: Registered) -> None:
    """It is hidden for longer than the function may take with it, and for little longer."""
    seconds = registered.one(FUNCTION, "control").inputs["timeout"]
    assert seconds < LOST_S <= 2 * seconds


def test_batches(registered: Registered) -> None:
    """What must come back is told by message; batches above ten need a window; their number is bounded."""
    mapping = registered.one(MAPPING, "control").inputs
    assert mapping["functionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["maximumBatchingWindowInSeconds"] >= 1 or mapping["batchSize"] <= 10
    assert 2 <= mapping["scalingConfig"]["maximumConcurrency"] <= 10
    queue = registered.one("sqs/queue:Queue", "notices")
    assert mapping["eventSourceArn"] == f"arn:aws:{queue.type}:{queue.name}"


def test_where_it_lives(registered: Registered) -> None:
    """In the nodes' subnets, as control, by the name that people call; its log is the stack's history."""
    function = registered.one(FUNCTION, "control")
    group = registered.one("ec2/securityGroup:SecurityGroup", "control")
    assert function.inputs["name"] == f"gf-{registered.stack}-control"
    assert function.inputs["vpcConfig"]["securityGroupIds"] == [group.id]
    assert len(function.inputs["vpcConfig"]["subnetIds"]) >= 2
    logging = {"logFormat": "Text", "logGroup": f"/goldenfleet/{registered.stack}/control"}
    assert function.inputs["loggingConfig"] == logging
    told = function.inputs["environment"]["variables"]
    assert set(told) == {"GOLDENFLEET_STACK", "GOLDENFLEET_QUEUE_URL"}


def test_it_may_before_it_is(registered: Registered) -> None:
    """Lambda tries a role's permissions when a function is put into a VPC."""
    function = registered.one(FUNCTION, "control")
    assert registered.one("iam/rolePolicy:RolePolicy", "control-function").urn in function.dependencies


def test_its_code(registered: Registered) -> None:
    """The package, its errors, and nothing that Lambda has not."""
    files = registered.one(FUNCTION, "control").inputs["code"]
    assert "fleet/control/lambda_entry.py" in files
    assert not [file for file in files if not file.endswith(".py") or "__main__" in file]
