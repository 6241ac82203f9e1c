"""The order of all tests."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Virtual machines boot for minutes: their modules begin first, so that the others run beside them."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
