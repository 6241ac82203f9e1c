"""Engine options: one vocabulary in recipes, each engine's own flags on its command line.

Flags: the engines' own documentation (vLLM `vllm serve`, SGLang `sglang.launch_server`, TGI
`text-generation-launcher`, llama-server). An option that an engine lacks is refused rather than dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

EngineKind = Literal["vllm", "sglang", "tgi", "llama-server", "embedded"]
Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
Share = Annotated[float, Field(gt=0, le=1)]
Flags = list[str]
Option = str | int | float | bool | tuple[float, ...]


class EngineOptions(BaseModel):
    """Every key is optional: without it the engine's own default holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantization: str | None = Field(default=None, pattern=r"^[a-z0-9_-]+$")
    kv_cache_dtype: str | None = Field(default=None, pattern=r"^[a-z0-9_]+$")
    value_cache_dtype: str | None = Field(default=None, pattern=r"^[a-z0-9_]+$")
    """Of V alone, where the engine tells K and V apart; by default kv_cache_dtype."""
    flash_attention: bool | None = None
    attention_backend: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]+$")
    max_sequences: int | None = Field(default=None, ge=1, le=4096)
    max_batch_tokens: Tokens | None = None
    max_prefill_tokens: Tokens | None = None
    micro_batch_tokens: Tokens | None = None
    continuous_batching: bool | None = None
    block_tokens: int | None = Field(default=None, ge=1, le=256)
    cache_pages: int | None = Field(default=None, ge=1)
    waiting_served_ratio: float | None = Field(default=None, ge=0, le=100)
    max_waiting: int | None = Field(default=None, ge=1, le=100_000)
    context_tokens: Tokens | None = None
    """Prompt and answer of one sequence together."""
    max_input_tokens: Tokens | None = None
    shards: int | None = Field(default=None, ge=1, le=64)
    split_mode: Literal["none", "layer", "row"] | None = None
    tensor_split: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    memory_share: Share | None = None
    """Of a GPU's memory that the engine may take."""
    gpu_layers: int | None = Field(default=None, ge=0, le=1000)
    load_format: Literal["safetensors", "runai_streamer"] | None = None


Render = Callable[[EngineOptions, Option], Flags]


@dataclass(frozen=True)
class Spec:
    """How one engine is started, and what it understands."""

    gpu: bool
    options: Mapping[str, Render]
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Options with a closed list of values."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Options that are environment variables of the container, not flags."""


def refused_options(kind: EngineKind, options: EngineOptions) -> str | None:
    """Why the engine cannot be started so: an option it lacks, or a value it does not know."""
    spec = ENGINES[kind]
    for name, value in given(options):
        if name not in spec.options and name not in spec.variables:
            known = ", ".join(sorted([*spec.options, *spec.variables]))
            return f"options.{name}: {kind} has no such option; it has {known}"
        allowed = spec.values.get(name)
        if allowed is not None and str(value) not in allowed:
            return f"options.{name}: {kind} knows {', '.join(sorted(allowed))}; not {value}"
    return _contradiction(options)


def flags(kind: EngineKind, options: EngineOptions) -> Flags:
    """The options as arguments, in the order of the vocabulary."""
    spec = ENGINES[kind]
    return [
        flag
        for name, value in given(options)
        if name in spec.options
        for flag in spec.options[name](options, value)
    ]


def environment(kind: EngineKind, options: EngineOptions) -> dict[str, str]:
    """The options that travel as variables of the container's environment. Never secret."""
    variables = ENGINES[kind].variables
    return {variables[name]: str(value) for name, value in given(options) if name in variables}


def given(options: EngineOptions) -> Iterator[tuple[str, Option]]:
    for name in EngineOptions.model_fields:
        value: Option | None = getattr(options, name)
        if value is not None:
            yield name, value


def _contradiction(options: EngineOptions) -> str | None:
    total, prompt = options.context_tokens, options.max_input_tokens
    if total is not None and prompt is not None and prompt >= total:
        return f"options.max_input_tokens: {prompt} leaves no room for an answer in context_tokens {total}"
    return None


def _flag(name: str) -> Render:
    return lambda _, value: [name, _text(value)]


def _text(value: Option) -> str:
    return ",".join(f"{part:g}" for part in value) if isinstance(value, tuple) else f"{value}"


def _switch(on: Flags, off: Flags) -> Render:
    return lambda _, value: on if value else off


def _llama_context(options: EngineOptions, value: Option) -> Flags:
    # -c is shared by all slots (-np), and we promise context_tokens to each sequence.
    return ["-c", str(int(str(value)) * (options.max_sequences or 1))]


def _llama_cache(options: EngineOptions, value: Option) -> Flags:
    return ["-ctk", _text(value), *([] if options.value_cache_dtype else ["-ctv", _text(value)])]


_LLAMA_CACHE = frozenset({"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"})

ENGINES: Mapping[EngineKind, Spec] = {
    "vllm": Spec(
        gpu=True,
        options={
            "quantization": _flag("--quantization"),
            "kv_cache_dtype": _flag("--kv-cache-dtype"),
            "attention_backend": _flag("--attention-backend"),
            "max_sequences": _flag("--max-num-seqs"),
            "max_batch_tokens": _flag("--max-num-batched-tokens"),
            "block_tokens": _flag("--block-size"),
            "context_tokens": _flag("--max-model-len"),
            "shards": _flag("--tensor-parallel-size"),
            "memory_share": _flag("--gpu-memory-utilization"),
            "load_format": _flag("--load-format"),
        },
        values={
            "quantization": frozenset({"awq", "gptq", "fp8", "bitsandbytes"}),
            "kv_cache_dtype": frozenset({"auto", "fp8", "fp8_e4m3", "fp8_e5m2"}),
            "block_tokens": frozenset({"16", "32", "64", "128"}),
        },
    ),
    "sglang": Spec(
        gpu=True,
        options={
            "quantization": _flag("--quantization"),
            "kv_cache_dtype": _flag("--kv-cache-dtype"),
            "attention_backend": _flag("--attention-backend"),
            "max_sequences": _flag("--max-running-requests"),
            "max_batch_tokens": _flag("--max-total-tokens"),
            "max_prefill_tokens": _flag("--max-prefill-tokens"),
            "micro_batch_tokens": _flag("--chunked-prefill-size"),
            "block_tokens": _flag("--page-size"),
            "max_waiting": _flag("--max-queued-requests"),
            "context_tokens": _flag("--context-length"),
            "shards": _flag("--tp-size"),
            "memory_share": _flag("--mem-fraction-static"),
        },
        values={
            "quantization": frozenset({"awq", "gptq", "fp8", "bitsandbytes"}),
            "kv_cache_dtype": frozenset({"auto", "fp8_e4m3", "fp8_e5m2"}),
        },
    ),
    "tgi": Spec(
        gpu=True,
        options={
            "quantization": _flag("--quantize"),
            "kv_cache_dtype": _flag("--kv-cache-dtype"),
            "max_sequences": _flag("--max-batch-size"),
            "max_batch_tokens": _flag("--max-batch-total-tokens"),
            "max_prefill_tokens": _flag("--max-batch-prefill-tokens"),
            "waiting_served_ratio": _flag("--waiting-served-ratio"),
            "max_waiting": _flag("--max-concurrent-requests"),
            "context_tokens": _flag("--max-total-tokens"),
            "max_input_tokens": _flag("--max-input-tokens"),
            "shards": _flag("--num-shard"),
            "memory_share": _flag("--cuda-memory-fraction"),
        },
        values={
            "quantization": frozenset(
                {
                    "awq",
                    "gptq",
                    "marlin",
                    "eetq",
                    "exl2",
                    "fp8",
                    "bitsandbytes",
                    "bitsandbytes-nf4",
                    "bitsandbytes-fp4",
                }
            ),
            "kv_cache_dtype": frozenset({"fp8_e4m3fn", "fp8_e5m2"}),
            "attention_backend": frozenset({"paged", "flashdecoding", "flashinfer"}),
        },
        variables={"attention_backend": "ATTENTION"},
    ),
    "llama-server": Spec(
        gpu=False,
        options={
            "kv_cache_dtype": _llama_cache,
            "value_cache_dtype": _flag("-ctv"),
            "flash_attention": _switch(["-fa", "on"], ["-fa", "off"]),
            "max_sequences": _flag("-np"),
            "max_batch_tokens": _flag("-b"),
            "micro_batch_tokens": _flag("-ub"),
            "continuous_batching": _switch(["-cb"], ["-nocb"]),
            "context_tokens": _llama_context,
            "split_mode": _flag("-sm"),
            "tensor_split": _flag("-ts"),
            "gpu_layers": _flag("-ngl"),
        },
        values={"kv_cache_dtype": _LLAMA_CACHE, "value_cache_dtype": _LLAMA_CACHE},
    ),
    "embedded": Spec(
        gpu=False,
        options={
            "max_sequences": _flag("--max-sequences"),
            "max_batch_tokens": _flag("--max-batch-tokens"),
            "cache_pages": _flag("--pages"),
        },
    ),
}
