"""Byte-level BPE: ids 0-255 are bytes, 256 ends a document, the rest are merges in the order learnt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise

END_OF_TEXT = 256
FIRST_MERGE = 257

# A piece is never merged with its neighbours. Its length is bounded, so that encoding stays linear whatever
# the text.
_PIECE = re.compile(r" ?\w{1,32}| ?[^\w\s]{1,32}|\s{1,32}(?!\S)|\s{1,32}")

Pair = tuple[int, int]


def split_pieces(text: str) -> list[str]:
    return _PIECE.findall(text)


def merge_pair(ids: Sequence[int], pair: Pair, merged: int) -> list[int]:
    """`ids` with each occurrence of `pair`, from the left, replaced by `merged`."""
    out: list[int] = []
    at = 0
    while at < len(ids):
        if at + 1 < len(ids) and (ids[at], ids[at + 1]) == pair:
            out.append(merged)
            at += 2
        else:
            out.append(ids[at])
            at += 1
    return out


class Tokenizer:
    def __init__(self, merges: Sequence[Pair]) -> None:
        self._rank = {pair: FIRST_MERGE + order for order, pair in enumerate(merges)}
        self._bytes = [bytes([value]) for value in range(256)] + [b""]
        for left, right in merges:
            self._bytes.append(self._bytes[left] + self._bytes[right])
        self.longest_token = max(len(token) for token in self._bytes)
        self._encode_piece = lru_cache(maxsize=8192)(self._merge_all)

    @property
    def vocab(self) -> int:
        return len(self._bytes)

    def encode(self, text: str) -> list[int]:
        """Lone surrogates, which have no UTF-8, become question marks."""
        ids: list[int] = []
        for piece in split_pieces(text):
            ids.extend(self._encode_piece(piece))
        return ids

    def bytes_of(self, token: int) -> bytes:
        """The bytes a token stands for; none for the end of a document."""
        return self._bytes[token]

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(self._bytes[token] for token in ids).decode("utf-8", "replace")

    def _merge_all(self, piece: str) -> tuple[int, ...]:
        ids = list(piece.encode("utf-8", "replace"))
        while len(ids) > 1:
            known = [pair for pair in pairwise(ids) if pair in self._rank]
            if not known:
                break
            first = min(known, key=self._rank.__getitem__)
            ids = merge_pair(ids, first, self._rank[first])
        return tuple(ids)
