"""One connection of a guest to a service of the host: slirp runs this with the guest on stdin and stdout.

Only the standard library is imported: it starts for every connection.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys

_BLOCK = 65536


def main(host: str, port: str) -> int:
    with socket.create_connection((host, int(port)), timeout=10) as service, _selector() as selector:
        service.settimeout(None)
        selector.register(0, selectors.EVENT_READ)
        selector.register(service, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == 0:
                    data = os.read(0, _BLOCK)
                    service.sendall(data)
                else:
                    data = service.recv(_BLOCK)
                    _write(data)
                if not data:
                    return 0


def _selector() -> selectors.BaseSelector:
    return selectors.DefaultSelector()


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
