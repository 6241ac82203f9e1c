"""Load balancers, and who may talk to whom, in every stack of the project."""

from __future__ import annotations

from tests.fleet.stack.conftest import Registered


def test_balancers_refuse_ambiguous_requests(registered: Registered) -> None:
    """Invalid headers dropped, and what two servers could read in two ways."""
    for balancer in registered.of("lb/loadBalancer:LoadBalancer"):
        assert balancer.inputs["dropInvalidHeaderFields"] is True
        assert balancer.inputs["desyncMitigationMode"] == "strictest"
        assert balancer.inputs["enableDeletionProtection"] is (registered.stack == "prod")


def test_only_the_gateways_balancer_is_public(registered: Registered) -> None:
    """The model tier's is internal, in the private subnets."""
    public = registered.one("lb/loadBalancer:LoadBalancer", "gateway")
    internal = registered.one("lb/loadBalancer:LoadBalancer", "model")
    assert (public.inputs["internal"], internal.inputs["internal"]) == (False, True)
    assert all("-public-" in subnet for subnet in public.inputs["subnets"])
    assert all("-private-" in subnet for subnet in internal.inputs["subnets"])


def test_production_serves_https_only(registered_prod: Registered) -> None:
    """TLS 1.2 and 1.3, and HTTP answers nothing but where HTTPS is."""
    https = registered_prod.one("lb/listener:Listener", "gateway-https").inputs
    http = registered_prod.one("lb/listener:Listener", "gateway-http").inputs
    assert (https["port"], https["protocol"]) == (443, "HTTPS")
    assert https["sslPolicy"].startswith("ELBSecurityPolicy-TLS13-1-2-")
    assert https["certificateArn"].startswith("arn:aws:acm:")
    assert [action["type"] for action in https["defaultActions"]] == ["forward"]
    assert http["defaultActions"] == [
        {"type": "redirect", "redirect": {"protocol": "HTTPS", "port": "443", "statusCode": "HTTP_301"}}
    ]
    assert registered_prod.outputs["endpoint"] == "https://llm.example.com"


def test_without_a_certificate_http_forwards(registered_rehearsal: Registered) -> None:
    """A rehearsal has no certificate."""
    listeners = registered_rehearsal.of("lb/listener:Listener")
    assert {(listener.inputs["port"], listener.inputs["protocol"]) for listener in listeners} == {
        (80, "HTTP")
    }
    assert {a["type"] for listener in listeners for a in listener.inputs["defaultActions"]} == {"forward"}


def test_target_groups_notice_fast_and_let_go_in_time(registered: Registered) -> None:
    """Health checks at AWS's fastest sensible pace, and a deregistration shorter than a spot notice."""
    for targets in registered.of("lb/targetGroup:TargetGroup"):
        check = targets.inputs["healthCheck"]
        assert (check["path"], check["matcher"]) == ("/ready", "200")
        assert (check["interval"], check["timeout"]) == (10, 5)
        assert (check["healthyThreshold"], check["unhealthyThreshold"]) == (2, 2)
        assert targets.inputs["port"] == 8080
        assert targets.inputs["deregistrationDelay"] <= 90
        assert targets.inputs["loadBalancingAlgorithmType"] == "least_outstanding_requests"


def test_only_the_public_balancer_hears_the_world(registered: Registered) -> None:
    """Every other way in names a security group, and there are as few as the flows need."""
    name = {
        g.id: g.name.removeprefix(f"gf-{registered.stack}-")
        for g in registered.of("ec2/securityGroup:SecurityGroup")
    }
    rules = [r.inputs for r in registered.of("vpc/securityGroupIngressRule:SecurityGroupIngressRule")]
    world = {(name[r["securityGroupId"]], r["fromPort"]) for r in rules if "cidrIpv4" in r}
    inside = {
        (name[r["referencedSecurityGroupId"]], name[r["securityGroupId"]], r["fromPort"])
        for r in rules
        if "cidrIpv4" not in r
    }
    ports = (80, 443) if registered.stack == "prod" else (80,)
    assert world == {("public-balancer", port) for port in ports}
    assert inside == {
        ("public-balancer", "gateway", 8080),
        ("gateway", "model", 8080),
        ("gateway", "model-balancer", 80),
        ("model-balancer", "model", 8080),
        ("control", "gateway", 9090),
        ("control", "model", 9090),
    }


def test_rules_open_single_ports(registered: Registered) -> None:
    """No rule means all ports or all protocols; out to the world is HTTPS only."""
    for kind in ("Ingress", "Egress"):
        for rule in registered.of(f"vpc/securityGroup{kind}Rule:SecurityGroup{kind}Rule"):
            assert rule.inputs["ipProtocol"] == "tcp"
            assert rule.inputs["fromPort"] == rule.inputs["toPort"]
            if kind == "Egress" and "cidrIpv4" in rule.inputs:
                assert rule.inputs["fromPort"] == 443


def test_groups_have_no_inline_rules(registered: Registered) -> None:
    """Inline and separate rules undo each other."""
    for made in registered.of("ec2/securityGroup:SecurityGroup"):
        assert not {"ingress", "egress"} & set(made.inputs)
