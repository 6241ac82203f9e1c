from __future__ import annotations

import pytest

from images.instance_types import TYPES, Gpus
from images.sizing import GIB, fit, kv_bytes_per_token

T4 = Gpus("T4", 1, 15_360)
LLAMA_8B = (32, 8, 128)
LLAMA_70B = (80, 8, 128)
QWEN_05B = (24, 2, 64)


@pytest.mark.parametrize(("shape", "kib"), [(LLAMA_8B, 128), (LLAMA_70B, 320), (QWEN_05B, 12)])
def test_kv_bytes(shape: tuple[int, int, int], kib: float) -> None:
    """Published models: Llama-3-8B, Llama-3-70B, Qwen2.5-0.5B."""
    assert kv_bytes_per_token(*shape) == kib * 1024


@pytest.mark.parametrize(("dtype", "share"), [("fp8", 0.5), ("q8_0", 17 / 32), ("f16", 1), ("f32", 2)])
def test_dtypes(dtype: str, share: float) -> None:
    """A smaller cache type takes its share of 16 bits."""
    assert kv_bytes_per_token(*LLAMA_8B, dtype) == kv_bytes_per_token(*LLAMA_8B) * share


def sequences(parameters: float, shape: tuple[int, int, int], gpus: Gpus, shards: int = 1) -> int:
    return fit(
        weights_bytes=int(parameters * 2),
        bytes_per_token=kv_bytes_per_token(*shape),
        context_tokens=4096,
        gpus=gpus,
        shards=shards,
    ).sequences


def test_weights_in_gib() -> None:
    """16-bit weights: 14.96, 131.4 and 0.92 GiB."""
    sizes = [round(parameters * 2 / GIB, 2) for parameters in (8.03e9, 70.55e9, 0.494e9)]
    assert sizes == [14.96, 131.41, 0.92]


def test_8b_does_not_fit_a_t4() -> None:
    """Llama-3-8B in 16 bits is larger than what a 16 GB T4 gives."""
    assert sequences(8.03e9, LLAMA_8B, T4) == 0


@pytest.mark.parametrize("name", ["g5.xlarge", "g6.xlarge"])
def test_8b_on_24_gb(name: str) -> None:
    """Llama-3-8B leaves room for 8 sequences of 4096 tokens on a 24 GB card."""
    gpus = TYPES[name].gpus
    assert gpus is not None
    assert sequences(8.03e9, LLAMA_8B, gpus) == 8


def test_70b_needs_shards() -> None:
    """Llama-3-70B fits four 48 GB cards and not one."""
    gpus = TYPES["g6e.12xlarge"].gpus
    assert gpus is not None
    assert sequences(70.55e9, LLAMA_70B, gpus) == 0
    assert sequences(70.55e9, LLAMA_70B, gpus, shards=4) > 0
