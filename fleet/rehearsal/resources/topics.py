"""SNS topics, their policies and subscriptions."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from fleet.rehearsal.resources.attributes import Attribute, attributes_of
from fleet.rehearsal.resources.aws import Aws, is_gone
from fleet.rehearsal.resources.handler import REQUIRED, Handler, Want, tag_changes, tag_list

# Argument -> attribute, and what SNS has where nobody sets it (API reference of SetTopicAttributes).
_TOPIC = {
    "deliveryPolicy": Attribute("DeliveryPolicy", ""),
    "displayName": Attribute("DisplayName", ""),
    "kmsMasterKeyId": Attribute("KmsMasterKeyId", ""),
    "policy": Attribute("Policy", ""),
    "signatureVersion": Attribute("SignatureVersion", 1),
    "tracingConfig": Attribute("TracingConfig", "PassThrough"),
}
_SUBSCRIPTION = {
    "deliveryPolicy": Attribute("DeliveryPolicy", ""),
    "filterPolicy": Attribute("FilterPolicy", ""),
    "filterPolicyScope": Attribute("FilterPolicyScope", "MessageAttributes"),
    "rawMessageDelivery": Attribute("RawMessageDelivery", False),
    "redrivePolicy": Attribute("RedrivePolicy", ""),
}


class Topic(Handler):
    type = "aws:sns/topic:Topic"
    create = "sns.CreateTopic"
    name_argument = "name"
    name_limit = 256
    updates: ClassVar[Mapping[str, Any]] = {key: a.default for key, a in _TOPIC.items()} | {"tags": {}}

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in super().shaped(inputs).items() if key not in _TOPIC}
        return {**rest, "Attributes": attributes_of(_TOPIC, inputs, set(inputs) & set(_TOPIC))}

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        return str(aws.call(self.create, Name=want.physical, **request)["TopicArn"])

    def find(self, aws: Aws, want: Want) -> str | None:
        arn = aws.arn("sns", want.physical)
        topics = aws.client("sns").get_paginator("list_topics").paginate()
        return arn if arn in [topic["TopicArn"] for page in topics for topic in page["Topics"]] else None

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        for name, value in attributes_of(_TOPIC, want.inputs, changed).items():
            aws.call("sns.SetTopicAttributes", TopicArn=identity, AttributeName=name, AttributeValue=value)
        if "tags" in changed:
            tags, removed = tag_changes(want)
            if tags:
                aws.call("sns.TagResource", ResourceArn=identity, Tags=tag_list(tags))
            if removed:
                aws.call("sns.UntagResource", ResourceArn=identity, TagKeys=removed)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        return {"arn": identity, "name": want.physical, "owner": aws.account}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        aws.call("sns.DeleteTopic", TopicArn=identity)


class TopicPolicy(Handler):
    """An attribute of its topic; taking it away gives the topic to its owner alone, as pulumi-aws does."""

    type = "aws:sns/topicPolicy:TopicPolicy"
    create = "sns.SetTopicAttributes"
    updates: ClassVar[Mapping[str, Any]] = {"policy": REQUIRED}

    def key(self, want: Want) -> str:
        return str(want.inputs["arn"])

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in inputs.items() if key not in ("arn", "policy")}
        told = {"TopicArn": inputs.get("arn"), "AttributeName": "Policy"}
        return {**rest, **told, "AttributeValue": inputs.get("policy")}

    def make(self, aws: Aws, want: Want) -> str:
        aws.call(self.create, **self.fitted(aws, self.create, self.shaped(want.inputs)))
        return self.key(want)

    def find(self, aws: Aws, want: Want) -> str | None:
        try:
            found = aws.call("sns.GetTopicAttributes", TopicArn=self.key(want))["Attributes"]["Policy"]
        except ClientError as exc:
            if is_gone(exc):
                return None
            raise
        return self.key(want) if json.loads(found) == json.loads(want.inputs["policy"]) else None

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        del identity
        if changed:
            self.make(aws, want)

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        policy = json.dumps({"Version": "2012-10-17", "Statement": [_owner_only(identity, aws.account)]})
        aws.call(self.create, TopicArn=identity, AttributeName="Policy", AttributeValue=policy)


def _owner_only(arn: str, account: str) -> dict[str, Any]:
    actions = ("Publish", "Subscribe", "GetTopicAttributes", "SetTopicAttributes", "DeleteTopic")
    return {
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": [f"SNS:{action}" for action in actions],
        "Resource": arn,
        "Condition": {"StringEquals": {"AWS:SourceOwner": account}},
    }


class TopicSubscription(Handler):
    """One that a person must confirm exists from the start, and is heard once it is confirmed."""

    type = "aws:sns/topicSubscription:TopicSubscription"
    create = "sns.Subscribe"
    members: ClassVar[Mapping[str, str]] = {"topic": "TopicArn"}
    settled = frozenset({"confirmationTimeoutInMinutes", "endpointAutoConfirms"})
    updates: ClassVar[Mapping[str, Any]] = {key: a.default for key, a in _SUBSCRIPTION.items()} | {
        "confirmationTimeoutInMinutes": 1,
        "endpointAutoConfirms": False,
    }

    def key(self, want: Want) -> str:
        return " ".join(str(want.inputs[part]) for part in ("topic", "protocol", "endpoint"))

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in super().shaped(inputs).items() if key not in _SUBSCRIPTION}
        return {**rest, "Attributes": attributes_of(_SUBSCRIPTION, inputs, set(inputs) & set(_SUBSCRIPTION))}

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        return str(aws.call(self.create, ReturnSubscriptionArn=True, **request)["SubscriptionArn"])

    def find(self, aws: Aws, want: Want) -> str | None:
        pages = aws.client("sns").get_paginator("list_subscriptions_by_topic")
        asked = (want.inputs["protocol"], want.inputs["endpoint"])
        found = (
            item["SubscriptionArn"]
            for page in pages.paginate(TopicArn=want.inputs["topic"])
            for item in page["Subscriptions"]
            if (item["Protocol"], item["Endpoint"]) == asked
        )
        # One that waits to be confirmed is listed without its ARN, and subscribing again is answered with it.
        return next((arn for arn in found if arn.startswith("arn:")), None)

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if not want.before:
            return
        named = {"SubscriptionArn": identity}
        for name, value in attributes_of(_SUBSCRIPTION, want.inputs, changed).items():
            aws.call("sns.SetSubscriptionAttributes", **named, AttributeName=name, AttributeValue=value)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del want
        return {"arn": identity, "ownerId": aws.account}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        aws.call("sns.Unsubscribe", SubscriptionArn=identity)


HANDLERS: tuple[Handler, ...] = (Topic(), TopicPolicy(), TopicSubscription())
