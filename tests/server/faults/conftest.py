"""A fleet of real processes for each test."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.server.faults.processes import Stage


@pytest.fixture
async def fleet() -> AsyncIterator[Stage]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        stage = Stage(session)
        yield stage
        await stage.aclose()
