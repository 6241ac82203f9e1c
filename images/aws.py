"""The one seam to AWS: clients, and botocore's errors as ours.

botocore retries by itself (standard mode, 3 attempts): nothing here retries a call that was throttled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from images.clock import Clock
from images.errors import AwsRefused, AwsUnreachable

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.literals import ResourceTypeType
    from mypy_boto3_ec2.type_defs import FilterTypeDef, TagSpecificationTypeDef
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_ssm import SSMClient

T = TypeVar("T")

CONSISTENT_AFTER_S = 150.0
"""EC2 may deny for this long what it has just created (terraform-provider-aws waits 2 to 2.5 minutes)."""

NO_CAPACITY = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientFreeAddressesInSubnet",
        "InstanceLimitExceeded",
        "MaxSpotInstanceCountExceeded",
        "SpotMaxPriceTooLow",
        "Unsupported",  # this type is not offered in this zone
        "VcpuLimitExceeded",
    }
)
"""Codes of RunInstances after which another type, zone or purchase option may do."""

_HINTS = {
    "UnauthorizedOperation": "the credentials in use lack this permission",
    "AccessDeniedException": "the credentials in use lack this permission",
    "AuthFailure": "check the credentials in use",
    "ExpiredToken": "renew the credentials",
    "RequestLimitExceeded": "AWS throttles this account: try again in a minute",
    "ThrottlingException": "AWS throttles this account: try again in a minute",
}


class Aws:
    """Clients of one region, made when first used. Endpoint and credentials come from the environment."""

    def __init__(self, region: str, session: boto3.Session | None = None) -> None:
        self.region = region
        self._session = session or boto3.Session()
        self._clients: dict[str, Any] = {}

    @property
    def ec2(self) -> EC2Client:
        client: EC2Client = self._client("ec2")
        return client

    @property
    def ssm(self) -> SSMClient:
        client: SSMClient = self._client("ssm")
        return client

    @property
    def s3(self) -> S3Client:
        client: S3Client = self._client("s3")
        return client

    @property
    def ecr(self) -> Any:
        return self._client("ecr")

    def at(self, region: str) -> Aws:
        """The same account in another region."""
        return self if region == self.region else Aws(region, self._session)

    def _client(self, service: Any) -> Any:
        if service not in self._clients:
            config = Config(user_agent_extra="goldenfleet", region_name=self.region)
            with translated(f"making a client of {service}"):
                self._clients[service] = self._session.client(service, config=config)
        return self._clients[service]


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise botocore's errors as AwsRefused or AwsUnreachable that say what was being done."""
    try:
        yield
    except ClientError as exc:
        error = exc.response.get("Error", {})
        code, said = error.get("Code", ""), error.get("Message", "")
        raise AwsRefused(f"{doing}: AWS answered {code}: {said}", _HINTS.get(code, ""), code) from exc
    except BotoCoreError as exc:
        raise AwsUnreachable(f"{doing}: {exc}", "check region, credentials and network") from exc


def is_absent(error: AwsRefused) -> bool:
    """AWS does not know the resource: it is gone, or so new that AWS does not know it yet."""
    return ".NotFound" in error.code or error.code in ("ParameterNotFound", "InvalidAMIID.Unavailable")


def absent_as_none(doing: str, call: Callable[[], T]) -> T | None:
    """What `call` gives, or None where AWS does not know the resource."""
    try:
        with translated(doing):
            return call()
    except AwsRefused as error:
        if not is_absent(error):
            raise
        return None


def until_consistent(
    doing: str,
    call: Callable[[], T],
    clock: Clock,
    also: Callable[[AwsRefused], bool] = lambda _: False,
    for_s: float = CONSISTENT_AFTER_S,
) -> T:
    """Repeat a call on something just created while AWS may not know it yet, and while `also` says so."""
    ends = clock.now() + for_s
    while True:
        try:
            with translated(doing):
                return call()
        except AwsRefused as error:
            if clock.now() >= ends or not (is_absent(error) or also(error)):
                raise
        clock.sleep(5)


def tag_specifications(tags: Mapping[str, str], *kinds: ResourceTypeType) -> list[TagSpecificationTypeDef]:
    return [
        {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        for kind in kinds
    ]


def tag_filters(tags: Mapping[str, str]) -> list[FilterTypeDef]:
    return [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items()]


def tags_of(described: Mapping[str, Any]) -> dict[str, str]:
    """The tags of anything that a Describe call returns."""
    return {tag["Key"]: tag["Value"] for tag in described.get("Tags", ())}
