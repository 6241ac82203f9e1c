"""What the serving port does not have."""

from typing import Any

import pytest


@pytest.mark.parametrize("role", ["gateway", "node"])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/metrics", "/state", "/drain", "/undrain", "/admin", "//drain", "/DRAIN"])
async def test_the_serving_port_has_no_admin_routes(stage: Any, role: str, method: str, path: str) -> None:
    """Who reaches the serving port can neither look inside nor drain it."""
    serving = await getattr(stage, role)((await stage.engine()).address)
    got = await serving.ask(method, path, b"{}" if method == "POST" else None)
    assert got.status == 404
    assert not serving.drain.draining


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/../../../../etc/passwd",
        "/static/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/v1/models/../../etc/passwd",
        "/pyproject.toml",
        "/server/app.py",
        "/.env",
        "/.git/config",
        "/docs",
        "/openapi.json",
        "/favicon.ico",
    ],
)
async def test_no_path_is_a_file(stage: Any, path: str) -> None:
    """A path is looked up among the routes as it is, and nowhere else."""
    gateway = await stage.gateway((await stage.engine()).address)
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        got = await gateway.ask(method, path, b"{}" if method == "POST" else None)
        assert got.status == 404
        assert b"root:" not in got.body
