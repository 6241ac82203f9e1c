"""SQS queues and their access policies."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from fleet.rehearsal.resources.attributes import Attribute, attributes_of
from fleet.rehearsal.resources.aws import Aws, is_gone
from fleet.rehearsal.resources.handler import REQUIRED, Handler, Want, tag_changes

# Argument -> attribute, and what SQS has where nobody sets it (API reference of SetQueueAttributes).
_SETTABLE = {
    "delaySeconds": Attribute("DelaySeconds", 0),
    "kmsMasterKeyId": Attribute("KmsMasterKeyId", ""),
    "maxMessageSize": Attribute("MaximumMessageSize", 262144),
    "messageRetentionSeconds": Attribute("MessageRetentionPeriod", 345600),
    "policy": Attribute("Policy", ""),
    "receiveWaitTimeSeconds": Attribute("ReceiveMessageWaitTimeSeconds", 0),
    "redriveAllowPolicy": Attribute("RedriveAllowPolicy", ""),
    "redrivePolicy": Attribute("RedrivePolicy", ""),
    "sqsManagedSseEnabled": Attribute("SqsManagedSseEnabled", True),
    "visibilityTimeoutSeconds": Attribute("VisibilityTimeout", 30),
}
_FIFO = {
    "contentBasedDeduplication": Attribute("ContentBasedDeduplication", False),
    "fifoQueue": Attribute("FifoQueue", False),
}
_ATTRIBUTES = {**_SETTABLE, **_FIFO}


class Queue(Handler):
    type = "aws:sqs/queue:Queue"
    create = "sqs.CreateQueue"
    name_argument = "name"
    name_limit = 80
    updates: ClassVar[Mapping[str, Any]] = {
        key: attribute.default for key, attribute in _SETTABLE.items()
    } | {"tags": {}}

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in super().shaped(inputs).items() if key not in _ATTRIBUTES}
        return {**rest, "Attributes": attributes_of(_ATTRIBUTES, inputs, set(inputs) & set(_ATTRIBUTES))}

    def find(self, aws: Aws, want: Want) -> str | None:
        try:
            return str(aws.call("sqs.GetQueueUrl", QueueName=want.physical)["QueueUrl"])
        except ClientError as exc:
            if is_gone(exc):
                return None
            raise

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        return str(aws.call(self.create, QueueName=want.physical, **request)["QueueUrl"])

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        values = attributes_of(_SETTABLE, want.inputs, changed)
        if values:
            aws.call("sqs.SetQueueAttributes", QueueUrl=identity, Attributes=values)
        if "tags" in changed:
            self._retag(aws, identity, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        return {"arn": aws.arn("sqs", want.physical), "url": identity, "name": want.physical}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        aws.call("sqs.DeleteQueue", QueueUrl=identity)

    def _retag(self, aws: Aws, identity: str, want: Want) -> None:
        changed, removed = tag_changes(want)
        if changed:
            aws.call("sqs.TagQueue", QueueUrl=identity, Tags=changed)
        if removed:
            aws.call("sqs.UntagQueue", QueueUrl=identity, TagKeys=removed)


class QueuePolicy(Handler):
    """An attribute of its queue: setting it is repeatable, so that nothing need be found."""

    type = "aws:sqs/queuePolicy:QueuePolicy"
    create = "sqs.SetQueueAttributes"
    updates: ClassVar[Mapping[str, Any]] = {"policy": REQUIRED}

    def key(self, want: Want) -> str:
        return str(want.inputs["queueUrl"])

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in super().shaped(inputs).items() if key != "policy"}
        return {**rest, "Attributes": {"Policy": inputs.get("policy")}}

    def find(self, aws: Aws, want: Want) -> str | None:
        queue = str(want.inputs["queueUrl"])
        try:
            answer = aws.call("sqs.GetQueueAttributes", QueueUrl=queue, AttributeNames=["Policy"])
        except ClientError as exc:
            if is_gone(exc):
                return None
            raise
        return queue if answer.get("Attributes", {}).get("Policy") else None

    def make(self, aws: Aws, want: Want) -> str:
        aws.call(self.create, **self.fitted(aws, self.create, self.shaped(want.inputs)))
        return str(want.inputs["queueUrl"])

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        del identity
        if "policy" in changed:
            self.make(aws, want)

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        aws.call("sqs.SetQueueAttributes", QueueUrl=identity, Attributes={"Policy": ""})


HANDLERS: tuple[Handler, ...] = (Queue(), QueuePolicy())
