from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from images.engines import ENGINES, EngineKind, EngineOptions, environment, flags, refused_options

FLAGS: list[tuple[EngineKind, dict[str, Any], str]] = [
    ("vllm", {}, ""),
    ("vllm", {"quantization": "awq"}, "--quantization awq"),
    ("vllm", {"kv_cache_dtype": "fp8"}, "--kv-cache-dtype fp8"),
    ("vllm", {"attention_backend": "FLASHINFER"}, "--attention-backend FLASHINFER"),
    (
        "vllm",
        {"max_sequences": 64, "max_batch_tokens": 8192},
        "--max-num-seqs 64 --max-num-batched-tokens 8192",
    ),
    ("vllm", {"block_tokens": 16}, "--block-size 16"),
    ("vllm", {"context_tokens": 4096}, "--max-model-len 4096"),
    ("vllm", {"shards": 4, "memory_share": 0.85}, "--tensor-parallel-size 4 --gpu-memory-utilization 0.85"),
    (
        "sglang",
        {"quantization": "fp8", "kv_cache_dtype": "fp8_e5m2"},
        "--quantization fp8 --kv-cache-dtype fp8_e5m2",
    ),
    (
        "sglang",
        {"attention_backend": "flashinfer", "block_tokens": 16},
        "--attention-backend flashinfer --page-size 16",
    ),
    (
        "sglang",
        {"max_sequences": 64, "max_waiting": 128},
        "--max-running-requests 64 --max-queued-requests 128",
    ),
    (
        "sglang",
        {"max_batch_tokens": 90000, "max_prefill_tokens": 8192, "micro_batch_tokens": 4096},
        "--max-total-tokens 90000 --max-prefill-tokens 8192 --chunked-prefill-size 4096",
    ),
    (
        "sglang",
        {"context_tokens": 8192, "shards": 2, "memory_share": 0.85},
        "--context-length 8192 --tp-size 2 --mem-fraction-static 0.85",
    ),
    ("tgi", {"quantization": "bitsandbytes-nf4"}, "--quantize bitsandbytes-nf4"),
    ("tgi", {"kv_cache_dtype": "fp8_e4m3fn"}, "--kv-cache-dtype fp8_e4m3fn"),
    (
        "tgi",
        {"max_sequences": 8, "max_batch_tokens": 9000},
        "--max-batch-size 8 --max-batch-total-tokens 9000",
    ),
    ("tgi", {"max_prefill_tokens": 4096}, "--max-batch-prefill-tokens 4096"),
    (
        "tgi",
        {"waiting_served_ratio": 0.3, "max_waiting": 128},
        "--waiting-served-ratio 0.3 --max-concurrent-requests 128",
    ),
    (
        "tgi",
        {"context_tokens": 8192, "max_input_tokens": 8000},
        "--max-total-tokens 8192 --max-input-tokens 8000",
    ),
    ("tgi", {"shards": 2, "memory_share": 0.9}, "--num-shard 2 --cuda-memory-fraction 0.9"),
    ("tgi", {"attention_backend": "flashinfer"}, ""),
    ("llama-server", {"kv_cache_dtype": "q8_0"}, "-ctk q8_0 -ctv q8_0"),
    ("llama-server", {"kv_cache_dtype": "q8_0", "value_cache_dtype": "f16"}, "-ctk q8_0 -ctv f16"),
    ("llama-server", {"flash_attention": True}, "-fa on"),
    ("llama-server", {"flash_attention": False, "continuous_batching": False}, "-fa off -nocb"),
    ("llama-server", {"max_batch_tokens": 2048, "micro_batch_tokens": 512}, "-b 2048 -ub 512"),
    ("llama-server", {"max_sequences": 8, "context_tokens": 4096}, "-np 8 -c 32768"),
    ("llama-server", {"split_mode": "row", "tensor_split": (3, 1)}, "-sm row -ts 3,1"),
    ("llama-server", {"gpu_layers": 99}, "-ngl 99"),
    ("embedded", {"max_sequences": 8, "cache_pages": 64}, "--max-sequences 8 --pages 64"),
]


@pytest.mark.parametrize(("kind", "given", "wanted"), FLAGS)
def test_flags(kind: EngineKind, given: dict[str, Any], wanted: str) -> None:
    """Each option becomes the engine's own flag."""
    options = EngineOptions(**given)
    assert refused_options(kind, options) is None
    assert flags(kind, options) == wanted.split()


def test_attention_is_a_variable_of_tgi() -> None:
    """TGI takes its attention from the environment, vLLM from a flag."""
    options = EngineOptions(attention_backend="flashinfer")
    assert environment("tgi", options) == {"ATTENTION": "flashinfer"}
    assert environment("vllm", options) == {}


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("vllm", {"flash_attention": True}, "options.flash_attention: vllm has no such option"),
        (
            "sglang",
            {"kv_cache_dtype": "fp8"},
            "options.kv_cache_dtype: sglang knows auto, fp8_e4m3, fp8_e5m2",
        ),
        ("sglang", {"load_format": "runai_streamer"}, "options.load_format: sglang has no such option"),
        ("tgi", {"block_tokens": 16}, "options.block_tokens: tgi has no such option"),
        ("tgi", {"kv_cache_dtype": "fp8"}, "options.kv_cache_dtype: tgi knows fp8_e4m3fn, fp8_e5m2; not fp8"),
        ("tgi", {"attention_backend": "xformers"}, "options.attention_backend: tgi knows flashdecoding,"),
        ("llama-server", {"quantization": "awq"}, "options.quantization: llama-server has no such option"),
        ("llama-server", {"kv_cache_dtype": "fp8"}, "options.kv_cache_dtype: llama-server knows bf16,"),
        ("embedded", {"shards": 2}, "options.shards: embedded has no such option; it has cache_pages,"),
        ("vllm", {"block_tokens": 17}, "options.block_tokens: vllm knows 128, 16, 32, 64; not 17"),
    ],
)
def test_refused(kind: EngineKind, given: dict[str, Any], said: str) -> None:
    """An option that the engine lacks is refused, never dropped, and what it has is told."""
    assert (refused_options(kind, EngineOptions(**given)) or "").startswith(said)


def test_every_option_is_some_engine_s() -> None:
    """No option of the vocabulary is without an engine, and no engine has one outside of it."""
    known = {name for spec in ENGINES.values() for name in (*spec.options, *spec.variables)}
    assert known == set(EngineOptions.model_fields)


def test_embedded_flags_are_real() -> None:
    """The embedded engine's program takes the flags that recipes give it."""
    shown = subprocess.run(
        [sys.executable, "-m", "server.engine", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for name in ("max_sequences", "max_batch_tokens", "cache_pages"):
        flag = flags("embedded", EngineOptions(**{name: 2}))[0]
        assert flag in shown
