"""What settings are made of: strict, frozen groups with camelCase keys, and the texts that they may hold.

Each has a `description`, which says what it is, in a sentence or two, and `json_schema_extra=when(...)`,
which says when to change it, or when to set what has no default. docs/settings.md and `goldenfleet config
explain` are made of them, and a test fails without.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

NAMESPACE = "goldenfleet"


def when(text: str) -> JsonDict:
    """When to change a setting."""
    return {"when": text}


class Group(BaseModel):
    """Settings that belong together. A key that it does not have is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


def wanted(words: str, *, quoted: bool = True) -> WrapValidator:
    """Says so of what does not fit the constraints before it: a pattern tells a person little.

    What may be a secret in the place of a reference to one is not `quoted`.
    """

    def check(value: object, constrained: ValidatorFunctionWrapHandler) -> object:
        try:
            return constrained(value)
        except ValidationError:
            given = f"not {value!r}" if quoted else "and is something else"
            raise ValueError(f"must be {words}, {given}") from None

    return WrapValidator(check)


InstanceType = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z][a-z0-9-]*\.(nano|micro|small|medium|large|[0-9]*xlarge|metal(-[0-9a-z]+)?)$"
    ),
    wanted("an instance type such as g6.xlarge"),
]
Slug = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$"),
    wanted("of small letters and digits, with hyphens between them, such as model-gpu-vllm"),
]
Domain = Annotated[
    str,
    StringConstraints(pattern=r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$"),
    wanted("a domain such as llm.example.com"),
]
CertificateArn = Annotated[
    str,
    StringConstraints(pattern=r"^arn:aws[a-z-]*:acm:[a-z0-9-]+:\d{12}:certificate/.+$"),
    wanted("the ARN of a certificate, arn:aws:acm:REGION:ACCOUNT:certificate/ID"),
]
KeyArn = Annotated[
    str,
    StringConstraints(pattern=r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[0-9a-z-]+$"),
    wanted("the ARN of a key, arn:aws:kms:REGION:ACCOUNT:key/ID"),
]
WebAclArn = Annotated[
    str,
    StringConstraints(pattern=r"^arn:aws[a-z-]*:wafv2:[a-z0-9-]+:\d{12}:regional/webacl/[^/]+/[0-9a-f-]+$"),
    wanted("the ARN of a web ACL, arn:aws:wafv2:REGION:ACCOUNT:regional/webacl/NAME/ID"),
]
PolicyArn = Annotated[
    str,
    StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::(\d{12}|aws):policy/[\x21-\x7e]{1,512}$"),
    wanted("the ARN of a policy, arn:aws:iam::ACCOUNT:policy/NAME"),
]
SecurityGroupId = Annotated[
    str,
    StringConstraints(pattern=r"^sg-[0-9a-f]{8,17}$"),
    wanted("the id of a security group, such as sg-0123456789abcdef0"),
]
SecretReference = Annotated[
    str,
    StringConstraints(pattern=r"^(ssm:/[A-Za-z0-9_./-]+|secretsmanager:[A-Za-z0-9/_+=.@:-]+)$"),
    wanted("where it is kept, ssm:/NAME or secretsmanager:NAME", quoted=False),
]
HttpsUrl = Annotated[
    str,
    StringConstraints(pattern=r"^https://[^/?#@\s]+(/[^#\s]*)?$"),
    wanted("a URL that begins with https:// and has neither a user nor a fragment"),
]
Count = Annotated[int, Field(ge=0, le=1000)]

_HTTPS = 443


def port_problem(name: str, url: str | None) -> str | None:
    """Why no node could reach `url`, which is the setting `name`; None when one could."""
    try:
        port = None if url is None else urlsplit(url).port
    except ValueError:
        return f"{name} has a port that is none: leave it out"
    if port in (None, _HTTPS):
        return None
    return f"{name} names port {port}, and nodes reach others by HTTPS on {_HTTPS} only: serve it there"
