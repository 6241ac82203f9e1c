"""Flow logs: who talked to whom in a VPC or subnet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from fleet.rehearsal.resources.aws import Aws
from fleet.rehearsal.resources.ec2 import Ec2Handler
from fleet.rehearsal.resources.handler import Handler, Want
from fleet.rehearsal.resources.shapes import UNKNOWN

_OF = {"vpcId": "VPC", "subnetId": "Subnet", "eniId": "NetworkInterface"}


class FlowLog(Ec2Handler):
    """No argument of one can change, but for its tags."""

    type = "aws:ec2/flowLog:FlowLog"
    create = "ec2.CreateFlowLogs"
    kind, id_member = "vpc-flow-log", "FlowLogId"
    describe = ("ec2.DescribeFlowLogs", "FlowLogs")
    arn_kind = "vpc-flow-log"
    members: ClassVar[Mapping[str, str]] = {"iamRoleArn": "DeliverLogsPermissionArn"}
    updates: ClassVar[Mapping[str, Any]] = {"tags": {}}

    def shaped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        shaped = super().shaped(inputs)
        given = {argument: shaped.pop(argument) for argument in _OF if argument in shaped}
        of = next(iter(given.items()), None)
        if of is None:
            return shaped
        resource = UNKNOWN if of[1] is UNKNOWN else [of[1]]
        return {**shaped, "ResourceType": _OF[of[0]], "ResourceIds": resource}

    def make(self, aws: Aws, want: Want) -> str:
        request = self.fitted(aws, self.create, self.shaped(want.inputs))
        answer = aws.call(self.create, **request, **self.tags_at_creation(want))
        _refuse_failures(answer, self.create)
        return str(answer["FlowLogIds"][0])

    def described(self, aws: Aws, **request: Any) -> list[dict[str, Any]]:
        """EC2 calls the filters of this one operation by another name."""
        filters = request.pop("Filters", [])
        return super().described(aws, Filter=filters, **request)

    def delete(self, aws: Aws, identity: str, want: Want) -> None:
        del want
        _refuse_failures(aws.call("ec2.DeleteFlowLogs", FlowLogIds=[identity]), "ec2.DeleteFlowLogs")


def _refuse_failures(answer: Mapping[str, Any], operation: str) -> None:
    """EC2 answers 200 and tells failures inside; they become the errors that other calls raise."""
    for item in answer.get("Unsuccessful", ()):
        raise ClientError({"Error": item["Error"]}, operation.partition(".")[2])


HANDLERS: tuple[Handler, ...] = (FlowLog(),)
