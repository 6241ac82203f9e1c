"""AWS over boto3: one client a service, and the shapes of its requests."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any

import boto3
from botocore import xform_name
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import StructureShape

from fleet.rehearsal.resources.errors import NotReachedError

POLL_SECONDS = 0.1

_GONE = frozenset(
    {"NoSuchEntity", "NoSuchBucket", "NoSuchKey", "ParameterNotFound", "WAFNonexistentItemException"}
)
_GONE_ENDINGS = ("NotFound", "NotFoundException", "NotFoundFault", "NonExistentQueue", "QueueDoesNotExist")


@dataclass(frozen=True)
class Timing:
    """Seconds, given so that tests need not wait."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass
class Aws:
    """Calls to AWS in one region; at `endpoint_url` an emulated one. Safe to use from several threads."""

    endpoint_url: str | None
    region: str
    timing: Timing = field(default_factory=Timing)

    def __post_init__(self) -> None:
        self._clients: dict[str, BaseClient] = {}
        self._lock = Lock()
        key = self._key()
        self._session = boto3.Session(key, key, region_name=self.region)

    @cached_property
    def account(self) -> str:
        return str(self.call("sts.GetCallerIdentity")["Account"])

    def arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """`operation` is AWS's own name of it, as ec2.CreateVpc. Raises botocore's errors."""
        service, _, name = operation.partition(".")
        return dict(getattr(self.client(service), xform_name(name))(**request))

    def shape(self, operation: str) -> StructureShape:
        service, _, name = operation.partition(".")
        shape = self.client(service).meta.service_model.operation_model(name).input_shape
        assert shape is not None, operation
        return shape

    def client(self, service: str) -> BaseClient:
        with self._lock:  # making a client is not thread-safe in boto3, using one is
            if service not in self._clients:
                self._clients[service] = self._session.client(  # type: ignore[call-overload]
                    service,
                    endpoint_url=self.endpoint_url,
                    config=Config(retries={"mode": "standard"}, max_pool_connections=32),
                )
            return self._clients[service]

    def wait(self, what: str, reached: Callable[[], bool], seconds: float) -> None:
        """Poll until `reached`; raises NotReachedError after `seconds`."""
        deadline = self.timing.clock() + seconds
        while not reached():
            if self.timing.clock() >= deadline:
                raise NotReachedError(
                    f"{what}: not so after {seconds:g} s", "Look at the resource in AWS, then run again."
                )
            self.timing.sleep(POLL_SECONDS)

    def _key(self) -> str | None:
        """An emulated cloud takes any key; without one, botocore would look for some on the network."""
        given = self.endpoint_url is None or os.environ.get("AWS_ACCESS_KEY_ID")
        return None if given else "rehearsal"


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def is_gone(error: ClientError) -> bool:
    """AWS says that the resource does not exist."""
    code = code_of(error)
    if code in _GONE or code.endswith(_GONE_ENDINGS):
        return True
    # Auto Scaling answers ValidationError for everything; only its message tells.
    return code == "ValidationError" and "not found" in str(error).lower()
