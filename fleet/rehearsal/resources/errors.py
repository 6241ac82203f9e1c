"""Every error that mapping a resource onto AWS raises on purpose (what AWS itself answers stays botocore's).

GoldenfleetError
+-- ResourceError
    +-- TypeUnknownError         no handler makes this type, or answers this function
    +-- ArgumentUnmappedError    an argument that no request to AWS has a place for
    +-- ArgumentRefusedError     a value that AWS would refuse
    +-- NotFoundError            what the program reads does not exist
    +-- NotReachedError          AWS did not come to the expected state in time
"""

from __future__ import annotations

from fleet.errors import GoldenfleetError


class ResourceError(GoldenfleetError):
    """A resource cannot be mapped onto AWS."""


class TypeUnknownError(ResourceError):
    """No handler makes this type, or answers this function."""


class ArgumentUnmappedError(ResourceError):
    """An argument that no request to AWS has a place for."""


class ArgumentRefusedError(ResourceError):
    """A value that AWS would refuse."""


class NotFoundError(ResourceError):
    """What the program reads does not exist."""


class NotReachedError(ResourceError):
    """AWS did not come to the expected state in time."""
