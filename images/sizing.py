"""Does a model fit a GPU, and how many sequences beside it.

    bytes of KV cache per token = 2 x layers x kv_heads x head_dim x bytes of one value
    sequences = floor((memory x share - weights - overhead) / (bytes per token x context))

K and V of every layer, grouped-query attention counted by its KV heads. It does not hold for multi-head
latent attention, sliding windows and hybrid models, which keep less.
"""

from __future__ import annotations

from dataclasses import dataclass

from images.instance_types import Gpus

MIB = 1024**2
GIB = 1024**3
# What an engine takes beside weights and cache: CUDA context, activations, graphs.
OVERHEAD_BYTES = GIB
# vLLM's default of --gpu-memory-utilization.
DEFAULT_SHARE = 0.9
_BYTES_OF_VALUE = {
    "f32": 4.0,
    "fp8": 1.0,
    "fp8_e4m3": 1.0,
    "fp8_e5m2": 1.0,
    "fp8_e4m3fn": 1.0,
    # Blocks of 32 values with their scale (ggml): 34 and 18 bytes.
    "q8_0": 34 / 32,
    "q4_0": 18 / 32,
}


@dataclass(frozen=True)
class Fit:
    """Bytes of each GPU. `sequences` of `context_tokens` fit at once; 0: the model does not fit."""

    kv_bytes_per_token: float
    weights_bytes: float
    available_bytes: float
    context_tokens: int
    sequences: int


def kv_bytes_per_token(layers: int, kv_heads: int, head_dim: int, dtype: str | None = None) -> float:
    """`dtype` is the engine's word for it; by default 2 bytes a value (fp16, bf16)."""
    return 2 * layers * kv_heads * head_dim * _BYTES_OF_VALUE.get(dtype or "", 2.0)


def fit(
    *,
    weights_bytes: int,
    bytes_per_token: float,
    context_tokens: int,
    gpus: Gpus,
    shards: int = 1,
    share: float = DEFAULT_SHARE,
) -> Fit:
    """Weights and cache are divided evenly among the shards, which is what tensor parallelism does."""
    available = gpus.mib * MIB * share - OVERHEAD_BYTES - weights_bytes / shards
    sequences = int(available // (bytes_per_token / shards * context_tokens))
    return Fit(
        kv_bytes_per_token=bytes_per_token / shards,
        weights_bytes=weights_bytes / shards,
        available_bytes=available,
        context_tokens=context_tokens,
        sequences=max(0, sequences),
    )
