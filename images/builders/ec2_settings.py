"""Settings of the EC2 builder; unknown keys are errors."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

RegionName = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
AccountId = Annotated[str, StringConstraints(pattern=r"^\d{12}$")]
OrganizationArn = Annotated[
    str, StringConstraints(pattern=r"^arn:aws[\w-]*:organizations::\d{12}:(organization|ou)/\S+$")
]
DEFAULT_KEYS = (None, "alias/aws/ebs")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Copy(_Strict):
    """Another region that gets the image, encrypted under a key that lives there."""

    region: RegionName
    kms_key_id: str | None = None


class Ec2Settings(_Strict):
    region: RegionName
    subnets: tuple[str, ...] = ()
    """Tried in this order, for capacity; empty for the default subnets of the default VPC."""
    reach: Literal["address", "ssm"] = "address"
    """`address`: SSH from our own address only. `ssm`: no ingress; needs instance_profile and the AWS CLI."""
    our_address: IPv4Address | None = None
    """What builders see us as; asked of `address_url` when not given."""
    address_url: str = "https://checkip.amazonaws.com"
    public: bool = True
    """Reach builders at a public address; False inside the VPC or through a tunnel into it."""
    instance_profile: str | None = None
    kms_key_id: str | None = None
    """None: the account's default key, under which an image cannot be shared."""
    copies: tuple[Copy, ...] = ()
    share_accounts: tuple[AccountId, ...] = ()
    share_organizations: tuple[OrganizationArn, ...] = ()
    deprecate_after_days: int | None = Field(default=None, ge=1, le=3650)
    guest_deadline_minutes: int = Field(default=360, ge=10, le=2880)
    """After this a builder that nobody stopped powers itself off, which terminates it."""
    wait_limit_s: float = Field(default=4 * 3600, gt=0)
    """Longest wait for an image, however large."""
    node_port: int = Field(default=8080, ge=1, le=65535)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        keys = (self.kms_key_id, *(copy.kms_key_id for copy in self.copies))
        if self.shared and any(key in DEFAULT_KEYS for key in keys):
            raise ValueError(
                "share_accounts, share_organizations: images under the default key are of no use to others;"
                " set kms_key_id here and on every copy, and let them use those keys"
            )
        if self.reach == "ssm" and self.instance_profile is None:
            raise ValueError("instance_profile is needed with reach = ssm: its agent must be let in")
        regions = [self.region, *(copy.region for copy in self.copies)]
        if len(set(regions)) != len(regions):
            raise ValueError("copies: a region is named twice, or is the builder's own")
        return self

    @property
    def shared(self) -> bool:
        return bool(self.share_accounts or self.share_organizations)
