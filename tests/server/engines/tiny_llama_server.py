"""A real llama-server over a model of random weights, which speaks printable ASCII: MODEL PORT.

Run by a Python that has `xllamacpp` (llama.cpp's own server in a wheel) and `gguf`; prints its address when
it listens. Each token is one character, so that a text has one way to be cut into tokens.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

_LAYERS, _WIDTH, _HEADS, _INNER, _CONTEXT = 2, 64, 4, 128, 512
_NEVER = -100.0
_TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}"
    "{% if not loop.last %}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}\n<assistant>{% endif %}"
)


def byte_names() -> list[str]:
    """GPT-2's names of the 256 bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = iter(range(256, 512))
    return [chr(byte) if byte in kept else chr(next(moved)) for byte in range(256)]


def write_model(path: Path) -> None:
    import gguf
    import numpy as np

    names = byte_names()
    tokens = [*names, names[1] + names[2], "<|endoftext|>"]
    out: Any = gguf.GGUFWriter(str(path), "llama")
    out.add_context_length(_CONTEXT)
    out.add_embedding_length(_WIDTH)
    out.add_block_count(_LAYERS)
    out.add_feed_forward_length(_INNER)
    out.add_head_count(_HEADS)
    out.add_head_count_kv(_HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(_WIDTH // _HEADS)
    out.add_vocab_size(len(tokens))
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokens)
    out.add_token_types([1] * (len(tokens) - 1) + [3])
    out.add_token_merges([f"{names[1]} {names[2]}"])
    out.add_eos_token_id(len(tokens) - 1)
    out.add_add_bos_token(False)
    out.add_chat_template(_TEMPLATE)
    rng = np.random.default_rng(7)

    def random(*shape: int) -> Any:
        return (rng.standard_normal(shape) * 0.3).astype(np.float32)

    # The first number of every state is the same and large: by it tokens are kept from ever being chosen.
    embedding, head = random(len(tokens), _WIDTH), random(len(tokens), _WIDTH)
    embedding[:, 0], head[:, 0] = 5.0, _NEVER
    head[[*range(32, 127)], 0] = 0.0
    out.add_tensor("token_embd.weight", embedding)
    out.add_tensor("output.weight", head)
    out.add_tensor("output_norm.weight", np.ones(_WIDTH, np.float32))
    for layer in range(_LAYERS):
        shapes = {
            "attn_q": (_WIDTH, _WIDTH),
            "attn_k": (_WIDTH, _WIDTH),
            "attn_v": (_WIDTH, _WIDTH),
            "attn_output": (_WIDTH, _WIDTH),
            "ffn_gate": (_INNER, _WIDTH),
            "ffn_up": (_INNER, _WIDTH),
            "ffn_down": (_WIDTH, _INNER),
        }
        for name, shape in shapes.items():
            weights = random(*shape)
            if name in ("attn_output", "ffn_down"):
                weights[0] = 0.0
            out.add_tensor(f"blk.{layer}.{name}.weight", weights)
        for name in ("attn_norm", "ffn_norm"):
            out.add_tensor(f"blk.{layer}.{name}.weight", np.ones(_WIDTH, np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def serve(path: Path, port: int) -> None:
    import xllamacpp

    params: Any = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.port = port
    params.n_ctx, params.n_parallel, params.n_gpu_layers = 2 * _CONTEXT, 2, 0
    params.endpoint_metrics, params.warmup = True, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    sys.stdout.write(f"listening {server.listening_address}\n")
    sys.stdout.flush()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    write_model(Path(sys.argv[1]))
    serve(Path(sys.argv[1]), int(sys.argv[2]))
