"""Where a gateway learns its nodes from: a fixed list, a name in DNS, or a target group."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any, Protocol

from server.errors import DiscoveryFailed, SettingsError
from server.upstreams import Address

Found = dict[str, Address]
# The share by which an interval is stretched or shortened, so that gateways do not ask in step.
JITTER = 0.2
# A resolver that does not answer is given up sooner than it would give up itself.
_RESOLVE_S = 5.0

# A fixed list has commas of its own.
_NEXT_SOURCE = re.compile(r",(?=(?:static|dns|target-group):)")

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Source(Protocol):
    """Reads the node set. Raises DiscoveryFailed."""

    async def read(self) -> Found: ...


class StaticNodes:
    """`host:port,host:port`"""

    def __init__(self, listed: str) -> None:
        """Raises SettingsError."""
        self._found = {item: _address(item) for item in listed.split(",")}

    async def read(self) -> Found:
        return self._found


async def resolve(host: str, port: int) -> list[str]:
    """Every address of a name, of either family. Raises OSError."""
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in answers]


class DnsNodes:
    """`host:port`: every address of the name is a node. DNS knows no health: what fails is ejected."""

    def __init__(self, name: str, ask: Resolve = resolve) -> None:
        """Raises SettingsError."""
        self._host, self._port = _address(name)
        self._ask = ask

    async def read(self) -> Found:
        try:
            async with asyncio.timeout(_RESOLVE_S):
                addresses = await self._ask(self._host, self._port)
        except (OSError, UnicodeError, TimeoutError) as exc:
            raise DiscoveryFailed(
                f"cannot resolve {self._host}: {str(exc) or 'no answer'}; check the name and the resolver"
            ) from exc
        return {f"{address}:{self._port}": (address, self._port) for address in addresses}


class TargetGroupNodes:
    """The healthy targets of a target group, by instance id. AWS is asked in a thread."""

    def __init__(self, arn: str, region: str | None) -> None:
        self._arn = arn
        self._region = region
        self._clients: tuple[Any, Any] | None = None
        self._hosts: dict[str, str] = {}

    async def read(self) -> Found:
        return await asyncio.to_thread(self._read)

    def _read(self) -> Found:
        # Imported here: a node that has its engine beside it needs no AWS, and starts sooner without.
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            balancing, instances = self._clients = self._clients or self._open()
            answer = balancing.describe_target_health(TargetGroupArn=self._arn)
            healthy = healthy_targets(answer["TargetHealthDescriptions"])
            self._learn_hosts(instances, healthy)
        except (BotoCoreError, ClientError) as exc:
            raise DiscoveryFailed(
                f"cannot read target group {self._arn}: {type(exc).__name__}; check the role's permissions"
            ) from exc
        return {id_: (self._hosts[id_], port) for id_, port in healthy.items() if id_ in self._hosts}

    def _open(self) -> tuple[Any, Any]:
        import boto3
        from botocore.config import Config

        config = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "max_attempts": 2})
        session = boto3.session.Session(region_name=self._region)
        return session.client("elbv2", config=config), session.client("ec2", config=config)

    def _learn_hosts(self, instances: Any, healthy: Mapping[str, int]) -> None:
        """An instance's address never changes, so only new ones are looked up."""
        unknown = [id_ for id_ in healthy if id_ not in self._hosts]
        if not unknown:
            return
        # A filter, unlike InstanceIds, does not fail for an instance that has just gone.
        pages = instances.get_paginator("describe_instances").paginate(
            Filters=[{"Name": "instance-id", "Values": unknown}]
        )
        self._hosts = {id_: host for id_, host in self._hosts.items() if id_ in healthy} | hosts(pages)


def healthy_targets(descriptions: list[Any]) -> dict[str, int]:
    """Instance id to port of the targets that pass their health checks."""
    return {
        item["Target"]["Id"]: int(item["Target"]["Port"])
        for item in descriptions
        if item["TargetHealth"]["State"] == "healthy"
    }


def hosts(pages: Any) -> dict[str, str]:
    return {
        instance["InstanceId"]: instance["PrivateIpAddress"]
        for page in pages
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
        if "PrivateIpAddress" in instance
    }


def open_sources(nodes: str, region: str | None) -> list[Source]:
    """A source for each of `kind:value,kind:value`. Raises SettingsError."""
    return [open_source(each, region) for each in _NEXT_SOURCE.split(nodes)]


def open_source(nodes: str, region: str | None) -> Source:
    """`static:...`, `dns:...` or `target-group:ARN`. Raises SettingsError."""
    kind, _, value = nodes.partition(":")
    if kind == "static":
        return StaticNodes(value)
    if kind == "dns":
        return DnsNodes(value)
    if kind == "target-group":
        return TargetGroupNodes(value, region)
    raise SettingsError(
        f"setting nodes: unknown kind {kind!r}; use static:host:port, dns:host:port or target-group:ARN"
    )


async def watch(
    source: Source,
    found: Callable[[Found], None],
    failed: Callable[[DiscoveryFailed], None],
    *,
    interval_s: float,
    rng: Random,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Reads the node set for ever; where that fails, the last good set stays."""
    while True:
        try:
            found(await source.read())
        except DiscoveryFailed as exc:
            failed(exc)
        # A surprise in one look must not freeze the set unseen: it is told like any other failure.
        except Exception as exc:  # noqa: BLE001
            failed(DiscoveryFailed(f"cannot read the nodes: {type(exc).__name__}; this is a bug, report it"))
        await sleep(interval_s * rng.uniform(1 - JITTER, 1 + JITTER))


def _address(item: str) -> Address:
    host, _, port = item.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise SettingsError(f"setting nodes: {item!r} is not host:port")
    return host.strip("[]"), int(port)
