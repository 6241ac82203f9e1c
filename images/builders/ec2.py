"""The EC2 builder: one run's machines and its image, each made once however often it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from images.aws import Aws, translated
from images.builders import Booted, Image
from images.builders.ec2_access import console_text, key_pair, local_key, own_cidr, security_group, user_data
from images.builders.ec2_base import base_image, place
from images.builders.ec2_discard import discard
from images.builders.ec2_disk import forbidden_on
from images.builders.ec2_image import make_image
from images.builders.ec2_inventory import inventory
from images.builders.ec2_launch import Request, candidates, launch
from images.builders.ec2_materials import materials
from images.builders.ec2_release import release
from images.builders.ec2_settings import Ec2Settings
from images.builders.ec2_tunnel import Tunnel, shell_command
from images.builders.ec2_volume import device_path, empty_volume, restored_volume
from images.clock import Clock
from images.errors import BuilderError
from images.remote import Login, Remote
from images.run import HOST_KEY, KEY, Run, forget_keys
from images.steps import Command, Materials

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

Connect = Callable[[Login, float, Clock], Remote]

_LOGIN_LIMIT_S = 900.0
_SSH = 22


class Ec2Builder:
    name: Literal["ec2"] = "ec2"

    def __init__(self, aws: Aws, settings: Ec2Settings, connect: Connect) -> None:
        self._aws = aws
        self._settings = settings
        self._connect = connect
        self._tunnels: list[Tunnel] = []

    def start(self, run: Run) -> Remote:
        """Raises NoCapacity, AwsRefused, or a RemoteError when the machine does not let us in."""
        base = base_image(self._aws, run)
        request = self._request(run, "builder", base.id, base.root_device)
        request = replace(request, data=empty_volume(run.recipe, base))
        wanted = run.recipe.builder
        return self._login(
            run, self._launched(run, request, wanted.instance_types, wanted.purchase), base.user
        )

    def materials(self, run: Run) -> Materials:
        return replace(materials(self._aws, run), weights_device=device_path(self._aws, run))

    def base(self, run: Run) -> str:
        return base_image(self._aws, run).id

    def closing(self) -> tuple[Command, ...]:
        # The machine's own deadline must not fall into the stop: powering off would terminate it.
        return (Command("shutdown -c", sudo=True, timeout_s=30),)

    def image(self, run: Run) -> Image:
        return make_image(self._aws, run, self._settings.wait_limit_s)

    def boot(self, run: Run, image: Image) -> Booted:
        """A node of the types that the fleet will launch, on demand first: it lives for minutes."""
        asked_at = None if run.ledger.find("instance", "node") else run.clock.now()
        base = base_image(self._aws, run)
        request = self._request(run, "node", image.id, base.root_device)
        request = replace(request, stoppable=False, data=restored_volume(image))
        instance = self._launched(run, request, run.recipe.launch_instance_types, ("on-demand", "spot"))
        remote = self._login(run, instance, base.user)
        return replace(self._reached(instance), asked_at=asked_at, remote=remote)

    def forbidden(self, run: Run, image: Image, booted: Booted) -> tuple[str, ...]:
        if booted.remote is None:
            raise BuilderError("the node has no shell to look at its image's disk from", "resume the run")
        return forbidden_on(self._aws, run, image, booted.remote)

    def evidence(self, run: Run) -> Mapping[str, bytes]:
        """Console output, as far as EC2 still has it, and what stands."""
        machines = [found for found in inventory(self._aws, run.id) if found.kind == "instance"]
        outputs = {f"console-{machine.part}.log": self._console(machine.id) for machine in machines}
        return {**outputs, "standing.txt": "\n".join(self.left(run)).encode()}

    def release(self, run: Run, image: Image) -> Image:
        return release(self._aws, run, image, self._settings)

    def discard(self, run: Run, *, keep_image: bool) -> None:
        for tunnel in self._tunnels:
            tunnel.close()
        self._tunnels.clear()
        regions = (self._settings.region, *(copy.region for copy in self._settings.copies))
        discard([self._aws.at(region) for region in regions], run, keep_image=keep_image)
        forget_keys(run)

    def left(self, run: Run) -> tuple[str, ...]:
        return tuple(str(resource) for resource in run.ledger.standing)

    def _request(self, run: Run, part: str, image_id: str, root_device: str) -> Request:
        settings = self._settings
        cidr = own_cidr(settings.address_url, settings.our_address) if settings.reach == "address" else None
        host_key = local_key(run, HOST_KEY)
        key_name = key_pair(self._aws, run, local_key(run, KEY))
        where = place(self._aws, settings.subnets)
        return Request(
            part=part,
            image_id=image_id,
            root_device=root_device,
            disk=run.recipe.disk,
            subnets=where.subnets,
            key_name=key_name,
            group_id=security_group(self._aws, run, where.vpc_id, cidr, (settings.node_port,)),
            user_data=user_data(host_key, settings.guest_deadline_minutes),
            public=settings.public,
            stoppable=True,
            instance_profile=settings.instance_profile,
            kms_key_id=settings.kms_key_id,
        )

    def _launched(
        self,
        run: Run,
        request: Request,
        types: Sequence[str],
        purchase: Sequence[Literal["on-demand", "spot"]],
    ) -> InstanceTypeDef:
        return launch(self._aws, run, request, candidates(types, purchase, request.subnets))

    def _login(self, run: Run, instance: InstanceTypeDef, user: str) -> Remote:
        over_ssm = self._settings.reach == "ssm"
        login = Login(
            host=instance["InstanceId"] if over_ssm else self._address(instance),
            port=_SSH,
            user=user,
            private_key=local_key(run, KEY).private,
            host_key=local_key(run, HOST_KEY).public,
            proxy_command=shell_command(self._aws.region, instance["InstanceId"]) if over_ssm else None,
        )
        return self._connect(login, run.clock.now() + _LOGIN_LIMIT_S, run.clock)

    def _reached(self, instance: InstanceTypeDef) -> Booted:
        port = self._settings.node_port
        if self._settings.reach == "address":
            return Booted(self._address(instance), {port: port}, asked_at=None)
        tunnel = Tunnel(self._aws.region, instance["InstanceId"], port)
        self._tunnels.append(tunnel)
        return Booted("127.0.0.1", {port: tunnel.local_port}, asked_at=None)

    def _address(self, instance: InstanceTypeDef) -> str:
        kind: Literal["PublicIpAddress", "PrivateIpAddress"] = (
            "PublicIpAddress" if self._settings.public else "PrivateIpAddress"
        )
        if not instance.get(kind):
            raise BuilderError(
                f"{instance['InstanceId']} has no {'public' if self._settings.public else 'private'} address",
                "name public subnets, or set public = false or reach = ssm",
            )
        return instance[kind]

    def _console(self, instance_id: str) -> bytes:
        with translated(f"reading the console of {instance_id}"):
            return console_text(self._aws.ec2.get_console_output(InstanceId=instance_id).get("Output", ""))
