"""What Envoy is told, so that it behaves like an Application Load Balancer: pure values, no I/O.

Like an ALB it never retries, never ejects a target on its own, and when every target is unhealthy sends to
all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

HOST = "127.0.0.1"
CONNECT_TIMEOUT_S = 10  # AWS: an ALB answers 504 when it cannot connect to a target within 10 s
_MANY = 1_000_000  # an ALB has no circuit breaker
_TYPE = "type.googleapis.com/envoy.extensions"


class Target(Protocol):
    """A registered target as the cloud sees it."""

    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def routed(self) -> bool: ...


@dataclass(frozen=True)
class Listener:
    """One listener of a public load balancer and the target group that it forwards to."""

    port: int
    target_group: str
    algorithm: str  # `load_balancing.algorithm.type` of the target group
    idle_timeout_s: int


def endpoints(targets: Iterable[Target]) -> dict[tuple[str, int], str]:
    """Address -> Envoy's health status; targets that must get nothing at all are left out.

    The cloud says whom an ALB would send to: healthy targets, deregistered ones for as long as an ALB lags,
    and when all are unhealthy, those. After the lag a draining target keeps its streams.
    """
    statuses = {}
    for target in targets:
        if target.routed:
            statuses[target.address, target.port] = "HEALTHY"
        elif target.state == "draining":
            statuses[target.address, target.port] = "DRAINING"
    return statuses


def assignment(cluster: str, statuses: Mapping[tuple[str, int], str]) -> dict[str, Any]:
    """The content of Envoy's endpoint discovery file."""
    return {
        "resources": [
            {
                "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
                "cluster_name": cluster,
                "endpoints": [
                    {"lb_endpoints": [_endpoint(*key, status) for key, status in statuses.items()]}
                ],
            }
        ]
    }


def _endpoint(address: str, port: int, status: str) -> dict[str, Any]:
    return {"endpoint": {"address": _socket(address, port)}, "health_status": status}


def _socket(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


def cluster_name(index: int) -> str:
    return f"target-group-{index}"


def bootstrap(listeners: Sequence[Listener], ports: Sequence[int], directory: str) -> dict[str, Any]:
    """Envoy's whole configuration; `ports[i]` is where listener `i` is bound on loopback."""
    return {
        "admin": {"address": _socket(HOST, 0)},
        "node": {"id": "balancer", "cluster": "rehearsal"},
        "static_resources": {
            "listeners": [_listener(i, listeners[i], port) for i, port in enumerate(ports)],
            "clusters": [_cluster(i, listener, directory) for i, listener in enumerate(listeners)],
        },
    }


def _cluster(index: int, listener: Listener, directory: str) -> dict[str, Any]:
    name = cluster_name(index)
    return {
        "name": name,
        "type": "EDS",
        "connect_timeout": f"{CONNECT_TIMEOUT_S}s",
        "lb_policy": "LEAST_REQUEST" if listener.algorithm == "least_outstanding_requests" else "ROUND_ROBIN",
        # Failing open is decided by the target group's view of health.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {
            "thresholds": [{"max_connections": _MANY, "max_pending_requests": _MANY, "max_requests": _MANY}]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {}},
                "common_http_protocol_options": {"idle_timeout": f"{listener.idle_timeout_s}s"},
            }
        },
        "eds_cluster_config": {
            "eds_config": {
                "resource_api_version": "V3",
                "path_config_source": {
                    "path": f"{directory}/{name}.json",
                    "watched_directory": {"path": directory},
                },
            }
        },
    }


def _listener(index: int, listener: Listener, port: int) -> dict[str, Any]:
    idle = f"{listener.idle_timeout_s}s"
    return {
        "name": f"listener-{listener.port}",
        "address": _socket(HOST, port),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": {
                            "@type": (
                                f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"
                            ),
                            "stat_prefix": "public",
                            "codec_type": "AUTO",
                            "server_header_transformation": "PASS_THROUGH",
                            "generate_request_id": False,
                            "use_remote_address": True,
                            "stream_idle_timeout": idle,
                            "common_http_protocol_options": {"idle_timeout": idle},
                            "local_reply_config": _local_replies(),
                            "route_config": _routes(cluster_name(index)),
                            "http_filters": [_router()],
                        },
                    }
                ]
            }
        ],
    }


def _router() -> dict[str, Any]:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": f"{_TYPE}.filters.http.router.v3.Router",
            "suppress_envoy_headers": True,
        },
    }


def _routes(cluster: str) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}
    return {"name": "all", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]}


def _local_replies() -> dict[str, Any]:
    """An ALB answers 502 where Envoy would say 503 for a target that refused or reset the connection."""
    return {
        "mappers": [
            {
                "filter": {"response_flag_filter": {"flags": ["UF", "UC", "UR"]}},
                "status_code": 502,
                "body": {"inline_string": "502 Bad Gateway"},
            }
        ]
    }
