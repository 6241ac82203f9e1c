"""The instance metadata service, version 2, of every instance: http://127.0.x.y:1338.

Contents and status codes follow AWS's "Instance metadata categories" and "Use IMDSv2" pages.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable

from aiohttp import web

from fleet.rehearsal.cloud.addresses import METADATA_PORT
from fleet.rehearsal.cloud.loop import LoopThread
from fleet.rehearsal.cloud.records import Machine
from fleet.rehearsal.cloud.views import Clock
from fleet.rehearsal.cloud.world import ACCOUNT, REGION, time_text

_TOKEN_HEADER = "X-aws-ec2-metadata-token"  # noqa: S105  a header's name
_TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
_TTL_BOUNDS = (1, 21600)
_CREDENTIAL_SECONDS = 6 * 3600.0


def endpoint(machine: Machine) -> str:
    return f"http://{machine.lease.address}:{METADATA_PORT}"


class MetadataServers:
    """One server an instance, all on one asyncio thread."""

    def __init__(self, loop: LoopThread, clock: Clock) -> None:
        self._loop, self._clock = loop, clock
        self._runners: dict[str, web.AppRunner] = {}

    def open(self, machine: Machine) -> None:
        """Serve the instance's metadata on the socket of its lease; ready on return. Whoever was stopped has
        kept its address, and its metadata with it.
        """
        if self.serves(machine.id):
            return
        self._loop.submit(self._open(machine)).result()

    def serves(self, instance_id: str) -> bool:
        return instance_id in self._runners

    def close(self, instance_id: str) -> None:
        """End the instance's server and its connections; its port is free on return."""
        self._loop.submit(self._close(instance_id)).result()

    def close_all(self) -> None:
        for instance_id in list(self._runners):
            self.close(instance_id)

    async def _open(self, machine: Machine) -> None:
        app = web.Application()
        service = MetadataService(machine, self._clock)
        app.router.add_put("/latest/api/token", service.token)
        app.router.add_get("/{path:.*}", service.get)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0)
        await runner.setup()
        await web.SockSite(runner, machine.lease.socket).start()
        self._runners[machine.id] = runner

    async def _close(self, instance_id: str) -> None:
        runner = self._runners.pop(instance_id, None)
        if runner is not None:
            await runner.cleanup()


class MetadataService:
    """Answers for one instance. It reads the machine's plain attributes only, so it needs no lock."""

    def __init__(self, machine: Machine, clock: Clock) -> None:
        self._machine, self._clock = machine, clock
        self._tokens: dict[str, float] = {}

    async def token(self, request: web.Request) -> web.Response:
        if "X-Forwarded-For" in request.headers:
            return _text("", 403)
        lifetime = request.headers.get(_TTL_HEADER, "")
        if not lifetime.isdecimal() or not _TTL_BOUNDS[0] <= int(lifetime) <= _TTL_BOUNDS[1]:
            return _text("", 400)
        now = self._clock()
        self._tokens = {token: end for token, end in self._tokens.items() if end > now}
        token = secrets.token_urlsafe(40)
        self._tokens[token] = now + int(lifetime)
        return _text(token, headers={_TTL_HEADER: lifetime})

    async def get(self, request: web.Request) -> web.Response:
        options = self._machine.instance.metadata_options
        if options.http_endpoint == "disabled":
            return _text("", 403)
        token = request.headers.get(_TOKEN_HEADER)
        if token is None and options.http_tokens == "required":
            return _text("", 401)
        if token is not None and self._tokens.get(token, 0.0) <= self._clock():
            return _text("", 401)
        body = metadata(self._machine, request.match_info["path"].rstrip("/"), self._clock())
        return _text("", 404) if body is None else _text(body)


def metadata(machine: Machine, path: str, now: float) -> str | None:
    """The body at a path below the root; None where AWS answers 404."""
    root, _, rest = path.partition("/latest/" if path.startswith("/") else "latest/")
    if root:
        return None
    if rest == "user-data":
        return user_data(machine) or None
    if rest == "dynamic/instance-identity/document":
        return json.dumps(_identity(machine), indent=2)
    if rest.startswith("meta-data/tags/instance"):
        return _tag(machine, rest.removeprefix("meta-data/tags/instance").lstrip("/"))
    if rest.startswith("meta-data/iam/"):
        return _credentials(machine, rest.removeprefix("meta-data/iam/"), now)
    answer = _ANSWERS.get(rest.removeprefix("meta-data/")) if rest.startswith("meta-data/") else None
    return answer(machine) if answer else None


def user_data(machine: Machine) -> str:
    data = machine.instance.user_data
    return "" if data is None else str(data.decode())


def _instance_action(machine: Machine) -> str | None:
    if machine.taken_at is None:
        return None
    return json.dumps({"action": "terminate", "time": time_text(machine.taken_at)})


def _termination_time(machine: Machine) -> str | None:
    return None if machine.taken_at is None else time_text(machine.taken_at)


def _rebalance(machine: Machine) -> str | None:
    if machine.rebalance_at is None:
        return None
    return json.dumps({"noticeTime": time_text(machine.rebalance_at)})


_ANSWERS: dict[str, Callable[[Machine], str | None]] = {
    "ami-id": lambda m: str(m.instance.image_id),
    "instance-id": lambda m: m.id,
    "instance-life-cycle": lambda m: m.option,
    "instance-type": lambda m: str(m.instance.instance_type),
    "local-ipv4": lambda m: m.lease.address,
    "placement/availability-zone": lambda m: m.pool.availability_zone,
    "placement/region": lambda _m: REGION,
    "services/domain": lambda _m: "amazonaws.com",
    "spot/instance-action": _instance_action,
    "spot/termination-time": _termination_time,
    "events/recommendations/rebalance": _rebalance,
    "events/maintenance/scheduled": lambda _m: "[]",
    "autoscaling/target-lifecycle-state": lambda m: m.target_lifecycle_state,
}


def _identity(machine: Machine) -> dict[str, object]:
    return {
        "accountId": ACCOUNT,
        "architecture": machine.instance.architecture,
        "availabilityZone": machine.pool.availability_zone,
        "billingProducts": None,
        "imageId": machine.instance.image_id,
        "instanceId": machine.id,
        "instanceType": machine.instance.instance_type,
        "pendingTime": time_text(machine.launched_at),
        "privateIp": machine.lease.address,
        "region": REGION,
        "version": "2017-09-30",
    }


def _tag(machine: Machine, key: str) -> str | None:
    if machine.instance.metadata_options.instance_metadata_tags != "enabled":
        return None
    tags: dict[str, str] = dict(machine.instance.ec2_backend.tags.get(machine.id, {}))
    return "\n".join(sorted(tags)) if not key else tags.get(key)


def _credentials(machine: Machine, rest: str, now: float) -> str | None:
    """Keys of the instance's role: moto accepts any, so these are plainly made up."""
    if machine.role is None:
        return None
    if rest in ("security-credentials", "security-credentials/"):
        return machine.role
    if rest != f"security-credentials/{machine.role}":
        return None
    return json.dumps(
        {
            "Code": "Success",
            "LastUpdated": time_text(now),
            "Type": "AWS-HMAC",
            "AccessKeyId": "ASIAREHEARSAL0000000",
            "SecretAccessKey": "rehearsal",
            "Token": f"rehearsal-{machine.id}",
            "Expiration": time_text(now + _CREDENTIAL_SECONDS),
        },
        indent=2,
    )


def _text(body: str, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(text=body, status=status, headers=headers)
