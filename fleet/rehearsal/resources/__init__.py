"""pulumi-aws's resource types on AWS's API, by boto3: whatever answers at the endpoint, moto or AWS.

What a killed run made and could not write down is found again by what it wrote down before:
- what AWS names by an id (VPCs, subnets, gateways, addresses, tables, endpoints, security groups and their
  rules, launch templates, flow logs, keys): by a tag with a mark that no other creation has;
- what has a name (balancers, target groups, roles, profiles, queues, topics, buckets, rules, parameters, log
  groups and their filters, alarms, dashboards, key aliases, web ACLs and address sets, functions and who may
  call them, Auto Scaling groups with their policies, hooks and schedules): by that name, suffix included;
- what joins two others (routes, associations, attachments, event targets, subscriptions, policies and
  settings of queues, topics and buckets, listeners and their rules, functions and the queues they read): by
  what it joins, of which AWS holds one only.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from fleet.rehearsal.resources import (
    balancing,
    buckets,
    events,
    flowlogs,
    identity,
    keys,
    lambdas,
    metricfilters,
    network,
    observability,
    parameters,
    queues,
    rollouts,
    scaling,
    schedules,
    security,
    templates,
    topics,
    webfirewall,
)
from fleet.rehearsal.resources.aws import Aws, Timing
from fleet.rehearsal.resources.errors import TypeUnknownError
from fleet.rehearsal.resources.functions import answer
from fleet.rehearsal.resources.handler import REQUIRED, Handler, Want
from fleet.rehearsal.resources.shapes import UNKNOWN, Unknown

HANDLERS: Mapping[str, Handler] = {
    handler.type: handler
    for handler in chain(
        network.HANDLERS,
        security.HANDLERS,
        balancing.HANDLERS,
        identity.HANDLERS,
        queues.HANDLERS,
        events.HANDLERS,
        templates.HANDLERS,
        scaling.HANDLERS,
        parameters.HANDLERS,
        observability.HANDLERS,
        keys.HANDLERS,
        buckets.HANDLERS,
        webfirewall.HANDLERS,
        topics.HANDLERS,
        flowlogs.HANDLERS,
        schedules.HANDLERS,
        metricfilters.HANDLERS,
        lambdas.HANDLERS,
        rollouts.HANDLERS,
    )
}


def handler_of(resource_type: str) -> Handler:
    """Raises TypeUnknownError."""
    if resource_type not in HANDLERS:
        raise TypeUnknownError(
            f"no resource type {resource_type} in the rehearsal",
            "Map it in fleet/rehearsal/resources, or do without it in the program.",
        )
    return HANDLERS[resource_type]


__all__ = [
    "HANDLERS",
    "REQUIRED",
    "UNKNOWN",
    "Aws",
    "Handler",
    "Timing",
    "Unknown",
    "Want",
    "answer",
    "handler_of",
]
