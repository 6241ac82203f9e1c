"""Preview, up, second up, update, replace and destroy of small programs on moto.

Each program is applied once, by a fixture that notes what was seen on the way.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

NETWORK = """
    part = Part("network")
    net = vpc(parent=part)
    first = subnet("first", net, "10.0.0.0/24", parent=part)
    jobs = queue(visibilityTimeoutSeconds=60)
    parameter("where", jobs.url)
    pulumi.export("queue", jobs.url)
    pulumi.export("nested", {"vpc": net.id, "number": 7})
"""
NAMES = {"small-test", "network", "main", "first", "jobs", "where"}


@pytest.fixture(scope="module")
def life(fresh) -> SimpleNamespace:
    """One project from preview to destroy."""
    projects, heard = fresh(), []
    engine = projects.engine(NETWORK)
    seen = SimpleNamespace(heard=heard)
    seen.preview = engine.preview()
    seen.after_preview = (projects.vpcs(), projects.queues(), projects.state.exists())
    seen.up = engine.up(heard.append)
    seen.after_up = (projects.vpcs(), projects.queues(), projects.parameter("/test/where"))
    seen.again = engine.up()
    projects.client("ssm").delete_parameter(Name="/test/where")
    seen.destroyed = engine.destroy()
    seen.after_destroy = (projects.vpcs(), projects.queues())
    seen.destroyed_again = engine.destroy()
    return seen


def test_a_preview_makes_nothing(life) -> None:
    """A preview leaves AWS and the disk as they were."""
    assert life.after_preview == ([], [], False)


def test_a_preview_tells_the_steps_of_the_up_that_follows(life) -> None:
    """Both take the same steps, if not in the same order."""
    told, taken = [{(s.op, s.urn, s.changed) for s in result.steps} for result in (life.preview, life.up)]
    assert told == taken
    assert {step.name for step in life.up.steps} == NAMES
    assert life.up.summary() == {"create": len(NAMES)}


def test_an_up_makes_what_the_program_says(life) -> None:
    """Each resource exists, and values flow from one to the next and to the outputs."""
    (vpc,), (queue,), stored = life.after_up
    assert stored == life.up.outputs["queue"]
    assert queue.startswith("jobs-")
    assert life.up.outputs["nested"] == {"vpc": vpc["VpcId"], "number": 7}


def test_a_second_up_finds_nothing_to_do(life) -> None:
    """What was just applied differs in nothing, and the outputs are the same."""
    assert life.again.summary() == {"same": len(NAMES)}
    assert life.again.outputs == life.up.outputs


def test_steps_are_told_as_they_end(life) -> None:
    """on_step hears every step once, with growing elapsed seconds."""
    assert tuple(life.heard) == life.up.steps
    assert [s.elapsed for s in life.heard] == sorted(s.elapsed for s in life.heard)
    assert life.heard[-1].elapsed <= life.up.seconds


def test_destroy_leaves_nothing_and_passes_over_what_is_gone_already(life) -> None:
    """All goes, dependents first, though a person has deleted one of them before."""
    assert life.destroyed.summary() == {"delete": len(NAMES)}
    order = [step.name for step in life.destroyed.steps]
    assert order.index("first") < order.index("main") < order.index("network")
    assert life.after_destroy == ([], [])
    assert life.destroyed_again.steps == ()


BEFORE = """
    net = vpc(tags={"Name": "a", "gone": "x"})
    subnet("first", net, "10.0.0.0/24")
    moved = vpc("moved", cidr="10.8.0.0/16")
    queue("jobs", visibilityTimeoutSeconds=60, delaySeconds=5, tags={"team": "a"})
    queue("named", name="one.fifo", fifoQueue=True)
    queue("ignoring", delaySeconds=5, tags={"kept": "5", "free": "5"})
    queue("replacing", delaySeconds=5)
    queue("deleting", name="deleting-1")
    queue("before", name="renamed")
    queue("dropped")
    queue("retained", name="retained", options={"retain_on_delete": True})
    parameter("where", moved.id)
"""
AFTER = """
    net = vpc(tags={"Name": "b"})
    subnet("first", net, "10.0.0.0/24")
    moved = vpc("moved", cidr="10.9.0.0/16")
    queue("jobs", visibilityTimeoutSeconds=90, tags={"team": "b"})
    queue("named", name="one.fifo", fifoQueue=True, contentBasedDeduplication=True)
    ignore = {"ignore_changes": ["delaySeconds", "tags.kept"]}
    queue("ignoring", delaySeconds=6, tags={"kept": "6", "free": "6"}, options=ignore)
    queue("replacing", delaySeconds=6, options={"replace_on_changes": ["delaySeconds"]})
    queue("deleting", name="deleting-2", options={"delete_before_replace": True})
    queue("after", name="renamed", options={"aliases": [pulumi.Alias(name="before")]})
    parameter("where", moved.id)
"""
CHANGES = {
    "main": ("update", ("tags",)),
    "moved": ("replace", ("cidrBlock",)),
    "where": ("update", ("value",)),
    "jobs": ("update", ("delaySeconds", "tags", "visibilityTimeoutSeconds")),
    "named": ("replace", ("contentBasedDeduplication",)),
    "ignoring": ("update", ("tags",)),
    "replacing": ("replace", ("delaySeconds",)),
    "deleting": ("replace", ("name",)),
    "dropped": ("delete", ()),
    "retained": ("delete", ()),
}


@pytest.fixture(scope="module")
def change(fresh) -> SimpleNamespace:
    """Many resources changed at once, each in another way."""
    projects = fresh()
    projects.engine(BEFORE).up()
    seen = SimpleNamespace(old_vpcs={v["CidrBlock"]: v["VpcId"] for v in projects.vpcs()})
    engine = projects.engine(AFTER)
    seen.preview, seen.up, seen.again = engine.preview(), engine.up(), engine.up()
    seen.vpcs = {v["CidrBlock"]: v for v in projects.vpcs()}
    seen.queues = {name.partition("-")[0]: projects.queue(name) for name in projects.queues()}
    seen.names = projects.queues()
    seen.where = projects.parameter("/test/where")
    return seen


def changes(result: Any) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {step.name: (step.op, step.changed) for step in result.steps if step.op != "same"}


def test_changes_are_named_alike_by_preview_and_up_and_made_once(change) -> None:
    """Each step tells its op and what differs; then nothing is left to change."""
    assert changes(change.preview) == changes(change.up) == CHANGES
    assert set(change.again.summary()) == {"same"}


def test_an_update_reaches_aws(change) -> None:
    """Changed arguments are put into force in place, and a removed one is AWS's default again."""
    jobs = change.queues["jobs"]
    assert (jobs["VisibilityTimeout"], jobs["DelaySeconds"], jobs["tags"]) == ("90", "0", {"team": "b"})


def test_tags_are_set_and_removed(change) -> None:
    """Tags follow the program, also where it has fewer."""
    tags = {tag["Key"]: tag["Value"] for tag in change.vpcs["10.0.0.0/16"]["Tags"]}
    assert (tags["Name"], "gone" in tags) == ("b", False)
    assert change.vpcs["10.0.0.0/16"]["VpcId"] == change.old_vpcs["10.0.0.0/16"]


def test_a_replacement_is_new_and_its_dependents_move_to_it(change) -> None:
    """What cannot change in place is made anew, dependents see the new id, and the old one goes."""
    assert set(change.vpcs) == {"10.0.0.0/16", "10.9.0.0/16"}
    assert change.where == change.vpcs["10.9.0.0/16"]["VpcId"]


def test_of_one_name_the_old_one_goes_first(change) -> None:
    """Two resources of one name cannot exist at once, so that here deletion comes before creation."""
    assert change.queues["one.fifo"]["ContentBasedDeduplication"] == "true"


def test_ignored_changes_stay_as_they_were(change) -> None:
    """ignore_changes keeps whole arguments and single fields."""
    ignoring = change.queues["ignoring"]
    assert (ignoring["DelaySeconds"], ignoring["tags"]) == ("5", {"kept": "5", "free": "6"})


def test_an_alias_renames_without_a_replacement(change) -> None:
    """A resource that the program renames stays the one that it is."""
    assert "renamed" in change.names
    assert not {"before", "after"} & set(CHANGES)


def test_what_is_dropped_is_deleted_unless_it_is_retained(change) -> None:
    """retain_on_delete forgets without deleting; everything else goes."""
    assert "retained" in change.names
    assert not any(name.startswith(("dropped", "deleting-1")) for name in change.names)


def test_protected_resources_stop_a_deletion_before_it_begins(projects) -> None:
    """Nothing at all is deleted while one of those to go is protected."""
    projects.engine('queue("kept", options={"protect": True}); queue("other")').up()
    engine = projects.engine("")
    for act in (engine.preview, engine.up, engine.destroy):
        with pytest.raises(Exception, match="'kept': is protected"):
            act()
    assert len(projects.queues()) == 2


def test_depends_on_orders_making_and_deleting(projects) -> None:
    """A dependency without data is a dependency."""
    engine = projects.engine(
        """
        second = queue("second")
        queue("first", options={"depends_on": [second]})
        """
    )
    made = [step.name for step in engine.up().steps]
    assert made.index("second") < made.index("first")
    gone = [step.name for step in engine.destroy().steps]
    assert gone.index("first") < gone.index("second")


def test_functions_and_configuration_answer_the_program(projects) -> None:
    """A program may ask AWS for zones, parameters, account and region, and Pulumi for its settings."""
    projects.client("ssm").put_parameter(Name="/image", Type="String", Value="ami-1")
    config = "config:\n  small:size: 3\n  small:zones: [a, b]\n  small:name: file\n"
    (projects.folder / "Pulumi.test.yaml").write_text(config)
    engine = projects.engine(
        """
        def ask(token, key, **arguments):
            pulumi.export(key, pulumi.runtime.invoke(f"aws:{token}", arguments).value[key])
        ask("index/getAvailabilityZones:getAvailabilityZones", "names", state="available")
        ask("ssm/getParameter:getParameter", "insecureValue", name="/image")
        ask("index/getCallerIdentity:getCallerIdentity", "accountId")
        ask("index/getRegion:getRegion", "region")
        ask("index/getPartition:getPartition", "partition")
        config = pulumi.Config()
        own = [config.require_int("size"), config.require_object("zones"), config.require("name")]
        pulumi.export("own", own)
        pulumi.export("aws", pulumi.Config("aws").require("region"))
        """,
        name="given",
    )
    assert engine.preview().outputs == {
        "names": [f"us-east-1{zone}" for zone in "abcdef"],
        "insecureValue": "ami-1",
        "accountId": "123456789012",
        "region": "us-east-1",
        "partition": "aws",
        "own": [3, ["a", "b"], "given"],
        "aws": "us-east-1",
    }
