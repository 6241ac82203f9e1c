"""Rules for who may talk to whom."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.policy.balancers import redirects
from fleet.policy.kinds import (
    BALANCER,
    EGRESS,
    ENDPOINT,
    FLOW_LOG,
    INGRESS,
    LISTENER,
    OLD_RULE,
    SECURITY_GROUP,
    VPC,
)
from fleet.policy.model import Resource, Stack, Values, listed, rule, whole_rule

_SSH = 22
_PUBLIC_PORTS = (80, 443)
_HTTPS = 443
_ANYWHERE = ("0.0.0.0/0", "::/0")


@rule(
    "Nothing listens for SSH.",
    "Remove the rule: Session Manager needs no open port.",
    [INGRESS, OLD_RULE, SECURITY_GROUP],
)
def no_ssh(of: Resource) -> Iterator[str]:
    for way_in in _ways_in(of):
        if _covers(way_in, _SSH):
            yield f"port {_SSH} is open"


@whole_rule(
    "Only the public balancer hears the whole internet, on ports 80 and 443.",
    "Name a security group, or narrow the addresses (edge.allowedCidrs).",
    [INGRESS, OLD_RULE, SECURITY_GROUP],
)
def no_open_ingress(of: Resource, stack: Stack) -> Iterator[str]:
    for way_in in _ways_in(of):
        if not _from_anywhere(way_in):
            continue
        ports = f"ports {way_in.get('fromPort')} to {way_in.get('toPort')}"
        if not any(_only(way_in, port) for port in _PUBLIC_PORTS):
            yield f"{ports} are open to the internet"
        elif not _public_balancers(of, stack):
            yield f"{ports} of what is no public balancer are open to the internet"


@whole_rule(
    "Where the whole internet may ask, prompts, answers and keys are encrypted.",
    "Give the stack a certificate (edge.certificateArn), or narrow the addresses (edge.allowedCidrs).",
    [INGRESS, OLD_RULE, SECURITY_GROUP],
    level="advisory",
)
def no_open_clear_text(of: Resource, stack: Stack) -> Iterator[str]:
    open_ways = [way_in for way_in in _ways_in(of) if _from_anywhere(way_in)]
    for balancer in _public_balancers(of, stack) if open_ways else ():
        for listener in stack.pointing("loadBalancerArn", balancer, LISTENER):
            port = int(listener.given.get("port") or 0)
            heard = any(_covers(way_in, port) for way_in in open_ways)
            if heard and listener.given.get("protocol") == "HTTP" and not redirects(listener):
                yield f"port {port} is open to the internet, and answers there are clear text"


@rule(
    "What goes out to the whole internet is HTTPS.",
    "Name a security group, or narrow the rule to TCP 443.",
    [EGRESS, OLD_RULE, SECURITY_GROUP],
)
def egress_https_only(of: Resource) -> Iterator[str]:
    for way_out in _ways_out(of):
        if _from_anywhere(way_out) and not _only(way_out, _HTTPS):
            yield f"protocol {_protocol(way_out)}, port {way_out.get('fromPort')} may go anywhere"


@whole_rule(
    "Production keeps flow logs of its VPC.",
    "Leave out security.flowLogs, or set it to true: production has them by default.",
    [VPC],
    production=True,
)
def flow_logs(of: Resource, stack: Stack) -> Iterator[str]:
    if not stack.pointing("vpcId", of, FLOW_LOG):
        yield "it has no flow log"


@rule(
    "Endpoints in the VPC are what AWS's names lead to, and have a security group of their own.",
    "Set privateDnsEnabled and securityGroupIds.",
    [ENDPOINT],
)
def endpoints_private(of: Resource) -> Iterator[str]:
    if of.given.get("vpcEndpointType") != "Interface":
        return
    if not of.given.true("privateDnsEnabled"):
        yield "privateDnsEnabled is not true"
    if not of.given.has("securityGroupIds"):
        yield "it has the VPC's default security group"


@rule(
    "What passes an endpoint is named, and asked with this account's credentials.",
    "Give the endpoint a policy that names actions, with a condition on aws:PrincipalAccount.",
    [ENDPOINT],
)
def endpoints_bounded(of: Resource) -> Iterator[str]:
    if not of.given.has("policy"):
        yield "it has no policy, so that everything passes"
    for statement in of.given.document("policy"):
        if any("*" in action for action in listed(statement.get("Action") or ["*"])):
            yield f"its policy lets {statement.get('Action')} pass"
        if not statement.get("Condition", "StringEquals", "aws:PrincipalAccount"):
            yield "its policy lets credentials of other accounts pass"


def _ways_in(of: Resource) -> list[Values]:
    if of.type == SECURITY_GROUP:
        return of.given.each("ingress")
    return [of.given] if of.type == INGRESS or of.given.get("type") == "ingress" else []


def _ways_out(of: Resource) -> list[Values]:
    if of.type == SECURITY_GROUP:
        return of.given.each("egress")
    return [of.given] if of.type == EGRESS or of.given.get("type") == "egress" else []


def _protocol(way: Values) -> str:
    return str(way.get("ipProtocol") or way.get("protocol"))


def _covers(way: Values, port: int) -> bool:
    if _protocol(way) not in ("tcp", "6"):
        return _protocol(way) == "-1"
    return int(way.get("fromPort") or 0) <= port <= int(way.get("toPort") or 0)


def _only(way: Values, port: int) -> bool:
    return _protocol(way) in ("tcp", "6") and way.get("fromPort") == way.get("toPort") == port


def _from_anywhere(way: Values) -> bool:
    """Or to anywhere, of a way out."""
    single = [way.get(argument) for argument in ("cidrIpv4", "cidrIpv6")]
    return any(
        block in _ANYWHERE for block in (*single, *way.texts("cidrBlocks"), *way.texts("ipv6CidrBlocks"))
    )


def _public_balancers(of: Resource, stack: Stack) -> list[Resource]:
    """Which the way in leads to."""
    groups = [of] if of.type == SECURITY_GROUP else stack.behind(of, "securityGroupId")
    public = [balancer for balancer in stack.of(BALANCER) if not balancer.given.true("internal")]
    return [b for b in public if any(group in stack.behind(b, "securityGroups") for group in groups)]


RULES = (
    no_ssh,
    no_open_ingress,
    no_open_clear_text,
    egress_https_only,
    flow_logs,
    endpoints_private,
    endpoints_bounded,
)
