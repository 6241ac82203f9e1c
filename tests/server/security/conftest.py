"""Keys and signers of tests/server/auth, here too."""

from tests.server.auth.conftest import clock, issuer, log, signers, write_keys

__all__ = ["clock", "issuer", "log", "signers", "write_keys"]
