"""Train the engine's model on corpus.md and write its weights, tokenizer and record: scripts/make-weights.

Deterministic given its seed on one kind of processor; the record holds the SHA-256 of what was written. Needs
the dev dependencies (autograd), and BLAS held to one thread by the environment.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
from autograd import numpy as anp
from autograd import value_and_grad
from autograd.extend import defvjp, primitive

from server.engine.config import ModelShape
from server.engine.tokenizer import END_OF_TEXT, FIRST_MERGE, Pair, Tokenizer, merge_pair, split_pieces
from server.engine.weights import HERE

Array = Any
Forward = Callable[..., Any]
Weights = dict[str, Array]

SHAPE = ModelShape(
    vocab=1024, width=128, layers=4, heads=4, kv_heads=2, hidden=384, context=2048, rope_theta=10_000.0
)
SEPARATOR = "\n---\n"


def learn_merges(text: str, count: int) -> list[Pair]:
    """The `count` most frequent pairs, one after the other; ties go to the smaller ids."""
    pieces = Counter(tuple(piece.encode()) for piece in split_pieces(text))
    merges: list[Pair] = []
    for _ in range(count):
        pairs: Counter[Pair] = Counter()
        for ids, times in pieces.items():
            for pair in pairwise(ids):
                pairs[pair] += times
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merged = FIRST_MERGE + len(merges)
        merges.append(best)
        pieces = Counter({tuple(merge_pair(ids, best, merged)): times for ids, times in pieces.items()})
    return merges


def initial_weights(shape: ModelShape, rng: np.random.Generator) -> Weights:
    def matrix(rows: int, columns: int, scale: float = 1.0) -> Array:
        return (rng.standard_normal((rows, columns)) * scale / math.sqrt(rows)).astype(np.float32)

    residual = 1 / math.sqrt(2 * shape.layers)
    qkv = (shape.heads + 2 * shape.kv_heads) * shape.head_width
    weights: Weights = {"embedding": matrix(shape.vocab, shape.width, 0.02 * math.sqrt(shape.vocab))}
    for layer in range(shape.layers):
        weights[f"{layer}.qkv"] = matrix(shape.width, qkv)
        weights[f"{layer}.out"] = matrix(shape.width, shape.width, residual)
        weights[f"{layer}.gate_up"] = matrix(shape.width, 2 * shape.hidden)
        weights[f"{layer}.down"] = matrix(shape.hidden, shape.width, residual)
    return weights


def _embed(table: Array, ids: Array) -> Array:
    return table[ids]


def _embed_gradient(_: Array, table: Array, ids: Array) -> Any:
    one_hot = np.zeros((ids.size, table.shape[0]), np.float32)
    one_hot[np.arange(ids.size), ids.ravel()] = 1
    return lambda grad: one_hot.T @ grad.reshape(ids.size, -1)


def _rms_norm(x: Array) -> Array:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(1e-5))


def _rms_norm_gradient(normed: Array, x: Array) -> Any:
    scale = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(1e-5))
    return lambda grad: scale * (grad - normed * (grad * normed).mean(-1, keepdims=True))


def _softmax(scores: Array) -> Array:
    out = np.exp(scores - scores.max(-1, keepdims=True))
    out /= out.sum(-1, keepdims=True)
    return out


def _softmax_gradient(out: Array, _: Array) -> Any:
    return lambda grad: out * (grad - (grad * out).sum(-1, keepdims=True))


def _swiglu(gate_up: Array) -> Array:
    gate, up = np.split(gate_up, 2, -1)
    return gate / (1 + np.exp(-gate)) * up


def _swiglu_gradient(_: Array, gate_up: Array) -> Any:
    gate, up = np.split(gate_up, 2, -1)
    sigmoid = 1 / (1 + np.exp(-gate))
    silu = gate * sigmoid
    return lambda grad: np.concatenate([grad * up * (sigmoid + silu * (1 - sigmoid)), grad * silu], -1)


def _cross_entropy(logits: Array, targets: Array) -> Array:
    shifted = logits - logits.max(-1, keepdims=True)
    return (np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(len(targets)), targets]).mean()


def _cross_entropy_gradient(_: Array, logits: Array, targets: Array) -> Any:
    probability = np.exp(logits - logits.max(-1, keepdims=True))
    probability /= probability.sum(-1, keepdims=True)
    probability[np.arange(len(targets)), targets] -= 1
    return lambda grad: (probability * np.float32(grad / len(targets))).astype(np.float32)


def _differentiable(forward: Forward, gradient: Forward) -> Forward:
    """`forward` with `gradient` by its first argument, fused: autograd alone is several times slower."""
    made: Forward = primitive(forward)
    defvjp(made, gradient, argnums=(0,))
    return made


embed = _differentiable(_embed, _embed_gradient)
rms_norm = _differentiable(_rms_norm, _rms_norm_gradient)
softmax = _differentiable(_softmax, _softmax_gradient)
swiglu = _differentiable(_swiglu, _swiglu_gradient)
cross_entropy = _differentiable(_cross_entropy, _cross_entropy_gradient)


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    half = x.shape[-1] // 2
    left, right = x[..., :half], x[..., half:]
    return anp.concatenate([left * cos - right * sin, left * sin + right * cos], -1)


class Trainer:
    def __init__(self, shape: ModelShape, length: int) -> None:
        self.shape = shape
        half = shape.head_width // 2
        angles = np.outer(np.arange(length), shape.rope_theta ** (-np.arange(half) / half))
        self.cos, self.sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        future = np.arange(length)[None, :] > np.arange(length)[:, None]
        self.mask = np.where(future, np.float32(-1e9), np.float32(0))

    def loss(self, weights: Weights, inputs: Array, targets: Array) -> Array:
        x = embed(weights["embedding"], inputs)
        for layer in range(self.shape.layers):
            x = x + self.attention(weights, layer, rms_norm(x))
            x = x + swiglu(rms_norm(x) @ weights[f"{layer}.gate_up"]) @ weights[f"{layer}.down"]
        logits = rms_norm(x).reshape(-1, self.shape.width) @ weights["embedding"].T
        return cross_entropy(logits, targets.ravel())

    def attention(self, weights: Weights, layer: int, x: Array) -> Array:
        shape, (rows, length, _) = self.shape, x.shape
        parts = (x @ weights[f"{layer}.qkv"]).reshape(rows, length, -1, shape.head_width)
        parts = parts.transpose((0, 2, 1, 3))
        split = shape.heads + shape.kv_heads
        grouped = (rows, shape.kv_heads, shape.heads_per_kv, length, shape.head_width)
        query = rotate(parts[:, : shape.heads], self.cos, self.sin).reshape(grouped)
        key = rotate(parts[:, shape.heads : split], self.cos, self.sin)[:, :, None]
        value = parts[:, split:][:, :, None]
        scores = query @ anp.swapaxes(key, -1, -2) * np.float32(shape.head_width**-0.5) + self.mask
        mixed = (softmax(scores) @ value).reshape(rows, shape.heads, length, shape.head_width)
        return mixed.transpose((0, 2, 1, 3)).reshape(rows, length, -1) @ weights[f"{layer}.out"]


def batches(documents: list[list[int]], rows: int, length: int, rng: np.random.Generator) -> Iterator[Array]:
    """Endless rows of whole documents in random order, each begun and ended by END_OF_TEXT."""
    stream: list[int] = []
    while True:
        while len(stream) < rows * (length + 1):
            for index in rng.permutation(len(documents)):
                stream += [END_OF_TEXT, *documents[index]]
        taken, stream = stream[: rows * (length + 1)], stream[rows * (length + 1) :]
        yield np.array(taken).reshape(rows, length + 1)


class Adam:
    def __init__(self, weights: Weights) -> None:
        self.mean = {name: np.zeros_like(value) for name, value in weights.items()}
        self.square = {name: np.zeros_like(value) for name, value in weights.items()}

    def update(self, weights: Weights, grads: Weights, step: int, rate: float) -> None:
        norm = math.sqrt(sum(float((grad * grad).sum()) for grad in grads.values()))
        clip = np.float32(min(1.0, 1.0 / (norm + 1e-6)))
        for name, grad in grads.items():
            grad = grad * clip
            self.mean[name] += np.float32(0.1) * (grad - self.mean[name])
            self.square[name] += np.float32(0.05) * (grad * grad - self.square[name])
            mean = self.mean[name] / np.float32(1 - 0.9**step)
            square = self.square[name] / np.float32(1 - 0.95**step)
            weights[name] -= np.float32(rate) * (mean / (np.sqrt(square) + np.float32(1e-8)))


def rate_at(step: int, steps: int, peak: float) -> float:
    warm = min(1.0, step / 30)
    return peak * warm * (0.05 + 0.95 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))


@dataclass(frozen=True)
class Plan:
    """`rate` is the peak learning rate; a step reads `rows` sequences of `length` tokens."""

    steps: int
    rows: int
    length: int
    rate: float
    seed: int


def train(documents: list[list[int]], plan: Plan) -> tuple[Weights, float]:
    rng = np.random.default_rng(plan.seed)
    weights = initial_weights(SHAPE, rng)
    trainer, adam = Trainer(SHAPE, plan.length), Adam(weights)
    gradient = value_and_grad(trainer.loss)
    rows = batches(documents, plan.rows, plan.length, rng)
    began, loss = time.monotonic(), math.nan
    for step in range(1, plan.steps + 1):
        batch = next(rows)
        loss, grads = gradient(weights, batch[:, :-1], batch[:, 1:])
        adam.update(weights, grads, step, rate_at(step, plan.steps, plan.rate))
        if step % 25 == 0 or step == plan.steps:
            spent = time.monotonic() - began
            click.echo(f"step {step}/{plan.steps} loss {loss:.3f} {spent:.0f} s", err=True)
    return weights, float(loss)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(folder: Path, weights: Weights, merges: list[Pair], training: dict[str, Any]) -> None:
    np.savez(folder / "weights.npz", **{name: value.astype(np.float16) for name, value in weights.items()})
    (folder / "tokenizer.json").write_text(json.dumps({"merges": merges}, separators=(",", ":")) + "\n")
    record = {
        "shape": asdict(SHAPE),
        "sha256": {name: sha256(folder / name) for name in ("tokenizer.json", "weights.npz")},
        "training": training,
    }
    (folder / "record.json").write_text(json.dumps(record, indent=2) + "\n")


@click.command()
@click.option("--steps", default=800)
@click.option("--rows", default=8, help="Sequences in a step.")
@click.option("--length", default=192, help="Tokens in a sequence; text stays good up to about so many.")
@click.option("--rate", default=3e-3, help="Peak learning rate.")
@click.option("--seed", default=0)
@click.option("--out", default=HERE, type=click.Path(path_type=Path, file_okay=False))
def main(steps: int, rows: int, length: int, rate: float, seed: int, out: Path) -> None:
    """Train on server/engine/corpus.md, about three minutes on one core, and write the model to --out."""
    plan = Plan(steps, rows, length, rate, seed)
    text = (HERE / "corpus.md").read_text()
    merges = learn_merges(text, SHAPE.vocab - FIRST_MERGE)
    tokenizer = Tokenizer(merges)
    documents = [tokenizer.encode(document.strip("\n")) for document in text.split(SEPARATOR)]
    weights, loss = train(documents, plan)
    corpus = {"corpus_sha256": sha256(HERE / "corpus.md"), "corpus_tokens": sum(map(len, documents))}
    out.mkdir(parents=True, exist_ok=True)
    write(out, weights, merges, asdict(plan) | corpus | {"loss": round(loss, 4)})


if __name__ == "__main__":
    main()
