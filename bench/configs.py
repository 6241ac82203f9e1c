"""Configuration of other gateways: pure values. Each retries elsewhere what it can."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.processes import Address

Json = dict[str, Any]

_ENVOY = "type.googleapis.com/envoy.extensions"
_MANY = 1_000_000


def nginx_config(address: Address, engines: Sequence[Address], directory: Path) -> str:
    """One process; kept upstream connections; no buffering; the next server on an error or a 503."""
    servers = " ".join(f"server {host}:{port} max_fails=3 fail_timeout=10s;" for host, port in engines)
    temporary = " ".join(
        f"{kind}_temp_path {directory}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  {temporary}
  keepalive_timeout 75s;
  keepalive_requests 1000000;
  upstream engines {{ least_conn; {servers} keepalive 512; keepalive_requests 1000000; }}
  server {{
    listen {address[0]}:{address[1]} backlog=4096;
    location / {{
      proxy_pass http://engines;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_connect_timeout 1s;
      proxy_read_timeout 60s;
      proxy_next_upstream error timeout http_502 http_503 non_idempotent;
    }}
  }}
}}
"""


def envoy_bootstrap(
    address: Address, backends: Sequence[Address], *, health_path: str = "/health", retries: bool = True
) -> Json:
    """Least requests of two, active health checks, outlier detection, two retries."""
    return {
        "node": {"id": "bench", "cluster": "bench"},
        "static_resources": {
            "listeners": [_listener(address, retries=retries)],
            "clusters": [_cluster(backends, health_path)],
        },
    }


def litellm_config(engines: Sequence[Address], model: str) -> Json:
    """Two deployments of one model, retried on one another."""
    deployments = [
        {
            "model_name": model,
            "litellm_params": {
                "model": f"text-completion-openai/{model}",
                "api_base": f"http://{host}:{port}/v1",
                "api_key": "none",
            },
        }
        for host, port in engines
    ]
    return {
        "model_list": deployments,
        "router_settings": {"routing_strategy": "least-busy", "num_retries": 2},
        "litellm_settings": {"num_retries": 2, "request_timeout": 60, "telemetry": False},
    }


def _listener(address: Address, *, retries: bool) -> Json:
    connections = f"{_ENVOY}.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router: Json = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_ENVOY}.filters.http.router.v3.Router"},
    }
    manager: Json = {
        "@type": connections,
        "stat_prefix": "bench",
        "codec_type": "HTTP1",
        "generate_request_id": False,
        "stream_idle_timeout": "60s",
        "route_config": _routes(retries=retries),
        "http_filters": [router],
    }
    http = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {"name": "in", "address": _socket(address), "filter_chains": [{"filters": [http]}]}


def _routes(*, retries: bool) -> Json:
    route: Json = {"cluster": "backends", "timeout": "0s"}
    if retries:
        route["retry_policy"] = {
            "retry_on": "connect-failure,refused-stream,reset,gateway-error",
            "num_retries": 2,
            "host_selection_retry_max_attempts": 3,
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {
                        "@type": f"{_ENVOY}.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                    },
                }
            ],
        }
    everywhere = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}
    return {"name": "all", "virtual_hosts": [everywhere]}


def _cluster(backends: Sequence[Address], health_path: str) -> Json:
    endpoints = [{"endpoint": {"address": _socket(backend)}} for backend in backends]
    return {
        "name": "backends",
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": _MANY,
                    "max_pending_requests": _MANY,
                    "max_requests": _MANY,
                    "max_retries": _MANY,
                }
            ]
        },
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "2s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": health_path},
            }
        ],
        "outlier_detection": {"consecutive_5xx": 5, "max_ejection_percent": 50},
        "load_assignment": {"cluster_name": "backends", "endpoints": [{"lb_endpoints": endpoints}]},
    }


def _socket(address: Address) -> Json:
    return {"socket_address": {"address": address[0], "port_value": address[1]}}
