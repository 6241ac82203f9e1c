"""`python -m server.engine`: BLAS is held to one thread before numpy is loaded.

Five engines share a rehearsal's few cores, and one thread is part of what makes greedy output repeatable.
"""

from __future__ import annotations

import os

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    from server.engine.cli import engine

    engine()


if __name__ == "__main__":
    main()
