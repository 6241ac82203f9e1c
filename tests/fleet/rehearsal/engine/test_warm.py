"""Programs that run in forks of a warm process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fleet.rehearsal.engine import ProgramError, PulumiEngine, WarmHost


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmHost]:
    with WarmHost() as host:
        yield host


def engine(projects, warm: WarmHost, program: str, **config: str) -> PulumiEngine:
    projects.engine(program)
    return PulumiEngine(
        projects.folder,
        "test",
        endpoint_url=projects.url,
        state_file=projects.state,
        config=config,
        warm=warm,
    )


def test_every_run_has_its_own_world(projects, warm, monkeypatch) -> None:
    """Arguments, environment and what a program changed of its modules are not the next one's."""
    program = """
        import os
        pulumi.marked = getattr(pulumi, "marked", 0) + 1
        told = [pulumi.Config().require("size"), os.environ.get("MARK"), pulumi.marked, os.getcwd()]
        pulumi.export("told", told)
        queue("jobs")
    """
    here = str(projects.folder)
    first = engine(projects, warm, program, size="1").up()
    assert first.outputs == {"told": ["1", None, 1, here]}
    monkeypatch.setenv("MARK", "x")
    second = engine(projects, warm, program, size="2").up()
    assert second.outputs == {"told": ["2", "x", 1, here]}
    assert second.summary() == {"same": 2}
    assert len(projects.queues()) == 1


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("raise LookupError('no such tier')", r"(?s)__main__.py.*LookupError: no such tier"),
        ("import os; os._exit(3)", "the Pulumi program failed"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended by signal 9"),
        ("import os; os.write(1, b'last words'); os._exit(1)", "last words"),
    ],
)
def test_a_failing_program_is_told_and_the_next_one_runs(program, told, projects, warm) -> None:
    """Its end, whichever it was, is not the warm process's."""
    with pytest.raises(ProgramError, match=told):
        engine(projects, warm, program).preview()
    assert engine(projects, warm, "").preview().summary() == {"create": 1}


def test_what_a_program_imports_of_the_sdk_is_there_for_the_next(projects, warm) -> None:
    """And nothing else is: a module of the program's own is read anew."""
    program = """
        import sys
        there = [name in sys.modules for name in ("pulumi_aws.sqs", "mine")]
        import mine, pulumi_aws
        pulumi_aws.sqs.Queue
        pulumi.export("there", there)
    """
    made = engine(projects, warm, program)
    (projects.folder / "mine.py").write_text("")
    seen = [made.preview().outputs["there"] for _ in range(2)]
    assert seen == [[False, False], [True, False]]


def test_a_host_that_was_killed_is_an_error_of_the_run(projects) -> None:
    """And nothing hangs."""
    with WarmHost() as host:
        host.kill()
        for _ in range(2):
            with pytest.raises(ProgramError, match="has ended"):
                engine(projects, host, "").preview()


def test_a_host_may_import_before_it_is_asked(projects) -> None:
    """While its owner does something else."""
    program = """
        import sys
        pulumi.export("there", "pulumi_aws.sqs.queue" in sys.modules)
    """
    with WarmHost(["pulumi_aws.sqs"]) as host:
        assert engine(projects, host, program).preview().outputs == {"there": True}
