"""Routes of gateway endpoints: moto makes them with the endpoint, and forgets them when its tables change."""

from __future__ import annotations

from typing import Any

from moto.ec2.models import EC2Backend

from fleet.rehearsal.cloud.patches import Patches


def install(patches: Patches) -> None:
    patches.wrap(EC2Backend, "modify_vpc_endpoint", _with_routes)


def _with_routes(original: Any) -> Any:
    """Without its route, deleting the endpoint fails in moto by a route that is not there."""

    def modify_vpc_endpoint(backend: EC2Backend, vpc_id: str, *args: Any, **kwargs: Any) -> None:
        endpoint = backend.vpc_end_points[vpc_id]
        before = set(endpoint.route_table_ids)
        original(backend, vpc_id, *args, **kwargs)
        prefixes, now = endpoint.destination_prefix_list_id, set(endpoint.route_table_ids)
        if prefixes is None:
            return
        for table in sorted(now - before):
            backend.create_route(table, None, gateway_id=vpc_id, destination_prefix_list_id=prefixes)
        for table in sorted(before - now):
            backend.delete_route(table, prefixes)

    return modify_vpc_endpoint
