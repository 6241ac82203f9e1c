"""EventBridge rules and their targets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from fleet.rehearsal.resources.aws import Aws, is_gone
from fleet.rehearsal.resources.handler import REQUIRED, Handler, Want, tag_changes, tag_list, without_tags
from fleet.rehearsal.resources.shapes import UNKNOWN, fit


class EventRule(Handler):
    """Putting a rule is repeatable; its tags are told only where it is new."""

    type = "aws:cloudwatch/eventRule:EventRule"
    create = "events.PutRule"
    name_argument = "name"
    name_limit = 64
    settled = frozenset({"forceDestroy"})
    updates: ClassVar[Mapping[str, Any]] = {
        "description": "",
        "eventPattern": None,
        "forceDestroy": False,
        "roleArn": None,
        "scheduleExpression": None,
        "state": "ENABLED",
        "tags": {},
    }

    def key(self, want: Want) -> str:
        return f"{want.get('eventBusName', 'default')} {want.physical}"

    def find(self, aws: Aws, want: Want) -> str | None:
        try:
            aws.call("events.DescribeRule", Name=want.physical, **_bus(want))
        except ClientError as exc:
            if is_gone(exc):
                return None
            raise
        return want.physical

    def make(self, aws: Aws, want: Want) -> str:
        self._put(aws, want, want.inputs)
        return want.physical

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if set(changed) - {"tags", "forceDestroy"}:
            self._put(aws, want, without_tags(want))
        if "tags" in changed:
            self._retag(aws, identity, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        rule = aws.call("events.DescribeRule", Name=identity, **_bus(want))
        return {"arn": rule["Arn"], "name": identity, "eventBusName": want.get("eventBusName", "default")}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        force = bool(want.get("forceDestroy", False))
        aws.call("events.DeleteRule", Name=identity, Force=force, **_bus(want))

    def _put(self, aws: Aws, want: Want, arguments: Mapping[str, Any]) -> None:
        request = self.fitted(aws, self.create, self.shaped(arguments))
        aws.call(self.create, Name=want.physical, **request)

    def _retag(self, aws: Aws, identity: str, want: Want) -> None:
        changed, removed = tag_changes(want)
        arn = self.outputs(aws, identity, want)["arn"]
        if changed:
            aws.call("events.TagResource", ResourceARN=arn, Tags=tag_list(changed))
        if removed:
            aws.call("events.UntagResource", ResourceARN=arn, TagKeys=removed)


_OUTER = ("rule", "eventBusName", "targetId", "forceDestroy")


class EventTarget(Handler):
    """Putting a target is repeatable, so that nothing need be found."""

    type = "aws:cloudwatch/eventTarget:EventTarget"
    create = "events.PutTargets"
    name_argument = "targetId"
    name_limit = 64
    members: ClassVar[Mapping[str, str]] = {"sqsTarget": "SqsParameters"}
    updates: ClassVar[Mapping[str, Any]] = {
        "arn": REQUIRED,
        "deadLetterConfig": None,
        "input": None,
        "inputPath": None,
        "inputTransformer": None,
        "retryPolicy": None,
        "roleArn": None,
        "sqsTarget": None,
        "forceDestroy": False,
    }

    def key(self, want: Want) -> str:
        return self._id(want)

    def check(self, aws: Aws, inputs: Mapping[str, Any]) -> None:
        self._target(aws, inputs)

    def find(self, aws: Aws, want: Want) -> str | None:
        try:
            targets = aws.call("events.ListTargetsByRule", Rule=want.inputs["rule"], **_bus(want))["Targets"]
        except ClientError as exc:
            if is_gone(exc):
                return None
            raise
        return self._id(want) if want.physical in [target["Id"] for target in targets] else None

    def make(self, aws: Aws, want: Want) -> str:
        target = {"Id": want.physical, **self._target(aws, want.inputs)}
        answer = aws.call(self.create, Rule=want.inputs["rule"], Targets=[target], **_bus(want))
        _refuse_failures(answer, self.create)
        return self._id(want)

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        del identity
        if set(changed) - {"forceDestroy"}:
            self.make(aws, want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del aws, identity
        return {"targetId": want.physical}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del identity
        force = bool(want.get("forceDestroy", False))
        request = {"Rule": want.inputs["rule"], "Ids": [want.physical], "Force": force}
        _refuse_failures(aws.call("events.RemoveTargets", **request, **_bus(want)), "events.RemoveTargets")

    def _target(self, aws: Aws, inputs: Mapping[str, Any]) -> dict[str, Any]:
        arguments = {key: value for key, value in self.shaped(inputs).items() if key not in _OUTER}
        transformer = arguments.pop("inputTransformer", None)
        if isinstance(transformer, Mapping):
            names = {"inputPaths": "InputPathsMap"}
            arguments["InputTransformer"] = {names.get(key, key): value for key, value in transformer.items()}
        shape = aws.shape(self.create).members["Targets"].member  # type: ignore[attr-defined]
        target = fit(shape, arguments, "")
        assert isinstance(target, dict)
        return target

    def _id(self, want: Want) -> str:
        return f"{want.inputs['rule']}-{want.physical}"


def _bus(want: Want) -> dict[str, Any]:
    bus = want.get("eventBusName")
    return {} if bus is None or bus is UNKNOWN else {"EventBusName": bus}


def _refuse_failures(answer: Mapping[str, Any], operation: str) -> None:
    """EventBridge answers 200 and tells failures inside; they become the errors that other services raise."""
    if answer.get("FailedEntryCount"):
        entry = answer["FailedEntries"][0]
        error = {"Error": {"Code": entry.get("ErrorCode", ""), "Message": entry.get("ErrorMessage", "")}}
        raise ClientError(error, operation.partition(".")[2])  # type: ignore[arg-type]


HANDLERS: tuple[Handler, ...] = (EventRule(), EventTarget())
