"""What AWS does and moto 5.2.5 does not: things take time, are hidden when new, run out, and are refused.

Sits between moto's HTTP side and its EC2 model, so that it works in the process and behind moto's server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import camelcase_to_underscores
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.responses import EC2Response

from tests.images.aws.layer_parts import (
    ABSENT_CODES,
    Call,
    FakeClock,
    Fault,
    Lags,
    SpotRequest,
    id_of,
    iso,
    matches,
    of_image,
    of_machine,
    only_instance,
    plain_answer,
    set_state,
    snapshots_below,
    strings,
    tag_map,
    tags_for,
)

MOTO_VERSION = "5.2.5"
ACCOUNT = "123456789012"


@dataclass
class Layer:
    clock: FakeClock
    lags: Lags = field(default_factory=Lags)
    faults: list[Fault] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    image_fails: str = ""
    """StateReason with which the next images end as failed."""
    defects: list[str] = field(default_factory=list)
    """What would have leaked or cost money at the real AWS, and has no trace in moto."""
    hidden_until: dict[str, float] = field(default_factory=dict)
    changes: dict[str, tuple[float, str, str]] = field(default_factory=dict)
    """Resource -> when it changes, its state until then, its state afterwards."""
    tokens: dict[tuple[str, str, str], tuple[str, ActionResult]] = field(default_factory=dict)
    spot: dict[str, SpotRequest] = field(default_factory=dict)

    def answer(self, response: Any, action: str, plain: Callable[[], Any] | None) -> Any:
        """What AWS would answer to `action`; `plain` is moto's own."""
        self.clock.sleep(self.lags.a_call)
        params = dict(response.params)
        self.calls.append(Call(action, response.region, params))
        self._inject(action, params)
        self._refuse_hidden(params)
        self._advance(response.ec2_backend)
        special = getattr(self, f"_{action}", None)
        result = special(response, params, plain) if special else plain_answer(action, plain)
        return self._without_hidden(result)

    # --- faults and time

    def _inject(self, action: str, params: Mapping[str, Any]) -> None:
        for fault in self.faults:
            if fault.action == action and fault.times > 0 and fault.when(params):
                fault.times -= 1
                raise EC2ClientError(fault.code, fault.message)

    def _hide(self, resource_id: str) -> None:
        self.hidden_until[resource_id] = self.clock.now() + self.lags.hidden

    def _is_hidden(self, resource_id: str) -> bool:
        return self.hidden_until.get(resource_id, 0) > self.clock.now()

    def _refuse_hidden(self, params: Any) -> None:
        for value in strings(params):
            prefix = next((prefix for prefix in ABSENT_CODES if value.startswith(prefix)), None)
            if prefix and self._is_hidden(value):
                raise EC2ClientError(ABSENT_CODES[prefix], f"The ID '{value}' does not exist")

    def _without_hidden(self, result: Any) -> Any:
        if not isinstance(result, ActionResult) or not isinstance(result.result, dict):
            return result
        shown = dict(result.result)
        for key in ("Images", "Snapshots", "KeyPairs", "SecurityGroups", "Volumes", "SpotInstanceRequests"):
            if key in shown:
                shown[key] = [each for each in shown[key] if not self._is_hidden(id_of(each))]
        if "Reservations" in shown:
            shown["Reservations"] = [
                each for each in shown["Reservations"] if not self._is_hidden(each.instances[0].id)
            ]
        return ActionResult(shown)

    def _change(self, resource_id: str, after_s: float, before: str, then: str) -> None:
        self.changes[resource_id] = (self.clock.now() + after_s, before, then)

    def _advance(self, backend: EC2Backend) -> None:
        for resource_id, (at, before, then) in self.changes.items():
            set_state(backend, resource_id, before if self.clock.now() < at else then)

    # --- instances

    def _run_instances(self, response: Any, params: Any, plain: Callable[[], Any]) -> Any:
        return self._once(response, "run_instances", params, lambda: self._launch(response, params, plain))

    def _launch(self, response: Any, params: Any, plain: Callable[[], Any]) -> Any:
        result = plain()
        instance = only_instance(result)
        instance.state_reason = None
        self._hide(instance.id)
        self._change(instance.id, self.lags.starting, "pending", "running")
        for mapping in instance.block_device_mapping.values():
            self._hide(mapping.volume_id)
        market = params.get("InstanceMarketOptions", {})
        if market.get("MarketType") == "spot":
            options = market.get("SpotOptions", {})
            request = SpotRequest(
                f"sir-{instance.id[2:10]}",
                instance.id,
                options.get("SpotInstanceType") == "persistent",
                tags_for(params, "spot-instances-request"),
            )
            self.spot[request.id] = request
        image = response.ec2_backend.amis.get(params["ImageId"])
        if image is not None:
            image.last_launched_time = iso(self.clock.now())
        return result

    def _stop_instances(self, response: Any, params: Any, plain: Callable[[], Any]) -> Any:
        one_time = {each.instance_id for each in self.spot.values() if not each.persistent}
        if one_time & set(params["InstanceIds"]):
            raise EC2ClientError(
                "UnsupportedOperation", "You can't stop an instance of a one-time Spot Instance request"
            )
        result = plain()
        for instance_id in params["InstanceIds"]:
            self._change(instance_id, self.lags.stopping, "stopping", "stopped")
        return result

    def _terminate_instances(self, response: Any, params: Any, plain: Callable[[], Any]) -> Any:
        for request in self.spot.values():
            if request.instance_id in params["InstanceIds"] and request.state == "active":
                if request.persistent:
                    self.defects.append(f"{request.id} starts another {request.instance_id}")
                else:
                    request.state = "closed"
        result = plain()
        for instance_id in params["InstanceIds"]:
            self._change(instance_id, self.lags.terminating, "shutting-down", "terminated")
        return result

    def _describe_spot_instance_requests(self, response: Any, params: Any, plain: Any) -> ActionResult:
        shown = [
            {
                "SpotInstanceRequestId": request.id,
                "InstanceId": request.instance_id,
                "State": request.state,
                "Tags": request.tags,
            }
            for request in self.spot.values()
            if matches(request.tags, params.get("Filters", []))
        ]
        return ActionResult({"SpotInstanceRequests": shown})

    def _cancel_spot_instance_requests(self, response: Any, params: Any, plain: Any) -> ActionResult:
        for request_id in params["SpotInstanceRequestIds"]:
            self.spot[request_id].state = "cancelled"
        return ActionResult({"CancelledSpotInstanceRequests": []})

    # --- images

    def _create_image(self, response: Any, params: Any, plain: Callable[[], Any]) -> Any:
        backend = response.ec2_backend
        self._refuse_duplicate(backend, params["Name"])
        instance = backend.get_instance(params["InstanceId"])
        state = instance.state
        if state != "stopped":
            self.defects.append(f"{params['InstanceId']} imaged while {state}")
        response.params["TagSpecifications"] = [
            each for each in params.get("TagSpecifications", []) if each["ResourceType"] == "image"
        ]
        result = plain()
        of_machine(backend, backend.amis[result.result["ImageId"]], instance)
        self._made_image(backend, result.result["ImageId"], params, self.lags.imaging)
        return result

    def _copy_image(self, response: Any, params: Any, plain: Callable[[], Any]) -> Any:
        def copied() -> Any:
            self._refuse_duplicate(response.ec2_backend, params["Name"])
            result = plain()
            image_id = result.result["ImageId"]
            copy = response.ec2_backend.amis[image_id]
            copy.add_tags(tag_map(params, "image"))
            source = ec2_backends[ACCOUNT][params["SourceRegion"]].amis[params["SourceImageId"]]
            of_image(response.ec2_backend, copy, source)
            self._made_image(response.ec2_backend, image_id, params, self.lags.copying)
            return result

        return self._once(response, "copy_image", params, copied)

    def _made_image(self, backend: EC2Backend, image_id: str, params: Any, takes: float) -> None:
        image = backend.amis[image_id]
        image.creation_date = datetime.fromtimestamp(self.clock.now(), UTC)
        self._hide(image_id)
        for snapshot in snapshots_below(image):
            snapshot.add_tags(tag_map(params, "snapshot"))
            snapshot.start_time = image.creation_date
            self._hide(snapshot.id)
        if self.image_fails:
            image.state_reason = {"Code": "Client.Failed", "Message": self.image_fails}
            self._change(image_id, takes, "pending", "failed")
            return
        self._change(image_id, takes, "pending", "available")
        for snapshot in snapshots_below(image):
            self._change(snapshot.id, takes, "pending", "completed")

    def _refuse_duplicate(self, backend: EC2Backend, name: str) -> None:
        if any(image.name == name for image in backend.amis.values()):
            raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use")

    def _modify_image_attribute(self, response: Any, params: Any, plain: Callable[[], Any]) -> Any:
        if "ImdsSupport" not in params:
            return plain()
        response.ec2_backend.amis[params["ImageId"]].imds_support = params["ImdsSupport"]["Value"]
        return ActionResult({})

    def _enable_image_deprecation(self, response: Any, params: Any, plain: Any) -> ActionResult:
        image = response.ec2_backend.amis[params["ImageId"]]
        if image.state != "available":
            raise EC2ClientError("InvalidAMIID.Unavailable", f"{image.id} is {image.state}")
        image.deprecation_time = str(params["DeprecateAt"])
        return ActionResult({"Return": True})

    def _describe_image_references(self, response: Any, params: Any, plain: Any) -> ActionResult:
        backend = response.ec2_backend
        references = [
            {
                "ImageId": instance.image_id,
                "ResourceType": "ec2:Instance",
                "Arn": f"arn:aws:ec2:::instance/{instance.id}",
            }
            for reservation in backend.reservations.values()
            for instance in reservation.instances
            if instance.state != "terminated"
        ]
        references += [
            {
                "ImageId": version.data["ImageId"],
                "ResourceType": "ec2:LaunchTemplate",
                "Arn": f"arn:aws:ec2:::launch-template/{template.id}",
            }
            for template in backend.launch_templates.values()
            for version in template.versions
            if "ImageId" in version.data
        ]
        wanted = [each for each in references if each["ImageId"] in params["ImageIds"]]
        return ActionResult({"ImageReferences": wanted})

    def _deregister_image(self, response: Any, params: Any, plain: Callable[[], Any]) -> Any:
        image = response.ec2_backend.amis.get(params["ImageId"])
        result = plain()
        if params.get("DeleteAssociatedSnapshots") and image is not None:
            for snapshot in snapshots_below(image):
                if snapshot.id in response.ec2_backend.snapshots:
                    response.ec2_backend.delete_snapshot(snapshot.id)
        return result

    # --- keys, groups, volumes

    def _import_key_pair(self, response: Any, params: Any, plain: Callable[[], Any]) -> Any:
        result = plain()
        self._hide(result.result.id)
        self._hide(params["KeyName"])
        return result

    def _delete_key_pair(self, response: Any, params: Any, plain: Callable[[], Any]) -> Any:
        if "KeyPairId" in params:
            pairs = response.ec2_backend.key_pairs
            response.params["KeyName"] = next(
                (name for name, pair in pairs.items() if pair.id == params["KeyPairId"]), "gone"
            )
        return plain()

    def _create_security_group(self, response: Any, params: Any, plain: Callable[[], Any]) -> Any:
        result = plain()
        self._hide(result.result["GroupId"] if isinstance(result.result, dict) else result.result.id)
        return result

    def _authorize_security_group_ingress(self, response: Any, params: Any, plain: Any) -> Any:
        ranges = [r["CidrIp"] for p in params["IpPermissions"] for r in p.get("IpRanges", [])]
        self.defects += [f"ingress from {cidr}" for cidr in ranges if not cidr.endswith("/32")]
        return plain()

    def _delete_security_group(self, response: Any, params: Any, plain: Callable[[], Any]) -> Any:
        for reservation in response.ec2_backend.reservations.values():
            for instance in reservation.instances:
                groups = {group.id for group in instance.security_groups}
                if instance.state != "terminated" and params["GroupId"] in groups:
                    raise EC2ClientError("DependencyViolation", f"{params['GroupId']} has a dependent object")
        return plain()

    def _create_volume(self, response: Any, params: Any, plain: Callable[[], Any]) -> Any:
        def created() -> Any:
            result = plain()
            self._hide(id_of(result.result))
            return result

        return self._once(response, "create_volume", params, created)

    # --- tokens

    def _once(self, response: Any, action: str, params: Any, create: Callable[[], Any]) -> Any:
        token = params.get("ClientToken")
        if token is None:
            return create()
        key, said = (action, response.region, token), repr(sorted(params.items()))
        if key in self.tokens:
            before, result = self.tokens[key]
            if before != said:
                raise EC2ClientError("IdempotentParameterMismatch", f"{token} was used with other arguments")
            return result
        result = create()
        self.tokens[key] = (said, result)
        return result


@contextmanager
def installed(layer: Layer) -> Iterator[Layer]:
    """Put the layer over moto's EC2 for the time of the block."""
    if version("moto") != MOTO_VERSION:
        raise RuntimeError(f"written for moto {MOTO_VERSION}: run test_gaps.py and adapt")
    original = EC2Response.call_action
    added = [
        name
        for name in ("enable_image_deprecation", "describe_image_references")
        if not hasattr(EC2Response, name)
    ]

    def call_action(response: Any) -> Any:
        action = camelcase_to_underscores(response._get_action())
        plain = None if action in added else getattr(response, action, None)
        setattr(response, action, lambda: layer.answer(response, action, plain))
        return original(response)

    def stands_in(response: Any) -> None:
        raise AssertionError("the layer answers this")

    EC2Response.call_action = call_action
    for name in added:
        setattr(EC2Response, name, stands_in)
    try:
        yield layer
    finally:
        EC2Response.call_action = original
        for name in added:
            delattr(EC2Response, name)
