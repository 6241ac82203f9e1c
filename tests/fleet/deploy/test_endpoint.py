"""Where the rehearsal's engine may work."""

from __future__ import annotations

import pytest

from fleet.deploy.endpoint import emulated
from fleet.deploy.errors import EndpointRefusedError


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:5000", "http://127.3.2.1", "http://[::1]:80", "http://localhost:1"]
)
def test_loopback_is_an_emulated_cloud(url) -> None:
    """Any address of it."""
    assert emulated(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "https://ec2.us-east-1.amazonaws.com",
        "http://10.0.0.1:5000",
        "http://169.254.169.254",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "127.0.0.1:5000",
        "http://[::1",
    ],
)
def test_anything_else_is_refused(url) -> None:
    """With the reason, and what to do instead."""
    with pytest.raises(EndpointRefusedError, match="loopback addresses only") as caught:
        emulated(url)
    assert "--engine pulumi" in caught.value.hint


def test_no_endpoint_is_aws_and_refused() -> None:
    """The rehearsal's engine never deploys to AWS."""
    with pytest.raises(EndpointRefusedError, match="does not deploy to AWS"):
        emulated(None)
