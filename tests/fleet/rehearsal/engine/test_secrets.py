"""A secret goes to AWS and nowhere else."""

from __future__ import annotations

import pytest

from fleet.rehearsal.engine import ProgramError, ResourceFailedError

CANARY = 'canary-5ecret-"quoted"'
PROGRAM = """
    secret = pulumi.Config().require_secret("password")
    first = parameter("first", secret, type="SecureString")
    second = parameter("second", pulumi.Output.concat("user:", first.value))
    jobs = queue(tags={"note": secret}, delaySeconds=1)
    pulumi.export("shown", secret)
    pulumi.export("inside", {"a": [secret]})
"""


def test_a_secret_reaches_aws_but_no_file_step_output_or_log(projects, caplog) -> None:
    """Arguments, and what is made of them, are stored and shown without their text, all life long."""
    engine = projects.engine(PROGRAM, password=CANARY)
    results = [engine.preview(), engine.up(), engine.up()]
    assert projects.parameter("/test/second") == f"user:{CANARY}"
    assert results[1].outputs == {"shown": "[secret]", "inside": {"a": ["[secret]"]}}
    assert results[2].summary() == {"same": 4}
    results.append(projects.engine(PROGRAM, password=f"{CANARY}-2").preview())
    assert {s.name: s.changed for s in results[3].steps if s.op == "update"} == {
        "first": ("value",),
        "second": ("value",),
        "jobs": ("tags",),
    }
    results.append(engine.destroy())
    told = repr(results) + caplog.text
    written = b"".join(path.read_bytes() for path in projects.state.parent.rglob("*") if path.is_file())
    assert "canary" not in told
    assert b"canary" not in written


def test_an_error_of_aws_is_told_without_the_secret_that_it_quotes(projects) -> None:
    """AWS quotes what it refuses; the message hides it."""
    engine = projects.engine('queue(redrivePolicy=pulumi.Output.secret("canary-no-json"))')
    with pytest.raises(ResourceFailedError) as caught:
        engine.up()
    assert "AWS refused CreateQueue" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_failing_program_is_told_without_the_secret_that_it_quotes(projects) -> None:
    """A traceback may hold what the wire has seen to be secret."""
    source = """
        def fail(arn):
            raise LookupError("canary-in-traceback")
        queue(tags={"note": pulumi.Output.secret("canary-in-traceback")}).arn.apply(fail)
    """
    with pytest.raises(ProgramError) as caught:
        projects.engine(source).up()
    assert "LookupError: [secret]" in str(caught.value)


def test_a_secret_cannot_be_what_identifies_a_resource(projects) -> None:
    """Names become ids, which are stored and shown."""
    with pytest.raises(ResourceFailedError, match="holds a secret") as caught:
        projects.engine('queue(name=pulumi.Output.secret("canary-name"))').up()
    assert "canary" not in str(caught.value)
    assert projects.queues() == []
    assert b"canary" not in projects.state.read_bytes()


def test_the_key_of_the_digests_is_for_its_owner_only(projects) -> None:
    """Who reads the state alone cannot even guess at a secret."""
    projects.engine('queue(tags={"note": pulumi.Output.secret("1234")})').up()
    key = projects.state.with_name("state.json.key")
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_bytes().hex() not in projects.state.read_text()
