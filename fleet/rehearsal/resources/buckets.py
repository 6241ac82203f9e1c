"""S3 buckets, and the settings of a bucket, each of which is a resource of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from fleet.rehearsal.resources.aws import Aws, code_of, is_gone
from fleet.rehearsal.resources.handler import REQUIRED, Handler, Want, tag_list
from fleet.rehearsal.resources.identity import document

# us-east-1 is the region that S3 wants no constraint for.
_FIRST_REGION = "us-east-1"


class Bucket(Handler):
    """Settings written inside the bucket are refused: they are resources of their own here."""

    type = "aws:s3/bucket:Bucket"
    create = "s3.CreateBucket"
    name_argument = "bucket"
    read_by_name = True
    name_limit = 63
    members: ClassVar[Mapping[str, str]] = {"objectLockEnabled": "ObjectLockEnabledForBucket"}
    settled = frozenset({"forceDestroy", "tags"})
    updates: ClassVar[Mapping[str, Any]] = {"forceDestroy": False, "tags": {}}

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        if aws.region != _FIRST_REGION:
            request["CreateBucketConfiguration"] = {"LocationConstraint": aws.region}
        aws.call(self.create, Bucket=want.physical, **request)
        return want.physical

    def find(self, aws: Aws, want: Want) -> str | None:
        try:
            aws.call("s3.HeadBucket", Bucket=want.physical)
        except ClientError as exc:
            if code_of(exc) == "404" or is_gone(exc):
                return None
            raise
        return want.physical

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if "tags" not in changed:
            return
        tags = want.get("tags", {})
        if tags:
            aws.call("s3.PutBucketTagging", Bucket=identity, Tagging={"TagSet": tag_list(tags)})
        else:
            aws.call("s3.DeleteBucketTagging", Bucket=identity)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del want
        regional = f"{identity}.s3.{aws.region}.amazonaws.com"
        return {
            "arn": f"arn:aws:s3:::{identity}",
            "bucket": identity,
            "bucketDomainName": f"{identity}.s3.amazonaws.com",
            "bucketRegionalDomainName": regional,
        }

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        if want.get("forceDestroy"):
            _empty(aws, identity)
        aws.call("s3.DeleteBucket", Bucket=identity)


def _empty(aws: Aws, bucket: str) -> None:
    """Delete every version of every object, a page at a time, until none is left."""
    while True:
        page = aws.call("s3.ListObjectVersions", Bucket=bucket)
        found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        if not found:
            return
        objects = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in found]
        aws.call("s3.DeleteObjects", Bucket=bucket, Delete={"Objects": objects, "Quiet": True})


class _Setting(Handler):
    """One setting of a bucket: putting it is repeatable. `inside` is the request's member that holds it."""

    inside: ClassVar[str]
    ask: ClassVar[str]
    destroy: ClassVar[str]

    def key(self, want: Want) -> str:
        return str(want.inputs["bucket"])

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        own = {key: value for key, value in super().shaped(inputs).items() if key != "bucket"}
        return {"Bucket": inputs.get("bucket"), self.inside: own}

    def make(self, aws: Aws, want: Want) -> str:
        aws.call(self.create, **self.fitted(aws, self.create, self.shaped(want.inputs)))
        return self.key(want)

    def find(self, aws: Aws, want: Want) -> str | None:
        try:
            aws.call(self.ask, Bucket=self.key(want))
        except ClientError as exc:
            # NoSuchBucketPolicy, NoSuchPublicAccessBlockConfiguration, OwnershipControlsNotFoundError ...
            if code_of(exc).startswith("NoSuch") or "NotFound" in code_of(exc):
                return None
            raise
        return self.key(want)

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        del identity
        if changed:
            self.make(aws, want)

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        aws.call(self.destroy, Bucket=identity)


class BucketPolicy(_Setting):
    type = "aws:s3/bucketPolicy:BucketPolicy"
    create, ask, destroy = "s3.PutBucketPolicy", "s3.GetBucketPolicy", "s3.DeleteBucketPolicy"
    updates: ClassVar[Mapping[str, Any]] = {"policy": REQUIRED}

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {**inputs, "policy": document(inputs.get("policy"))}


class BucketPublicAccessBlock(_Setting):
    type = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
    create, inside = "s3.PutPublicAccessBlock", "PublicAccessBlockConfiguration"
    ask, destroy = "s3.GetPublicAccessBlock", "s3.DeletePublicAccessBlock"
    settled = frozenset({"skipDestroy"})
    updates: ClassVar[Mapping[str, Any]] = dict.fromkeys(
        ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets", "skipDestroy"),
        False,
    )


class BucketEncryption(_Setting):
    type = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
    create, inside = "s3.PutBucketEncryption", "ServerSideEncryptionConfiguration"
    ask, destroy = "s3.GetBucketEncryption", "s3.DeleteBucketEncryption"
    updates: ClassVar[Mapping[str, Any]] = {"rules": REQUIRED}


class BucketLifecycle(_Setting):
    type = "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration"
    create, inside = "s3.PutBucketLifecycleConfiguration", "LifecycleConfiguration"
    ask, destroy = "s3.GetBucketLifecycleConfiguration", "s3.DeleteBucketLifecycle"
    updates: ClassVar[Mapping[str, Any]] = {"rules": REQUIRED}

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """S3 wants to be told that a rule is for all objects."""
        rules = inputs.get("rules")
        if isinstance(rules, list):
            filtered = [{"filter": {}, **rule} if isinstance(rule, Mapping) else rule for rule in rules]
            inputs = {**inputs, "rules": filtered}
        return super().shaped(inputs)


class BucketOwnership(_Setting):
    type = "aws:s3/bucketOwnershipControls:BucketOwnershipControls"
    create, inside = "s3.PutBucketOwnershipControls", "OwnershipControls"
    ask, destroy = "s3.GetBucketOwnershipControls", "s3.DeleteBucketOwnershipControls"
    updates: ClassVar[Mapping[str, Any]] = {"rule": REQUIRED}

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in inputs.items() if key != "rule"}
        return super().shaped({**rest, "rules": [inputs.get("rule")]})


class BucketVersioning(_Setting):
    """Versioning that was on can only be suspended."""

    type = "aws:s3/bucketVersioning:BucketVersioning"
    create, ask = "s3.PutBucketVersioning", "s3.GetBucketVersioning"
    updates: ClassVar[Mapping[str, Any]] = {"versioningConfiguration": REQUIRED}

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return dict(inputs)

    def find(self, aws: Aws, want: Want) -> str | None:
        return self.key(want) if aws.call(self.ask, Bucket=self.key(want)).get("Status") else None

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        aws.call(self.create, Bucket=identity, VersioningConfiguration={"Status": "Suspended"})


HANDLERS: tuple[Handler, ...] = (
    Bucket(),
    BucketPolicy(),
    BucketPublicAccessBlock(),
    BucketEncryption(),
    BucketLifecycle(),
    BucketOwnership(),
    BucketVersioning(),
)
