"""Lambda functions, what calls them, and who may."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from fleet.rehearsal.resources.archives import Archive
from fleet.rehearsal.resources.aws import Aws, is_gone
from fleet.rehearsal.resources.errors import ArgumentRefusedError
from fleet.rehearsal.resources.handler import REQUIRED, Handler, Want, tag_changes
from fleet.rehearsal.resources.shapes import UNKNOWN

# What Lambda has where the program gives nothing (API reference of CreateFunction).
_CONFIGURATION: Mapping[str, Any] = {
    "description": "",
    "environment": {"variables": {}},
    "handler": REQUIRED,
    "loggingConfig": {"logFormat": "Text"},
    "memorySize": 128,
    "role": REQUIRED,
    "runtime": REQUIRED,
    "timeout": 3,
    "vpcConfig": {"securityGroupIds": [], "subnetIds": []},
}
# pulumi-aws's own: what it does when the function is deleted, and how it waits.
_OURS = frozenset({"replaceSecurityGroupsOnDestroy", "replacementSecurityGroupIds", "skipDestroy"})


class Function(Handler):
    """A function from an archive."""

    type = "aws:lambda/function:Function"
    create = "lambda.CreateFunction"
    name_argument = "name"
    name_limit = 64
    settled = frozenset({"reservedConcurrentExecutions"})
    updates: ClassVar[Mapping[str, Any]] = {
        **_CONFIGURATION,
        **dict.fromkeys(_OURS),
        "code": REQUIRED,
        "reservedConcurrentExecutions": -1,
        "tags": {},
    }

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        code = inputs.get("code")
        if code is not None and code is not UNKNOWN and not isinstance(code, Archive):
            raise ArgumentRefusedError("argument code is no archive", "Give an AssetArchive of files.")
        skipped = {*_OURS, "code"}
        return {key: value for key, value in super().shaped(inputs).items() if key not in skipped}

    def find(self, aws: Aws, want: Want) -> str | None:
        try:
            aws.call("lambda.GetFunction", FunctionName=want.physical)
        except ClientError as exc:
            if is_gone(exc):
                return None
            raise
        return want.physical

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        code = {"ZipFile": want.inputs["code"].zipped()}
        aws.call(self.create, FunctionName=want.physical, Code=code, **request)
        return want.physical

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if configured := set(changed) & set(_CONFIGURATION):
            self._configure(aws, identity, want, configured)
        if "code" in changed:
            aws.call("lambda.UpdateFunctionCode", FunctionName=identity, ZipFile=want.inputs["code"].zipped())
        if "reservedConcurrentExecutions" in changed:
            self._reserve(aws, identity, int(want.get("reservedConcurrentExecutions", -1)))
        if "tags" in changed:
            _retag(aws, self._arn(aws, identity), want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del want
        found = aws.call("lambda.GetFunctionConfiguration", FunctionName=identity)
        arn = found["FunctionArn"]
        path = f"2015-03-31/functions/{arn}/invocations"
        return {
            "arn": arn,
            "codeSha256": found["CodeSha256"],
            "invokeArn": f"arn:aws:apigateway:{aws.region}:lambda:path/{path}",
            "name": identity,
            "qualifiedArn": f"{arn}:$LATEST",
            "version": "$LATEST",
        }

    def volatile(self, changed: Collection[str]) -> frozenset[str]:
        return frozenset({"codeSha256"}) if "code" in changed else frozenset()

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        if not want.get("skipDestroy"):
            aws.call("lambda.DeleteFunction", FunctionName=identity)

    def _configure(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        operation = "lambda.UpdateFunctionConfiguration"
        values = {key: want.get(key, _CONFIGURATION[key]) for key in changed}
        request = self.fitted(aws, operation, values)
        aws.call(operation, FunctionName=identity, **request)

    def _reserve(self, aws: Aws, identity: str, executions: int) -> None:
        """-1 is pulumi-aws's word for none."""
        if executions < 0:
            aws.call("lambda.DeleteFunctionConcurrency", FunctionName=identity)
            return
        reserved = {"ReservedConcurrentExecutions": executions}
        aws.call("lambda.PutFunctionConcurrency", FunctionName=identity, **reserved)

    def _arn(self, aws: Aws, identity: str) -> str:
        return aws.arn("lambda", f"function:{identity}")


class EventSourceMapping(Handler):
    """Of one queue and one function there can be one."""

    type = "aws:lambda/eventSourceMapping:EventSourceMapping"
    create = "lambda.CreateEventSourceMapping"
    updates: ClassVar[Mapping[str, Any]] = {
        "batchSize": 10,
        "enabled": True,
        "filterCriteria": {},
        "functionResponseTypes": [],
        "maximumBatchingWindowInSeconds": 0,
        "scalingConfig": {},
        "tags": {},
    }

    def key(self, want: Want) -> str:
        return f"{want.inputs['eventSourceArn']} {want.inputs['functionName']}"

    def find(self, aws: Aws, want: Want) -> str | None:
        named = {"EventSourceArn": want.inputs["eventSourceArn"], "FunctionName": want.inputs["functionName"]}
        found = aws.call("lambda.ListEventSourceMappings", **named)["EventSourceMappings"]
        return str(found[0]["UUID"]) if found else None

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        return str(aws.call(self.create, **request)["UUID"])

    def settle(self, aws: Aws, identity: str, want: Want, changed: Collection[str]) -> None:
        if configured := set(changed) - {"tags"}:
            values = {key: want.get(key, self.updates[key]) for key in configured}
            operation = "lambda.UpdateEventSourceMapping"
            aws.call(operation, UUID=identity, **self.fitted(aws, operation, values))
        if "tags" in changed:
            _retag(aws, aws.arn("lambda", f"event-source-mapping:{identity}"), want)

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del want
        found = aws.call("lambda.GetEventSourceMapping", UUID=identity)
        return {
            "arn": aws.arn("lambda", f"event-source-mapping:{identity}"),
            "functionArn": found["FunctionArn"],
            "state": found.get("State"),
            "uuid": identity,
        }

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        aws.call("lambda.DeleteEventSourceMapping", UUID=identity)


class Permission(Handler):
    """A statement of a function's own policy; it changes only by being made anew."""

    type = "aws:lambda/permission:Permission"
    create = "lambda.AddPermission"
    name_argument = "statementId"
    name_limit = 100
    members: ClassVar[Mapping[str, str]] = {"function": "FunctionName"}

    def key(self, want: Want) -> str:
        return f"{want.inputs['function']} {want.physical}"

    def find(self, aws: Aws, want: Want) -> str | None:
        try:
            policy = aws.call("lambda.GetPolicy", FunctionName=want.inputs["function"])["Policy"]
        except ClientError as exc:
            if is_gone(exc):
                return None
            raise
        return want.physical if f'"{want.physical}"' in policy else None

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        aws.call(self.create, StatementId=want.physical, **request)
        return want.physical

    def outputs(self, aws: Aws, identity: str, want: Want) -> dict[str, Any]:
        del aws, want
        return {"statementId": identity}

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        aws.call("lambda.RemovePermission", FunctionName=want.inputs["function"], StatementId=identity)


def _retag(aws: Aws, arn: str, want: Want) -> None:
    changed, removed = tag_changes(want)
    if changed:
        aws.call("lambda.TagResource", Resource=arn, Tags=changed)
    if removed:
        aws.call("lambda.UntagResource", Resource=arn, TagKeys=removed)


HANDLERS: tuple[Handler, ...] = (Function(), EventSourceMapping(), Permission())
