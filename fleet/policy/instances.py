"""Rules for instances: their metadata service, addresses, keys, volumes, image and user data."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from fleet.policy.kinds import EIP, FUNCTION, INSTANCE, PARAMETER, SUBNET, TEMPLATE, VOLUME
from fleet.policy.model import NotKnownYet, Resource, Values, rule

# An engine in a container is one hop further from the metadata service than the instance; nothing is two.
_MOST_HOPS = 2
_IMAGE_ID = re.compile(r"ami-[0-9a-f]{8,17}")

_SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(?:hf|sk|ghp)_[A-Za-z0-9]{16,}"
    r"|\bsk-[A-Za-z0-9_-]{16,}"
    r"|(?i:password|passwd|secret|token|api_?key)[\"']?\s*[:=]\s*[\"']?(?!ssm:|secretsmanager:|arn:|null)[^\s\"',}]+"
)
"""Keys of AWS, private keys, tokens of common services, and anything called a secret that is no reference."""


@rule(
    "Instances answer metadata requests with a session token only (IMDSv2).",
    "Set metadataOptions.httpTokens to required.",
    [TEMPLATE, INSTANCE],
)
def imds_token(of: Resource) -> Iterator[str]:
    tokens = of.given.get("metadataOptions", "httpTokens")
    if tokens != "required":
        yield f"metadataOptions.httpTokens is {tokens!r}"


@rule(
    f"Metadata answers travel at most {_MOST_HOPS} network hops.",
    f"Set metadataOptions.httpPutResponseHopLimit to 1, or to {_MOST_HOPS} for an engine in a container.",
    [TEMPLATE, INSTANCE],
)
def imds_hop_limit(of: Resource) -> Iterator[str]:
    hops = of.given.get("metadataOptions", "httpPutResponseHopLimit")
    if hops is None or not 1 <= hops <= _MOST_HOPS:
        yield f"metadataOptions.httpPutResponseHopLimit is {hops}"


@rule(
    "No instance has a public address.",
    "Leave addresses to private subnets and the way out to NAT or endpoints.",
    [TEMPLATE, INSTANCE, SUBNET, EIP],
)
def no_public_address(of: Resource) -> Iterator[str]:
    for argument in ("associatePublicIpAddress", "mapPublicIpOnLaunch"):
        if of.given.true(argument):
            yield f"{argument} is true"
    for interface in of.given.each("networkInterfaces"):
        if interface.true("associatePublicIpAddress"):
            yield "networkInterfaces.associatePublicIpAddress is true"
    if of.given.has("instance"):
        yield "an address is given to an instance"


@rule(
    "No instance has a key for SSH.",
    "Remove keyName: Session Manager gives a shell, and notes who had it.",
    [TEMPLATE, INSTANCE],
)
def no_ssh_key(of: Resource) -> Iterator[str]:
    if of.given.has("keyName"):
        yield f"keyName is {of.given.get('keyName')}"


@rule(
    "Every volume is encrypted.",
    "Set encrypted to true; one from an encrypted snapshot is so by itself.",
    [TEMPLATE, INSTANCE, VOLUME],
)
def volumes_encrypted(of: Resource) -> Iterator[str]:
    for mapping in of.given.each("blockDeviceMappings"):
        if not (_encrypted(mapping, "ebs") or mapping.get("ebs", "snapshotId")):
            yield f"{mapping.get('deviceName')} is not encrypted"
    if of.type == VOLUME and not _encrypted(of.given):
        yield "it is not encrypted"
    if of.type == TEMPLATE and not of.given.has("blockDeviceMappings"):
        yield "no blockDeviceMappings say how the root volume is"


@rule(
    "A template launches an image by its id.",
    "Pin the id that the channel has: AWS refuses automatic rollback with resolve:ssm.",
    [TEMPLATE],
)
def image_pinned(of: Resource) -> Iterator[str]:
    image = of.given.get("imageId")
    if not _IMAGE_ID.fullmatch(str(image)):
        yield f"imageId is {image}"


@rule(
    "Instances are measured each minute.",
    "Set monitoring.enabled: scaling by five-minute metrics comes too late.",
    [TEMPLATE],
)
def detailed_monitoring(of: Resource) -> Iterator[str]:
    if not of.given.true("monitoring", "enabled"):
        yield "monitoring.enabled is not true"


@rule(
    "No secret is written into parameters, user data or environments.",
    "Put it into a SecureString or Secrets Manager, and write ssm:/name or secretsmanager:name instead.",
    [PARAMETER, TEMPLATE, INSTANCE, FUNCTION],
)
def no_plain_secret(of: Resource) -> Iterator[str]:
    for argument, text in _texts(of.given):
        if found := _SECRET.search(text):
            yield f"{argument} holds what looks like a secret, beginning with {found.group()[:6]!r}"
    if of.type == PARAMETER and of.given.get("type") == "SecureString" and of.given.has("insecureValue"):
        yield "a SecureString has its value in insecureValue"


def _texts(given: Values) -> Iterator[tuple[str, str]]:
    if given.has("userData"):
        yield "userData", _decoded(str(given.get("userData")))
    if given.has("insecureValue"):
        yield "insecureValue", str(given.get("insecureValue"))
    for name, value in (given.get("environment", "variables") or {}).items():
        try:
            yield f"environment.{name}", f"{name}={Values({name: value}).get(name)}"
        except NotKnownYet:  # what AWS makes is no secret of ours
            continue


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode(errors="replace")
    except binascii.Error:
        return text


def _encrypted(of: Values, *inside: str) -> bool:
    path = (*inside, "encrypted")
    return of.true(path[0], *path[1:])


RULES = (
    imds_token,
    imds_hop_limit,
    no_public_address,
    no_ssh_key,
    volumes_encrypted,
    image_pinned,
    detailed_monitoring,
    no_plain_secret,
)
