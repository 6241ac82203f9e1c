"""What the program registers is recorded once for the tests of the stack and of its cost."""

from __future__ import annotations

from tests.fleet.stack.conftest import recorded

__all__ = ["recorded"]
