"""Every error that the emulated cloud raises on purpose (AWS's own errors reach callers through boto3).

GoldenfleetError
+-- CloudError
    +-- MotoVersionRefused    another moto than the one whose gaps are known
    +-- CloudInUse            this process already runs an emulated cloud: moto's state is one per process
    +-- InstanceUnknown       no such instance runs
    +-- NotSpot               only spot instances are interrupted
    +-- GroupUnknown          no such Auto Scaling group
"""

from __future__ import annotations

from fleet.errors import GoldenfleetError


class CloudError(GoldenfleetError):
    """The emulated cloud cannot do what it was asked."""


class MotoVersionRefused(CloudError):
    """Another moto than the one whose gaps are known."""


class CloudInUse(CloudError):
    """This process already runs an emulated cloud: moto's state is one per process."""


class InstanceUnknown(CloudError):
    """No such instance runs."""


class NotSpot(CloudError):
    """Only spot instances are interrupted."""


class GroupUnknown(CloudError):
    """No such Auto Scaling group."""
