"""Rules for load balancers and their listeners."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fleet.policy.kinds import ACL_ASSOCIATION, BALANCER, LISTENER
from fleet.policy.model import Resource, Stack, Values, rule, whole_rule

# TLS 1.3, and 1.2 with forward secrecy and authenticated encryption only ("Res"); with and without FIPS and
# post-quantum key exchange (Elastic Load Balancing guide, "Security policies for your ALB").
_CURRENT_TLS = re.compile(r"ELBSecurityPolicy-TLS13-1-(3|2-Res)(-FIPS)?(-PQ)?-\d{4}-\d{2}")


@rule(
    "Listeners speak TLS 1.3 or 1.2 with forward secrecy.",
    "Set sslPolicy to ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09; AWS's default is of 2016.",
    [LISTENER],
)
def tls_policy(of: Resource) -> Iterator[str]:
    policy = of.given.get("sslPolicy")
    if of.given.get("protocol") == "HTTPS" and not _CURRENT_TLS.fullmatch(str(policy)):
        yield f"sslPolicy is {policy}"


@whole_rule(
    "Where there is HTTPS, HTTP answers nothing but where HTTPS is; in production there is.",
    "Redirect the HTTP listener, and give the stack a certificate (edge.certificateArn).",
    [LISTENER],
)
def http_redirects(of: Resource, stack: Stack) -> Iterator[str]:
    if of.given.get("protocol") != "HTTP" or redirects(of):
        return
    for balancer in stack.behind(of, "loadBalancerArn"):
        others = stack.pointing("loadBalancerArn", balancer, LISTENER)
        encrypts = any(other.given.get("protocol") == "HTTPS" for other in others)
        if encrypts or (stack.production and not balancer.given.true("internal")):
            yield "it does something else than to redirect to HTTPS"


@rule(
    "Balancers drop header fields that are not valid.",
    "Set dropInvalidHeaderFields to true.",
    [BALANCER],
)
def invalid_headers_dropped(of: Resource) -> Iterator[str]:
    if not of.given.true("dropInvalidHeaderFields"):
        yield "dropInvalidHeaderFields is not true"


@rule(
    "Balancers refuse requests that two servers could read in two ways.",
    "Set desyncMitigationMode to strictest.",
    [BALANCER],
)
def desync_strictest(of: Resource) -> Iterator[str]:
    mode = of.given.get("desyncMitigationMode")
    if mode != "strictest":
        yield f"desyncMitigationMode is {mode}"


@rule(
    "Nobody deletes a balancer of production by mistake.",
    "Set enableDeletionProtection to true.",
    [BALANCER],
    production=True,
)
def deletion_protection(of: Resource) -> Iterator[str]:
    if not of.given.true("enableDeletionProtection"):
        yield "enableDeletionProtection is not true"


@rule(
    "Balancers of production write access logs.",
    "Leave out security.accessLogs, or set it to true: production has them by default.",
    [BALANCER],
    production=True,
)
def access_logs(of: Resource) -> Iterator[str]:
    if not of.given.true("accessLogs", "enabled"):
        yield "accessLogs.enabled is not true"


@whole_rule(
    "Balancers of production that speak TLS write connection logs.",
    "Leave out security.accessLogs, or set it to true: connection logs come with it.",
    [BALANCER],
    production=True,
)
def connection_logs(of: Resource, stack: Stack) -> Iterator[str]:
    listeners = stack.pointing("loadBalancerArn", of, LISTENER)
    encrypts = any(listener.given.get("protocol") == "HTTPS" for listener in listeners)
    if encrypts and not of.given.true("connectionLogs", "enabled"):
        yield "connectionLogs.enabled is not true"


@whole_rule(
    "A web firewall stands before the public balancer of production.",
    "Set edge.waf to managed, or to the ARN of a web ACL.",
    [BALANCER],
    level="advisory",
    production=True,
)
def web_firewall(of: Resource, stack: Stack) -> Iterator[str]:
    guarded = stack.pointing("resourceArn", of, ACL_ASSOCIATION)
    if not of.given.true("internal") and not guarded:
        yield "no web ACL is put before it"


def redirects(listener: Resource) -> bool:
    """Whether it answers nothing but where HTTPS is."""
    return all(map(_to_https, listener.given.each("defaultActions")))


def _to_https(action: Values) -> bool:
    return bool(action.get("type") == "redirect" and action.get("redirect", "protocol") == "HTTPS")


RULES = (
    tls_policy,
    http_redirects,
    invalid_headers_dropped,
    desync_strictest,
    deletion_protection,
    access_logs,
    connection_logs,
    web_firewall,
)
