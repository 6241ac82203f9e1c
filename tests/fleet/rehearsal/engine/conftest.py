"""A moto server, and small Pulumi projects that are applied to it."""

from __future__ import annotations

import logging
import shutil
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from moto.server import ThreadedMotoServer

from fleet.rehearsal.engine import PulumiEngine, Result

KIT = Path(__file__).with_name("kit.py")


class Projects:
    """A project of which only the program changes, and the AWS that it is applied to."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder / "project", url
        self.state = folder / "run" / "state.json"
        self.folder.mkdir()
        shutil.copy(KIT, self.folder)
        (self.folder / "Pulumi.yaml").write_text("name: small\nruntime: python\n")
        (self.folder / "Pulumi.test.yaml").write_text("config: {}\n")

    def engine(self, program: str, **config: str) -> PulumiEngine:
        source = "import pulumi\nfrom kit import *\n" + textwrap.dedent(program)
        (self.folder / "__main__.py").write_text(source)
        return PulumiEngine(self.folder, "test", endpoint_url=self.url, state_file=self.state, config=config)

    def client(self, service: str) -> Any:
        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def vpcs(self) -> list[dict[str, Any]]:
        return [vpc for vpc in self.client("ec2").describe_vpcs()["Vpcs"] if not vpc["IsDefault"]]

    def queues(self) -> list[str]:
        """Names, sorted."""
        urls = self.client("sqs").list_queues().get("QueueUrls", [])
        return sorted(url.rpartition("/")[2] for url in urls)

    def queue(self, name: str) -> dict[str, Any]:
        """Attributes of the one whose name begins so, and its tags."""
        sqs = self.client("sqs")
        (url,) = sqs.list_queues(QueueNamePrefix=name)["QueueUrls"]
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return {**attributes, "tags": sqs.list_queue_tags(QueueUrl=url).get("Tags", {})}

    def parameter(self, name: str) -> str:
        return str(self.client("ssm").get_parameter(Name=name)["Parameter"]["Value"])


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="session")
def fresh(moto_url: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Projects]:
    """Makes a project for an empty account."""

    def make() -> Projects:
        urllib3.request("POST", f"{moto_url}/moto-api/reset")
        return Projects(tmp_path_factory.mktemp("project"), moto_url)

    return make


@pytest.fixture
def projects(fresh: Callable[[], Projects]) -> Projects:
    return fresh()


def _ops(result: Result) -> dict[str, str]:
    return {step.name: step.op for step in result.steps if step.op != "same"}


@pytest.fixture(scope="session")
def ops() -> Callable[[Result], dict[str, str]]:
    """Name -> op, without what stays the same."""
    return _ops
