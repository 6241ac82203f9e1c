"""Where the rehearsal's engine may work: on an emulated cloud of this machine, and nowhere else."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from fleet.deploy.errors import EndpointRefusedError

_WHY = (
    "it creates resources by its own mapping onto AWS's API, which is proven on an emulated cloud only, and "
    "its state is a file that does not outlive a loss of power"
)
_HINT = (
    "Give --endpoint-url of an emulated cloud on 127.0.0.1 (goldenfleet rehearse --keep prints its own), or "
    "deploy to AWS with --engine pulumi."
)


def emulated(endpoint_url: str | None) -> str:
    """`endpoint_url`, if it is on a loopback address. Raises EndpointRefusedError."""
    if not endpoint_url:
        raise EndpointRefusedError(f"the rehearsal's engine does not deploy to AWS: {_WHY}", _HINT)
    if not on_this_machine(endpoint_url):
        told = f"the rehearsal's engine works on loopback addresses only, not at {endpoint_url}: {_WHY}"
        raise EndpointRefusedError(told, _HINT)
    return endpoint_url


def on_this_machine(url: str) -> bool:
    """By its name alone: nobody is asked for its addresses."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
