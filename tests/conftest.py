"""The order of all tests, and how their processes begin."""

import signal

import pytest


def pytest_configure() -> None:
    """A background job starts with SIGINT ignored and hands that to its children, who shall hear Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Virtual machines boot for minutes: their modules begin first, so that the others run beside them."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
