"""Rules for what keeps things: queues, topics, buckets, keys."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.policy.kinds import (
    BUCKET,
    BUCKET_BLOCK,
    BUCKET_ENCRYPTION,
    BUCKET_LIFECYCLE,
    BUCKET_POLICY,
    KEY,
    LOG_GROUP,
    QUEUE,
    QUEUE_POLICY,
    TEMPLATE,
    TOPIC,
    TOPIC_POLICY,
)
from fleet.policy.model import Resource, Stack, Values, rule, whole_rule

_BLOCKS = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")


@rule(
    "Messages are encrypted where they wait.",
    "Set sqsManagedSseEnabled, or kmsMasterKeyId.",
    [QUEUE],
)
def queues_encrypted(of: Resource) -> Iterator[str]:
    if not of.given.has("kmsMasterKeyId") and not of.given.true("sqsManagedSseEnabled"):
        yield "it is not encrypted"


@whole_rule(
    "What cannot be handled is kept: every queue has a dead-letter queue, or is one.",
    "Set redrivePolicy.",
    [QUEUE],
)
def dead_letters(of: Resource, stack: Stack) -> Iterator[str]:
    if not of.given.has("redrivePolicy") and not stack.pointing("redrivePolicy", of, QUEUE):
        yield "it has no redrivePolicy"


@whole_rule(
    "Queues take and give messages over TLS only.",
    "Add a queue policy that denies sqs:* where aws:SecureTransport is false.",
    [QUEUE],
)
def queues_tls_only(of: Resource, stack: Stack) -> Iterator[str]:
    yield from _tls_only(stack.pointing("queueUrl", of, QUEUE_POLICY))


@whole_rule(
    "Topics take messages over TLS only.",
    "Add a topic policy that denies sns:Publish where aws:SecureTransport is false.",
    [TOPIC],
)
def topics_tls_only(of: Resource, stack: Stack) -> Iterator[str]:
    yield from _tls_only(stack.pointing("arn", of, TOPIC_POLICY))


@whole_rule(
    "Buckets speak TLS only.",
    "Add a bucket policy that denies s3:* where aws:SecureTransport is false.",
    [BUCKET],
)
def buckets_tls_only(of: Resource, stack: Stack) -> Iterator[str]:
    yield from _tls_only(stack.pointing("bucket", of, BUCKET_POLICY))


@whole_rule(
    "No bucket can be made public.",
    "Add a BucketPublicAccessBlock with all four of its settings.",
    [BUCKET],
)
def buckets_private(of: Resource, stack: Stack) -> Iterator[str]:
    blocks = stack.pointing("bucket", of, BUCKET_BLOCK)
    if not any(all(block.given.true(setting) for setting in _BLOCKS) for block in blocks):
        yield "public access is not blocked"


@whole_rule(
    "Buckets are encrypted by a stated key, and forget what is old.",
    "Add a server-side encryption configuration and a lifecycle configuration.",
    [BUCKET],
)
def buckets_kept_well(of: Resource, stack: Stack) -> Iterator[str]:
    if not stack.pointing("bucket", of, BUCKET_ENCRYPTION):
        yield "it has no encryption of its own"
    if not stack.pointing("bucket", of, BUCKET_LIFECYCLE):
        yield "it has no lifecycle"


@rule(
    "Keys are renewed each year.",
    "Set enableKeyRotation to true.",
    [KEY],
)
def keys_rotate(of: Resource) -> Iterator[str]:
    if not of.given.true("enableKeyRotation"):
        yield "enableKeyRotation is not true"


@whole_rule(
    "A stack that has a key of its own for some of its volumes, queues and logs has it for all of them.",
    "Pass the key on: kmsKeyId of volumes and log groups, kmsMasterKeyId of queues.",
    [TEMPLATE, QUEUE, LOG_GROUP],
)
def key_used(of: Resource, stack: Stack) -> Iterator[str]:
    asked = any(any(_keyed(other)) for other in stack.of(TEMPLATE, QUEUE, LOG_GROUP))
    if asked and not all(_keyed(of)):
        yield "it is encrypted by another key"


def _keyed(of: Resource) -> Iterator[bool]:
    """A volume from an encrypted snapshot has that snapshot's key."""
    if of.type == TEMPLATE:
        volumes = [Values(m.get("ebs") or {}) for m in of.given.each("blockDeviceMappings")]
        yield from (ebs.has("kmsKeyId") for ebs in volumes if not ebs.has("snapshotId"))
    else:
        yield of.given.has("kmsMasterKeyId" if of.type == QUEUE else "kmsKeyId")


def _tls_only(policies: list[Resource]) -> Iterator[str]:
    if not any(_denies_plain(s) for policy in policies for s in policy.given.document("policy")):
        yield "no policy refuses requests without TLS"


def _denies_plain(statement: Values) -> bool:
    secure = statement.get("Condition", "Bool", "aws:SecureTransport")
    return statement.get("Effect") == "Deny" and str(secure).lower() == "false"


RULES = (
    queues_encrypted,
    dead_letters,
    queues_tls_only,
    topics_tls_only,
    buckets_tls_only,
    buckets_private,
    buckets_kept_well,
    keys_rotate,
    key_used,
)
