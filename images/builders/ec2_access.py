"""How a run reaches its machines: a key pair and a host key of its own, and a group open to us alone."""

from __future__ import annotations

import base64
import json
import urllib.request
from ipaddress import AddressValueError, IPv4Address

from images.aws import Aws, tag_filters, tag_specifications, translated, until_consistent
from images.errors import AwsRefused, BuilderError, RunError
from images.keys import KeyPair, make_key_pair
from images.run import RUN_TAG, Run

_SSH = 22


def local_key(run: Run, name: str) -> KeyPair:
    """The run's key of that name, made once and kept: a repeated launch must send the same user data."""
    path = run.directory / name
    if path.exists():
        private, public = path.read_bytes(), (run.directory / f"{name}.pub").read_text()
        return KeyPair(private, public)
    if run.ledger.standing:
        raise RunError(f"run {run.id} has lost its key {path}", f"sweep it: images sweep --run {run.id}")
    pair = make_key_pair()
    run.write(f"{name}.pub", pair.public.encode())
    run.write(name, pair.private)
    return pair


def key_pair(aws: Aws, run: Run, key: KeyPair) -> str:
    """Name of the run's key pair. Only the public half is sent, so a lost answer loses nothing."""
    name = f"goldenfleet-{run.id}"
    with translated("looking for the run's key pair"):
        found = aws.ec2.describe_key_pairs(Filters=tag_filters({RUN_TAG: run.id}))["KeyPairs"]
    if found:
        run.ledger.made("key-pair", "key", found[0]["KeyPairId"])
        return name
    run.ledger.intend("key-pair", "key", key_name=name)
    try:
        with translated("importing the run's key pair"):
            made = aws.ec2.import_key_pair(
                KeyName=name,
                PublicKeyMaterial=key.public.encode(),
                TagSpecifications=tag_specifications(run.tags("key"), "key-pair"),
            )
    except AwsRefused as error:
        if error.code != "InvalidKeyPair.Duplicate":  # ours: the name holds the run's id
            raise
        return name
    run.ledger.made("key-pair", "key", made["KeyPairId"])
    return name


def security_group(aws: Aws, run: Run, vpc_id: str, cidr: str | None, ports: tuple[int, ...]) -> str:
    """Id of the run's group, open on `ports` to `cidr` alone; to nobody if that is None."""
    group_id = _group(aws, run, vpc_id)
    if cidr is not None:
        _open(aws, run, group_id, cidr, ports)
    return group_id


def own_cidr(url: str, given: IPv4Address | None) -> str:
    """Our own address as a /32. Raises BuilderError if the service at `url` does not tell it."""
    if given is not None:
        return f"{given}/32"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  a setting, https by default
            return f"{IPv4Address(answer.read(64).decode('ascii', 'replace').strip())}/32"
    except (OSError, AddressValueError, ValueError) as exc:
        raise BuilderError(
            f"{url} does not tell our address: {exc}", "set our_address, or reach = ssm"
        ) from exc


def user_data(host_key: KeyPair, deadline_minutes: int) -> str:
    """cloud-config: the host key that we pin, and the power-off that needs nobody to be left to ask for it.

    As JSON, which is YAML: a key's newlines need no quoting of our own.
    """
    config = {
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": host_key.private.decode(), "ed25519_public": host_key.public},
        "bootcmd": [
            ["cloud-init-per", "instance", "goldenfleet-deadline", "shutdown", "-P", f"+{deadline_minutes}"]
        ],
        "ssh_pwauth": False,
    }
    return "#cloud-config\n" + json.dumps(config, sort_keys=True) + "\n"


def console_text(output: str) -> bytes:
    """GetConsoleOutput's answer, whether or not botocore has decoded it."""
    try:
        return base64.b64decode(output, validate=True)
    except ValueError:
        return output.encode()


def _group(aws: Aws, run: Run, vpc_id: str) -> str:
    name = f"goldenfleet-{run.id}"
    by_name = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [vpc_id]}]
    with translated("looking for the run's security group"):
        found = aws.ec2.describe_security_groups(Filters=by_name)["SecurityGroups"]  # type: ignore[arg-type]
    if found:
        run.ledger.made("security-group", "group", found[0]["GroupId"])
        return found[0]["GroupId"]
    run.ledger.intend("security-group", "group", group_name=name, vpc=vpc_id)
    with translated("creating the run's security group"):
        group_id = aws.ec2.create_security_group(
            GroupName=name,
            Description=f"goldenfleet bake {run.id}",
            VpcId=vpc_id,
            TagSpecifications=tag_specifications(run.tags("group"), "security-group"),
        )["GroupId"]
    run.ledger.made("security-group", "group", group_id)
    return group_id


def _open(aws: Aws, run: Run, group_id: str, cidr: str, ports: tuple[int, ...]) -> None:
    try:
        until_consistent(
            f"opening {group_id} to {cidr}",
            lambda: aws.ec2.authorize_security_group_ingress(
                GroupId=group_id,
                IpPermissions=[
                    {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": cidr}]}
                    for port in (_SSH, *ports)
                ],
                TagSpecifications=tag_specifications(run.tags("group"), "security-group-rule"),
            ),
            run.clock,
        )
    except AwsRefused as error:
        if error.code != "InvalidPermission.Duplicate":  # an earlier attempt at this run has opened it
            raise
