"""A run that is killed at any point is continued by the next one."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import select
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import urllib3

DRIVER = Path(__file__).with_name("driver.py")
PROGRAM = """
    net = vpc()
    gateway = Aws("ec2/internetGateway:InternetGateway", "gateway", {"vpcId": net.id})
    group = Aws("ec2/securityGroup:SecurityGroup", "group", {"vpcId": net.id, "description": "test"})
    rule = {"securityGroupId": group.id, "ipProtocol": "tcp", "fromPort": 80, "toPort": 80}
    rule["cidrIpv4"] = "0.0.0.0/0"
    Aws("vpc/securityGroupIngressRule:SecurityGroupIngressRule", "rule", rule)
    trust = {"Version": "2012-10-17", "Statement": []}
    role = Aws("iam/role:Role", "role", {"assumeRolePolicy": trust}, ("name",))
    Aws("iam/instanceProfile:InstanceProfile", "profile", {"role": role.name})
    queue()
    Aws("cloudwatch/logGroup:LogGroup", "logs", {"retentionInDays": 7})
"""
# Every process needs a moment only; a test that waits this long has failed.
DEADLINE_SECONDS = 60


class Hunter(ThreadingHTTPServer):
    """Passes calls on to moto, and kills `victim` when moto has made a change and before it hears so.

    Each change is fatal once: one that a later run may repeat must then get through.
    """

    daemon_threads = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.moto = url
        self.pool = urllib3.PoolManager(retries=False, maxsize=16)
        self.victim: BaseProcess | None = None
        self.unheard: list[str] = []
        self.seen: set[bytes] = set()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def kill(self, operation: str, body: bytes) -> bool:
        with self.lock:
            if body in self.seen:
                return False
            self.seen.add(body)
            self.unheard.append(operation)
            # None: killed by a change that was made at the same time.
            if self.victim is not None and self.victim.pid is not None:
                os.kill(self.victim.pid, signal.SIGKILL)
                self.victim = None
            return True


class Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hunter

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.server.pool.request(
            "POST", self.server.moto + self.path, body=body, headers=dict(self.headers)
        )
        operation = self.operation(body)
        if not operation.startswith(("Describe", "Get", "List")) and self.server.kill(operation, body):
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
        self.send_header("Content-Length", str(len(answer.data)))
        self.end_headers()
        self.wfile.write(answer.data)

    def operation(self, body: bytes) -> str:
        target = self.headers.get("X-Amz-Target", "")
        form = body.decode().partition("Action=")[2].partition("&")[0]
        return target.rpartition(".")[2] or form

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def hunter(moto_url) -> Iterator[Hunter]:
    server = Hunter(moto_url)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    server.pool.clear()
    thread.join(DEADLINE_SECONDS)


def start(projects, url: str, act: str) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fleet.rehearsal.engine"])
    given = {"FOLDER": str(projects.folder), "STATE": str(projects.state), "URL": url, "ACT": act}
    process = context.Process(target=runpy.run_path, args=(str(DRIVER), given))
    process.start()
    return process


def run(projects, hunter: Hunter, act: str) -> int | None:
    """The exit code of one act in a process that the hunter is after."""
    with hunter.lock:
        process = hunter.victim = start(projects, hunter.url, act)
    process.join(DEADLINE_SECONDS)
    assert process.exitcode is not None, "the run did not end"
    return process.exitcode


def run_until_it_ends(projects, hunter: Hunter, act: str) -> int:
    """How many changes were made in AWS that a run could not write down, for it was killed."""
    before = len(hunter.unheard)
    for _ in range(40):
        code = run(projects, hunter, act)
        if code == 0:
            return len(hunter.unheard) - before
        assert code == -signal.SIGKILL, hunter.unheard
    raise AssertionError(f"it never ended: {hunter.unheard}")


def account(projects) -> dict[str, int]:
    ec2, iam = projects.client("ec2"), projects.client("iam")
    groups = ec2.describe_security_groups()["SecurityGroups"]
    rules = ec2.describe_security_group_rules()["SecurityGroupRules"]
    return {
        "vpcs": len(projects.vpcs()),
        "gateways": len(ec2.describe_internet_gateways()["InternetGateways"]),
        "groups": sum(group["GroupName"].startswith("group-") for group in groups),
        "rules": sum(rule.get("FromPort") == 80 for rule in rules),
        "roles": len(iam.list_roles()["Roles"]),
        "profiles": len(iam.list_instance_profiles()["InstanceProfiles"]),
        "queues": len(projects.queues()),
        "logs": len(projects.client("logs").describe_log_groups()["logGroups"]),
    }


def test_an_up_and_a_destroy_killed_after_every_change_lose_and_double_nothing(projects, hunter) -> None:
    """Each creation, half-finished or not written down, is found again; each deletion is finished."""
    projects.engine(PROGRAM)
    assert run_until_it_ends(projects, hunter, "up") >= 8
    assert account(projects) == dict.fromkeys(account(projects), 1)
    state = json.loads(projects.state.read_text())
    assert [record["urn"] for record in state["resources"] if record["pending"]] == []
    vpc = projects.vpcs()[0]["VpcId"]
    host_names = projects.client("ec2").describe_vpc_attribute(VpcId=vpc, Attribute="enableDnsHostnames")
    assert host_names["EnableDnsHostnames"]["Value"]
    (gateway,) = projects.client("ec2").describe_internet_gateways()["InternetGateways"]
    assert [attached["VpcId"] for attached in gateway["Attachments"]] == [vpc]
    (profile,) = projects.client("iam").list_instance_profiles()["InstanceProfiles"]
    assert len(profile["Roles"]) == 1
    (logs,) = projects.client("logs").describe_log_groups()["logGroups"]
    assert logs["retentionInDays"] == 7
    assert run_until_it_ends(projects, hunter, "destroy") >= 8
    assert account(projects) == dict.fromkeys(account(projects), 0)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_a_program_ends_with_its_run(ending, projects) -> None:
    """Neither Ctrl-C nor a kill leaves a process behind, and the state can be used again."""
    pipe = projects.folder / "alive"
    os.mkfifo(pipe)
    projects.engine(
        f"""
        import threading
        alive = open({str(pipe)!r}, "w")
        print("x", file=alive, flush=True)
        threading.Event().wait()
        """
    )
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    process = start(projects, projects.url, "up")
    assert next_bytes(reader) == b"x\n"
    assert process.pid is not None
    os.kill(process.pid, ending)
    assert next_bytes(reader) == b""  # the program held the other end to its own end
    os.close(reader)
    process.join(DEADLINE_SECONDS)
    assert process.exitcode not in (0, None)
    projects.engine("").up()


def next_bytes(reader: int) -> bytes:
    readable, _, _ = select.select([reader], [], [], DEADLINE_SECONDS)
    assert readable, "nothing came"
    return os.read(reader, 100)


def test_what_a_killed_up_began_is_cleaned_up_when_the_program_drops_it(projects, hunter) -> None:
    """A creation that nobody wrote down goes with the next up, or with destroy."""
    projects.engine("vpc(); queue()")
    assert run(projects, hunter, "up") == -signal.SIGKILL
    assert run(projects, hunter, "up") == -signal.SIGKILL
    assert projects.vpcs()
    projects.engine("")
    assert run_until_it_ends(projects, hunter, "up") >= 1
    assert (projects.vpcs(), projects.queues()) == ([], [])


def test_a_killed_replacement_leaves_one_resource(projects, hunter) -> None:
    """The old one goes though the run that replaced it never came to that."""
    projects.engine("vpc()")
    run_until_it_ends(projects, hunter, "up")
    projects.engine('vpc(cidr="10.9.0.0/16")')
    assert run_until_it_ends(projects, hunter, "up") >= 2
    assert [vpc["CidrBlock"] for vpc in projects.vpcs()] == ["10.9.0.0/16"]
