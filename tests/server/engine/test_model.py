"""The forward pass gives a token the same bits however it is computed."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from server.engine.config import PAGE_TOKENS, Limits
from server.engine.model import Slice, bucket_pages


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(5).integers(0, 1024, 150).tolist()


def pages_from(first, count=8):
    return list(range(first, first + count))


def decoded_one_by_one(model, tokens, pages):
    return [model.forward([Slice([token], at, pages)])[0] for at, token in enumerate(tokens)]


def test_prefill_equals_decode(bench, tokens):
    """A prompt read in aligned chunks gives, to the last bit, the logits of its tokens decoded singly."""
    singly = decoded_one_by_one(bench.model(Limits()), tokens, pages_from(0))
    for length in (1, 2, 31, 32, 33, 63, 64, 65, 100, 128, 129, 150):
        model = bench.model(Limits())
        chunks = [
            Slice(tokens[at : min(at + PAGE_TOKENS, length)], at, pages_from(9))
            for at in range(0, length, PAGE_TOKENS)
        ]
        assert np.array_equal(model.forward(chunks)[-1], singly[length - 1]), length


def test_chunks_over_several_steps_equal_one_step(bench, tokens):
    """Chunked prefill equals one-shot prefill bit for bit."""
    chunks = [Slice(tokens[at : at + PAGE_TOKENS], at, pages_from(0)) for at in range(0, 128, PAGE_TOKENS)]
    at_once = bench.model(Limits()).forward(chunks)[-1]
    model = bench.model(Limits())
    one_by_one = [model.forward([chunk])[0] for chunk in chunks][-1]
    assert np.array_equal(at_once, one_by_one)


@pytest.mark.parametrize("place", [0, 1, 7, 8, 20])
def test_a_row_is_the_same_at_every_place_in_the_batch(bench, tokens, place):
    """Neighbours, their number and the row's place in its tile change no bit of a sequence's logits."""
    model = bench.model(Limits())
    alone = decoded_one_by_one(model, tokens[:40], pages_from(0, 2))[-1]
    others = [Slice([other], 0, [10 + other]) for other in range(24)]
    for at, token in enumerate(tokens[:40]):
        batch = [*others[:place], Slice([token], at, pages_from(40, 2)), *others[place:]]
        logits = model.forward(batch)[place]
    assert np.array_equal(logits, alone)


def test_pages_may_lie_anywhere(bench, tokens):
    """Scattered pages that hold other sequences' leavings give the same bits as fresh ones in a row."""
    model = bench.model(Limits())
    fresh = decoded_one_by_one(model, tokens[:70], pages_from(0, 3))[-1]
    model.forward([Slice(tokens[64:96], 0, [7]), Slice(tokens[:32], 0, [99]), Slice(tokens[32:64], 0, [55])])
    assert np.array_equal(decoded_one_by_one(model, tokens[:70], [99, 7, 55])[-1], fresh)


@pytest.mark.parametrize(("length", "pages"), [(1, 1), (32, 1), (33, 2), (64, 2), (65, 4), (129, 8)])
def test_buckets_are_powers_of_two(length, pages):
    """A bucket is the smallest power of two of pages that holds the length."""
    assert bucket_pages(length) == pages


def test_a_chunk_lies_in_one_bucket():
    """Every token of an aligned chunk has the bucket of the chunk's end: what prefill relies on."""
    for start in range(0, 2048, PAGE_TOKENS):
        assert len({bucket_pages(at + 1) for at in range(start, start + PAGE_TOKENS)}) == 1


OTHER_PROCESSOR = """
import numpy as np
from server.engine import weights
from server.engine.model import Model, Slice
trained = weights.load()
model = Model(trained.shape, trained.weights, 64)
tokens = list(range(300, 332))
alone = [model.forward([Slice([token], at, [0])])[0] for at, token in enumerate(tokens)]
read = model.forward([Slice(tokens, 0, [1])])[0]
others = [Slice(tokens[:9], 0, [page]) for page in range(2, 9)]
crowded = model.forward([*others, Slice(tokens, 0, [10])])[-1]
assert np.array_equal(alone[-1], read) and np.array_equal(read, crowded)
"""


@pytest.mark.parametrize("processor", ["Haswell", "SkylakeX", "Nehalem"])
def test_identity_holds_on_other_processors(processor):
    """BLAS has other kernels on other machines; with some the shape of a product changes its bits."""
    environment = os.environ | {"OPENBLAS_CORETYPE": processor, "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", OTHER_PROCESSOR], env=environment, check=True, timeout=60)
