"""Machines of a run: which types, zones and purchase options to try, and one instance however often asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from images.aws import NO_CAPACITY, Aws, tag_filters, tag_specifications, translated, until_consistent
from images.builders.ec2_wait import wait_for
from images.errors import AwsRefused, BuilderError, NoCapacity
from images.ledger import Ledger
from images.recipe import Disk
from images.run import PART_TAG, RUN_TAG, Run

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef, RunInstancesRequestTypeDef

_UNANSWERED = frozenset({"InternalError", "InternalFailure", "ServiceUnavailable", "Unavailable"})
"""Codes after which the instance may nevertheless have been made."""
_DEAD = ("shutting-down", "terminated")


@dataclass(frozen=True)
class Candidate:
    instance_type: str
    subnet: str
    purchase: Literal["on-demand", "spot"]

    def __str__(self) -> str:
        return f"{self.purchase} {self.instance_type} in {self.subnet}"


@dataclass(frozen=True)
class DataVolume:
    """A volume beside the root: an empty one, or what a snapshot holds."""

    device: str
    gib: int
    throughput_mib_s: int
    iops: int
    snapshot: str | None = None
    initialization_mib_s: int | None = None


@dataclass(frozen=True)
class Request:
    """What to launch, whichever candidate it becomes."""

    part: str
    image_id: str
    root_device: str
    disk: Disk
    subnets: tuple[str, ...]
    key_name: str
    group_id: str
    user_data: str
    public: bool
    stoppable: bool
    """To be imaged, and so to be stopped: a one-time spot instance cannot be."""
    instance_profile: str | None = None
    kms_key_id: str | None = None
    data: DataVolume | None = None
    """Made with the machine and gone with it: there is no moment at which it could be left behind alone."""


@dataclass(frozen=True)
class Attempt:
    token: str
    candidate: Candidate
    repeated: bool
    """An earlier process asked for it and saw no answer: the same token gives the same instance."""


def candidates(
    types: Sequence[str], purchase: Sequence[Literal["on-demand", "spot"]], subnets: Sequence[str]
) -> tuple[Candidate, ...]:
    """Every zone and type of the first purchase option before the next, each in the recipe's order."""
    return tuple(
        Candidate(kind, subnet, option) for option in purchase for kind in types for subnet in subnets
    )


def launch(aws: Aws, run: Run, request: Request, choices: Sequence[Candidate]) -> InstanceTypeDef:
    """A running instance: this run's own if it has one, else the first that AWS has room for.

    Raises NoCapacity with every refusal, or AwsRefused at the first other one.
    """
    found = find(aws, run, request.part)
    if found is not None:
        run.ledger.made("instance", request.part, found["InstanceId"])
        return _running(aws, run, request, found["InstanceId"])
    refusals: list[str] = []
    for attempt in _attempts(run, request.part, choices):
        try:
            return _running(aws, run, request, _launched(aws, run, request, attempt))
        except NoCapacity as error:
            refusals.append(f"{attempt.candidate}: {error.message}")
    raise NoCapacity(
        f"no room for the {request.part} among {len(choices)} choices:\n" + "\n".join(refusals),
        "name more instance types, subnets or purchase options in the recipe and settings",
    )


def find(aws: Aws, run: Run, part: str) -> InstanceTypeDef | None:
    """The run's live instance for this part, by its tags, or by its id while tags are not seen yet."""
    with translated(f"looking for the run's {part}"):
        answer = aws.ec2.describe_instances(Filters=tag_filters({RUN_TAG: run.id, PART_TAG: part}))
    live = [i for r in answer["Reservations"] for i in r["Instances"] if i["State"]["Name"] not in _DEAD]
    if live:
        return live[0]
    known = run.ledger.find("instance", part)
    if known is None or not known.id:
        return None
    instance = described(aws, run, known.id)
    return None if instance["State"]["Name"] in _DEAD else instance


def described(aws: Aws, run: Run, instance_id: str) -> InstanceTypeDef:
    answer = until_consistent(
        f"describing {instance_id}", lambda: aws.ec2.describe_instances(InstanceIds=[instance_id]), run.clock
    )
    return answer["Reservations"][0]["Instances"][0]


def state_reason(described: Any) -> str:
    """AWS's own words for why, from an instance or an image; empty if it gives none."""
    reason = described.get("StateReason") or {}
    return ": ".join(part for part in (reason.get("Code", ""), reason.get("Message", "")) if part)


def parameters(run: Run, request: Request, attempt: Attempt) -> RunInstancesRequestTypeDef:
    """RunInstances' arguments: the same for the same attempt, as its token demands."""
    tags = run.tags(request.part)
    wanted: RunInstancesRequestTypeDef = {
        "ImageId": request.image_id,
        "InstanceType": attempt.candidate.instance_type,  # type: ignore[typeddict-item]
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": attempt.token,
        "KeyName": request.key_name,
        "UserData": request.user_data,
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": attempt.candidate.subnet,
                "Groups": [request.group_id],
                "AssociatePublicIpAddress": request.public,
                "DeleteOnTermination": True,
            }
        ],
        "BlockDeviceMappings": _disks(request),
        "InstanceInitiatedShutdownBehavior": "terminate",
        # Two hops: containers sit behind a bridge.
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 2,
        },
        "TagSpecifications": tag_specifications(tags, "instance", "volume", "network-interface"),
    }
    if request.instance_profile is not None:
        wanted["IamInstanceProfile"] = {"Name": request.instance_profile}
    if attempt.candidate.purchase == "spot":
        wanted["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": _spot(run, request)}
        wanted["TagSpecifications"] = [
            *wanted["TagSpecifications"],
            *tag_specifications(tags, "spot-instances-request"),
        ]
    return wanted


def _disks(request: Request) -> list[Any]:
    disk, data = request.disk, request.data
    root = {
        **_gp3(disk.root_gib, disk.throughput_mib_s, disk.iops),
        **_encrypted(request),
    }
    disks = [{"DeviceName": request.root_device, "Ebs": root}]
    if data is not None:
        # A snapshot of ours is encrypted, and so is what is made of it: nothing may be said of it then.
        origin = _encrypted(request) if data.snapshot is None else _restored(data)
        ebs = {**_gp3(data.gib, data.throughput_mib_s, data.iops), **origin}
        disks.append({"DeviceName": data.device, "Ebs": ebs})
    return disks


def _gp3(gib: int, throughput_mib_s: int, iops: int) -> dict[str, Any]:
    return {
        "VolumeSize": gib,
        "VolumeType": "gp3",
        "Throughput": throughput_mib_s,
        "Iops": iops,
        "DeleteOnTermination": True,
    }


def _encrypted(request: Request) -> dict[str, Any]:
    key = {} if request.kms_key_id is None else {"KmsKeyId": request.kms_key_id}
    return {"Encrypted": True, **key}


def _restored(data: DataVolume) -> dict[str, Any]:
    rate = data.initialization_mib_s
    return {"SnapshotId": data.snapshot, **({} if rate is None else {"VolumeInitializationRate": rate})}


def _spot(run: Run, request: Request) -> Any:
    if not request.stoppable:
        return {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
    # Only a persistent request's instance can be stopped. The request itself ends with the run's deadline,
    # so that one that nobody cancels starts no further builders.
    ends = datetime.fromtimestamp(run.deadline, UTC)
    return {"SpotInstanceType": "persistent", "InstanceInterruptionBehavior": "stop", "ValidUntil": ends}


def _attempts(run: Run, part: str, choices: Sequence[Candidate]) -> Iterator[Attempt]:
    unanswered = run.ledger.find("instance", part)
    if unanswered is not None and not unanswered.id:
        details = unanswered.details
        yield Attempt(str(details["token"]), Candidate(**details["candidate"]), repeated=True)
    for candidate in choices:
        yield Attempt(f"{run.id}-{part}-{_asked(run.ledger, part)}", candidate, repeated=False)


def _asked(ledger: Ledger, part: str) -> int:
    return sum(entry.event == "intend" and entry.name == part for entry in ledger.entries)


def _launched(aws: Aws, run: Run, request: Request, attempt: Attempt) -> str:
    part = request.part
    if not attempt.repeated:
        _announce(run, request, attempt)
    try:
        answer = until_consistent(
            f"launching the {part} ({attempt.candidate})",
            lambda: aws.ec2.run_instances(**parameters(run, request, attempt)),
            run.clock,
            _profile_too_new,
        )
    except AwsRefused as error:
        if error.code not in _UNANSWERED:
            _take_back(run, request)
        if error.code in NO_CAPACITY:
            raise NoCapacity(error.message) from error
        raise
    instance_id = answer["Instances"][0]["InstanceId"]
    run.ledger.made("instance", part, instance_id)
    return instance_id


def _announce(run: Run, request: Request, attempt: Attempt) -> None:
    if request.data is not None:
        run.ledger.intend("volume", volume_name(request.part), device=request.data.device)
    run.ledger.intend("instance", request.part, token=attempt.token, candidate=asdict(attempt.candidate))


def _take_back(run: Run, request: Request) -> None:
    run.ledger.gone("instance", request.part)
    if request.data is not None:
        run.ledger.gone("volume", volume_name(request.part))


def volume_name(part: str) -> str:
    """Of a machine's volume beside its root, in the ledger; in AWS it carries the machine's own tags."""
    return f"{part}-data"


def _profile_too_new(error: AwsRefused) -> bool:
    return error.code == "InvalidParameterValue" and "iamInstanceProfile" in error.message


def _running(aws: Aws, run: Run, request: Request, instance_id: str) -> InstanceTypeDef:
    def look() -> InstanceTypeDef | None:
        instance = described(aws, run, instance_id)
        state = instance["State"]["Name"]
        if state in _DEAD:
            _take_back(run, request)
            raise _died(request.part, instance_id, state_reason(instance))
        # A builder that this run has stopped already is as good: it is about to be imaged.
        return instance if state in ("running", "stopping", "stopped") else None

    return wait_for(f"{instance_id} to run", look, run.clock, limit_s=600, run_id=run.id)


def _died(part: str, instance_id: str, reason: str) -> BuilderError:
    if "InsufficientInstanceCapacity" in reason or "SpotInstanceTermination" in reason:
        return NoCapacity(f"{instance_id} was taken away while starting ({reason})")
    return BuilderError(
        f"the {part} {instance_id} ended while starting: {reason or 'AWS gives no reason'}",
        "check the disk's KMS key and the account's limits",
    )
