"""Tests that boot virtual machines take minutes: they run when GOLDENFLEET_VM_TESTS is set."""

from __future__ import annotations

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "vm: boots virtual machines; set GOLDENFLEET_VM_TESTS=1 to run it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("GOLDENFLEET_VM_TESTS"):
        return
    for item in items:
        if item.get_closest_marker("vm"):
            item.add_marker(pytest.mark.skip(reason="GOLDENFLEET_VM_TESTS is not set"))
