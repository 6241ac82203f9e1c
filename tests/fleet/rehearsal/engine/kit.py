"""What small programs are written with: resources by type token, without pulumi_aws's seconds of import."""

import pulumi


class Aws(pulumi.CustomResource):
    def __init__(self, kind, name, props, outputs=("arn",), **options):
        given = {**dict.fromkeys(outputs), **props}
        super().__init__(f"aws:{kind}", name, given, pulumi.ResourceOptions(**options))


class Part(pulumi.ComponentResource):
    def __init__(self, name, **options):
        super().__init__("test:index:Part", name, None, pulumi.ResourceOptions(**options))


def vpc(name="main", cidr="10.0.0.0/16", tags=None, **options):
    props = {"cidrBlock": cidr, "enableDnsHostnames": True, "tags": tags or {"Name": name}}
    return Aws("ec2/vpc:Vpc", name, props, **options)


def subnet(name, within, cidr, **options):
    props = {"vpcId": within.id, "cidrBlock": cidr}
    return Aws("ec2/subnet:Subnet", name, props, ("arn", "availabilityZone"), **options)


def queue(logical="jobs", /, outputs=("arn", "url", "name"), options=None, **props):
    return Aws("sqs/queue:Queue", logical, props, outputs, **(options or {}))


def parameter(name, value, options=None, **props):
    given = {"name": f"/test/{name}", "type": "String", "value": value, **props}
    return Aws("ssm/parameter:Parameter", name, given, ("arn", "version"), **(options or {}))
