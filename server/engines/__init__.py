"""The engines that a node may have, each behind an Adapter."""

from collections.abc import Mapping

from server.engines.adapter import UNKNOWN, Adapter, Capabilities, EngineKind
from server.engines.embedded import EMBEDDED
from server.engines.llama_server import LLAMA_SERVER
from server.engines.sglang import SGLANG
from server.engines.tgi import TGI
from server.engines.vllm import VLLM

__all__ = ["ADAPTERS", "ENGINE_HEADER", "UNKNOWN", "Adapter", "Capabilities", "EngineKind", "capabilities_of"]

# By which a node tells its gateways what its engine is.
ENGINE_HEADER = "x-goldenfleet-engine"

ADAPTERS: Mapping[str, Adapter] = {
    adapter.kind: adapter for adapter in (EMBEDDED, VLLM, SGLANG, TGI, LLAMA_SERVER)
}


def capabilities_of(kind: str | None) -> Capabilities:
    """Of an engine that nobody has named, what holds for all."""
    adapter = ADAPTERS.get(kind or "")
    return adapter.capabilities if adapter else UNKNOWN
