"""The forward pass: one ragged batch of prefill chunks and decodes over a paged KV cache.

A token's activations depend only on the tokens before it, to the last bit, whatever else is in the batch and
whether it was read in a prefill chunk or decoded: matrix products run on tiles of TILE_ROWS rows, and each
query attends in a product of its own over the power-of-two page bucket of its own length. Chunks start at
multiples of PAGE_TOKENS from the sequence's start, so that all queries of a chunk share one bucket.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from server.engine.config import PAGE_TOKENS, TILE_ROWS, ModelShape
from server.engine.pages import pages_for
from server.engine.weights import Matrix

Indices = NDArray[np.intp]

_Number = TypeVar("_Number", bound=np.generic)

# So many pages are gathered for one call that they stay in the processor's second-level cache.
_GATHERED_PAGES = 64

_MASKED = np.float32(-1e9)


@dataclass(frozen=True)
class Slice:
    """Consecutive tokens of one sequence, from position `start`; `pages` is the sequence's page table."""

    tokens: Sequence[int]
    start: int
    pages: Sequence[int]

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)

    @property
    def bucket(self) -> int:
        """Pages that every query of this slice attends over, as if each were padded by its own length."""
        return bucket_pages(self.end)


def bucket_pages(length: int) -> int:
    """A power of two, so that sequences of like length attend in one call."""
    return 1 << (pages_for(length) - 1).bit_length()


@dataclass(frozen=True)
class _Attention:
    """Queries that attend in one call: `rows` of the batch, by (sequence, query)."""

    rows: Indices
    pages: Indices
    mask: Matrix


@dataclass(frozen=True)
class _Batch:
    tokens: Indices
    cos: Matrix
    sin: Matrix
    page: Indices
    offset: Indices
    groups: list[_Attention]
    last: Indices


class Model:
    def __init__(self, shape: ModelShape, weights: dict[str, Matrix], pages: int) -> None:
        self.shape = shape
        self._weights = weights
        self._head = np.ascontiguousarray(weights["embedding"].T)
        cache = (shape.layers, pages, shape.kv_heads, PAGE_TOKENS, shape.head_width)
        self._keys = np.zeros(cache, np.float32)
        self._values = np.zeros(cache, np.float32)
        half = shape.head_width // 2
        angles = np.outer(np.arange(shape.context), shape.rope_theta ** (-np.arange(half) / half))
        self._cos = np.cos(angles).astype(np.float32)[:, None]
        self._sin = np.sin(angles).astype(np.float32)[:, None]

    def forward(self, slices: Sequence[Slice]) -> Matrix:
        """Logits after the last token of each slice. Writes the slices' keys and values into their pages."""
        batch = self._lay_out(slices)
        x = self._weights["embedding"][batch.tokens]
        for layer in range(self.shape.layers):
            x = x + self._attend(layer, _rms_norm(x), batch)
            x = x + self._feed_forward(layer, _rms_norm(x))
        return _tiled(_pad_rows(_rms_norm(x[batch.last])), self._head)[: len(slices)]

    def _lay_out(self, slices: Sequence[Slice]) -> _Batch:
        tokens = np.concatenate([np.asarray(part.tokens, np.intp) for part in slices])
        positions = np.concatenate([np.arange(part.start, part.end) for part in slices])
        tables = [np.asarray(part.pages, np.intp) for part in slices]
        page = np.concatenate(
            [
                table[np.arange(part.start, part.end) // PAGE_TOKENS]
                for part, table in zip(slices, tables, strict=True)
            ]
        )
        ends = np.cumsum([len(part.tokens) for part in slices])
        return _Batch(
            tokens=_pad_rows(tokens),
            cos=self._cos[positions],
            sin=self._sin[positions],
            page=page,
            offset=positions % PAGE_TOKENS,
            groups=_group(slices, tables, ends),
            last=ends - 1,
        )

    def _attend(self, layer: int, x: Matrix, batch: _Batch) -> Matrix:
        shape, count = self.shape, len(batch.page)
        parts = _tiled(x, self._weights[f"{layer}.qkv"]).reshape(len(x), -1, shape.head_width)[:count]
        turned = _rotate(parts[:, : shape.heads + shape.kv_heads], batch.cos, batch.sin)
        query = turned[:, : shape.heads] * np.float32(shape.head_width**-0.5)
        self._keys[layer, batch.page, :, batch.offset] = turned[:, shape.heads :]
        self._values[layer, batch.page, :, batch.offset] = parts[:, shape.heads + shape.kv_heads :]
        mixed = np.zeros((len(x), shape.width), np.float32)
        for group in batch.groups:
            mixed[group.rows] = self._mix(layer, query[group.rows], group)
        return _tiled(mixed, self._weights[f"{layer}.out"])

    def _mix(self, layer: int, query: Matrix, group: _Attention) -> Matrix:
        """Attention of `query` (sequences, queries, heads, head width): one small product for each query."""
        shape = self.shape
        sequences, queries = group.rows.shape
        per_query = (sequences, queries, shape.kv_heads, shape.heads_per_kv, shape.head_width)
        keys, values = self._gather(self._keys[layer], group), self._gather(self._values[layer], group)
        scores: Matrix = query.reshape(per_query) @ keys.swapaxes(-1, -2) + group.mask
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, scores)
        scores /= scores.sum(-1, keepdims=True)
        mixed: Matrix = (scores @ values).reshape(sequences, queries, shape.width)
        return mixed

    def _gather(self, cache: Matrix, group: _Attention) -> Matrix:
        sequences, pages = group.pages.shape
        flat = (sequences, 1, self.shape.kv_heads, pages * PAGE_TOKENS, self.shape.head_width)
        return np.ascontiguousarray(cache[group.pages].transpose(0, 2, 1, 3, 4)).reshape(flat)

    def _feed_forward(self, layer: int, x: Matrix) -> Matrix:
        both = _tiled(x, self._weights[f"{layer}.gate_up"])
        gate, up = both[:, : self.shape.hidden], both[:, self.shape.hidden :]
        return _tiled(gate / (1 + np.exp(-gate)) * up, self._weights[f"{layer}.down"])


def _group(slices: Sequence[Slice], tables: Sequence[Indices], ends: Indices) -> list[_Attention]:
    """Slices of the same bucket and the same number of tokens attend together."""
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, part in enumerate(slices):
        alike[part.bucket, len(part.tokens)].append(index)
    return [
        _attention(slices, tables, ends, bucket, members[first : first + size])
        for (bucket, _), members in alike.items()
        for size in [max(1, _GATHERED_PAGES // bucket)]
        for first in range(0, len(members), size)
    ]


def _attention(
    slices: Sequence[Slice], tables: Sequence[Indices], ends: Indices, bucket: int, members: list[int]
) -> _Attention:
    pages = np.zeros((len(members), bucket), np.intp)
    for row, index in enumerate(members):
        held = min(bucket, len(tables[index]))
        pages[row, :held] = tables[index][:held]
    step = np.arange(len(slices[members[0]].tokens))
    rows = (ends[members] - len(step))[:, None] + step
    positions = np.array([slices[index].start for index in members])[:, None] + step
    future = np.arange(bucket * PAGE_TOKENS) > positions[..., None]
    return _Attention(rows, pages, np.where(future, _MASKED, np.float32(0))[:, :, None, None])


def _pad_rows(x: NDArray[_Number]) -> NDArray[_Number]:
    """`x` with zero rows added up to a multiple of TILE_ROWS."""
    missing = -len(x) % TILE_ROWS
    return np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)])


def _rms_norm(x: Matrix) -> Matrix:
    normed: Matrix = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(1e-5))
    return normed


def _rotate(x: Matrix, cos: Matrix, sin: Matrix) -> Matrix:
    half = x.shape[-1] // 2
    left, right = x[..., :half], x[..., half:]
    return np.concatenate([left * cos - right * sin, left * sin + right * cos], -1)


def _tiled(x: Matrix, weights: Matrix) -> Matrix:
    """x @ weights by TILE_ROWS rows: on Haswell and Zen OpenBLAS rounds otherwise with every row count."""
    product: Matrix = np.matmul(x.reshape(-1, TILE_ROWS, x.shape[-1]), weights).reshape(len(x), -1)
    return product
