"""Sizes of the model and limits of the engine."""

from __future__ import annotations

from dataclasses import dataclass

# One page of the KV cache, one prefill chunk and the smallest attention bucket are the same number of
# tokens: then every token of a chunk falls into the same power-of-two bucket, whichever way it was computed.
PAGE_TOKENS = 32

# Every matrix product runs on exactly this many rows, so that BLAS takes the same path in every batch.
TILE_ROWS = 8

MODEL_ID = "goldenfleet-embedded"


@dataclass(frozen=True)
class ModelShape:
    """A Llama-shaped decoder: RMSNorm without gains, RoPE, grouped-query attention, SwiGLU, tied head."""

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    context: int
    rope_theta: float

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def heads_per_kv(self) -> int:
        return self.heads // self.kv_heads


@dataclass(frozen=True)
class Limits:
    """What one engine takes on at once. Tokens are counted per step, pages hold PAGE_TOKENS each."""

    max_sequences: int = 64
    max_batch_tokens: int = 128
    pages: int = 512
