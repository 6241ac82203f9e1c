"""What a run refuses, and how it says so."""

from __future__ import annotations

import json

import pytest

from fleet.rehearsal.engine import (
    DeploymentError,
    ProgramError,
    ProjectError,
    ResourceFailedError,
    StateError,
    StateLockedError,
)
from fleet.rehearsal.engine.state import locked

# Program -> what the error must say. Each is refused by a preview already, before anything is made.
REFUSED = {
    "an argument that no handler maps": (
        'queue("bad", colour="red")',
        r"aws:sqs/queue:Queue 'bad': argument colour has no place in AWS's CreateQueueRequest",
    ),
    "an argument inside a block": (
        'Aws("lb/targetGroup:TargetGroup", "bad", {"healthCheck": {"path": "/", "mood": "good"}})',
        r"'bad': argument healthCheck.mood has no place",
    ),
    "a type without a handler": ('Aws("quantum/qubit:Qubit", "bad", {})', "no resource type aws:quantum"),
    "a value that AWS does not know": (
        'Aws("lb/targetGroup:TargetGroup", "bad", {"protocol": "PIGEON"})',
        "argument protocol is 'PIGEON'\nAWS knows HTTP,",
    ),
    "an asset": (
        'parameter("bad", pulumi.StringAsset("text"))',
        "'bad': argument value is an asset or archive",
    ),
    "a name that is too long": (
        'Aws("lb/targetGroup:TargetGroup", "x" * 30, {"port": 80})',
        "has 38 characters, and AWS allows 32",
    ),
    "one name twice": ('queue("bad"); queue("bad")', "the program has it twice"),
    "another region": ('queue("bad", region="eu-west-1")', "argument region is 'eu-west-1'"),
    "an import": ('queue("bad", options={"import_": "x"})', "import is not part of the rehearsal"),
    "a resource read by its id": (
        'pulumi.CustomResource("aws:sqs/queue:Queue", "bad", {}, pulumi.ResourceOptions(id="x"))',
        "reading by id is not part of the rehearsal",
    ),
    "a provider with settings": (
        'pulumi.ProviderResource("aws", "bad", {"profile": "me"})',
        "argument profile of a provider is not known",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_preview_refuses(case, projects) -> None:
    """What cannot be mapped onto AWS is an error that names resource and argument."""
    program, message = REFUSED[case]
    with pytest.raises(DeploymentError, match=message):
        projects.engine(program).preview()
    assert not projects.state.exists()


def test_an_error_of_one_resource_stops_the_up_and_keeps_what_was_made(projects) -> None:
    """The message names the resource, AWS's error and the remedy; the next up continues."""
    program = """
        first = queue("first")
        bad = subnet("bad", vpc(), "192.168.0.0/24", depends_on=[first])
        queue("never", options={"depends_on": [bad]})
    """
    engine = projects.engine(program)
    with pytest.raises(ResourceFailedError) as caught:
        engine.up()
    assert "aws:ec2/subnet:Subnet 'bad': AWS refused CreateSubnet: InvalidSubnet.Range" in str(caught.value)
    assert "run up again" in caught.value.hint
    assert [name.partition("-")[0] for name in projects.queues()] == ["first"]
    mended = projects.engine(program.replace("192.168.0.0/24", "10.0.0.0/24"))
    assert mended.up().summary() == {"same": 3, "create": 2}
    assert len(projects.vpcs()) == 1
    mended.destroy()
    assert (projects.vpcs(), projects.queues()) == ([], [])


def test_a_failing_program_is_told_by_the_end_of_its_traceback(projects) -> None:
    """The person sees their own line and error; what was made before it stays in the state."""
    engine = projects.engine('queue("first")\nraise LookupError("no such tier")')
    with pytest.raises(ProgramError, match=r"(?s)__main__.py.*LookupError: no such tier"):
        engine.up()
    assert len(projects.queues()) == 1
    assert engine.destroy().summary() == {"delete": 2}


def test_a_program_that_dies_is_told_by_its_signal(projects) -> None:
    """A program that a signal ends has failed, whatever it registered."""
    with pytest.raises(ProgramError, match="ended by signal 9"):
        projects.engine("import os, signal; os.kill(os.getpid(), signal.SIGKILL)").preview()


def test_a_refused_function_call_fails_the_call_and_not_the_run(projects) -> None:
    """A program may go on without an answer, and is told what was wrong."""
    result = projects.engine(
        """
        def why(token, arguments):
            try:
                pulumi.runtime.invoke(token, arguments)
            except Exception as exc:
                return str(exc)
        pulumi.export("absent", why("aws:ssm/getParameter:getParameter", {"name": "/none"}))
        pulumi.export("unknown", why("aws:magic/getWand:getWand", {}))
        pulumi.export("unmapped", why("aws:index/getRegion:getRegion", {"mood": "good"}))
        """
    ).preview()
    assert "AWS refused GetParameter: ParameterNotFound" in result.outputs["absent"]
    assert "no function aws:magic/getWand:getWand in the rehearsal" in result.outputs["unknown"]
    assert "argument mood is not known" in result.outputs["unmapped"]


def test_bad_projects_are_refused_before_anything_starts(projects) -> None:
    """A missing stack, program or key is named, with what there is."""
    engine = projects.engine("")
    stack_file = projects.folder / "Pulumi.test.yaml"
    for text, message in (
        ("config:\n  small:token: {secure: v1:abc}\n", "small:token is encrypted"),
        ("config: [", "cannot be read"),
        ("just text", "is no mapping"),
    ):
        stack_file.write_text(text)
        with pytest.raises(ProjectError, match=message):
            engine.preview()
    stack_file.rename(projects.folder / "Pulumi.other.yaml")
    with pytest.raises(ProjectError, match="no stack 'test'") as caught:
        engine.preview()
    assert caught.value.hint == "Stacks here: other."


def test_state_that_cannot_be_used_is_refused(projects) -> None:
    """A torn file, another version, another cloud and another run are each told apart."""
    engine = projects.engine("")
    projects.state.parent.mkdir()
    record = {"urn": "u", "type": "t", "name": "n", "custom": True, "dependencies": []}
    for document, message in (
        ("{", "cannot be read"),
        (json.dumps({"version": 9}), "no state of version 1"),
        (json.dumps({"version": 1, "endpoint": "http://other", "resources": [record]}), "not at http://127"),
    ):
        projects.state.write_text(document)
        with pytest.raises(StateError, match=message):
            engine.up()
    with locked(projects.state), pytest.raises(StateLockedError, match="another run"):
        engine.up()
