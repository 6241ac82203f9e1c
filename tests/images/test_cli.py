import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner, Result
from moto import mock_aws

from images.cli import images
from images.clock import SystemClock
from images.run import PARKED, new_run
from tests.images.aws.layer import FakeClock, Layer, installed

REGION = "us-east-1"
POINTER = "/goldenfleet/lab/image/gateway-cpu"
Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    return lambda *arguments, **kwargs: CliRunner().invoke(images, list(arguments), **kwargs)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        yield


def publish(name: str, *, manifest: bool = True) -> str:
    """An image of gateway-cpu in channel dev, as a bake leaves it."""
    from images.aws import Aws
    from images.builders import Image
    from images.channels import Channels
    from images.clock import SystemClock

    ec2 = boto3.client("ec2", REGION)
    image_id = ec2.register_image(Name=name, RootDeviceName="/dev/sda1")["ImageId"]
    ec2.create_tags(Resources=[image_id], Tags=[{"Key": "goldenfleet:image", "Value": "gateway-cpu"}])
    channels = Channels(Aws(REGION), "lab", SystemClock())
    channels.publish("gateway-cpu", Image(image_id, name, region=REGION), b"{}", "published by a test")
    if not manifest:
        channels.forget(image_id)
    return str(image_id)


def test_an_unknown_recipe_is_a_usage_error_that_lists_the_known(run: Run) -> None:
    """Exit code 2; nothing on stdout; the recipes that come with it are named."""
    result = run("plan", "nope")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "rehearsal" in result.stderr


@pytest.mark.parametrize(
    "recipe", ["gateway-cpu", "model-cpu-llama", "model-gpu-tgi", "model-gpu-vllm", "rehearsal"]
)
def test_every_recipe_that_comes_with_it_is_planned(run: Run, recipe: str) -> None:
    """The plan is JSON with steps that take time."""
    result = run("plan", recipe, "--json")
    assert result.exit_code == 0, result.stderr
    assert sum(step["seconds"] for step in json.loads(result.stdout)["steps"]) > 0


def test_a_dry_run_bakes_nothing(run: Run, tmp_path: Path) -> None:
    """`bake --dry-run` prints the plan and makes no run."""
    result = run("bake", "gateway-cpu", "--dry-run", "--state", str(tmp_path))
    assert result.exit_code == 0
    assert "in all" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [(), ("gateway-cpu", "--resume", "20260101-000000-aaaaaa")])
def test_a_bake_wants_a_recipe_or_a_run(run: Run, arguments: tuple[str, ...]) -> None:
    """Neither and both are usage errors."""
    assert run("bake", *arguments).exit_code == 2


@pytest.mark.usefixtures("account")
def test_an_unknown_run_is_not_found(run: Run, tmp_path: Path) -> None:
    """Resuming a run that this machine does not know is exit code 6 with a hint."""
    result = run("bake", "--resume", "20260101-000000-aaaaaa", "--state", str(tmp_path))
    assert result.exit_code == 6
    assert "--state" in result.stderr


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("subnet = 'subnet-1'", "subnet"),
        ("share_accounts = ['123456789012']", "kms_key_id"),
        ("region =", "not TOML"),
    ],
)
def test_bad_settings_are_refused_by_their_key(run: Run, tmp_path: Path, content: str, said: str) -> None:
    """Unknown keys, impossible sharing and broken TOML are one line that names them, and exit code 2."""
    file = tmp_path / "ec2.toml"
    file.write_text(content)
    result = run("bake", "gateway-cpu", "--settings", str(file), "--state", str(tmp_path))
    assert result.exit_code == 2
    assert said in result.stderr


def test_without_a_region_the_hint_says_how_to_name_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """No region anywhere is an error before any call."""
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    result = run("list")
    assert result.exit_code == 1
    assert "--region" in result.stderr


@pytest.mark.usefixtures("account")
def test_channels_are_listed_promoted_and_rolled_back(run: Run) -> None:
    """promote copies dev's image to stage; rollback goes back to the one before; history tells why."""
    first = publish("first")
    assert run("promote", "gateway-cpu", "dev", "stage", "--stack", "lab", "--yes").exit_code == 0
    second = publish("second")
    run("promote", "gateway-cpu", "dev", "stage", "--stack", "lab", "--yes")
    rolled = run("rollback", "gateway-cpu", "stage", "--stack", "lab", "--yes", "--json")
    assert json.loads(rolled.stdout)[0]["image_id"] == first
    listed = json.loads(run("list", "--stack", "lab", "--json").stdout)
    assert {one["channel"]: one["image_id"] for one in listed} == {"dev": second, "stage": first}
    assert f"rolled back from {second}" in run("history", "gateway-cpu", "stage", "--stack", "lab").stdout


@pytest.mark.usefixtures("account")
def test_a_dry_promotion_moves_nothing(run: Run) -> None:
    """--dry-run tells what would be, and the channel stays as it is."""
    publish("first")
    assert run("promote", "gateway-cpu", "dev", "prod", "--stack", "lab", "--dry-run").exit_code == 0
    assert run("show", "gateway-cpu", "prod", "--stack", "lab").exit_code == 6


@pytest.mark.usefixtures("account")
def test_another_stack_takes_an_image(run: Run) -> None:
    """Only with a yes, and a dry run tells the same; by channel or id, and an unknown stack is not found."""
    image_id = publish("first")
    given = ("--from-stack", "lab", "--stack", "shop")
    assert run("promote", "gateway-cpu", "dev", "prod", *given).exit_code == 2
    told = run("promote", "gateway-cpu", "dev", "prod", *given, "--dry-run", "--json")
    assert run("list", "--stack", "shop").stdout == ""
    done = run("promote", "gateway-cpu", image_id, "prod", *given, "--yes", "--json")
    (first,), (second,) = json.loads(told.stdout), json.loads(done.stdout)
    assert (first["image_id"], first["why"]) == (second["image_id"], second["why"])
    assert (second["image_id"], second["why"]) == (image_id, "promoted from dev version 1 of stack lab")
    assert run("show", "gateway-cpu", "prod", "--stack", "shop", "--manifest").stdout == "{}"
    unknown = run("promote", "gateway-cpu", "dev", "prod", "--from-stack", "lap", "--stack", "shop", "--yes")
    assert (unknown.exit_code, "/goldenfleet/lap/" in unknown.stderr) == (6, True)


@pytest.mark.usefixtures("account")
def test_nothing_moves_without_a_terminal_or_yes(run: Run) -> None:
    """A question that nobody can answer is a usage error, and the channel stays."""
    publish("first")
    assert run("promote", "gateway-cpu", "dev", "prod", "--stack", "lab").exit_code == 2
    assert run("show", "gateway-cpu", "prod", "--stack", "lab").exit_code == 6


@pytest.mark.usefixtures("account")
def test_an_image_without_its_manifest_is_not_promoted(run: Run) -> None:
    """What nobody can say the content of goes to no further channel."""
    publish("first", manifest=False)
    result = run("promote", "gateway-cpu", "dev", "prod", "--stack", "lab", "--yes")
    assert result.exit_code == 1
    assert "manifest" in result.stderr


@pytest.mark.usefixtures("account")
def test_a_sweep_tells_and_removes_nothing_by_default(run: Run, tmp_path: Path) -> None:
    """A published image stays, and the verdict says what refers to it."""
    image_id = publish("first")
    boto3.client("ec2", REGION).create_tags(
        Resources=[image_id], Tags=[{"Key": "goldenfleet:run", "Value": "20260101-000000-aaaaaa"}]
    )
    with installed(Layer(FakeClock())):
        result = run("sweep", "--state", str(tmp_path))
    assert result.exit_code == 0, result.stderr
    assert f"keep image {image_id}" in result.stdout
    assert POINTER in result.stdout


def test_a_dry_run_tells_the_plan_to_programs_too(run: Run, tmp_path: Path) -> None:
    """--dry-run --json is the plan as `plan --json` gives it."""
    dry = run("bake", "rehearsal", "--on", "local", "--dry-run", "--json", "--state", str(tmp_path))
    assert json.loads(dry.stdout) == json.loads(run("plan", "rehearsal", "--on", "local", "--json").stdout)


@pytest.fixture
def parked(tmp_path: Path, make_recipe) -> str:
    """A local run that stopped once its machine was clean."""
    made = new_run(tmp_path / "runs", make_recipe(), "lab", SystemClock(), random.Random(1), "local")
    made.ledger.intend("disk", "builder", path=str(made.directory / "builder"))
    made.ledger.stage("clean")
    made.ledger.ended(PARKED)
    return made.id


def test_a_dry_resume_tells_what_is_done_and_does_nothing(run: Run, tmp_path: Path, parked: str) -> None:
    """What need not be done again, and what the run has made; no entry is added."""
    ledger = tmp_path / "runs" / parked / "ledger.jsonl"
    before = ledger.read_bytes()
    told = run("bake", "--resume", parked, "--dry-run", "--state", str(tmp_path))
    assert told.exit_code == 0
    assert "done: clean" in told.stdout
    assert "made: disk builder" in told.stdout
    listed = json.loads(
        run("bake", "--resume", parked, "--dry-run", "--json", "--state", str(tmp_path)).stdout
    )
    assert (listed["on"], listed["done"], listed["made"][0]["name"]) == ("local", ["clean"], "builder")
    assert ledger.read_bytes() == before


@pytest.mark.usefixtures("account")
def test_a_run_is_not_resumed_elsewhere(run: Run, tmp_path: Path, parked: str) -> None:
    """--on must say where the run was begun, if it says anything."""
    (tmp_path / "ec2.toml").write_text(f'region = "{REGION}"\n')
    result = run(
        "bake",
        "--resume",
        parked,
        "--on",
        "ec2",
        "--state",
        str(tmp_path),
        "--settings",
        str(tmp_path / "ec2.toml"),
    )
    assert result.exit_code == 6
    assert "--on local" in result.stderr


def test_a_sweep_of_this_machine_asks_nobody_else(
    run: Run, tmp_path: Path, parked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a region or an account: a parked run is told, and goes when it is named."""
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    here = ("--on", "local", "--state", str(tmp_path))
    (verdict,) = [
        verdict for verdict in json.loads(run("sweep", "--json", *here).stdout) if verdict["resource"]["run"]
    ]
    assert (verdict["keep"], verdict["resource"]["kind"]) == (True, "disk")
    assert run("sweep", "--run", parked, "--apply", *here).exit_code == 2
    assert run("sweep", "--run", parked, "--apply", "--yes", *here).exit_code == 0
    assert run("bake", "--resume", parked, "--on", "local", "--state", str(tmp_path)).exit_code == 6
    assert "--on local" in run("sweep", "--state", str(tmp_path)).stderr


def test_what_is_missing_here_is_said_before_a_run_begins(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a host without the programs of virtual machines: a line that installs them, and no run."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("images.machines.tools._SBIN", ())
    result = run("bake", "rehearsal", "--on", "local", "--state", str(tmp_path))
    assert result.exit_code == 1
    assert "apt-get install" in result.stderr
    assert not (tmp_path / "runs").exists()
