"""One stack in one account, by boto3: how it is found, and the seam where AWS's errors become ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    InvalidConfigError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from fleet.oncall import kept
from fleet.oncall.errors import (
    Ambiguous,
    AwsFailed,
    CredentialsRefused,
    Impossible,
    OnCallError,
    RegionUnknown,
    StackUnknown,
)
from fleet.oncall.kept import Kept

STACK_TAG = "goldenfleet:stack"
TIER_TAG = "goldenfleet:tier"

_CONFIG = Config(
    connect_timeout=3,
    read_timeout=20,
    retries={"mode": "standard", "max_attempts": 3},
    max_pool_connections=32,
)
# Nothing of the user's own settings reaches a rehearsal: neither profile, files nor proxy.
_KEPT_CONFIG = _CONFIG.merge(Config(proxies={}))
_KEPT_SESSION = {
    "profile": (None, None, None, None),
    "config_file": (None, None, "/dev/null", None),
    "credentials_file": (None, None, "/dev/null", None),
}
_KEPT_KEY = "rehearsal"
_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    ProfileNotFound,
    InvalidConfigError,
    SSOError,
)
# "Common error types" of the API references; EC2's own: "Error codes for the Amazon EC2 API".
_REFUSED_KEYS = {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "MissingAuthenticationToken",
    "OptInRequired",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_NOT_ALLOWED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized"}
# Each service has its own word: botocore, retries/standard.py.
_THROTTLED = {
    "EC2ThrottledException",
    "LimitExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}


@dataclass(frozen=True)
class Aws:
    """Clients are made once and shared by threads, which boto3 allows."""

    stack: str
    session: boto3.Session
    kept: Kept | None = None
    """The rehearsal that this is, if it is one."""
    _clients: dict[str, Any] = field(default_factory=dict, repr=False)
    _making: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def region(self) -> str:
        return str(self.session.region_name)

    @property
    def partition(self) -> str:
        """First part of ARNs, such as aws or aws-cn."""
        return self.session.get_partition_for_region(self.region)

    @property
    def time_scale(self) -> float:
        """Multiplies AWS's durations; 1 but in a rehearsal."""
        return self.kept.time_scale if self.kept is not None else 1.0

    @property
    def flags(self) -> str:
        """Options that lead another command to the same stack."""
        return f"--stack {self.stack}" + (" --rehearsal" if self.kept is not None else "")

    def client(self, service: str) -> Any:
        """Raises RegionUnknown, CredentialsRefused and Impossible."""
        with self._making, translated(f"make a client of {service}"):
            if service not in self._clients:
                self._clients[service] = _client(self.session, self.kept, service)
            return self._clients[service]

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """One call, such as `ec2.describe_instances`. Raises OnCallError."""
        service, _, name = operation.partition(".")
        with translated(operation):
            answer: dict[str, Any] = getattr(self.client(service), name)(**arguments)
        return answer

    def pages(self, operation: str, key: str, **arguments: Any) -> list[Any]:
        """Everything under `key` in all pages of an answer. Raises OnCallError."""
        service, _, name = operation.partition(".")
        with translated(operation):
            paginator = self.client(service).get_paginator(name)
            return [one for page in paginator.paginate(**arguments) for one in page.get(key, ())]


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Every error of botocore leaves as one of ours."""
    try:
        yield
    except ClientError as exc:
        raise _said_no(operation, exc) from exc
    except NoRegionError as exc:
        raise RegionUnknown("nothing says which AWS region to ask", _NAME_A_REGION) from exc
    except InvalidRegionError as exc:
        raise RegionUnknown(str(exc), _NAME_A_REGION) from exc
    except _NO_CREDENTIALS as exc:
        raise CredentialsRefused(f"there are no AWS credentials to use: {exc}", _LOG_IN) from exc
    except EndpointConnectionError as exc:
        hint = "Check AWS_REGION, the network and AWS_ENDPOINT_URL; a kept rehearsal may have ended."
        raise AwsFailed(str(exc), hint, type(exc).__name__) from exc
    except BotoCoreError as exc:
        hint = "Try again; if it stays so, check the network and your AWS configuration."
        raise AwsFailed(f"{operation} failed: {exc}", hint, type(exc).__name__) from exc
    except ValueError as exc:
        # An endpoint that is no URL: when the client is made, or when it first asks.
        raise Impossible(f"AWS cannot be asked: {exc}", "Check AWS_ENDPOINT_URL.") from exc


_NAME_A_REGION = "Set AWS_REGION, or region in your profile; for a kept rehearsal give --rehearsal."
_LOG_IN = (
    "Log in (aws sso login), or set AWS_PROFILE; `aws sts get-caller-identity` tells who you are. A region "
    "that the account has not enabled refuses everybody: check AWS_REGION. For a kept rehearsal give "
    "--rehearsal."
)


def _said_no(operation: str, exc: ClientError) -> OnCallError:
    error = exc.response.get("Error", {})
    code, message = error.get("Code", "Unknown"), error.get("Message", "")
    if code in _REFUSED_KEYS:
        return CredentialsRefused(f"AWS refuses the credentials: {code}: {message}", _LOG_IN)
    if code in _NOT_ALLOWED:
        hint = f"Let your role call {operation.replace('_', '')}, or take one that may."
        return CredentialsRefused(f"not allowed: {operation}: {message}", hint)
    hint = "AWS throttles this account; wait a little and try again." if code in _THROTTLED else ""
    return AwsFailed(f"{operation} failed: {code}: {message}", hint, code)


def connect(stack: str | None = None, *, rehearsal: bool = False) -> Aws:
    """The stack that is meant: the one named, else the only one. Raises OnCallError.

    With `rehearsal` in the emulated AWS of the rehearsal that is kept here, else wherever the environment's
    credentials, region and AWS_ENDPOINT_URL lead.
    """
    if rehearsal:
        there = kept.find(stack)
        return Aws(there.stack, _kept_session(there), there)
    with translated("make a session"):
        session = boto3.Session()
    found = stacks(Aws("", session))
    if stack is None and len(found) == 1:
        return Aws(found[0], session)
    if stack in found:
        return Aws(stack, session)
    raise _not_the_one(stack, found, str(session.region_name))


def stacks(aws: Aws) -> list[str]:
    """Names of all stacks in the account and region. Raises OnCallError."""
    any_stack = [{"Name": "tag-key", "Values": [STACK_TAG]}]
    groups = aws.pages("autoscaling.describe_auto_scaling_groups", "AutoScalingGroups", Filters=any_stack)
    return sorted({tags(group)[STACK_TAG] for group in groups})


def tags(resource: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in resource.get("Tags", ())}


def _not_the_one(stack: str | None, found: list[str], region: str) -> OnCallError:
    there = f"there is {', '.join(found)}" if found else "there is none"
    elsewhere = "Check AWS_PROFILE and AWS_REGION; for a kept rehearsal give --rehearsal."
    if stack is None and found:
        return Ambiguous(
            f"there are several stacks in {region}: {', '.join(found)}",
            "Name one by --stack, or set GOLDENFLEET_STACK.",
        )
    if stack is None:
        return StackUnknown(f"there is no Goldenfleet stack in {region}", elsewhere)
    return StackUnknown(f"there is no stack {stack} in {region}; {there}", elsewhere)


def _kept_session(there: Kept) -> boto3.Session:
    core = botocore.session.Session(session_vars=_KEPT_SESSION)
    return boto3.Session(_KEPT_KEY, _KEPT_KEY, region_name=there.region, botocore_session=core)


def _client(session: boto3.Session, there: Kept | None, service: str) -> Any:
    if there is None:
        return session.client(service, config=_CONFIG)  # type: ignore[call-overload]
    return session.client(service, config=_KEPT_CONFIG, endpoint_url=there.aws_endpoint)  # type: ignore[call-overload]
