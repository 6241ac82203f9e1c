"""What a program may ask for beside arguments: each option in a small program, applied on moto."""

from __future__ import annotations

import json

import pytest

from fleet.rehearsal.engine import DeploymentError, ProjectError, ResourceFailedError
from fleet.rehearsal.resources import UNKNOWN


def test_a_child_follows_its_renamed_parent(projects, ops) -> None:
    """The alias of a component is its children's too, so that nothing is made anew."""
    projects.engine('queue("jobs", options={"parent": Part("old")})').up()
    renamed = 'queue("jobs", options={"parent": Part("new", aliases=[pulumi.Alias(name="old")])})'
    engine = projects.engine(renamed)
    assert ops(engine.preview()) == {}
    assert ops(engine.up()) == {}
    assert len(projects.queues()) == 1


def test_a_resource_that_moves_under_a_parent_stays(projects, ops) -> None:
    """An alias may say that there was no parent."""
    projects.engine('queue("jobs")').up()
    moved = """
        alias = pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)
        queue("jobs", options={"parent": Part("p"), "aliases": [alias]})
    """
    assert ops(projects.engine(moved).up()) == {"p": "create"}
    assert len(projects.queues()) == 1


DEFAULT_TAGS = json.dumps({"tags": {"team": "a", "cost": "x"}})


def test_default_tags_of_the_stacks_file_reach_what_takes_tags(projects, ops) -> None:
    """A resource's own tags win; `tags` stays what the program gave, and tags_all has both."""
    program = """
        jobs = queue("jobs", ("arn", "tagsAll"), tags={"team": "own"})
        parameter("where", "x")
        pulumi.export("all", jobs.tagsAll)
    """
    engine = projects.engine(program, **{"aws:defaultTags": DEFAULT_TAGS})
    up = engine.up()
    assert projects.queue("jobs")["tags"] == {"team": "own", "cost": "x"} == up.outputs["all"]
    assert ops(engine.up()) == {}
    other = projects.engine(program, **{"aws:defaultTags": '{"tags": {"cost": "y"}}'})
    assert ops(other.up()) == {"jobs": "update", "where": "update"}
    assert projects.queue("jobs")["tags"] == {"team": "own", "cost": "y"}
    with pytest.raises(ProjectError, match="aws:defaultTags: argument defaultTags is no structure"):
        projects.engine(program, **{"aws:defaultTags": "team=a"}).preview()


def test_default_tags_of_a_provider_are_for_what_uses_it(projects) -> None:
    """Children of a provider's user inherit it; what has another provider does not."""
    projects.engine(
        f"""
        tagged = pulumi.ProviderResource("aws", "tagged", {{"defaultTags": {DEFAULT_TAGS!r}}})
        queue("with", options={{"provider": tagged}})
        queue("inside", options={{"parent": Part("p", providers=[tagged])}})
        queue("plain")
        """
    ).up()
    assert projects.queue("with")["tags"] == projects.queue("inside")["tags"] == {"team": "a", "cost": "x"}
    assert projects.queue("plain")["tags"] == {}


def test_protection_comes_and_goes_without_a_change_in_aws(projects, ops) -> None:
    """Taking `protect` off is no update, and lets a resource be deleted."""
    program = 'queue("kept", options={"protect": PROTECT})'
    projects.engine(program.replace("PROTECT", "True")).up()
    with pytest.raises(ResourceFailedError, match="aws:sqs/queue:Queue 'kept': is protected"):
        projects.engine(program.replace("PROTECT", "True")).destroy()
    engine = projects.engine(program.replace("PROTECT", "False"))
    assert ops(engine.up()) == {}
    engine.destroy()
    assert projects.queues() == []


def test_a_replacement_of_what_is_protected_is_refused(projects) -> None:
    """A replacement deletes too."""
    program = 'queue("kept", name="NAME", options={"protect": True})'
    projects.engine(program.replace("NAME", "a")).up()
    with pytest.raises(ResourceFailedError, match="'kept': is protected"):
        projects.engine(program.replace("NAME", "b")).up()
    assert projects.queues() == ["a"]


TRANSFORMED = """
    def slower(args):
        if args.type_ != "aws:sqs/queue:Queue":
            return None
        props = {**args.props, "delaySeconds": args.props.get("delaySeconds", 0) + 5}
        return pulumi.ResourceTransformResult(props, args.opts)
    def tagged(args):
        return pulumi.ResourceTransformResult({**args.props, "tags": {"by": "parent"}}, args.opts)
    def kept(args):
        opts = pulumi.ResourceOptions.merge(args.opts, pulumi.ResourceOptions(protect=True))
        return pulumi.ResourceTransformResult(args.props, opts)
    pulumi.runtime.register_resource_transform(slower)
    part = Part("part", transforms=[tagged])
    inner = Part("inner", parent=part)
    queue("all", delaySeconds=1, options={"parent": inner, "transforms": [slower]})
    queue("stack", options={"transforms": [kept]})
    parameter("none", "x")
"""


def test_transforms_change_arguments_and_options(projects, ops) -> None:
    """A resource's own, its parents', at any depth, and the stack's, each on top of the one before."""
    engine = projects.engine(TRANSFORMED)
    engine.up()
    every = projects.queue("all")
    assert (every["DelaySeconds"], every["tags"]) == ("11", {"by": "parent"})
    assert projects.queue("stack")["DelaySeconds"] == "5"
    assert ops(engine.up()) == {}
    with pytest.raises(ResourceFailedError, match="'stack': is protected"):
        engine.destroy()


def test_a_transform_may_alias(projects, ops) -> None:
    """By a name or by a URN, as a rename of many resources does."""
    projects.engine('queue("old-a"); queue("old-b")').up()
    program = """
        def renamed(args):
            if args.type_ != "aws:sqs/queue:Queue":
                return None
            old = args.name.replace("new", "old")
            urn = f"urn:pulumi:test::small::aws:sqs/queue:Queue::{old}"
            alias = pulumi.Alias(name=old) if old == "old-a" else urn
            opts = pulumi.ResourceOptions.merge(args.opts, pulumi.ResourceOptions(aliases=[alias]))
            return pulumi.ResourceTransformResult(args.props, opts)
        pulumi.runtime.register_resource_transform(renamed)
        queue("new-a"); queue("new-b")
    """
    assert ops(projects.engine(program).up()) == {}
    assert len(projects.queues()) == 2


def test_older_transformations_run_in_the_program(projects) -> None:
    """They need nothing of the engine."""
    projects.engine(
        """
        def tagged(args):
            return pulumi.ResourceTransformationResult({**args.props, "tags": {"a": "b"}}, args.opts)
        pulumi.runtime.register_stack_transformation(tagged)
        queue("jobs")
        """
    ).up()
    assert projects.queue("jobs")["tags"] == {"a": "b"}


def test_a_failing_transform_is_told_with_its_resource(projects) -> None:
    """Nothing is made, and the person sees their own error."""
    engine = projects.engine(
        """
        def fail(args):
            raise LookupError("no such tag")
        queue("jobs", options={"transforms": [fail]})
        """
    )
    with pytest.raises(DeploymentError, match="'jobs': a transform failed: no such tag"):
        engine.up()
    assert projects.queues() == []


READING = """
    def get(kind, name, id, *outputs):
        return Aws(kind, name, {}, outputs, id=id)
    theirs = get("ec2/vpc:Vpc", "theirs", pulumi.Config().require("vpc"), "arn", "cidrBlock", "tags")
    subnet("mine", theirs, "10.7.1.0/24")
    pulumi.export("theirs", [theirs.cidrBlock, theirs.tags])
"""


def test_what_exists_already_is_read_and_never_touched(projects, ops) -> None:
    """get() gives its arguments and outputs; up changes nothing of it, and destroy leaves it."""
    ec2 = projects.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    ec2.create_tags(Resources=[vpc], Tags=[{"Key": "a", "Value": "b"}])
    engine = projects.engine(READING, vpc=vpc)
    assert ops(engine.preview()) == {"small-test": "create", "theirs": "read", "mine": "create"}
    assert engine.up().outputs == {"theirs": ["10.7.0.0/16", {"a": "b"}]}
    assert ops(engine.up()) == {"theirs": "read"}
    engine.destroy()
    assert [found["VpcId"] for found in projects.vpcs()] == [vpc]
    assert [
        s["CidrBlock"] for s in ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    ] == []


def test_what_does_not_exist_cannot_be_read(projects) -> None:
    """A wrong id is an error of the resource that has it."""
    with pytest.raises(ResourceFailedError, match="'theirs': there is no vpc vpc-0123"):
        projects.engine(READING, vpc="vpc-0123").preview()


def test_what_is_named_can_be_read_by_its_name(projects) -> None:
    """Roles, buckets and log groups."""
    projects.client("s3").create_bucket(Bucket="theirs")
    program = """
        bucket = Aws("s3/bucket:Bucket", "b", {}, ("arn",), id="NAME")
        pulumi.export("arn", bucket.arn)
    """
    assert projects.engine(program.replace("NAME", "theirs")).up().outputs == {"arn": "arn:aws:s3:::theirs"}
    with pytest.raises(ResourceFailedError, match="there is no aws:s3/bucket:Bucket ours"):
        projects.engine(program.replace("NAME", "ours")).preview()


def test_the_id_of_what_is_read_may_come_from_what_is_made(projects) -> None:
    """A preview does not know it, and says so without failing."""
    engine = projects.engine(
        """
        made = vpc()
        again = Aws("ec2/vpc:Vpc", "again", {}, ("cidrBlock",), id=made.id)
        parameter("where", again.cidrBlock)
        """
    )
    engine.preview()
    engine.up()
    assert projects.parameter("/test/where") == "10.0.0.0/16"


def test_networks_are_found_by_id_tags_and_filters(projects) -> None:
    """An existing VPC, its subnets and tables, without resources of their own."""
    ec2 = projects.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.7.{n}.0/24", AvailabilityZone=f"us-east-1{zone}")
        for n, zone in enumerate("ab")
    ]
    ids = sorted(subnet["Subnet"]["SubnetId"] for subnet in subnets)
    ec2.create_tags(Resources=[vpc, ids[0]], Tags=[{"Key": "net", "Value": "theirs"}])
    engine = projects.engine(
        f"""
        def ask(name, /, **arguments):
            return pulumi.runtime.invoke(f"aws:ec2/{{name}}:{{name}}", arguments).value
        vpc = ask("getVpc", tags={{"net": "theirs"}})
        of_vpc = {{"name": "vpc-id", "values": [vpc["id"]]}}
        pulumi.export("vpc", [vpc["id"], vpc["cidrBlock"], vpc["enableDnsSupport"], vpc["default"]])
        pulumi.export("subnets", ask("getSubnets", filters=[of_vpc])["ids"])
        pulumi.export("tagged", ask("getSubnets", filters=[of_vpc], tags={{"net": "theirs"}})["ids"])
        pulumi.export("zone", ask("getSubnet", id="{ids[1]}")["availabilityZone"])
        pulumi.export("tables", len(ask("getRouteTables", vpcId=vpc["id"])["ids"]))
        pulumi.export("group", ask("getSecurityGroup", vpcId=vpc["id"], name="default")["name"])
        """
    )
    zones = {s["Subnet"]["SubnetId"]: s["Subnet"]["AvailabilityZone"] for s in subnets}
    assert engine.preview().outputs == {
        "vpc": [vpc, "10.7.0.0/16", True, False],
        "subnets": ids,
        "tagged": [ids[0]],
        "zone": zones[ids[1]],
        "tables": 1,
        "group": "default",
    }


def test_a_question_with_several_answers_is_refused(projects) -> None:
    """As pulumi-aws refuses it."""
    for number in (7, 8):
        projects.client("ec2").create_vpc(CidrBlock=f"10.{number}.0.0/16")
    with pytest.raises(DeploymentError, match="of kind vpc match"):
        projects.engine('pulumi.runtime.invoke("aws:ec2/getVpc:getVpc", {"default": False})').preview()


def test_a_preview_tells_what_was_registered_and_where_it_comes_from(projects) -> None:
    """For rules about the program: arguments after transforms, without secrets, and their origins."""
    preview = projects.engine(
        """
        jobs = queue("jobs", tags={"note": pulumi.Output.secret("canary")})
        parameter("where", jobs.url)
        """
    ).preview()
    told = {declared.name: declared for declared in preview.declared}
    assert told["jobs"].inputs["tags"] == {"note": "[secret]"}
    assert told["where"].inputs["value"] is UNKNOWN
    assert list(told["where"].references["value"]) == [told["jobs"].urn]
