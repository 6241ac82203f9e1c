"""Which nodes a person means: by instance id or the beginning of one, private address, or Name tag."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fleet.oncall.errors import Ambiguous, NodeUnknown
from fleet.oncall.snapshot import NodeView
from fleet.oncall.terminal import printable

_PREFIX = "i-"


def resolve(nodes: Sequence[NodeView], names: Iterable[str]) -> list[NodeView]:
    """Each node once, in the order of the names. Raises NodeUnknown and Ambiguous."""
    found = {node.instance_id: node for name in names for node in [_one(nodes, name)]}
    return list(found.values())


def _one(nodes: Sequence[NodeView], name: str) -> NodeView:
    # Nodes may lack an address or a Name tag: `drain "$NODE"` without a NODE must not mean them.
    known = nodes if name else ()
    exact = [node for node in known if name in (node.instance_id, node.address)]
    meant = exact or [node for node in known if _is_meant(node, name)]
    if not meant:
        raise NodeUnknown(
            f"no node is called {name!r}",
            "Give an instance id or its beginning, a private address or a Name tag; `goldenfleet status` "
            "lists them.",
        )
    if len(meant) > 1:
        raise Ambiguous(f"{name!r} means {len(meant)} nodes:\n{listed(meant)}", "Name one of them.")
    return meant[0]


def _is_meant(node: NodeView, name: str) -> bool:
    beginning = name if name.startswith(_PREFIX) else f"{_PREFIX}{name}"
    return name == node.name or (beginning != _PREFIX and node.instance_id.startswith(beginning))


def listed(nodes: Iterable[NodeView]) -> str:
    return "\n".join(
        f"  {node.instance_id}  {node.address:15}  {node.tier:8}  {node.purchase_option:9}  "
        f"{printable(node.name)}"
        for node in nodes
    )
